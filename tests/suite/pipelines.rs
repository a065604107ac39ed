//! The pipelines of `examples/pipelines`, each run as its service runs it, up
//! to a verified run on a host whose policy came from the documented steps.
//!
//! What the services give: GitHub runs a step with `bash -e`, sets `CI`, and
//! passes a missing secret as empty text. GitLab joins the script's lines into
//! one shell with `set -eo pipefail`, runs it with the umask 0 in a container,
//! writes a variable of type File with mode 0666 and leaves out a variable that
//! the job may not see. `actions/attest` is played by an instance of sigstore in memory.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use qyvol::types::Digest;
use serde_json::{Value, json};

use crate::cosign::{attach, subject};
use crate::keyless::instance::{Instance, Plan};
use crate::needs::lacks;
use crate::registry::Server;
use crate::support::{CommandOutput, User, third_party};

const GITHUB: &str = include_str!("../../examples/pipelines/github-actions.yml");
const KEYLESS: &str = include_str!("../../examples/pipelines/github-keyless.yml");
const GITLAB: &str = include_str!("../../examples/pipelines/gitlab-ci.yml");
const README: &str = include_str!("../../examples/pipelines/README.md");
const GUIDE: &str = include_str!("../../spec/guide/trust.md");
const PASSWORD: &str = "a registry's token";
const COMMIT: &str = "0123456789012345678901234567890123456789";

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

    /// A host of the documented policy.
    fn host(&self) -> User {
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
        host
    }

    /// The image's application on a host.
    fn run_on(&self, host: &User, options: &[&str]) -> CommandOutput {
        let name = self.server.name("team/app:1.4.0");
        host.qyv(
            &[
                options,
                &["run", "--pull", "always", &name, "--", "cat", "/assets/page.html"],
            ]
            .concat(),
        )
    }

    /// A host of the documented policy takes what was pushed.
    fn host_runs(&self) {
        let host = self.host();
        assert_eq!(self.run_on(&host, &[]).expect(0).out, "page");
        // The key and the repository's data were not packed.
        let name = self.server.name("team/app:1.4.0");
        let assets = host.qyv(&["inspect", "--assets", &name]).expect(0).out;
        assert_eq!(assets.lines().count(), 1, "{assets}");
    }

    /// A host whose rule asks for provenance, as documented, takes that of `source` alone.
    fn host_asks_for_provenance_of(&self, source: &str) {
        for (source, code) in [(source, 0), ("https://github.com/other/*", 126)] {
            let host = self.host();
            let policy = host.home().join("trust.yaml");
            let condition = block(README, "    attest:").replace("https://github.com/team/*", source);
            fs::write(&policy, fs::read_to_string(&policy).unwrap() + &condition).unwrap();
            self.run_on(&host, &[]).expect(code);
        }
    }
}

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

/// The block of YAML in a page that starts so.
fn block<'a>(page: &'a str, start: &str) -> &'a str {
    let mut blocks = page.split("```yaml\n").skip(1);
    let block = blocks.find(|block| block.starts_with(start)).unwrap();
    block.split("```").next().unwrap()
}

