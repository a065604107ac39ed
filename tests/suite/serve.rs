//! `qyv serve`: what its clients and its operator see.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::path::Path;
use std::process::Command;
use std::{fs, thread};

use serde_json::Value;

use crate::needs::lacks;
use crate::service::{Client, Server, VERSIONS, service, service_of};
use crate::support::{User, third_party};

// [SERVE-001] [SERVE-003]
#[test]
fn requests_are_answered_and_have_nothing_in_common() {
    for version in VERSIONS {
        let user = User::new();
        let app = service_of(&user, version, "app", "");
        let server = Server::start(&user, &[], &app);
        let answer = server.get("/hello");
        assert_eq!(
            (answer.status, answer.body.as_str(), answer.whole),
            (200, "hello\n", true)
        );
        // On one connection and on several.
        let mut client = server.connect();
        for _ in 0..3 {
            client.send("GET /count HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.answer().body, "1\n");
            assert_eq!(server.get("/count").body, "1\n");
        }
        // Sent before the answers are read.
        client.send(&"GET /count HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3));
        for _ in 0..3 {
            assert_eq!(client.answer().body, "1\n");
        }
        client.send("POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12345");
        assert_eq!(client.answer().body, "5\n");
        client.send(
            "POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n123\r\n4\r\n4567\r\n0\r\n\r\n",
        );
        assert_eq!(client.answer().body, "7\n");
        client.send("POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(client.head().unwrap().0, 100);
        client.send("12");
        assert_eq!(client.answer().body, "2\n");
        client.send("GET /head?a=b HTTP/1.1\r\nHost: name.example:80\r\nX-Own: 1\r\nConnection: x-own-not\r\n\r\n");
        let seen = client.answer().body;
        let line = "Method::Get Some(Scheme::Http) Some(\"name.example:80\") Some(\"/head?a=b\")\n";
        assert!(seen.starts_with(line), "{seen}");
        assert!(seen.contains("x-own: 1\n") && !seen.contains("connection"), "{seen}");
        server.end();
    }
}

// [SERVE-001]
#[test]
fn head_has_the_head_alone() {
    for version in VERSIONS {
        let user = User::new();
        let app = service_of(&user, version, "app", "");
        let server = Server::start(&user, &[], &app);
        let mut client = server.connect();
        client.send("HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\nGET /count HTTP/1.1\r\nHost: a\r\n\r\n");
        let (status, head) = client.head().unwrap();
        assert_eq!(status, 200);
        assert!(head.contains("content-length: 6\n"), "{head}");
        // No body is between the two.
        assert_eq!(client.answer().body, "1\n");
    }
}

// [SERVE-001]
#[test]
fn bodies_stream_in_both_directions() {
    for version in VERSIONS {
        let user = User::new();
        let app = service_of(&user, version, "app", "");
        let server = Server::start(&user, &[], &app);
        let mut client = server.connect();
        client.hold();
        for piece in ["one", "two", "three"] {
            client.send(&format!("{:x}\r\n{piece}\r\n", piece.len()));
            assert_eq!(client.chunk().as_deref(), Some(piece));
        }
        client.release();
        // More than any buffer on the way.
        let big = "x".repeat(4 << 20);
        let mut writer = server.connect();
        let mut reader = Client::new(writer.stream.get_ref().try_clone().unwrap());
        let sent = big.clone();
        let sender = thread::spawn(move || {
            let length = sent.len();
            writer.send(&format!(
                "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{sent}"
            ));
        });
        let answer = reader.answer();
        sender.join().unwrap();
        assert!(answer.whole && answer.body == big);
    }
}

// [SERVE-006]
#[test]
fn failed_guest_is_answered_with_a_status_and_affects_no_other_request() {
    for version in VERSIONS {
        let user = User::new();
        let app = service_of(&user, version, "app", "");
        let server = Server::start(&user, &[], &app);
        for (path, status) in [
            ("/trap", 500),
            ("/nothing", 502),
            ("/decline", 502),
            ("/informational", 502),
            ("/exit", 502),
        ] {
            // In WASI 0.3 a guest can't return without an answer.
            if (version, path) == (3, "/nothing") {
                continue;
            }
            let answer = server.get(path);
            assert_eq!(answer.status, status, "{path}");
            // Nothing of the guest or the host.
            assert!(answer.body.starts_with(&status.to_string()), "{path}: {}", answer.body);
            assert!(answer.body.len() < 40 && !answer.head.contains("server:"), "{answer:?}");
            assert_eq!(server.get("/hello").body, "hello\n");
        }
        let mut late = server.connect();
        late.send("GET /trap-late HTTP/1.1\r\nHost: a\r\n\r\n");
        // It may trap before anything is on its way.
        assert!(late.try_answer().is_none_or(|answer| !answer.whole));
        assert_eq!(server.get("/hello").body, "hello\n");
        let (_, err) = server.end();
        let mut reasons = vec!["it trapped: wasm trap", "ConfigurationError", "exited with 1"];
        if version == 2 {
            reasons.push("without a response");
        }
        for why in reasons {
            assert!(
                err.contains("warning: a request failed: ") && err.contains(why),
                "{why}: {err}"
            );
        }
    }
}

// [SERVE-005]
#[test]
fn guest_that_takes_too_long_is_ended_and_others_are_answered_meanwhile() {
    for version in VERSIONS {
        let user = User::new();
        let app = service_of(&user, version, "app", "");
        let server = Server::start(&user, &["--request-timeout", "10s"], &app);
        let mut held = server.connect();
        held.hold();
        held.send("3\r\none\r\n");
        assert_eq!(held.chunk().as_deref(), Some("one"));
        let mut slow: Vec<Client> = (0..8)
            .map(|n| {
                let mut client = server.connect();
                let path = if n < 6 { "/loop" } else { "/sleep" };
                client.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
                client
            })
            .collect();
        assert_eq!(server.get("/hello").body, "hello\n");
        assert!(
            slow.iter_mut().all(Client::waits),
            "they were ended early, or before it was answered"
        );
        for client in &mut slow {
            assert_eq!(client.answer().status, 504);
        }
        // A response that is cut off does not look complete.
        assert_eq!(held.chunk(), None);
        // What they took is free again.
        assert_eq!(server.get("/hello").body, "hello\n");
        let (_, err) = server.end();
        assert!(err.contains("it took more than 10 s"), "{err}");
    }
}

// [SERVE-004] [SERVE-005]
#[test]
fn limits_of_the_manifest_and_the_operator_apply_to_each_request() {
    for version in VERSIONS {
        let user = User::new();
        let app = service_of(&user, version, "app", "resources: { memory: 16MB, cpu: 300ms }\n");
        let server = Server::start(&user, &[], &app);
        for _ in 0..3 {
            assert_eq!(server.get("/grow?8000000").body, "8000000\n");
            assert_eq!(server.get("/grow?80000000").status, 500);
        }
        assert_eq!(server.get("/loop").status, 504);
        // Waiting takes no processor time.
        let mut held = server.connect();
        held.hold();
        held.release();
        let (_, err) = server.end();
        assert!(
            err.contains("it needs more memory than its limit of 16000000 bytes"),
            "{err}"
        );
        assert!(err.contains("it used more than 0.3 s of processor time"), "{err}");
        let server = Server::start(&user, &["--limit", "fuel=1000000", "--limit", "timeout=60s"], &app);
        assert_eq!(server.get("/loop").status, 500);
        assert_eq!(server.get("/hello").body, "hello\n");
        let (_, err) = server.end();
        assert!(err.contains("it used more than its limit of 1000000 fuel"), "{err}");
    }
}

// [SERVE-004]
#[test]
fn service_may_do_what_its_manifest_and_the_operator_say() {
    for version in VERSIONS {
        let user = User::new();
        user.write("given/file", "of the host");
        let elsewhere = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = elsewhere.local_addr().unwrap().port();
        thread::spawn(move || {
            for mut stream in elsewhere.incoming().flatten() {
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
            }
        });
        let fetch = format!("/fetch?127.0.0.1:{port}");
        let app = service_of(&user, version, "app", "env: { OWN: manifest }\n");
        let server = Server::start(&user, &[], &app);
        assert_eq!(server.get(&fetch).body, "ErrorCode::HttpRequestDenied\n");
        assert!(server.get("/read?/etc/passwd").body.starts_with("Err"));
        assert!(server.get("/write?/file").body.starts_with("Err"));
        assert_eq!(server.get("/environment").body, "[\"app\"]\nOWN=manifest\n");
        server.end();
        let endpoint = format!("127.0.0.1:{port}");
        let granted = [
            "--dir",
            "given::/given:ro",
            "-e",
            "MORE=operator",
            "--audit",
            "audit",
            "--allow-net",
            &endpoint,
        ];
        let server = Server::start(&user, &granted, &app);
        assert_eq!(server.get(&fetch).body, "204\n");
        assert_eq!(server.get("/read?/given/file").body, "Ok(\"of the host\")\n");
        assert_eq!(
            server.get("/environment").body,
            "[\"app\"]\nMORE=operator\nOWN=manifest\n"
        );
        let (_, err) = server.end();
        assert!(err.contains("granted: connections to 127.0.0.1"), "{err}");
        let audit = fs::read_to_string(user.path("audit")).unwrap();
        let granted: Value = serde_json::from_str(audit.lines().next().unwrap()).unwrap();
        // Those that only a service has are told too.
        assert_eq!(granted["limits"]["timeout"], 30_000, "{granted}");
        for files in ["files", "sockets"] {
            assert!(granted["limits"][files].as_u64().unwrap() >= 16, "{granted}");
        }
        let last = audit.lines().last().unwrap();
        assert!(
            audit.contains("GET http://127.0.0.1") && last.contains("\"code\":0"),
            "{audit}"
        );
        // Files that it may write are the service's, and gone with it.
        let app = service_of(&user, version, "writer", "permissions: { fs: write }\n");
        for _ in 0..2 {
            let server = Server::start(&user, &[], &app);
            assert!(server.get("/read?/file").body.starts_with("Err"));
            assert_eq!(server.get("/write?/file").body, "Ok(())\n");
            assert_eq!(server.get("/read?/file").body, "Ok(\"written\")\n");
            server.end();
        }
    }
}

// [SERVE-004]
#[test]
fn output_of_guests_comes_in_whole_lines() {
    for version in VERSIONS {
        let user = User::new();
        let app = service_of(&user, version, "app", "");
        let server = Server::start(&user, &[], &app);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10).for_each(|_| assert_eq!(server.get("/print").body, "printed\n")));
            }
        });
        let (out, err) = server.end();
        assert_eq!(out, "to stdout\n".repeat(40));
        assert_eq!(err.lines().filter(|line| *line == "to stderr").count(), 40, "{err}");
    }
}

