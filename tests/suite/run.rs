//! What a guest sees, and what becomes of its end.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use crate::support::User;

#[test]
fn arguments_environment_and_stdio_are_the_guests_and_nothing_else() {
    let user = User::new();
    let app = user.built(
        "app",
        "args: [args, \"--from manifest\"]\nenv: { LEVEL: info, PORT: 80 }\n",
    );
    let done = user.qyv(&["run", &app, "--", "from user", "-v"]).expect(0);
    assert_eq!(done.out, "app\nargs\n--from manifest\nfrom user\n-v\n");
    assert_eq!(done.err, "");

    let app = user.built("app2", "env: { LEVEL: info, PORT: 80 }\n");
    let done = user.qyv(&["run", "-e", "PORT=81", &app, "env"]).expect(0);
    assert_eq!(done.out, "LEVEL=info\nPORT=81\n");
    let done = user.qyv(&["run", &app, "stderr", "words"]).expect(0);
    assert_eq!((done.out.as_str(), done.err.as_str()), ("", "words\n"));

    let mut child = user
        .command()
        .args(["run", &app, "stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"through\0and through").unwrap();
    let mut out = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut out).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(out, b"through\0and through");
}

#[test]
fn guest_exit_code_passes_through_and_failures_have_their_own() {
    let user = User::new();
    let app = user.built("app", "");
    for code in [0, 1, 3, 125, 126, 200, 255] {
        user.qyv(&["run", &app, "exit", &code.to_string()]).expect(code);
    }
    let done = user.qyv(&["run", &app, "trap"]).expect(134);
    assert!(done.err.contains("error: app.qyvbin trapped"), "{}", done.err);
    user.qyv(&["run", "missing.qyvbin"]).expect(125);
    user.qyv(&["run", "missing:1.0"]).expect(125);
    user.qyv(&["run"]).expect(2);
    let stranger = User::new();
    std::fs::copy(user.path(&app), stranger.path(&app)).unwrap();
    stranger.qyv(&["run", &app]).expect(126);
    assert!(stranger.stored().is_empty());
}

// [BIN-041]
#[test]
fn core_module_runs_like_a_component() {
    let user = User::new();
    user.app("app", "env: { A: b }\n");
    user.qyv(&["build", "app", "-o", "app.qyvbin"]).expect(0);
    let done = user.qyv(&["run", "app.qyvbin", "env"]).expect(0);
    assert_eq!(done.out, "A=b\n");
    user.qyv(&["run", "app.qyvbin", "exit", "7"]).expect(7);
    user.qyv(&["build", "app", "-o", "component.qyvbin", "--componentize"])
        .expect(0);
    let done = user.qyv(&["inspect", "component.qyvbin", "--format", "json"]).expect(0);
    assert_eq!(done.json()["os"], "wasip2");
    // Preview 2 knows success and failure alone.
    user.qyv(&["run", "component.qyvbin", "exit", "7"]).expect(1);
    user.qyv(&["run", "component.qyvbin", "exit", "0"]).expect(0);
    user.qyv(&["run", "component.qyvbin", "trap"]).expect(134);
    assert_eq!(user.qyv(&["run", "component.qyvbin", "env"]).expect(0).out, "A=b\n");
}

#[test]
fn guest_without_permission_sees_no_directory() {
    let user = User::new();
    let app = user.built("app", "");
    for path in ["/", "/etc", ".", "..", "/proc/self/environ"] {
        let done = user.qyv(&["run", &app, "ls", path]).expect(1);
        assert!(done.err.contains("error:"), "{path}: {}", done.err);
    }
}

#[test]
fn assets_are_read_only_at_their_root_and_hold_after_tampering() {
    let user = User::new();
    user.write("app/public/a.txt", "first");
    user.write("app/models/m.bin", "second");
    let app = user.built(
        "app",
        "assets: [\"public/**\", { from: models/m.bin, to: deep/model.bin }]\n",
    );
    for round in 0..2 {
        assert_eq!(
            user.qyv(&["run", &app, "cat", "/assets/public/a.txt"]).expect(0).out,
            "first",
            "round {round}"
        );
        assert_eq!(
            user.qyv(&["run", &app, "cat", "/assets/deep/model.bin"]).expect(0).out,
            "second"
        );
    }
    for command in [
        &["write", "/assets/new", "x"][..],
        &["write", "/assets/public/a.txt", "x"],
        &["rm", "/assets/public/a.txt"],
        &["mkdir", "/assets/d"],
        &["cat", "/assets/../../etc/passwd"],
        &["ls", "/"],
    ] {
        let args = [&["run", &app][..], command].concat();
        user.qyv(&args).expect(1);
    }
}

// [STORE-043]
#[test]
fn asset_that_was_changed_is_never_read_and_is_unpacked_again() {
    let user = User::new();
    user.write("app/public/a.txt", "first");
    user.write("app/public/b.txt", "other");
    let module = user.built("app", "assets: [\"public/**\"]\n");
    user.write("part/public/a.txt", "first");
    user.write("part/public/b.txt", "other");
    user.component_app("part", "assets: [\"public/**\"]\n");
    user.qyv(&["build", "part", "-o", "part.qyvbin"]).expect(0);
    for app in [module.as_str(), "part.qyvbin"] {
        let cat = |name: &str| user.qyv(&["run", app, "cat", &format!("/assets/public/{name}")]);
        assert_eq!(cat("a.txt").expect(0).out, "first");
        let file = find(&user.home().join("store/v1/trees"), "a.txt").unwrap();
        let mut mode = std::fs::metadata(&file).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o644);
        std::fs::set_permissions(&file, mode).unwrap();
        std::fs::write(&file, "other").unwrap();
        // What was not changed is read as before.
        assert_eq!(cat("b.txt").expect(0).out, "other");
        let done = cat("a.txt").expect(125);
        assert_eq!(done.out, "");
        assert!(done.err.contains("/assets/public/a.txt"), "{}", done.err);
        assert_eq!(cat("a.txt").expect(0).out, "first");
        // Its directories are read-only, as those of the tree were.
        let quarantine = user.home().join("store/v1/quarantine");
        let mut chmod = std::process::Command::new("chmod");
        assert!(chmod.args(["-R", "u+w"]).arg(&quarantine).status().unwrap().success());
        std::fs::remove_dir_all(quarantine).unwrap();
    }
}

