//! What the policy decides, from the first command to an application's data.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::{CommandOutput, User};

/// A publisher with a built application of its name.
fn publisher(name: &str, more: &str) -> User {
    let user = User::new();
    let directory = name.rsplit('/').next().unwrap().to_string();
    user.built(&directory, more);
    if directory != name {
        rebuild(&user, name, "1.0.0", more);
    }
    user
}

/// Builds `NAME` in another version, to `NAME-VERSION.qyvbin`.
fn rebuild(user: &User, name: &str, version: &str, more: &str) -> String {
    let directory = name.rsplit('/').next().unwrap();
    let text = format!("name: {name}\nversion: {version}\nentrypoint: probe.wasm\n{more}");
    user.write(&format!("{directory}/{directory}.qyv"), text);
    let file = format!("{directory}-{version}.qyvbin");
    user.qyv(&["build", &format!("{directory}/"), "-o", &file]).expect(0);
    file
}

/// Gives a file of one user's to another.
fn give(from: &User, to: &User, file: &str) {
    fs::copy(from.path(file), to.path(file)).unwrap();
}

fn give_key(from: &User, to: &User, file: &str) {
    to.write(file, from.qyv(&["keys", "export"]).expect(0).out);
}

/// The commands that hints tell to type.
fn commands(done: &CommandOutput) -> Vec<Vec<String>> {
    let hints = done.err.lines().filter(|line| line.starts_with("hint:"));
    let quoted = hints.flat_map(|line| {
        line.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_string)
            .collect::<Vec<_>>()
    });
    let words = quoted.filter(|command| command.starts_with("qyv "));
    words
        .map(|command| {
            command
                .split(' ')
                .skip(1)
                .map(|w| w.trim_matches('\'').to_string())
                .collect()
        })
        .collect()
}

/// Types the one command of its kind that the hints print.
#[track_caller]
fn follow(host: &User, done: &CommandOutput, begins: &[&str]) -> CommandOutput {
    let command = commands(done)
        .into_iter()
        .find(|c| c.starts_with(&begins.iter().map(ToString::to_string).collect::<Vec<_>>()));
    let command = command.unwrap_or_else(|| panic!("no such hint: {}", done.err));
    host.qyv(&command.iter().map(String::as_str).collect::<Vec<_>>())
        .expect(0)
}

const EXIT: &[&str] = &["--", "exit", "7"];

fn run(host: &User, target: &str) -> CommandOutput {
    host.qyv(&[&["run", "--pull", "never", target][..], EXIT].concat())
}

// [SIGN-034]
#[test]
fn two_commands_lead_from_nothing_to_an_accepted_run() {
    let acme = publisher("app", "");
    let host = User::new();
    give(&acme, &host, "app.qyvbin");
    give_key(&acme, &host, "PUBLISHER.pub");
    // A file.
    let refused = run(&host, "app.qyvbin").expect(126);
    assert!(
        refused
            .err
            .contains("no rule of the trust policy covers local files (scope `file:`"),
        "{}",
        refused.err
    );
    let added = follow(&host, &refused, &["trust", "add"]);
    assert!(
        added.out.contains("trust.yaml (new)") && added.out.contains("rule file:app"),
        "{}",
        added.out
    );
    run(&host, "app.qyvbin").expect(7);
    host.qyv(&["load", "--no-verify", "--replace", "app.qyvbin"]).expect(0);
    // Names with a registry: the signed version's tag, and one that moves.
    for name in ["r.example/acme/app:1.0.0", "r.example/team/app:latest"] {
        host.qyv(&["tag", "app:1.0.0", name]).expect(0);
        let refused = run(&host, name).expect(126);
        let added = follow(&host, &refused, &["trust", "add"]);
        assert!(added.out.contains("app or app"), "{}", added.out);
        run(&host, name).expect(7);
    }
    let policy = fs::read_to_string(host.home().join("trust.yaml")).unwrap();
    assert!(policy.contains("identity: repository\n    rollback: deny"), "{policy}");
    assert!(policy.contains("serial: 3"), "{policy}");
    host.qyv(&["trust", "check"]).expect(0);
    let shown = host.qyv(&["trust", "show"]).expect(0).out;
    assert!(
        shown.contains("identity repository") && shown.contains("rollback deny"),
        "{shown}"
    );
}

