//! Calls as a guest makes them, with the space and the names that they take.

use std::fs;
use std::os::unix::fs::FileExt;

use wasmtime_wasi::p2::OutputStream as _;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;

use super::*;

const KIB: u64 = 1024;

/// A directory, and a quota on it of a mebibyte and 100 names.
fn bounded() -> (tempfile::TempDir, Arc<Quota>, Held) {
    let directory = tempfile::tempdir().unwrap();
    let (quota, held) = another(&directory);
    (directory, quota, held)
}

/// Another run's quota on the same directory.
fn another(directory: &tempfile::TempDir) -> (Arc<Quota>, Held) {
    let quota = Arc::new(Quota::new(directory.path(), KIB * KIB, 100).unwrap());
    let file = Arc::new(File::open(directory.path()).unwrap());
    let held = Held {
        quota: Arc::clone(&quota),
        file,
    };
    (quota, held)
}

/// Makes a file as a guest does, and leaves it open.
fn make(top: &Held, directory: &tempfile::TempDir, name: &str) -> io::Result<Held> {
    let plan = top.open(name, true, true, false)?;
    let options = File::options().create(true).write(true).truncate(false).clone();
    let file = Arc::new(options.open(directory.path().join(name)).unwrap());
    done(plan);
    top.quota.opened(&file).unwrap();
    Ok(Held {
        quota: Arc::clone(&top.quota),
        file,
    })
}

fn write(file: &Held, at: u64, length: u64) -> io::Result<()> {
    let plan = file.write(Some(at), length)?;
    let bytes = vec![1; usize::try_from(length).unwrap()];
    file.file.write_all_at(&bytes, at).unwrap();
    done(plan);
    Ok(())
}

fn unlink(top: &Held, directory: &tempfile::TempDir, name: &str) {
    let plan = top.remove(name);
    fs::remove_file(directory.path().join(name)).unwrap();
    plan.done();
}

fn close(file: Held) {
    let Held { quota, file } = file;
    quota.closing(&file);
}

fn is_full<T: std::fmt::Debug>(result: io::Result<T>) -> bool {
    result.is_err_and(|error| error.kind() == io::ErrorKind::StorageFull)
}

/// What is counted, without a walk.
fn counted(quota: &Quota) -> Amount {
    quota.state().count.as_ref().unwrap().now
}

/// Prevents walks that look for space that others have freed.
fn no_more_walks(quota: &Quota) {
    quota.state().count.as_mut().unwrap().took = Duration::from_secs(1 << 30);
}

// [RUN-062]
#[test]
fn growth_is_taken_before_the_write_and_rewriting_takes_nothing() {
    let (directory, quota, top) = bounded();
    let file = make(&top, &directory, "f").unwrap();
    write(&file, 0, 1).unwrap();
    assert_eq!(
        counted(&quota),
        Amount {
            space: 4 * KIB,
            entries: 1
        }
    );
    for _ in 0..1000 {
        write(&file, 0, 4 * KIB).unwrap();
    }
    write(&file, 4 * KIB, 1020 * KIB).unwrap();
    no_more_walks(&quota);
    assert!(is_full(file.write(Some(1024 * KIB), 1)));
    assert!(is_full(file.write(None, 1)));
    assert!(is_full(file.write(Some(u64::MAX), u64::MAX)));
    assert!(is_full(file.resize(1024 * KIB + 1)));
    assert!(is_full(file.resize(u64::MAX)));
    write(&file, 100, 100_000).unwrap();
}

#[test]
fn failed_call_takes_no_space() {
    let (_directory, quota, top) = bounded();
    drop(top.make_directory().unwrap());
    drop(top.make_link(5000).unwrap());
    drop(top.open("f", true, true, false).unwrap());
    assert_eq!(counted(&quota), Amount::NONE);
}

// [RUN-062]
#[test]
fn names_are_bounded_whatever_they_are_of() {
    let (directory, quota, top) = bounded();
    close(make(&top, &directory, "f").unwrap());
    for n in 0..99 {
        let plan = top.add_name().unwrap();
        fs::hard_link(directory.path().join("f"), directory.path().join(n.to_string())).unwrap();
        plan.done();
    }
    no_more_walks(&quota);
    assert!(is_full(top.add_name()));
    assert!(is_full(top.make_directory()));
    assert!(is_full(top.make_link(1)));
    assert!(is_full(top.open("new", true, true, false)));
    // What is there is opened.
    top.open("f", true, true, false).unwrap();
    unlink(&top, &directory, "7");
    top.add_name().unwrap().done();
}

