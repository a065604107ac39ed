//! `qyv init`: each template from the new project to a verified run, by the commands that the
//! project itself names.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::needs::{has, installed, lacks};
use crate::service::Server;
use crate::support::{CommandOutput, User};

/// A new project, and the commands that it names next.
struct Project {
    user: User,
    name: String,
    next: Vec<String>,
    /// Where its tools are.
    path: OsString,
    /// Variables that its tools need.
    variables: Vec<(String, String)>,
}

impl Project {
    #[track_caller]
    fn new(options: &[&str]) -> Project {
        let user = User::new();
        let args = [&["init", "team/my-app", "--format", "json", "--lang"], options].concat();
        let made = user.qyv(&args).expect(0).json();
        let words = |value: &Value| {
            value
                .as_array()
                .unwrap()
                .iter()
                .map(|word| word.as_str().unwrap().to_string())
                .collect()
        };
        let files: Vec<String> = words(&made["files"]);
        for file in ["my-app.qyv", ".gitignore", "README.md", ".github/workflows/release.yml"] {
            assert!(files.iter().any(|one| one == file), "{file}: {files:?}");
        }
        assert!(files.iter().all(|file| user.path("my-app").join(file).is_file()));
        let real = |name: &str| (name.to_string(), std::env::var(name).unwrap_or_default());
        Project {
            path: std::env::var_os("PATH").unwrap_or_default(),
            next: words(&made["next"]),
            name: "my-app".to_string(),
            user,
            variables: ["HOME", "CARGO_HOME", "RUSTUP_HOME"]
                .map(real)
                .into_iter()
                .filter(|(_, value)| !value.is_empty())
                .collect(),
        }
    }

    /// A shell in the project's directory, as its author has it.
    fn shell(&self, line: &str) -> CommandOutput {
        let bin = Path::new(env!("CARGO_BIN_EXE_qyv")).parent().unwrap().to_path_buf();
        let path = std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&self.path))).unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).current_dir(self.user.path(&self.name));
        shell.env_clear().env("QYVOL_HOME", self.user.home()).env("PATH", path);
        shell.envs(self.variables.iter().map(|(name, value)| (name, value)));
        CommandOutput::from(&shell.output().unwrap())
    }

    /// Follows the commands but the last, which runs the application, and returns that.
    #[track_caller]
    fn build(&self) -> &str {
        let (last, others) = self.next.split_last().unwrap();
        for command in others {
            self.shell(command).expect(0);
        }
        let archive = format!("{}/{}.qyvbin", self.name, self.name);
        self.user.qyv(&["verify", &archive]).expect(0);
        last
    }

    /// A server of what was built.
    fn serve(&self) -> Server {
        assert_eq!(self.build(), format!("qyv serve {}.qyvbin", self.name));
        let archive = format!("{}/{}.qyvbin", self.name, self.name);
        Server::start(&self.user, &[], &archive)
    }
}

// [CMD-051]
#[test]
fn project_in_text_format_leads_to_a_verified_call() {
    let project = Project::new(&["wat"]);
    assert_eq!(project.shell(project.build()).expect(0).out, "5\n");
    assert_eq!(project.shell("./test.sh").expect(0).out, "passed\n");
    // The test can fail.
    let manifest = project.user.path("my-app/my-app.qyv");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(manifest, text.replace("i32.add", "i32.sub")).unwrap();
    project.shell("./test.sh").expect(1);
}

// [CMD-051]
#[test]
fn command_in_text_format_leads_to_a_verified_run() {
    let project = Project::new(&["wat", "--type", "cli"]);
    assert_eq!(project.shell(project.build()).expect(0).out, "Hello, world!\n");
    assert_eq!(project.shell("./test.sh").expect(0).out, "passed\n");
}

// [CMD-051]
#[test]
fn service_in_text_format_leads_to_a_verified_answer() {
    let project = Project::new(&["wat", "--type", "service"]);
    let server = project.serve();
    let mut client = server.connect();
    client.send(
        "POST /add HTTP/1.1\r\nHost: 127.0.0.1\r\ncontent-type: application/json\r\nContent-Length: 6\r\n\r\n[2, 3]",
    );
    let answer = client.answer();
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\"result\":5}"));
    assert_eq!(project.shell("./test.sh").expect(0).out, "passed\n");
}

