//! `qyv dev`: what is saved is built and runs, what can't be built changes nothing, and
//! nothing is left at the end.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::service::{Server, until};
use crate::support::{PROBE_MODULE, User};

/// A service of a function in the text format, which answers with this number.
fn manifest(number: u32) -> String {
    format!(
        "name: app\nversion: 1.0.0\ntype: service\nfunctions:\n  number:\n    wit: \"number: func() -> s32\"\n    \
         wat: (module (func (export \"number\") (result i32) i32.const {number}))\n"
    )
}

/// What it answers.
fn number(server: &Server) -> Result<u32, String> {
    let mut client = server.connect();
    client.send(
        "POST /number HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]",
    );
    let answer = client.answer();
    match answer.status {
        200 => Ok(answer.body.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()),
        _ => Err(format!("{answer:?}")),
    }
}

#[track_caller]
fn answers(server: &Server, expected: u32) {
    until(|| match number(server) {
        Ok(found) if found == expected => Ok(()),
        found => Err(format!("{found:?} instead of {expected}: {}", server.stderr())),
    });
}

/// Writes a file as many editors do: under another name, which is then changed.
fn save(path: &Path, text: &str) {
    let other = path.with_extension("new~");
    fs::write(&other, text).unwrap();
    fs::rename(other, path).unwrap();
}

// [CMD-052]
#[test]
fn last_of_a_thousand_saves_answers_and_no_request_is_lost() {
    let user = User::new();
    let path = user.write("app/app.qyv", manifest(0));
    let server = Server::dev(&user, &["app"]);
    answers(&server, 0);
    for save_number in 1..=1000 {
        // By rename and in place.
        match save_number % 2 {
            0 => save(&path, &manifest(save_number)),
            _ => fs::write(&path, manifest(save_number)).unwrap(),
        }
        if save_number % 50 == 0 {
            // Whatever answers, something does.
            number(&server).unwrap();
        }
    }
    answers(&server, 1000);
    server.end();
}

// [CMD-052]
#[test]
fn half_written_file_leaves_the_previous_version_answering() {
    let user = User::new();
    let path = user.write("app/app.qyv", manifest(1));
    let server = Server::dev(&user, &["app"]);
    answers(&server, 1);
    let next = manifest(2);
    for (length, why) in [
        (next.len() / 2, "error: "),
        (next.len() - 20, "not reloaded, the previous one keeps answering"),
        (0, "lacks the key `name`"),
    ] {
        fs::write(&path, &next[..length]).unwrap();
        server.says(why);
        assert_eq!(number(&server), Ok(1));
    }
    fs::remove_file(&path).unwrap();
    server.says("can't open");
    assert_eq!(number(&server), Ok(1));
    fs::write(&path, next).unwrap();
    answers(&server, 2);
    // The directory is moved away and back, and saved in.
    fs::rename(user.path("app"), user.path("moved")).unwrap();
    fs::rename(user.path("moved"), user.path("app")).unwrap();
    save(&path, &manifest(3));
    answers(&server, 3);
    server.end();
}

/// An application whose build copies a manifest's function into a module's place.
fn project(user: &User, script: &str) {
    user.write("app/src/number.wat", wat(1));
    user.write("app/.gitignore", "/out\n");
    user.script("app/make.sh", &format!("#!/bin/sh\nset -e\nmkdir -p out\n{script}\n"));
    let functions = "functions:\n  number: { wit: \"number: func() -> s32\", wasm: out/app.wasm }\n";
    user.write(
        "app/app.qyv",
        format!("name: app\nversion: 1.0.0\ntype: service\nbuild: [./make.sh]\n{functions}"),
    );
}

fn wat(number: u32) -> Vec<u8> {
    wat::parse_str(format!(
        "(module (func (export \"number\") (result i32) i32.const {number}))"
    ))
    .unwrap()
}

