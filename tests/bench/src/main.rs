//! `cargo xtask bench`: the command `qyv` against the tools that do its jobs today, in one run
//! on this machine. Only the ratios mean anything elsewhere, and the limits are on them.
//!
//! A missing peer or input is named in the table; nothing is left out silently. It is not run
//! in CI, because a shared machine measures its neighbours.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command"
)]

mod assets;
#[cfg(target_arch = "x86_64")]
mod count;
mod http;
mod hub;
mod load;
mod many;
mod measure;
mod policy;
mod proxy;
mod registry;
mod rows;
mod sandbox;
mod servers;
mod serving;
mod trust;
mod wire;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const HELP: &str = "\
usage: cargo xtask bench [--only TEXT] [--runs N] [--waiting N] [--big] [--keep]

  --only TEXT  the rows whose name contains TEXT
  --runs N     times each short command is run (21); long ones a quarter of it
  --waiting N  requests that wait at once (1,000); for 10,000, vm.max_map_count
               must be at least 65,530
  --big        also the peaks of memory: at 1 GiB of assets, and of a hub that
               takes 16 uploads of 1 GiB at once (20 GiB of disk)
  --keep       keep the scratch home, target/bench/home

environment:
  QYV          the command (target/release/qyv, built anew)
  WASMTIME     wasmtime's own command, with its default features, as its users
               have it: cargo install --locked wasmtime-cli --version 48.0.8
  WKG          the command of wasm-pkg-tools: cargo install --locked wkg
  PATH         bash, cmp, df, sync, tar, zstd, sha256sum; skopeo and
               docker-registry, of the Debian packages of these names";

/// What the rows need.
struct Bench {
    qyv: PathBuf,
    wasmtime: Option<PathBuf>,
    wkg: Option<PathBuf>,
    /// Directory for everything that the runs write.
    scratch: PathBuf,
    runs: usize,
    /// Requests that wait at once.
    waiting: usize,
    big: bool,
}

impl Bench {
    /// Times a command of seconds is run.
    fn long_runs(&self) -> usize {
        self.runs.div_ceil(4)
    }
}

/// A line of the table.
struct Row {
    what: String,
    ours: String,
    peer: String,
    ratio: String,
    to_reach: String,
    verdict: Verdict,
}

enum Verdict {
    Reached,
    Missed,
    /// Why it could not be measured.
    NotMeasured(String),
}

/// The project's directory.
fn root() -> PathBuf {
    let bench = Path::new(env!("CARGO_MANIFEST_DIR"));
    bench.ancestors().nth(2).unwrap_or(bench).to_path_buf()
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<(), String> {
    let mut bench = Bench {
        qyv: PathBuf::new(),
        wasmtime: std::env::var_os("WASMTIME").map(PathBuf::from),
        wkg: std::env::var_os("WKG").map(PathBuf::from),
        scratch: root().join("target/bench"),
        runs: 21,
        waiting: 1_000,
        big: false,
    };
    let (mut only, mut keep) = (String::new(), false);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().cloned().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--only" => only = value()?,
            "--runs" => {
                let text = value()?;
                let runs = text.parse().ok().filter(|runs| *runs > 0);
                bench.runs = runs.ok_or(format!("--runs {text}: expected a number over 0"))?;
            }
            "--waiting" => {
                let text = value()?;
                let waiting = text.parse().ok().filter(|waiting| *waiting > 0);
                bench.waiting = waiting.ok_or(format!("--waiting {text}: expected a number over 0"))?;
            }
            "--big" => bench.big = true,
            "--keep" => keep = true,
            "--help" | "-h" => {
                println!("{HELP}");
                return Ok(());
            }
            other => return Err(format!("no option `{other}`\n{HELP}")),
        }
    }
    let bin = bench.scratch.join("bin");
    fresh(&bin)?;
    bench.qyv = installed(&command()?, &bin)?;
    bench.wasmtime = bench.wasmtime.map(|peer| installed(&peer, &bin)).transpose()?;
    bench.wkg = bench.wkg.map(|peer| installed(&peer, &bin)).transpose()?;
    fresh(&bench.scratch.join("home"))?;
    let wanted = rows::ALL.iter().filter(|(name, _)| name.contains(&only));
    let mut table = vec![];
    for (name, measure) in wanted {
        eprintln!("measuring: {name}");
        table.extend(measure(&bench).unwrap_or_else(|why| vec![not_measured(name, why)]));
    }
    if table.is_empty() {
        let names: Vec<&str> = rows::ALL.iter().map(|(name, _)| *name).collect();
        return Err(format!("no row contains `{only}`: there are {}", names.join(", ")));
    }
    print(&table);
    if !keep {
        // The assets are kept: they are the same every time.
        fresh(&bench.scratch.join("home"))?;
    }
    match table
        .iter()
        .filter(|row| matches!(row.verdict, Verdict::Missed))
        .count()
    {
        0 => Ok(()),
        missed => Err(format!("{missed} of {} rows do not reach their mark", table.len())),
    }
}

