//! `qyv serve` of applications whose manifest says `serve: { reuse: N }`.
//!
//! With one request at a time, an instance is kept before the next request is given one.

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use crate::service::{Server, service, service_of, until};
use crate::support::User;

const ONE_AT_A_TIME: [&str; 2] = ["--max-requests", "1"];

/// What the guest's counter says in so many requests one after another.
fn counts(server: &Server, requests: usize) -> Vec<String> {
    (0..requests)
        .map(|_| server.get("/count").body.trim().to_string())
        .collect()
}

// [SERVE-016] [MAN-069]
#[test]
fn instance_answers_as_many_requests_as_its_manifest_says_and_no_more() {
    let user = User::new();
    let app = service(&user, "app", "serve: { reuse: 3 }\n");
    let server = Server::start(&user, &ONE_AT_A_TIME, &app);
    assert_eq!(counts(&server, 7), ["1", "2", "3", "1", "2", "3", "1"]);
    server.end();
}

// [SERVE-003] [SERVE-016]
#[test]
fn only_the_manifest_allows_reuse_of_an_instance() {
    let user = User::new();
    for (name, more) in [
        ("silent", ""),
        ("one", "serve: { reuse: 1 }\n"),
        ("empty", "serve: {}\n"),
    ] {
        let app = service(&user, name, more);
        let server = Server::start(&user, &ONE_AT_A_TIME, &app);
        // On one connection too.
        let mut client = server.connect();
        for _ in 0..3 {
            client.send("GET /count HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.answer().body, "1\n", "{name}");
        }
        server.end();
    }
}

// [SERVE-016]
#[test]
fn instance_is_never_given_to_two_requests_at_once() {
    let user = User::new();
    let app = service(&user, "app", "serve: { reuse: 1000 }\n");
    let server = Server::start(&user, &["--max-requests", "3"], &app);
    // Each holds an instance that has answered nothing before.
    let mut held = [server.connect(), server.connect()];
    held.iter_mut().for_each(|client| client.hold());
    assert_eq!(server.get("/count").body, "1\n");
    held.iter_mut().for_each(|client| client.release());
    server.end();
}

// [SERVE-016]
#[test]
fn instance_that_did_not_end_well_answers_nothing_more() {
    let user = User::new();
    let app = service(&user, "app", "serve: { reuse: 1000 }\nresources: { memory: 64MiB }\n");
    let server = Server::start(&user, &["--max-requests", "1", "--request-timeout", "10s"], &app);
    for (path, status) in [
        ("/trap", 500),
        ("/exit", 502),
        ("/nothing", 502),
        ("/decline", 502),
        ("/informational", 502),
        ("/loop", 504),
        ("/sleep", 504),
        // More memory than it may have, and more than half of that.
        ("/grow?100000000", 500),
        ("/grow?45000000", 200),
        // It has the request still.
        ("/keep", 200),
    ] {
        assert_eq!(counts(&server, 2), ["1", "2"], "before {path}");
        assert_eq!(server.get(path).status, status, "{path}");
    }
    assert_eq!(counts(&server, 2), ["1", "2"]);
    // Less than half: it is kept.
    assert_eq!(server.get("/grow?10000000").status, 200);
    assert_eq!(counts(&server, 1), ["3"]);
    server.end();
}

// [SERVE-016]
#[test]
fn client_that_leaves_takes_its_instance_with_it() {
    let user = User::new();
    let app = service(&user, "app", "serve: { reuse: 1000 }\n");
    let server = Server::start(&user, &["--max-requests", "1", "--admin", "0"], &app);
    assert_eq!(counts(&server, 2), ["1", "2"]);
    let guests = |number: usize| {
        let line = format!("qyvol_serve_guests{{app=\"app\"}} {number}");
        until(|| match server.told("/metrics").1 {
            page if page.lines().any(|have| have == line) => Ok(()),
            page => Err(page),
        });
    };
    guests(0);
    let mut leaves = server.connect();
    leaves.send("GET /sleep HTTP/1.1\r\nHost: a\r\n\r\n");
    guests(1);
    drop(leaves);
    guests(0);
    assert_eq!(counts(&server, 1), ["1"]);
    server.end();
}

// [SERVE-016] [SERVE-004]
#[test]
fn limits_of_a_request_are_fresh_and_open_handles_count() {
    let user = User::new();
    let more = "serve: { reuse: 1000 }\npermissions: { fs: write }\nresources: { output: 40, files: 8 }\n";
    let app = service(&user, "app", more);
    let server = Server::start(&user, &ONE_AT_A_TIME, &app);
    // Each prints half of what one may.
    for _ in 0..5 {
        assert_eq!(server.get("/print").body, "printed\n");
    }
    assert_eq!(counts(&server, 1), ["1"]);
    assert_eq!(server.get("/write?/file").body, "Ok(())\n");
    let hold = |files: usize| {
        for held in 1..=files {
            assert_eq!(server.get("/hold?/file").body, "Ok(())\n", "{held}");
        }
    };
    // Its directory is open too.
    hold(3);
    assert_eq!(counts(&server, 1), ["2"]);
    // More than half.
    hold(1);
    assert_eq!(counts(&server, 1), ["1"]);
    server.end();
}

// [SERVE-016] [SERVE-004]
#[test]
fn fuel_of_one_request_is_not_that_of_the_next() {
    let user = User::new();
    let app = service(&user, "app", "serve: { reuse: 1000 }\nresources: { fuel: 2000000 }\n");
    let server = Server::start(&user, &ONE_AT_A_TIME, &app);
    let all: Vec<String> = (1..=200).map(|count| count.to_string()).collect();
    assert_eq!(counts(&server, 200), all);
    server.end();
}

// [SERVE-016] [SERVE-012]
#[test]
fn replacement_does_not_get_the_instances_of_what_was_before() {
    let user = User::new();
    let app = service(&user, "app", "serve: { reuse: 1000 }\n");
    let next = service(&user, "next", "serve: { reuse: 1000 }\nenv: { IS: next }\n");
    let server = Server::start(&user, &ONE_AT_A_TIME, &app);
    assert_eq!(counts(&server, 2), ["1", "2"]);
    fs::rename(user.path(&next), user.path(&app)).unwrap();
    server.signal(Signal::HUP);
    server.says("reloaded: ");
    assert_eq!(counts(&server, 2), ["1", "2"]);
    assert!(server.get("/environment").body.contains("IS=next"));
    server.end();
}

// [SERVE-016] [MAN-069]
#[test]
fn build_says_what_reuse_means_and_refuses_it_where_it_is_impossible() {
    let user = User::new();
    let app = service(&user, "app", "serve: { reuse: 1000 }\n");
    let told = "one instance answers up to 1000 requests; what a request leaves in its memory";
    let inspected = user.qyv(&["inspect", &app]).expect(0).out;
    assert!(inspected.contains(told), "{inspected}");
    let built = user.qyv(&["build", "app", "-o", "again.qyvbin"]).expect(0);
    assert!(built.err.contains(told), "{}", built.err);
    let plain = service(&user, "plain", "");
    assert!(!user.qyv(&["inspect", &plain]).expect(0).out.contains("reuse"));
    // WASI 0.3, and a component that answers no requests.
    service_of(&user, 3, "later", "");
    let manifest = user.path("later/app.qyv");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, format!("{text}serve: {{ reuse: 2 }}\n")).unwrap();
    let refused = user.qyv(&["build", "later", "-o", "later2.qyvbin"]);
    assert!(refused.code != 0 && refused.err.contains("WASI 0.3"), "{}", refused.err);
    assert!(!user.path("later2.qyvbin").exists());
    let echo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/guests/echo/echo.component.wasm");
    user.write("echo/app.wasm", fs::read(echo).unwrap());
    user.write(
        "echo/app.qyv",
        "name: echo\nentrypoint: app.wasm\nserve: { reuse: 2 }\n",
    );
    let refused = user.qyv(&["build", "echo", "-o", "echo.qyvbin"]);
    assert!(
        refused.code != 0 && refused.err.contains("incoming-handler"),
        "{}",
        refused.err
    );
}