#[test]
fn key_that_no_rule_names_is_added_by_the_command_that_the_refusal_prints() {
    let (acme, other) = (publisher("app", ""), publisher("app", ""));
    let host = User::new();
    give(&acme, &host, "app.qyvbin");
    give_key(&other, &host, "other.pub");
    give_key(&acme, &host, "PUBLISHER.pub");
    host.qyv(&["trust", "add", "file:", "--key", "other.pub"]).expect(0);
    let refused = host.qyv(&["verify", "app.qyvbin"]).expect(11);
    follow(&host, &refused, &["trust", "add"]);
    host.qyv(&["verify", "app.qyvbin"]).expect(0);
    // A key that was given and is not the signer's is named.
    let refused = host.qyv(&["verify", "--key", "other.pub", "app.qyvbin"]).expect(11);
    assert!(
        refused.err.contains("not signed by the key that was given (SHA256:"),
        "{}",
        refused.err
    );
    assert!(commands(&refused).is_empty(), "{}", refused.err);
}

// [SIGN-026]
#[test]
fn refusal_for_a_name_says_what_was_signed_and_prints_ways_that_work() {
    let acme = publisher("app", "");
    let host = User::new();
    give(&acme, &host, "app.qyvbin");
    give_key(&acme, &host, "acme.pub");
    host.qyv(&["trust", "add", "file:", "--key", "acme.pub"]).expect(0);
    host.qyv(&["load", "--no-verify", "--replace", "app.qyvbin"]).expect(0);
    host.qyv(&["trust", "add", "r.example/**", "--key", "acme.pub"])
        .expect(0);
    for (name, option) in [
        ("r.example/acme/team/app:latest", "repository"),
        ("r.example/acme/tool:1.0.0", "any"),
    ] {
        host.qyv(&["tag", "app:1.0.0", name]).expect(0);
        let refused = host.qyv(&["verify", name]).expect(18);
        assert!(
            refused
                .err
                .contains(&format!("signed as app 1.0.0, requested as {name}")),
            "{}",
            refused.err
        );
        assert!(refused.err.contains(&format!("--identity {option}")), "{}", refused.err);
        follow(&host, &refused, &["trust", "add", "r.example/**"]);
        host.qyv(&["verify", name]).expect(0);
    }
}

// [SIGN-032]
#[test]
fn moving_tag_never_goes_back_to_an_older_release() {
    let acme = publisher("app", "");
    for version in ["1.0.0", "2.0.0"] {
        rebuild(&acme, "app", version, "");
    }
    let host = User::new();
    give_key(&acme, &host, "acme.pub");
    host.qyv(&["trust", "add", "file:", "--key", "acme.pub"]).expect(0);
    host.qyv(&[
        "trust",
        "add",
        "r.example/**",
        "--key",
        "acme.pub",
        "--identity",
        "repository",
    ])
    .expect(0);
    for version in ["1.0.0", "2.0.0"] {
        let file = format!("app-{version}.qyvbin");
        give(&acme, &host, &file);
        host.qyv(&["load", "--no-verify", "--replace", &file]).expect(0);
    }
    let latest = "r.example/acme/app:latest";
    let point = |version: &str| {
        host.qyv(&["tag", &format!("app:{version}"), latest]).expect(0);
    };
    point("2.0.0");
    // Verifying remembers nothing, running does.
    host.qyv(&["verify", latest]).expect(0);
    point("1.0.0");
    run(&host, latest).expect(7);
    point("2.0.0");
    run(&host, latest).expect(7);
    point("1.0.0");
    let refused = host.qyv(&["verify", latest]).expect(15);
    assert!(refused.err.contains("is lower than"), "{}", refused.err);
    run(&host, latest).expect(126);
    // Its digest says what is meant; another tag has a memory of its own.
    let digest = host.qyv(&["inspect", "app:1.0.0", "--format", "json"]).expect(0).json()["digest"].clone();
    let pinned = format!("r.example/acme/app@{}", digest.as_str().unwrap());
    run(&host, &pinned).expect(7);
    host.qyv(&["tag", "app:1.0.0", "r.example/acme/app:old"]).expect(0);
    run(&host, "r.example/acme/app:old").expect(7);
    point("2.0.0");
    run(&host, latest).expect(7);
}

