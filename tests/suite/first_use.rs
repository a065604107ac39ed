//! The first image of a repository that no rule covers: the key that comes with it is shown,
//! and pinned only if somebody says so.

use std::fs;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

use qyvol::image::{Archive, Head, ImageSignature};
use qyvol::trust::{PREDICATE_TYPE, PrivateKey};

use crate::needs::lacks;
use crate::registry::Server;
use crate::support::{CommandOutput, User};

/// A publisher, the registry with `app:1.0.0` in it, and the fingerprint of the key.
struct Published {
    user: User,
    server: Server,
    name: String,
    fingerprint: String,
}

impl Published {
    fn new() -> Published {
        let user = User::new();
        let file = user.built("app", "");
        let server = Server::hub(&[]);
        let name = server.name("team/app:1.0.0");
        user.qyv(&["push", &file, &name]).expect(0);
        let fingerprint = fingerprint(&user, "default");
        Published {
            user,
            server,
            name,
            fingerprint,
        }
    }

    /// Publishes an archive whose one signature carries a key.
    fn publish_with(&self, tag: &str, change: impl Fn(&ImageSignature) -> String) -> String {
        let path = self.user.path("app.qyvbin");
        let archive = Archive::open(&path).unwrap();
        let mut image = archive.images()[0].clone();
        let own = image.signatures[0].clone();
        let subject = image.descriptor();
        let forged = ImageSignature::with_key(&subject, PREDICATE_TYPE, own.bundle.clone(), &change(&own)).unwrap();
        image.signatures = vec![forged];
        let mut file = Vec::new();
        archive.rewrite(&Head::new(vec![image]).unwrap(), &mut file).unwrap();
        self.user.write("forged.qyvbin", file);
        let name = self.server.name(tag);
        self.user.qyv(&["push", "forged.qyvbin", &name]).expect(0);
        name
    }
}

fn fingerprint(user: &User, key: &str) -> String {
    let rows = user.qyv(&["keys", "list", "--format", "json"]).expect(0).json();
    let rows = rows["keys"].as_array().unwrap().clone();
    let row = rows.iter().find(|row| row["name"] == key).unwrap().clone();
    row["fingerprint"].as_str().unwrap().to_string()
}

fn policy(host: &User) -> Option<String> {
    fs::read_to_string(host.home().join("trust.yaml")).ok()
}

/// The command at a terminal, with a line that is typed once it asks. Both streams of output
/// are one there.
fn at_a_terminal(host: &User, args: &[&str], variables: &[(&str, &str)], typed: &str) -> CommandOutput {
    let mut session = Session::start(host, "", args, variables);
    session.read_to_the_question();
    session.end_with(typed)
}

/// What a question ends with.
const ASKED: &str = "[no]: ";

/// A command at a terminal of its own.
struct Session {
    child: Child,
    shown: Vec<u8>,
}

impl Session {
    /// Starts the command, after what a shell does before.
    fn start(host: &User, before: &str, args: &[&str], variables: &[(&str, &str)]) -> Session {
        let mut line = format!("{before}exec {}", env!("CARGO_BIN_EXE_qyv"));
        line.extend(args.iter().map(|arg| format!(" '{arg}'")));
        let mut script = Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).env_clear();
        script
            .env("QYVOL_HOME", host.home())
            .env("PATH", "/usr/bin:/bin")
            .env("SHELL", "/bin/sh");
        script.envs(variables.iter().copied()).current_dir(host.path(""));
        script
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Session {
            child: script.spawn().unwrap(),
            shown: Vec::new(),
        }
    }

    fn write(&mut self, text: &str) {
        // A command that asks nothing may have ended already.
        let _ = self.child.stdin.as_mut().unwrap().write_all(text.as_bytes());
    }

    /// Reads until there is a question, or the end.
    fn read_to_the_question(&mut self) {
        let output = self.child.stdout.as_mut().unwrap();
        let mut byte = [0];
        while !self.shown.ends_with(ASKED.as_bytes()) && output.read(&mut byte).unwrap() == 1 {
            self.shown.push(byte[0]);
        }
    }

    fn end_with(mut self, typed: &str) -> CommandOutput {
        self.write(&format!("{typed}\n"));
        let mut output = self.child.wait_with_output().unwrap();
        self.shown.append(&mut output.stdout);
        output.stdout = self.shown;
        CommandOutput::from(&output)
    }
}

