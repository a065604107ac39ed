//! What the operator gives a guest on the command line, and what is told of
//! its end.

use std::fs;

use serde_json::Value;

use crate::support::{CommandOutput, User};

// [RUN-040]
#[test]
fn everything_after_the_target_is_the_guests() {
    let user = User::new();
    let app = user.built("app", "args: [args]\n");
    let guest = |args: &[&str]| {
        let args = [&["run", "-q", app.as_str()], args].concat();
        user.qyv(&args).expect(0).out
    };
    for words in [
        &["-v", "--key", "x", "-e"][..],
        &["--help"],
        &["--version", "-q"],
        &["word", "--", "-v"],
        &["--env=A=b", "-", ""],
    ] {
        let expected = format!("app\nargs\n{}\n", words.join("\n"));
        assert_eq!(guest(words), expected);
        // A leading `--` is dropped, one of them.
        assert_eq!(guest(&[&["--"], words].concat()), expected);
    }
    assert_eq!(guest(&["--", "--", "x"]), "app\nargs\n--\nx\n");
    user.qyv(&["run", "--no-such", &app]).expect(2);
}

// [RUN-041]
#[test]
fn variables_come_from_flags_files_and_the_environment_the_last_one_decides() {
    let user = User::new();
    let app = user.built("app", "args: [env]\nenv: { A: manifest, B: manifest }\n");
    user.write("vars", "# comment\n\nB=file\nC=a b=c # kept\n  D=file\nHANDED\n");
    let mut command = user.command();
    command.env("HANDED", "over").env("NOT_HANDED", "secret");
    command.args([
        "run",
        "--env-file",
        "vars",
        "-e",
        "D=flag",
        "--env",
        "E=",
        "-e",
        "HANDED",
        &app,
    ]);
    let done = CommandOutput::from(&command.output().unwrap()).expect(0);
    assert_eq!(
        done.out,
        "A=manifest\nB=file\nC=a b=c # kept\nD=flag\nE=\nHANDED=over\n"
    );
    for (args, text) in [
        (&["-e", "ABSENT"][..], "--env ABSENT: ABSENT is not set"),
        (&["-e", "=x"], "NAME or NAME=VALUE is expected"),
        (&["--env-file", "absent"], "--env-file: can't read absent"),
        (&["--env-file", "."], "it is not a file"),
        (&["--secret", "A"], "NAME=FILE is expected"),
    ] {
        let done = user.qyv(&[&["run"], args, &[app.as_str()]].concat()).expect(125);
        assert!(done.err.contains(text), "{args:?}: {}", done.err);
        assert_eq!(done.out, "", "{args:?}");
    }
    user.write("bad", "A=1\n=nothing\n");
    let done = user.qyv(&["run", "--env-file", "bad", &app]).expect(125);
    assert!(done.err.contains("bad:2"), "{}", done.err);
}

// [RUN-042]
#[test]
fn secret_reaches_the_guest_and_nobody_else() {
    let user = User::new();
    let app = user.built("app", "args: [env]\n");
    for (content, value) in [
        ("hunter2\n", "hunter2"),
        ("hunter2", "hunter2"),
        ("hunter2\r\n", "hunter2"),
        ("hunter2 \n\n", "hunter2 \n"),
    ] {
        user.write("secret", content);
        let done = user.qyv(&["run", "-q", "--secret", "TOKEN=secret", &app]).expect(0);
        assert_eq!(done.out, format!("TOKEN={value}\n"));
    }
    let report = user.path("report.json");
    let args = [
        "-v",
        "--report",
        "report.json",
        "--secret",
        "TOKEN=secret",
        &app,
        "exit",
        "0",
    ];
    let done = user.qyv(&[&["run"], &args[..]].concat()).expect(0);
    assert!(!done.err.contains("hunter2"), "{}", done.err);
    assert!(!fs::read_to_string(report).unwrap().contains("hunter2"));
    for content in [&b"nul\0"[..], b"\xff", &[b'x'; (1 << 20) + 1]] {
        user.write("secret", content);
        let done = user.qyv(&["run", "--secret", "TOKEN=secret", &app]).expect(125);
        assert!(done.err.contains("--secret"), "{}", done.err);
    }
}

