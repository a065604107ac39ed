//! The rows of the table: what is run, against what, and the limit.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use qyvol_sandbox::parse_app_manifest;

use super::measure::{Run, Side, Times, interleaved};
use super::root;
use super::{Bench, Row, Verdict, assets, fresh, hub, many, policy, registry, remove, sandbox, serving, trust, wire};

/// The limit, as a share of wasmtime's time for precompiled code that it does not verify.
const PRECOMPILED: f64 = 0.5;

type Measure = fn(&Bench) -> Result<Vec<Row>, String>;

/// Every row with its name.
pub(super) const ALL: &[(&str, Measure)] = &[
    ("warm run, hello", warm_hello),
    ("what a warm run of hello costs", costs_hello),
    ("warm run, JavaScript component", warm_javascript),
    ("first run, hello", first_hello),
    ("first run, JavaScript component", first_javascript),
    ("build and verify, 256 MiB of mixed assets", build_and_verify),
    ("inspect beyond --version", inspect),
    ("peak memory at 1 GiB of assets", memory),
    ("size of the command", size),
    ("warm run by a large policy", policy::warm),
    ("warm run by a keyless signature", trust::keyless),
    ("verify of a thousand archives", trust::archives),
    ("import of a chain of policies", trust::chain),
    ("files through memfs and diskfs", sandbox::files),
    ("warm run of hello with permissions", sandbox::start),
    ("computing under every limit", sandbox::limits),
    ("serve, hello", serving::hello),
    ("serve, 10 ms of computing", serving::computing),
    ("serve, JavaScript", serving::javascript),
    ("serve, reloads under load", serving::reloads),
    ("serve, waiting requests", many::waiting),
    ("serve, idle applications", many::idle),
    ("call in a pool", many::calls),
    ("push and pull, 256 MiB of mixed assets", registry::transfers),
    ("push of what the registry has", registry::known),
    ("pull again after a cut at 90 %", registry::resumed),
    ("push and pull of one component", registry::component),
    ("peak memory of push and pull, 1 GiB of assets", registry::memory),
    ("components in few bytes", wire::components),
    ("small requests at a registry", hub::small),
    ("hub, peak memory with 16 uploads of 1 GiB", hub::uploads),
];

/// An example's directory, its manifest's name and its component.
pub(super) struct Example {
    pub(super) directory: PathBuf,
    pub(super) component: PathBuf,
}

impl Example {
    pub(super) fn find(name: &str, otherwise: &str) -> Result<Example, String> {
        let directory = root().join("examples").join(name);
        let missing = || format!("examples/{name} has no component: {otherwise}");
        let entries = fs::read_dir(&directory).map_err(|_| missing())?;
        let manifest = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|e| e == "qyv"))
            .ok_or_else(missing)?;
        let text = fs::read_to_string(&manifest).map_err(|e| format!("reading {}: {e}", manifest.display()))?;
        let app = parse_app_manifest(&text).map_err(|e| format!("{}: {e}", manifest.display()))?;
        let component = directory.join(app.entrypoint);
        if component.exists() {
            Ok(Example { directory, component })
        } else {
            Err(missing())
        }
    }

    pub(super) fn hello() -> Result<Example, String> {
        Example::find("hello", "run `cargo xtask guests`")
    }

    fn javascript() -> Result<Example, String> {
        Example::find("hello-js", "run `cargo xtask guests --large`")
    }
}

impl Bench {
    /// A run of the command in the scratch home.
    pub(super) fn qyv(&self, args: &[&str]) -> Run {
        Run::new(&self.qyv, args).env("QYVOL_HOME", self.home())
    }

    pub(super) fn home(&self) -> PathBuf {
        self.scratch.join("home")
    }

    pub(super) fn peer(&self, args: &[&str]) -> Result<Run, String> {
        let missing = "the peer is missing: set WASMTIME to wasmtime's command, of `cargo install --locked wasmtime-cli --version 48.0.8`";
        let wasmtime = self.wasmtime.as_ref().ok_or(missing)?;
        // Its cache goes by these two.
        let run = Run::new(wasmtime, args).env("HOME", self.home());
        Ok(run.env("XDG_CACHE_HOME", self.peer_cache()))
    }