// [RUN-063]
#[test]
fn what_is_freed_may_be_taken_again() {
    let (directory, quota, top) = bounded();
    let file = make(&top, &directory, "f").unwrap();
    write(&file, 0, 1024 * KIB).unwrap();
    no_more_walks(&quota);
    assert!(is_full(file.write(None, 1)));
    // Shortened.
    let plan = file.resize(512 * KIB).unwrap();
    file.file.set_len(512 * KIB).unwrap();
    plan.done();
    write(&file, 512 * KIB, 512 * KIB).unwrap();
    no_more_walks(&quota);
    // Emptied as it is opened.
    let plan = top.open("f", true, false, true).unwrap();
    file.file.set_len(0).unwrap();
    done(plan);
    write(&file, 0, 1024 * KIB).unwrap();
    no_more_walks(&quota);
    // Removed and closed.
    unlink(&top, &directory, "f");
    close(file);
    let file = make(&top, &directory, "g").unwrap();
    write(&file, 0, 1020 * KIB).unwrap();
    no_more_walks(&quota);
    close(file);
    // Renamed over.
    close(make(&top, &directory, "h").unwrap());
    let plan = top.rename_from(&top, "h", "g");
    fs::rename(directory.path().join("h"), directory.path().join("g")).unwrap();
    plan.done();
    assert_eq!(counted(&quota).entries, 1);
    assert_eq!(counted(&quota).space, 0);
}

// [RUN-063]
#[test]
fn removed_file_that_is_open_is_counted_until_it_is_closed() {
    let (directory, quota, top) = bounded();
    let mut open = Vec::new();
    loop {
        let file = make(&top, &directory, "f").unwrap();
        let written = write(&file, 0, 64 * KIB);
        unlink(&top, &directory, "f");
        open.push(file);
        if written.is_err() {
            break;
        }
    }
    assert_eq!(open.len(), 17);
    // Neither does a walk free it.
    quota.state().count = None;
    let file = make(&top, &directory, "g").unwrap();
    assert!(is_full(write(&file, 0, 64 * KIB)));
    no_more_walks(&quota);
    // While something else has it open too, it stays.
    let stream = open[0].clone();
    close(open.remove(0));
    assert!(is_full(write(&file, 0, 64 * KIB)));
    close(stream);
    write(&file, 0, 64 * KIB).unwrap();
}

// [RUN-063]
#[test]
fn concurrent_runs_do_not_get_far_past_the_limit() {
    let (directory, _first, one) = bounded();
    let (_second, other) = another(&directory);
    let mut total = 0;
    let mut left = [
        Some(make(&one, &directory, "1").unwrap()),
        Some(make(&other, &directory, "2").unwrap()),
    ];
    let mut at = 0;
    while left.iter().any(Option::is_some) {
        for open in &mut left {
            if let Some(file) = open {
                match write(file, at, 4 * KIB) {
                    Ok(()) => total += 4 * KIB,
                    Err(_) => *open = None,
                }
            }
        }
        at += 4 * KIB;
    }
    assert!(total >= 1024 * KIB, "{total}");
    assert!(total <= (1024 + 64) * KIB, "{total}");
}

// [RUN-063]
#[test]
fn space_that_another_run_frees_is_found_and_walks_are_bounded_in_time() {
    let (directory, quota, top) = bounded();
    let file = make(&top, &directory, "f").unwrap();
    write(&file, 0, 1024 * KIB).unwrap();
    fs::File::options()
        .write(true)
        .open(directory.path().join("f"))
        .unwrap()
        .set_len(0)
        .unwrap();
    no_more_walks(&quota);
    assert!(is_full(file.resize(1024 * KIB * 2)));
    assert!(is_full(top.make_directory()));
    quota.state().count.as_mut().unwrap().took = Duration::ZERO;
    top.make_directory().unwrap().done();
    assert_eq!(
        counted(&quota),
        Amount {
            space: 4 * KIB,
            entries: 2
        }
    );
}

// [RUN-062]
#[test]
fn stream_into_a_file_that_was_cut_short_takes_its_hole_too() {
    let (directory, quota, top) = bounded();
    let file = make(&top, &directory, "f").unwrap();
    let before = counted(&quota).space;
    let held = Held {
        quota: Arc::clone(&quota),
        file: Arc::clone(&file.file),
    };
    let pipe = MemoryOutputPipe::new(1 << 20);
    let mut stream = QuotaStream::new(Box::new(pipe), held, Some(0));
    let mut write = |length: u64| {
        stream.write(vec![1; 4096].into()).unwrap();
        // The pipe leaves the file as it is.
        file.file.set_len(length).unwrap();
        counted(&quota).space - before
    };
    assert_eq!(write(4096), 4096);
    assert_eq!(write(8192), 8192);
    file.resize(0).unwrap().done();
    file.file.set_len(0).unwrap();
    assert_eq!(write(12_288), 12_288);
    assert_eq!(write(16_384), 16_384);
}