// [CMD-052] [CMD-050]
#[test]
fn change_of_a_source_is_built_and_then_answers() {
    let user = User::new();
    project(
        &user,
        "test ! -e broken; cp src/number.wat out/app.wasm; env > out/variables",
    );
    let server = Server::dev(&user, &["app"]);
    answers(&server, 1);
    let variables = fs::read_to_string(user.path("app/out/variables")).unwrap();
    assert!(!variables.contains("QYVOL_"), "{variables}");
    user.write("app/src/number.wat", wat(2));
    answers(&server, 2);
    // A build that fails changes nothing, and is told with its code.
    user.write("app/broken", "");
    server.says("`./make.sh` exited with code 1");
    user.write("app/src/number.wat", wat(3));
    server.says_often("exited with code 1", 2);
    assert_eq!(number(&server), Ok(2));
    fs::remove_file(user.path("app/broken")).unwrap();
    answers(&server, 3);
    // What is made is noticed whoever makes it, also in another directory than before.
    fs::remove_dir_all(user.path("app/out")).unwrap();
    user.write("app/out/app.wasm", wat(4));
    answers(&server, 4);
    // What is ignored is no source.
    let built = server.stderr().matches("build: ./make.sh").count();
    user.write("app/out/notes", "");
    user.write("app/.hidden", "");
    user.write("app/src/number.wat", wat(5));
    answers(&server, 5);
    assert_eq!(server.stderr().matches("build: ./make.sh").count(), built + 1);
    server.end();
}

// [CMD-052]
#[test]
fn first_version_that_can_not_run_is_waited_for() {
    let user = User::new();
    project(&user, "cp src/number.wat out/app.wasm");
    user.write("app/src/number.wat", "no module");
    let mut dev = Server::dev_without_service(&user, &["app"]);
    dev.says("error:");
    user.write("app/src/number.wat", wat(7));
    dev.listens();
    answers(&dev, 7);
    dev.end();
}

// [CMD-052]
#[test]
fn command_is_started_anew_after_each_change() {
    let user = User::new();
    let path = user.app("app", "args: [args, first]\n");
    let dev = Server::dev_without_service(&user, &["app", "--", "more"]);
    dev.says("exited with code 0\nwaiting for changes\n");
    // One that does not end is ended.
    let text = fs::read_to_string(&path).unwrap();
    save(&path, &text.replace("args, first", "spin, first"));
    dev.says("changed: app.qyv\n");
    save(&path, &text.replace("args, first", "exit, \"7\""));
    dev.says("exited with code 7\n");
    // What can't run is told.
    save(&path, "name: app\n");
    dev.says("error:");
    user.write("app/probe.wasm", &PROBE_MODULE[..100]);
    save(&path, &text);
    dev.says_often("error:", 2);
    user.write("app/probe.wasm", PROBE_MODULE);
    dev.says_often("exited with code 0\n", 2);
    let (out, _) = dev.end();
    assert_eq!(out.matches("first\nmore\n").count(), 2, "{out}");
}

/// The processes with this text in their command line.
fn processes(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        if let Ok(line) = fs::read_to_string(entry.path().join("cmdline"))
            && line.contains(text)
        {
            found.push(line.replace('\0', " "));
        }
    }
    found
}

// [CMD-052] [CMD-050]
#[test]
fn end_leaves_no_child_behind() {
    let user = User::new();
    let place = user.path("app").canonicalize().unwrap_or(user.path("app"));
    // A command that runs.
    user.app("app", "args: [spin]\n");
    let dev = Server::dev_without_service(&user, &["app"]);
    dev.says("running unsigned");
    dev.signal(Signal::INT);
    assert_eq!(dev.wait().0.code(), Some(0));
    let text = place.join("app.qyv");
    let is_gone = |text: &str| {
        until(|| match processes(text) {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        });
    };
    is_gone(text.to_str().unwrap());
    let dev = Server::dev_without_service(&user, &["app"]);
    dev.says("running unsigned");
    dev.signal(Signal::KILL);
    is_gone(text.to_str().unwrap());
    // A build that runs, and what it has started.
    project(&user, "touch out/app.wasm; sleep 600.25 & exec sleep 600.25");
    let dev = Server::dev_without_service(&user, &["app"]);
    dev.says("build: ./make.sh");
    dev.signal(Signal::TERM);
    assert_eq!(dev.wait().0.code(), Some(0));
    is_gone("600.25");
}

// [CMD-052] [CMD-050]
#[test]
fn secrets_of_the_environment_are_left_before_anything_is_built() {
    let user = User::new();
    project(
        &user,
        "tr '\\0' '\\n' </proc/$PPID/environ >out/parent; mv out/parent out/own; exit 1",
    );
    let mut command = user.command();
    command
        .args(["dev", "app"])
        .env("QYVOL_KEY", "hidden")
        .env("QYVOL_REGISTRY_TOKEN", "hidden");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let variables = until(|| fs::read_to_string(user.path("app/out/own")).map_err(|error| error.to_string()));
    assert!(
        variables.contains("QYVOL_HOME=") && !variables.contains("hidden"),
        "{variables}"
    );
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