    fn peer_cache(&self) -> PathBuf {
        self.scratch.join("home/peer-cache")
    }

    /// Packs a directory and signs it with the scratch home's own key.
    pub(super) fn pack(&self, directory: &Path, name: &str) -> Result<PathBuf, String> {
        let file = self.scratch.join(name);
        self.qyv(&["build", utf8(directory)?, "-o", utf8(&file)?]).check()?;
        Ok(file)
    }
}

pub(super) fn utf8(path: &Path) -> Result<&str, String> {
    path.to_str().ok_or_else(|| format!("{}: not UTF-8", path.display()))
}

pub(super) fn nothing() -> Result<(), String> {
    Ok(())
}

/// A row of times: reached if ours is at most `limit` of the peer's.
pub(super) fn ratio(what: &str, [ours, peer]: [&Times; 2], peer_name: &str, limit: f64) -> Row {
    let part = |of: fn(&Times) -> Duration| of(ours).as_secs_f64() / of(peer).as_secs_f64();
    let (ratio, least) = (part(Times::median), part(Times::min));
    Row {
        what: what.to_string(),
        ours: shown(ours),
        peer: format!("{} {peer_name}", shown(peer)),
        ratio: format!("{ratio:.2} ({least:.2})"),
        to_reach: format!("{limit}"),
        verdict: reached(ratio <= limit),
    }
}

/// A row of bytes that have no peer.
pub(super) fn at_most(what: &str, bytes: u64, limit: u64) -> Row {
    Row {
        what: what.to_string(),
        ours: mib(bytes),
        peer: "-".to_string(),
        ratio: "-".to_string(),
        to_reach: mib(limit),
        // Nothing read is nothing measured.
        verdict: reached(bytes > 0 && bytes <= limit),
    }
}

pub(super) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64)
}

pub(super) fn reached(is: bool) -> Verdict {
    if is { Verdict::Reached } else { Verdict::Missed }
}

pub(super) fn shown(times: &Times) -> String {
    let one = |time: Duration| match time.as_secs_f64() {
        s if s >= 10.0 => format!("{s:.1} s"),
        s if s >= 1.0 => format!("{s:.2} s"),
        s => format!("{:.2} ms", s * 1e3),
    };
    format!("{} ({})", one(times.median()), one(times.min()))
}

fn warm(bench: &Bench, what: &str, example: &Example, archive: &str, limit: f64) -> Result<Vec<Row>, String> {
    let compiled = bench.scratch.join("peer.cwasm");
    let compile = bench.peer(&["compile", utf8(&example.component)?, "-o", utf8(&compiled)?])?;
    compile.check()?;
    let cached = bench.peer(&["run", "-C", "cache=y", utf8(&example.component)?])?;
    let precompiled = bench.peer(&["run", "--allow-precompiled", utf8(&compiled)?])?;
    let file = bench.pack(&example.directory, archive)?;
    let ours = bench.qyv(&["run", utf8(&file)?]);
    if ours.check()? != cached.check()? {
        return Err("the two print different things".to_string());
    }
    let sides = [[ours], [cached], [precompiled]];
    let sides = sides.each_ref().map(|runs| Side { before: &nothing, runs });
    let [ours, cached, precompiled] = interleaved(bench.runs, sides)?;
    Ok(vec![
        ratio(what, [&ours, &cached], "wasmtime run, its cache on", limit),
        ratio(
            what,
            [&ours, &precompiled],
            "wasmtime run --allow-precompiled",
            PRECOMPILED,
        ),
    ])
}

fn warm_hello(bench: &Bench) -> Result<Vec<Row>, String> {
    warm(bench, "warm run, hello", &Example::hello()?, "hello.qyvbin", 0.46)
}

/// Counts that must not grow again: instructions, CPUIDs, system calls and page faults. The
/// bounds are about a twentieth over what a run of each build was measured at.
#[cfg(target_arch = "x86_64")]
const COSTS: [(&str, [u64; 4]); 2] = [
    ("default", [3_200_000, 91, 160, 236]),
    ("static", [3_150_000, 19, 124, 173]),
];