// [SERVE-007]
#[test]
fn requests_beyond_the_bound_are_refused_and_others_go_on() {
    let user = User::new();
    let app = service(&user, "app", "");
    let server = Server::start(&user, &["--max-requests", "2", "--request-timeout", "1h"], &app);
    let mut held = [server.connect(), server.connect()];
    held.iter_mut().for_each(Client::hold);
    let refused = server.get("/hello");
    assert_eq!(refused.status, 503);
    assert!(refused.head.contains("retry-after: 1\n"), "{refused:?}");
    held[0].release();
    assert_eq!(server.get_in_turn("/hello").body, "hello\n");
    held[1].release();
    // A client that leaves frees its place too.
    for _ in 0..4 {
        let mut leaving = server.connect();
        leaving.send("GET /sleep HTTP/1.1\r\nHost: a\r\n\r\n");
        leaving.stream.get_ref().shutdown(Shutdown::Both).unwrap();
    }
    assert_eq!(server.get_in_turn("/hello").body, "hello\n");
    server.end();
}

// [SERVE-007]
#[test]
fn body_beyond_its_limit_is_refused() {
    for version in VERSIONS {
        let user = User::new();
        let app = service_of(&user, version, "app", "");
        let server = Server::start(&user, &["--max-body", "1KiB"], &app);
        let mut client = server.connect();
        client.send(&format!(
            "POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 1024\r\n\r\n{}",
            "x".repeat(1024)
        ));
        assert_eq!(client.answer().body, "1024\n");
        client.send("POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n");
        assert_eq!(client.answer().status, 413);
        let mut client = server.connect();
        let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
        client.send(&format!(
            "POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}1\r\nx\r\n0\r\n\r\n"
        ));
        assert_eq!(client.answer().body, "failed\n");
        // Heads are bounded too.
        let mut client = server.connect();
        let long = "x".repeat(100 << 10);
        let _ = client
            .stream
            .get_mut()
            .write_all(format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        assert!(
            client
                .try_answer()
                .is_none_or(|answer| answer.status == 431 || answer.status == 414)
        );
        assert_eq!(server.get("/hello").body, "hello\n");
    }
}

// [SERVE-008]
#[test]
fn request_that_is_not_unmistakable_is_refused() {
    let user = User::new();
    let app = service(&user, "app", "");
    let server = Server::start(&user, &[], &app);
    for (request, status) in [
        ("GET /hello HTTP/1.1\r\n\r\n", 400),
        ("GET /hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET /hello HTTP/1.1\r\nHost: user@a\r\n\r\n", 400),
        ("GET http://user@a/hello HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http://b/hello HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (
            "GET /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n12",
            400,
        ),
        ("GET /hello HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        ("GET /hello HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        ("GET /hello HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 501),
        (
            "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            200,
        ),
        ("GET /hello HTTP/1.0\r\n\r\n", 200),
        ("GET http://A/hello HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    ] {
        let mut client = server.connect();
        client.send(request);
        assert_eq!(client.answer().status, status, "{request}");
    }
    assert_eq!(server.get("/hello").body, "hello\n");
}

// [SERVE-001]
#[test]
fn example_answers_curl() {
    if lacks(&["curl"]) {
        return;
    }
    let user = User::new();
    for name in ["http-hello", "http-hello-p3"] {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
        let archive = format!("{name}.qyvbin");
        user.qyv(&["build", example.to_str().unwrap(), "-o", &archive, "-q"])
            .expect(0);
        let server = Server::start(&user, &[], &archive);
        let curl = |args: &[&str], path: &str| {
            let mut curl = Command::new("curl");
            curl.args(["-sS", "--fail-with-body"]).args(args);
            curl.arg(format!("http://{}{path}", server.address));
            third_party("curl", &mut curl)
        };
        assert_eq!(curl(&[], "/").expect(0).out, "Hello, world!\n");
        assert_eq!(curl(&["-0"], "/hello/curl").expect(0).out, "Hello, curl!\n");
        assert_eq!(curl(&["-d", "a body"], "/echo").expect(0).out, "a body");
        assert!(curl(&["-I"], "/").expect(0).out.contains("content-length: 14"));
        assert_eq!(curl(&[], "/elsewhere").expect(22).out, "there is nothing here\n");
    }
}

// [SERVE-001] [SERVE-005]
#[test]
fn guest_of_wasi_0_3_goes_on_after_its_answer_until_its_deadline() {
    let user = User::new();
    let app = service_of(&user, 3, "app", "");
    let server = Server::start(&user, &["--request-timeout", "10s", "--max-requests", "1"], &app);
    // No task of the guest is left to move these bytes.
    let big = "x".repeat(4 << 20);
    let mut writer = server.connect();
    let mut reader = Client::new(writer.stream.get_ref().try_clone().unwrap());
    let (sent, length) = (big.clone(), big.len());
    let sender = thread::spawn(move || {
        writer.send(&format!(
            "POST /pass HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{sent}"
        ));
    });
    let answer = reader.answer();
    sender.join().unwrap();
    assert!(answer.whole && answer.body == big);
    let answer = server.get_in_turn("/sleep-late");
    assert!(answer.whole && answer.body == "answered\n", "{answer:?}");
    // It holds its place until it is ended.
    assert_eq!(server.get_in_turn("/hello").body, "hello\n");
    let (_, err) = server.end();
    assert!(err.contains("it took more than 10 s"), "{err}");
}

// [SERVE-005] [SERVE-006]
#[test]
fn response_of_an_ended_guest_never_looks_complete() {
    for version in VERSIONS {
        let user = User::new();
        let app = service_of(&user, version, "app", "");
        let elsewhere = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let authority = elsewhere.local_addr().unwrap().to_string();
        let options = ["--request-timeout", "5s", "--allow-net", &authority];
        let server = Server::start(&user, &options, &app);
        // A client that goes on sending does not keep it alive.
        let mut held = server.connect();
        let path = if version == 3 { "/pass" } else { "/echo" };
        held.send(&format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
        held.send("3\r\none\r\n");
        assert_eq!(held.head().unwrap().0, 200);
        assert_eq!(held.chunk().as_deref(), Some("one"));
        assert_eq!(held.chunk(), None);
        // The server that it was sending to is not told that this was all.
        let receiver = thread::spawn(move || {
            let (mut stream, _) = elsewhere.accept().unwrap();
            let mut received = Vec::new();
            // It may be a reset.
            let _ = stream.read_to_end(&mut received);
            String::from_utf8(received).unwrap()
        });
        assert_eq!(server.get(&format!("/upload?{authority}")).status, 504);
        let received = receiver.join().unwrap();
        assert!(received.contains("the first half"), "{received}");
        assert!(!received.contains("\r\n0\r\n"), "{received}");
        server.end();
    }
}
