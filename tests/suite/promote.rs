//! From one repository of a registry to another: what is there is mounted and not sent.

use std::fs;

use crate::registry::Server;
use crate::support::User;
use crate::wire::release;

/// What the user remembers of the server, as one file.
fn memory(user: &User) -> std::path::PathBuf {
    let files = fs::read_dir(user.home().join("store/v1/state/seen")).unwrap();
    let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

// [REG-048]
#[test]
fn push_of_a_file_to_another_repository_of_a_registry_sends_no_blob() {
    for server in Server::both() {
        let user = User::new();
        let (file, _) = release(&user, 256 << 10, "1.0.0");
        user.qyv(&["push", &file, &server.name("dev/app:1")]).expect(0);
        user.qyv(&["rm", "app:1.0.0"]).expect(0);
        user.qyv(&["push", &file, &server.name("prod/app:1")]).expect(0);
        // Its representations and its signature too.
        assert_eq!(server.requests(&["PUT", "/prod/app/blobs/"]), 0);
        let done = user.qyv(&["pull", &server.name("prod/app:1"), "--format", "json"]);
        assert_eq!(done.expect(0).json()["signatures"], 1);
    }
}

// [REG-048]
#[test]
fn false_memory_of_a_registry_costs_nothing_but_the_bytes() {
    for server in Server::both() {
        let user = User::new();
        let (file, _) = release(&user, 64 << 10, "1.0.0");
        user.qyv(&["push", &file, &server.name("dev/app:1")]).expect(0);
        let path = memory(&user);
        let true_memory = fs::read_to_string(&path).unwrap();
        assert!(true_memory.contains("\"dev/app\""), "{true_memory}");
        let cases = [
            true_memory.replace("dev/app", "absent/app"),
            true_memory.replace("dev/app", "../../v2/_catalog?x=1&from"),
            true_memory.replace("dev/app", &"a/".repeat(20_000)),
            true_memory.replace("\"schema\":1", "\"schema\":2"),
            "[".repeat(60_000),
            "x".repeat(1 << 20),
            String::new(),
        ];
        for (number, memory) in cases.iter().enumerate() {
            fs::write(&path, memory).unwrap();
            let name = server.name(&format!("case{number}/app:1"));
            user.qyv(&["push", &file, &name]).expect(0);
            let host = User::new();
            host.qyv(&["pull", &name]).expect(0);
            host.qyv(&["check"]).expect(0);
        }
    }
}
