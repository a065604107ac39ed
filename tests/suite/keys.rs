//! Keys: OpenSSL reads ours, we read OpenSSL's, and nobody else reads either.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::needs::lacks;
use crate::support::{CommandOutput, User, third_party};

fn openssl(user: &User, args: &[&str]) -> i32 {
    third_party("openssl", Command::new("openssl").args(args).current_dir(user.path(""))).code
}

// [SIGN-002]
#[test]
fn openssl_reads_our_keys_plain_and_encrypted() {
    if lacks(&["openssl"]) {
        return;
    }
    let user = User::new();
    for kind in ["ed25519", "ecdsa-p256"] {
        user.qyv(&["keys", "generate", kind, "--type", kind]).expect(0);
        let file = user.home().join(format!("keys/{kind}.key"));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            openssl(&user, &["pkey", "-noout", "-check", "-in", file.to_str().unwrap()]),
            0,
            "{kind}"
        );
        let public = user.write("key.pub", user.qyv(&["keys", "export", kind]).expect(0).out);
        assert_eq!(
            openssl(&user, &["pkey", "-noout", "-pubin", "-in", public.to_str().unwrap()]),
            0
        );
        let sealed = user
            .command()
            .args(["keys", "export", kind, "--private"])
            .env("QYVOL_KEY_PASSPHRASE", "secret")
            .output()
            .unwrap();
        assert!(sealed.status.success());
        user.write("sealed.pem", sealed.stdout);
        assert_eq!(
            openssl(
                &user,
                &["pkey", "-noout", "-in", "sealed.pem", "-passin", "pass:secret"]
            ),
            0,
            "{kind}"
        );
        assert_ne!(
            openssl(&user, &["pkey", "-noout", "-in", "sealed.pem", "-passin", "pass:wrong"]),
            0,
            "{kind}"
        );
    }
}

// [SIGN-002]
#[test]
fn keys_that_openssl_wrote_sign_here() {
    if lacks(&["openssl"]) {
        return;
    }
    let user = User::new();
    user.app("app", "");
    openssl(&user, &["genpkey", "-algorithm", "ed25519", "-out", "ed.pem"]);
    openssl(
        &user,
        &[
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-out",
            "ec.pem",
        ],
    );
    openssl(
        &user,
        &[
            "pkcs8",
            "-topk8",
            "-v2",
            "aes-256-cbc",
            "-in",
            "ed.pem",
            "-out",
            "pbkdf2.pem",
            "-passout",
            "pass:secret",
        ],
    );
    openssl(
        &user,
        &[
            "pkcs8",
            "-topk8",
            "-scrypt",
            "-in",
            "ec.pem",
            "-out",
            "scrypt.pem",
            "-passout",
            "pass:secret",
        ],
    );
    for name in ["ed", "ec", "pbkdf2", "scrypt"] {
        let file = format!("{name}.pem");
        fs::set_permissions(user.path(&file), fs::Permissions::from_mode(0o600)).unwrap();
        let build = |command: &mut Command| {
            command
                .args(["build", "app", "-o", "x.qyvbin", "--key", &format!("./{file}")])
                .output()
                .unwrap()
        };
        let output = build(user.command().env("QYVOL_KEY_PASSPHRASE", "secret"));
        assert!(
            output.status.success(),
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let import = user
            .command()
            .args(["keys", "import", name, &file])
            .env("QYVOL_KEY_PASSPHRASE", "secret")
            .output()
            .unwrap();
        assert!(
            import.status.success(),
            "{name}: {}",
            String::from_utf8_lossy(&import.stderr)
        );
        user.write("key.pub", user.qyv(&["keys", "export", name]).expect(0).out);
        user.qyv(&["verify", "--key", "key.pub", "x.qyvbin"]).expect(0);
    }
    let wrong = user
        .command()
        .args(["build", "app", "-o", "y.qyvbin", "--key", "./scrypt.pem"])
        .env("QYVOL_KEY_PASSPHRASE", "no")
        .output()
        .unwrap();
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("passphrase does not open it"));
    let asked = user
        .qyv(&["build", "app", "-o", "y.qyvbin", "--key", "./scrypt.pem"])
        .expect(1);
    assert!(asked.err.contains("QYVOL_KEY_PASSPHRASE"), "{}", asked.err);
    assert!(!user.path("y.qyvbin").exists());
}

