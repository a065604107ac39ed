//! `verify` of several targets: files, directories, stored images, images in registries.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use serde_json::Value;

use crate::registry::Server;
use crate::support::{CommandOutput, User};

fn targets(output: &CommandOutput) -> Vec<(String, u64)> {
    let results = output.json()["results"].as_array().unwrap().clone();
    let row = |row: &Value| {
        (
            row["target"].as_str().unwrap().to_string(),
            row["code"].as_u64().unwrap(),
        )
    };
    results.iter().map(row).collect()
}

// [SIGN-047]
#[test]
fn many_targets_are_reported_in_order_with_one_exit_code() {
    let user = User::new();
    let app = user.built("app", "");
    let bare = ["build", "app", "-o", "bare.qyvbin", "--no-sign"];
    user.qyv(&bare).expect(0);
    fs::create_dir_all(user.path("releases/old")).unwrap();
    for n in 0..24 {
        fs::copy(user.path(&app), user.path(&format!("releases/{n:02}.qyvbin"))).unwrap();
    }
    fs::copy(user.path(&app), user.path("releases/old/1.qyvbin")).unwrap();
    user.write("releases/notes.txt", "not an archive");
    symlink(user.path("releases"), user.path("releases/again")).unwrap();
    symlink(user.path("bare.qyvbin"), user.path("releases/link.qyvbin")).unwrap();
    let verify = |args: &[&str], code: i32| user.qyv(&[&["verify", "--format", "json"], args].concat()).expect(code);
    let mut expected: Vec<(String, u64)> = (0..24).map(|n| (format!("releases/{n:02}.qyvbin"), 0)).collect();
    expected.push(("releases/old/1.qyvbin".to_string(), 0));
    assert_eq!(targets(&verify(&["releases/"], 0)), expected);
    // One that is refused keeps no other from being verified, and decides.
    fs::copy(user.path("bare.qyvbin"), user.path("releases/07.qyvbin")).unwrap();
    let bytes = fs::read(user.path(&app)).unwrap();
    user.write("releases/11.qyvbin", &bytes[..bytes.len() - 1]);
    expected[7].1 = 10;
    expected[11].1 = 16;
    assert_eq!(targets(&verify(&["releases/"], 10)), expected);
    let named = [
        "absent.qyvbin",
        "app:1.0.0",
        "releases/11.qyvbin",
        "bare.qyvbin",
        "app.qyvbin",
    ];
    let found = targets(&verify(&named, 16));
    assert_eq!(
        found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        [
            "absent.qyvbin",
            "app:1.0.0",
            "releases/11.qyvbin",
            "bare.qyvbin",
            "app.qyvbin"
        ]
    );
    assert_eq!(
        found.iter().map(|(_, code)| *code).collect::<Vec<_>>(),
        [1, 0, 16, 10, 0]
    );
    // Nothing was refused by trust: the first other failure decides.
    assert_eq!(targets(&verify(&["app.qyvbin", "absent.qyvbin", "A"], 1)).len(), 3);
    fs::create_dir(user.path("empty")).unwrap();
    let empty = user.qyv(&["verify", "empty/", "app.qyvbin"]).expect(2);
    assert!(
        empty.err.contains("has no .qyvbin in it") && empty.out.contains("accepted"),
        "{empty:?}"
    );
}

// [SIGN-047] [SIGN-029]
#[test]
fn image_is_verified_on_its_registry_and_not_stored() {
    let user = User::new();
    let app = user.built("app", "");
    let server = Server::hub(&[]);
    let name = server.name("app:1.0.0");
    user.qyv(&["push", &app, &name]).expect(0);
    let host = User::new();
    let key = user.qyv(&["keys", "export", "default"]).expect(0).out;
    host.write("app.pub", key);
    let scope = format!("{}/**", server.address);
    host.qyv(&["trust", "add", &scope, "--key", "./app.pub"]).expect(0);
    // Without being told so, no registry is asked.
    host.qyv(&["verify", &name]).expect(1);
    let verified = host.qyv(&["verify", "--remote", &name]).expect(0);
    assert!(verified.out.contains("accepted app:1.0.0"), "{}", verified.out);
    host.qyv(&["verify", "--remote", "--key", "./app.pub", &name]).expect(0);
    let other = server.name("other:1.0.0");
    user.qyv(&["push", &app, &other]).expect(0);
    let both = host.qyv(&["verify", "--remote", &name, &other]).expect(18);
    assert!(both.out.contains("accepted app:1.0.0"), "{}", both.out);
    host.qyv(&["verify", "--remote", &server.name("absent:1.0.0")])
        .expect(69);
    assert!(host.stored().is_empty(), "{:?}", host.stored());
}