// [SIGN-070] [SIGN-071]
#[test]
fn key_that_comes_with_an_image_is_pinned_by_fingerprint_and_another_is_refused() {
    let published = Published::new();
    let (host, name) = (User::new(), published.name.as_str());
    let run = ["run", name, "--", "exit", "0"];
    host.qyv(&run).expect(126);
    // Without a terminal there is no question.
    let unasked = host.qyv(&["trust", "pin", name]).expect(2);
    assert!(unasked.err.contains("--fingerprint"), "{}", unasked.err);
    for wrong in ["SHA256:abc", "yes", &fingerprint_of_another()] {
        host.qyv(&["trust", "pin", name, "--fingerprint", wrong]).expect(2);
    }
    assert_eq!(policy(&host), None);
    assert!(host.stored().is_empty());
    let pinned = host
        .qyv(&["trust", "pin", name, "--fingerprint", &published.fingerprint])
        .expect(0);
    assert!(pinned.out.contains(&published.fingerprint), "{}", pinned.out);
    host.qyv(&run).expect(0);
    let shown = host.qyv(&["trust", "show"]).expect(0).out;
    assert!(!shown.contains("unchecked"), "{shown}");
    assert!(shown.contains("as release; identity exact"), "{shown}");
    // It is this repository's alone.
    published
        .user
        .qyv(&["push", "app.qyvbin", &published.server.name("other/app:1.0.0")])
        .expect(0);
    host.qyv(&["run", &published.server.name("other/app:1.0.0")])
        .expect(126);
    // Another key is a refusal, and never a second question.
    published.user.app("app", "args: [more]\n");
    published.user.qyv(&["keys", "generate", "stranger"]).expect(0);
    let app = ["build", "app", "-o", "app.qyvbin", "--key", "stranger"];
    published.user.qyv(&app).expect(0);
    published.user.qyv(&["push", "app.qyvbin", name]).expect(0);
    host.qyv(&["pull", "--verify", name]).expect(11);
    let before = policy(&host);
    let stranger = fingerprint(&published.user, "stranger");
    let again = host.qyv(&["trust", "pin", name, "--fingerprint", &stranger]).expect(2);
    assert!(again.err.contains("covers"), "{}", again.err);
    assert_eq!(policy(&host), before);
}

fn fingerprint_of_another() -> String {
    let key = PrivateKey::generate(qyvol::trust::KeyType::Ed25519).unwrap();
    key.public().fingerprint()
}

// [SIGN-070]
#[test]
fn pinned_name_of_a_moving_tag_never_goes_back() {
    let published = Published::new();
    let moving = published.server.name("team/app:latest");
    published.user.qyv(&["push", "app.qyvbin", &moving]).expect(0);
    let host = User::new();
    host.qyv(&["trust", "pin", &moving, "--fingerprint", &published.fingerprint])
        .expect(0);
    let shown = host.qyv(&["trust", "show"]).expect(0).out;
    assert!(shown.contains("identity repository; rollback deny"), "{shown}");
    // Nothing can be pinned for a repository whose name doesn't match the image's.
    let other = published.server.name("team/another:1.0.0");
    published.user.qyv(&["push", "app.qyvbin", &other]).expect(0);
    let before = policy(&host);
    host.qyv(&["trust", "pin", &other, "--fingerprint", &published.fingerprint])
        .expect(18);
    assert_eq!(policy(&host), before);
}

// [SIGN-024] [SIGN-070]
#[test]
fn key_that_the_signature_does_not_name_or_that_made_no_good_one_is_not_pinned() {
    let published = Published::new();
    let host = User::new();
    let stranger = PrivateKey::generate(qyvol::trust::KeyType::Ed25519).unwrap();
    for (tag, brought) in [
        ("forged/app:1.0.0", stranger.public().to_base64()),
        ("forged2/app:1.0.0", "AAAA".to_string()),
        ("forged3/app:1.0.0", "x".repeat(60_000)),
    ] {
        let name = published.publish_with(tag, |_| brought.clone());
        let refused = host
            .qyv(&["trust", "pin", &name, "--fingerprint", &stranger.public().fingerprint()])
            .expect(2);
        assert!(refused.err.contains("carries its public key"), "{}", refused.err);
    }
    // An image that nobody has signed.
    let bare = ["build", "app", "-o", "bare.qyvbin", "--no-sign"];
    published.user.qyv(&bare).expect(0);
    let name = published.server.name("bare/app:1.0.0");
    published.user.qyv(&["push", "bare.qyvbin", &name]).expect(0);
    let unsigned = host
        .qyv(&["trust", "pin", &name, "--fingerprint", &published.fingerprint])
        .expect(2);
    assert!(unsigned.err.contains("is not signed"), "{}", unsigned.err);
    assert_eq!(policy(&host), None);
}

// [SIGN-070]
#[test]
fn revoked_key_is_not_pinned_and_a_followed_policy_is_not_changed() {
    let published = Published::new();
    let host = User::new();
    let pin = ["trust", "pin", &published.name, "--fingerprint", &published.fingerprint];
    host.qyv(&["trust", "revoke", &published.fingerprint]).expect(0);
    let before = policy(&host);
    let refused = host.qyv(&pin).expect(2);
    assert!(refused.err.contains("revokes the key"), "{}", refused.err);
    assert_eq!(policy(&host), before);
    // A policy that this host follows.
    let follower = User::new();
    let pem = published.user.qyv(&["keys", "export", "default"]).expect(0).out;
    let pem: String = pem.lines().map(|line| format!("      {line}\n")).collect();
    follower.write(
        "fleet.yaml",
        format!("version: 1\nname: fleet\nserial: 1\nupdate: {{ keys: [a] }}\nkeys:\n  a:\n    pem: |\n{pem}"),
    );
    follower.qyv(&["trust", "follow", "fleet.yaml"]).expect(0);
    let before = policy(&follower);
    let refused = follower.qyv(&pin).expect(2);
    assert!(refused.err.contains("fleet"), "{}", refused.err);
    assert_eq!(policy(&follower), before);
}

