//! `build` of a manifest: the author's own tools, which only `qyv build --run-build` starts
//! here (`qyv dev` has tests of its own).

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::service::until;
use crate::support::{CommandOutput, PROBE, User};

/// An application whose component a script puts in place.
#[track_caller]
fn project(user: &User, script: &str) {
    user.write("app/source", PROBE);
    user.script("app/make.sh", &format!("#!/bin/sh\n{script}\n"));
    let text = "name: app\nversion: 1.0.0\nentrypoint: out/app.wasm\nbuild: [./make.sh, \"a b\", $HOME]\n";
    user.write("app/app.qyv", text);
}

const COPY: &str = "mkdir -p out && cp source out/app.wasm";

// [CMD-050]
#[test]
fn build_of_the_manifest_runs_in_its_directory_and_no_shell_reads_it() {
    let user = User::new();
    project(
        &user,
        &format!("{COPY}; printf '%s\\n' \"$@\" >words; pwd >where; echo told"),
    );
    let built = user.qyv(&["build", "--run-build", "app", "-o", "app.qyvbin"]).expect(0);
    assert_eq!(fs::read_to_string(user.path("app/words")).unwrap(), "a b\n$HOME\n");
    let place = fs::read_to_string(user.path("app/where")).unwrap();
    assert_eq!(
        place.trim_end(),
        user.path("app").canonicalize().unwrap().to_str().unwrap()
    );
    // It is shown, and what it prints is no data of this command.
    assert!(built.err.contains("build: ./make.sh 'a b' '$HOME'\n"), "{}", built.err);
    assert!(
        built.err.contains("told\n") && built.out.starts_with("sha256:"),
        "{built:?}"
    );
    user.qyv(&["verify", "app.qyvbin"]).expect(0);
    let text = user.qyv(&["inspect", "app.qyvbin", "--format", "json"]).expect(0).out;
    assert!(!text.contains("make.sh"), "{text}");
}

// [CMD-050]
#[test]
fn nothing_but_run_build_runs_the_build_of_a_manifest() {
    let user = User::new();
    project(&user, &format!("{COPY}; touch ran"));
    let path = user.path("app/app.qyv");
    let missing = "`qyv build --run-build app` runs it";
    for args in [&["validate", "app"][..], &["build", "app", "-o", "app.qyvbin"]] {
        let refused = user.qyv(args).expect(1);
        assert!(refused.err.contains(missing), "{}", refused.err);
    }
    user.write("app/out/app.wasm", PROBE);
    let manifest = path.to_str().unwrap();
    user.qyv(&["validate", "app"]).expect(0);
    user.qyv(&["run", manifest, "args", "x"]).expect(0);
    user.qyv(&["serve", "--listen", "127.0.0.1:0", manifest]).expect(125);
    user.qyv(&["call", manifest, "nothing"]).expect(2);
    user.qyv(&["build", "app", "-o", "app.qyvbin"]).expect(0);
    user.qyv(&["build", "app", "--compare", "app.qyvbin"]).expect(0);
    user.qyv(&["build", "app", "--run-build", "--compare", "app.qyvbin"])
        .expect(2);
    user.qyv(&["update", "--path", "app"]);
    user.qyv(&["inspect", "app.qyvbin"]).expect(0);
    user.qyv(&["run", "app.qyvbin", "args", "x"]).expect(0);
    assert!(!user.path("app/ran").exists());
}

// [CMD-050]
#[test]
fn build_of_a_manifest_gets_no_variable_of_the_command() {
    let user = User::new();
    project(
        &user,
        &format!("{COPY}; env >variables; cat >read; ls -l /proc/self/fd >files"),
    );
    user.qyv(&["keys", "generate"]).expect(0);
    let key = user
        .qyv(&["keys", "export", "--private", "--unencrypted"])
        .expect(0)
        .out;
    let mut command = user.command();
    command
        .args(["build", "--run-build", "app", "-o", "app.qyvbin"])
        .env("QYVOL_KEY", &key)
        .env("QYVOL_REGISTRY_PASSWORD", "hidden")
        .env("QYVOL_ANYTHING", "hidden")
        .env("LD_LIBRARY_PATH", "/nowhere")
        .env("SOURCE_DATE_EPOCH", "1767225600")
        .stdin(Stdio::piped());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let variables = fs::read_to_string(user.path("app/variables")).unwrap();
    assert!(
        !variables.contains("QYVOL_") && !variables.contains("PRIVATE KEY"),
        "{variables}"
    );
    // What the author's tools may need is there.
    assert!(
        variables.contains("SOURCE_DATE_EPOCH=1767225600\n") && variables.contains("PATH="),
        "{variables}"
    );
    assert_eq!(fs::read(user.path("app/read")).unwrap(), b"");
    let files = fs::read_to_string(user.path("app/files")).unwrap();
    assert!(!files.contains("home"), "{files}");
}

