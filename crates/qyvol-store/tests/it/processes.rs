//! Processes that are killed.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use qyvol_store::{LocalStore, NoopReporter};

use crate::support::{Home, image, put, reference, sign};

fn spawn(name: &str, home: &Home) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture"])
        .env("QYVOL_TEST_ROOT", home.root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until the child reports that it is ready.
fn wait_ready(child: &mut Child) {
    let out = BufReader::new(child.stdout.take().unwrap());
    assert!(out.lines().any(|line| line.unwrap().ends_with("ready")));
}

fn child_store() -> LocalStore {
    let root = std::env::var_os("QYVOL_TEST_ROOT").expect("set by the parent");
    LocalStore::open(&PathBuf::from(root)).unwrap()
}

/// Reports it, and waits to be killed.
fn ready() {
    println!("ready");
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
fn staging_of_a_killed_process_is_swept_and_that_of_a_living_one_is_not() {
    let home = Home::new();
    let mut child = spawn("processes::child_stages", &home);
    wait_ready(&mut child);
    let tmp = home.v1().join("tmp");
    let count = || std::fs::read_dir(&tmp).unwrap().count();
    assert_eq!(count(), 2);
    drop(home.store.begin().unwrap());
    assert_eq!(count(), 2, "swept a living process's directory");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(home.store.prune_plan().unwrap().items.len(), 1);
    drop(home.store.begin().unwrap());
    assert_eq!(count(), 0, "left a dead process's directory");
    assert_eq!(home.files(), Vec::<String>::new());
}

#[test]
#[ignore = "run by staging_of_a_killed_process_is_swept_and_that_of_a_living_one_is_not"]
fn child_stages() {
    let ingest = child_store().begin().unwrap();
    put(&ingest, "x", b"hello");
    let mut writer = ingest.writer().unwrap();
    writer.write_all(b"half").unwrap();
    ready();
}

#[test]
fn killed_guest_releases_its_run_lock() {
    let home = Home::new();
    let image = home.load("a:1", "a");
    home.store.remove_reference(&reference("a:1")).unwrap();
    let mut child = spawn("processes::child_runs", &home);
    wait_ready(&mut child);
    assert!(home.store.prune_plan().unwrap().items.is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(home.store.prune_plan().unwrap().items.len(), 3);
    drop(home.store.running(&image.manifest.digest).unwrap());
}

#[test]
#[ignore = "run by killed_guest_releases_its_run_lock"]
fn child_runs() {
    let store = child_store();
    for item in store.prune_plan().unwrap().items {
        let Some(name) = item.path.file_name().and_then(|n| n.to_str()) else {
            continue;
        };
        std::mem::forget(store.running(&format!("sha256:{name}").parse().unwrap()).unwrap());
    }
    ready();
}

#[test]
fn kill_at_any_moment_damages_nothing_and_repeating_succeeds() {
    let home = Home::new();
    for round in 0..30_u64 {
        let mut child = spawn("processes::child_works", &home);
        let mut out = BufReader::new(child.stdout.take().unwrap());
        // Killed after this many rounds of work, in the middle of the next.
        for _ in 0..=round % 6 {
            let mut line = String::new();
            while !line.ends_with("round\n") {
                line.clear();
                assert!(out.read_line(&mut line).unwrap() > 0, "the child ended by itself");
            }
        }
        for _ in 0..round * 2000 {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(home.store.check(&NoopReporter, false).unwrap(), [], "round {round}");
    }
    work(&home.store, 0);
    let plan = home.store.prune_plan().unwrap();
    assert_eq!(home.store.prune(&plan).unwrap().failed, []);
    assert_eq!(home.files(), Vec::<String>::new());
}

#[test]
#[ignore = "run by kill_at_any_moment_damages_nothing_and_repeating_succeeds"]
fn child_works() {
    let store = child_store();
    for round in 0.. {
        println!("round");
        work(&store, round);
    }
}

fn work(store: &LocalStore, round: u64) {
    let name = reference("a:1");
    let mut ingest = store.begin().unwrap();
    let image = image(&ingest, &format!("{}", round % 3));
    sign(&ingest, &image.manifest, "ana");
    ingest.tag(&name, &image.manifest);
    ingest.commit().unwrap();
    store.put_code("engine", &image.layer.digest, b"code").unwrap();
    let mut unpack = |dir: &std::path::Path| {
        std::fs::create_dir(dir.join("a"))?;
        std::fs::write(dir.join("a/f"), b"f")
    };
    store.put_tree(&image.layer.digest, &mut unpack).unwrap();
    store.remove_reference(&name).unwrap();
    let plan = store.prune_plan().unwrap();
    store.prune(&plan).unwrap();
}
