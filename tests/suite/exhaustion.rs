//! A guest that takes all that it can get: each thing has an end that is told, and the
//! host goes on.
//!
//! Elsewhere: output, processor time and open files by their limits (`permissions`),
//! memories, tables, the stack and the collected heap by themselves (the runtime's own
//! tests), bounds of a compilation (`compile`), files in memory (`permissions`).

use std::fs;
use std::io::{Read, Write};
use std::process::{Child, Stdio};

use crate::matrix::{GUESTS, Guest};
use crate::support::{CommandOutput, User};

fn guest(version: u8) -> &'static Guest {
    let is_one = |guest: &&Guest| guest.language == "rust" && guest.version == version;
    GUESTS.iter().find(is_one).unwrap()
}

/// A guest's archive, with assets and these permissions.
fn built(user: &User, version: u8, permissions: &str) -> String {
    let manifest = format!("assets: [public]\npermissions: {permissions}\n");
    guest(version).archive(user, &manifest).unwrap()
}

/// What a run came to: the exit code, and what was said of it.
fn end(done: &CommandOutput) -> String {
    format!("{} {}{}", done.code, done.out.trim_end(), done.err.trim_end())
}

/// By version of WASI, permissions, options and steps, and what must be in the end.
const CASES: &[(u8, &str, &str, &str, &str)] = &[
    // Handles of the host's.
    (
        2,
        "{}",
        "",
        "pollables-many 1000000",
        "124 error: rust2.qyvbin was ended: it has more handles open than its limit of ",
    ),
    (
        3,
        "{}",
        "",
        "streams-many 1000000",
        "124 error: rust3.qyvbin was ended: it has more handles open than its limit of ",
    ),
    (
        3,
        "{}",
        "",
        "futures-many 1000000",
        "124 error: rust3.qyvbin was ended: it has more handles open than its limit of ",
    ),
    (
        3,
        "{}",
        "",
        "calls-many 1000000",
        "124 error: rust3.qyvbin was ended: it has more handles open than its limit of ",
    ),
    // Open files, directories and listings.
    (
        1,
        "{}",
        "--limit files=100",
        "open-many /assets:public/a.txt 1000",
        "0 100:too-many-open",
    ),
    (
        2,
        "{}",
        "--limit files=100",
        "open-many /assets:public/a.txt 1000",
        "0 98:insufficient-memory",
    ),
    (
        3,
        "{}",
        "--limit files=100",
        "open-many /assets:public/a.txt 1000",
        "0 98:insufficient-memory",
    ),
    (
        2,
        "{ fs: read }",
        "",
        "listings-many /:. 1000",
        "0 64:insufficient-memory",
    ),
    // Sockets and lookups.
    (
        2,
        "{ net: true }",
        "--limit sockets=100",
        "sockets-many 1000",
        "0 100:new-socket-limit",
    ),
    (
        3,
        "{ net: true }",
        "--limit sockets=100",
        "sockets-many 1000",
        "0 100:other",
    ),
    (
        2,
        "{ net: true }",
        "",
        "lookups-many localhost 1000",
        "0 64:temporary-resolver-failure",
    ),
    // A gigabyte in one call, or some of it.
    (1, "{}", "", "huge path 1000000000 /assets:", "0 name-too-long"),
    (
        2,
        "{}",
        "",
        "huge path 1000000000 /assets:",
        "124 error: rust2.qyvbin was ended: one call passed more data than its limit of ",
    ),
    (
        3,
        "{}",
        "",
        "huge path 1000000000 /assets:",
        "124 error: rust3.qyvbin was ended: one call passed more data than its limit of ",
    ),
    (1, "{}", "", "huge parts 200000000 /assets:", "0 nomem"),
    (1, "{}", "", "huge poll 200000000 /assets:", "0 nomem"),
    (
        2,
        "{}",
        "",
        "huge poll 200000000",
        "124 error: rust2.qyvbin was ended: one call passed more data than its limit of ",
    ),
    (
        2,
        "{ net: true }",
        "",
        "huge name 200000000",
        "124 error: rust2.qyvbin was ended: one call passed more data than its limit of ",
    ),
    (
        2,
        "{}",
        "",
        "huge stdout 200000000",
        "124 error: rust2.qyvbin was ended: one call passed more data than its limit of ",
    ),
    (
        1,
        "{}",
        "",
        "huge random 1000000000",
        "124 error: rust1.qyvbin was ended: one call passed more data than its limit of ",
    ),
    (
        2,
        "{}",
        "",
        "huge random 1000000000000",
        "124 error: rust2.qyvbin was ended: one call passed more data than its limit of ",
    ),
    (3, "{}", "", "huge random 1000000000000", "0 ok"),
    (2, "{}", "", "huge read /assets:public/a.txt", "0 5"),
    (2, "{}", "", "huge stream /assets:public/a.txt", "0 5"),
    // Bytes, files and depth of a file system in memory.
    (
        1,
        "{ fs: write }",
        "--limit storage=1MiB",
        "fill /:f 100",
        "0 16:insufficient-space",
    ),
    (
        2,
        "{ fs: write }",
        "--limit storage=1MiB",
        "fill /:f 100",
        "0 16:insufficient-space",
    ),
    (
        3,
        "{ fs: write }",
        "--limit storage=1MiB",
        "fill /:f 100",
        "0 16:insufficient-space",
    ),
    (
        1,
        "{ fs: write }",
        "--limit storage=1MiB",
        "many /:d 10000",
        "0 1022:insufficient-space",
    ),
    (
        2,
        "{ fs: write }",
        "--limit storage=1MiB",
        "many /:d 10000",
        "0 1022:insufficient-space",
    ),
    (
        3,
        "{ fs: write }",
        "--limit storage=1MiB",
        "many /:d 10000",
        "0 1022:insufficient-space",
    ),
    (
        1,
        "{ fs: write }",
        "--limit storage=1MiB",
        "deep /: 10000",
        "0 1022:insufficient-space",
    ),
    (
        2,
        "{ fs: write }",
        "--limit storage=1MiB",
        "deep /: 10000",
        "0 1022:insufficient-space",
    ),
    (
        3,
        "{ fs: write }",
        "--limit storage=1MiB",
        "deep /: 10000",
        "0 1022:insufficient-space",
    ),
];

