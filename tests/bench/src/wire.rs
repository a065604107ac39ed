//! Components between a host and a registry by their smaller representations: the bytes that
//! come, counted by a proxy, and what making them adds to a push.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::measure::{Side, interleaved};
use super::proxy::{Line, Proxy};
use super::registry::skopeo;
use super::rows::{Example, ratio, reached, utf8};
use super::servers::{Kind, Server};
use super::{Bench, Row, fresh, not_measured, remove};

/// A push with representations, as a share of the time of one without.
const PUSH: f64 = 1.3;
/// The name of each release in a registry, and without representations.
const NAME: &str = "bench/wire";
const RAW: &str = "bench/raw";
/// The line of an office, and that of a small host far away.
const OFFICE: Line = Line {
    bytes_per_second: 12_500_000,
    round_trip: Duration::from_millis(5),
};
const FAR: Line = Line {
    bytes_per_second: 1_000_000,
    round_trip: Duration::from_millis(50),
};
/// Times that a transfer over such a line is measured.
const LINE_RUNS: usize = 3;
/// Letters of a text that is changed.
const TEXT: usize = 24;

/// What is moved, and how many bytes may come for it.
struct Case {
    language: &'static str,
    example: &'static str,
    otherwise: &'static str,
    /// For the first pull, of the component's bytes.
    first: f64,
    /// For an update, from the component's bytes.
    update: fn(u64) -> u64,
    /// For an update over a slow line, of the time of the whole component.
    time: f64,
}

fn fiftieth(raw: u64) -> u64 {
    raw / 50
}

const CASES: [Case; 3] = [
    Case {
        language: "Rust",
        example: "greeter-assets",
        otherwise: "run `cargo xtask guests`",
        first: 0.45,
        // A patch of 2 kB, with manifests and signatures.
        update: |_| 10_000,
        // Two round trips more.
        time: 1.5,
    },
    Case {
        language: "JavaScript",
        example: "hello-js",
        otherwise: "run `cargo xtask guests --large`",
        first: 0.35,
        update: fiftieth,
        time: 0.02,
    },
    Case {
        language: "Python",
        example: "hello-python",
        otherwise: "run `cargo xtask guests --large`",
        first: 0.35,
        update: fiftieth,
        time: 0.02,
    },
];

pub(super) fn components(bench: &Bench) -> Result<Vec<Row>, String> {
    let rows = CASES.map(|case| {
        let what = format!("{} component in few bytes", case.language);
        case.measure(bench).unwrap_or_else(|why| vec![not_measured(&what, why)])
    });
    Ok(rows.into_iter().flatten().collect())
}

impl Case {
    fn measure(&self, bench: &Bench) -> Result<Vec<Row>, String> {
        let example = Example::find(self.example, self.otherwise)?;
        let read = |path: &Path| fs::read(path).map_err(|e| format!("reading {}: {e}", path.display()));
        let old = read(&example.component)?;
        let new = changed(&old).ok_or("the component has no text to change")?;
        // The builds of other rows are no bases.
        remove(&bench.home().join("store"))?;
        let files = [("1.0.0", &old), ("1.0.1", &new)].map(|(version, bytes)| release(bench, version, bytes));
        let [old_file, new_file] = files;
        let (old_file, new_file) = (old_file?, new_file?);
        let server = Server::start(bench, Kind::Hub)?;
        let name = |address: &str, version: &str| format!("{address}/{NAME}:{version}");
        for (file, version) in [(&old_file, "1.0.0"), (&new_file, "1.0.1")] {
            let push = ["push", utf8(file)?, &name(&server.address, version)];
            bench.qyv(&push).check()?;
        }
        let raw = new.len() as u64;
        let (proxy, peer) = (Proxy::start(&server.address)?, Proxy::start(&server.address)?);
        remove(&bench.home().join("store"))?;
        let layout = bench.scratch.join("wire.layout");
        remove(&layout)?;
        let mut rows = Vec::new();
        let first = (raw as f64 * self.first) as u64;
        for (what, version, limit) in [
            ("first pull", "1.0.0", first),
            ("pull after a line has changed", "1.0.1", (self.update)(raw)),
        ] {
            bench.qyv(&["pull", &name(&proxy.address, version)]).check()?;
            let received = proxy.take()?.received;
            let from = format!("docker://{}", name(&peer.address, version));
            let peers = match skopeo(bench, &from, &format!("oci:{}:{version}", layout.display())) {
                Ok(run) => {
                    run.check()?;
                    format!("{} bytes skopeo copy to oci", peer.take()?.received)
                }
                Err(why) => why,
            };
            rows.push(Row {
                what: format!("{what}, {} component of {raw} bytes", self.language),
                ours: format!("{received} bytes"),
                peer: peers,
                ratio: format!("{:.4} of raw", received as f64 / raw as f64),
                to_reach: format!("{limit} bytes"),
                // Nothing counted is nothing measured.
                verdict: reached(received > 0 && received <= limit),
            });
        }
        remove(&layout)?;
        let files = [old_file, new_file];
        rows.push(self.update_far(bench, &server, &files)?);
        rows.extend(self.pushes(bench, server, &files)?);
        Ok(rows)
    }