fn find(directory: &std::path::Path, name: &str) -> Option<std::path::PathBuf> {
    for entry in std::fs::read_dir(directory).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = find(&path, name) {
                return Some(found);
            }
        } else if path.file_name().is_some_and(|n| n == name) {
            return Some(path);
        }
    }
    None
}

// [BIN-034]
#[test]
fn altered_compiled_code_is_quarantined_and_compiled_again() {
    let user = User::new();
    let app = user.built("app", "");
    user.qyv(&["run", &app, "exit", "4"]).expect(4);
    let code = user
        .stored()
        .into_iter()
        .find(|p| p.to_string_lossy().contains("/code/") && std::fs::metadata(p).unwrap().len() > 4096)
        .unwrap();
    let mut bytes = std::fs::read(&code).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::remove_file(&code).unwrap();
    std::fs::write(&code, &bytes).unwrap();
    let done = user.qyv(&["run", &app, "exit", "4"]).expect(4);
    assert!(done.err.contains("warning:"), "{}", done.err);
    assert_ne!(std::fs::read(&code).unwrap(), bytes);
}

#[test]
fn memfs_is_writable_and_gone_diskfs_stays_and_read_is_read() {
    let user = User::new();
    let mem = user.built("mem", "permissions: { fs: write }\n");
    let disk = user.built("disk", "permissions: { fs: write }\nfs: { type: diskfs }\n");
    let read = user.built("read", "permissions: { fs: read }\nfs: { type: diskfs }\n");
    let other = user.built("other", "permissions: { fs: read-write }\nfs: { type: diskfs }\n");
    user.qyv(&["run", &mem, "write", "/a", "x"]).expect(0);
    user.qyv(&["run", &mem, "cat", "/a"]).expect(1);
    user.qyv(&["run", &disk, "write", "/a", "kept"]).expect(0);
    assert_eq!(user.qyv(&["run", &disk, "cat", "/a"]).expect(0).out, "kept");
    user.qyv(&["run", &other, "cat", "/a"]).expect(1);
    user.qyv(&["run", &read, "write", "/a", "x"]).expect(1);
    user.qyv(&["run", &read, "ls", "/"]).expect(0);
    user.qyv(&["run", &disk, "cat", "/../../../../../../etc/passwd"])
        .expect(1);
    let left = std::fs::read_dir("/dev/shm")
        .unwrap()
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().contains("qyvol-"));
    // Other tests may be running: only what no process holds would be left.
    assert!(left.count() < 64);
}