fn not_measured(name: &str, why: String) -> Row {
    let none = || "-".to_string();
    Row {
        what: name.to_string(),
        ours: none(),
        peer: none(),
        ratio: none(),
        to_reach: none(),
        verdict: Verdict::NotMeasured(why),
    }
}

/// The command under measure.
fn command() -> Result<PathBuf, String> {
    if let Some(qyv) = std::env::var_os("QYV") {
        return Ok(PathBuf::from(qyv));
    }
    // Built again even if it exists: it could be outdated.
    let status = Command::new("cargo")
        .args(["build", "--release", "--package", "qyv"])
        .current_dir(root())
        .status()
        .map_err(|e| format!("building qyv: {e}"))?;
    match status.success() {
        true => Ok(root().join("target/release/qyv")),
        false => Err(format!("building qyv: cargo: {status}")),
    }
}

/// Copies a command as an installation does. The pages of a file that the linker has
/// just written are cached one by one: starting it costs half as many page faults more.
fn installed(command: &Path, bin: &Path) -> Result<PathBuf, String> {
    let failed = |e| format!("copying {} to {}: {e}", command.display(), bin.display());
    let name = command
        .file_name()
        .ok_or_else(|| format!("{} is no file", command.display()))?;
    let copy = bin.join(name);
    std::fs::copy(command, &copy).map_err(failed)?;
    Ok(copy)
}

/// An empty directory.
fn fresh(directory: &Path) -> Result<(), String> {
    remove(directory)?;
    std::fs::create_dir_all(directory).map_err(|e| format!("making {}: {e}", directory.display()))
}

/// Removes a directory or a file, if it is there.
fn remove(path: &Path) -> Result<(), String> {
    let removed = match path.is_dir() {
        true => std::fs::remove_dir_all(path),
        false => std::fs::remove_file(path),
    };
    match removed {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(format!("removing {}: {e}", path.display())),
        _ => Ok(()),
    }
}

fn print(table: &[Row]) {
    let cells: Vec<[String; 6]> = table
        .iter()
        .map(|row| {
            let verdict = match &row.verdict {
                Verdict::Reached => "yes".to_string(),
                Verdict::Missed => "NO".to_string(),
                Verdict::NotMeasured(why) => format!("not measured: {why}"),
            };
            let [a, b, c, d, e] = [&row.what, &row.ours, &row.peer, &row.ratio, &row.to_reach];
            [a.clone(), b.clone(), c.clone(), d.clone(), e.clone(), verdict]
        })
        .collect();
    let head = ["what", "ours", "peer", "ratio", "to reach", "ok"].map(str::to_string);
    let rule = ["---"; 6].map(str::to_string);
    for line in [head, rule].iter().chain(&cells) {
        println!("| {} |", line.join(" | "));
    }
    println!("\nmedian (least) of each, and of their ratio; runs by turns with the peer");
}