// [SIGN-048]
#[test]
fn record_says_what_was_verified_by_what_and_replaces_nothing() {
    let user = User::new();
    let app = user.built("app", "");
    let bare = ["build", "app", "-o", "bare.qyvbin", "--no-sign"];
    user.qyv(&bare).expect(0);
    let record = ["verify", &app, "bare.qyvbin", "--record", "audit.json"];
    user.qyv(&record).expect(10);
    let text = fs::read_to_string(user.path("audit.json")).unwrap();
    let record_of: Value = serde_json::from_str(&text).unwrap();
    let policy = fs::read(user.home().join("trust.yaml")).unwrap();
    let digest = qyvol::types::Digest::of(&policy).to_string();
    assert_eq!(record_of["policy"]["digest"], digest.as_str());
    assert_eq!(
        (&record_of["policy"]["serial"], &record_of["code"]),
        (&1.into(), &10.into())
    );
    let [good, refused] = &record_of["results"].as_array().unwrap()[..] else {
        panic!("{text}")
    };
    let inspected = user.qyv(&["inspect", &app, "--format", "json"]).expect(0).json();
    assert_eq!(good["report"]["digest"], inspected["digest"]);
    let signature = &good["report"]["signatures"][0];
    assert_eq!(
        (&signature["verdict"], &signature["key"]),
        (&"good".into(), &"default".into())
    );
    let said = &signature["statement"];
    assert_eq!((&said["name"], &said["role"]), (&"app".into(), &"release".into()));
    assert!(said["sequence"].as_u64().unwrap() > 0);
    assert_eq!((&refused["verdict"], &refused["code"]), (&"refused".into(), &10.into()));
    // Nothing is replaced, and nothing is verified that can't be recorded.
    let again = user.qyv(&record).expect(1);
    assert!(
        again.err.contains("no file is overwritten") && again.out.is_empty(),
        "{again:?}"
    );
    assert_eq!(fs::read_to_string(user.path("audit.json")).unwrap(), text);
    symlink("elsewhere.json", user.path("link.json")).unwrap();
    user.qyv(&["verify", &app, "--record", "link.json"]).expect(1);
    assert!(!user.path("elsewhere.json").exists());
    // By a key in the policy's place.
    let key = user.qyv(&["keys", "export", "default"]).expect(0).out;
    user.write("app.pub", key);
    user.qyv(&["verify", &app, "--key", "./app.pub", "--record", "key.json"])
        .expect(0);
    let by_key: Value = serde_json::from_slice(&fs::read(user.path("key.json")).unwrap()).unwrap();
    assert_eq!(by_key["policy"]["key"], signature["fingerprint"]);
    // A policy that can't be used leaves no record.
    fs::write(user.home().join("trust.yaml"), "version: 2\n").unwrap();
    user.qyv(&["verify", &app, "--record", "none.json"]).expect(19);
    assert!(!user.path("none.json").exists());
}

// [SIGN-047]
#[test]
fn file_name_in_a_record_is_unambiguous_and_on_one_line() {
    let user = User::new();
    let app = user.built("app", "");
    fs::create_dir(user.path("found")).unwrap();
    let forged = "a: accepted x:1 sha256:0\nb.qyvbin";
    fs::copy(user.path(&app), user.path("found").join(forged)).unwrap();
    let told = user.qyv(&["verify", "found/"]).expect(0);
    assert_eq!(told.out.lines().count(), 1, "{}", told.out);
    fs::copy(
        user.path(&app),
        user.path("found").join(OsStr::from_bytes(b"\xfe.qyvbin")),
    )
    .unwrap();
    fs::copy(
        user.path(&app),
        user.path("found").join(OsStr::from_bytes(b"\xff.qyvbin")),
    )
    .unwrap();
    let told = user.qyv(&["verify", "found/", "--format", "json"]).expect(2);
    let expected = [
        (format!("found/{forged}"), 0),
        ("found/\\xfe.qyvbin".to_string(), 2),
        ("found/\\xff.qyvbin".to_string(), 2),
    ];
    assert_eq!(targets(&told), expected);
    assert!(told.err.contains("must be UTF-8"), "{}", told.err);
}
