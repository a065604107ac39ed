//! `qyv serve` against `wasmtime serve`: requests a second and the 99th percentile, with
//! the same component, load and timeout; and requests while the application is replaced.
//!
//! The clients run on the same processors as the servers, which are measured in turns.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use super::http::{Connection, request};
use super::load::{LoadResult, percentile};
use super::measure::Run;
use super::rows::{reached, utf8};
use super::{Bench, Row, fresh, remove, root};

/// Connections, with one request at a time on each.
const CLIENTS: usize = 16;
/// How long a side is measured before the other has its turn.
const BURST: Duration = Duration::from_secs(2);
/// Time of a request, on both sides.
const TIMEOUT: &str = "30s";
/// Rounds that take some 10 ms.
const ROUNDS: &str = "/6000000";
/// The options with which the peer's users enable its pool.
const POOL: [&str; 4] = [
    "-O",
    "pooling-allocator=y",
    "-O",
    "pooling-memory-keep-resident=65536,pooling-table-keep-resident=65536",
];

/// A server of HTTP, until this value goes.
pub(super) struct Serving {
    pub(super) address: String,
    child: Child,
    log: PathBuf,
}

impl Serving {
    /// Starts a server that gets its address in `args`.
    pub(super) fn start(
        bench: &Bench,
        name: &str,
        run: impl Fn(&str) -> Result<Run, String>,
    ) -> Result<Serving, String> {
        let address = free()?;
        let log = bench.scratch.join(format!("{name}.log"));
        let file = File::create(&log).map_err(|e| format!("making {}: {e}", log.display()))?;
        let child = run(&address)?.spawn(file)?;
        let mut serving = Serving { address, child, log };
        let end = Instant::now() + Duration::from_secs(300);
        while TcpStream::connect(&serving.address).is_err() {
            let ended = serving.child.try_wait().map_err(|e| format!("{name}: {e}"))?;
            if ended.is_some() || Instant::now() > end {
                return Err(format!("{name} does not listen: {}", serving.said().trim()));
            }
            sleep(Duration::from_millis(5));
        }
        Ok(serving)
    }

