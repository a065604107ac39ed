//! The pipelines of `examples/pipelines`, each run as its service runs it, up
//! to a verified run on a host whose policy came from the documented steps.
//!
//! What the services give: GitHub runs a step with `bash -e`, sets `CI`, and
//! passes a missing secret as empty text. GitLab joins the script's lines into
//! one shell with `set -eo pipefail`, runs it with the umask 0 in a container,
//! writes a variable of type File with mode 0666 and leaves out a variable that
//! the job may not see.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::needs::lacks;
use crate::registry::Server;
use crate::support::{CommandOutput, User, third_party};

const GITHUB: &str = include_str!("../../examples/pipelines/github-actions.yml");
const GITLAB: &str = include_str!("../../examples/pipelines/gitlab-ci.yml");
const README: &str = include_str!("../../examples/pipelines/README.md");
const PASSWORD: &str = "a registry's token";

/// A registry that wants a password, a publisher and their repository.
struct Stage {
    publisher: User,
    server: Server,
    key: String,
}

fn stage() -> Stage {
    let publisher = User::new();
    let users = publisher.path("users.json");
    let add = [
        "hub",
        "user",
        "add",
        "publisher",
        "--users",
        "users.json",
        "--allow",
        "*=read,write",
    ];
    publisher.qyv_with_input(&add, PASSWORD).expect(0);
    let mut all: serde_json::Value = serde_json::from_slice(&fs::read(&users).unwrap()).unwrap();
    all["anonymous_read"] = true.into();
    fs::write(&users, all.to_string()).unwrap();
    let server = Server::hub(&["--users", users.to_str().unwrap()]);
    // The documented steps, on a machine of the publisher's.
    publisher.qyv(&["keys", "generate", "release"]).expect(0);
    let key = publisher
        .qyv(&["keys", "export", "release", "--private", "--unencrypted"])
        .expect(0)
        .out;
    publisher.app("app", "");
    let manifest = "name: team/app\nversion: 1.4.0\nentrypoint: probe.wasm\nassets: [\"**\"]\n";
    publisher.write("app/app.qyv", manifest);
    publisher.write("app/page.html", "page");
    for args in [
        &["init", "-q"][..],
        &["add", "."],
        &[
            "-c",
            "user.name=p",
            "-c",
            "user.email=p@x.example",
            "commit",
            "-qm",
            "release",
        ],
    ] {
        let mut git = Command::new("git");
        git.args(args).current_dir(publisher.path("app"));
        third_party("git", git.env("HOME", publisher.path(""))).expect(0);
    }
    Stage { publisher, server, key }
}

impl Stage {
    /// A shell of the service's, with the binary under test as `qyv`.
    fn shell(&self, args: &[&str], script: &str, env: &BTreeMap<String, String>) -> CommandOutput {
        let bin = self.publisher.path("bin");
        if !bin.exists() {
            fs::create_dir(&bin).unwrap();
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_qyv"), bin.join("qyv")).unwrap();
        }
        let mut shell = Command::new("bash");
        shell.args(args).arg(script).env_clear().envs(env);
        shell
            .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display()))
            .env("HOME", self.publisher.path("runner"))
            .current_dir(self.publisher.path("app"));
        fs::create_dir_all(self.publisher.path("runner")).unwrap();
        third_party("bash", &mut shell)
    }

    /// A host of the documented policy takes what was pushed.
    fn host_runs(&self) {
        let host = User::new();
        host.write(
            "release.pub",
            self.publisher.qyv(&["keys", "export", "release"]).expect(0).out,
        );
        let documented = README.lines().find(|line| line.starts_with("qyv trust add ")).unwrap();
        let command = documented
            .replace("registry.example", &self.server.address)
            .replace('\'', "");
        let words: Vec<&str> = command.split(' ').skip(1).collect();
        host.qyv(&words).expect(0);
        let name = self.server.name("team/app:1.4.0");
        let done = host.qyv(&["run", &name, "--", "cat", "/assets/page.html"]).expect(0);
        assert_eq!(done.out, "page");
        // The key and the repository's data were not packed.
        let assets = host.qyv(&["inspect", "--assets", &name]).expect(0).out;
        assert_eq!(assets.lines().count(), 1, "{assets}");
    }
}

fn yaml(text: &str) -> serde_json::Value {
    serde_yaml::from_str(text).unwrap()
}

