//! Directories that are replaced with links while assets are unpacked into them. `QYVOL_SWAPS`
//! sets a higher number of tries than an ordinary run has.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use qyvol_image::unpack_assets;
use qyvol_store::NoopReporter;
use qyvol_types::{AssetsConfig, Digest};

use crate::common::{frame, tar};

// [BIN-054]
#[test]
fn link_that_takes_a_directorys_place_leads_no_file_out() {
    let asked = std::env::var("QYVOL_SWAPS").ok().and_then(|n| n.parse().ok());
    let base = tempfile::tempdir().unwrap();
    let [target, outside, aside] = ["target", "outside", "aside"].map(|name| base.path().join(name));
    fs::create_dir(&outside).unwrap();
    let tar = tar(&[("a/b/one", b"1"), ("a/b/two", b"2")]);
    let layer = frame(&tar);
    let expected = AssetsConfig {
        diff_id: Digest::of(&tar),
        files: 2,
        bytes: 2,
    };
    let done = AtomicBool::new(false);
    let (mut whole, mut swapped) = (0, 0);
    thread::scope(|scope| {
        let swaps = scope.spawn(|| {
            let mut swaps = 0;
            while !done.load(Ordering::Relaxed) {
                for name in ["a", "a/b"] {
                    let directory = target.join(name);
                    if fs::rename(&directory, &aside).is_ok() {
                        let linked = symlink(&outside, &directory).is_ok();
                        let _ = fs::remove_dir_all(&aside);
                        swaps += usize::from(linked);
                    }
                }
                thread::yield_now();
            }
            swaps
        });
        for _ in 0..asked.unwrap_or(300) {
            let _ = fs::remove_dir_all(&target);
            // Removing the directory may fail because of the other thread's links.
            if fs::create_dir(&target).is_err() {
                continue;
            }
            let unpacked = unpack_assets(layer.as_slice(), &expected, &target, &NoopReporter);
            whole += usize::from(unpacked.is_ok());
        }
        done.store(true, Ordering::Relaxed);
        swapped = swaps.join().unwrap();
    });
    let out: Vec<_> = fs::read_dir(&outside)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(out.is_empty(), "{out:?} after {swapped} swaps, {whole} unpacked");
}
