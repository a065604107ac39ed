//! Secrets of a process: no core file has them, and no other process sees them.

use std::fs;
use std::process::{Child, Stdio};

use crate::support::{CommandOutput, User};

// [CMD-004]
#[test]
fn process_that_holds_a_secret_dumps_no_core() {
    let user = User::new();
    user.app("app", "");
    user.qyv(&["keys", "generate", "release"]).expect(0);
    let pem = fs::read(user.home().join("keys/release.key")).unwrap();
    let pipe = std::ffi::CString::new(user.path("key.pem").to_str().unwrap()).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    user.qyv(&["build", "app", "-o", "y.qyvbin", "--no-sign"]).expect(0);
    user.write("sbom.json", r#"{"bomFormat":"CycloneDX"}"#);
    for args in [
        &["build", "app", "-o", "x.qyvbin", "--key", "./key.pem"][..],
        &["sign", "y.qyvbin", "--key", "./key.pem"],
        &["attest", "y.qyvbin", "--sbom", "sbom.json", "--key", "./key.pem"],
        &["keys", "import", "copy", "./key.pem"],
    ] {
        let mut child = user.command().args(args).spawn().unwrap();
        // Opened as soon as the command is about to read it.
        let mut key = fs::File::options().write(true).open(user.path("key.pem")).unwrap();
        assert!(dumps_nothing(&child), "{args:?}");
        assert!(cant_be_traced(&child), "{args:?}");
        std::io::Write::write_all(&mut key, &pem).unwrap();
        drop(key);
        assert!(child.wait().unwrap().success(), "{args:?}");
    }
    // What asks a registry may hold its password.
    for (args, makes_namespaces) in [
        (&["pull", "HOST/app:1.0.0"][..], false),
        (&["tags", "HOST/app"], false),
        (&["push", "y.qyvbin", "HOST/app:1.0.0"], false),
        (&["run", "HOST/app:1.0.0"], true),
    ] {
        let registry = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = registry.local_addr().unwrap();
        let args = args.iter().map(|arg| arg.replace("HOST", &address.to_string()));
        let args: Vec<String> = args.collect();
        let mut child = user.command().args(&args).stderr(Stdio::piped()).spawn().unwrap();
        let mut err = child.stderr.take().unwrap();
        // One that ends without asking is not waited for.
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut err, &mut std::io::sink());
            let _ = std::net::TcpStream::connect(address);
        });
        let connection = registry.accept().unwrap();
        assert!(child.try_wait().unwrap().is_none(), "{args:?}");
        assert!(dumps_nothing(&child), "{args:?}");
        assert!(makes_namespaces || cant_be_traced(&child), "{args:?}");
        child.kill().unwrap();
        child.wait().unwrap();
        drop(connection);
    }
}

/// Whether a process may write no core file, nor pipe one to a program.
fn dumps_nothing(child: &Child) -> bool {
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
    let bytes: Vec<&str> = core.unwrap().split_whitespace().take(2).collect();
    bytes == ["1", "1"] || bytes == ["0", "0"]
}

/// What may not be traced belongs to root; if this is root, nothing shows it.
fn cant_be_traced(child: &Child) -> bool {
    let descriptors = fs::metadata(format!("/proc/{}/fd", child.id())).unwrap();
    std::os::unix::fs::MetadataExt::uid(&descriptors) == 0
}

// [CMD-004]
#[test]
fn encrypted_key_that_is_imported_stays_encrypted() {
    let user = User::new();
    let secret = |args: &[&str]| {
        let mut command = user.command();
        command.args(args).env("QYVOL_KEY_PASSPHRASE", "secret");
        CommandOutput::from(&command.output().unwrap()).expect(0)
    };
    secret(&["keys", "generate", "release", "--encrypt"]);
    let path = user.home().join("keys/release.key");
    secret(&["keys", "import", "copy", path.to_str().unwrap()]);
    let copy = fs::read_to_string(user.home().join("keys/copy.key")).unwrap();
    assert!(copy.contains("ENCRYPTED PRIVATE KEY"), "{copy}");
    user.app("app", "");
    secret(&["build", "app", "-o", "x.qyvbin", "--key", "copy"]);
}

// [CMD-004]
#[test]
fn credential_helper_does_not_see_the_commands_secrets() {
    let user = User::new();
    user.script(
        "bin/docker-credential-spy",
        "#!/bin/sh\ncat >/dev/null\nenv > \"$SEEN\"\n",
    );
    user.write("home/registry.json", r#"{"credsStore": "spy"}"#);
    let mut command = user.command();
    command
        .args(["logout", "registry.example"])
        .env("PATH", format!("{}:/usr/bin:/bin", user.path("bin").display()))
        .env("SEEN", user.path("seen"))
        .env("QYVOL_KEY", "-----BEGIN PRIVATE KEY-----")
        .env("QYVOL_KEY_FILE", "release.key")
        .env("QYVOL_KEY_PASSPHRASE", "secret")
        .env("QYVOL_REGISTRY", "registry.example")
        .env("QYVOL_REGISTRY_TOKEN", "secret");
    let done = CommandOutput::from(&command.output().unwrap());
    let seen = fs::read_to_string(user.path("seen")).unwrap_or_else(|e| panic!("{e}: {done:?}"));
    assert!(!seen.contains("QYVOL_KEY") && !seen.contains("secret"), "{seen}");
}
