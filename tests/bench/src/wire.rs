//! Components between a host and a registry by their smaller representations: the bytes that
//! come, counted by a proxy, and what making them adds to a push.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use super::measure::{Side, interleaved};
use super::proxy::Proxy;
use super::registry::skopeo;
use super::rows::{Example, ratio, reached, utf8};
use super::servers::{Kind, Server};
use super::{Bench, Row, fresh, not_measured, remove};

/// A push with representations, as a share of the time of one without.
const PUSH: f64 = 1.3;
/// The name of each release in a registry.
const NAME: &str = "bench/wire";
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
    },
    Case {
        language: "JavaScript",
        example: "hello-js",
        otherwise: "run `cargo xtask guests --large`",
        first: 0.35,
        update: fiftieth,
    },
    Case {
        language: "Python",
        example: "hello-python",
        otherwise: "run `cargo xtask guests --large`",
        first: 0.35,
        update: fiftieth,
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
        rows.push(self.pushes(bench, server, &[old_file, new_file])?);
        Ok(rows)
    }

    /// The second release, while the host has the first.
    fn pushes(&self, bench: &Bench, server: Server, files: &[PathBuf; 2]) -> Result<Row, String> {
        let [old, new] = files;
        remove(&bench.home().join("store"))?;
        bench.qyv(&["load", "--no-verify", utf8(old)?]).check()?;
        let name = server.name(&format!("{NAME}:1.0.1"));
        let push = ["push", utf8(new)?, &name];
        let with = [bench.qyv(&push)];
        let without = [bench.qyv(&[&push[..], &["--no-encodings"]].concat())];
        let server = RefCell::new(server);
        let renew = || server.borrow_mut().renew();
        let sides = [&with, &without].map(|runs| Side { before: &renew, runs });
        let [with, without] = interleaved(bench.runs, sides)?;
        let what = format!(
            "push with representations, {} component, hub on the same cores",
            self.language
        );
        Ok(ratio(&what, [&with, &without], "push --no-encodings", PUSH))
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