// [RUN-043]
#[test]
fn report_says_who_ended_the_run() {
    let user = User::new();
    let app = user.built("app", "resources: { timeout: 10s }\n");
    let quick = user.built("quick", "resources: { timeout: 100ms }\n");
    let stranger = User::new();
    fs::copy(user.path(&app), stranger.path(&app)).unwrap();
    let mut number = 0;
    let mut report = |user: &User, args: &[&str], code: i32| -> Value {
        number += 1;
        let file = format!("report-{number}.json");
        user.qyv(&[&["run", "--report", &file], args].concat()).expect(code);
        let value: Value = serde_json::from_slice(&fs::read(user.path(&file)).unwrap()).unwrap();
        assert_eq!(value["schema"], 1);
        assert_eq!(value["code"], code);
        value
    };
    for code in [0, 124, 125, 126, 134] {
        let value = report(&user, &[&app, "exit", &code.to_string()], code);
        assert_eq!(value["endedBy"], "guest");
        assert_eq!(value["exitCode"], code);
        assert_eq!(value["target"], app.as_str());
        assert!(value["digest"].as_str().unwrap().starts_with("sha256:"), "{value}");
    }
    let value = report(&user, &[&quick, "spin"], 124);
    assert_eq!(
        (&value["endedBy"], &value["limitMilliseconds"]),
        (&"timeout".into(), &100.into())
    );
    let value = report(&user, &[&app, "trap"], 134);
    assert_eq!(value["endedBy"], "trap");
    let value = report(&user, &["missing:1"], 125);
    assert_eq!(value["endedBy"], "qyv");
    assert!(value["reason"].as_str().unwrap().contains("missing:1"), "{value}");
    let value = report(&stranger, &[&app], 126);
    assert_eq!(value["endedBy"], "trust");
    assert!((10..=19).contains(&value["verdict"].as_u64().unwrap()), "{value}");
    assert_eq!(value["digest"], Value::Null);
}

// [RUN-067]
#[test]
fn figures_of_a_run_are_printed_and_reported() {
    let user = User::new();
    let app = user.built("app", "");
    let done = user
        .qyv(&["run", "--stats", "--report", "r.json", &app, "exit", "3"])
        .expect(3);
    for row in [
        "verify",
        "load",
        "instantiate",
        "execute",
        "processor",
        "memory",
        "process",
    ] {
        assert!(
            done.err.lines().any(|line| line.trim().starts_with(row)),
            "{row}: {}",
            done.err
        );
    }
    assert!(done.err.contains("\n  denied       0 calls\n"), "{}", done.err);
    let report = |file: &str| -> Value { serde_json::from_slice(&fs::read(user.path(file)).unwrap()).unwrap() };
    let figures = &report("r.json")["figures"];
    assert!(figures["steps"]["verify"].as_f64().unwrap() > 0.0, "{figures}");
    assert!(figures["execute"].as_f64().unwrap() > 0.0, "{figures}");
    assert!(figures["memory"].as_u64().unwrap() >= 65_536, "{figures}");
    // What it writes is counted.
    let done = user
        .qyv(&["run", "--report", "e.json", "--env", "A=b", &app, "env"])
        .expect(0);
    let figures = &report("e.json")["figures"];
    assert_eq!(figures["output"], (done.out.len() + done.err.len()) as u64);
    assert_eq!(figures["denied"], 0);
    // A guest that does not come to an end has steps alone.
    let quick = user.built("quick", "resources: { timeout: 100ms }\n");
    user.qyv(&["run", "--stats", "--report", "t.json", &quick, "spin"])
        .expect(124);
    let figures = &report("t.json")["figures"];
    assert!(
        figures["steps"]["load"].is_number() && figures["execute"].is_null(),
        "{figures}"
    );
    // As JSON it is the report.
    let done = user
        .qyv(&[
            "run", "--format", "json", "--stats", "--report", "j.json", &app, "exit", "3",
        ])
        .expect(3);
    let line: Value = serde_json::from_str(&done.err).unwrap();
    assert!(
        done.err.lines().count() == 1 && line == report("j.json"),
        "{}",
        done.err
    );
    // Without the option nothing is printed.
    let done = user.qyv(&["run", &app, "exit", "0"]).expect(0);
    assert_eq!(done.err, "");
}

// [RUN-043]
#[test]
fn report_is_always_a_new_file_and_is_there_before_the_guest() {
    let user = User::new();
    let app = user.built("app", "");
    user.write("report.json", "another run's");
    std::os::unix::fs::symlink("elsewhere", user.path("link")).unwrap();
    for file in ["report.json", "link", "absent/report.json"] {
        let done = user.qyv(&["run", "--report", file, &app, "args"]).expect(125);
        assert_eq!(done.out, "", "no guest was started");
        assert!(done.err.contains("can't make the report"), "{}", done.err);
    }
    assert_eq!(fs::read_to_string(user.path("report.json")).unwrap(), "another run's");
    assert!(!user.path("elsewhere").exists());
}

#[test]
fn line_of_an_env_file_that_is_no_variable_is_not_repeated() {
    let user = User::new();
    let app = user.built("app", "");
    user.write("e", "KEY=-----BEGIN\nSECRETLINE\n");
    let done = user.qyv(&["run", "--env-file", "e", &app, "env"]).expect(125);
    assert!(
        done.err.contains("e:2") && !done.err.contains("SECRETLINE"),
        "{}",
        done.err
    );
}

#[test]
fn key_and_policy_do_not_both_decide() {
    let user = User::new();
    let app = user.built("app", "");
    user.write("k.pub", user.qyv(&["keys", "export"]).expect(0).out);
    let done = user
        .qyv(&["verify", "--policy", "home/trust.yaml", "--key", "k.pub", &app])
        .expect(2);
    assert!(done.err.contains("can't be used together"), "{}", done.err);
}
