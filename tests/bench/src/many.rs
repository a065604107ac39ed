//! The memory that many waiting requests and many idle applications of one `qyv serve` take,
//! and the time that one of many calls takes.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::http::{Connection, request};
use super::measure::{Run, Side, interleaved};
use super::rows::{mib, nothing, reached, utf8};
use super::serving::{Serving, free, packed};
use super::{Bench, Row, root};

/// Requests on one connection of HTTP/2.
const STREAMS: usize = 64;
/// Bytes that a waiting request may take.
const WAITING: u64 = 256 << 10;
/// Threads of a server on which requests wait.
const THREADS: u64 = 16;
/// Idle applications.
const IDLE: usize = 1000;
/// Bytes that each of them may take.
const IDLE_BYTES: u64 = 1 << 20;

/// The beginning of a connection of HTTP/2 (RFC 9113, 3.4), with settings that change
/// nothing.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

/// A request of HTTP/2 without a body, in one frame: `:method GET`, `:scheme http`, then
/// `:path` and `:authority`, neither of them compressed (RFC 7541, 6).
fn headers(stream: u32, path: &str, authority: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86];
    for (name, value) in [(0x04, path), (0x01, authority)] {
        // Below 127 bytes a length is one byte.
        block.extend([name, u8::try_from(value.len()).unwrap_or(0)]);
        block.extend_from_slice(value.as_bytes());
    }
    let length = u32::try_from(block.len()).unwrap_or(0).to_be_bytes();
    // HEADERS, with the flags END_STREAM and END_HEADERS.
    let mut frame = vec![length[1], length[2], length[3], 0x01, 0x05];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend(block);
    frame
}

/// Begins as many requests as one connection takes, and waits for none.
fn begin(address: &str, requests: usize) -> Result<TcpStream, String> {
    let mut sent = PREFACE.to_vec();
    for number in 0..requests {
        let stream = u32::try_from(2 * number + 1).unwrap_or(1);
        sent.extend(headers(stream, "/sleep", "a"));
    }
    let connected = TcpStream::connect(address).and_then(|mut stream| {
        stream.write_all(&sent)?;
        Ok(stream)
    });
    connected.map_err(|e| format!("connecting to {address}: {e}"))
}