// [SIGN-071]
#[test]
fn whoever_sits_at_a_terminal_is_asked_once_and_nobody_in_a_pipeline() {
    if lacks(&["script"]) {
        return;
    }
    let published = Published::new();
    let name = published.name.as_str();
    let run = ["run", name, "--", "exit", "0"];
    let question = "paste its fingerprint";
    for (answer, code, unchecked) in [("yes", 0, true), (&*published.fingerprint, 0, false)] {
        let host = User::new();
        let asked = at_a_terminal(&host, &run, &[], answer).expect(code);
        assert!(
            asked.out.contains(question) && asked.out.contains(&published.fingerprint),
            "{}",
            asked.out
        );
        let shown = host.qyv(&["trust", "show"]).expect(0).out;
        assert_eq!(shown.contains("unchecked"), unchecked, "{shown}");
        let again = at_a_terminal(&host, &run, &[], "no").expect(0);
        assert!(!again.out.contains(question), "{}", again.out);
    }
    for (answer, code) in [("no", 126), ("", 126), ("Yes", 126), (&*fingerprint_of_another(), 125)] {
        let host = User::new();
        let refused = at_a_terminal(&host, &run, &[], answer).expect(code);
        assert!(refused.out.contains(question), "{}", refused.out);
        assert_eq!(policy(&host), None, "{answer}");
        assert!(host.stored().is_empty(), "{answer}");
    }
    // Nobody is asked in a pipeline, nor where something else decides.
    let host = User::new();
    let other = host.write("other.yaml", "version: 1\n");
    let other = other.to_str().unwrap();
    for (args, variables) in [
        (&run[..], &[("CI", "true")][..]),
        (&["--quiet", "run", name], &[]),
        (&["run", "--policy", other, name], &[]),
    ] {
        let refused = at_a_terminal(&host, args, variables, "yes").expect(126);
        assert!(!refused.out.contains(question), "{args:?}: {}", refused.out);
    }
    let pinned = at_a_terminal(&host, &["pull", "--verify", name], &[], "yes").expect(0);
    assert!(pinned.out.contains(question), "{}", pinned.out);
    host.qyv(&run).expect(0);
}

// [SIGN-070] [SIGN-071]
#[test]
fn only_an_answer_after_the_question_counts_and_under_the_policy_at_that_time() {
    if lacks(&["script"]) {
        return;
    }
    let published = Published::new();
    let run = ["run", &published.name, "--", "exit", "0"];
    // What was typed before there was a question answers nothing.
    let host = User::new();
    let mut session = Session::start(&host, "read first; ", &run, &[]);
    session.write("first\nyes\n");
    session.read_to_the_question();
    session.end_with("no").expect(126);
    assert_eq!(policy(&host), None);
    // A rule that somebody writes while the question waits decides.
    let host = User::new();
    host.qyv(&["keys", "generate", "other"]).expect(0);
    let mut session = Session::start(&host, "", &run, &[]);
    session.read_to_the_question();
    let scope = published.server.name("team/**");
    host.qyv(&["trust", "add", &scope, "--key", "other"]).expect(0);
    let before = policy(&host);
    let refused = session.end_with("yes").expect(125);
    assert!(refused.out.contains("of the trust policy covers"), "{}", refused.out);
    assert_eq!(policy(&host), before);
}

// [SIGN-071]
#[test]
fn question_is_about_the_image_that_was_refused() {
    if lacks(&["script"]) {
        return;
    }
    let published = Published::new();
    let (host, user, name) = (User::new(), &published.user, published.name.as_str());
    host.qyv(&["pull", name]).expect(0);
    // Another key's image takes the name that the store has.
    user.qyv(&["keys", "generate", "second"]).expect(0);
    user.app("app", "resources: { memory: 64MiB }\n");
    user.qyv(&["build", "app", "-o", "app2.qyvbin", "--key", "second"])
        .expect(0);
    user.qyv(&["push", "app2.qyvbin", name]).expect(0);
    let second = fingerprint(user, "second");
    for args in [
        &["pull", "--verify", name][..],
        &["run", "--pull", "always", name, "--", "exit", "0"],
    ] {
        let asked = at_a_terminal(&host, args, &[], "no").expect(if args[0] == "run" { 126 } else { 11 });
        assert!(asked.out.contains(&second), "{}", asked.out);
        assert!(!asked.out.contains(&published.fingerprint), "{}", asked.out);
    }
}
