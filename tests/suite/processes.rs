//! Processes that a manifest names: functions that `run` starts, and starts again.

use std::os::unix::process::ExitStatusExt;

use crate::functions::{COUNTER, built, wat};
use crate::support::User;

// [RUN-070]
#[test]
fn process_is_started_again_as_its_manifest_says() {
    let user = User::new();
    let app = built(
        &user,
        "app",
        &format!(
            "functions:\n  count:\n    wit: 'count: func() -> u32'\n    wat: {0}  fail:\n    wit: 'fail: func()'\n    wat: {0}processes:\n  once: {{ method: count }}\n  bad: {{ method: fail }}\n  again: {{ method: fail, restart: on-failure }}\n  forever: {{ method: count, restart: always }}\n",
            wat(COUNTER)
        ),
    );
    let once = user.qyv(&["run", &app, "once"]).expect(0);
    assert_eq!((once.out.as_str(), once.err.as_str()), ("", ""));
    let bad = user.qyv(&["run", &app, "bad"]).expect(134);
    assert!(!bad.err.contains("started again"), "{}", bad.err);
    // It is given up in the end.
    let again = user.qyv(&["run", &app, "again"]).expect(134);
    assert_eq!(again.err.matches("again: it trapped").count(), 4, "{}", again.err);
    assert!(again.err.contains("it is started again in 800"), "{}", again.err);
    let unknown = user.qyv(&["run", &app, "other"]);
    assert_eq!(unknown.code, 125);
    assert!(
        unknown
            .err
            .contains("it has no process other; it has again, bad, forever, once"),
        "{}",
        unknown.err
    );
    let none = user.qyv(&["run", &app]);
    assert_eq!(none.code, 125);
    assert!(none.err.contains("the name of a process is expected"), "{}", none.err);
    // One that returns is started again until a signal ends it.
    let mut forever = user.command();
    let mut forever = forever
        .args(["run", &app, "forever"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = std::io::BufReader::new(forever.stderr.take().unwrap());
    let mut notes = std::io::BufRead::lines(stderr)
        .map(Result::unwrap)
        .filter(|line| line.contains("forever: it returned; it is started again in 100"));
    assert_eq!(notes.by_ref().take(7).count(), 7);
    let pid = rustix::process::Pid::from_child(&forever);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(forever.wait().unwrap().signal(), Some(15));
}

/// An application with one process.
fn with_process(user: &User, name: &str, more: &str) -> String {
    let functions = format!(
        "functions:\n  count:\n    wit: 'count: func() -> u32'\n    wat: {}",
        wat(COUNTER)
    );
    built(
        user,
        name,
        &format!("{more}{functions}processes:\n  once: {{ method: count }}\n"),
    )
}

// [RUN-070]
#[test]
fn process_is_refused_what_only_commands_have() {
    let user = User::new();
    let app = with_process(&user, "app", "permissions: { exec: [/bin/cat] }\n");
    user.qyv(&["run", &app, "once"]).expect(0);
    for (options, told) in [
        (&["--deterministic"][..], "--deterministic"),
        (&["--profile", "profile.json"], "--profile"),
        (&["--coredump", "core"], "--coredump"),
        (&["--debug-info"], "--debug-info"),
        (&["--allow-exec", "/bin/cat"], "--allow-exec"),
    ] {
        let refused = user
            .qyv(&[&["run"], options, &[app.as_str(), "once"]].concat())
            .expect(125);
        assert!(
            refused.err.contains("process") && refused.err.contains(told),
            "{}",
            refused.err
        );
        assert_eq!(refused.out, "");
    }
    for file in ["profile.json", "core"] {
        assert!(!user.path(file).exists(), "{file}");
    }
    let far = "permissions: { fs: read }\nfs: { type: netfs, source: \"https://files.example/\" }\n";
    let far = with_process(&user, "far", far);
    let refused = user.qyv(&["run", &far, "once"]).expect(125);
    assert!(
        refused.err.contains("`fs.type: netfs`") && refused.err.contains("to commands alone"),
        "{}",
        refused.err
    );
}
