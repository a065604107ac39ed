//! Dependencies in a registry: when it is asked, and for what.

use std::fs;

use crate::compose::{built, calc, doubler, project};
use crate::registry::Server;
use crate::support::{CommandOutput, User};

/// A publisher whose `calc` is in the registry.
fn publisher(server: &Server) -> User {
    let user = User::new();
    publish(&user, server, 0);
    user
}

fn publish(user: &User, server: &Server, more: i32) {
    let file = built(user, "calc", "1.0.0", &calc("1.0.0", more), "");
    user.qyv(&["push", &file, &server.name("acme/calc:1.0.0")]).expect(0);
}

/// An author of an application that depends on it, who trusts the publisher.
fn author(publisher: &User, server: &Server) -> User {
    let user = User::new();
    let more = format!(
        "dependencies: {{ \"acme:calc/ops\": {{ image: \"{}\", version: 1.0.0 }} }}\n",
        server.name("acme/calc")
    );
    project(&user, "app", "1.0.0", &doubler(&["acme:calc/ops@1.0.0"]), &more);
    trust(&user, publisher, server);
    user
}

fn trust(user: &User, publisher: &User, server: &Server) {
    let key = publisher.qyv(&["keys", "export", "default"]).expect(0).out;
    user.write("publisher.pub", key);
    let scope = server.name("**");
    user.qyv(&["trust", "add", &scope, "--key", "./publisher.pub"])
        .expect(0);
    user.qyv(&["keys", "generate"]).expect(0);
}

fn build(user: &User, more: &[&str]) -> CommandOutput {
    user.qyv(&[&["build", "app", "-o", "app.qyvbin", "-q"], more].concat())
}

fn twice(user: &User) -> String {
    let ran = user.qyv(&["call", "--key", "default", "app.qyvbin", "twice", "21"]);
    ran.expect(0).out
}

// [COMP-002] [COMP-021]
#[test]
fn registry_is_asked_for_what_the_host_lacks_and_only_then() {
    let server = Server::hub(&[]);
    let publisher = publisher(&server);
    let user = author(&publisher, &server);
    let said = build(&user, &["--pull", "never"]).expect(1).err;
    assert!(said.contains("there is no image"), "{said}");
    // Neither does a validation fetch it.
    user.qyv(&["validate", "app"]).expect(1);
    build(&user, &[]).expect(0);
    assert_eq!(twice(&user), "42\n");
    let first = fs::read(user.path("app.qyvbin")).unwrap();
    drop(server);
    build(&user, &["--locked"]).expect(0);
    assert_eq!(fs::read(user.path("app.qyvbin")).unwrap(), first);
    user.qyv(&["validate", "app"]).expect(0);
    // An update has to ask.
    let lock = fs::read(user.path("app/qyv.lock")).unwrap();
    user.qyv(&["update", "--path", "app", "--retries", "0"]).expect(75);
    assert_eq!(fs::read(user.path("app/qyv.lock")).unwrap(), lock);
    user.qyv(&["update", "--path", "app", "--pull", "never"]).expect(0);
}

// [COMP-021] [COMP-022]
#[test]
fn lock_decides_by_digest_when_the_tag_has_moved() {
    let server = Server::hub(&[]);
    let publisher = publisher(&server);
    let user = author(&publisher, &server);
    build(&user, &[]).expect(0);
    publish(&publisher, &server, 100);
    // On another host, which has the lock alone.
    let other = author(&publisher, &server);
    other.write("app/qyv.lock", fs::read(user.path("app/qyv.lock")).unwrap());
    build(&other, &["--locked"]).expect(0);
    assert_eq!(twice(&other), "42\n");
    let names = other.qyv(&["images", "-q"]).expect(0).out;
    assert!(!names.contains("acme/calc:1.0.0"), "{names}");
    let printed = user.qyv(&["update", "--path", "app"]).expect(0).out;
    assert!(
        printed.starts_with("acme:calc/ops: acme/calc:1.0.0 sha256:"),
        "{printed}"
    );
    build(&user, &["--locked"]).expect(0);
    assert_eq!(twice(&user), "142\n");
}

// [COMP-024]
#[test]
fn old_lock_is_no_way_around_a_refused_rollback() {
    let server = Server::hub(&[]);
    let publisher = User::new();
    let release = |version: &str, more: i32| {
        let file = built(&publisher, "calc", version, &calc("1.0.0", more), "");
        publisher
            .qyv(&["push", &file, &server.name("acme/calc:stable")])
            .expect(0);
    };
    release("1.0.0", 0);
    let user = User::new();
    let more = format!(
        "dependencies: {{ \"acme:calc/ops\": {{ image: \"{}\", version: stable }} }}\n",
        server.name("acme/calc")
    );
    project(&user, "app", "1.0.0", &doubler(&["acme:calc/ops@1.0.0"]), &more);
    user.write(
        "publisher.pub",
        publisher.qyv(&["keys", "export", "default"]).expect(0).out,
    );
    let scope = server.name("**");
    user.qyv(&[
        "trust",
        "add",
        &scope,
        "--key",
        "./publisher.pub",
        "--identity",
        "repository",
    ])
    .expect(0);
    user.qyv(&["keys", "generate"]).expect(0);
    build(&user, &[]).expect(0);
    let old = fs::read(user.path("app/qyv.lock")).unwrap();
    release("2.0.0", 100);
    user.qyv(&["update", "--path", "app"]).expect(0);
    build(&user, &["--locked"]).expect(0);
    let built = fs::read(user.path("app.qyvbin")).unwrap();
    user.write("app/qyv.lock", old);
    let refused = build(&user, &["--locked"]);
    assert_eq!(refused.code, 15, "{}", refused.err);
    assert_eq!(fs::read(user.path("app.qyvbin")).unwrap(), built);
}

// [COMP-003]
#[test]
fn dependency_that_the_policy_refuses_is_not_fetched() {
    let server = Server::hub(&[]);
    let (trusted, stranger) = (publisher(&server), User::new());
    let user = author(&trusted, &server);
    build(&user, &[]).expect(0);
    let lock = fs::read(user.path("app/qyv.lock")).unwrap();
    publish(&stranger, &server, 7);
    let stored = user.stored();
    let said = user.qyv(&["update", "--path", "app"]);
    assert!((10..20).contains(&said.code), "{}", said.err);
    assert_eq!(
        (user.stored(), fs::read(user.path("app/qyv.lock")).unwrap()),
        (stored, lock)
    );
    // What was accepted once is not, once its key is revoked.
    fs::remove_file(user.path("app.qyvbin")).unwrap();
    let key = trusted.qyv(&["keys", "list", "--format", "json"]).expect(0).json();
    let fingerprint = key.to_string();
    let start = fingerprint.find("SHA256:").unwrap();
    let fingerprint = fingerprint[start..].split('"').next().unwrap();
    user.qyv(&["trust", "revoke", fingerprint]).expect(0);
    let said = build(&user, &["--locked"]);
    assert!((10..20).contains(&said.code), "{}", said.err);
    assert!(!user.path("app.qyvbin").exists());
}
