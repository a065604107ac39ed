//! The file itself: what other tools make of it, and what we make of a bad one.

use std::fs;
use std::process::Command;

use crate::needs::lacks;
use crate::support::{Prng, User, third_party};

// [BIN-001] [BIN-002]
#[test]
fn tar_lists_it_and_skopeo_keeps_its_digest() {
    if lacks(&["skopeo", "zstd"]) {
        return;
    }
    let user = User::new();
    user.write("app/a.txt", "asset");
    let app = user.built("app", "assets: [a.txt]\n");
    let listing = third_party("zstd", Command::new("tar").args(["--zstd", "-tf"]).arg(user.path(&app))).expect(0);
    let lines: Vec<&str> = listing.out.lines().collect();
    assert_eq!(&lines[..2], ["oci-layout", "index.json"]);
    assert_eq!(
        lines.len(),
        9,
        "layout, index, manifest, config, 3 of the signature, component, assets"
    );

    let digest = user.qyv(&["inspect", &app, "--format", "json"]).expect(0).json()["digest"]
        .as_str()
        .unwrap()
        .to_string();
    let from = format!("oci-archive:{}:app:1.0.0", user.path(&app).display());
    let to = format!("oci:{}:tag", user.path("layout").display());
    let mut skopeo = Command::new("skopeo");
    skopeo
        .args(["copy", "--insecure-policy", "--quiet", &from, &to])
        .env("TMPDIR", user.path(""));
    third_party("skopeo", &mut skopeo).expect(0);
    let index: serde_json::Value = serde_json::from_slice(&fs::read(user.path("layout/index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"][0]["digest"], digest);
}

// [BIN-031] [BIN-033]
#[test]
fn flipped_bits_are_refused_by_every_verb_and_leave_nothing() {
    let user = User::new();
    user.write("app/a.txt", "asset");
    let app = user.built("app", "assets: [a.txt]\n");
    let good = fs::read(user.path(&app)).unwrap();
    // A home that trusts the key and has nothing of the image.
    let fresh = User::new();
    fs::create_dir_all(fresh.home()).unwrap();
    fs::copy(user.home().join("trust.yaml"), fresh.home().join("trust.yaml")).unwrap();
    let mut noise = Prng(0x1234_5678_9abc_def1);
    for round in 0..210 {
        let bit = noise.below(good.len() * 8);
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        fresh.write("bad.qyvbin", &bad);
        let verb: &[&str] = match round % 3 {
            0 => &["verify", "bad.qyvbin"],
            1 => &["load", "bad.qyvbin"],
            _ => &["run", "bad.qyvbin", "exit", "0"],
        };
        let done = fresh.qyv(verb);
        assert!(!done.err.contains("panicked"), "bit {bit}: {}", done.err);
        if done.code == 0 {
            // Only a bit that decodes to the same content may pass.
            fresh.qyv(&["load", "bad.qyvbin"]).expect(0);
            fresh.qyv(&["save", "app:1.0.0", "-o", "back.qyvbin"]).expect(0);
            assert_eq!(fs::read(fresh.path("back.qyvbin")).unwrap(), good, "bit {bit}");
            let _ = fs::remove_dir_all(fresh.home().join("store"));
        } else {
            assert!(
                (10..=19).contains(&done.code) || done.code == 126 || done.code == 125 || done.code == 1,
                "bit {bit}: {done:?}"
            );
            assert!(fresh.stored().is_empty(), "bit {bit}, {verb:?}: {:?}", fresh.stored());
        }
    }
}

// [BIN-033]
#[test]
fn truncated_extended_and_foreign_files_are_refused() {
    let user = User::new();
    let app = user.built("app", "");
    let good = fs::read(user.path(&app)).unwrap();
    let fresh = User::new();
    fs::create_dir_all(fresh.home()).unwrap();
    fs::copy(user.home().join("trust.yaml"), fresh.home().join("trust.yaml")).unwrap();
    let mut cases: Vec<Vec<u8>> = [0, 1, 4, 100, good.len() / 2, good.len() - 9, good.len() - 1]
        .iter()
        .map(|n| good[..*n].to_vec())
        .collect();
    cases.extend([1usize, 512, 4096].iter().map(|n| [good.clone(), vec![0; *n]].concat()));
    cases.push([good.clone(), good.clone()].concat());
    cases.push(b"PK\x03\x04 not ours".to_vec());
    for bad in cases {
        fresh.write("bad.qyvbin", &bad);
        for verb in [
            &["verify", "bad.qyvbin"][..],
            &["load", "bad.qyvbin"],
            &["inspect", "bad.qyvbin"],
        ] {
            let done = fresh.qyv(verb);
            assert_eq!(done.code, 16, "{} bytes, {verb:?}: {done:?}", bad.len());
        }
        fresh.qyv(&["run", "bad.qyvbin"]).expect(126);
        assert!(fresh.stored().is_empty());
    }
}

// [BIN-024]
#[test]
fn sparse_terabyte_and_device_are_refused_at_once() {
    let user = User::new();
    let path = user.write("sparse.qyvbin", b"");
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    user.qyv(&["verify", "sparse.qyvbin"]).expect(16);
    std::os::unix::fs::symlink("/dev/zero", user.path("zero.qyvbin")).unwrap();
    user.qyv(&["verify", "zero.qyvbin"]).expect(16);
}

// [BIN-043]
#[test]
fn signature_is_added_without_changing_the_digest_or_the_content() {
    let user = User::new();
    let app = user.built("app", "");
    let before = user.qyv(&["inspect", &app, "--format", "json"]).expect(0).json();
    user.qyv(&["keys", "generate", "second"]).expect(0);
    user.qyv(&["sign", &app, "--key", "second", "--role", "approve"])
        .expect(0);
    let after = user.qyv(&["inspect", &app, "--format", "json"]).expect(0).json();
    assert_eq!(before["digest"], after["digest"]);
    assert_eq!(after["signatures"].as_array().unwrap().len(), 2);
    user.qyv(&["verify", &app]).expect(0);
    user.qyv(&["sign", "app:1.0.0", "--key", "second"]).expect(0);
    user.qyv(&["verify", "app:1.0.0"]).expect(0);
}
