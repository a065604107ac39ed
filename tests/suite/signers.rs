//! Keys that `qyv` does not have: in a program, a token, an ssh agent.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::needs::lacks;
use crate::support::{CommandOutput, User, third_party};

/// A key of OpenSSL's, as `key.pem` and `key.pub`.
fn key_pair(user: &User, arguments: &[&str]) {
    let mut openssl = Command::new("openssl");
    openssl.arg("genpkey").args(arguments).args(["-out", "key.pem"]);
    third_party("openssl", openssl.current_dir(user.path(""))).expect(0);
    let mut openssl = Command::new("openssl");
    openssl.args(["pkey", "-in", "key.pem", "-pubout", "-out", "key.pub"]);
    third_party("openssl", openssl.current_dir(user.path(""))).expect(0);
}

const ED25519: &[&str] = &["-algorithm", "ED25519"];
const P256: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];

// [SIGN-068]
#[test]
fn key_that_ssh_keygen_wrote_is_trusted() {
    if lacks(&["ssh-keygen"]) {
        return;
    }
    let generated = |kind: &str| {
        let user = User::new();
        let mut generate = Command::new("ssh-keygen");
        generate.args(["-q", "-t", kind, "-N", "", "-C", "ana@laptop", "-f", "id"]);
        third_party("openssh-client", generate.current_dir(user.path(""))).expect(0);
        user
    };
    for (kind, shown_as) in [
        ("ed25519", "key  id ed25519 SHA256:"),
        ("ecdsa", "key  id ecdsa-p256 SHA256:"),
    ] {
        let user = generated(kind);
        user.qyv(&["trust", "add", "file:app", "--key", "id.pub"]).expect(0);
        let shown = user.qyv(&["trust", "show"]).expect(0).out;
        assert!(shown.contains(shown_as), "{shown}");
        let again = user.qyv(&["trust", "add", "file:app", "--key", "id.pub"]).expect(0);
        assert!(again.out.contains("nothing to change"), "{}", again.out);
        // It decides, in the policy's place too.
        let file = user.built("app", "");
        user.qyv(&["verify", &file]).expect(11);
        user.qyv(&["verify", &file, "--key", "id.pub"]).expect(11);
    }
    let user = generated("rsa");
    let refused = user.qyv(&["trust", "add", "file:", "--key", "id.pub"]).expect(1);
    assert!(refused.err.contains("Ed25519 and ECDSA on P-256"), "{}", refused.err);
}

