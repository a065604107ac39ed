//! Names, digests and asset paths: what is read prints as what it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qyvol_types::{AssetPath, Digest, PathSet, Reference};

fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string().parse::<Reference>().as_ref(), Ok(&reference));
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    let mut set = PathSet::new();
    for line in text.lines() {
        if let Ok(path) = AssetPath::parse(line) {
            let first = set.insert(&path).is_ok();
            assert!(!first || set.insert(&path).is_err());
        }
    }
});
