//! Who may use a registry: credentials, certificates and a hub's users.

use std::fs;

use crate::needs::lacks;
use crate::registry::Server;
use crate::support::{CommandOutput, User, certificate};

/// `htpasswd -nbB ana s3cret`, and the same for the hub.
const BCRYPT: &str = "ana:$2a$05$JQrQrjK93Bi1qA3Z5bxkHu/MTatNDWvJ1LBIHPT/ujhz8wq7jEpVC\n";

/// Makes a file of users with one in it.
fn add_ana(user: &User, file: &str, rights: &str) {
    let add = ["hub", "user", "add", "ana", "--users", file, "--allow", rights];
    user.qyv_with_input(&add, "s3cret\n").expect(0);
}

// [REG-007] [REG-008]
#[test]
fn login_opens_what_is_closed_and_the_password_is_nowhere() {
    if lacks(&["docker-registry"]) {
        return;
    }
    let user = User::new();
    add_ana(&user, "token.json", "*=read,write,delete");
    let htpasswd = user.write("htpasswd", BCRYPT);
    let token = user.path("token.json");
    let users = fs::read_to_string(&token).unwrap();
    assert!(
        users.contains("\"token\": true") && !users.contains("s3cret"),
        "{users}"
    );
    let basic = user.write("basic.json", users.replace("\"token\": true", "\"token\": false"));
    let servers = [
        Server::docker(&format!(
            "auth: {{ htpasswd: {{ realm: r, path: {} }} }}\n",
            htpasswd.display()
        )),
        Server::hub(&["--users", basic.to_str().unwrap()]),
        Server::hub(&["--users", token.to_str().unwrap()]),
    ];
    let file = user.built("app", "");
    for server in servers {
        let name = server.name("app:1");
        let repository = server.name("app");
        let done = user.qyv(&["push", &file, &name]).expect(69);
        assert!(
            done.err.contains(&format!("qyv login {}", server.address)),
            "{}",
            done.err
        );
        let login = ["login", &server.address, "-u", "ana", "--password-stdin"];
        let done = user.qyv_with_input(&login, "wrong\n");
        assert_eq!(done.code, 69, "{done:?}");
        assert!(
            !user.home().join("registry.json").exists(),
            "a password that was refused is not kept"
        );
        user.qyv_with_input(&login, "s3cret\n").expect(0);
        let done = user.qyv(&["push", "-v", &file, &name]).expect(0);
        assert!(!format!("{done:?}").contains("s3cret"));
        let mode = fs::metadata(user.home().join("registry.json")).unwrap();
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777,
            0o600
        );
        user.qyv(&["logout", &server.address]).expect(0);
        user.qyv(&["pull", &name]).expect(69);
        // As a pipeline has it, and as Docker keeps it.
        let mut command = user.command();
        command
            .env("QYVOL_REGISTRY", &server.address)
            .env("QYVOL_REGISTRY_USER", "ana")
            .env("QYVOL_REGISTRY_PASSWORD", "s3cret")
            .args(["pull", &name]);
        CommandOutput::from(&command.output().unwrap()).expect(0);
        let auth = format!(r#"{{"auths":{{"{}":{{"auth":"YW5hOnMzY3JldA=="}}}}}}"#, server.address);
        user.write("docker/config.json", auth);
        let mut command = user.command();
        command
            .env("DOCKER_CONFIG", user.path("docker"))
            .args(["tags", &repository]);
        CommandOutput::from(&command.output().unwrap()).expect(0);
        // A helper that the file names is asked.
        let helper = "#!/bin/sh\nread host\nprintf '{\"ServerURL\":\"%s\",\"Username\":\"ana\",\"Secret\":\"s3cret\"}' \"$host\"\n";
        user.script("bin/docker-credential-test", helper);
        user.write("docker/config.json", r#"{"credsStore":"test"}"#);
        let mut command = user.command();
        command
            .env("DOCKER_CONFIG", user.path("docker"))
            .env("PATH", format!("{}:/usr/bin:/bin", user.path("bin").display()))
            .args(["tags", &repository]);
        CommandOutput::from(&command.output().unwrap()).expect(0);
        fs::remove_file(user.home().join("registry.json")).unwrap();
    }
}

// [REG-009]
#[test]
fn hub_speaks_tls_and_a_certificate_of_ones_own_is_trusted_by_name_alone() {
    if lacks(&["openssl"]) {
        return;
    }
    let user = User::new();
    let file = user.built("app", "");
    let (cert, key) = certificate(&user);
    let server = Server::hub(&["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()]);
    let name = server.name("app:1");
    let tls = ["--tls", &server.address];
    let done = user.qyv(&[&["push", &file, &name][..], &tls].concat()).expect(69);
    assert!(done.err.contains("--ca"), "{}", done.err);
    let ca = ["--ca", "cert.pem"];
    user.qyv(&[&["push", &file, &name][..], &tls, &ca].concat()).expect(0);
    user.qyv(&[&["pull", &name][..], &tls, &ca].concat()).expect(0);
    // Plain HTTP to a server that speaks TLS.
    assert_ne!(user.qyv(&["pull", &name, "--retries", "0"]).code, 0);
}

// [HUB-020]
#[test]
fn hub_that_others_reach_wants_to_know_its_users() {
    let user = User::new();
    let done = user.qyv(&["hub", "serve", "--listen", "0.0.0.0:0"]).expect(2);
    assert!(done.err.contains("--users"), "{}", done.err);
    let done = user.qyv(&["hub", "serve", "--users", "absent.json"]).expect(1);
    assert!(done.err.contains("absent.json"), "{}", done.err);
    assert!(!user.home().exists(), "nothing is made before it is known who may come");
    // A password in the clear takes a word, and a proxy must be known.
    add_ana(&user, "users.json", "*=read");
    let serve = ["hub", "serve", "--listen", "0.0.0.0:0", "--users", "users.json"];
    let done = user.qyv(&serve).expect(2);
    assert!(
        done.err.contains("--public-url") && done.err.contains("--trusted-proxy"),
        "{}",
        done.err
    );
}

// [HUB-027]
#[test]
fn users_of_a_hub_are_added_listed_and_removed() {
    let user = User::new();
    let verb = |args: &[&str], input: &str| {
        let args = [&["hub", "user"][..], args, &["--users", "users.json"]].concat();
        user.qyv_with_input(&args, input)
    };
    let done = verb(&["add", "ana"], "one\n").expect(2);
    assert!(done.err.contains("--allow"), "{}", done.err);
    verb(
        &["add", "ana", "--allow", "team/*=read,write", "--allow", "base=read"],
        "one\n",
    )
    .expect(0);
    verb(&["add", "bo", "--allow", "*=read"], "two\n").expect(0);
    assert_eq!(
        verb(&["list"], "").expect(0).out,
        "ana team/*=read,write base=read\nbo *=read\n"
    );
    let before = fs::read(user.path("users.json")).unwrap();
    let done = verb(&["add", "ana", "--allow", "*=read"], "x\n").expect(1);
    assert!(done.err.contains("--replace"), "{}", done.err);
    for (args, input, code) in [
        (&["add", "cy", "--allow", "Team=read"][..], "x\n", 1),
        (&["add", "cy", "--allow", "team=admin"], "x\n", 2),
        (&["add", "cy", "--allow", "team=read"], "", 2),
        (&["add", "cy", "--replace"], "x\n", 1),
        (&["add", "c:y", "--allow", "team=read"], "x\n", 1),
        (&["rm", "cy"], "", 1),
    ] {
        verb(args, input).expect(code);
        assert_eq!(fs::read(user.path("users.json")).unwrap(), before, "{args:?}");
    }
    // Another password, and the same rights.
    verb(&["add", "ana", "--replace"], "three\n").expect(0);
    let users = verb(&["list", "--format", "json"], "").expect(0).json();
    assert_eq!(users["users"][0]["scopes"][1]["repository"], "base");
    let server = Server::hub(&["--users", user.path("users.json").to_str().unwrap()]);
    let login = |name: &str, password: &str| {
        let args = ["login", &server.address, "--username", name, "--password-stdin"];
        user.qyv_with_input(&args, password).code
    };
    assert_eq!((login("ana", "three"), login("bo", "two")), (0, 0));
    assert_ne!(login("ana", "one"), 0);
    verb(&["rm", "bo"], "").expect(0);
    assert_eq!(verb(&["list"], "").expect(0).out, "ana team/*=read,write base=read\n");
}
