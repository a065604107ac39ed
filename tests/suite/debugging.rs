//! Runs that are looked into: profiles, core dumps, code for debuggers.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::Value;

use crate::support::{CommandOutput, User};

/// The guest computes in `compute`, which `_start` calls: with one argument it then traps in
/// `fail`, with two it goes on for ever. It has the lines of its source.
const BUSY_MODULE: &[u8] = include_bytes!("../guests/busy.module.wasm");
const BUSY: &[u8] = include_bytes!("../guests/busy.component.wasm");

/// The guest as a core module and as a component.
fn apps(user: &User) -> [&'static str; 2] {
    for (name, wasm) in [("one", BUSY_MODULE), ("two", BUSY)] {
        user.write(&format!("{name}/busy.wasm"), wasm);
        let manifest = format!("name: {name}\nversion: 1.0.0\nentrypoint: busy.wasm\n");
        user.write(&format!("{name}/{name}.qyv"), manifest);
        user.qyv(&["build", name, "-o", &format!("{name}.qyvbin"), "-q"])
            .expect(0);
    }
    ["one.qyvbin", "two.qyvbin"]
}

fn run(user: &User, args: &[&str]) -> CommandOutput {
    user.qyv(&[&["run"], args].concat())
}

fn profile(user: &User, name: &str) -> Value {
    let bytes = fs::read(user.path(name)).unwrap();
    fs::remove_file(user.path(name)).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// The functions of the stacks that were seen, innermost first, each with its file.
fn stacks(document: &Value) -> Vec<Vec<(String, Option<String>)>> {
    let thread = &document["threads"][0];
    let index = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    let text = |value: &Value| thread["stringArray"][index(value)].as_str().unwrap().to_string();
    let samples = thread["samples"]["stack"].as_array().unwrap();
    assert_eq!(thread["samples"]["length"], samples.len());
    assert_eq!(
        thread["samples"]["threadCPUDelta"].as_array().unwrap().len(),
        samples.len()
    );
    let stack = |sample: &Value| {
        let mut stack = Vec::new();
        let mut at = sample;
        while !at.is_null() {
            let frame = index(&thread["stackTable"]["frame"][index(at)]);
            let function = index(&thread["frameTable"]["func"][frame]);
            let file = &thread["funcTable"]["fileName"][function];
            let name = text(&thread["funcTable"]["name"][function]);
            stack.push((name, (!file.is_null()).then(|| text(file))));
            at = &thread["stackTable"]["prefix"][index(at)];
        }
        stack
    };
    samples.iter().map(stack).collect()
}

/// Fails unless the document has what the Firefox Profiler reads, and the guest's functions.
#[track_caller]
fn check(document: &Value) {
    let meta = &document["meta"];
    assert_eq!(meta["interval"], 1.0);
    assert_eq!(meta["symbolicated"], true);
    for number in ["version", "preprocessedProfileVersion", "startTime"] {
        assert!(meta[number].is_number(), "{number}: {meta}");
    }
    let thread = &document["threads"][0];
    for table in [
        "frameTable",
        "funcTable",
        "stackTable",
        "resourceTable",
        "nativeSymbols",
        "samples",
    ] {
        let table = thread[table].as_object().unwrap();
        let length = usize::try_from(table["length"].as_u64().unwrap()).unwrap();
        for (name, column) in table.iter().filter(|(_, column)| column.is_array()) {
            assert_eq!(column.as_array().unwrap().len(), length, "{name}");
        }
    }
    let place = |name: &str| (name.to_string(), Some("busy.c".to_string()));
    let stacks = stacks(document);
    let expected = [place("compute"), place("_start")];
    let found = stacks.iter().filter(|stack| stack.starts_with(&expected)).count();
    // Nearly all of the work is there.
    assert!(found > 0 && found * 2 > stacks.len(), "{found} of {}", stacks.len());
    let line = |name: &str| {
        let table = &thread["funcTable"];
        let names = table["name"].as_array().unwrap().iter();
        let at = names.map(|name| &thread["stringArray"][usize::try_from(name.as_u64().unwrap()).unwrap()]);
        at.zip(table["lineNumber"].as_array().unwrap())
            .find(|(found, _)| *found == name)
            .map(|(_, line)| line.clone())
    };
    assert_eq!([line("compute"), line("_start")], [Some(9.into()), Some(18.into())]);
    let lines = thread["frameTable"]["line"].as_array().unwrap();
    assert!(lines.contains(&10.into()), "{lines:?}");
}

// [RUN-072]
#[test]
fn profile_shows_the_functions_of_a_guest_however_it_ends() {
    let user = User::new();
    for app in apps(&user) {
        let ended = run(&user, &["--profile", "p.json", app]).expect(0);
        assert!(ended.err.contains("profile: p.json, "), "{}", ended.err);
        check(&profile(&user, "p.json"));
        let ended = run(&user, &["--profile", "p.json", app, "trap"]).expect(134);
        assert!(ended.err.contains("trapped"), "{}", ended.err);
        check(&profile(&user, "p.json"));
        for limit in ["timeout=2s", "cpu=2s"] {
            run(&user, &["--profile", "p.json", "--limit", limit, app, "for", "ever"]).expect(124);
            check(&profile(&user, "p.json"));
        }
        run(&user, &["--profile", "p.json", "--deterministic", "--stats", app]).expect(0);
        check(&profile(&user, "p.json"));
    }
}

// [RUN-072]
#[test]
fn profile_of_a_guest_of_wasi_0_3_is_one_too() {
    let user = User::new();
    let tick = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/tick");
    user.qyv(&["build", tick, "-o", "tick.qyvbin"]).expect(0);
    let plain = run(&user, &["-q", "tick.qyvbin"]);
    run(&user, &["-q", "--profile", "p.json", "tick.qyvbin"]).expect(plain.code);
    // It mostly waits, so that it may have been seen at no moment.
    let document = profile(&user, "p.json");
    stacks(&document);
    assert_eq!(document["threads"].as_array().unwrap().len(), 1);
}

// [RUN-072] [RUN-073]
#[test]
fn files_of_a_run_overwrite_nothing_and_are_not_the_guests() {
    let user = User::new();
    let [app, _] = apps(&user);
    user.write("there", "mine");
    symlink("elsewhere", user.path("link")).unwrap();
    fs::create_dir(user.path("open")).unwrap();
    for option in ["--profile", "--coredump"] {
        for file in ["there", "link"] {
            let refused = run(&user, &[option, file, app, "trap"]).expect(125);
            assert!(refused.err.contains("no file is overwritten"), "{}", refused.err);
        }
        let refused = run(&user, &[option, "no/where", app, "trap"]).expect(125);
        assert!(refused.err.contains("can't make no/where"), "{}", refused.err);
        let refused = run(&user, &[option, "open/file", "--dir", "open::/data", app, "trap"]).expect(125);
        assert!(refused.err.contains("--dir grants"), "{}", refused.err);
        // A guest that does not start leaves none.
        run(&user, &[option, "file", "--policy", "missing.yaml", app, "trap"]).expect(126);
        assert!(!user.path("file").exists());
    }
    assert_eq!(fs::read(user.path("there")).unwrap(), b"mine");
    assert!(!user.path("elsewhere").exists());
}

// [RUN-073]
#[test]
fn core_dump_holds_the_stack_and_memory_of_a_guest_that_traps() {
    let user = User::new();
    for app in apps(&user) {
        run(&user, &["--coredump", "core", app]).expect(0);
        assert!(!user.path("core").exists());
        let trapped = run(&user, &["--coredump", "core", app, "trap"]).expect(134);
        assert!(trapped.err.contains("its core dump is core"), "{}", trapped.err);
        let mode = fs::metadata(user.path("core")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let bytes = fs::read(user.path("core")).unwrap();
        fs::remove_file(user.path("core")).unwrap();
        let mut found = Vec::new();
        for payload in wasmparser::Parser::new(0).parse_all(&bytes) {
            match payload.unwrap() {
                wasmparser::Payload::CustomSection(section) => match section.as_known() {
                    wasmparser::KnownCustom::CoreDump(core) => {
                        found.push("core");
                        assert_eq!(core.name, app.trim_end_matches(".qyvbin"));
                    }
                    wasmparser::KnownCustom::CoreDumpStack(stack) => {
                        found.push("corestack");
                        // `fail`, called by `_start`; a component's adapter is further out.
                        let frames: Vec<u32> = stack.frames.iter().map(|frame| frame.funcidx).collect();
                        assert!(frames.starts_with(&[2, 3]), "{frames:?}");
                        assert!(stack.frames.iter().take(2).all(|frame| frame.codeoffset > 0));
                    }
                    wasmparser::KnownCustom::CoreDumpInstances(instances) => {
                        found.push("coreinstances");
                        assert!(!instances.instances.is_empty());
                    }
                    _ => {}
                },
                wasmparser::Payload::DataSection(data) => {
                    found.push("data");
                    // `total` is not 0.
                    assert!(data.count() > 0);
                }
                _ => {}
            }
        }
        found.sort_unstable();
        assert_eq!(found, ["core", "coreinstances", "corestack", "data"], "{app}");
        // With the other two as well.
        run(&user, &["--coredump", "core", "--profile", "p.json", app, "trap"]).expect(134);
        check(&profile(&user, "p.json"));
        fs::remove_file(user.path("core")).unwrap();
        run(&user, &["--coredump", "core", "--debug-info", app, "trap"]).expect(134);
        fs::remove_file(user.path("core")).unwrap();
    }
}

// [RUN-073]
#[test]
fn guest_that_core_dumps_have_no_form_for_is_an_error_and_no_panic() {
    let user = User::new();
    let wat = "(module (global (mut exnref) (ref.null exn)) (memory (export \"memory\") 1) (func (export \"_start\") unreachable))";
    user.write("odd/odd.wasm", wat::parse_str(wat).unwrap());
    user.write("odd/odd.qyv", "name: odd\nversion: 1.0.0\nentrypoint: odd.wasm\n");
    let ended = run(&user, &["--coredump", "core", "odd/odd.qyv"]).expect(125);
    assert!(
        ended.err.contains("it trapped, and there is no core dump"),
        "{}",
        ended.err
    );
    assert!(!user.path("core").exists());
    run(&user, &["odd/odd.qyv"]).expect(134);
}

// [RUN-074]
#[test]
fn trap_of_code_for_debuggers_names_files_and_lines() {
    let user = User::new();
    for app in apps(&user) {
        let plain = run(&user, &[app, "trap"]).expect(134);
        assert!(
            plain.err.contains("!fail; in ") && !plain.err.contains("busy.c"),
            "{}",
            plain.err
        );
        let debugged = run(&user, &["--debug-info", app, "trap"]).expect(134);
        assert!(debugged.err.contains("!fail (busy.c:15); in "), "{}", debugged.err);
        assert!(debugged.err.contains("!_start (busy.c:22)"), "{}", debugged.err);
        let report = ["--debug-info", "--report", "report.json", "--deterministic", app];
        run(&user, &report).expect(0);
        fs::remove_file(user.path("report.json")).unwrap();
        // What a run says does not depend on those before it.
        assert_eq!(run(&user, &[app, "trap"]).err, plain.err);
    }
}

// [RUN-071]
#[test]
fn debug_code_is_stored_separately_and_only_for_accepted_images() {
    let user = User::new();
    let [app, _] = apps(&user);
    let engines = || {
        let code = fs::read_dir(user.home().join("store/v1/code")).map(|found| found.count());
        code.unwrap_or_default()
    };
    let runs: [&[&str]; 4] = [
        &[],
        &["--profile", "p.json"],
        &["--coredump", "core"],
        &["--debug-info"],
    ];
    for (n, options) in (1..).zip(runs) {
        for _ in 0..2 {
            run(&user, &[options, &[app]].concat()).expect(0);
            let _ = fs::remove_file(user.path("p.json"));
            assert_eq!(engines(), n, "{options:?}");
        }
    }
    let other = User::new();
    fs::copy(user.path(app), other.path(app)).unwrap();
    for options in runs {
        run(&other, &[options, &[app]].concat()).expect(126);
        assert!(other.stored().is_empty());
        assert!(!other.path("p.json").exists());
    }
}

// [RUN-071]
#[test]
fn conflicting_debug_options_are_refused() {
    let user = User::new();
    let [app, _] = apps(&user);
    let refused = run(&user, &["--profile", "p.json", "--debug-info", app]).expect(2);
    assert!(refused.err.contains("--debug-info"), "{}", refused.err);
    let worker = "(module (func (export \"work\")))";
    let manifest = format!(
        "name: worker\nversion: 1.0.0\ntype: function\nfunctions:\n  work: {{ wat: '{worker}', wit: 'work: func()' }}\nprocesses:\n  job: {{ method: work }}\n"
    );
    user.write("worker.qyv", manifest);
    user.qyv(&["build", "worker.qyv", "-o", "worker.qyvbin"]).expect(0);
    for options in [["--profile", "p.json"], ["--coredump", "core"], ["-q", "--debug-info"]] {
        let refused = run(&user, &[&options[..], &["worker.qyvbin", "job"]].concat()).expect(125);
        assert!(
            refused.err.contains("a process can't be run with --profile"),
            "{}",
            refused.err
        );
    }
    assert!(!user.path("p.json").exists());
}
