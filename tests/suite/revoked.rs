//! What a host revokes beside its policy: it holds wherever something is judged, and only
//! revokes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::fleet::{Publishers, TWO, serial};
use crate::registry::Server;
use crate::support::User;

/// A host that follows a policy by which alice signs files, with an application that she signed.
fn host(publishers: &Publishers) -> (User, PathBuf) {
    let host = User::new();
    publishers.user.built("app", "");
    publishers.user.qyv(&["sign", "app.qyvbin", "--key", "alice"]).expect(0);
    publishers.give(&host, "app.qyvbin");
    publishers.give(&host, "1.yaml");
    host.qyv(&["trust", "follow", "1.yaml"]).expect(0);
    let revoked = host.home().join("trust.yaml.revoked");
    (host, revoked)
}

fn digest(host: &User) -> String {
    let shown = host.qyv(&["inspect", "app.qyvbin", "--format", "json"]).expect(0);
    shown.json()["digest"].as_str().unwrap().to_string()
}

// [SIGN-072] [SIGN-045]
#[test]
fn host_revokes_beside_the_policy_that_it_follows_and_undoes_it() {
    let publishers = Publishers::new();
    publishers.add(1, TWO, &["alice", "bob"]);
    let (host, revoked) = host(&publishers);
    let followed = fs::read(host.home().join("trust.yaml")).unwrap();
    let image = digest(&host);
    for what in [image.as_str(), "alice"] {
        host.qyv(&["run", "app.qyvbin", "exit", "7"]).expect(7);
        let told = host.qyv(&["trust", "revoke", what]).expect(0);
        assert!(
            told.out.contains("trust.yaml.revoked (new)") && told.out.contains("on this host alone"),
            "{}",
            told.out
        );
        assert_eq!(fs::read(host.home().join("trust.yaml")).unwrap(), followed);
        assert_eq!(fs::metadata(&revoked).unwrap().permissions().mode() & 0o777, 0o600);
        let again = host.qyv(&["trust", "revoke", what]).expect(0);
        assert!(again.out.contains("nothing to change"), "{}", again.out);
        host.qyv(&["run", "app.qyvbin", "exit", "7"]).expect(126);
        host.qyv(&["call", "app.qyvbin", "f"]).expect(126);
        host.qyv(&["compile", "app.qyvbin"]).expect(14);
        host.qyv(&["serve", "app.qyvbin", "--listen", "127.0.0.1:0"])
            .expect(126);
        host.qyv(&["load", "app.qyvbin"]).expect(14);
        for judged in [
            &["verify", "app.qyvbin"][..],
            &["verify", "app.qyvbin", "--policy", "1.yaml"],
            &["trust", "explain", "app.qyvbin"],
        ] {
            let refused = host.qyv(judged).expect(14);
            let both = refused.out + &refused.err;
            assert!(both.contains("this host revokes"), "{judged:?}: {both}");
        }
        let shown = host.qyv(&["trust", "show"]).expect(0).out;
        assert!(shown.contains("on this host: revoked"), "{shown}");
        let told = host.qyv(&["trust", "revoke", "--undo", what]).expect(0);
        assert!(told.out.contains("no longer revoked"), "{}", told.out);
        assert!(!revoked.exists());
    }
    host.qyv(&["run", "app.qyvbin", "exit", "7"]).expect(7);
}

// [SIGN-072] [SIGN-039]
#[test]
fn what_a_host_revokes_holds_under_any_policy_and_key_and_survives_updates() {
    let publishers = Publishers::new();
    publishers.add(1, TWO, &["alice", "bob"]);
    let (host, revoked) = host(&publishers);
    host.write(
        "alice.pub",
        publishers.user.qyv(&["keys", "export", "alice"]).expect(0).out,
    );
    let image = digest(&host);
    host.qyv(&["trust", "revoke", &image]).expect(0);
    let text = fs::read(&revoked).unwrap();
    publishers.add(2, TWO, &["alice", "bob"]);
    publishers.give(&host, "fleet.jsonl");
    host.qyv(&["trust", "import", "fleet.jsonl"]).expect(0);
    assert_eq!((serial(&host), fs::read(&revoked).unwrap()), (2, text.clone()));
    publishers.give(&host, "2.yaml");
    host.qyv(&["trust", "follow", "2.yaml", "--replace"]).expect(0);
    assert_eq!(fs::read(&revoked).unwrap(), text);
    host.qyv(&["verify", "app.qyvbin", "--key", "alice.pub"]).expect(14);
    // A policy of the host's own in its place, and none at all.
    let policy = host.home().join("trust.yaml");
    fs::write(&policy, "version: 1\nserial: 1\n").unwrap();
    host.qyv(&["trust", "add", "file:", "--key", "alice.pub"]).expect(0);
    host.qyv(&["verify", "app.qyvbin"]).expect(14);
    fs::remove_file(&policy).unwrap();
    host.qyv(&["verify", "app.qyvbin", "--key", "alice.pub"]).expect(14);
    let record = host.qyv(&["verify", "app.qyvbin", "--key", "alice.pub", "--record", "r.json"]);
    assert_eq!(record.code, 14);
    let record: serde_json::Value = serde_json::from_slice(&fs::read(host.path("r.json")).unwrap()).unwrap();
    assert!(record["policy"]["revoked"].as_str().unwrap().starts_with("sha256:"));
    // It is undone where it is, whoever's the policy is.
    host.qyv(&["trust", "revoke", "--undo", &image]).expect(0);
    host.qyv(&["verify", "app.qyvbin", "--key", "alice.pub"]).expect(0);
    // A key, but for an image.
    fs::copy(host.path("2.yaml"), &policy).unwrap();
    host.qyv(&["trust", "revoke", "alice", "--keep", &image]).expect(0);
    host.qyv(&["verify", "app.qyvbin"]).expect(0);
    let other = image.replace(&image[7..10], "000");
    let refused = host.qyv(&["trust", "revoke", "alice", "--keep", &other]).expect(2);
    assert!(refused.err.contains("undo that first"), "{}", refused.err);
    // All of its signatures, in one step.
    host.qyv(&["trust", "revoke", "alice"]).expect(0);
    host.qyv(&["verify", "app.qyvbin"]).expect(14);
}