    /// What it has written to stdout and stderr.
    pub(super) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A number of its process, by a file of `/proc` and the line's beginning.
    pub(super) fn number(&self, file: &str, line: &str) -> Result<u64, String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        let text = fs::read_to_string(&path).map_err(|e| format!("reading {path}: {e}"))?;
        let found = text.lines().find_map(|own| own.strip_prefix(line));
        let number = found.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        number.ok_or_else(|| format!("{path} has no {line}"))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that nothing listens at.
pub(super) fn free() -> Result<String, String> {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    Ok(free.map_err(|e| format!("finding a port: {e}"))?.to_string())
}

/// Packs a component with a manifest of its own, as `FILE.qyvbin` of the scratch directory.
pub(super) fn packed(bench: &Bench, file: &str, component: &Path, manifest: &str) -> Result<String, String> {
    let directory = bench.scratch.join("serving").join(file);
    fresh(&directory)?;
    let copied = fs::copy(component, directory.join("app.wasm"))
        .and_then(|_| fs::write(directory.join("app.qyv"), format!("version: 1.0.0\n{manifest}")));
    copied.map_err(|e| format!("making {}: {e}", directory.display()))?;
    Ok(utf8(&bench.pack(&directory, &format!("{file}.qyvbin"))?)?.to_string())
}

/// Sends requests until the time is up, with all clients at once. Each answer that is not 200
/// is an error.
fn asked(address: &str, path: &str, time: Duration) -> Result<LoadResult, String> {
    let request = request("GET", address, path, "");
    let start = Instant::now();
    let latencies: Result<Vec<Vec<Duration>>, String> = thread::scope(|scope| {
        let client = || {
            let mut connection = Connection::open(address)?;
            let mut latencies = Vec::new();
            while start.elapsed() < time {
                let begun = Instant::now();
                let answer = connection.ask(&request, &[], 1)?;
                latencies.push(begun.elapsed());
                if answer.status != 200 {
                    return Err(format!("GET {path}: {} where 200 is due", answer.status));
                }
            }
            Ok(latencies)
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        let ended = clients.into_iter().map(|client| client.join());
        ended
            .map(|ended| ended.unwrap_or_else(|_| Err("a client panicked".to_string())))
            .collect()
    });
    let mut latencies = latencies?.concat();
    latencies.sort_unstable();
    Ok(LoadResult {
        requests: latencies.len(),
        took: start.elapsed(),
        latencies,
    })
}

/// The result of a side in each of its turns.
#[derive(Default)]
struct Turns {
    rates: Vec<f64>,
    slow: Vec<f64>,
}

impl Turns {
    fn add(&mut self, load: &LoadResult) {
        self.rates.push(load.requests as f64 / load.took.as_secs_f64());
        self.slow.push(percentile(&load.latencies, 99).as_secs_f64() * 1e3);
    }
}

fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// Our rate against each peer's must be at least its mark, and the 99th percentile no worse.
fn against(
    bench: &Bench,
    what: &str,
    component: &Path,
    path: &str,
    marks: &[(&str, &[&str], f64)],
) -> Result<Vec<Row>, String> {
    let file = packed(bench, "served", component, "name: served\nentrypoint: app.wasm\n")?;
    let ours = Serving::start(bench, "qyv serve", |address| {
        Ok(bench.qyv(&["serve", "-q", "--listen", address, "--request-timeout", TIMEOUT, &file]))
    })?;
    let mut servers = vec![(ours, Turns::default())];
    for (name, more, _) in marks {
        let timeout = format!("timeout={TIMEOUT}");
        let peer = Serving::start(bench, name, |address| {
            let args = [&["serve", "-S", "cli", "-W", &timeout, "--addr", address][..], more];
            bench.peer(&[&args.concat()[..], &[utf8(component)?]].concat())
        })?;
        servers.push((peer, Turns::default()));
    }
    // The first turn of each finds nothing in any cache.
    for turn in 0..=bench.long_runs() {
        for (server, turns) in &mut servers {
            let load = asked(&server.address, path, BURST)?;
            if turn > 0 {
                turns.add(&load);
            }
        }
    }
    let ((_, ours), peers) = servers.split_first().ok_or("no server")?;
    let mut rows = Vec::new();
    for ((_, peer), (name, _, mark)) in peers.iter().zip(marks) {
        let ratio = median(&ours.rates) / median(&peer.rates);
        rows.push(Row {
            what: format!("{what}, requests a second"),
            ours: format!("{:.0}", median(&ours.rates)),
            peer: format!("{:.0} {name}", median(&peer.rates)),
            ratio: format!("{ratio:.2}"),
            to_reach: format!("at least {mark}"),
            verdict: reached(ratio >= *mark),
        });
        let ratio = median(&ours.slow) / median(&peer.slow);
        rows.push(Row {
            what: format!("{what}, 99th percentile"),
            ours: format!("{:.2} ms", median(&ours.slow)),
            peer: format!("{:.2} ms {name}", median(&peer.slow)),
            ratio: format!("{ratio:.2}"),
            to_reach: "1".to_string(),
            verdict: reached(ratio <= 1.0),
        });
    }
    Ok(rows)
}

pub(super) fn hello(bench: &Bench) -> Result<Vec<Row>, String> {
    let component = root().join("examples/http-hello/http-hello.component.wasm");
    let marks = [
        ("wasmtime serve", &[][..], 1.5),
        ("wasmtime serve with a pool", &POOL, 1.2),
    ];
    against(bench, "serve, hello", &component, "/", &marks)
}

pub(super) fn computing(bench: &Bench) -> Result<Vec<Row>, String> {
    let component = root().join("tests/guests/compute/compute.component.wasm");
    let marks = [("wasmtime serve", &[][..], 1.0)];
    against(bench, "serve, 10 ms of computing", &component, ROUNDS, &marks)
}

pub(super) fn javascript(bench: &Bench) -> Result<Vec<Row>, String> {
    let component = root().join("examples/http-js/http-js.component.wasm");
    if !component.exists() {
        return Err("examples/http-js has no component: run `cargo xtask guests http-js`".to_string());
    }
    let marks = [("wasmtime serve", &[][..], 1.2)];
    against(bench, "serve, JavaScript", &component, "/", &marks)
}

/// Requests while the application is replaced repeatedly.
pub(super) fn reloads(bench: &Bench) -> Result<Vec<Row>, String> {
    const EVERY: Duration = Duration::from_millis(500);
    const LIMIT: f64 = 2.0;
    let component = root().join("examples/http-hello/http-hello.component.wasm");
    let packed = ["Hello", "Welcome"].map(|word| {
        let manifest = format!("name: reloaded\nentrypoint: app.wasm\nenv: {{ GREETING: {word} }}\n");
        packed(bench, &format!("reloaded-{word}"), &component, &manifest)
    });
    let [first, second] = [packed[0].clone()?, packed[1].clone()?];
    let served = bench.scratch.join("reloaded.qyvbin");
    let put = |from: &str| {
        let beside = bench.scratch.join("reloaded.new");
        let put = fs::copy(from, &beside).and_then(|_| fs::rename(&beside, &served));
        put.map_err(|e| format!("replacing {}: {e}", served.display()))
    };
    put(&first)?;
    let server = Serving::start(bench, "qyv serve", |address| {
        let file = utf8(&served)?;
        Ok(bench.qyv(&[
            "serve",
            "--watch=100ms",
            "--listen",
            address,
            "--request-timeout",
            TIMEOUT,
            file,
        ]))
    })?;
    let time = BURST * u32::try_from(bench.long_runs()).unwrap_or(1);
    // Once untimed, so that both are compiled.
    put(&second)?;
    asked(&server.address, "/", BURST)?;
    let calm = asked(&server.address, "/", time)?;
    let is_over = AtomicBool::new(false);
    let under = thread::scope(|scope| {
        let replacing = scope.spawn(|| {
            for file in [&first, &second].into_iter().cycle() {
                if is_over.load(Relaxed) {
                    break;
                }
                put(file)?;
                sleep(EVERY);
            }
            Ok::<_, String>(())
        });
        let under = asked(&server.address, "/", time);
        is_over.store(true, Relaxed);
        replacing
            .join()
            .unwrap_or_else(|_| Err("replacing panicked".to_string()))?;
        under
    })?;
    let reloads = server.said().matches("reloaded: ").count();
    remove(&served)?;
    let [calm, slow] = [&calm, &under].map(|load| percentile(&load.latencies, 99).as_secs_f64() * 1e3);
    let ratio = slow / calm;
    Ok(vec![Row {
        what: format!(
            "serve, {} requests with {reloads} reloads, none failed: 99th percentile",
            under.requests
        ),
        ours: format!("{slow:.2} ms"),
        peer: format!("{calm:.2} ms without reloads"),
        ratio: format!("{ratio:.2}"),
        to_reach: format!("{LIMIT}"),
        verdict: reached(ratio <= LIMIT && reloads > 1),
    }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_of_the_middle() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!(median(&[]).abs() < f64::EPSILON);
    }
}
