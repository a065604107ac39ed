//! A layer of assets, unpacked: frames, tar, paths.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qyvol_image::unpack_assets;
use qyvol_store::NoopReporter;
use qyvol_types::{AssetsConfig, Digest};

fuzz_target!(|bytes: &[u8]| {
    let promise = AssetsConfig { diff_id: Digest::of(b""), files: 64, bytes: 1 << 20 };
    let Ok(directory) = tempfile::tempdir() else { return };
    let inside = directory.path().join("in");
    if std::fs::create_dir(&inside).is_err() {
        return;
    }
    let _ = unpack_assets(bytes, &promise, &inside, &NoopReporter);
    // Nothing beside the directory it was given.
    assert_eq!(std::fs::read_dir(directory.path()).map(Iterator::count).unwrap_or(1), 1);
});