#[cfg(target_arch = "x86_64")]
fn costs_hello(bench: &Bench) -> Result<Vec<Row>, String> {
    let file = bench.pack(&Example::hello()?.directory, "hello.qyvbin")?;
    let run = bench.qyv(&["run", utf8(&file)?]);
    run.check()?;
    let counts = super::count::count(&run)?;
    let (build, limits) = COSTS[usize::from(super::count::is_static(&bench.qyv)?)];
    let row = |what: &str, count: u64, limit: u64| Row {
        what: format!("{what} of a warm run, hello, {build} build"),
        ours: count.to_string(),
        peer: "-".to_string(),
        ratio: "-".to_string(),
        to_reach: limit.to_string(),
        verdict: reached(count <= limit),
    };
    let [instructions, cpuids, system_calls, page_faults] = limits;
    Ok(vec![
        row("instructions", counts.instructions, instructions),
        row("CPUIDs", counts.cpuids, cpuids),
        row("system calls", counts.system_calls, system_calls),
        row("page faults", counts.page_faults, page_faults),
    ])
}

#[cfg(not(target_arch = "x86_64"))]
fn costs_hello(_bench: &Bench) -> Result<Vec<Row>, String> {
    Err("instructions are told apart on x86-64 alone".to_string())
}

fn warm_javascript(bench: &Bench) -> Result<Vec<Row>, String> {
    let example = Example::javascript()?;
    warm(
        bench,
        "warm run, JavaScript component",
        &example,
        "hello-js.qyvbin",
        0.1,
    )
}

/// Nothing in the store against nothing compiled: the key and the policy stay.
fn first(bench: &Bench, what: &str, example: &Example, archive: &str, runs: usize) -> Result<Vec<Row>, String> {
    let compiled = bench.scratch.join("peer.cwasm");
    let peer = [
        bench.peer(&["compile", utf8(&example.component)?, "-o", utf8(&compiled)?])?,
        bench.peer(&["run", "--allow-precompiled", utf8(&compiled)?])?,
    ];
    let file = bench.pack(&example.directory, archive)?;
    let ours = [bench.qyv(&["run", utf8(&file)?])];
    let sides = [
        Side {
            before: &|| remove(&bench.home().join("store")),
            runs: &ours,
        },
        Side {
            before: &|| fresh(&bench.peer_cache()),
            runs: &peer,
        },
    ];
    let times = interleaved(runs, sides)?;
    Ok(vec![ratio(what, times.each_ref(), "wasmtime compile, then run", 1.1)])
}

fn first_hello(bench: &Bench) -> Result<Vec<Row>, String> {
    first(
        bench,
        "first run, hello",
        &Example::hello()?,
        "hello.qyvbin",
        bench.runs,
    )
}

fn first_javascript(bench: &Bench) -> Result<Vec<Row>, String> {
    let example = Example::javascript()?;
    // Half a minute each: twice is enough.
    first(bench, "first run, JavaScript component", &example, "hello-js.qyvbin", 2)
}

/// A directory to pack: the hello component and `mib` MiB of mixed assets.
pub(super) fn mixed(bench: &Bench, mib: u64) -> Result<PathBuf, String> {
    let hello = Example::hello()?;
    let directory = bench.scratch.join(format!("mixed-{mib}"));
    let made = fs::create_dir_all(&directory)
        .and_then(|()| fs::copy(&hello.component, directory.join("hello.wasm")).map(drop))
        .and_then(|()| {
            let manifest = format!("name: mixed-{mib}\nversion: 1.0.0\nentrypoint: hello.wasm\nassets: [assets]\n");
            fs::write(directory.join("mixed.qyv"), manifest)
        })
        .and_then(|()| assets::make(&directory.join("assets"), mib));
    made.map_err(|e| format!("making {}: {e}", directory.display()))?;
    Ok(directory)
}

