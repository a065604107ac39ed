//! What `qyv serve` refuses before it listens.

use std::net::TcpListener;
use std::path::PathBuf;

use crate::service::{Server, service};
use crate::support::{CommandOutput, User};

#[track_caller]
fn refused(user: &User, args: &[&str], code: i32) -> CommandOutput {
    let done = user
        .qyv(&[&["serve", "--listen", "127.0.0.1:0"], args].concat())
        .expect(code);
    assert!(!done.err.contains("listening"), "{}", done.err);
    done
}

// [SERVE-002]
#[test]
fn service_that_trust_refuses_does_not_listen() {
    let (author, host) = (User::new(), User::new());
    let app = service(&author, "app", "");
    let archive = author.path(&app);
    refused(&host, &[archive.to_str().unwrap()], 126);
    author
        .qyv(&["build", "app", "--no-sign", "-o", "unsigned.qyvbin", "-q"])
        .expect(0);
    refused(&author, &["unsigned.qyvbin"], 126);
    assert_eq!(host.stored(), Vec::<PathBuf>::new());
}

// [SERVE-002]
#[test]
fn command_is_not_served_and_service_is_not_run() {
    let user = User::new();
    let service = service(&user, "app", "");
    let command = user.built("command", "");
    let before = user.stored();
    let done = user.qyv(&["run", &service]).expect(125);
    assert!(done.err.contains("is an HTTP service, not a command"), "{}", done.err);
    assert!(done.err.contains(&format!("`qyv serve {service}`")), "{}", done.err);
    let done = refused(&user, &[&command], 125);
    assert!(done.err.contains("is not an HTTP service"), "{}", done.err);
    assert!(done.err.contains(&format!("`qyv run {command}`")), "{}", done.err);
    // Before anything was compiled.
    assert_eq!(user.stored(), before);
    // Compiled ahead as what it is.
    user.qyv(&["compile", &service]).expect(0);
    let compiled = user.stored();
    Server::start(&user, &[], &service).end();
    assert_eq!(user.stored(), compiled);
}

// [SERVE-002]
#[test]
fn address_in_use_is_reported() {
    let user = User::new();
    let app = service(&user, "app", "");
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let done = user.qyv(&["serve", &app, "--listen", &address]).expect(125);
    assert!(done.err.contains(&format!("can't serve on {address}")), "{}", done.err);
    assert!(done.err.contains("name another address with --listen"), "{}", done.err);
}
