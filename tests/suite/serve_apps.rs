//! `qyv serve --apps`: several applications behind one address.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;

use crate::serve_log::lines;
use crate::service::{Server, service};
use crate::support::User;

/// The suite's service under three names.
fn three(user: &User) {
    for name in ["a", "b", "c"] {
        service(user, name, "permissions: { fs: read }\n");
    }
}

// [SERVE-015]
#[test]
fn applications_answer_by_host_and_path() {
    let user = User::new();
    three(&user);
    user.write("data/of-b", "b's");
    let apps = "apps:
  - { target: ./a.qyvbin, host: A.example, env: { APP: a } }
  - { target: b.qyvbin, path: /environment, env: { APP: b }, name: second }
  - { target: b.qyvbin, path: /read, dirs: ['data::/data:ro'] }
  - { target: c.qyvbin, host: a.example, path: /environment, secrets: { APP: secret } }
";
    user.write("conf/secret", "c\n");
    for name in ["a", "b", "c"] {
        fs::rename(
            user.path(&format!("{name}.qyvbin")),
            user.path(&format!("conf/{name}.qyvbin")),
        )
        .unwrap();
    }
    fs::rename(user.path("data"), user.path("conf/data")).unwrap();
    user.write("conf/apps.yaml", apps);
    let options = ["--apps", "conf/apps.yaml", "--admin", "0", "--access-log", "log"];
    let server = Server::launch(&user, &options);
    let app = |host: &str, path: &str| {
        let answer = server.get_of(host, path);
        let app = answer
            .body
            .rsplit("APP=")
            .next()
            .unwrap()
            .lines()
            .next()
            .unwrap()
            .to_string();
        (answer.status, app)
    };
    let answered = |app: &str| (200, app.to_string());
    assert_eq!(app("b.example", "/environment"), answered("b"));
    assert_eq!(app("a.example:80", "/environment"), answered("c"));
    assert_eq!(app("A.EXAMPLE.", "/environment?x"), answered("c"));
    assert_ne!(app("a.example", "/%65nvironment"), answered("c"));
    assert_eq!(app("a.example", "/hello"), answered("hello"));
    // What no application answers.
    assert_eq!(server.get_of("b.example", "/hello").status, 404);
    assert_eq!(server.get_of("b.example", "/environments").status, 404);
    // Only one of them has the directory.
    assert_eq!(server.get_of("b.example", "/read?/data/of-b").body, "Ok(\"b's\")\n");
    assert!(server.get_of("a.example", "/read?/data/of-b").body.starts_with("Err("));
    let log = lines(&user.path("log"), 9);
    let applications: Vec<_> = log.iter().map(|line| line["application"].as_str()).collect();
    let (a, b, c, second) = (Some("a"), Some("b"), Some("c"), Some("second"));
    assert_eq!(applications, [second, c, c, a, a, None, None, b, a]);
    let (_, page) = server.told("/metrics");
    for line in [
        "requests_total{app=\"a\",class=\"2xx\"} 3\n",
        "requests_total{app=\"second\",class=\"2xx\"} 1\n",
        "refused_total{app=\"\",reason=\"route\"} 2\n",
    ] {
        assert!(page.contains(line), "{line}: {page}");
    }
    server.end();
}

#[test]
fn idle_applications_share_one_thread_that_ticks() {
    let user = User::new();
    three(&user);
    let app = |name: &str| format!("  - {{ target: {name}.qyvbin, host: {name} }}\n");
    user.write("apps.yaml", format!("apps:\n{}{}{}", app("a"), app("b"), app("c")));
    let server = Server::launch(&user, &["--apps", "apps.yaml", "--request-timeout", "2s"]);
    let threads = fs::read_dir(format!("/proc/{}/task", server.id())).unwrap();
    let names = threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("comm")).unwrap());
    assert_eq!(names.filter(|name| name.trim() == "epoch").count(), 1);
    // It goes on when the engine that it was started for is gone.
    service(&user, "a", "env: { NEW: '1' }\n");
    server.signal(Signal::HUP);
    server.says("reloaded: a:1.0.0 sha256:");
    for name in ["a", "b", "c"] {
        assert_eq!(server.get_of(name, "/loop").status, 504);
    }
    server.end();
}