// [SIGN-072]
#[test]
fn file_of_revocations_that_cant_be_used_refuses_everything() {
    let publishers = Publishers::new();
    publishers.add(1, TWO, &["alice", "bob"]);
    let (host, revoked) = host(&publishers);
    host.qyv(&["trust", "revoke", "carol"]).expect(0);
    let good = fs::read_to_string(&revoked).unwrap();
    host.qyv(&["verify", "app.qyvbin"]).expect(0);
    let mode = |mode| fs::set_permissions(&revoked, fs::Permissions::from_mode(mode)).unwrap();
    for bad in [
        String::new(),
        "version: 2\n".to_string(),
        "version: 1\nkeys: [carol]\n".to_string(),
        "version: 1\nrules: []\n".to_string(),
        format!("{good}more: 1\n"),
        format!("{good}#{}\n", "-".repeat(300_000)),
    ] {
        fs::write(&revoked, &bad).unwrap();
        for refused in [
            &["verify", "app.qyvbin"][..],
            &["verify", "app.qyvbin", "--key", "default"],
            &["trust", "show"],
        ] {
            let refused = host.qyv(refused).expect(19);
            assert!(refused.err.contains("trust.yaml.revoked"), "{bad:.40}: {}", refused.err);
        }
        host.qyv(&["run", "app.qyvbin", "exit", "7"]).expect(126);
        assert_eq!(fs::read_to_string(&revoked).unwrap(), bad, "nobody writes over it");
    }
    fs::write(&revoked, &good).unwrap();
    mode(0o666);
    let refused = host.qyv(&["verify", "app.qyvbin"]).expect(19);
    assert!(refused.err.contains("others can write it"), "{}", refused.err);
    mode(0o600);
    host.qyv(&["verify", "app.qyvbin"]).expect(0);
    fs::remove_file(&revoked).unwrap();
    std::os::unix::fs::symlink("/nonexistent", &revoked).unwrap();
    host.qyv(&["verify", "app.qyvbin"]).expect(19);
}

// [SIGN-072] [SIGN-042]
#[test]
fn key_that_a_host_revokes_replaces_no_policy_there() {
    let publishers = Publishers::new();
    let one = "keys: [alice, bob], threshold: 1";
    publishers.add(1, one, &["alice"]);
    let (host, _) = host(&publishers);
    publishers.add(2, one, &["bob"]);
    publishers.give(&host, "fleet.jsonl");
    host.qyv(&["trust", "revoke", "bob"]).expect(0);
    let refused = host.qyv(&["trust", "import", "fleet.jsonl"]).expect(11);
    assert!(
        refused.err.contains("this host revokes 1 of its keys"),
        "{}",
        refused.err
    );
    assert_eq!(serial(&host), 1);
    host.qyv(&["trust", "revoke", "--undo", "bob"]).expect(0);
    host.qyv(&["trust", "import", "fleet.jsonl"]).expect(0);
    assert_eq!(serial(&host), 2);
}

