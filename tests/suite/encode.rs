//! `encode`: smaller representations of what is in a registry already, and the end of those that
//! no host has a use for.

use qyvol::types::{Digest, media_type};
use serde_json::Value;

use crate::cosign::{MANIFEST, send, subject};
use crate::registry::Server;
use crate::support::User;
use crate::wire::{component_part, pulled, release};

/// The lists of representations that an image has, by what the registry says.
fn lists(user: &User, server: &Server, repository: &str, file: &str) -> Vec<String> {
    let image = subject(user, server, repository, file);
    let image = image["digest"].as_str().unwrap();
    let index = "application/vnd.oci.image.index.v1+json";
    let api = format!("/v2/{repository}/referrers/{image}");
    let (mut status, _, mut list) = send(server, "GET", &api, index, b"");
    if status != 200 {
        let tag = format!("/v2/{repository}/manifests/{}", image.replace(':', "-"));
        (status, _, list) = send(server, "GET", &tag, index, b"");
    }
    assert_eq!(status, 200);
    let list: Value = serde_json::from_slice(&list).unwrap();
    let entries = list["manifests"].as_array().unwrap().iter();
    let lists = entries.filter(|entry| entry["artifactType"] == media_type::ENCODINGS);
    lists
        .map(|entry| entry["digest"].as_str().unwrap().to_string())
        .collect()
}

fn encodings(report: &Value) -> Vec<(String, Option<String>)> {
    let rows = report["encodings"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().map(str::to_string);
    rows.map(|row| (text(&row["encoding"]).unwrap(), text(&row["base"])))
        .collect()
}

// [REG-046]
#[test]
fn image_that_was_pushed_without_representations_gets_them_afterwards() {
    for server in Server::both() {
        let user = User::new();
        let mut components = Vec::new();
        for version in ["1.0.0", "1.0.1", "1.0.2"] {
            let (file, component) = release(&user, 256 << 10, version);
            let name = server.name(&format!("app:{version}"));
            user.qyv(&["push", &file, &name, "--no-encodings"]).expect(0);
            components.push(component);
        }
        let name = |version: &str| server.name(&format!("app:{version}"));
        let base = |index: usize| Some(Digest::of(&components[index]).to_string());
        // Somebody without any of it: the bases are those of the tags before.
        let other = User::new();
        let of = |args: &[&str]| other.qyv(&[args, &["--format", "json"]].concat()).expect(0).json();
        let first = of(&["encode", &name("1.0.0")]);
        assert_eq!(encodings(&first), [("zstd".to_string(), None)]);
        let second = of(&["encode", &name("1.0.1")]);
        let patch = |index| ("zstd-patch".to_string(), base(index));
        assert_eq!(encodings(&second), [("zstd".to_string(), None), patch(0)]);
        let third = of(&["encode", &name("1.0.2")]);
        assert_eq!(encodings(&third), [("zstd".to_string(), None), patch(1), patch(0)]);
        assert!(other.stored().is_empty(), "{:?}", other.stored());

        // The same again changes nothing.
        let again = of(&["encode", &name("1.0.2")]);
        assert_eq!(again["artifact"], third["artifact"]);
        assert_eq!(again["removed"], Value::Array(Vec::new()));

        let host = User::new();
        host.qyv(&["pull", &name("1.0.0")]).expect(0);
        let (part, _) = pulled(&host, &name("1.0.2"), &components[2]);
        assert_eq!(part["base"], base(0).unwrap().as_str());
        assert!(part["fetched"].as_u64().unwrap() < 4 << 10, "{part}");

        // A base that only the registry has.
        let named = of(&["encode", &name("1.0.0"), "--patch-from", &name("1.0.2")]);
        assert_eq!(encodings(&named), [("zstd".to_string(), None), patch(2)]);
        assert_eq!(named["removed"], Value::Array(vec![first["artifact"].clone()]));
        other
            .qyv(&["encode", &name("1.0.0"), "--patch-from", &name("9")])
            .expect(69);
        other.qyv(&["encode", &name("9")]).expect(69);
    }
}

// [REG-047]
#[test]
fn representations_that_no_host_has_a_use_for_are_removed() {
    for server in Server::both() {
        let user = User::new();
        let (old, _) = release(&user, 256 << 10, "1.0.0");
        let (new, component) = release(&user, 256 << 10, "1.0.1");
        let name = server.name("app:1");
        // The repository doesn't have the base of this patch.
        user.qyv(&["push", &new, &name, "--patch-from", &old]).expect(0);
        let published = lists(&user, &server, "app", &new);
        assert_eq!(published.len(), 1);
        let other = User::new();
        let done = other.qyv(&["encode", &name, "--format", "json"]).expect(0).json();
        assert_eq!(encodings(&done), [("zstd".to_string(), None)]);
        assert_eq!(done["removed"][0], published[0].as_str());
        let left = lists(&user, &server, "app", &new);
        assert_eq!(left, [done["artifact"].as_str().unwrap()]);
        let gone = format!("/v2/app/manifests/{}", published[0]);
        assert_eq!(send(&server, "GET", &gone, MANIFEST, b"").0, 404);

        // A list whose patch has its base there stays, if the new one lacks it.
        user.qyv(&["push", &old, &server.name("app:0"), "--no-encodings"])
            .expect(0);
        user.qyv(&["encode", &name, "--patch-from", &old]).expect(0);
        assert_eq!(lists(&user, &server, "app", &new).len(), 1);
        let (third, _) = release(&user, 256 << 10, "1.0.2");
        user.qyv(&["encode", &name, "--patch-from", &third]).expect(0);
        assert_eq!(lists(&user, &server, "app", &new).len(), 2);
        // Its signature too, and hosts take what is left.
        let host = User::new();
        host.qyv(&["pull", &server.name("app:0")]).expect(0);
        let (part, err) = pulled(&host, &name, &component);
        assert_eq!(part["encoding"], "zstd-patch", "{err}");
        let again = host.qyv(&["pull", &name, "--format", "json"]).expect(0);
        assert_eq!(again.json()["signatures"], 1);
        assert_eq!(component_part(&again.json())["fetched"], 0);
    }
}