// [SIGN-066]
#[test]
fn program_signs_and_its_signature_is_as_any_other() {
    if lacks(&["openssl"]) {
        return;
    }
    for (kind, program) in [
        // Pure Ed25519 wants the length of its input beforehand.
        (
            ED25519,
            "sh -c 'cat > message && openssl pkeyutl -sign -rawin -inkey key.pem -in message'",
        ),
        (P256, "openssl dgst -sha256 -sign key.pem"),
    ] {
        let user = User::new();
        let file = user.built("app", "");
        key_pair(&user, kind);
        let signed = user
            .qyv(&["sign", &file, "--signer", program, "--key", "./key.pub"])
            .expect(0);
        assert!(signed.err.contains("2 signatures"), "{}", signed.err);
        let auditor = User::new();
        fs::copy(user.path("key.pub"), auditor.path("key.pub")).unwrap();
        let path = user.path(&file);
        auditor
            .qyv(&["verify", path.to_str().unwrap(), "--key", "./key.pub"])
            .expect(0);
        user.qyv(&[
            "build",
            "app",
            "-o",
            "built.qyvbin",
            "--signer",
            program,
            "--key",
            "./key.pub",
        ])
        .expect(0);
        user.write("sbom.json", r#"{"bomFormat":"CycloneDX"}"#);
        user.qyv(&[
            "attest",
            "built.qyvbin",
            "--sbom",
            "sbom.json",
            "--signer",
            program,
            "--key",
            "./key.pub",
        ])
        .expect(0);
        user.qyv(&["verify", "built.qyvbin", "--key", "./key.pub"]).expect(0);
    }
}

// [CMD-004]
#[test]
fn program_that_signs_sees_no_secrets_of_the_command() {
    let user = User::new();
    let file = user.built("app", "");
    user.write("key.pub", user.qyv(&["keys", "export"]).expect(0).out);
    user.script("spy", "#!/bin/sh\nenv > seen\nexit 1\n");
    let mut command = user.command();
    command.args(["sign", &file, "--signer", "./spy", "--key", "./key.pub"]);
    for name in [
        "QYVOL_KEY",
        "QYVOL_KEY_PASSPHRASE",
        "QYVOL_REGISTRY_PASSWORD",
        "QYVOL_REGISTRY_TOKEN",
    ] {
        command.env(name, "a-secret");
    }
    let done = CommandOutput::from(&command.output().unwrap()).expect(1);
    let seen = fs::read_to_string(user.path("seen")).unwrap_or_else(|e| panic!("{e}: {done:?}"));
    assert!(!seen.contains("a-secret"), "{seen}");
}

// [SIGN-066]
#[test]
fn program_that_fails_or_signs_otherwise_leaves_the_image_as_it_was() {
    if lacks(&["openssl"]) {
        return;
    }
    let user = User::new();
    let file = user.built("app", "");
    key_pair(&user, ED25519);
    let bytes = fs::read(user.path(&file)).unwrap();
    for (program, code, why) in [
        ("false", 1, "it ended with"),
        ("./missing", 1, "can't be started"),
        ("true", 1, "does not verify"),
        ("head -c 64 /dev/zero", 1, "does not verify"),
        ("yes", 1, "more than 512 bytes"),
        (
            "sh -c 'cat >/dev/null; head -c 64 /dev/zero; exit 3'",
            1,
            "it ended with",
        ),
        ("", 2, "--signer"),
        ("sh -c 'open", 2, "--signer"),
        // No shell looks at it.
        ("cat | head -c 64", 1, "it ended with"),
        ("echo $HOME", 1, "does not verify"),
    ] {
        let failed = user
            .qyv(&["sign", &file, "--signer", program, "--key", "./key.pub"])
            .expect(code);
        assert!(failed.err.contains(why), "{program}: {}", failed.err);
        assert_eq!(fs::read(user.path(&file)).unwrap(), bytes, "{program}");
    }
    user.qyv(&["sign", &file, "--signer", "cat"]).expect(2);
}

// [SIGN-066]
#[test]
fn key_in_a_token_signs() {
    if lacks(&["softhsm2-util", "pkcs11-tool", "openssl"]) {
        return;
    }
    let modules = ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so"];
    let module = modules.into_iter().find(|path| Path::new(path).exists()).unwrap();
    let user = User::new();
    let file = user.built("app", "");
    fs::create_dir(user.path("tokens")).unwrap();
    let tokens = user.path("tokens");
    let config = user.write(
        "softhsm2.conf",
        format!("directories.tokendir = {}\n", tokens.display()),
    );
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).env("SOFTHSM2_CONF", &config);
        third_party("softhsm2 and opensc", command.current_dir(user.path(""))).expect(0)
    };
    run(
        "softhsm2-util",
        &[
            "--init-token",
            "--free",
            "--label",
            "token",
            "--pin",
            "1234",
            "--so-pin",
            "5678",
        ],
    );
    let token = ["--module", module, "--token-label", "token", "--login", "--pin", "1234"];
    let with = |more: &[&str]| run("pkcs11-tool", &[&token[..], more].concat());
    with(&[
        "--keypairgen",
        "--key-type",
        "EC:prime256v1",
        "--id",
        "01",
        "--label",
        "release",
    ]);
    with(&[
        "--read-object",
        "--type",
        "pubkey",
        "--id",
        "01",
        "--output-file",
        "key.der",
    ]);
    let mut openssl = Command::new("openssl");
    openssl.args(["pkey", "-pubin", "-inform", "DER", "-in", "key.der", "-out", "key.pub"]);
    third_party("openssl", openssl.current_dir(user.path(""))).expect(0);
    // The two forms that the tool writes ECDSA in. SoftHSM signs hashes alone.
    for form in ["openssl", "rs"] {
        let program = format!(
            "sh -c 'openssl dgst -sha256 -binary | pkcs11-tool --module {module} --token-label token --login --pin 1234 --id 01 --sign --mechanism ECDSA --signature-format {form}'"
        );
        let mut command = user.command();
        command.env("SOFTHSM2_CONF", &config);
        command.args(["sign", &file, "--signer", &program, "--key", "./key.pub"]);
        CommandOutput::from(&command.output().unwrap()).expect(0);
    }
    user.qyv(&["verify", &file, "--key", "./key.pub"]).expect(0);
}

