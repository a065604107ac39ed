//! Compiling ahead of a run, and its bounds.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::support::User;

// [RUN-023]
#[test]
fn code_that_was_compiled_ahead_is_not_compiled_by_the_run() {
    let user = User::new();
    let app = user.built("app", "");
    let done = user.qyv(&["compile", &app]).expect(0);
    assert_eq!(done.out, "");
    let code = || {
        let stored = user.stored().into_iter();
        stored.filter(|path| path.to_string_lossy().contains("/code/")).count()
    };
    assert_eq!(code(), 2, "code and its record");
    // With a limit that no compilation keeps: there is none to do.
    user.qyv(&["compile", "--max-memory", "1MB", &app]).expect(0);
    user.qyv(&["run", &app, "--", "exit", "3"]).expect(3);
    assert_eq!(code(), 2);
    user.qyv(&["compile", "app/app.qyv"]).expect(2);
    user.qyv(&["compile", "--max-memory", "much", &app]).expect(2);
}

// [RUN-023]
#[test]
fn compilation_that_takes_more_than_its_limits_is_ended_and_leaves_nothing() {
    let user = User::new();
    let app = user.built("app", "");
    let done = user.qyv(&["compile", "--max-memory", "4MiB", &app]).expect(1);
    assert!(
        done.err.contains("memory") || done.err.contains("compile"),
        "{}",
        done.err
    );
    let done = user.qyv(&["compile", "--max-seconds", "0", &app]).expect(1);
    assert!(done.err.contains("0 s of CPU time"), "{}", done.err);
    assert!(
        !user
            .stored()
            .iter()
            .any(|path| path.to_string_lossy().contains("/code/"))
    );
    user.qyv(&["run", &app, "--", "exit", "3"]).expect(3);
}

#[test]
fn refused_image_is_not_compiled() {
    let user = User::new();
    let app = user.built("app", "");
    let stranger = User::new();
    std::fs::copy(user.path(&app), stranger.path(&app)).unwrap();
    stranger.qyv(&["compile", &app]).expect(11);
    assert!(stranger.stored().is_empty());
}

// [RUN-023]
#[test]
fn compiler_has_its_limits_and_none_of_its_callers_files() {
    let user = User::new();
    // The shell leaves the pipe's end open as descriptor 9, and another as 3.
    let (mut reader, writer) = std::io::pipe().unwrap();
    let script = format!(
        "exec 9>&1 3</dev/null; exec {} compile-worker 7 1000000000 >/dev/null",
        env!("CARGO_BIN_EXE_qyv")
    );
    let mut child = Command::new("sh")
        .args(["-c", &script])
        .current_dir(user.path("."))
        .stdin(Stdio::piped())
        .stdout(writer)
        .spawn()
        .unwrap();
    let (closed, wait) = mpsc::channel();
    let reading = thread::spawn(move || {
        let mut nothing = Vec::new();
        reader.read_to_end(&mut nothing).unwrap();
        let _ = closed.send(());
    });
    // The compiler waits for its component all the while.
    let ended = wait.recv_timeout(Duration::from_secs(300));
    let of = |what: &str| format!("/proc/{}/{what}", child.id());
    let limits = fs::read_to_string(of("limits")).unwrap();
    let limit = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line.trim_start_matches(name)
            .split_whitespace()
            .next()
            .unwrap()
            .to_string()
    };
    let found = ["Max cpu time", "Max file size", "Max data size", "Max core file size"].map(limit);
    let files = fs::read_dir(of("fd")).unwrap().count();
    child.kill().unwrap();
    child.wait().unwrap();
    reading.join().unwrap();
    ended.expect("descriptor 9 was closed");
    assert_eq!(files, 3);
    assert_eq!(found, ["7", "1000000000", "1000000000", "0"]);
}

/// A manifest that starts itself by `#!`, run where the kernel can't tell which file
/// this program is. By root, for whoever has another user's number in a namespace
/// trusts no policy below root's directories there.
#[test]
fn guest_is_never_taken_for_the_compiler_where_procfs_is_missing() {
    if crate::needs::lacks(&["mounts"]) {
        return;
    }
    let user = User::new();
    user.write("app.wasm", crate::support::PROBE);
    let manifest = format!(
        "#!{} run\nname: app\nversion: 1.0.0\nentrypoint: app.wasm\nargs: [args, GUEST]\n",
        env!("CARGO_BIN_EXE_qyv")
    );
    let script = user.script("app.qyv", &manifest);
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c", "mount -t tmpfs none /proc && exec \"$1\"", "sh"])
        .arg(&script);
    let done = user.inside("util-linux", &mut command).expect(0);
    assert!(done.out.contains("GUEST"), "{done:?}");
    let code = user.home().join("store/v1/code");
    for file in walk(&code) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(5).any(|window| window == b"GUEST"), "{}", file.display());
    }
}

fn walk(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    let paths = entries.map(|entry| entry.path());
    paths
        .flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] })
        .collect()
}