    /// The second release over a slow line, by the patch and as a whole.
    fn update_far(&self, bench: &Bench, server: &Server, files: &[PathBuf; 2]) -> Result<Row, String> {
        let [old, new] = files;
        let whole = server.name(&format!("{RAW}:1.0.1"));
        bench.qyv(&["push", utf8(new)?, &whole, "--no-encodings"]).check()?;
        let proxy = Proxy::with_line(&server.address, Some(FAR))?;
        let pull = |repository: &str| [bench.qyv(&["pull", &format!("{}/{repository}:1.0.1", proxy.address)])];
        let (patch, whole) = (pull(NAME), pull(RAW));
        let before = || {
            remove(&bench.home().join("store"))?;
            bench.qyv(&["load", "--no-verify", utf8(old)?]).check()
        };
        let before = || before().map(drop);
        let sides = [&patch, &whole].map(|runs| Side { before: &before, runs });
        let [patch, whole] = interleaved(LINE_RUNS, sides)?;
        let what = format!("update of a {} component over 1 MB/s and 50 ms", self.language);
        Ok(ratio(&what, [&patch, &whole], "of the whole component", self.time))
    }

    /// Pushes of the second release, while the host has the first.
    fn pushes(&self, bench: &Bench, server: Server, files: &[PathBuf; 2]) -> Result<[Row; 2], String> {
        let [old, new] = files;
        remove(&bench.home().join("store"))?;
        bench.qyv(&["load", "--no-verify", utf8(old)?]).check()?;
        let office = Proxy::with_line(&server.address, Some(OFFICE))?;
        let here = server.address.clone();
        let server = RefCell::new(server);
        let renew = || server.borrow_mut().renew();
        let row = |address: &str, place: &str, runs: usize| {
            let name = format!("{address}/{NAME}:1.0.1");
            let push = ["push", utf8(new)?, &name];
            let with = [bench.qyv(&push)];
            let without = [bench.qyv(&[&push[..], &["--no-encodings"]].concat())];
            let sides = [&with, &without].map(|runs| Side { before: &renew, runs });
            let [with, without] = interleaved(runs, sides)?;
            let what = format!("push with representations, {} component, {place}", self.language);
            Ok::<Row, String>(ratio(&what, [&with, &without], "push --no-encodings", PUSH))
        };
        let over_a_line = row(&office.address, "hub over 12.5 MB/s and 5 ms", LINE_RUNS)?;
        Ok([over_a_line, row(&here, "hub on the same cores", bench.runs)?])
    }
}

/// A release with these bytes as its component.
fn release(bench: &Bench, version: &str, component: &[u8]) -> Result<PathBuf, String> {
    let directory = bench.scratch.join("wire");
    fresh(&directory)?;
    let failed = |e| format!("writing into {}: {e}", directory.display());
    fs::write(directory.join("component.wasm"), component).map_err(failed)?;
    let manifest = format!("name: wire\nversion: {version}\nentrypoint: component.wasm\n");
    fs::write(directory.join("wire.qyv"), manifest).map_err(failed)?;
    bench.pack(&directory, &format!("wire-{version}.qyvbin"))
}

/// The component with one text in its data changed, which comes last: it stays valid.
fn changed(component: &[u8]) -> Option<Vec<u8>> {
    let is_text = |window: &[u8]| {
        let spaces = window.iter().filter(|byte| **byte == b' ').count();
        spaces > 1 && window.iter().all(|byte| byte.is_ascii_lowercase() || *byte == b' ')
    };
    let at = component.windows(TEXT).rposition(is_text)?;
    let mut changed = component.to_vec();
    changed.get_mut(at..at + TEXT)?.reverse();
    Some(changed)
}