/// A counter of a server's page for its operator.
fn counter(admin: &str, name: &str) -> Result<u64, String> {
    let failed = |e: std::io::Error| format!("reading the counters: {e}");
    let mut stream = TcpStream::connect(admin).map_err(failed)?;
    let ask = request("GET", admin, "/metrics", "Connection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).map_err(failed)?;
    let mut page = String::new();
    stream.read_to_string(&mut page).map_err(failed)?;
    let line = page.lines().find(|line| line.starts_with(name));
    let number = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    number.ok_or_else(|| format!("there is no counter {name}"))
}

/// Guests that all sleep, on few threads; one more request is answered meanwhile.
pub(super) fn waiting(bench: &Bench) -> Result<Vec<Row>, String> {
    let count = bench.waiting;
    let component = root().join("tests/guests/service/service.component.wasm");
    let file = packed(bench, "waiting", &component, "name: waiting\nentrypoint: app.wasm\n")?;
    let admin = free()?;
    let most = (count + 8).to_string();
    let server = Serving::start(bench, "qyv serve", |address| {
        let args = [
            "serve",
            "-q",
            "--listen",
            address,
            "--admin",
            &admin,
            "--max-requests",
            &most,
        ];
        Ok(bench.qyv(&[&args[..], &["--request-timeout", "1h", &file]].concat()))
    })?;
    let mut rest = count;
    let mut connections = Vec::new();
    while rest > 0 {
        let now = rest.min(STREAMS);
        connections.push(begin(&server.address, now)?);
        rest -= now;
    }
    let end = Instant::now() + Duration::from_secs(600);
    loop {
        let open = counter(&admin, "qyvol_serve_guests{")?;
        if open >= count as u64 {
            break;
        }
        if Instant::now() > end {
            return Err(format!("{open} of {count} requests wait: {}", server.said().trim()));
        }
        sleep(Duration::from_millis(50));
    }
    let begun = Instant::now();
    let one = Connection::open(&server.address)?.ask(&request("GET", "a", "/hello", ""), &[], 1)?;
    let took = begun.elapsed().as_secs_f64() * 1e3;
    let (bytes, threads) = (
        server.number("smaps_rollup", "Pss:")? * 1024,
        server.number("status", "Threads:")?,
    );
    let each = bytes / count as u64;
    Ok(vec![Row {
        what: format!("serve, {count} waiting requests on {threads} threads; another took {took:.1} ms"),
        ours: format!("{}, {} kB each", mib(bytes), each / 1000),
        peer: "-".to_string(),
        ratio: "-".to_string(),
        to_reach: format!("{} kB each, {THREADS} threads", WAITING / 1000),
        verdict: reached(one.status == 200 && each <= WAITING && threads <= THREADS),
    }])
}

/// Idle applications in one server.
pub(super) fn idle(bench: &Bench) -> Result<Vec<Row>, String> {
    let component = root().join("examples/http-hello/http-hello.component.wasm");
    let file = packed(bench, "idle", &component, "name: idle\nentrypoint: app.wasm\n")?;
    let mut apps = "apps:\n".to_string();
    for number in 0..IDLE {
        apps += &format!("  - {{ target: {file}, name: a{number}, path: /a{number} }}\n");
    }
    let list = bench.scratch.join("idle.yaml");
    fs::write(&list, apps).map_err(|e| format!("writing {}: {e}", list.display()))?;
    let server = Serving::start(bench, "qyv serve", |address| {
        Ok(bench.qyv(&["serve", "-q", "--listen", address, "--apps", utf8(&list)?]))
    })?;
    let bytes = server.number("smaps_rollup", "Pss:")? * 1024;
    Ok(vec![Row {
        what: format!("serve, {IDLE} idle applications"),
        ours: format!("{}, {} kB each", mib(bytes), bytes / IDLE as u64 / 1000),
        peer: "-".to_string(),
        ratio: "-".to_string(),
        to_reach: format!("{} kB each", IDLE_BYTES / 1000),
        verdict: reached(bytes <= IDLE_BYTES * IDLE as u64),
    }])
}

/// The time of one of many calls through `call --workers`, with a guest that does next to
/// nothing.
pub(super) fn calls(bench: &Bench) -> Result<Vec<Row>, String> {
    const FEW: usize = 1_000;
    const MANY: usize = 21_000;
    let pool = "pool: { type: static, size: 1 }";
    let scalars = root().join("examples/wat-functions");
    let scalars = utf8(&bench.pack(&scalars, "wat-functions.qyvbin")?)?.to_string();
    let calc = root().join("examples/calc/calc.component.wasm");
    let manifest = format!(
        "name: calls\ntype: function\nentrypoint: app.wasm\nfunctions:\n  invoice: {{ method: invoice, {pool} }}\n"
    );
    let records = packed(bench, "calls", &calc, &manifest)?;
    let items =
        "[[{\"name\":\"tea\",\"price\":3.5,\"count\":4},{\"name\":\"milk\",\"price\":1,\"count\":2}],21,\"nearest\"]";
    let mut rows = Vec::new();
    for (what, file, function, args, limit) in [
        ("a number", &scalars, "visit", "[]", 5.0),
        ("a list of records", &records, "invoice", items, 20.0),
    ] {
        let runs = [FEW, MANY].map(|count| {
            let lines = bench.scratch.join(format!("calls-{count}"));
            let text = format!("{{\"id\":1,\"args\":{args}}}\n").repeat(count);
            fs::write(&lines, text).map_err(|e| format!("writing {}: {e}", lines.display()))?;
            let (qyv, lines) = (bench.qyv.display(), lines.display());
            let script = format!("'{qyv}' call --workers 1 '{file}' {function} < '{lines}'");
            Ok::<Run, String>(Run::pipeline(&script).env("QYVOL_HOME", bench.home()))
        });
        let [few, many] = [runs[0].clone()?, runs[1].clone()?];
        let side = |run| Side {
            before: &nothing,
            runs: std::slice::from_ref(run),
        };
        let [few, many] = interleaved(bench.long_runs(), [side(&few), side(&many)])?;
        let each = (many.median().as_secs_f64() - few.median().as_secs_f64()) / (MANY - FEW) as f64 * 1e6;
        rows.push(Row {
            what: format!("call in a pool, {what}"),
            ours: format!("{each:.1} µs each"),
            peer: "-".to_string(),
            ratio: "-".to_string(),
            to_reach: format!("{limit} µs"),
            verdict: reached(each <= limit),
        });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_of_http2_is_one_frame() {
        let frame = headers(3, "/sleep", "a");
        assert_eq!(frame[..9], [0, 0, 13, 1, 5, 0, 0, 0, 3]);
        assert_eq!(&frame[9..], b"\x82\x86\x04\x06/sleep\x01\x01a");
    }
}
