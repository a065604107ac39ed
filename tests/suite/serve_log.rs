//! What `qyv serve` tells its operator of requests: the access log, health and metrics.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::service::{Server, service, until};
use crate::support::User;

/// Its lines, once there are so many.
#[track_caller]
pub fn lines(log: &Path, number: usize) -> Vec<Value> {
    until(|| {
        let text = fs::read_to_string(log).unwrap_or_default();
        match text.lines().count() >= number && text.ends_with('\n') {
            true => Ok(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()),
            false => Err(format!("{} lacks lines: {text}", log.display())),
        }
    })
}

// [SERVE-010]
#[test]
fn access_log_has_a_line_for_each_request_and_nothing_secret() {
    let user = User::new();
    let app = service(&user, "app", "");
    let server = Server::start(&user, &["--access-log", "log", "--request-timeout", "1h"], &app);
    let log = user.path("log");
    let mut client = server.connect();
    client.send("GET /hello?token=secret HTTP/1.1\r\nHost: name.example:80\r\nCookie: secret\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    client.send("HEAD /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    client.head().unwrap();
    client.send("GET /trap HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().status, 500);
    client.send("GET /hello HTTP/1.1\r\n\r\n");
    assert_eq!(client.answer().status, 400);
    let mut broken = server.connect();
    broken.send("GET /trap-late HTTP/1.1\r\nHost: a\r\n\r\n");
    broken.try_answer();
    let mut leaves = server.connect();
    leaves.send("GET /sleep HTTP/1.1\r\nHost: a\r\n\r\n");
    server.says("it trapped");
    drop(leaves);
    let lines = lines(&log, 6);
    let first = &lines[0];
    assert_eq!(first["application"], "app");
    assert_eq!(
        ["method", "host", "path", "protocol"].map(|key| first[key].as_str().unwrap()),
        ["GET", "name.example:80", "/hello", "HTTP/1.1"]
    );
    assert_eq!(
        (&first["status"], &first["bytes"], &first["whole"]),
        (&200.into(), &6.into(), &true.into())
    );
    let time = first["time"].as_str().unwrap();
    assert!(
        time.len() == "2027-01-15T08:00:00.042Z".len() && time.ends_with('Z'),
        "{time}"
    );
    assert!(first["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(first["duration"].as_f64().unwrap() < 3600.0);
    let of = |status: u16| lines.iter().find(|line| line["status"] == status).unwrap();
    assert_eq!(
        (&lines[1]["protocol"], &lines[1]["whole"]),
        (&"HTTP/1.0".into(), &true.into())
    );
    assert_eq!(of(400)["host"], "");
    assert_eq!((&of(499)["path"], &of(499)["whole"]), (&"/sleep".into(), &false.into()));
    let id = of(500)["id"].as_u64().unwrap();
    let late = lines.iter().find(|line| line["path"] == "/trap-late").unwrap();
    assert_eq!(late["whole"], false);
    let (_, err) = server.end();
    assert!(err.contains(&format!("(request {id})")), "{err}");
    let text = fs::read_to_string(&log).unwrap();
    assert!(!text.contains("secret"), "{text}");
    assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
    // It is appended to.
    Server::start(&user, &["--access-log", "log"], &app).end();
    assert!(fs::read_to_string(&log).unwrap().starts_with(&text));
    // On stdout.
    let server = Server::start(&user, &["--access-log", "-"], &app);
    server.get("/hello");
    let (out, _) = server.end();
    assert!(out.starts_with("{\"time\":\"") && out.ends_with("}\n"), "{out}");
}

// [SERVE-010]
#[test]
fn access_log_that_was_moved_is_created_again() {
    let user = User::new();
    let app = service(&user, "app", "");
    let server = Server::start(&user, &["--access-log", "log"], &app);
    let (log, old) = (user.path("log"), user.path("log.1"));
    server.get("/hello");
    lines(&log, 1);
    fs::rename(&log, &old).unwrap();
    server.signal(Signal::HUP);
    until(|| log.exists().then_some(()).ok_or_else(|| server.stderr()));
    server.get("/hello");
    assert_eq!(lines(&log, 1)[0]["id"], 2);
    server.end();
    assert_eq!(lines(&old, 1).len(), 1);
}

// [SERVE-010]
#[test]
fn access_log_that_somebody_else_could_change_is_refused() {
    let user = User::new();
    let app = service(&user, "app", "");
    user.write("notes", "mine\n");
    user.write("loose", "");
    fs::set_permissions(user.path("loose"), fs::Permissions::from_mode(0o666)).unwrap();
    symlink(user.path("elsewhere"), user.path("link")).unwrap();
    fs::create_dir(user.path("given")).unwrap();
    for (log, why) in [
        ("notes", "something other than an access log"),
        ("loose", "other users can change it"),
        ("link", "symbolic link"),
        ("given/log", "the guest could change it"),
    ] {
        let args = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--dir",
            "given",
            "--access-log",
            log,
            &app,
        ];
        let done = user.qyv(&args).expect(125);
        assert!(
            done.err.contains(why) && !done.err.contains("listening"),
            "{log}: {}",
            done.err
        );
    }
    assert_eq!(fs::read_to_string(user.path("notes")).unwrap(), "mine\n");
}

// [SERVE-010]
#[test]
fn log_that_can_not_be_written_keeps_no_request_from_being_answered() {
    let user = User::new();
    let app = service(&user, "app", "");
    let mut server = Server::start(&user, &["--access-log", "-"], &app);
    server.close_stdout();
    for _ in 0..3 {
        assert_eq!(server.get("/hello").status, 200);
        server.says("can't write the access log on stdout: ");
    }
    let (_, err) = server.end();
    assert_eq!(err.matches("can't write the access log").count(), 1, "{err}");
}

// [SERVE-011]
#[test]
fn health_and_counters_are_served_on_an_address_of_their_own() {
    let user = User::new();
    let app = service(&user, "app", "");
    let server = Server::start(
        &user,
        &["--admin", "0", "--max-requests", "1", "--request-timeout", "1h"],
        &app,
    );
    assert!(server.admin.unwrap().ip().is_loopback());
    assert_eq!(server.told("/healthz"), (200, "ok\n".to_string()));
    assert_eq!(server.told("/hello").0, 404);
    // The answer may come before the end of its guest, who has the only place.
    let is_free = || {
        until(|| {
            let (_, page) = server.told("/metrics");
            let is_free = page.contains("qyvol_serve_guests{app=\"app\"} 0\n");
            is_free.then_some(()).ok_or(page)
        });
    };
    server.get("/hello");
    is_free();
    server.get("/trap");
    is_free();
    let mut held = server.connect();
    held.hold();
    assert_eq!(server.get("/hello").status, 503);
    let (status, page) = server.told("/metrics");
    assert_eq!(status, 200);
    for line in [
        "# TYPE qyvol_serve_requests_total counter",
        "qyvol_serve_requests_total{app=\"app\",class=\"2xx\"} 1",
        "qyvol_serve_requests_total{app=\"app\",class=\"5xx\"} 2",
        "qyvol_serve_request_seconds_bucket{app=\"app\",le=\"+Inf\"} 3",
        "qyvol_serve_request_seconds_count{app=\"app\"} 3",
        "qyvol_serve_requests_open{app=\"app\"} 1",
        "qyvol_serve_requests_waiting{app=\"app\"} 0",
        "qyvol_serve_refused_total{app=\"app\",reason=\"busy\"} 1",
        "qyvol_serve_guests{app=\"app\"} 1",
        "qyvol_serve_guests_ended_total{app=\"app\",reason=\"returned\"} 1",
        "qyvol_serve_guests_ended_total{app=\"app\",reason=\"trap\"} 1",
        "qyvol_serve_connections_total 4",
    ] {
        assert!(page.lines().any(|have| have == line), "{line}: {page}");
    }
    assert!(
        page.contains("qyvol_serve_build_info{version=") && !page.contains("/hello"),
        "{page}"
    );
    // While it ends, whoever sends it requests is told to send them elsewhere.
    server.signal(Signal::TERM);
    server.refuses();
    assert_eq!(server.told("/healthz"), (503, "ending\n".to_string()));
    held.release();
    assert_eq!(server.wait().0.code(), Some(0));
    // Without the option there is no such page.
    let server = Server::start(&user, &[], &app);
    assert!(server.admin.is_none() && server.get("/metrics").body != page);
    server.end();
}
