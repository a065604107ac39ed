//! What the sandbox costs: files through memfs and diskfs against wasmtime's own
//! directories, permissions at the start, limits while a guest computes.
//!
//! Guests measure their work themselves: a start is another row's.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::measure::{Run, Side, Times, interleaved};
use super::rows::{Example, nothing, reached, shown, utf8};
use super::{Bench, Row, fresh, root};

/// The guest's work, and its limit as a share of the peer's time. Memory-bound work takes as
/// long as it does there.
const WORK: [(&str, &str, f64); 5] = [
    ("write", "writing 64 MiB", 1.05),
    ("read", "reading 256 MiB", 1.05),
    ("stat", "25,000 stats", 1.05),
    ("list", "40 listings of 500 files", 1.05),
    ("make", "removing and making 5,000 files", 1.05),
];
/// Milliseconds that laying memory over assets may add to a start.
const OVERLAY: f64 = 1.5;
/// Where the host has a file system in memory.
const MEMORY: &str = "/dev/shm";

/// An archive of a guest with a manifest of its own.
fn packed(bench: &Bench, name: &str, component: &Path, more: &str) -> Result<String, String> {
    let directory = bench.scratch.join("sandbox").join(name);
    fresh(&directory)?;
    let failed = |e: std::io::Error| format!("making {}: {e}", directory.display());
    fs::copy(component, directory.join("app.wasm")).map_err(failed)?;
    fs::write(directory.join("asset.txt"), "asset").map_err(failed)?;
    let manifest = format!("name: {name}\nversion: 1.0.0\nentrypoint: app.wasm\n{more}");
    fs::write(directory.join("app.qyv"), manifest).map_err(failed)?;
    let file = bench.pack(&directory, &format!("{name}.qyvbin"))?;
    Ok(utf8(&file)?.to_string())
}

fn files_guest() -> PathBuf {
    root().join("tests/guests/files.component.wasm")
}

/// Runs each in turns, and reads the time that it prints, in microseconds. Which one
/// begins alternates: a guest that computes for long is slower after another.
fn told(runs: usize, sides: [&Run; 2]) -> Result<[Times; 2], String> {
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..=runs {
        for side in [round % 2, (round + 1) % 2] {
            let out = sides[side].check()?;
            let took = out.trim().parse().map_err(|_| format!("the guest printed {out}"))?;
            // The first finds nothing in any cache.
            if round > 0 {
                times[side].push(Duration::from_micros(took));
            }
        }
    }
    Ok(times.map(Times::new))
}

pub(super) fn files(bench: &Bench) -> Result<Vec<Row>, String> {
    let guest = files_guest();
    let memory = Path::new(MEMORY).join(format!("qyvol-bench-{}", std::process::id()));
    let disk = bench.home().join("peer-directory");
    let mut rows = Vec::new();
    for (kind, directory) in [("memfs", &memory), ("diskfs", &disk)] {
        let more = format!("permissions: {{ fs: write }}\nfs: {{ type: {kind} }}\nresources: {{ storage: 1GiB }}\n");
        let app = packed(bench, &format!("files-{kind}"), &guest, &more)?;
        for (work, what, limit) in WORK {
            fresh(directory)?;
            let ours = bench.qyv(&["run", "-q", &app, work, "/"]);
            let mount = format!("{}::/", utf8(directory)?);
            let peer = bench.peer(&["run", "--dir", &mount, utf8(&guest)?, work, "/"])?;
            let [ours, peer] = told(bench.runs, [&ours, &peer])?;
            rows.push(super::rows::ratio(
                &format!("{kind}: {what}"),
                [&ours, &peer],
                "wasmtime's directory",
                limit,
            ));
        }
        super::remove(directory)?;
    }
    Ok(rows)
}

pub(super) fn start(bench: &Bench) -> Result<Vec<Row>, String> {
    let hello = Example::hello()?.component;
    let plain = packed(bench, "plain", &hello, "")?;
    let memfs = packed(bench, "with-memfs", &hello, "permissions: { fs: write }\n")?;
    let over = "permissions: { fs: write }\nassets: [asset.txt]\nassets_root: /\n";
    let over = packed(bench, "with-overlay", &hello, over)?;
    let list = "permissions: { net: { connect: [\"api.example.com:443\", \"10.0.0.0/8:5432\"] } }\n";
    let list = packed(bench, "with-list", &hello, list)?;
    let audit = bench.home().join("audit.jsonl");
    let audit = utf8(&audit)?;
    let mut rows = Vec::new();
    for (what, args, otherwise, limit) in [
        ("memfs", vec!["run", "-q", &memfs], &plain, 0.4),
        ("memfs over assets", vec!["run", "-q", &over], &memfs, OVERLAY),
        ("an allow-list", vec!["run", "-q", &list], &plain, 0.05),
        ("an audit", vec!["run", "-q", "--audit", audit, &plain], &plain, 0.1),
    ] {
        let (with, without) = (bench.qyv(&args), bench.qyv(&["run", "-q", otherwise]));
        let side = |run| Side {
            before: &nothing,
            runs: std::slice::from_ref(run),
        };
        let [with, without] = interleaved(bench.runs, [side(&with), side(&without)])?;
        let more = |of: fn(&Times) -> Duration| (of(&with).as_secs_f64() - of(&without).as_secs_f64()) * 1e3;
        let (median, least) = (more(Times::median), more(Times::min));
        rows.push(Row {
            what: format!("warm run of hello with {what}"),
            ours: shown(&with),
            peer: match otherwise == &memfs {
                true => format!("{} with memfs alone", shown(&without)),
                false => format!("{} without", shown(&without)),
            },
            ratio: format!("+{median:.2} ms (+{least:.2})"),
            to_reach: format!("+{limit} ms"),
            verdict: reached(median <= limit),
        });
    }
    Ok(rows)
}

pub(super) fn limits(bench: &Bench) -> Result<Vec<Row>, String> {
    let guest = files_guest();
    let none = packed(bench, "unlimited", &guest, "")?;
    let all =
        "resources: { memory: 64MiB, timeout: 1m, cpu: 1m, storage: 16MiB, output: 1MiB, files: 100, sockets: 10 }\n";
    let all = packed(bench, "limited", &guest, all)?;
    let (limited, free) = (
        bench.qyv(&["run", "-q", &all, "compute"]),
        bench.qyv(&["run", "-q", &none, "compute"]),
    );
    let [limited, free] = told(bench.runs, [&limited, &free])?;
    Ok(vec![super::rows::ratio(
        "computing under every limit",
        [&limited, &free],
        "without",
        1.02,
    )])
}