/// Where builds share what they have compiled, from run to run of the suite.
fn shared() -> String {
    let shared = Path::new(env!("CARGO_TARGET_TMPDIR")).join("templates");
    fs::create_dir_all(&shared).unwrap();
    shared.to_str().unwrap().to_string()
}

/// Debian's Rust has no target for components, but the source of the standard library for
/// core modules; rustup's has a linker for it.
fn use_debians_rust(project: &mut Project, kind: &str) {
    let manifest = project.user.path("my-app/my-app.qyv");
    let text = fs::read_to_string(&manifest)
        .unwrap()
        .replace("wasm32-wasip2", "wasm32-wasip1");
    fs::write(manifest, text).unwrap();
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().unwrap();
    let sysroot = String::from_utf8(sysroot.stdout).unwrap();
    let start = if kind == "cli" { "command" } else { "reactor" };
    let flags = [
        format!(
            "-Clinker={}/lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld",
            sysroot.trim()
        ),
        "-Clink-self-contained=no -Clink-arg=-L/usr/lib/wasm32-wasi".to_string(),
        format!("-Clink-arg=/usr/lib/wasm32-wasi/crt1-{start}.o"),
    ];
    let variables = [
        ("RUSTC", "/usr/bin/rustc".to_string()),
        ("RUSTC_BOOTSTRAP", "1".to_string()),
        ("CARGO_UNSTABLE_BUILD_STD", "std,panic_abort".to_string()),
        ("CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS", flags.join(" ")),
    ];
    project
        .variables
        .extend(variables.map(|(name, value)| (name.to_string(), value)));
    for command in &mut project.next {
        *command = command.replace("--run-build", "--run-build --componentize");
    }
}

#[track_caller]
fn rust(kind: &str) -> Project {
    let mut project = Project::new(&["rust", "--type", kind]);
    project.variables.push(("CARGO_TARGET_DIR".to_string(), shared()));
    let tested = project.shell("cargo test").expect(0);
    assert!(tested.out.contains("test result: ok. 1 passed"), "{}", tested.out);
    if !has("wasm32-wasip2") {
        use_debians_rust(&mut project, kind);
    }
    project
}

// [CMD-051]
#[test]
fn projects_in_rust_lead_to_a_verified_run_answer_and_call() {
    if lacks(&["cargo", "rust-wasi"]) {
        return;
    }
    let project = rust("cli");
    assert_eq!(project.shell(project.build()).expect(0).out, "Hello, Ana!\n");
    check_service(&rust("service"));
    // What makes its bindings takes minutes beside a standard library that has to be built first.
    if has("wasm32-wasip2") {
        check_functions(&rust("function"));
    }
}

// [CMD-051]
#[test]
fn projects_in_c_lead_to_a_verified_run_and_call() {
    if lacks(&["make", "wasi-clang"]) {
        return;
    }
    for (kind, says) in [("cli", "Hello, Ana!\n"), ("function", "5\n")] {
        let project = Project::new(&["c", "--type", kind]);
        let tested = project.shell("make test").expect(0);
        assert!(tested.out.ends_with("passed\n"), "{}", tested.out);
        assert_eq!(project.shell(project.build()).expect(0).out, says);
    }
}

/// A project of a language whose tools are installed for the tests, in `tools`.
#[track_caller]
fn with_tools(options: &[&str], tools: &str) -> Project {
    let mut project = Project::new(options);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let bin = installed(tools).join("bin");
    let path = std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&path))).unwrap();
    project.path = path;
    project
}

// [CMD-051]
#[test]
fn command_in_go_leads_to_a_verified_run() {
    if lacks(&["guest-tools"]) {
        return;
    }
    let project = with_tools(&["go"], "guest-tools");
    project.shell("go test ./...").expect(0);
    assert_eq!(project.shell(project.build()).expect(0).out, "Hello, Ana!\n");
}

