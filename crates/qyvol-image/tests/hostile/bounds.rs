//! Bounds that small files can't test: memory, size, waiting.

use std::fs;
use std::path::Path;
use std::process::Command;

use qyvol_image::Archive;

use crate::common::{Case, frame, tar};
use crate::judge::judge_file;
use crate::judge::outcome;
use crate::vector::Vector;

/// Most memory that judging any archive here may take, the test's own
/// included.
const BOUND_KIB: u64 = 64 << 10;
const ARCHIVE: &str = "QYVOL_TEST_ARCHIVE";

/// The peak memory of the process, in KiB, if the system reports it.
fn peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

#[test]
#[ignore = "run by the test below, in a process of its own"]
fn read_one_archive_and_report_peak_memory() {
    let path = std::env::var_os(ARCHIVE).unwrap();
    let path = Path::new(&path);
    let _ = judge_file(path, path.parent().unwrap());
    if let Some(peak) = peak() {
        fs::write(path.with_extension("peak"), peak.to_string()).unwrap();
    }
}

/// Judges the file in a process of its own. `None` if the system doesn't report its peak
/// memory.
fn peak_of(path: &Path) -> Option<u64> {
    let name = "bounds::read_one_archive_and_report_peak_memory";
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", name, "--test-threads", "1"])
        .env(ARCHIVE, path)
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    let peak = fs::read_to_string(path.with_extension("peak")).ok()?;
    peak.parse().ok()
}

// [BIN-021] [BIN-024]
#[test]
fn no_hostile_archive_takes_much_memory() {
    if peak().is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.qyvbin");
    let mut wrong = Vec::new();
    for vector in Vector::all() {
        fs::write(&path, vector.bytes()).unwrap();
        let peak = peak_of(&path).unwrap();
        if peak > BOUND_KIB {
            wrong.push(format!("{}: {peak} KiB", vector.file));
        }
        let _ = fs::remove_dir_all(directory.path().join("out"));
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// A file of 1 TiB of holes, by itself and behind a good archive.
// [BIN-024]
#[test]
fn sparse_tebibyte_is_refused_at_constant_cost() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.qyvbin");
    for start in [Case::default().build(), Vec::new()] {
        fs::write(&path, &start).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_len(1 << 40).unwrap();
        assert!(Archive::open(&path).is_err());
        assert!(peak_of(&path).is_none_or(|peak| peak < BOUND_KIB));
    }
}

// [BIN-024]
#[test]
fn fifo_directory_and_device_are_refused_without_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    for path in [fifo.as_path(), directory.path(), Path::new("/dev/zero")] {
        assert!(Archive::open(path).is_err(), "{}", path.display());
    }
}

/// Each is refused by the seek table, which bounds the frames of that content.
// [BIN-020] [BIN-021]
#[test]
fn frame_larger_than_its_place_is_refused_before_it_is_decoded() {
    let bomb = frame(&vec![0; 64 << 20]);
    assert!(bomb.len() < 16 << 10);
    for at in 0..3 {
        let frame = bomb.clone();
        let case = Case {
            frames: Box::new(move |mut f| {
                f[at].0 = frame.clone();
                f
            }),
            ..Case::default()
        };
        assert_eq!(outcome(&case.build()).unwrap_err().0, "open", "frame {at}");
    }
}

// [BIN-054]
#[test]
fn asset_past_what_the_config_promised_is_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.qyvbin");
    let tar = tar(&[("a", b"one"), ("b", b"two"), ("c", b"three")]);
    for (files, bytes, written) in [(3, 6, 2), (2, 11, 2), (0, 11, 0), (3, 2, 0)] {
        let case = Case {
            assets: Some((tar.clone(), files, bytes)),
            ..Case::default()
        };
        fs::write(&path, case.build()).unwrap();
        assert_eq!(judge_file(&path, directory.path()).unwrap_err().0, "unpack");
        let found = fs::read_dir(directory.path().join("out")).unwrap().count();
        assert_eq!(found, written, "{files} files, {bytes} bytes");
    }
}

// [BIN-003]
#[test]
fn more_images_than_the_limit_are_refused() {
    let image = |n: usize| Case {
        name: String::leak(format!("n{n:03}")),
        ..Case::default()
    };
    for (images, fine) in [(256, true), (257, false)] {
        let case = Case {
            others: (1..images).map(image).collect(),
            ..image(0)
        };
        let got = outcome(&case.build());
        assert_eq!(got.is_ok(), fine, "{images}: {got:?}");
    }
}