// [SERVE-011]
#[test]
fn metrics_report_what_guests_have_used() {
    let user = User::new();
    let app = service(&user, "app", "serve: { reuse: 2 }\nresources: { memory: 64MiB }\n");
    let server = Server::start(&user, &["--max-requests", "1", "--admin", "0"], &app);
    assert_eq!(counts(&server, 3), ["1", "2", "1"]);
    let mut client = server.connect();
    client.send("POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12345");
    assert_eq!(client.answer().body, "5\n");
    assert_eq!(server.get("/fetch?192.0.2.1:80").status, 200);
    assert_eq!(server.get("/grow?100000000").status, 500);
    // Whatever it takes now, the next one ends after it.
    assert_eq!(counts(&server, 1), ["1"]);
    let (_, page) = server.told("/metrics");
    let value = |name: &str| -> f64 {
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(&format!("qyvol_serve_{name} ")));
        line.unwrap_or_else(|| panic!("no {name}: {page}")).parse().unwrap()
    };
    // One more was made on trial.
    assert_eq!(value("instances_total{app=\"app\"}"), 5.0, "{page}");
    assert_eq!(value("instances_reused_total{app=\"app\"}"), 3.0, "{page}");
    assert_eq!(value("request_bytes_total{app=\"app\"}"), 5.0);
    assert_eq!(value("denied_total{app=\"app\"}"), 1.0);
    assert_eq!(value("guests_ended_total{app=\"app\",reason=\"memory\"}"), 1.0);
    let peak = value("guest_memory_peak_bytes{app=\"app\"}");
    assert!((1e6..=f64::from(64 << 20)).contains(&peak), "{peak}");
    for counted in ["instantiate_seconds_total", "guest_seconds_total"] {
        assert!(value(&format!("{counted}{{app=\"app\"}}")) > 0.0, "{page}");
    }
    for step in ["verify", "load", "link", "try"] {
        assert!(value(&format!("load_seconds{{app=\"app\",step=\"{step}\"}}")) > 0.0);
    }
    server.end();
}