// [SIGN-032]
#[test]
fn what_cannot_be_remembered_is_refused_where_rollback_is_denied() {
    let acme = publisher("app", "");
    let host = User::new();
    give(&acme, &host, "app.qyvbin");
    give_key(&acme, &host, "acme.pub");
    host.qyv(&["trust", "add", "file:", "--key", "acme.pub"]).expect(0);
    host.qyv(&["load", "--no-verify", "--replace", "app.qyvbin"]).expect(0);
    host.qyv(&["tag", "app:1.0.0", "r.example/app:1.0.0"]).expect(0);
    fs::write(host.home().join("store/v1/state/seen"), "").unwrap();
    host.qyv(&["trust", "add", "r.example/**", "--key", "acme.pub"])
        .expect(0);
    run(&host, "r.example/app:1.0.0").expect(7);
    host.qyv(&[
        "trust",
        "add",
        "r.example/**",
        "--key",
        "acme.pub",
        "--identity",
        "repository",
    ])
    .expect(0);
    let refused = run(&host, "r.example/app:1.0.0").expect(126);
    assert!(refused.err.contains("rollback"), "{}", refused.err);
    host.qyv(&["verify", "r.example/app:1.0.0"]).expect(0);
}

// [SIGN-036]
#[test]
fn key_of_other_names_neither_replaces_nor_reads_an_application() {
    let disk = "permissions: { fs: write }\nfs: { type: diskfs }\n";
    let (a, b) = (publisher("bank", disk), publisher("bank", disk));
    let host = User::new();
    give_key(&a, &host, "a.pub");
    give_key(&b, &host, "b.pub");
    host.qyv(&["trust", "add", "file:", "--key", "a.pub"]).expect(0);
    host.qyv(&["trust", "add", "file:b/**", "--key", "b.pub"]).expect(0);
    give(&a, &host, "bank.qyvbin");
    host.qyv(&["run", "bank.qyvbin", "--", "write", "/secret", "a's"])
        .expect(0);
    // B signs the name of A's application.
    fs::copy(b.path("bank.qyvbin"), host.path("evil.qyvbin")).unwrap();
    host.qyv(&["load", "evil.qyvbin"]).expect(11);
    host.qyv(&["run", "evil.qyvbin", "--", "cat", "/secret"]).expect(126);
    // B's own application of the same last segment has other data.
    let own = rebuild(&b, "b/bank", "1.0.0", disk);
    give(&b, &host, &own);
    host.qyv(&["run", &own, "--", "cat", "/secret"]).expect(1);
    // Nor does a key that was named for once reach it.
    host.qyv(&["run", "--key", "b.pub", "evil.qyvbin", "--", "cat", "/secret"])
        .expect(1);
    assert_eq!(
        host.qyv(&["run", "bank.qyvbin", "--", "cat", "/secret"]).expect(0).out,
        "a's"
    );
}