// [SIGN-005]
#[test]
fn key_that_others_can_read_or_that_does_not_match_is_refused() {
    let user = User::new();
    user.app("app", "");
    user.qyv(&["keys", "generate", "a"]).expect(0);
    user.qyv(&["keys", "generate", "b"]).expect(0);
    let keys = user.home().join("keys");
    fs::set_permissions(keys.join("a.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let done = user.qyv(&["build", "app", "-o", "x.qyvbin", "--key", "a"]).expect(1);
    assert!(done.err.contains("chmod 600"), "{}", done.err);
    fs::copy(keys.join("a.pub"), keys.join("b.pub")).unwrap();
    let done = user.qyv(&["build", "app", "-o", "x.qyvbin", "--key", "b"]).expect(1);
    assert!(done.err.contains("another key"), "{}", done.err);
    user.qyv(&["build", "app", "-o", "x.qyvbin", "--key", "none"]).expect(1);
    let public = keys.join("a.pub");
    let done = user.qyv(&["build", "app", "-o", "x.qyvbin", "--key", public.to_str().unwrap()]);
    assert!(done.expect(1).err.contains("it is a public key"));
    for bad in ["../a", "a/b", "", ".hidden", "-x"] {
        assert_ne!(user.qyv(&["keys", "generate", bad]).code, 0, "{bad:?}");
    }
    user.qyv(&["keys", "generate", "a"]).expect(1);
}

// [SIGN-028]
#[test]
fn first_build_makes_a_key_that_only_this_machine_trusts_for_files() {
    let user = User::new();
    user.app("app", "");
    let done = user.qyv(&["build", "app", "-o", "x.qyvbin"]).expect(0);
    assert!(
        done.err.contains("made this machine's first key: SHA256:"),
        "{}",
        done.err
    );
    let policy = fs::read_to_string(user.home().join("trust.yaml")).unwrap();
    assert!(policy.contains("file:") && policy.contains("default: reject"));
    assert_eq!(
        fs::metadata(user.home().join("trust.yaml"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
    assert_eq!(fs::metadata(user.home()).unwrap().permissions().mode() & 0o777, 0o700);
    // The same image under a registry's name is another matter.
    user.qyv(&["tag", "app:1.0.0", "r.example/app:1.0.0"]).expect(0);
    user.qyv(&["verify", "app:1.0.0"]).expect(0);
    user.qyv(&["verify", "r.example/app:1.0.0"]).expect(11);
    let again = user.qyv(&["build", "app", "-o", "x.qyvbin"]).expect(0);
    assert!(!again.err.contains("first key"), "{}", again.err);
}

// [CMD-001]
#[test]
fn variable_that_is_set_but_empty_is_an_error() {
    let user = User::new();
    user.app("app", "");
    for name in [
        "QYVOL_KEY",
        "QYVOL_KEY_FILE",
        "QYVOL_KEY_PASSPHRASE",
        "SOURCE_DATE_EPOCH",
    ] {
        let output = user
            .command()
            .args(["build", "app", "-o", "x.qyvbin"])
            .env(name, "")
            .output();
        let done = CommandOutput::from(&output.unwrap()).expect(2);
        assert!(done.err.contains(&format!("{name} is set but empty")), "{}", done.err);
        assert!(done.err.contains(&format!("unset {name}")), "{}", done.err);
    }
    let output = user.command().args(["keys", "list"]).env("QYVOL_HOME", "").output();
    let done = CommandOutput::from(&output.unwrap()).expect(2);
    assert!(done.err.contains("QYVOL_HOME is set but empty"), "{}", done.err);
    let output = user
        .command()
        .args(["tags", "127.0.0.1:1/app"])
        .env("QYVOL_REGISTRY_TOKEN", "")
        .output();
    CommandOutput::from(&output.unwrap()).expect(2);
    assert!(!user.home().exists() && !user.path("x.qyvbin").exists());
}

// [CMD-001]
#[test]
fn two_keys_in_the_environment_are_refused() {
    let user = User::new();
    user.app("app", "");
    let output = user
        .command()
        .args(["build", "app", "-o", "x.qyvbin"])
        .env("QYVOL_KEY", "-----BEGIN PRIVATE KEY-----")
        .env("QYVOL_KEY_FILE", "release.key")
        .output();
    let done = CommandOutput::from(&output.unwrap()).expect(2);
    assert!(done.err.contains("both set"), "{}", done.err);
}

// [CMD-002]
#[test]
fn pipeline_never_makes_a_key() {
    let user = User::new();
    user.app("app", "");
    let build = |ci: &str| {
        let mut command = user.command();
        command.args(["build", "app", "-o", "x.qyvbin"]).env("CI", ci);
        CommandOutput::from(&command.output().unwrap())
    };
    for ci in ["true", "1"] {
        let done = build(ci).expect(1);
        assert!(done.err.contains("no signing key is given"), "{}", done.err);
        assert!(done.err.contains("QYVOL_KEY"), "{}", done.err);
    }
    assert!(!user.path("x.qyvbin").exists());
    assert!(!user.home().join("keys").exists() && !user.home().join("trust.yaml").exists());
    // A key that is there is used, and elsewhere one is made as ever.
    for ci in ["", "false", "true"] {
        build(ci).expect(0);
    }
}

// [CMD-003]
#[test]
fn key_is_a_path_or_a_name_by_its_spelling_alone() {
    let user = User::new();
    user.app("app", "");
    user.qyv(&["keys", "generate", "release"]).expect(0);
    user.qyv(&["keys", "generate", "other"]).expect(0);
    let other = user
        .qyv(&["keys", "show", "other", "--format", "json"])
        .expect(0)
        .json();
    // A file of that name here is not what `--key release` means.
    fs::copy(user.home().join("keys/other.key"), user.path("release")).unwrap();
    fs::set_permissions(user.path("release"), fs::Permissions::from_mode(0o600)).unwrap();
    let signer = |key: &str| {
        user.qyv(&["build", "app", "-o", "x.qyvbin", "--key", key, "--format", "json"])
            .expect(0)
            .json()["signedBy"]
            .clone()
    };
    assert_ne!(signer("release"), other["fingerprint"]);
    assert_eq!(signer("./release"), other["fingerprint"]);
    fs::rename(user.path("release"), user.path("other.key")).unwrap();
    assert_eq!(signer("other.key"), other["fingerprint"]);
    for name in ["x.key", "x.pem", "x.pub"] {
        user.qyv(&["keys", "generate", name]).expect(1);
    }
}

// [SIGN-005]
#[test]
fn encrypted_key_in_the_environment_is_opened() {
    let user = User::new();
    user.app("app", "");
    user.qyv(&["keys", "generate", "release"]).expect(0);
    let run = |args: &[&str], env: &[(&str, &str)]| {
        let mut command = user.command();
        CommandOutput::from(&command.args(args).envs(env.iter().copied()).output().unwrap())
    };
    let secret = ("QYVOL_KEY_PASSPHRASE", "secret");
    let sealed = run(&["keys", "export", "release", "--private"], &[secret])
        .expect(0)
        .out;
    let key = ("QYVOL_KEY", sealed.as_str());
    let build = ["build", "app", "-o", "x.qyvbin"];
    run(&build, &[key, secret]).expect(0);
    user.write("key.pub", user.qyv(&["keys", "export", "release"]).expect(0).out);
    user.qyv(&["verify", "--key", "key.pub", "x.qyvbin"]).expect(0);
    let done = run(&build, &[key, ("QYVOL_KEY_PASSPHRASE", "wrong")]).expect(1);
    assert!(
        done.err.contains("QYVOL_KEY: ") && done.err.contains("passphrase"),
        "{}",
        done.err
    );
    let done = run(&build, &[key]).expect(1);
    assert!(done.err.contains("set QYVOL_KEY_PASSPHRASE"), "{}", done.err);
}

// [SIGN-005] A pipeline's file variable can be read by everybody.
#[test]
fn hint_for_a_key_that_others_can_read_works() {
    let user = User::new();
    user.app("app", "");
    user.qyv(&["keys", "generate", "release"]).expect(0);
    let key = user.write("tmp/KEY", fs::read(user.home().join("keys/release.key")).unwrap());
    fs::set_permissions(&key, fs::Permissions::from_mode(0o666)).unwrap();
    let build = |file: &str| {
        let mut command = user.command();
        command
            .args(["build", "app", "-o", "x.qyvbin"])
            .env("QYVOL_KEY_FILE", file)
            .env("CI", "true");
        CommandOutput::from(&command.output().unwrap())
    };
    let done = build(key.to_str().unwrap()).expect(1);
    assert!(
        done.err.contains("others can read its file (mode 0666)"),
        "{}",
        done.err
    );
    let hint = done
        .err
        .split('`')
        .find(|part| part.starts_with("install -m 600 "))
        .unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", hint]).env("HOME", user.path(""));
    third_party("coreutils", &mut shell).expect(0);
    build(user.path("release.key").to_str().unwrap()).expect(0);
}

// [CMD-005]
#[test]
fn removing_a_private_key_has_to_be_meant() {
    let user = User::new();
    user.app("app", "");
    user.built("app", "");
    let done = user.qyv(&["keys", "rm", "default"]).expect(1);
    assert!(done.err.contains("may be the last copy"), "{}", done.err);
    assert!(user.home().join("keys/default.key").exists());
    let done = user.qyv(&["keys", "rm", "default", "--yes"]).expect(0);
    assert!(
        done.err.contains("the trust policy still names it, as `default`"),
        "{}",
        done.err
    );
    assert!(!user.home().join("keys/default.key").exists() && !user.home().join("keys/default.pub").exists());
    user.qyv(&["keys", "rm", "default", "--yes"]).expect(1);
    // A public key alone is not lost.
    user.qyv(&["keys", "generate", "other"]).expect(0);
    user.write("other.pub", user.qyv(&["keys", "export", "other"]).expect(0).out);
    user.qyv(&["keys", "import", "theirs", "other.pub"]).expect(0);
    user.qyv(&["keys", "rm", "theirs"]).expect(0);
}

// [CMD-006]
#[test]
fn signature_that_would_be_over_at_once_is_refused() {
    let user = User::new();
    user.app("app", "");
    let done = user
        .qyv(&["build", "app", "-o", "x.qyvbin", "--expires", "2020-01-01"])
        .expect(2);
    assert!(done.err.contains("not after the time of signing"), "{}", done.err);
    assert!(!user.path("x.qyvbin").exists() && !user.home().join("keys").exists());
    user.qyv(&["build", "app", "-o", "x.qyvbin", "--expires", "2999-01-01"])
        .expect(0);
}