/// What functions with types of WIT answer, whatever they are written in.
#[track_caller]
fn check_functions(project: &Project) {
    assert_eq!(project.shell(project.build()).expect(0).out, "6\n");
    let greeted = project.shell("qyv call my-app.qyvbin greet '\"Ana\"'").expect(0);
    assert_eq!(greeted.out, "\"Hello, Ana!\"\n");
}

/// What services answer.
#[track_caller]
fn check_service(project: &Project) {
    let server = project.serve();
    assert_eq!(server.get("/Ana").body, "Hello, Ana!\n");
    assert_eq!(server.get("/").body, "Hello, world!\n");
    assert_eq!(server.get("/a/b").status, 404);
}

// [CMD-051]
#[test]
fn projects_in_python_lead_to_a_verified_run_answer_and_call() {
    if lacks(&["guest-tools", "python3"]) {
        return;
    }
    let project = with_tools(&["python"], "guest-tools");
    project.shell("python3 -m unittest").expect(0);
    assert_eq!(project.shell(project.build()).expect(0).out, "Hello, Ana!\n");
    check_service(&with_tools(&["python", "--type", "service"], "guest-tools"));
    check_functions(&with_tools(&["python", "--type", "function"], "guest-tools"));
}

/// A project whose `npm install` has been done.
#[track_caller]
fn javascript(kind: &str) -> Project {
    let mut project = Project::new(&["js", "--type", kind]);
    assert_eq!(project.next.remove(0), "npm install");
    let modules = installed("componentize-js").join("node_modules");
    std::os::unix::fs::symlink(modules, project.user.path("my-app/node_modules")).unwrap();
    project.shell("npm test").expect(0);
    project
}

// [CMD-051]
#[test]
fn projects_in_javascript_lead_to_a_verified_run_answer_and_call() {
    if lacks(&["node", "npm", "componentize-js"]) {
        return;
    }
    let project = javascript("cli");
    assert_eq!(project.shell(project.build()).expect(0).out, "Hello, Ana!\n");
    check_service(&javascript("service"));
    check_functions(&javascript("function"));
}

// [CMD-051]
#[test]
fn project_is_created_as_a_whole_or_not_at_all() {
    let user = User::new();
    user.write("taken/mine", "mine");
    let refused = user.qyv(&["init", "team/taken", "--lang", "wat"]).expect(1);
    assert!(refused.err.contains("can't create taken"), "{}", refused.err);
    for (args, why) in [
        (&["init", "Team", "--lang", "wat"][..], "can't be the name of a project"),
        (&["init", "app.d", "--lang", "wat"], "must begin with a letter"),
        (&["init", "../app", "--lang", "wat"], "can't be the name of a project"),
        (&["init", "app", "--lang", "rust", "--type", "gui"], "invalid value"),
        (&["init", "app"], "--lang"),
    ] {
        let refused = user.qyv(args).expect(2);
        assert!(refused.err.contains(why), "{why}: {}", refused.err);
    }
    assert_eq!(fs::read_to_string(user.path("taken/mine")).unwrap(), "mine");
    assert_eq!(fs::read_dir(user.path("taken")).unwrap().count(), 1);
    let names: Vec<_> = fs::read_dir(user.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(names.iter().all(|name| name == "taken" || name == "home"), "{names:?}");
}

// [CMD-051]
#[test]
fn missing_tools_are_named_with_where_they_are() {
    let user = User::new();
    let made = user
        .command()
        .args(["init", "app", "--lang", "rust"])
        .env("PATH", user.path(""))
        .output()
        .unwrap();
    let made = CommandOutput::from(&made).expect(0);
    assert!(
        made.err.contains("no rustc and no cargo: https://rustup.rs"),
        "{}",
        made.err
    );
    assert!(
        made.err
            .contains("next:\n  cd app\n  qyv build --run-build\n  qyv run app.qyvbin Ana\n"),
        "{}",
        made.err
    );
    let build = user
        .command()
        .args(["build", "--run-build", "app"])
        .env("PATH", user.path(""))
        .output()
        .unwrap();
    let failed = CommandOutput::from(&build).expect(1);
    assert!(
        failed.err.contains("can't start `cargo`") && failed.err.contains("https://rustup.rs"),
        "{}",
        failed.err
    );
}