// [SIGN-036]
#[test]
fn rotated_key_keeps_the_data_and_data_is_listed_moved_and_removed() {
    let disk = "permissions: { fs: write }\nfs: { type: diskfs }\n";
    let (old, new) = (publisher("app", disk), publisher("app", disk));
    let host = User::new();
    give_key(&old, &host, "old.pub");
    give_key(&new, &host, "new.pub");
    give(&old, &host, "app.qyvbin");
    host.qyv(&["trust", "add", "file:", "--key", "old.pub"]).expect(0);
    host.qyv(&["run", "app.qyvbin", "--", "write", "/a", "kept"]).expect(0);
    host.qyv(&["trust", "add", "file:", "--key", "new.pub"]).expect(0);
    host.qyv(&["trust", "revoke", "old.pub"]).expect(0);
    host.qyv(&["run", "app.qyvbin", "--", "cat", "/a"]).expect(126);
    give(&new, &host, "app.qyvbin");
    assert_eq!(
        host.qyv(&["run", "app.qyvbin", "--", "cat", "/a"]).expect(0).out,
        "kept"
    );
    // A registry's application is another one, until the data is given to it.
    host.qyv(&["load", "--no-verify", "--replace", "app.qyvbin"]).expect(0);
    host.qyv(&["tag", "app:1.0.0", "r.example/app:1.0.0"]).expect(0);
    host.qyv(&["trust", "add", "r.example/**", "--key", "new.pub"])
        .expect(0);
    let cat = &["run", "--pull", "never", "r.example/app:1.0.0", "--", "cat", "/a"];
    host.qyv(cat).expect(1);
    let moved = ["data", "move", "app", "r.example/app", "--to-owner", "r.example/**"];
    host.qyv(&moved).expect(0);
    assert_eq!(host.qyv(cat).expect(0).out, "kept");
    let listed = host.qyv(&["data", "ls", "--format", "json"]).expect(0).json();
    assert_eq!(listed["data"][0]["application"], "r.example/app");
    assert_eq!(listed["data"][0]["owner"], "r.example/**");
    assert_eq!(listed["data"][0]["bytes"], 4);
    // What is there is not overwritten.
    host.qyv(&["run", "app.qyvbin", "--", "write", "/a", "other"]).expect(0);
    host.qyv(&moved).expect(2);
    host.qyv(&["data", "rm", "r.example/app"]).expect(0);
    host.qyv(cat).expect(1);
    host.qyv(&["data", "rm", "nothing"]).expect(2);
}

// [SIGN-025]
#[test]
fn revocation_holds_where_a_key_is_given_too() {
    let acme = publisher("app", "");
    let host = User::new();
    give(&acme, &host, "app.qyvbin");
    give_key(&acme, &host, "acme.pub");
    let given = ["verify", "--key", "acme.pub", "app.qyvbin"];
    host.qyv(&given).expect(0);
    // By its file and by its name in the keyring, where no rule names it.
    host.qyv(&["keys", "import", "acme", "acme.pub"]).expect(0);
    host.qyv(&["verify", "--key", "acme", "app.qyvbin"]).expect(0);
    let revoked = host.qyv(&["trust", "revoke", "acme"]).expect(0);
    assert!(revoked.out.contains("revoked"), "{}", revoked.out);
    host.qyv(&given).expect(14);
    run(&host, "app.qyvbin").expect(126);
    host.qyv(&["run", "--key", "acme.pub", "app.qyvbin"]).expect(126);
    host.qyv(&["trust", "add", "file:", "--key", "acme.pub"]).expect(2);
    // What a broken policy revokes can't be known.
    fs::write(host.home().join("trust.yaml"), "version: 1\nrevoked: {").unwrap();
    host.qyv(&given).expect(19);
}

// [SIGN-025]
#[test]
fn revoked_image_is_refused() {
    let acme = publisher("app", "");
    let digest = acme
        .qyv(&["inspect", "app.qyvbin", "--format", "json"])
        .expect(0)
        .json()["digest"]
        .clone();
    acme.qyv(&["trust", "revoke", digest.as_str().unwrap()]).expect(0);
    acme.qyv(&["verify", "app.qyvbin"]).expect(14);
}

// [SIGN-021]
#[test]
fn configuration_that_others_can_write_is_refused_with_the_command_that_closes_it() {
    let acme = publisher("app", "");
    fs::set_permissions(acme.home(), fs::Permissions::from_mode(0o777)).unwrap();
    let refused = acme.qyv(&["verify", "app.qyvbin"]).expect(19);
    let close = format!("chmod go-w {}", acme.home().display());
    assert!(refused.err.contains(&close), "{}", refused.err);
    acme.qyv(&["trust", "add", "file:x", "--key", "default"]).expect(19);
    fs::set_permissions(acme.home(), fs::Permissions::from_mode(0o755)).unwrap();
    acme.qyv(&["verify", "app.qyvbin"]).expect(0);
    fs::set_permissions(acme.home().join("keys"), fs::Permissions::from_mode(0o777)).unwrap();
    let refused = acme.qyv(&["sign", "app.qyvbin"]).expect(1);
    assert!(refused.err.contains("chmod go-w"), "{}", refused.err);
}

