//! Thousands of hostile clients at once, and one honest client.
//!
//! A test of its own process, because it measures the memory of that process.

#![allow(clippy::unwrap_used, clippy::panic)]

#[allow(dead_code)]
#[path = "hub/support.rs"]
mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use qyvol_types::Digest;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

use support::{IMAGE, Server, http2, image, subject};

const CLIENTS: usize = 10_000;
const REFERRERS: usize = 30_000;

/// How many connections this process can have: those of the server too, which
/// keeps 4096 at most.
fn connections() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    let files = limit
        .maximum
        .map_or(CLIENTS * 2, |files| usize::try_from(files).unwrap());
    let possible = files.saturating_sub(6000);
    // Fewer if the hard limit is low: the assertions hold for any number.
    possible.min(CLIENTS)
}

fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// A directory whose repository `many` has many referrers of one subject,
/// written into its layout: pushing them would take minutes.
fn seeded() -> Arc<TempDir> {
    let server = Server::new();
    let config = server.blob("many", b"{}");
    let directory = server.kill();
    let layout = directory.path().join("data/repositories/many/_layout");
    let blobs = layout.join("blobs/sha256");
    let of = Digest::of(b"many");
    let entries: Vec<_> = (0..REFERRERS)
        .map(|n| {
            let note = format!(r#"{},"annotations":{{"n":"{n}"}}"#, subject("many"));
            let text = image(&config, &[], &note);
            let digest = Digest::of(text.as_bytes());
            fs::write(blobs.join(digest.hex()), &text).unwrap();
            let size = text.len();
            format!(
                r#"{{"mediaType":"{IMAGE}","digest":"{digest}","size":{size},"annotations":{{"org.qyvol.hub.subject":"{of}"}}}}"#
            )
        })
        .collect();
    let index = fs::read_to_string(layout.join("index.json")).unwrap();
    let full = index.replace(r#""manifests":[]"#, &format!(r#""manifests":[{}]"#, entries.join(",")));
    assert_ne!(full, index);
    fs::write(layout.join("index.json"), full).unwrap();
    directory
}

// [HUB-036]
#[test]
fn server_stays_responsive_under_a_flood_of_slow_connections() {
    let connections = connections();
    let server = Server::at(seeded(), |_| {});
    let mine = vec![7; 3_000_000];
    let blob = server.blob("a", &mine);
    let done = AtomicBool::new(false);
    let list = format!("/v2/many/referrers/{}", Digest::of(b"many"));
    std::thread::scope(|scope| {
        for _ in 0..200 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let Ok(mut stream) = TcpStream::connect(server.address) else {
                        continue;
                    };
                    let request = format!("GET {list} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
                    let _ = stream.write_all(request.as_bytes());
                    let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
                    // Fills buffers until a write would block.
                    let mut buffer = [0; 4096];
                    while !done.load(Ordering::Relaxed) {
                        if matches!(stream.read(&mut buffer), Ok(0)) {
                            break;
                        }
                    }
                }
            });
        }
        // Readers that never read, of both versions of the protocol.
        let get = format!("GET /v2/a/blobs/{blob} HTTP/1.1\r\nHost: x\r\n\r\n").repeat(20);
        let mut streams = [http2::PREFACE, &http2::settings(&[(4, 0)])].concat();
        for n in 0..60 {
            streams.extend(http2::get(2 * n + 1, &format!("/v2/a/blobs/{blob}")));
        }
        let mut held = Vec::new();
        for n in 0..connections {
            let mut stream = server.connect();
            let _ = match n % 100 {
                0 => stream.write_all(&streams),
                1 => stream.write_all(get.as_bytes()),
                n if n % 2 == 0 => stream.write_all(b"G"),
                _ => Ok(()),
            };
            held.push(stream);
        }
        let mut most = 0;
        for round in 0..20 {
            for stream in held.iter_mut().skip(round % 7).step_by(7) {
                let _ = stream.write_all(b"E");
            }
            server.get("/healthz").expect(200);
            most = most.max(resident());
        }
        // Other clients are served: their pushes, and their pulls once the stalled readers are
        // known.
        server.image("other", "v1", b"layer");
        server.get("/v2/other/manifests/v1").expect(200);
        let deadline = Instant::now() + Duration::from_secs(600);
        while server.get(&format!("/v2/a/blobs/{blob}")).body != mine {
            assert!(Instant::now() < deadline, "the blob is not served any more");
        }
        most = most.max(resident());
        done.store(true, Ordering::Relaxed);
        assert!(most < 512 << 20, "{most}");
    });
}