// [RUN-051]
#[test]
fn host_directory_is_granted_by_the_operator_and_reported() {
    let user = User::new();
    user.write("host/file", "granted");
    let grant = format!("{}::/host:ro", user.path("host").display());
    for (name, more, beyond) in [("none", "", true), ("full", "permissions: { fs: full }\n", false)] {
        let app = user.built(name, more);
        let done = user.qyv(&["run", "--dir", &grant, &app, "cat", "/host/file"]).expect(0);
        assert_eq!(done.out, "granted");
        assert!(done.err.contains("granted:"), "{}", done.err);
        assert_eq!(done.err.contains("beyond its manifest"), beyond, "{}", done.err);
        user.qyv(&["run", "--dir", &grant, &app, "write", "/host/file", "x"])
            .expect(1);
        user.qyv(&["run", &app, "cat", "/host/file"]).expect(1);
    }
}

// [MAN-050]
#[test]
fn what_this_version_does_not_enforce_is_refused() {
    let user = User::new();
    for (name, more) in [
        ("gfx", "permissions: { gfx: true }\n"),
        ("gui", "type: gui\n"),
        (
            "netfs",
            "permissions: { fs: { read: [/a] } }\nfs: { type: netfs, source: \"https://x.example/\" }\n",
        ),
    ] {
        user.app(name, more);
        let done = user.qyv(&["run", &format!("{name}/{name}.qyv")]).expect(125);
        assert!(done.err.contains("error:"), "{}", done.err);
    }
}

// [RUN-033]
#[test]
fn time_and_memory_limits_of_the_manifest_apply() {
    let user = User::new();
    let timed = user.built("timed", "resources: { timeout: 200ms }\n");
    for command in ["spin", "sleep"] {
        let done = user.qyv(&["run", &timed, command]).expect(124);
        assert!(done.err.contains("resources.timeout"), "{}", done.err);
    }
    let roomy = user.built("roomy", "resources: { timeout: 60s }\n");
    user.qyv(&["run", &roomy, "exit", "5"]).expect(5);
    let small = user.built("small", "resources: { memory: 16MiB }\n");
    assert_eq!(user.qyv(&["run", &small, "alloc", "4"]).expect(0).out, "ok\n");
    user.qyv(&["run", &small, "alloc", "64"]).expect(1);
}

#[test]
fn interrupt_ends_a_busy_guest() {
    let user = User::new();
    let app = user.built("app", "");
    for command in ["spin", "sleep"] {
        // What runs this test in the background may have had the signal ignored.
        let mut env = std::process::Command::new("env");
        env.args(["--default-signal=INT", env!("CARGO_BIN_EXE_qyv"), "run", &app, command]);
        env.env_clear()
            .env("QYVOL_HOME", user.home())
            .env("PATH", "/usr/bin:/bin")
            .current_dir(user.path(""));
        let mut child = env.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(2), "{command}: {status}");
    }
}

#[test]
fn closed_stdout_is_the_guests_error_not_our_panic() {
    let user = User::new();
    let app = user.built("app", "");
    let mut child = user
        .command()
        .args(["run", &app, "stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let _ = child.stdin.take().unwrap().write_all(&[b'x'; 100_000]);
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(!err.contains("panicked"), "{err}");
    assert!(!output.status.success());
}

#[test]
fn development_manifest_runs_unsigned_and_says_so() {
    let user = User::new();
    user.write("app/public/a.txt", "asset");
    user.app("app", "assets: [public]\n");
    let done = user
        .qyv(&["run", "app/app.qyv", "cat", "/assets/public/a.txt"])
        .expect(0);
    assert_eq!(done.out, "asset");
    assert!(done.err.contains("unsigned"), "{}", done.err);
    assert_eq!(
        user.qyv(&["images", "--format", "json"]).expect(0).json()["images"],
        serde_json::json!([])
    );
}

#[test]
fn verbose_reports_what_is_loaded_only_on_stderr() {
    let user = User::new();
    user.component_app("app", "language: c\n");
    let app = "app.qyvbin";
    user.qyv(&["build", "app", "-o", app]).expect(0);
    let done = user.qyv(&["run", "-v", app, "args"]).expect(0);
    assert_eq!(done.out, "app\nargs\n");
    for part in [
        "path: app.qyvbin",
        "language: c",
        "imports:",
        "  - wasi:cli/",
        "exports:",
        "permissions: fs:none, net:false",
        "verify",
        "run",
    ] {
        assert!(done.err.contains(part), "{part} in {}", done.err);
    }
}