// [SIGN-035]
#[test]
fn development_can_be_denied_by_the_policy() {
    let user = User::new();
    user.app("app", "");
    user.qyv(&["run", "app/app.qyv", "--", "exit", "7"]).expect(7);
    fs::create_dir_all(user.home()).unwrap();
    fs::write(user.home().join("trust.yaml"), "version: 1\ndevelopment: deny\n").unwrap();
    let refused = user.qyv(&["run", "app/app.qyv", "--", "exit", "7"]).expect(125);
    assert!(refused.err.contains("denies"), "{}", refused.err);
}

// [SIGN-027]
#[test]
fn signatures_of_strangers_block_no_image() {
    let (acme, stranger) = (publisher("app", ""), User::new());
    stranger.qyv(&["keys", "generate", "default"]).expect(0);
    give(&acme, &stranger, "app.qyvbin");
    for sequence in 0..70 {
        let sequence = sequence.to_string();
        stranger.qyv(&["sign", "app.qyvbin", "--sequence", &sequence]).expect(0);
    }
    give(&stranger, &acme, "app.qyvbin");
    acme.qyv(&["verify", "app.qyvbin"]).expect(0);
    acme.qyv(&["load", "--no-verify", "--replace", "app.qyvbin"]).expect(0);
    run(&acme, "app:1.0.0").expect(7);
}

// [SIGN-034]
#[test]
fn concurrent_policy_changes_are_all_kept() {
    let acme = publisher("app", "");
    let serial = |user: &User| user.qyv(&["trust", "show", "--format", "json"]).expect(0).json()["serial"].as_u64();
    let before = serial(&acme).unwrap();
    std::thread::scope(|scope| {
        for n in 0..6 {
            let acme = &acme;
            scope.spawn(move || {
                let name = format!("file:x{n}");
                acme.qyv(&["trust", "add", &name, "--key", "default"]).expect(0);
            });
        }
    });
    assert_eq!(serial(&acme), Some(before + 6));
    let rules = acme.qyv(&["trust", "show", "--format", "json"]).expect(0).json()["rules"].clone();
    assert_eq!(rules.as_array().unwrap().len(), 7);
    acme.qyv(&["trust", "remove", "file:x3"]).expect(0);
    acme.qyv(&["trust", "remove", "file:x3"]).expect(2);
    acme.qyv(&["verify", "app.qyvbin"]).expect(0);
}

#[test]
fn explanation_names_the_rule_and_the_verdict() {
    let acme = publisher("app", "");
    let done = acme.qyv(&["trust", "explain", "app.qyvbin"]).expect(0);
    for part in [
        "judged as file:app",
        "the rule file: decides: 1 of default as release",
        "accepted",
    ] {
        assert!(done.out.contains(part), "{part}: {}", done.out);
    }
    acme.qyv(&["trust", "remove", "file:"]).expect(0);
    let done = acme.qyv(&["trust", "explain", "app.qyvbin"]).expect(11);
    assert!(
        done.out.contains("no rule covers it") && done.out.contains("refused"),
        "{}",
        done.out
    );
    let json = acme
        .qyv(&["trust", "explain", "app.qyvbin", "--format", "json"])
        .expect(11)
        .json();
    assert_eq!(json["results"][0]["verdict"], "refused");
}

// [SIGN-022]
#[test]
fn scope_that_nothing_matches_is_refused_with_the_one_that_was_meant() {
    let acme = publisher("app", "");
    for (scope, meant) in [
        ("R.example/acme/**", "r.example/acme/**"),
        ("r.example/app:1.0.1", "r.example/app"),
        ("acme/app", "file:acme/app"),
    ] {
        let refused = acme.qyv(&["trust", "add", scope, "--key", "default"]).expect(2);
        assert!(refused.err.contains(meant), "{}", refused.err);
    }
}