/// Runs a job of GitHub's; the first step that fails ends it. `attest` is `actions/attest`,
/// and gets the inputs of its step.
fn github(stage: &Stage, workflow: &str, secret: &str, attest: &dyn Fn(&BTreeMap<String, String>)) -> CommandOutput {
    let job = yaml(workflow)["jobs"]["release"].clone();
    let mut known: Vec<(String, String)> = [
        ("github.repository", "Team/App"),
        ("secrets.QYVOL_KEY", secret),
        ("secrets.GITHUB_TOKEN", PASSWORD),
    ]
    .map(|(name, value)| (name.to_string(), value.to_string()))
    .into();
    let fill = |text: &str, known: &[(String, String)]| {
        let text = text.replace("ghcr.io", &stage.server.address);
        known.iter().fold(text, |text, (name, value)| {
            text.replace(&format!("${{{{ {name} }}}}"), value)
        })
    };
    let variables = |value: &Value, known: &[(String, String)]| -> BTreeMap<String, String> {
        let entries = value.as_object().into_iter().flatten();
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
        entries
            .map(|(name, value)| (name.clone(), fill(&text(value), known)))
            .collect()
    };
    let mut env = variables(&job["env"], &known);
    known.extend(env.iter().map(|(name, value)| (format!("env.{name}"), value.clone())));
    let output = stage.publisher.path("output");
    for (name, value) in [
        ("CI", "true"),
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_ACTOR", "publisher"),
        ("GITHUB_SERVER_URL", "https://github.com"),
        ("GITHUB_REPOSITORY", "Team/App"),
        ("GITHUB_REF", "refs/tags/v1.4.0"),
        ("GITHUB_REF_NAME", "v1.4.0"),
        ("GITHUB_SHA", COMMIT),
        ("GITHUB_EVENT_NAME", "push"),
        (
            "GITHUB_WORKFLOW_REF",
            "Team/App/.github/workflows/release.yml@refs/tags/v1.4.0",
        ),
        ("GITHUB_RUN_ID", "7"),
        ("GITHUB_RUN_ATTEMPT", "1"),
        ("GITHUB_OUTPUT", output.to_str().unwrap()),
    ] {
        env.insert(name.to_string(), value.to_string());
    }
    let mut last = None;
    for step in job["steps"].as_array().unwrap() {
        let uses = step["uses"].as_str().unwrap_or_default();
        if uses.starts_with("actions/attest@") {
            attest(&variables(&step["with"], &known));
        }
        let Some(script) = step["run"]
            .as_str()
            .filter(|script| !script.starts_with("cargo install"))
        else {
            continue;
        };
        fs::write(&output, "").unwrap();
        let mut env = env.clone();
        env.extend(variables(&step["env"], &known));
        let done = stage.shell(&["-e", "-c"], &fill(script, &known), &env);
        if done.code != 0 {
            return done;
        }
        last = Some(done);
        let printed = fs::read_to_string(&output).unwrap();
        known.extend(printed.lines().map(|line| {
            let (name, value) = line.split_once('=').unwrap();
            let id = step["id"].as_str().unwrap();
            (format!("steps.{id}.outputs.{name}"), value.to_string())
        }));
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
        ("CI_COMMIT_SHA", COMMIT.to_string()),
        ("CI_COMMIT_TIMESTAMP", "2026-01-31T12:00:00+01:00".to_string()),
        ("CI_PROJECT_URL", "https://gitlab.example/team/app".to_string()),
        ("CI_JOB_URL", "https://gitlab.example/team/app/-/jobs/1".to_string()),
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

// [CMD-001] [CMD-002] [SIGN-063]
#[test]
fn pipeline_for_github_ends_in_a_verified_run_on_a_host() {
    if lacks(&["git"]) {
        return;
    }
    let stage = stage();
    let missing = github(&stage, GITHUB, "", &|_| unreachable!());
    assert_ne!(missing.code, 0);
    assert!(missing.err.contains("QYVOL_KEY is set but empty"), "{}", missing.err);
    github(&stage, GITHUB, &stage.key, &|_| unreachable!()).expect(0);
    stage.host_runs();
    stage.host_asks_for_provenance_of("https://github.com/Team/*");
}

// [SIGN-056] [SIGN-058]
#[test]
fn pipeline_without_a_key_ends_in_a_verified_run_where_the_policy_names_its_workflow() {
    if lacks(&["git"]) {
        return;
    }
    let stage = Stage {
        server: Server::hub(&[]),
        ..stage()
    };
    let instance = Instance::new();
    let host = User::new();
    let root = instance.root().to_string();
    host.write("public-good.json", &root);
    let policy = block(GUIDE, "roots:")
        .replace("sha256:…", &Digest::of(root.as_bytes()).to_string())
        .replace("ghcr.io/acme/**", &stage.server.name("**"))
        .replace("acme/app", "Team/App");
    host.write("trust.yaml", format!("version: 1\n{policy}"));
    let policy = ["--policy", "trust.yaml"];
    let sign = |inputs: &BTreeMap<String, String>, workflow: &str| {
        let name = inputs["subject-name"].to_lowercase();
        let predicate = fs::read(stage.publisher.path("app").join(&inputs["predicate-path"])).unwrap();
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{
                "name": name,
                "digest": { "sha256": inputs["subject-digest"].trim_start_matches("sha256:") },
            }],
            "predicateType": inputs["predicate-type"],
            "predicate": serde_json::from_slice::<Value>(&predicate).unwrap(),
        });
        let plan = Plan {
            issuer: "https://token.actions.githubusercontent.com".to_string(),
            subject: format!("https://github.com/Team/App/.github/workflows/{workflow}@refs/tags/v1.4.0"),
            ..Plan::new(statement.to_string().as_bytes())
        };
        let (_, repository) = name.split_once('/').unwrap();
        let image = subject(&stage.publisher, &stage.server, repository, "app/app.qyvbin");
        let bundle = instance.sign(&plan).to_string();
        attach(&stage.server, repository, &image, &bundle, &inputs["predicate-type"]);
    };
    github(&stage, KEYLESS, "", &|inputs| {
        sign(inputs, "other.yml");
        stage.run_on(&host, &policy).expect(126);
        sign(inputs, "release.yml");
    })
    .expect(0);
    assert_eq!(stage.run_on(&host, &policy).expect(0).out, "page");
}

// [CMD-001] [CMD-002] [SIGN-005] [SIGN-063]
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
    stage.host_asks_for_provenance_of("https://gitlab.example/team/*");
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
