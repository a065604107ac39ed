//! The command line: help, formats, completion and exit codes.

use std::process::{Command, Stdio};

use crate::support::User;

#[test]
fn help_names_every_command_and_errors_have_their_form() {
    let user = User::new();
    let help = user.qyv(&["--help"]).expect(0).out;
    for command in [
        "validate",
        "build",
        "sign",
        "keys",
        "verify",
        "run",
        "inspect",
        "images",
        "tag",
        "rm",
        "prune",
        "check",
        "save",
        "load",
        "trust",
        "doctor",
        "quickstart",
        "completions",
        "version",
    ] {
        assert!(help.contains(&format!("  {command} ")), "{command} in {help}");
        let text = user.qyv(&[command, "--help"]).expect(0).out;
        assert!(text.contains("Usage: qyv"), "{text}");
    }
    for args in [
        &["no-such"][..],
        &["build", "--no-such"],
        &["run"],
        &["tag", "a"],
        &["build", "--key", "x", "--no-sign"],
    ] {
        let done = user.qyv(args).expect(2);
        assert!(done.err.starts_with("error:") && done.out.is_empty(), "{done:?}");
    }
    let done = user.qyv(&["inspect", "nothing:1"]).expect(1);
    assert!(
        done.err.starts_with("error: ") && done.err.contains("\nhint: "),
        "{}",
        done.err
    );
    let done = user.qyv(&["inspect", "Not/A Name"]).expect(2);
    assert!(
        done.err.contains("neither a path nor the name of an image"),
        "{}",
        done.err
    );
}

// [BIN-041]
#[test]
fn json_of_every_command_that_prints_data_is_json() {
    let user = User::new();
    user.component_app("app", "");
    let app = "app.qyvbin".to_string();
    user.qyv(&["build", "app", "-o", &app]).expect(0);
    for args in [
        &["validate", "app"][..],
        &["build", "app", "-o", "b.qyvbin"],
        &["sign", &app],
        &["verify", &app],
        &["inspect", &app],
        &["inspect", "app/probe.wasm"],
        &["images"],
        &["tag", "app:1.0.0", "x:1"],
        &["rm", "x:1"],
        &["prune", "--dry-run"],
        &["check"],
        &["save", "app:1.0.0", "-o", "s.qyvbin"],
        &["load", &app],
        &["keys", "list"],
        &["keys", "show"],
        &["trust", "show"],
        &["version"],
    ] {
        let done = user.qyv(&[args, &["--format", "json"]].concat()).expect(0);
        let value = done.json();
        assert!(value["schema"] == 1, "{args:?}: {value}");
    }
    for args in [&["build", "app", "-o", "b.qyvbin"][..], &["inspect", &app]] {
        let value = user.qyv(&[args, &["--format", "json"]].concat()).expect(0).json();
        assert!(value["digest"].as_str().unwrap().starts_with("sha256:"), "{value}");
    }
    let yaml = user.qyv(&["inspect", &app, "--format", "yaml"]).expect(0).out;
    assert!(yaml.contains("digest: sha256:"), "{yaml}");
    let wit = user.qyv(&["inspect", &app, "--wit"]).expect(0).out;
    assert!(wit.contains("export wasi:cli/run@"), "{wit}");
    let bad = user.write("bad.qyv", "name: A\nentrypoint: a.wasm\n");
    let done = user
        .qyv(&["validate", bad.to_str().unwrap(), "--format", "json"])
        .expect(1);
    assert_eq!(done.json()["problems"][0]["line"], 1);
}

#[test]
fn problems_of_a_manifest_show_line_column_caret_and_nearest_key() {
    let user = User::new();
    user.write("bad.qyv", "name: app\nentrypoint: a.wasm\npermisions:\n  fs: none\n");
    let done = user.qyv(&["validate", "bad.qyv"]).expect(1);
    for part in [
        "bad.qyv:3:1: unknown key `permisions`",
        "3 | permisions:",
        "  | ^^^^^^^^^^",
        "did you mean `permissions`?",
    ] {
        assert!(done.err.contains(part), "{part} in {}", done.err);
    }
}

