//! What a guest sees of a directory whose content is verified. The suite tests components, with
//! the store's own seal.

use std::fs;
use std::sync::{Arc, Mutex};

use qyvol_runtime::{Exit, Mount, RunSpec, RuntimeError, Seal};

use crate::run_module;

/// Records what it is asked for, and refuses one path.
#[derive(Debug, Default)]
struct Recorder {
    refused: &'static str,
    asked: Mutex<Vec<String>>,
}

impl Seal for Recorder {
    fn check(&self, path: &str) -> Result<(), String> {
        self.asked.lock().unwrap().push(path.to_string());
        match path == self.refused {
            true => Err("it was changed".to_string()),
            false => Ok(()),
        }
    }
}

/// Runs `calls` with a sealed `/assets` as descriptor 4, in which there is
/// `dir/file`, behind a mount that is not sealed.
fn run(refused: &'static str, calls: &str) -> (Result<Exit, RuntimeError>, Vec<String>) {
    let host = tempfile::tempdir().unwrap();
    fs::create_dir(host.path().join("dir")).unwrap();
    fs::write(host.path().join("dir/file"), "content").unwrap();
    let seal = Arc::new(Recorder {
        refused,
        ..Recorder::default()
    });
    let mount = |guest: &str, seal: Option<Arc<dyn Seal>>| Mount {
        host: host.path().to_path_buf(),
        guest: guest.to_string(),
        writable: false,
        path: String::new(),
        seal,
        backing: None,
        quota: None,
    };
    let spec = RunSpec {
        mounts: vec![mount("/", None), mount("/assets", Some(seal.clone()))],
        ..RunSpec::default()
    };
    let exit = run_module(
        &format!(
            r#"(import "wasi_snapshot_preview1" "path_open"
                (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_filestat_get"
                (func $path_filestat_get (param i32 i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_renumber" (func $fd_renumber (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "dir/file")
            (func $open (param $in i32) (param $at i32) (param $length i32) (result i32)
                (call $must (call $path_open (local.get $in) (i32.const 0) (local.get $at) (local.get $length)
                    (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 64)))
                (i32.load (i32.const 64)))
            (func $stat (param $in i32) (param $at i32) (param $length i32) (result i32)
                (call $path_filestat_get (local.get $in) (i32.const 0) (local.get $at) (local.get $length)
                    (i32.const 128)))
            (func $must (param $errno i32)
                (if (local.get $errno) (then (call $proc_exit (local.get $errno)))))
            (func (export "_start") (local $d i32) (local $e i32) {calls})"#
        ),
        spec,
    );
    let asked = seal.asked.lock().unwrap().clone();
    (exit, asked)
}

/// `dir/file`, `dir` and `file` in the guest's memory.
const WHOLE: &str = "(i32.const 0) (i32.const 8)";
const DIR: &str = "(i32.const 0) (i32.const 3)";
const FILE: &str = "(i32.const 4) (i32.const 4)";

// [STORE-043]
#[test]
fn entry_is_checked_before_it_is_opened_or_described() {
    let (exit, asked) = run("", &format!("(drop (call $open (i32.const 4) {WHOLE}))"));
    assert_eq!((exit.unwrap(), asked), (Exit::Code(0), vec!["dir/file".to_string()]));
    let (exit, asked) = run("", &format!("(call $must (call $stat (i32.const 4) {WHOLE}))"));
    assert_eq!((exit.unwrap(), asked), (Exit::Code(0), vec!["dir/file".to_string()]));
    // Through its directory, whose descriptor gets another number.
    let (exit, asked) = run(
        "",
        &format!(
            "(local.set $d (call $open (i32.const 4) {DIR}))
            (local.set $e (call $open (i32.const 3) {DIR}))
            (call $must (call $fd_renumber (local.get $d) (local.get $e)))
            (drop (call $open (local.get $e) {FILE}))"
        ),
    );
    assert_eq!(exit.unwrap(), Exit::Code(0));
    assert_eq!(asked, ["dir", "dir/file"]);
}

// [STORE-043]
#[test]
fn entry_that_was_changed_ends_the_guest() {
    let opened = format!("(drop (call $open (i32.const 4) {WHOLE}))");
    let described = format!("(drop (call $stat (i32.const 4) {WHOLE}))");
    let through_its_directory = format!("(drop (call $open (call $open (i32.const 4) {DIR}) {FILE}))");
    for calls in [opened, described, through_its_directory] {
        // Not an error that it can mistake for an absent file.
        let (exit, _) = run("dir/file", &format!("{calls} (call $proc_exit (i32.const 9))"));
        let error = exit.unwrap_err();
        assert!(
            matches!(&error, RuntimeError::Sealed { path, .. } if path == "/assets/dir/file"),
            "{error}"
        );
    }
}

#[test]
fn entry_outside_sealed_mounts_is_not_checked() {
    let (exit, asked) = run("dir/file", &format!("(drop (call $open (i32.const 3) {WHOLE}))"));
    assert_eq!((exit.unwrap(), asked), (Exit::Code(0), vec![]));
    // A closed descriptor belongs to another file when it is opened again.
    let (exit, asked) = run(
        "dir/file",
        &format!(
            "(local.set $d (call $open (i32.const 4) {DIR}))
            (call $must (call $fd_close (local.get $d)))
            (local.set $e (call $open (i32.const 3) {DIR}))
            (if (i32.ne (local.get $d) (local.get $e)) (then unreachable))
            (drop (call $open (local.get $e) {FILE}))"
        ),
    );
    assert_eq!((exit.unwrap(), asked), (Exit::Code(0), vec!["dir".to_string()]));
}
