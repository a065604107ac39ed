//! Hostile and broken clients.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use qyvol_types::Digest;

use crate::support::{IMAGE, Response, Server, files, http2};

#[test]
fn names_and_digests_never_leave_their_directory() {
    let server = Server::new();
    let digest = server.blob("a", b"content");
    let secret = server.directory.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    for path in [
        "/v2/../../secret/manifests/x".to_string(),
        format!("/v2/a/../a/blobs/{digest}"),
        format!("/v2/a%2F..%2Fa/blobs/{digest}"),
        format!("/v2/./a/blobs/{digest}"),
        format!("/v2/a//b/blobs/{digest}"),
        format!("/v2/a/_layout/blobs/{digest}"),
        "/v2/a/blobs/sha256:../../../../../../secret".to_string(),
        "/v2/a/blobs/..%2f..%2fsecret".to_string(),
        "/v2/a/blobs/sha256%3A..%2f..%2fsecret".to_string(),
        "/v2/a/manifests/../index.json".to_string(),
        "/v2/a/manifests/..".to_string(),
        "/v2/a/manifests/%2e%2e".to_string(),
        "/v2/a/referrers/../x".to_string(),
        "/v2/a/tags/../list".to_string(),
        "/v2/a/blobs/uploads/../../x".to_string(),
        "/v2/a/blobs/uploads/..".to_string(),
        format!("/v2/{}/tags/list", "a".repeat(256)),
        format!("/v2/a/manifests/{}", "t".repeat(129)),
        "/v2/a/manifests/v1%00".to_string(),
    ] {
        for method in ["GET", "HEAD", "DELETE", "PUT"] {
            let answer = server.send(method, &path, &[], b"");
            assert!(
                matches!(answer.status, 400 | 404 | 405),
                "{method} {path}: {}",
                answer.status
            );
            assert!(!answer.text().contains("secret") || path.contains("secret"), "{path}");
        }
    }
    for mount in ["../../secret", "a/_layout", "%2e%2e", ""] {
        let path = format!("/v2/b/blobs/uploads/?mount={digest}&from={mount}");
        server.send("POST", &path, &[], b"").expect(202);
    }
    assert_eq!(files(&server.data().join("repositories")), ["a"]);
    assert_eq!(std::fs::read(&secret).unwrap(), b"secret");
    // The one escape that means something.
    let escaped = digest.to_string().replace(':', "%3A");
    assert_eq!(
        server.get(&format!("/v2/a/blobs/{escaped}")).expect(200).body,
        b"content"
    );
}

#[test]
fn body_that_stops_coming_is_cut_off_and_the_upload_goes_on() {
    let server = Server::with(|config| config.limits.idle = Duration::from_secs(2));
    let at = server.start("a");
    let mut slow = server.connect();
    let head = format!("PATCH {at} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
    slow.write_all(head.as_bytes()).unwrap();
    slow.write_all(&[3; 600_000]).unwrap();
    let answer = Response::read(&mut slow);
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
    // What was received is kept.
    assert_eq!(server.get(&at).expect(204).header("range"), Some("0-599999"));
    server
        .send("PATCH", &at, &[("Content-Range", "600000-999999")], &[3; 400_000])
        .expect(202);
    let close = format!("{at}?digest={}", Digest::of(&[3; 1_000_000]));
    server.send("PUT", &close, &[], b"").expect(201);
}

#[test]
fn client_that_leaves_in_the_middle_leaves_a_usable_upload() {
    let server = Server::new();
    let bytes = vec![4; 2_000_000];
    let at = server.start("a");
    for part in 1..=3 {
        let offset: usize = match server.get(&at).expect(204).header("range").unwrap() {
            "0-0" => 0,
            range => range[2..].parse::<usize>().unwrap() + 1,
        };
        let mut leaving = server.connect();
        let head = format!(
            "PATCH {at} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            bytes.len() - offset
        );
        leaving.write_all(head.as_bytes()).unwrap();
        leaving.write_all(&bytes[offset..offset + 200_000 * part]).unwrap();
        drop(leaving);
    }
    // The last request may still hold the upload, until the server notices that its connection
    // broke.
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let range = server.get(&at).expect(204).header("range").unwrap().to_string();
        let offset = if range == "0-0" {
            0
        } else {
            range[2..].parse::<usize>().unwrap() + 1
        };
        let stated = format!("{offset}-{}", bytes.len() - 1);
        let answer = server.send("PATCH", &at, &[("Content-Range", &stated)], &bytes[offset..]);
        if answer.status == 202 {
            break;
        }
        assert_eq!(answer.status, 416);
        assert!(Instant::now() < deadline);
    }
    server
        .send("PUT", &format!("{at}?digest={}", Digest::of(&bytes)), &[], b"")
        .expect(201);
}