// [CMD-050] [CMD-001]
#[test]
fn failed_build_of_a_manifest_leaves_nothing() {
    let user = User::new();
    project(&user, &format!("{COPY}; exit 7"));
    let build = ["build", "--run-build", "app", "-o", "app.qyvbin"];
    let failed = user.qyv(&build).expect(1);
    assert!(failed.err.contains("`./make.sh` exited with code 7"), "{}", failed.err);
    project(&user, "kill -9 $$");
    let failed = user.qyv(&build).expect(1);
    assert!(failed.err.contains("was ended by signal 9"), "{}", failed.err);
    fs::remove_file(user.path("app/make.sh")).unwrap();
    let failed = user.qyv(&build).expect(1);
    assert!(failed.err.contains("can't start `./make.sh`"), "{}", failed.err);
    user.write(
        "app/app.qyv",
        "name: app\nentrypoint: out/app.wasm\nbuild: [componentize-py-not]\n",
    );
    user.qyv(&build).expect(1);
    // Without one, nothing is built without it.
    user.write("app/app.qyv", "name: app\nentrypoint: out/app.wasm\n");
    let refused = user.qyv(&build).expect(2);
    assert!(refused.err.contains("has no `build`"), "{}", refused.err);
    project(&user, "touch ran");
    let refused = user.command().args(build).env("QYVOL_KEY", "").output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(!user.path("app/ran").exists());
    // Neither an archive, nor a key, nor an image.
    assert!(!user.path("app.qyvbin").exists() && user.stored().is_empty());
    assert!(!user.home().join("keys").exists());
}

#[test]
fn failed_build_of_a_manifest_names_the_tools_that_its_language_lacks() {
    let user = User::new();
    project(&user, "exit 7");
    let manifest = fs::read_to_string(user.path("app/app.qyv")).unwrap();
    user.write("app/app.qyv", manifest + "language: c\n");
    let mut command = user.command();
    command.args(["build", "--run-build", "app"]).env("PATH", user.path(""));
    let failed = CommandOutput::from(&command.output().unwrap()).expect(1);
    let hint = "hint: PATH has no clang and no wasm-ld and no make: on Debian";
    assert!(failed.err.contains(hint), "{}", failed.err);
}

// [CMD-050]
#[test]
fn keys_are_made_and_read_after_the_build_of_a_manifest() {
    let user = User::new();
    let keys = user.home();
    project(
        &user,
        &format!("{COPY}; find {} -type f >found 2>/dev/null; true", keys.display()),
    );
    user.qyv(&["build", "--run-build", "app", "-o", "app.qyvbin"]).expect(0);
    assert_eq!(fs::read_to_string(user.path("app/found")).unwrap(), "");
    // A key that can't be read is noticed only after it.
    project(&user, "touch ran");
    user.write("bad.key", "no key");
    user.qyv(&["build", "--run-build", "app", "-o", "other.qyvbin", "--key", "bad.key"]);
    assert!(user.path("app/ran").exists() && !user.path("other.qyvbin").exists());
}

// [CMD-050]
#[test]
fn interrupted_command_ends_the_build_and_what_that_has_started() {
    let user = User::new();
    project(&user, "sleep 600 & echo $! >child; echo $$ >own; mv own started; wait");
    let mut command = user.command();
    command.args(["build", "--run-build", "app", "-o", "app.qyvbin"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until(|| match user.path("app/started").exists() {
        true => Ok(()),
        false => Err("it has not started".to_string()),
    });
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::TERM.as_raw()));
    for file in ["app/started", "app/child"] {
        let pid = fs::read_to_string(user.path(file)).unwrap();
        // A zombie of whoever adopts orphans may be left.
        until(|| match fs::read_to_string(format!("/proc/{}/stat", pid.trim_end())) {
            Ok(state) if !state.contains(") Z ") => Err(format!("it still runs: {state}")),
            _ => Ok(()),
        });
    }
    assert!(!user.path("app.qyvbin").exists() && user.stored().is_empty());
}
