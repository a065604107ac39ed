//! Programs of the host that a guest starts by `qyvol:process`.

use std::fs;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use serde_json::Value;

use crate::permissions::with_ceiling;
use crate::support::{CommandOutput, User};

/// A component that starts a program: `tests/guests/exec`.
fn starter(user: &User, name: &str, more: &str) -> String {
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/guests/exec/exec.component.wasm");
    user.write(&format!("{name}/app.wasm"), fs::read(guest).unwrap());
    let manifest = format!("name: {name}\nversion: 1.0.0\nentrypoint: app.wasm\n{more}");
    user.write(&format!("{name}/app.qyv"), manifest);
    let archive = format!("{name}.qyvbin");
    user.qyv(&["build", name, "-o", &archive, "-q"]).expect(0);
    archive
}

fn run(user: &User, args: &[&str]) -> CommandOutput {
    user.qyv_with_input(&[&["run"], args].concat(), "typed\n")
}

const CAT: &str = "/bin/cat";

// [RUN-058]
#[test]
fn program_is_started_only_if_manifest_operator_and_rule_allow_it() {
    let user = User::new();
    let any = starter(&user, "any", "permissions: { exec: true }\n");
    let listed = starter(&user, "listed", "permissions: { exec: [/bin/cat] }\n");
    let none = starter(&user, "none", "");
    for app in [&any, &listed] {
        let done = run(&user, &["--allow-exec", CAT, app, CAT]).expect(0);
        assert_eq!(done.out, "typed\ncode 0\n");
        assert!(
            done.err.contains("granted: /bin/cat, started as this user"),
            "{}",
            done.err
        );
        assert_eq!(run(&user, &["-q", app, CAT]).expect(0).out, "access\n");
        // Neither a name for it nor another program is what was allowed.
        for other in ["cat", "/bin/../bin/cat", "/bin/sh"] {
            let done = run(&user, &["-q", "--allow-exec", CAT, app, other]).expect(0);
            assert_eq!(done.out, "access\n", "{other}");
        }
    }
    for (app, program) in [(&listed, "/bin/sh"), (&none, CAT)] {
        let done = run(&user, &["--allow-exec", program, app, program]).expect(125);
        assert!(done.err.contains("permissions.exec"), "{}", done.err);
        assert_eq!(done.out, "");
    }
    // What the guest could write itself is no program of the host's.
    user.script("own/tool", "#!/bin/sh\n");
    let tool = user.path("own/tool");
    let done = run(
        &user,
        &["--dir", "own::/own", "--allow-exec", tool.to_str().unwrap(), &any, "x"],
    )
    .expect(125);
    assert!(done.err.contains("granted for writing"), "{}", done.err);
    for slip in ["cat", "/bin/no-such-program", "/etc/passwd", "/bin"] {
        run(&user, &["--allow-exec", slip, &any, CAT]).expect(125);
    }
    let policy = user.home().join("trust.yaml");
    let before = fs::read_to_string(&policy).unwrap();
    with_ceiling(&user, "allow: { exec: [/bin/cat] }");
    assert_eq!(
        run(&user, &["-q", "--allow-exec", CAT, &any, CAT]).out,
        "typed\ncode 0\n"
    );
    run(&user, &["--allow-exec", "/bin/echo", &any, "/bin/echo"]).expect(125);
    fs::write(&policy, before).unwrap();
    with_ceiling(&user, "allow: restricted");
    let done = run(&user, &["--allow-exec", CAT, &any, CAT]).expect(125);
    assert!(done.err.contains("the rule of the trust policy"), "{}", done.err);
}

// [RUN-056] [RUN-058]
#[test]
fn program_gets_nothing_of_the_operators_environment() {
    let user = User::new();
    let app = starter(&user, "app", "permissions: { exec: [/usr/bin/env, /bin/pwd] }\n");
    let done = run(
        &user,
        &[
            "-q",
            "-e",
            "SECRET=1",
            "--audit",
            "audit.json",
            "--allow-exec",
            "/usr/bin/env",
            &app,
            "/usr/bin/env",
        ],
    );
    let mut names: Vec<&str> = done
        .out
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name)
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["LANG", "PATH"], "{}", done.out);
    let audit = fs::read_to_string(user.path("audit.json")).unwrap();
    let used = audit.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let used: Vec<Value> = used.filter(|line| line["permission"] == "exec").collect();
    assert_eq!(used.len(), 1, "{audit}");
    assert_eq!(
        (&used[0]["event"], &used[0]["object"]),
        (&"used".into(), &"/usr/bin/env".into())
    );
    let words = ["-q", "--audit", "audit", "--allow-exec", "/bin/pwd", &app];
    let done = run(&user, &[&words[..], &["/bin/pwd", "-P", "a b"]].concat());
    assert_eq!(done.out, "/\ncode 0\n");
    // [RUN-064]
    let audit = fs::read_to_string(user.path("audit")).unwrap();
    let words = audit.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let told: Vec<Value> = words.filter(|line| line["permission"] == "exec").collect();
    assert_eq!(told[0]["object"], "/bin/pwd -P \"a b\"");
}

// [RUN-058]
#[test]
fn program_ends_with_the_run_at_the_latest() {
    let user = User::new();
    let app = starter(&user, "app", "permissions: { exec: true }\n");
    // What was started holds the pipe open for as long as it runs.
    let code = |args: &[&str], last: &str| {
        let path = user.path("alive");
        let _ = fs::remove_file(&path);
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let nonblocking = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let pipe = rustix::fs::open(&path, nonblocking, Mode::empty()).unwrap();
        // The pipe has had a writer, even if the run ends before the program opens it.
        let writer = rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let script = format!(
            "exec 3>{}; sleep 1000 >/dev/null 2>&1 </dev/null & echo up; {last}",
            path.display()
        );
        let options = ["run", "-q", "--allow-exec", "/bin/sh"];
        let code = user.qyv(&[&options, args, &["/bin/sh", "-c", &script]].concat()).code;
        drop(writer);
        let mut watched = [PollFd::new(&pipe, PollFlags::IN)];
        let timeout = Timespec { tv_sec: 60, tv_nsec: 0 };
        assert_eq!(poll(&mut watched, Some(&timeout)).unwrap(), 1, "a program still runs");
        code
    };
    assert_eq!(code(&["--limit", "timeout=10s", &app], "sleep 1000"), 124);
    assert_eq!(code(&[&app, "LEAVE"], "sleep 1000"), 0);
    // It ends by itself, and what it has started does not.
    assert_eq!(code(&[&app], "exit 0"), 0);
    let many = user
        .qyv(&["run", "-q", "--allow-exec", CAT, &app, "MANY", CAT])
        .expect(0);
    assert_eq!(many.out, "16 started, then too-many\n");
    let killed = user
        .qyv(&["run", "-q", "--allow-exec", CAT, &app, "KILL", CAT])
        .expect(0);
    assert_eq!(killed.out, "signal 9\n");
}
