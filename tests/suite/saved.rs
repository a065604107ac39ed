//! Files that `save` writes and `load` takes in: names, and what is refused.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::needs::lacks;
use crate::support::{Prng, User, third_party};

const NAME: &str = "r.example/acme/app:1.0.0";

/// Somebody who has built `app` and given it a name in a registry.
fn author() -> User {
    let user = User::new();
    user.built("app", "");
    user.qyv(&["tag", "app:1.0.0", NAME]).expect(0);
    user
}

/// Another host that has the file and trusts the author's key in one scope.
#[track_caller]
fn host(author: &User, file: &str, scope: &str) -> User {
    let host = User::new();
    let pem = author.qyv(&["keys", "export", "default"]).expect(0).out;
    let pem: String = pem.lines().map(|line| format!("      {line}\n")).collect();
    let policy = format!(
        "version: 1\nkeys:\n  k:\n    pem: |\n{pem}rules:\n  - scope: \"{scope}\"\n    require: [{{ role: release, keys: [k] }}]\n    identity: any\n"
    );
    host.write("home/trust.yaml", policy);
    host.write(file, fs::read(author.path(file)).unwrap());
    host
}

fn names(user: &User) -> Vec<String> {
    let images = user.qyv(&["images", "--format", "json"]).expect(0).json();
    let images = images["images"].as_array().unwrap().iter();
    images
        .map(|image| image["name"].as_str().unwrap().to_string())
        .collect()
}

// [BIN-004] [BIN-035]
#[test]
fn registry_name_is_saved_and_restored_where_its_rule_accepts_the_image() {
    let author = author();
    author.qyv(&["save", NAME, "-o", "saved.qyvbin"]).expect(0);
    let shown = author.qyv(&["inspect", "saved.qyvbin"]).expect(0).out;
    assert!(shown.contains(NAME), "{shown}");
    let host = host(&author, "saved.qyvbin", "r.example/acme/**");
    host.qyv(&["load", "saved.qyvbin"]).expect(0);
    assert_eq!(names(&host), [NAME]);
    host.qyv(&["run", NAME, "--", "exit", "3"]).expect(3);
    // The file is a function of the image, its signatures and the names.
    host.qyv(&["save", NAME, NAME, "-o", "again.qyvbin"]).expect(0);
    assert!(fs::read(host.path("again.qyvbin")).unwrap() == fs::read(author.path("saved.qyvbin")).unwrap());
    // As a file it is judged by the rules for files, whatever names it has.
    host.qyv(&["verify", "saved.qyvbin"]).expect(11);
    host.qyv(&["run", "saved.qyvbin"]).expect(126);
}

// [BIN-035]
#[test]
fn registry_name_that_its_rule_refuses_is_not_restored() {
    let author = author();
    author.qyv(&["save", "app:1.0.0", NAME, "-o", "saved.qyvbin"]).expect(0);
    for scope in ["file:", "r.example/acme/**"] {
        let host = host(&author, "saved.qyvbin", scope);
        host.qyv(&["load", "saved.qyvbin"]).expect(11);
        assert!(host.stored().is_empty(), "{scope}: {:?}", host.stored());
        host.qyv(&["load", "saved.qyvbin", "--no-verify"]).expect(0);
        assert_eq!(names(&host), ["app:1.0.0"], "{scope}");
    }
}

// [BIN-035]
#[test]
fn load_moves_a_name_to_another_image_only_when_asked_to() {
    let author = author();
    author.qyv(&["save", NAME, "-o", "saved.qyvbin"]).expect(0);
    let host = host(&author, "saved.qyvbin", "r.example/acme/**");
    host.qyv(&["load", "saved.qyvbin"]).expect(0);
    let inspect = |file: &str| author.qyv(&["inspect", file, "--format", "json"]).expect(0).json();
    let old = inspect("saved.qyvbin")["digest"].as_str().unwrap().to_string();
    // Another image, and a second name that is free: all of it or none.
    author.built("app", "env: { A: b }\n");
    for name in [NAME, "r.example/acme/app:new"] {
        author.qyv(&["tag", "app:1.0.0", name]).expect(0);
    }
    author
        .qyv(&["save", NAME, "r.example/acme/app:new", "-o", "next.qyvbin"])
        .expect(0);
    let new = inspect("next.qyvbin")["digest"].as_str().unwrap().to_string();
    host.write("next.qyvbin", fs::read(author.path("next.qyvbin")).unwrap());
    let before = host.stored();
    let done = host.qyv(&["load", "next.qyvbin"]).expect(1);
    assert!(done.err.contains(&old) && done.err.contains(&new), "{}", done.err);
    assert!(done.err.contains("--replace"), "{}", done.err);
    assert_eq!(host.stored(), before);
    host.qyv(&["load", "next.qyvbin", "--replace"]).expect(0);
    assert_eq!(names(&host), [NAME, "r.example/acme/app:new"]);
    let now = host.qyv(&["inspect", NAME, "--format", "json"]).expect(0).json();
    assert_eq!(now["digest"], new.as_str());
    // What is there already is no move.
    host.qyv(&["load", "next.qyvbin"]).expect(0);
}