// [SERVE-015]
#[test]
fn failures_and_limits_of_an_application_are_its_own() {
    let user = User::new();
    three(&user);
    let apps = "apps:
  - { target: a.qyvbin, host: a, max_requests: 1, request_timeout: 60s }
  - { target: b.qyvbin, host: b, limits: { timeout: 2s } }
  - { target: c.qyvbin, host: c }
";
    user.write("apps.yaml", apps);
    let server = Server::launch(&user, &["--apps", "apps.yaml"]);
    let mut held = server.connect();
    held.hold();
    assert_eq!(server.get_of("a", "/hello").status, 503);
    assert_eq!(server.get_of("b", "/loop").status, 504);
    assert_eq!(server.get_of("b", "/trap").status, 500);
    server.says("a request of b failed: ");
    assert_eq!(server.get_of("c", "/hello").body, "hello\n");
    held.release();
    server.end();
}

// [SERVE-015]
#[test]
fn one_application_is_replaced_while_the_others_answer() {
    let user = User::new();
    three(&user);
    user.write(
        "apps.yaml",
        "apps:\n  - { target: a.qyvbin, host: a }\n  - { target: b.qyvbin, host: b }\n",
    );
    let server = Server::launch(&user, &["--apps", "apps.yaml"]);
    let mut other = server.connect();
    other.send("POST /echo HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(other.head().unwrap().0, 200);
    service(&user, "a", "env: { NEW: '1' }\n");
    fs::write(user.path("b.qyvbin"), "cut off").unwrap();
    server.signal(Signal::HUP);
    server.says("reloaded: a:1.0.0 sha256:");
    server.says("b not reloaded, the previous one keeps answering: ");
    assert!(server.get_of("a", "/environment").body.contains("NEW=1"));
    assert_eq!(server.get_of("b", "/hello").body, "hello\n");
    other.release();
    server.end();
}

// [SERVE-015]
#[test]
fn file_of_applications_is_read_strictly() {
    let user = User::new();
    service(&user, "a", "");
    let tries = [
        ("apps: []", "expected a list of 1 to 4096 applications"),
        ("apps: [{ path: / }]", "target"),
        ("apps: [{ target: a.qyvbin, hosts: x }]", "hosts"),
        ("apps: [{ target: a.qyvbin, host: 'x:80' }]", "without a port"),
        ("apps: [{ target: a.qyvbin, path: a }]", "from a slash on"),
        (
            "apps: [{ target: a.qyvbin, max_requests: 0 }]",
            "max_requests must be 1",
        ),
        (
            "apps: [{ target: a.qyvbin, request_timeout: 0s }]",
            "request_timeout must be",
        ),
        (
            "apps: [{ target: a.qyvbin, limits: { memory: x } }]",
            "limits.memory must be",
        ),
        ("apps: [{ target: a.qyvbin, allow_net: [x] }]", "allow_net"),
        (
            "apps: [{ target: a.qyvbin, env: { 'A=B': x } }]",
            "can't be the name of a variable",
        ),
        (
            "apps: [{ target: a.qyvbin, dirs: [nowhere] }]",
            "nowhere is not a directory",
        ),
        ("apps: [{ target: a.qyvbin, secrets: { A: none } }]", "can't read none"),
        (
            "apps: [{ target: a.qyvbin }, { target: a.qyvbin }]",
            "answers the same host and path",
        ),
        (
            "apps: [{ target: a.qyvbin }, { target: a.qyvbin, path: /a }]",
            "two applications have the name a",
        ),
        (
            "apps: [{ target: a.qyvbin }, { target: none.qyvbin, path: /a }]",
            "none.qyvbin",
        ),
    ];
    for (text, why) in tries {
        user.write("apps.yaml", text);
        let refused = user
            .qyv(&["serve", "--listen", "127.0.0.1:0", "--apps", "apps.yaml"])
            .expect(125);
        assert!(refused.err.contains(why), "{text}: {}", refused.err);
        assert!(!refused.err.contains("listening"), "{text}: {}", refused.err);
    }
    let apps = user.write("apps.yaml", "apps: [{ target: a.qyvbin }]");
    let refused = user.qyv(&["serve", "--apps", "apps.yaml", "--env", "A=b"]).expect(125);
    assert!(
        refused.err.contains("--env and --apps can't be used together"),
        "{}",
        refused.err
    );
    fs::set_permissions(&apps, fs::Permissions::from_mode(0o666)).unwrap();
    user.qyv(&["serve", "--apps", "apps.yaml"]).expect(125);
    user.qyv(&["serve", "--apps", "none.yaml"]).expect(125);
    // One of both is needed.
    user.qyv(&["serve"]).expect(2);
    user.qyv(&["serve", "--apps", "apps.yaml", "a.qyvbin"]).expect(2);
}
