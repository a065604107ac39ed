//! `qyv serve` of functions: each request has an instance of its own and no caller's name.

use serde_json::{Value, json};

use crate::functions::{COUNTER, DEEP, built, wat, who};
use crate::service::Server;
use crate::support::User;

// [SERVE-003] [CALL-014]
#[test]
fn request_has_an_instance_of_its_own_whatever_the_pool() {
    let user = User::new();
    let manifest = format!(
        "functions:\n  count:\n    pool: {{ type: static, size: 1 }}\n    wit: 'count: func() -> u32'\n    wat: {}",
        wat(COUNTER)
    );
    built(&user, "app", &manifest);
    // A host that the operator has named is no other's.
    user.write("apps.yaml", "apps:\n  - { target: app.qyvbin, host: api.example }\n");
    let server = Server::launch(&user, &["--apps", "apps.yaml"]);
    for _ in 0..3 {
        let mut client = server.connect();
        client.send("POST /count HTTP/1.1\r\nHost: api.example\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]");
        let answer = client.answer();
        assert_eq!((answer.status, answer.body.as_str()), (200, "{\"result\":1}"));
    }
    let mut client = server.connect();
    client.send("POST /count HTTP/1.1\r\nHost: api.example\r\nContent-Type: application/json\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n[]");
    assert_eq!(client.answer().status, 415);
    server.end();
}

// [CALL-017] [CALL-018]
#[test]
fn functions_are_called_over_http() {
    let user = User::new();
    let manifest = format!(
        "{}  add:\n    wit: 'add: func(a: s32, b: s32) -> s32'\n    pool: static\n    wat: '(module (func (export \"add\") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))'\n{DEEP}",
        functions_that_fail()
    );
    let app = built(&user, "app", &manifest);
    let server = Server::start(&user, &[], &app);
    let post = |path: &str, head: &str, body: &str| {
        let mut client = server.connect();
        client.send(&format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\n{head}Content-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let answer = client.answer();
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        assert!(
            answer.head.contains("content-type: application/json\n"),
            "{}",
            answer.head
        );
        (answer.status, body)
    };
    let json_type = "Content-Type: application/json\r\n";
    for body in ["[1, 2]", "{\"b\": 2, \"a\": 1}"] {
        assert_eq!(post("/add", json_type, body), (200, json!({"result": 3})), "{body}");
    }
    let with_charset = "content-type: Application/JSON; charset=utf-8\r\n";
    assert_eq!(post("/add", with_charset, "[1, 2]").0, 200);
    // Below the path of the application.
    assert_eq!(post("/sums/add", json_type, "[1, 2]").0, 200);
    for (path, head, body, status, kind, told) in [
        ("/add", json_type, "[1]", 400, "usage", "expected 2 arguments, found 1"),
        (
            "/add",
            json_type,
            "[1, \"x\"]",
            400,
            "usage",
            "argument 2 'b' of add: expected s32",
        ),
        (
            "/add",
            json_type,
            "{\"a\": 1}",
            400,
            "usage",
            "the argument 'b' is missing",
        ),
        (
            "/add",
            json_type,
            "{\"a\": 1, \"b\": 2, \"c\": 3}",
            400,
            "usage",
            "unknown argument 'c'",
        ),
        ("/add", json_type, "1", 400, "usage", "neither an array nor an object"),
        ("/add", json_type, "[1", 400, "usage", "not JSON"),
        ("/add", "", "[1, 2]", 415, "usage", "application/json"),
        (
            "/add",
            "Content-Type: text/plain\r\n",
            "[1, 2]",
            415,
            "usage",
            "application/json",
        ),
        ("/sub", json_type, "[]", 404, "usage", "no such function"),
        ("/", json_type, "[]", 404, "usage", "no such function"),
        ("/fail", json_type, "[]", 500, "trap", "did not return"),
        ("/spin", json_type, "[]", 504, "limit", "too long"),
        ("/deep", json_type, "[]", 500, "limit", "more than it may have"),
    ] {
        let (found, answer) = post(path, head, body);
        let message = answer["error"]["message"].as_str().unwrap_or_default().to_string();
        assert_eq!(
            (found, answer["error"]["kind"].as_str()),
            (status, Some(kind)),
            "{path} {body}: {answer}"
        );
        assert!(message.contains(told), "{message}");
    }
    // A page whose name leads here can't call.
    let mut client = server.connect();
    client.send(&format!(
        "POST /add HTTP/1.1\r\nHost: page.example\r\n{json_type}Content-Length: 6\r\n\r\n[1, 2]"
    ));
    assert_eq!(client.answer().status, 421);
    let get = server.get("/add");
    assert_eq!(get.status, 421);
    let mut client = server.connect();
    client.send("GET /add HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    let refused = client.answer();
    assert_eq!(refused.status, 405);
    assert!(refused.head.contains("allow: post\n"), "{}", refused.head);
    // The operator is told what the client is not.
    let (_, err) = server.end();
    assert!(err.contains("unreachable"), "{err}");
}

// [CALL-017]
#[test]
fn call_that_fails_does_not_affect_concurrent_calls() {
    let user = User::new();
    let grow = "(module (memory 1) (func (export \"grow\") (drop (memory.grow (i32.const 1000))) (unreachable)))";
    let manifest = format!(
        "{}  grow:\n    wit: 'grow: func()'\n    limits: {{ memory: 1MiB }}\n    wat: '{grow}'\n  add:\n    wit: 'add: func(a: s32, b: s32) -> s32'\n    wat: '(module (func (export \"add\") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))'\n",
        functions_that_fail()
    );
    let app = built(&user, "app", &manifest);
    let server = Server::start(&user, &[], &app);
    // All are sent before one is answered.
    let mut calls = Vec::new();
    for round in 0..6 {
        for (name, body, status) in [
            ("spin", "[]".to_string(), 504),
            ("add", format!("[{round}, 1]"), 200),
            ("fail", "[]".to_string(), 500),
            ("grow", "[]".to_string(), 500),
            ("add", format!("[{round}]"), 400),
            ("add", format!("[{round}, 2]"), 200),
        ] {
            let mut client = server.connect();
            let length = body.len();
            client.send(&format!(
                "POST /{name} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
            ));
            calls.push((client, name, body, status));
        }
    }
    for (mut client, name, body, status) in calls {
        let answer = client.answer();
        assert_eq!(answer.status, status, "{name} {body}: {}", answer.body);
        if status == 200 {
            let sum: i32 = serde_json::from_str::<Vec<i32>>(&body).unwrap().iter().sum();
            assert_eq!(answer.body, format!("{{\"result\":{sum}}}"));
        }
    }
    server.end();
}

fn functions_that_fail() -> String {
    format!(
        "functions:\n  fail:\n    wit: 'fail: func()'\n    wat: {0}  spin:\n    wit: 'spin: func()'\n    limits: {{ timeout: 100ms }}\n    wat: {0}",
        wat(COUNTER)
    )
}

// [CALL-016]
#[test]
fn client_of_a_server_is_nobody_whatever_it_says() {
    let user = User::new();
    let app = built(&user, "app", &who());
    let server = Server::start(&user, &[], &app);
    let mut client = server.connect();
    client.send("POST /who HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nX-Forwarded-User: root\r\nAuthorization: Basic cm9vdDo=\r\nContent-Length: 2\r\n\r\n[]");
    let answer: Value = serde_json::from_str(&client.answer().body).unwrap();
    assert_eq!(answer["result"][0], 0);
    server.end();
}