// [BIN-003] [BIN-004]
#[test]
fn two_repositories_of_one_own_name_are_saved_together_and_skopeo_takes_each() {
    if lacks(&["skopeo"]) {
        return;
    }
    let author = author();
    author.built("app", "env: { A: b }\n");
    let (other, moving) = ("r.example/other/app:1.0.0", "r.example/other/app:latest");
    for name in [other, moving] {
        author.qyv(&["tag", "app:1.0.0", name]).expect(0);
    }
    author.qyv(&["save", moving, NAME, other, "-o", "all.qyvbin"]).expect(0);
    let host = host(&author, "all.qyvbin", "r.example/**");
    host.qyv(&["load", "all.qyvbin"]).expect(0);
    assert_eq!(names(&host), [NAME, other, moving]);
    for name in [NAME, other, moving] {
        let digest = author.qyv(&["inspect", name, "--format", "json"]).expect(0).json()["digest"].clone();
        let from = format!("oci-archive:{}:{name}", author.path("all.qyvbin").display());
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["inspect", "--raw", &from]).env("TMPDIR", author.path(""));
        let raw = third_party("skopeo", &mut skopeo).expect(0).out;
        assert_eq!(digest, qyv_digest(raw.as_bytes()), "{name}");
    }
    // By local names both would be app:1.0.0, which one file can't hold.
    author.qyv(&["tag", NAME, "first:1"]).expect(0);
    let done = author
        .qyv(&["save", "first:1", "app:1.0.0", "-o", "none.qyvbin"])
        .expect(2);
    assert!(done.err.contains("would both be app:1.0.0"), "{}", done.err);
    assert!(!author.path("none.qyvbin").exists());
}

fn qyv_digest(bytes: &[u8]) -> String {
    qyvol::types::Digest::of(bytes).to_string()
}

// [BIN-032] [BIN-034]
#[test]
fn damaged_file_is_refused_even_if_the_store_has_its_content() {
    let author = author();
    let good = fs::read(author.path("app.qyvbin")).unwrap();
    author.qyv(&["load", "app.qyvbin"]).expect(0);
    // Somewhere in the component, far behind the head and far from the table.
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    author.write("bad.qyvbin", bad);
    for verb in [&["load", "bad.qyvbin"][..], &["load", "bad.qyvbin", "--no-verify"]] {
        author.qyv(verb).expect(16);
    }
}

// [BIN-036]
#[test]
fn load_refuses_what_the_disk_has_no_room_for_before_it_writes() {
    if lacks(&["mounts"]) {
        return;
    }
    let user = User::new();
    let mut noise = Prng(7);
    let data: Vec<u8> = (0..3_000_000).map(|_| noise.next() as u8).collect();
    user.write("app/data", data);
    let app = user.built("app", "assets: [data]\n");
    let small = user.path("small");
    fs::create_dir(&small).unwrap();
    let script =
        "mount -t tmpfs -o size=1m,mode=0700 none \"$1\" && shift && \"$@\"; code=$?; find \"$QYVOL_HOME\"; exit $code";
    for verify in [&["--no-verify"][..], &["--policy", "home/trust.yaml"]] {
        let mut command = Command::new("unshare");
        command
            .args(["-m", "sh", "-c", script, "sh"])
            .arg(&small)
            .arg(env!("CARGO_BIN_EXE_qyv"))
            .args(["load", &app])
            .args(verify);
        command
            .env_clear()
            .env("QYVOL_HOME", &small)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .current_dir(user.path(""));
        let done = third_party("util-linux", &mut command).expect(1);
        assert!(done.err.contains("are available"), "{}", done.err);
        // The mount and nothing in it.
        assert_eq!(Path::new(done.out.trim()), small, "{}", done.out);
    }
}

