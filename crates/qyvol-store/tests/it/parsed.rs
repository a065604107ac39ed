//! Parsed forms of policies: each is used only for its own text, build and store.

use std::fs;
use std::path::PathBuf;

use qyvol_store::{NoopReporter, PruneKind};
use qyvol_types::{Digest, limits};

use crate::support::Home;

fn files(home: &Home) -> Vec<PathBuf> {
    let directory = home.root().join("store/v1/state/policies");
    let entries = fs::read_dir(directory).map(|entries| entries.map(|e| e.unwrap().path()).collect());
    entries.unwrap_or_default()
}

// [STORE-056]
#[test]
fn parsed_policy_is_used_for_its_own_text_and_build_alone() {
    let (home, other) = (Home::new(), Home::new());
    let text = Digest::of(b"version: 1");
    assert_eq!(home.store.parsed_policy("build-1", &text), None);
    assert!(!home.root().join("store").exists(), "reading writes nothing");
    home.store.put_parsed_policy("build-1", &text, b"form").unwrap();
    assert_eq!(home.store.parsed_policy("build-1", &text).unwrap(), b"form");
    assert_eq!(home.store.parsed_policy("build-2", &text), None);
    let another = Digest::of(b"version: 2");
    let [file] = &files(&home)[..] else { panic!() };
    fs::copy(file, file.with_file_name(another.hex())).unwrap();
    assert_eq!(home.store.parsed_policy("build-1", &another), None);
    // A form of another store, for example another user's.
    other.store.put_parsed_policy("build-1", &text, b"other").unwrap();
    fs::copy(&files(&other)[0], file).unwrap();
    assert_eq!(home.store.parsed_policy("build-1", &text), None);
    home.store.put_parsed_policy("build-1", &text, b"form").unwrap();
    assert_eq!(home.store.parsed_policy("build-1", &text).unwrap(), b"form");
}

// [STORE-056]
#[test]
fn altered_parsed_policy_counts_as_absent() {
    let home = Home::new();
    let text = Digest::of(b"version: 1");
    home.store.put_parsed_policy("build", &text, b"a form").unwrap();
    let [file] = &files(&home)[..] else { panic!() };
    let good = fs::read(file).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(file, bad).unwrap();
        assert_eq!(home.store.parsed_policy("build", &text), None, "byte {at}");
    }
    for bad in [&good[..good.len() - 1], &good[..40], &good[..7], b""] {
        fs::write(file, bad).unwrap();
        assert_eq!(home.store.parsed_policy("build", &text), None);
    }
    fs::write(file, vec![0; limits::PARSED_POLICY_BYTES as usize + 41]).unwrap();
    assert_eq!(home.store.parsed_policy("build", &text), None);
    fs::remove_file(file).unwrap();
    let elsewhere = home.root().join("elsewhere");
    fs::write(&elsewhere, &good).unwrap();
    std::os::unix::fs::symlink(&elsewhere, file).unwrap();
    assert_eq!(home.store.parsed_policy("build", &text), None, "a link");
    fs::remove_file(file).unwrap();
    fs::create_dir(file).unwrap();
    assert_eq!(home.store.parsed_policy("build", &text), None, "a directory");
    fs::remove_dir(file).unwrap();
    fs::write(file, &good).unwrap();
    assert_eq!(home.store.parsed_policy("build", &text).unwrap(), b"a form");
    let key = home.root().join("store/v1/state/key");
    fs::write(&key, [1; 32]).unwrap();
    assert_eq!(home.other().parsed_policy("build", &text), None, "another key");
}

// [STORE-057]
#[test]
fn number_of_parsed_policies_is_bounded_and_prune_keeps_the_newest() {
    let home = Home::new();
    let texts: Vec<Digest> = (0..12_u8).map(|number| Digest::of(&[number])).collect();
    for text in &texts {
        home.store.put_parsed_policy("build", text, b"form").unwrap();
    }
    assert_eq!(files(&home).len(), 8);
    let newest = texts.last().unwrap();
    assert!(home.store.parsed_policy("build", newest).is_some());
    assert_eq!(home.store.check(&NoopReporter, false).unwrap().len(), 0);
    let large = vec![0; limits::PARSED_POLICY_BYTES as usize + 1];
    home.store
        .put_parsed_policy("build", &Digest::of(b"large"), &large)
        .unwrap();
    assert_eq!(files(&home).len(), 8, "one that is too large to be read is not kept");
    let plan = home.store.prune_plan().unwrap();
    assert!(plan.items.iter().all(|item| item.kind == PruneKind::Policy));
    let pruned = home.store.prune(&plan).unwrap();
    assert_eq!((pruned.removed.len(), pruned.failed.len()), (7, 0));
    assert_eq!(files(&home).len(), 1);
    assert!(home.store.prune_plan().unwrap().items.is_empty());
}