/// A running agent.
struct Agent {
    process: Child,
    socket: PathBuf,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Agent {
    fn start(user: &User) -> Agent {
        let socket = user.path("agent");
        let mut agent = Command::new("ssh-agent");
        agent.args(["-D", "-a"]).arg(&socket).stdout(Stdio::piped());
        let mut process = agent.spawn().unwrap();
        // It says where it listens once it does.
        let mut said = [0; 1];
        std::io::Read::read_exact(process.stdout.as_mut().unwrap(), &mut said).unwrap();
        Agent { process, socket }
    }

    /// Makes a key, gives it to the agent, and returns its fingerprint.
    fn add(&self, user: &User, kind: &str) -> String {
        let file = user.path(kind);
        let mut keygen = Command::new("ssh-keygen");
        keygen
            .args(["-q", "-t", kind, "-N", "", "-C", "a comment", "-f"])
            .arg(&file);
        third_party("openssh-client", &mut keygen).expect(0);
        let mut add = Command::new("ssh-add");
        add.arg("-q").arg(&file).env("SSH_AUTH_SOCK", &self.socket);
        third_party("openssh-client", &mut add).expect(0);
        let mut show = Command::new("ssh-keygen");
        show.arg("-lf").arg(file.with_extension("pub"));
        let line = third_party("openssh-client", &mut show).expect(0).out;
        line.split(' ').nth(1).unwrap().to_string()
    }

    fn qyv(&self, user: &User, arguments: &[&str]) -> CommandOutput {
        let mut command = user.command();
        command.env("SSH_AUTH_SOCK", &self.socket).args(arguments);
        CommandOutput::from(&command.output().unwrap())
    }
}

// [SIGN-067] [SIGN-068]
#[test]
fn key_in_an_ssh_agent_signs() {
    if lacks(&["ssh-agent", "ssh-add", "ssh-keygen"]) {
        return;
    }
    let user = User::new();
    let agent = Agent::start(&user);
    for kind in ["ed25519", "ecdsa"] {
        let fingerprint = agent.add(&user, kind);
        let file = user.built("app", "");
        let key = format!("ssh:{fingerprint}");
        let signed = agent
            .qyv(&user, &["sign", &file, "--key", &key, "--format", "json"])
            .expect(0);
        let ours = signed.json()["signedBy"].as_str().unwrap().to_string();
        // What ssh knows the key by is not what Qyvol does; either names it.
        assert_ne!(ours, fingerprint);
        agent
            .qyv(&user, &["sign", &file, "--key", &format!("ssh:{ours}")])
            .expect(0);
        let mut export = Command::new("ssh-keygen");
        export
            .args(["-e", "-m", "PKCS8", "-f"])
            .arg(user.path(&format!("{kind}.pub")));
        let export = third_party("openssh-client", &mut export);
        // Of Ed25519, ssh-keygen writes no PKCS#8.
        if kind == "ecdsa" {
            user.write("ssh.pub", export.expect(0).out);
            user.qyv(&["verify", &file, "--key", "./ssh.pub"]).expect(0);
        }
        // The file that ssh-keygen wrote will do.
        user.qyv(&["verify", &file, "--key", &format!("./{kind}.pub")])
            .expect(0);
        let report = user.qyv(&["verify", &file, "--format", "json"]).expect(0).json();
        let signatures = report["results"][0]["report"]["signatures"].as_array().unwrap();
        assert!(signatures.iter().any(|s| s["fingerprint"] == ours.as_str()), "{report}");
    }
}

// [SIGN-067]
#[test]
fn agent_that_lacks_the_key_is_reported_and_nothing_is_written() {
    if lacks(&["ssh-agent", "ssh-add", "ssh-keygen"]) {
        return;
    }
    let user = User::new();
    let agent = Agent::start(&user);
    let rsa = agent.add(&user, "rsa");
    let file = user.built("app", "");
    let bytes = fs::read(user.path(&file)).unwrap();
    for (fingerprint, why) in [("SHA256:none", "no key"), (rsa.as_str(), "ssh-rsa")] {
        let key = format!("ssh:{fingerprint}");
        let failed = agent.qyv(&user, &["sign", &file, "--key", &key]).expect(1);
        assert!(failed.err.contains(why), "{}", failed.err);
    }
    let failed = user.qyv(&["sign", &file, "--key", "ssh:SHA256:none"]).expect(2);
    assert!(failed.err.contains("SSH_AUTH_SOCK"), "{}", failed.err);
    assert_eq!(fs::read(user.path(&file)).unwrap(), bytes);
}