fn build_and_verify(bench: &Bench) -> Result<Vec<Row>, String> {
    let directory = mixed(bench, 256)?;
    let file = bench.scratch.join("mixed-256.qyvbin");
    let out = bench.scratch.join("mixed-256.tar.zst");
    let (directory, file, out) = (utf8(&directory)?, utf8(&file)?, utf8(&out)?);

    // One reading of the directory feeds both: the fastest form of that pipeline.
    let packer = format!("tar -C '{directory}' -c . | tee >(sha256sum >'{out}.sum') | zstd -q -f -3 -T0 -o '{out}'");
    let ours = [bench.qyv(&["build", directory, "-o", file])];
    let peer = [Run::pipeline(&packer)];
    let sides = [
        Side {
            before: &|| remove(&bench.home().join("store")),
            runs: &ours,
        },
        Side {
            before: &nothing,
            runs: &peer,
        },
    ];
    let built = interleaved(bench.long_runs(), sides)?;

    let sides = [
        [bench.qyv(&["verify", file])],
        [Run::pipeline(&format!("zstd -q -d -c '{file}' | sha256sum"))],
    ];
    let sides = sides.each_ref().map(|runs| Side { before: &nothing, runs });
    let verified = interleaved(bench.long_runs(), sides)?;
    let size = |path: &str| fs::metadata(path).map_or(0, |m| m.len()) / (1 << 20);
    let built_what = format!(
        "build, 256 MiB of mixed assets ({} MiB; peer {} MiB)",
        size(file),
        size(out)
    );
    Ok(vec![
        ratio(&built_what, built.each_ref(), "tar, zstd -3 -T0 and sha256sum", 1.0),
        ratio("verify, that file", verified.each_ref(), "zstd -d and sha256sum", 1.0),
    ])
}

fn inspect(bench: &Bench) -> Result<Vec<Row>, String> {
    const LIMIT_MS: f64 = 5.0;
    let directory = mixed(bench, 256)?;
    let large = bench.pack(&directory, "mixed-256.qyvbin")?;
    let small = bench.pack(&Example::hello()?.directory, "hello.qyvbin")?;
    let mut rows = Vec::new();
    for (name, file) in [("hello", small), ("256 MiB of assets", large)] {
        let sides = [[bench.qyv(&["inspect", utf8(&file)?])], [bench.qyv(&["--version"])]];
        let sides = sides.each_ref().map(|runs| Side { before: &nothing, runs });
        let times = interleaved(bench.runs, sides)?;
        let [ours, peer] = times.each_ref().map(|times| times.median().as_secs_f64() * 1e3);
        let more = ours - peer;
        rows.push(Row {
            what: format!("inspect, {name}"),
            ours: shown(&times[0]),
            peer: format!("{} qyv --version", shown(&times[1])),
            ratio: format!("{more:+.2} ms"),
            to_reach: format!("+{LIMIT_MS} ms"),
            verdict: reached(more < LIMIT_MS),
        });
    }
    Ok(rows)
}

fn memory(bench: &Bench) -> Result<Vec<Row>, String> {
    const LIMIT: u64 = 128 << 20;
    if !bench.big {
        return Err("give --big: it writes 3 GiB".to_string());
    }
    let directory = mixed(bench, 1024)?;
    let file = bench.scratch.join("mixed-1024.qyvbin");
    let (directory, file) = (utf8(&directory)?, utf8(&file)?);
    let mut rows = Vec::new();
    for (verb, args) in [
        ("build", vec!["build", directory, "-o", file]),
        ("verify", vec!["verify", file]),
        ("first run", vec!["run", file]),
    ] {
        remove(&bench.home().join("store"))?;
        let peak = bench.qyv(&args).peak()?;
        rows.push(at_most(&format!("peak memory of {verb}, 1 GiB of assets"), peak, LIMIT));
    }
    Ok(rows)
}

fn size(bench: &Bench) -> Result<Vec<Row>, String> {
    const LIMIT: u64 = 30 << 20;
    let metadata = fs::metadata(&bench.qyv).map_err(|e| format!("{}: {e}", bench.qyv.display()))?;
    Ok(vec![at_most("size of the command", metadata.len(), LIMIT)])
}