/// Runs GitHub's job; the first step that fails ends it.
fn github(stage: &Stage, secret: &str) -> CommandOutput {
    let job = yaml(GITHUB)["jobs"]["release"].clone();
    let fill = |text: &str| {
        text.replace("${{ github.repository }}", "Team/App")
            .replace("${{ secrets.QYVOL_KEY }}", secret)
            .replace("${{ secrets.GITHUB_TOKEN }}", PASSWORD)
            .replace("ghcr.io", &stage.server.address)
    };
    let variables = |value: &serde_json::Value| -> BTreeMap<String, String> {
        let entries = value.as_object().into_iter().flatten();
        entries
            .map(|(name, value)| (name.clone(), fill(value.as_str().unwrap())))
            .collect()
    };
    let mut env = variables(&job["env"]);
    for (name, value) in [
        ("CI", "true"),
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_ACTOR", "publisher"),
        ("GITHUB_REPOSITORY", "Team/App"),
        ("GITHUB_REF_NAME", "v1.4.0"),
    ] {
        env.insert(name.to_string(), value.to_string());
    }
    let steps = job["steps"].as_array().unwrap().iter();
    let mut last = None;
    for step in steps.filter(|step| step["run"].is_string()) {
        let script = fill(step["run"].as_str().unwrap());
        if script.starts_with("cargo install") {
            continue;
        }
        let mut env = env.clone();
        env.extend(variables(&step["env"]));
        let done = stage.shell(&["-e", "-c"], &script, &env);
        if done.code != 0 {
            return done;
        }
        last = Some(done);
    }
    last.unwrap()
}

/// Runs GitLab's job; `key` is the path of the file variable.
fn gitlab(stage: &Stage, key: Option<&str>) -> CommandOutput {
    let job = yaml(GITLAB)["release"].clone();
    let mut env: BTreeMap<String, String> = [
        ("CI", "true".to_string()),
        ("GITLAB_CI", "true".to_string()),
        ("CI_COMMIT_TAG", "v1.4.0".to_string()),
        ("CI_COMMIT_TIMESTAMP", "2026-01-31T12:00:00+01:00".to_string()),
        ("CI_REGISTRY", stage.server.address.clone()),
        ("CI_REGISTRY_IMAGE", stage.server.name("team/app")),
        ("CI_REGISTRY_USER", "publisher".to_string()),
        ("CI_REGISTRY_PASSWORD", PASSWORD.to_string()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_string(), value))
    .collect();
    env.extend(key.map(|key| ("RELEASE_KEY".to_string(), key.to_string())));
    for (name, value) in job["variables"].as_object().unwrap() {
        let value = env[value.as_str().unwrap().trim_start_matches('$')].clone();
        env.insert(name.clone(), value);
    }
    let lines = job["script"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap());
    let lines: Vec<&str> = lines.filter(|line| !line.starts_with("cargo install")).collect();
    let script = format!("set -eo pipefail\numask 0000\n{}", lines.join("\n"));
    stage.shell(&["-c"], &script, &env)
}

// [CMD-001] [CMD-002]
#[test]
fn pipeline_for_github_ends_in_a_verified_run_on_a_host() {
    if lacks(&["git"]) {
        return;
    }
    let stage = stage();
    let missing = github(&stage, "");
    assert_ne!(missing.code, 0);
    assert!(missing.err.contains("QYVOL_KEY is set but empty"), "{}", missing.err);
    github(&stage, &stage.key).expect(0);
    stage.host_runs();
}

// [CMD-001] [CMD-002] [SIGN-005]
#[test]
fn pipeline_for_gitlab_ends_in_a_verified_run_on_a_host() {
    if lacks(&["git"]) {
        return;
    }
    let stage = stage();
    let missing = gitlab(&stage, None);
    assert_ne!(missing.code, 0);
    assert!(!stage.publisher.path("app/app.qyvbin").exists());
    let key = stage.publisher.write("project.tmp/RELEASE_KEY", &stage.key);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o666)).unwrap();
    gitlab(&stage, Some(key.to_str().unwrap())).expect(0);
    stage.host_runs();
}

/// The units have no mistake that systemd itself would find.
#[test]
fn systemd_accepts_the_units() {
    if lacks(&["systemd-analyze"]) {
        return;
    }
    let user = User::new();
    let mut analyze = Command::new("systemd-analyze");
    analyze.arg("verify").current_dir(user.path(""));
    for (name, text) in [
        (
            "qyvol-app.service",
            include_str!("../../examples/pipelines/qyvol-app.service"),
        ),
        (
            "qyvol-trust.service",
            include_str!("../../examples/pipelines/qyvol-trust.service"),
        ),
        (
            "qyvol-trust.timer",
            include_str!("../../examples/pipelines/qyvol-trust.timer"),
        ),
    ] {
        user.write(name, text.replace("/usr/local/bin/qyv", env!("CARGO_BIN_EXE_qyv")));
        analyze.arg(format!("./{name}"));
    }
    let verified = third_party("systemd", &mut analyze).expect(0);
    assert_eq!(verified.err, "");
}