// [SIGN-072] [SIGN-049]
#[test]
fn revocation_is_seen_beside_a_policy_whose_parsed_form_is_kept() {
    let user = User::new();
    user.built("app", "");
    let policy = user.home().join("trust.yaml");
    let text = fs::read_to_string(&policy).unwrap() + &format!("# {}\n", "-".repeat(20_000));
    fs::write(&policy, text).unwrap();
    let run = || user.qyv(&["run", "app.qyvbin", "exit", "7"]).code;
    assert_eq!([run(), run()], [7, 7]);
    let forms = user.home().join("store/v1/state/policies");
    assert_eq!(fs::read_dir(&forms).unwrap().count(), 1);
    let revoked = user.home().join("trust.yaml.revoked");
    fs::write(&revoked, format!("version: 1\nimages: [\"{}\"]\n", digest(&user))).unwrap();
    assert_eq!([run(), run()], [126, 126]);
    fs::remove_file(&revoked).unwrap();
    assert_eq!(run(), 7);
    assert_eq!(fs::read_dir(&forms).unwrap().count(), 1);
}

// [SIGN-072]
#[test]
fn what_a_host_revokes_is_not_pulled() {
    let server = Server::hub(&[]);
    let publishers = Publishers::new();
    publishers.add(1, TWO, &["alice", "bob"]);
    let name = server.name("app:1.0.0");
    let text = fs::read_to_string(publishers.path(1)).unwrap();
    let text = text.replace("\"file:\"", &format!("\"{}\"", server.name("app")));
    fs::write(publishers.path(1), text).unwrap();
    let (host, _) = host(&publishers);
    publishers.user.qyv(&["push", "app.qyvbin", &name]).expect(0);
    host.qyv(&["pull", "--verify", &name]).expect(0);
    host.qyv(&["verify", "--remote", &name]).expect(0);
    host.qyv(&["trust", "revoke", "alice"]).expect(0);
    host.qyv(&["pull", "--verify", &name]).expect(14);
    host.qyv(&["verify", "--remote", &name]).expect(14);
    host.qyv(&["run", "--pull", "always", &name, "exit", "7"]).expect(126);
    let checked = host.qyv(&["trust", "check", "--all"]).expect(0);
    assert!(checked.out.contains("refused"), "{}", checked.out);
    // A policy that is tried is tried on this host.
    let tried = host.qyv(&["trust", "check", "1.yaml", "--all"]).expect(0);
    assert!(tried.out.contains("refused"), "{}", tried.out);
}

// [SIGN-034]
#[test]
fn own_policy_revokes_and_no_longer_revokes_in_its_text() {
    let user = User::new();
    user.built("app", "");
    let policy = user.home().join("trust.yaml");
    let before = fs::read_to_string(&policy).unwrap();
    let image = digest(&user);
    for what in [image.as_str(), "default"] {
        user.qyv(&["trust", "revoke", what]).expect(0);
        user.qyv(&["verify", "app.qyvbin"]).expect(14);
        user.qyv(&["trust", "revoke", "--undo", what]).expect(0);
        user.qyv(&["verify", "app.qyvbin"]).expect(0);
    }
    let serial = |text: &str| text.replace("serial: 5", "serial: 1");
    assert_eq!(serial(&fs::read_to_string(&policy).unwrap()), before);
    assert!(!user.home().join("trust.yaml.revoked").exists());
}

// [SIGN-072]
#[test]
fn what_the_policy_revokes_too_is_not_undone() {
    let publishers = Publishers::new();
    publishers.add(1, TWO, &["alice", "bob"]);
    let (host, revoked) = host(&publishers);
    host.qyv(&["trust", "revoke", "carol"]).expect(0);
    let before = fs::read(&revoked).unwrap();
    let file = publishers.document(2, TWO, "revoked: { keys: [carol] }\n");
    for (key, more) in [("alice", &["--document", file.as_str()][..]), ("bob", &[])] {
        let args = [&["trust", "sign", "fleet.jsonl", "--key", key][..], more].concat();
        publishers.user.qyv(&args).expect(0);
    }
    publishers.give(&host, "fleet.jsonl");
    host.qyv(&["trust", "import", "fleet.jsonl"]).expect(0);
    host.qyv(&["trust", "revoke", "--undo", "carol"]).expect(2);
    assert_eq!(fs::read(&revoked).unwrap(), before);
}

// [SIGN-072]
#[test]
fn link_to_what_hosts_share_stays_when_the_last_entry_is_undone() {
    let publishers = Publishers::new();
    publishers.add(1, TWO, &["alice", "bob"]);
    let (host, revoked) = host(&publishers);
    let told = host.qyv(&["trust", "revoke", "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"]);
    assert!(told.expect(0).err.contains("no key of the policy has this fingerprint"));
    let shared = host.home().join("shared.revoked");
    fs::rename(&revoked, &shared).unwrap();
    std::os::unix::fs::symlink(&shared, &revoked).unwrap();
    host.qyv(&[
        "trust",
        "revoke",
        "--undo",
        "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ])
    .expect(0);
    assert!(fs::symlink_metadata(&revoked).unwrap().is_symlink());
    assert!(!fs::read_to_string(&shared).unwrap().contains("SHA256"));
    host.qyv(&["verify", "app.qyvbin"]).expect(0);
}