// [RUN-030] [RUN-050] [RUN-055]
#[test]
fn resources_that_a_guest_hoards_are_bounded_and_reported() {
    let user = User::new();
    let mut wrong = Vec::new();
    for (version, permissions, options, steps, expected) in CASES {
        let app = built(&user, *version, permissions);
        let mut args = vec!["run", "-q"];
        args.extend(options.split_whitespace());
        args.push(&app);
        args.extend(steps.split(' '));
        let end = end(&user.qyv(&args));
        let fits = match expected.starts_with("0 ") {
            true => end == *expected,
            false if expected.starts_with("124 ") => end.starts_with(expected),
            false => end.starts_with("134 ") && end.contains(expected),
        };
        if !fits {
            wrong.push(format!(
                "{version} {permissions} {options} {steps}: {end}, not {expected}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Reads what a guest says, up to a `!`.
fn wait_for_mark(child: &mut Child) -> String {
    let (mut said, mut byte) = (String::new(), [0]);
    let stdout = child.stdout.as_mut().unwrap();
    while !said.ends_with('!') && stdout.read(&mut byte).unwrap() == 1 {
        said.push(char::from(byte[0]));
    }
    said
}

/// The most memory that a process has had, in bytes.
fn most_memory(child: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
}

// [RUN-032]
#[test]
fn memory_that_a_guest_takes_of_the_host_is_its_limit_and_little_more() {
    const LIMIT: u64 = 256 << 20;
    let user = User::new();
    for version in [1, 2, 3] {
        let app = built(&user, version, "{}");
        user.qyv(&["run", "-q", &app, "args"]).expect(0);
        let peak = |steps: &[&str]| {
            let mut command = user.command();
            command
                .args(["run", "-q", "--limit", "memory=256MiB", &app])
                .args(steps);
            // It waits for its input while it is looked at.
            command.args(["stdout", "!", "+", "stdin"]);
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            assert_eq!(wait_for_mark(&mut child), "!");
            let peak = most_memory(&child);
            child.stdin.take().unwrap().write_all(b"x").unwrap();
            let done = CommandOutput::from(&child.wait_with_output().unwrap()).expect(0);
            (peak, done.out)
        };
        let (idle, _) = peak(&[]);
        let (full, said) = peak(&["grow", "+"]);
        let pages: u64 = said.split('-').next().unwrap().trim().parse().unwrap();
        assert!(
            pages * 65536 <= LIMIT && pages * 65536 > LIMIT / 10 * 9,
            "{version}: {said}"
        );
        assert!(full - idle < LIMIT / 10 * 12, "{version}: {idle} to {full}");
        assert!(full - idle > LIMIT / 10 * 8, "{version}: it is looked at too early");
    }
}

// [RUN-033] [RUN-055]
#[test]
fn endless_calls_end_by_their_limit_and_leave_others_alone() {
    let user = User::new();
    for version in [1, 2, 3] {
        let app = built(&user, version, "{}");
        for (what, limit, said) in [
            ("clock", "cpu=300ms", "processor time (resources.cpu)"),
            ("random", "cpu=300ms", "processor time (resources.cpu)"),
            ("poll", "cpu=300ms", "processor time (resources.cpu)"),
            ("poll", "timeout=300ms", "(resources.timeout)"),
        ] {
            let mut command = user.command();
            command.args(["run", "-q", "--limit", limit, &app, "loop", what]);
            let endless = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            // One beside it does its work.
            let other = user.qyv(&["run", "-q", &app, "read", "/assets:public/a.txt"]).expect(0);
            assert_eq!(other.out, "read:asset\n");
            let ended = CommandOutput::from(&endless.wait_with_output().unwrap()).expect(124);
            assert!(ended.err.contains(said), "{version} {what}: {}", ended.err);
        }
    }
}

/// A component with `parts` and an entry that does nothing.
fn component(parts: &str) -> String {
    format!(
        r#"(component {parts}
            (core module $program (func (export "run") (result i32) (i32.const 0)))
            (core instance $started (instantiate $program))
            (type $entry (func (result (result))))
            (func $run (type $entry) (canon lift (core func $started "run")))
            (instance $exported (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $exported)))"#
    )
}

/// Components inside each other, so deep.
fn nested(depth: usize) -> Vec<u8> {
    const HEADER: &[u8] = b"\0asm\x0d\0\x01\0";
    const COMPONENT: u8 = 4;
    // From the innermost out, and back to front.
    let mut reversed: Vec<u8> = HEADER.iter().rev().copied().collect();
    for _ in 0..depth {
        let mut size = Vec::new();
        let mut left = reversed.len();
        while left >= 0x80 {
            size.push((left & 0x7f) as u8 | 0x80);
            left >>= 7;
        }
        size.push(left as u8);
        reversed.extend(size.iter().rev());
        reversed.push(COMPONENT);
        reversed.extend(HEADER.iter().rev());
    }
    reversed.reverse();
    reversed
}

/// A component with a type in a type in a type.
fn nested_types(depth: usize) -> Vec<u8> {
    const TYPES: u8 = 7;
    let mut content = vec![1];
    content.extend([0x41, 1, 1].repeat(depth));
    content.extend([0x41, 0]);
    let mut component = b"\0asm\x0d\0\x01\0".to_vec();
    component.push(TYPES);
    let mut left = content.len();
    while left >= 0x80 {
        component.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    component.push(left as u8);
    component.extend(content);
    component
}

/// A module with `parts` and an entry that does `body`.
fn module(parts: &str, body: &str) -> String {
    format!("(module {parts} (memory (export \"memory\") 1) (func (export \"_start\") {body}))")
}

/// Programs that are small to write and large to check, compile or start.
fn bombs() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let many = |count: usize, part: &str| part.repeat(count);
    let tables = |count: usize| many(count, "(table 100000 funcref)");
    let instances = |count: usize| {
        let parts = many(count, "(core instance (instantiate $m))");
        component(&format!("(core module $m (memory 1)){parts}"))
    };
    // Each has eight of the one before it.
    let types = (1..40).map(|n| format!("(type $t{n} (tuple {}))", many(8, &format!("$t{} ", n - 1))));
    let types: String = types.collect();
    let locals = |count: usize| format!("(func (local {}))", many(count, "i64 "));
    let targets: String = (0..60_000).map(|n| format!("{} ", n % 500)).collect();
    let jumps = format!(
        "{}(br_table {targets}(i32.const 0)){}",
        many(500, "(block "),
        many(500, ")")
    );
    let mut bombs: Vec<(&str, Vec<u8>, &str)> = [
        (
            "calls itself",
            module("(func $f (call $f))", "(call $f)"),
            "124 error: bomb.qyvbin was ended: its calls are nested deeper than its limit of 524288 bytes of stack \
             (the limit `stack`, which is fixed); it trapped: wasm trap: call stack exhausted",
        ),
        (
            "memories",
            module(&many(200, "(memory 1)"), ""),
            "memories count exceeds limit of 100",
        ),
        ("tables", module(&tables(10), ""), "0 "),
        (
            "tables past the limit of memory",
            module(&tables(99), ""),
            "it needs more memory than its limit of 16777216 bytes",
        ),
        (
            "more tables",
            module(&tables(101), ""),
            "tables count exceeds limit of 100",
        ),
        (
            "larger tables",
            module("(table 10000001 funcref)", ""),
            "table minimum size of 10000001 elements exceeds table limits",
        ),
        ("instances", instances(20_000), "instances count exceeds limit of 1000"),
        (
            "types",
            component(&format!("(type $t0 (tuple u8 u8)){types}")),
            "effective type size exceeds the limit of 1000000",
        ),
        ("locals", module(&many(100, &locals(49_000)), ""), "0 "),
        ("more locals", module(&locals(50_001), ""), "too many locals"),
        ("targets", module("", &jumps), "0 "),
        (
            "functions",
            module(&many(1_000_001, "(func)"), ""),
            "functions count exceeds limit of 1000000",
        ),
    ]
    .into_iter()
    .map(|(what, text, end)| (what, wat::parse_str(text).unwrap(), end))
    .collect();
    bombs.push(("nesting", nested(90), "it exports no wasi:cli/run"));
    bombs.push(("deep nesting", nested(100_000), "100 nested inside each other"));
    bombs.push(("nested types", nested_types(499), "it exports no wasi:cli/run"));
    let told = "more than 500 types of components and instances inside others";
    bombs.push(("deeply nested types", nested_types(100_000), told));
    bombs
}

// [RUN-022] [RUN-032]
#[test]
fn program_that_is_a_bomb_is_refused_or_ends_by_itself() {
    let user = User::new();
    let mut wrong = Vec::new();
    for (what, program, expected) in bombs() {
        user.write("bomb/app.wasm", program);
        user.write("bomb/app.qyv", "name: bomb\nversion: 1.0.0\nentrypoint: app.wasm\n");
        let mut done = user.qyv(&["build", "bomb", "-o", "bomb.qyvbin", "-q"]);
        if done.code == 0 {
            done = user.qyv(&["run", "-q", "--limit", "memory=16MiB", "bomb.qyvbin"]);
        }
        let end = end(&done);
        if !end.contains(expected) || !matches!(done.code, 0 | 1 | 124 | 125 | 134) {
            wrong.push(format!("{what}: {end}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