#[test]
fn colour_and_progress_stay_out_of_pipes_and_quiet_is_quiet() {
    let user = User::new();
    user.app("app", "");
    let done = user.qyv(&["build", "app", "-o", "x.qyvbin", "--quiet"]).expect(0);
    assert_eq!(done.err, "");
    assert!(done.out.starts_with("sha256:"));
    let done = user.qyv(&["run", "nothing:1"]).expect(125);
    assert!(!done.err.contains('\u{1b}'), "{:?}", done.err);
    let names = user.write("evil.qyvbin", "");
    std::fs::rename(names, user.path("evil\u{1b}[31m.qyvbin")).unwrap();
    let done = user.qyv(&["verify", "evil\u{1b}[31m.qyvbin"]).expect(16);
    assert!(
        !done.err.contains('\u{1b}') && done.err.contains("\\u{1b}"),
        "{:?}",
        done.err
    );
}

#[test]
fn closed_stdout_does_not_panic() {
    let user = User::new();
    let mut child = user
        .command()
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
}

// [CMD-030]
#[test]
fn shell_completes_names_of_images_and_keys_and_writes_nothing() {
    let user = User::new();
    // Readline passes the word that it will replace, which begins behind any
    // of these.
    let complete = |line: &str| {
        let word = line.rsplit([' ', ':', '=', '@']).next().unwrap();
        let script = format!(
            "source <(qyv completions bash); COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; \
             _qyv qyv '{word}' ''; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let bin = std::path::Path::new(env!("CARGO_BIN_EXE_qyv")).parent().unwrap();
        let path = std::env::join_paths([bin, "/usr/bin".as_ref(), "/bin".as_ref()]).unwrap();
        let mut bash = Command::new("bash");
        bash.args(["-c", &script]).env_clear().env("PATH", path);
        bash.env("QYVOL_HOME", user.home()).current_dir(user.path("."));
        let done = crate::support::third_party("bash", &mut bash).expect(0);
        // Options are offered beside the values.
        let values = done
            .out
            .lines()
            .filter(|value| !value.starts_with('-') && !value.is_empty());
        values.map(str::to_string).collect::<Vec<_>>()
    };
    assert_eq!(complete("qyv verify "), Vec::<String>::new());
    assert!(user.stored().is_empty() && !user.home().exists());
    user.built("app", "");
    user.qyv(&["tag", "app:1.0.0", "registry.example:5000/team/app:2"])
        .expect(0);
    assert_eq!(
        complete("qyv verify "),
        [
            "app:1.0.0",
            "registry.example:5000/team/app:2",
            "app.qyvbin",
            "app/",
            "home/"
        ]
    );
    assert_eq!(complete("qyv run ap"), ["app:1.0.0", "app.qyvbin", "app/"]);
    assert_eq!(complete("qyv rm app:"), ["1.0.0"]);
    assert_eq!(complete("qyv tag registry.example:5000/t"), ["5000/team/app:2"]);
    assert_eq!(complete("qyv sign --key d"), ["default"]);
    assert_eq!(complete("qyv keys show d"), ["default"]);
    assert_eq!(complete("qyv run app:1.0.0 app.qyv"), ["app.qyvbin"]);
    assert_eq!(complete("qyv verif"), ["verify"]);
    assert_eq!(complete("qyv sign --key=d"), ["default"]);
    assert_eq!(complete("qyv verify ./app.qyvb"), ["./app.qyvbin"]);
    let digest = user.qyv(&["inspect", "app:1.0.0", "--format", "json"]).expect(0).json()["digest"].clone();
    let pinned = format!("r.example/app@{}", digest.as_str().unwrap());
    user.qyv(&["tag", "app:1.0.0", "r.example/app:1"]).expect(0);
    assert_eq!(complete("qyv tag r.example/app:"), ["1"], "{pinned}");
    // Bash inserts what it is given: a name that would be code is not offered.
    for name in [
        "$(id).qyvbin",
        "q;id.qyvbin",
        "a b.qyvbin",
        "`id`.qyvbin",
        "[a]*.qyvbin",
        "n\nm.qyvbin",
    ] {
        user.write(name, "");
    }
    assert_eq!(complete("qyv verify [").len() + complete("qyv verify q").len(), 0);
    let offered = complete("qyv verify ./");
    assert_eq!(offered, ["./app.qyvbin", "./app/", "./home/"]);
    for hidden in ["qyv ref", "qyv ma", "qyv check --m"] {
        let offered = complete(hidden);
        assert!(offered.iter().all(|name| name.is_empty()), "{offered:?}");
    }
    for shell in ["fish", "zsh", "elvish", "powershell"] {
        let mut command = user.command();
        command
            .env("QYVOL_COMPLETE", shell)
            .env("_CLAP_COMPLETE_INDEX", "1")
            .args(["--", "qyv", "ref"]);
        assert!(
            !crate::support::CommandOutput::from(&command.output().unwrap())
                .out
                .contains("reference"),
            "{shell}"
        );
    }
    let commands = complete("qyv ");
    assert!(
        commands.contains(&"build".to_string()) && !commands.contains(&"man".to_string()),
        "{commands:?}"
    );
}

#[test]
fn completions_man_pages_and_quickstart_work() {
    let user = User::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(
            user.qyv(&["completions", shell]).expect(0).out.contains("qyv"),
            "{shell}"
        );
    }
    user.qyv(&["man", "pages"]).expect(0);
    assert!(user.path("pages/qyv-run.1").is_file());
    let done = user.qyv(&["quickstart"]).expect(0);
    assert_eq!(done.out, "¡Hola desde Qyvol WASI!\n".repeat(3));
    for step in ["build", "sign", "inspect", "push", "pull", "verify", "refused", "run"] {
        assert!(done.err.contains(step), "{step} in {}", done.err);
    }
    assert!(user.stored().is_empty(), "the user's own store is left alone");
}