#[test]
fn head_of_a_request_that_never_ends_is_cut_off() {
    let server = Server::with(|config| config.limits.idle = Duration::from_secs(2));
    let mut slow = server.connect();
    slow.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX: ").unwrap();
    let started = Instant::now();
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest);
    assert!(started.elapsed() < Duration::from_secs(60));
    // And a head that is too long.
    let long = "x".repeat(200_000);
    let answer = server.send("GET", "/v2/", &[("X-Long", &long)], b"");
    assert!(matches!(answer.status, 0 | 431), "{}", answer.status);
    server.get("/v2/").expect(200);
}

#[test]
fn thousands_of_open_uploads_cost_no_files_and_end_at_the_limit() {
    let server = Server::with(|config| {
        config.limits.uploads = 3000;
        config.limits.uploads_each = 3000;
    });
    let mut stream = server.connect();
    let request = b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
    let mut statuses = [0_u32; 2];
    for _ in 0..3100 {
        stream.write_all(request).unwrap();
        let mut length = 0;
        let mut status = 0;
        loop {
            let mut line = String::new();
            std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest[..3].parse().unwrap();
            }
            if let Some(rest) = line.strip_prefix("content-length: ") {
                length = rest.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        match status {
            202 => statuses[0] += 1,
            429 => statuses[1] += 1,
            other => panic!("{other}"),
        }
    }
    assert_eq!(statuses, [3000, 100]);
    assert_eq!(files(&server.data().join("uploads")).len(), 0);
    assert!(server.get("/metrics").text().contains("qyvol_hub_open_uploads 3000"));
    // A day later they are gone.
    server.advance(25 * 3600);
    assert_eq!(server.collect().uploads, 3000);
    server.start("a");
}

#[test]
fn blob_above_the_limit_is_refused_by_its_head_and_in_the_stream() {
    let server = Server::with(|config| config.limits.blob_bytes = 1_000_000);
    let bytes = vec![1; 1_000_001];
    let digest = Digest::of(&bytes);
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    server.send("POST", &path, &[], &bytes).refused(413, "SIZE_INVALID");
    let at = server.start("a");
    server.send("PATCH", &at, &[], &bytes[..700_000]).expect(202);
    server
        .send("PATCH", &at, &[], &bytes[..700_000])
        .refused(413, "SIZE_INVALID");
    let mut chunked = format!("{:x}\r\n", 700_000).into_bytes();
    chunked.extend(&bytes[..700_000]);
    chunked.extend(b"\r\n0\r\n\r\n");
    let answer = server.send("PATCH", &at, &[("Transfer-Encoding", "chunked")], &chunked);
    answer.refused(413, "SIZE_INVALID");
    // An absurd stated length.
    let answer = server.send("PATCH", &at, &[("Content-Length", "18446744073709551000")], b"");
    assert!(matches!(answer.status, 400 | 413), "{}", answer.status);
}

/// Whether the server closed this connection; a connection that it keeps open
/// fails the test after a while.
fn is_closed(mut stream: impl std::io::Read) -> bool {
    match stream.read_to_end(&mut Vec::new()) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

// [HUB-033]
#[test]
fn client_that_sends_no_complete_request_is_disconnected() {
    let server = Server::with(|config| config.limits.idle = Duration::from_millis(300));
    let settled = [http2::PREFACE, &http2::settings(&[])].concat();
    for bytes in [
        &b""[..],
        b"P",
        b"PRI * HTTP/2.0\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: x",
        b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
        &settled,
    ] {
        let mut stream = server.connect();
        stream.write_all(bytes).unwrap();
        assert!(is_closed(stream), "{bytes:?}");
    }
}

// [HUB-033]
#[test]
fn silent_connections_give_way_to_one_that_has_a_request() {
    let server = Server::with(|config| config.limits.connections = 16);
    let silent: Vec<_> = (0..64).map(|_| server.connect()).collect();
    for _ in 0..20 {
        server.get("/healthz").expect(200);
    }
    // The oldest were closed first.
    assert!(is_closed(&silent[0]));
    // A connection whose answer was read waits like the silent ones.
    let mut served = server.connect();
    served.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    served.read_exact(&mut [0]).unwrap();
    let more: Vec<_> = (0..64).map(|_| server.connect()).collect();
    assert!(is_closed(served));
    drop(more);
}

// [HUB-034]
#[test]
fn http2_reader_that_opens_no_window_is_disconnected() {
    let server = Server::with(|config| config.limits.idle = Duration::from_secs(2));
    let large = server.blob("a", &vec![7; 2_000_000]);
    let small = server.blob("a", b"small");
    for (digest, window) in [(large, 0), (small, 0), (large, 20_000)] {
        let mut stream = server.connect();
        let mut bytes = [http2::PREFACE, &http2::settings(&[(4, window)])].concat();
        for n in 0..10 {
            bytes.extend(http2::get(2 * n + 1, &format!("/v2/a/blobs/{digest}")));
        }
        stream.write_all(&bytes).unwrap();
        assert!(http2::stays_until_closed(&mut stream), "{window}");
    }
    // Streams end a moment after their connection.
    let deadline = Instant::now() + Duration::from_secs(60);
    while !server
        .get("/metrics")
        .text()
        .contains("qyvol_hub_transfer_memory_bytes 0\n")
    {
        assert!(Instant::now() < deadline);
    }
}

// [HUB-034]
#[test]
fn transfers_that_nobody_reads_give_way_to_one_that_is_read() {
    let server = Server::with(|config| config.limits.memory = 16 << 20);
    let bytes = vec![7; 4_000_000];
    let digest = server.blob("a", &bytes);
    let stuck = |server: &Server| {
        let mut stream = server.connect();
        let mut all = [http2::PREFACE, &http2::settings(&[(4, 0)])].concat();
        for n in 0..60 {
            all.extend(http2::get(2 * n + 1, &format!("/v2/a/blobs/{digest}")));
        }
        stream.write_all(&all).unwrap();
        stream
    };
    let held: Vec<_> = (0..8).map(|_| stuck(&server)).collect();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = server.get(&format!("/v2/a/blobs/{digest}"));
        if answer.status == 200 {
            assert_eq!(answer.body, bytes);
            break;
        }
        // Until they count as stalled.
        let answer = answer.refused(429, "TOOMANYREQUESTS");
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert!(Instant::now() < deadline);
    }
    drop(held);
}

#[test]
fn malformed_requests_are_rejected() {
    let server = Server::new();
    for bytes in [
        &b"\0\0\0\0"[..],
        b"GET\r\n\r\n",
        b"GET /v2/ HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PUT /v2/a/manifests/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    ] {
        let mut stream = server.connect();
        stream.write_all(bytes).unwrap();
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let answer = Response::read(&mut stream);
        assert!(
            answer.status == 0 || answer.status >= 400,
            "{bytes:?} {}",
            answer.status
        );
    }
    for query in ["digest=%zz", "n=%", &"a=1&".repeat(100)] {
        server.get(&format!("/v2/a/tags/list?{query}")).expect(400);
    }
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    server
        .put_manifest("a", "v1", IMAGE, &nested)
        .refused(400, "MANIFEST_INVALID");
    server.get("/v2/").expect(200);
}

#[test]
fn client_that_asks_before_it_sends_is_refused_at_once() {
    let server = Server::new();
    let mut stream = server.connect();
    let head = "PUT /v2/A/manifests/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    Response::read(&mut stream).refused(400, "NAME_INVALID");
}

#[test]
fn client_that_reads_nothing_of_its_answer_is_cut_off() {
    let server = Server::with(|config| config.limits.idle = Duration::from_secs(2));
    let digest = server.blob("a", &vec![7; 30_000_000]);
    let mut stream = server.connect();
    let request = format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    // Its answer has begun.
    stream.read_exact(&mut [0]).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !server.get("/metrics").text().contains("qyvol_hub_connections 1\n") {
        assert!(Instant::now() < deadline);
    }
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.len() < 30_000_000);
}
