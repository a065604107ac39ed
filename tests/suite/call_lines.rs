//! `qyv call --workers`: calls as lines of JSON.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::call::echo;
use crate::support::{CommandOutput, User};

/// Gives lines to `--workers`, and returns the answers.
#[track_caller]
fn lines(user: &User, options: &[&str], app: &str, lines: &[Value]) -> Vec<Value> {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let out = user
        .qyv_with_input(&[&["call"], options, &[app]].concat(), &text)
        .expect(0);
    out.out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

// [CALL-011]
#[test]
fn lines_are_answered_in_their_order() {
    let user = User::new();
    let app = echo(&user, "app", "");
    let calls: Vec<Value> = (0..200).map(|n| json!({"id": n, "args": [n]})).collect();
    for workers in ["1", "8"] {
        let text: String = calls.iter().map(|line| format!("{line}\n")).collect();
        let out = user
            .qyv_with_input(&["call", "--workers", workers, &app, "twice"], &text)
            .expect(0);
        let answers: Vec<Value> = out
            .out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let expected: Vec<Value> = (0..200).map(|n| json!({"id": n, "result": 2 * n})).collect();
        assert_eq!(answers, expected);
    }
    // Each may name its own, and the first takes longest.
    let out = lines(
        &user,
        &["--workers", "4", "--limit", "timeout=10s"],
        &app,
        &[
            json!({"id": "slow", "function": "act.sleep"}),
            json!({"id": "\u{1b}\"", "function": "add", "args": [1, 2]}),
            json!({"id": 18_446_744_073_709_551_615_u64, "function": "add", "args": [i64::MAX, "1"]}),
            json!({"id": null, "function": "nothing", "args": []}),
        ],
    );
    assert_eq!(out[0]["id"], "slow");
    assert_eq!(out[0]["error"]["kind"], "limit");
    assert_eq!(out[1], json!({"id": "\u{1b}\"", "result": {"ok": 3}}));
    assert_eq!(
        out[2],
        json!({"id": 18_446_744_073_709_551_615_u64, "result": {"err": "it is too large"}})
    );
    assert_eq!(out[3], json!({"id": null, "result": null}));
}

// [CALL-011] [CALL-012]
#[test]
fn bad_line_gets_one_error_and_the_next_is_answered() {
    let user = User::new();
    let app = echo(&user, "app", "");
    let mut text = Vec::new();
    let bad: &[(&[u8], &str)] = &[
        (b"{", "not JSON"),
        (b"[]", "no JSON object"),
        (b"\xff", "not JSON"),
        (b"{\"id\":1,\"id\":2}", "duplicate key"),
        (b"{\"id\":{}}", "\"id\" is neither"),
        (b"{\"id\":12345678901234567890123}", "no integer of 64 bits"),
        (b"{\"id\":1e2}", "no integer of 64 bits"),
        (b"{\"id\":1.0}", "no integer of 64 bits"),
        (b"{\"id\":-0}", "no integer of 64 bits"),
        (b"{\"function\":1}", "\"function\" is no string"),
        (b"{\"function\":\"twice\",\"args\":{}}", "\"args\" is no array"),
        (
            b"{\"function\":\"twice\",\"args\":[1],\"more\":1}",
            "unknown key \"more\"",
        ),
        (b"{\"args\":[]}", "names no function"),
        (b"{\"function\":\"absent\"}", "exports no function absent"),
        (
            b"{\"function\":\"twice\",\"args\":[\"x\"]}",
            "expected u32, found string \"x\"; twice: func(",
        ),
    ];
    for (line, _) in bad {
        text.extend_from_slice(line);
        text.extend_from_slice(b"\n\n{\"id\":1,\"function\":\"twice\",\"args\":[1]}\r\n");
    }
    text.extend(b"{\"args\":[\"");
    text.extend(vec![b'x'; 6 << 20]);
    text.extend(b"\"]}\n");
    text.extend(b"[".repeat(1 << 20));
    text.extend(b"\n{\"function\":\"trap\"}\n{\"function\":\"exit\",\"args\":[0]}");
    user.write("calls", &text);
    let mut command = user.command();
    command.args(["call", "--workers", "3", &app]);
    command.stdin(fs::File::open(user.path("calls")).unwrap());
    let out = CommandOutput::from(&command.output().unwrap()).expect(0);
    let answers: Vec<Value> = out
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(answers.len(), 2 * bad.len() + 4);
    for (pair, (line, told)) in answers.chunks(2).zip(bad) {
        let line = String::from_utf8_lossy(line);
        assert_eq!(pair[0]["error"]["kind"], "usage", "{line}");
        let message = pair[0]["error"]["message"].as_str().unwrap();
        assert!(message.contains(told), "{line}: {message}");
        assert_eq!(pair[1], json!({"id": 1, "result": 2}), "{line}");
    }
    let [long, deep, trapped, exited] = &answers[2 * bad.len()..] else {
        panic!()
    };
    assert!(
        long["error"]["message"].as_str().unwrap().contains("longer than"),
        "{long}"
    );
    assert!(deep["error"]["message"].as_str().unwrap().contains("nested"), "{deep}");
    assert_eq!(
        (&trapped["error"]["kind"], &exited["error"]["kind"]),
        (&json!("trap"), &json!("trap"))
    );
}

/// A `call --workers` that runs, and what it is spoken to through.
struct Workers {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    errors: BufReader<ChildStderr>,
}

impl Workers {
    fn start(user: &User, options: &[&str], app: &str) -> Workers {
        let mut command = user.command();
        command.arg("call").args(options).arg(app);
        command.stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        Workers {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()),
            errors: BufReader::new(child.stderr.take().unwrap()),
            child,
        }
    }

    fn send(&mut self, line: &Value) {
        self.input.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Waits until stderr has this line.
    fn says(&mut self, text: &str) {
        let mut line = String::new();
        while line.trim_end() != text {
            line.clear();
            assert!(self.errors.read_line(&mut line).unwrap() > 0, "no {text:?}");
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// [CALL-012]
#[test]
fn signal_ends_the_reading_of_lines() {
    let user = User::new();
    let app = echo(&user, "app", "");
    for signal in [Signal::INT, Signal::TERM] {
        let mut workers = Workers::start(&user, &["--workers", "2"], &app);
        workers.send(&json!({"id": 1, "function": "twice", "args": [1]}));
        assert_eq!(workers.answer(), json!({"id": 1, "result": 2}));
        workers.signal(signal);
        assert_eq!(workers.child.wait().unwrap().code(), Some(0));
    }
    let mut workers = Workers::start(&user, &["--workers", "2"], &app);
    workers.send(&json!({"id": 1, "function": "act.spin"}));
    workers.send(&json!({"id": 2, "function": "print", "args": ["the first was read"]}));
    workers.says("the first was read");
    // Two of one kind could be one by the time that they are noticed. The system may deliver
    // these two in either order.
    workers.signal(Signal::INT);
    workers.signal(Signal::TERM);
    let status = workers.child.wait().unwrap();
    assert!(matches!(status.signal(), Some(2 | 15)), "{status}");
}

// [CALL-001] [CALL-009]
#[test]
fn each_call_has_an_instance_of_its_own() {
    let user = User::new();
    let app = echo(&user, "app", "");
    let out = lines(
        &user,
        &["--workers", "1"],
        &app,
        &vec![json!({"function": "act.count"}); 5],
    );
    assert!(
        out.iter().all(|line| *line == json!({"id": null, "result": 1})),
        "{out:?}"
    );
}

// [CALL-009] [CALL-011] [RUN-061]
#[test]
fn asset_that_was_changed_ends_its_call_and_is_reported_at_the_end() {
    let user = User::new();
    user.write("app/share/a", "signed");
    let app = echo(&user, "app", "assets: [share]\npermissions: { fs: read }\n");
    let read = json!({"id": 1, "function": "read-file", "args": ["/assets/share/a"]});
    let out = lines(&user, &["--workers", "1"], &app, std::slice::from_ref(&read));
    assert_eq!(out, [json!({"id": 1, "result": {"ok": "signed"}})]);
    let stored = user.stored();
    let asset = stored.iter().find(|path| path.ends_with("share/a")).unwrap();
    for path in [asset, asset.parent().unwrap()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    }
    fs::write(asset, "changed").unwrap();
    let next = json!({"id": 2, "function": "twice", "args": [1]});
    let text = format!("{read}\n{next}\n");
    let out = user
        .qyv_with_input(&["call", "--workers", "1", &app], &text)
        .expect(125);
    assert!(out.err.contains("it was changed after it was unpacked"), "{}", out.err);
    assert!(!out.out.contains("changed\"}"), "{}", out.out);
    let answers: Vec<Value> = out
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(answers[0]["error"]["kind"], "host");
    assert_eq!(answers[1], json!({"id": 2, "result": 2}));
    // It is unpacked again.
    assert_eq!(
        lines(&user, &["--workers", "1"], &app, &[read])[0]["result"]["ok"],
        "signed"
    );
}