/// Many distributions give every user a group, and a umask that lets it write.
#[test]
fn quickstart_works_whatever_the_umask() {
    let user = User::new();
    for (umask, args) in [("0000", &[][..]), ("0002", &["--keep", "tour"]), ("0077", &[])] {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("umask {umask}; exec \"$0\" quickstart \"$@\"")]);
        shell.arg(env!("CARGO_BIN_EXE_qyv")).args(args);
        user.inside("dash", &mut shell).expect(0);
    }
}

#[test]
fn reference_in_the_specification_is_the_commands_own() {
    let user = User::new();
    let own = user.qyv(&["reference"]).expect(0).out;
    assert!(own == include_str!("../../spec/cli.md"), "run `cargo xtask docs`");
}

#[test]
fn failed_write_to_stdout_is_an_error() {
    let user = User::new();
    let mut command = user.command();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = command.arg("version").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("can't write to stdout"));
}

#[test]
fn topics_are_in_the_binary_and_help_is_of_every_command() {
    let user = User::new();
    for (topic, text) in [
        ("manifest", "Only name and entrypoint are required"),
        ("permissions", "A call that is denied returns an error"),
        ("trust", "The most specific rule decides"),
        ("directories", "Without QYVOL_HOME"),
        ("pipelines", "QYVOL_KEY_FILE"),
    ] {
        let done = user.qyv(&["help", topic]).expect(0);
        assert!(done.out.contains(text) && done.err.is_empty(), "{topic}: {done:?}");
    }
    assert_eq!(user.qyv(&["help"]).expect(0).out, user.qyv(&["--help"]).expect(0).out);
    assert_eq!(
        user.qyv(&["help", "keys", "show"]).expect(0).out,
        user.qyv(&["keys", "show", "--help"]).expect(0).out
    );
    let done = user.qyv(&["help", "no-such"]).expect(2);
    assert!(done.err.contains("hint: `qyv help`"), "{}", done.err);
}

#[test]
fn verbose_commands_report_their_steps_with_their_times() {
    let user = User::new();
    user.app("app", "");
    let steps = |args: &[&str], expected: &[&str]| {
        let done = user.qyv(args).expect(0);
        for step in expected {
            let told = done
                .err
                .lines()
                .any(|line| line.trim_start().starts_with(step) && line.ends_with('s'));
            assert!(told, "{step} in {}", done.err);
        }
    };
    steps(&["-v", "build", "app", "-o", "app.qyvbin"], &["building", "writing"]);
    steps(&["-v", "verify", "app.qyvbin"], &["verifying"]);
    steps(&["-v", "save", "app:1.0.0", "-o", "saved.qyvbin"], &["saving"]);
    let quiet = user.qyv(&["verify", "app.qyvbin"]).expect(0);
    assert!(!quiet.err.contains("verifying"), "{}", quiet.err);
}
