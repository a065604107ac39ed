//! The transcripts of README.md and of the guide, run as they stand.
//!
//! A block ```` ```console ```` is a session: each line behind `$ ` is given to
//! one shell, in a directory with the files of the blocks ```` ```yaml file=… ````,
//! and with the components of [`EXAMPLES`] for a page of the guide, or `examples/hello` for
//! README.md. What it prints, on both streams, must be what follows,
//! where `…` stands for anything in a line, or alone for any lines. A code other
//! than 0 is told by `(exit code N)`. `cargo xtask tidy` holds the translations' blocks equal.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::needs::lacks;
use crate::registry::Server;
use crate::support::User;

/// The port of the registry that the pages speak of.
const PORT: &str = ":5000";

/// The examples that pages use: `examples/hello/hello.component.wasm` is their
/// `hello.wasm`.
const EXAMPLES: &[&str] = &[
    "hello",
    "fetch",
    "notes",
    "weather",
    "http-hello",
    "tick",
    "calc",
    "kitchen",
    "kitchen/menu",
    "kitchen/prices",
];

struct Step {
    line: usize,
    command: String,
    expected: Vec<String>,
}

/// The sessions of a page, and the files that it has written before.
fn read(page: &str) -> (Vec<(String, String)>, Vec<Step>) {
    let (mut files, mut steps): (Vec<(String, String)>, Vec<Step>) = (Vec::new(), Vec::new());
    let mut fence = None;
    for (index, line) in page.lines().enumerate() {
        match (line.strip_prefix("```"), fence) {
            (Some(info), None) => {
                fence = Some(info);
                if let Some((_, name)) = info.split_once(" file=") {
                    files.push((name.to_string(), String::new()));
                }
            }
            (Some(_), Some(_)) => fence = None,
            (None, Some("console")) => match line.strip_prefix("$ ") {
                Some(command) => steps.push(Step {
                    line: index + 1,
                    command: command.to_string(),
                    expected: Vec::new(),
                }),
                None => steps.last_mut().unwrap().expected.push(line.to_string()),
            },
            (None, Some(info)) if info.contains(" file=") => {
                let (_, text) = files.last_mut().unwrap();
                text.push_str(line);
                text.push('\n');
            }
            _ => {}
        }
    }
    (files, steps)
}

/// Whether a line is what is expected, `…` being anything.
fn fits(expected: &str, line: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(rest) = parts.next().and_then(|start| line.strip_prefix(start)) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    let mut rest = rest;
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// The same of many lines, where `…` alone is any number of them.
fn all_fit(expected: &[String], lines: &[String]) -> bool {
    match expected.split_first() {
        None => lines.is_empty(),
        Some((first, rest)) if first == "…" => (0..=lines.len()).any(|skipped| all_fit(rest, &lines[skipped..])),
        Some((first, rest)) => lines
            .split_first()
            .is_some_and(|(line, others)| fits(first, line) && all_fit(rest, others)),
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Follows a page of the guide, beside `hello.qyv` and the components.
fn run(name: &str) {
    let user = User::new();
    for example in EXAMPLES {
        let name = example.rsplit('/').next().unwrap();
        let component = format!("examples/{example}/{name}.component.wasm");
        fs::copy(root().join(component), user.path(&format!("{name}.wasm"))).unwrap();
    }
    user.write("hello.qyv", "name: hello\nversion: 1.0.0\nentrypoint: hello.wasm\n");
    follow(&user, &format!("spec/guide/{name}"));
}

/// Runs the sessions of a page in the user's directory.
fn follow(user: &User, name: &str) {
    let page = fs::read_to_string(root().join(name)).unwrap();
    for (use_of, program) in [("$ curl ", "curl"), ("$ tar --zstd ", "zstd")] {
        if page.contains(use_of) && lacks(&[program]) {
            return;
        }
    }
    let server = page.contains(PORT).then(|| Server::hub(&[]));
    let address = server.as_ref().map_or(PORT, |server| &server.address);
    let port = &address[address.rfind(':').unwrap()..];
    let (files, steps) = read(&page);
    assert!(!steps.is_empty());
    for (file, text) in files {
        // What the repository has is shown as it is.
        if let Ok(there) = fs::read_to_string(root().join(&file)) {
            assert_eq!(text, there, "{name}: {file}");
        }
        let file = user.write(&file, text.replace(PORT, port));
        fs::set_permissions(file, fs::Permissions::from_mode(0o664)).unwrap();
    }
    // Many distributions give every user a group, and let it write what the user makes.
    fs::set_permissions(user.path(""), fs::Permissions::from_mode(0o775)).unwrap();
    let mut script = "umask 0002\n".to_string();
    // One shell for the whole page; a line of its own tells where a command ends.
    for step in &steps {
        let command = step.command.replace(PORT, port);
        script.push_str(&format!("{{ {command}\n}} 2>&1\nprintf '\\n\\036%s\\n' \"$?\"\n"));
    }
    let bin = Path::new(env!("CARGO_BIN_EXE_qyv")).parent().unwrap();
    let path = std::env::join_paths([bin, "/usr/bin".as_ref(), "/bin".as_ref()]).unwrap();
    let mut shell = Command::new("bash");
    shell.args(["-c", &script]).env_clear().env("PATH", path);
    shell
        .env("HOME", user.path("home"))
        .env("LC_ALL", "C.UTF-8")
        .current_dir(user.path("."));
    let output = shell.output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap().replace(port, PORT);
    let mut parts = printed.split('\u{1e}');
    let mut text = parts.next().unwrap().to_string();
    for step in &steps {
        let (code, next) = parts.next().unwrap().split_once('\n').unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        // An error is never part of what was left out.
        let told = step.expected.last().is_some_and(|line| line.starts_with("(exit code "));
        if code != "0" {
            lines.push(format!("(exit code {code})"));
        }
        assert!(
            told == (code != "0") && all_fit(&step.expected, &lines),
            "{name}:{}: $ {}\nexpected:\n{}\ngot:\n{}",
            step.line,
            step.command,
            step.expected.join("\n"),
            lines.join("\n")
        );
        text = next.to_string();
    }
}

/// As for a reader who stays in the repository.
#[test]
fn readme_matches_the_command() {
    let user = User::new();
    let component = "examples/hello/hello.component.wasm";
    user.write(component, fs::read(root().join(component)).unwrap());
    follow(&user, "README.md");
}

#[test]
fn start_page_matches_the_command() {
    run("start.md");
}

#[test]
fn application_page_matches_the_command() {
    run("application.md");
}

#[test]
fn trust_page_matches_the_command() {
    run("trust.md");
}

#[test]
fn permissions_page_matches_the_command() {
    run("permissions.md");
}

#[test]
fn examples_page_matches_the_command() {
    run("examples.md");
}

// [CALL-001]
#[test]
fn composition_page_matches_the_command() {
    run("composition.md");
}

#[test]
fn functions_page_matches_the_command() {
    run("functions.md");
}

#[test]
fn pipeline_page_matches_the_command() {
    run("pipeline.md");
}

#[test]
fn host_page_matches_the_command() {
    run("host.md");
}

// [SIGN-044]
#[test]
fn fleet_page_matches_the_command() {
    run("fleet.md");
}

#[test]
fn problems_page_matches_the_command() {
    run("problems.md");
}

#[test]
fn air_gap_page_matches_the_command() {
    run("air-gap.md");
}

#[test]
fn hub_page_matches_the_command() {
    run("hub.md");
}