// [SIGN-032]
#[test]
fn refused_load_of_two_versions_remembers_neither() {
    let user = User::new();
    user.built("app", "");
    let manifest = user.path("app/app.qyv");
    let newer = fs::read_to_string(&manifest).unwrap().replace("1.0.0", "2.0.0");
    fs::write(&manifest, newer).unwrap();
    user.qyv(&["build", "app"]).expect(0);
    let policy = user.home().join("trust.yaml");
    let denying = fs::read_to_string(&policy)
        .unwrap()
        .replace("    require", "    rollback: deny\n    require");
    assert!(denying.contains("rollback"), "{denying}");
    fs::write(&policy, denying).unwrap();
    for (names, file) in [
        (&["app:1.0.0"][..], "one.qyvbin"),
        (&["app:1.0.0", "app:2.0.0"], "both.qyvbin"),
    ] {
        user.qyv(&[&["save", "-o", file], names].concat()).expect(0);
    }
    let done = user.qyv(&["load", "both.qyvbin"]).expect(15);
    assert!(done.err.contains("two images"), "{}", done.err);
    // Had the newer one been remembered, the older would be refused now.
    user.qyv(&["load", "one.qyvbin"]).expect(0);
    user.qyv(&["run", "app:2.0.0", "exit", "0"]).expect(0);
    user.qyv(&["load", "one.qyvbin"]).expect(15);
    // What is remembered by now changes nothing for the file with both.
    user.qyv(&["load", "both.qyvbin"]).expect(15);
}

/// Another user who trusts the same keys and has nothing else.
fn trusting(user: &User) -> User {
    let other = User::new();
    fs::create_dir_all(other.home()).unwrap();
    fs::copy(user.home().join("trust.yaml"), other.home().join("trust.yaml")).unwrap();
    other
}

// [BIN-060]
#[test]
fn layout_of_another_program_is_loaded_as_an_archive_is() {
    if lacks(&["skopeo", "zstd"]) {
        return;
    }
    let user = User::new();
    user.write("app/a.txt", "asset");
    let file = user.path(&user.built("app", "assets: [a.txt]\n"));
    let run = |command: &mut Command, package: &str| drop(third_party(package, command).expect(0));
    let layout = user.path("layout");
    fs::create_dir(&layout).unwrap();
    let unpack = ["--zstd", "-xf", file.to_str().unwrap(), "-C", layout.to_str().unwrap()];
    run(Command::new("tar").args(unpack), "zstd");
    let tar = user.path("layout.tar");
    run(
        Command::new("tar").args(["-cf", tar.to_str().unwrap(), "-C", layout.to_str().unwrap(), "."]),
        "tar",
    );
    for from in [&layout, &tar] {
        let other = trusting(&user);
        let done = other.qyv(&["load", from.to_str().unwrap()]).expect(0);
        assert!(done.out.starts_with("app:1.0.0 sha256:"), "{}", done.out);
        other.qyv(&["run", "app:1.0.0", "exit", "3"]).expect(3);
        let stranger = User::new();
        stranger.qyv(&["load", from.to_str().unwrap()]).expect(11);
        assert!(stranger.stored().is_empty());
    }
    // skopeo leaves the signatures behind.
    let to = format!("oci:{}:any", user.path("copied").display());
    let from = format!("oci-archive:{}:app:1.0.0", file.display());
    let copy = ["copy", "--insecure-policy", "--quiet", &from, &to];
    run(Command::new("skopeo").args(copy).env("TMPDIR", user.path("")), "skopeo");
    let other = trusting(&user);
    other.qyv(&["load", user.path("copied").to_str().unwrap()]).expect(10);
    other
        .qyv(&["load", "--no-verify", user.path("copied").to_str().unwrap()])
        .expect(0);

    // Content that was altered, is missing, or is no Qyvol image.
    let blobs = layout.join("blobs/sha256");
    let largest = fs::read_dir(&blobs).unwrap().map(|entry| entry.unwrap().path());
    let largest = largest.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let whole = fs::read(&largest).unwrap();
    let mut altered = whole.clone();
    altered[100] ^= 1;
    let other = trusting(&user);
    for bad in [Some(altered), Some(whole[..whole.len() - 1].to_vec()), None] {
        fs::remove_file(&largest).unwrap();
        if let Some(bad) = &bad {
            fs::write(&largest, bad).unwrap();
        }
        other.qyv(&["load", layout.to_str().unwrap()]).expect(16);
        fs::write(&largest, &whole).unwrap();
    }
    for (name, content) in [
        ("index.json", r#"{"manifests":[]}"#),
        ("index.json", "["),
        ("oci-layout", "{}"),
    ] {
        let kept = fs::read(layout.join(name)).unwrap();
        fs::write(layout.join(name), content).unwrap();
        let done = other.qyv(&["load", layout.to_str().unwrap()]).expect(16);
        assert!(done.err.contains("OCI image layout"), "{}", done.err);
        fs::write(layout.join(name), kept).unwrap();
    }
    other.qyv(&["load", user.path("app").to_str().unwrap()]).expect(16);
    assert!(other.stored().is_empty(), "{:?}", other.stored());
}
