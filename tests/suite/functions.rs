//! Functions that a manifest names: made at build, called with their limits and instances.

use std::fs;

use serde_json::{Value, json};

use crate::call::echo;
use crate::support::User;

/// Counts the calls of its instance; grows its memory; traps.
pub(crate) const COUNTER: &str = r#"
  (module
    (memory (export "memory") 1)
    (global $calls (mut i32) (i32.const 0))
    (func (export "count") (result i32)
      (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
      (global.get $calls))
    (func (export "fail") (unreachable))
    (func (export "spin") (loop $more (br $more))))"#;

/// Returns its argument, between brackets.
const GREET: &str = r#"
  (module
    (memory (export "memory") 1)
    (data (i32.const 0) "hello, ")
    (global $next (mut i32) (i32.const 1024))
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (global.get $next))
      (global.set $next (i32.add (local.get $at) (local.get 3)))
      (local.get $at))
    (func (export "greet") (param $at i32) (param $size i32) (result i32)
      (memory.copy (i32.const 7) (local.get $at) (local.get $size))
      (i32.store (i32.const 512) (i32.const 0))
      (i32.store (i32.const 516) (i32.add (local.get $size) (i32.const 7)))
      (i32.const 512)))"#;

pub(crate) fn wat(text: &str) -> String {
    format!(
        "|\n{}\n",
        text.lines()
            .map(|line| format!("      {line}"))
            .collect::<Vec<_>>()
            .join("\n")
    )
}

/// Builds an application of this manifest, without its name.
pub(crate) fn built(user: &User, name: &str, more: &str) -> String {
    user.write(
        &format!("{name}/app.qyv"),
        format!("name: {name}\nversion: 1.0.0\ntype: function\n{more}"),
    );
    let archive = format!("{name}.qyvbin");
    user.qyv(&["build", name, "-o", &archive, "-q"]).expect(0);
    archive
}

/// A manifest that neither `validate` nor `build` takes: what they say.
pub(crate) fn refused(user: &User, manifest: &str) -> String {
    user.write("bad/app.qyv", format!("name: bad\nversion: 1.0.0\n{manifest}"));
    let validated = user.qyv(&["validate", "bad"]).expect(1).err;
    let refused = user.qyv(&["build", "bad", "-o", "bad.qyvbin"]);
    assert_ne!(refused.code, 0);
    assert!(!user.path("bad.qyvbin").exists());
    validated
}

// [MAN-068] [CALL-013]
#[test]
fn functions_of_wat_are_one_component() {
    let user = User::new();
    let manifest = format!(
        "functions:\n  answer:\n    wat: '(module (func (export \"answer\") (result i32) i32.const 42))'\n    wit: 'answer: func() -> s32'\n  greet:\n    wit: 'greet: func(name: string) -> string'\n    wat: {}",
        wat(GREET)
    );
    let app = built(&user, "app", &manifest);
    assert_eq!(user.qyv(&["call", &app, "answer"]).expect(0).out, "42\n");
    assert_eq!(
        user.qyv(&["call", &app, "greet", "\"mundo ñ\""]).expect(0).out,
        "\"hello, mundo ñ\"\n"
    );
    let wit = user.qyv(&["inspect", "--wit", &app]).expect(0).out;
    assert!(wit.contains("export greet: func(name: string) -> string;"), "{wit}");
    // The same bytes again, and nothing of the sources in the image.
    let first = fs::read(user.path("app.qyvbin")).unwrap();
    built(&user, "app", &manifest);
    assert_eq!(fs::read(user.path("app.qyvbin")).unwrap(), first);
    // Under development, and from one module for two functions.
    fs::write(user.path("two.wasm"), wat_module(COUNTER)).unwrap();
    user.write("two/app.qyv", "name: two\nfunctions:\n  count: { wasm: two.wasm, wit: 'count: func() -> u32' }\n  fail: { wasm: two.wasm, wit: 'fail: func()' }\n");
    fs::rename(user.path("two.wasm"), user.path("two/two.wasm")).unwrap();
    assert_eq!(user.qyv(&["call", "two/", "count"]).expect(0).out, "1\n");
    user.qyv(&["call", "two/", "fail"]).expect(134);
}

fn wat_module(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

// [MAN-068] [MAN-061]
#[test]
fn module_that_lacks_something_is_refused_with_what_it_lacks() {
    let user = User::new();
    let of = |wit: &str, wat: &str| format!("functions:\n  f:\n    wit: '{wit}'\n    wat: '{wat}'\n");
    for (manifest, told) in [
        (of("f: func()", "(module)"), "it exports no function `f`"),
        (
            of(
                "f: func() -> string",
                "(module (func (export \"f\") (result i32) i32.const 0))",
            ),
            "it exports no `memory`",
        ),
        (
            of(
                "f: func(a: list<u8>)",
                "(module (memory (export \"memory\") 1) (func (export \"f\") (param i32 i32)))",
            ),
            "it exports no function `cabi_realloc`",
        ),
        (
            of("f: func()", "(module (func (export \"f\") (result i32) i32.const 0))"),
            "can't be made a component",
        ),
        (
            of("f: func(", "(module (func (export \"f\")))"),
            "its wit can't be read",
        ),
        (
            of("f: func(a: thing)", "(module (func (export \"f\")))"),
            "its wit can't be read",
        ),
        (
            of("f: func()", "(module (func (export \"f\")"),
            "the wat of f: expected `)` (line 1, column ",
        ),
        (of("f: func()", "(component)"), "it is a component"),
        (
            of(
                "f: func()",
                "(module (import \"a\" \"b\" (func)) (func (export \"f\")))",
            ),
            "it imports a::b: a module with `wit` can import WASI preview 1",
        ),
        // Names that mean something to the tools that make a component.
        (
            of(
                "f: func()",
                "(module (import \"__main_module__\" \"x\" (func)) (func (export \"f\")))",
            ),
            "it imports __main_module__::x",
        ),
        (
            of(
                "f: func()",
                "(module (import \"$root\" \"[waitable-set-wait]\" (func (param i32 i32) (result i32))) (func (export \"f\")))",
            ),
            "it imports $root::[waitable-set-wait]",
        ),
    ] {
        let err = refused(&user, &manifest);
        assert!(err.contains(told), "{manifest}\n{err}");
    }
    let err = refused(&user, "functions:\n  f: { wasm: missing.wasm, wit: 'f: func()' }\n");
    assert!(
        err.contains("can't read the module") && err.contains("missing.wasm"),
        "{err}"
    );
}

// [MAN-070]
#[test]
fn types_that_a_module_brings_are_left_out() {
    let user = User::new();
    // What reads such a section would refuse these.
    let module = "(module (@custom \"component-type:it\" \"\\03\") (@custom \"component-type\" \"no component\")
        (func (export \"f\") (result i32) i32.const 7) (func (export \"_start\")) (memory (export \"memory\") 1))";
    user.write("app/f.wasm", wat_module(module));
    let app = built(
        &user,
        "app",
        "functions:\n  f: { wasm: f.wasm, wit: 'f: func() -> u32' }\n",
    );
    assert_eq!(user.qyv(&["call", &app, "f"]).expect(0).out, "7\n");
    user.write("command/f.wasm", wat_module(module));
    user.write("command/app.qyv", "name: command\nentrypoint: f.wasm\n");
    let refused = user.qyv(&["build", "command", "-o", "command.qyvbin", "--componentize"]);
    let told = "it can't be made a component: the types in its section `component-type:it` can't be read";
    assert!(refused.expect(1).err.contains(told));
    assert!(!user.path("command.qyvbin").exists());
    user.qyv(&["build", "command", "-o", "command.qyvbin", "-q"]).expect(0);
}

// [MAN-060] [MAN-061]
#[test]
fn words_of_wit_are_names_like_others() {
    let user = User::new();
    let same = "(module (func (export \"list\") (param i32) (result i32) local.get 0))";
    let manifest = format!("functions:\n  list:\n    wit: 'list: func(checklist: s32) -> s32'\n    wat: '{same}'\n");
    let app = built(&user, "app", &manifest);
    assert_eq!(user.qyv(&["call", &app, "list", "7"]).expect(0).out, "7\n");
}

// [MAN-063]
#[test]
fn manifest_names_only_what_there_is() {
    let user = User::new();
    echo(&user, "app", "");
    user.write("bad/app.wasm", fs::read(user.path("app/app.wasm")).unwrap());
    let err = refused(
        &user,
        "entrypoint: app.wasm\nfunctions:\n  plus: { method: subtract }\n",
    );
    assert!(err.contains("it exports no function subtract; it has "), "{err}");
    let err = refused(
        &user,
        "entrypoint: app.wasm\nprocesses:\n  worker: { method: subtract }\n",
    );
    assert!(err.contains("it exports no function subtract; it has "), "{err}");
    let err = refused(&user, "entrypoint: app.wasm\nprocesses:\n  worker: { method: add }\n");
    assert!(
        err.contains(
            "processes.worker.method: add takes arguments (the first is `first`), and a process is given none"
        ),
        "{err}"
    );
    // What could be either of two is neither.
    let two = "(component
        (core module $m (func (export \"go\")))
        (core instance $i (instantiate $m))
        (func $go (canon lift (core func $i \"go\")))
        (instance $e (export \"go\" (func $go)))
        (export \"a:b/one\" (instance $e))
        (export \"a:b/two\" (instance $e)))";
    user.write("bad/app.wasm", wat_module(two));
    for named in ["functions:\n  go: {}\n", "processes:\n  go: { method: go }\n"] {
        let err = refused(&user, &format!("entrypoint: app.wasm\n{named}"));
        let told = ".go: go is ambiguous: it can be a:b/one.go, a:b/two.go";
        assert!(err.contains(told), "{err}");
    }
    let more = "name: app\nentrypoint: app.wasm\nfunctions:\n  go: { method: one.go }\n";
    user.write("bad/app.qyv", more);
    user.qyv(&["validate", "bad"]).expect(0);
}

/// Imports WASI preview 1, and counts the calls of its instance.
const ROLL: &str = r#"
  (module
    (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
    (memory (export "memory") 1)
    (global $calls (mut i32) (i32.const 0))
    (func (export "NAME") (result i32)
      (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
      (i32.add
        (i32.mul (call $random (i32.const 0) (i32.const 4)) (i32.const 100))
        (global.get $calls))))"#;

// [MAN-068]
#[test]
fn sources_with_imports_share_them_and_nothing_else() {
    let user = User::new();
    let source = |name: &str| {
        let pool = "{ type: static, size: 1 }";
        format!(
            "  {name}:\n    pool: {pool}\n    wit: '{name}: func() -> u32'\n    wat: {}",
            wat(&ROLL.replace("NAME", name))
        )
    };
    let answer = "  answer:\n    wit: 'answer: func() -> s32'\n    wat: '(module (func (export \"answer\") (result i32) i32.const 42))'\n";
    let manifest = format!(
        "functions:\n{}{}{answer}{}",
        source("roll"),
        source("throw"),
        who_as_source()
    );
    let app = built(&user, "app", &manifest);
    let wit = user.qyv(&["inspect", "--wit", &app]).expect(0).out;
    assert_eq!(wit.matches("import wasi:random/random@0.2.").count(), 1, "{wit}");
    assert_eq!(wit.matches("import qyvol:call/context@0.1.0;").count(), 1, "{wit}");
    let lines =
        "{\"function\":\"roll\"}\n{\"function\":\"roll\"}\n{\"function\":\"throw\"}\n{\"function\":\"answer\"}\n";
    let out = user
        .qyv_with_input(&["call", "--workers", "1", &app], lines)
        .expect(0)
        .out;
    let results: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["result"].take())
        .collect();
    assert_eq!(results, [1, 2, 1, 42].map(|n| json!(n)));
    let uid = rustix::process::geteuid().as_raw();
    assert_eq!(
        user.qyv(&["call", &app, "who"]).expect(0).out,
        format!("(1, {uid}, 0)\n")
    );
    let first = fs::read(user.path("app.qyvbin")).unwrap();
    built(&user, "app", &manifest);
    assert_eq!(fs::read(user.path("app.qyvbin")).unwrap(), first);
    // What one imports, the component imports.
    let limited = answer.replace("  answer:\n", "  answer:\n    imports: []\n");
    let err = refused(&user, &format!("functions:\n{}{limited}", source("roll")));
    assert!(err.contains("functions.answer imports wasi:"), "{err}");
}

/// The function that tells who has called it, among others.
fn who_as_source() -> String {
    who()
        .replacen("functions:\n", "", 1)
        .replace("    imports: [qyvol:call]\n", "")
}

// [MAN-064]
#[test]
fn imports_that_are_listed_are_the_only_ones() {
    let user = User::new();
    echo(&user, "app", "");
    user.write("bad/app.wasm", fs::read(user.path("app/app.wasm")).unwrap());
    let err = refused(
        &user,
        "entrypoint: app.wasm\nfunctions:\n  add: { imports: [wasi:cli] }\n",
    );
    assert!(
        err.contains("functions.add imports wasi:") && err.contains("which its `imports` does not list"),
        "{err}"
    );
    assert!(!err.contains("imports wasi:cli/"), "{err}");
    let all = "wasi:cli, wasi:io, wasi:clocks, wasi:filesystem, wasi:random, wasi:sockets, wasi:http";
    let app = echo(&user, "all", &format!("functions:\n  add: {{ imports: [{all}] }}\n"));
    assert_eq!(user.qyv(&["call", &app, "add", "1", "2"]).expect(0).out, "ok(3)\n");
}

// [CALL-013]
#[test]
fn function_of_the_manifest_comes_first_with_its_limits() {
    let user = User::new();
    // One that exists under the name of another.
    let app = echo(
        &user,
        "app",
        "functions:\n  twice: { method: add }\n  act: { method: act.sleep, limits: { timeout: 100ms } }\n",
    );
    assert_eq!(user.qyv(&["call", &app, "twice", "1", "2"]).expect(0).out, "ok(3)\n");
    assert_eq!(user.qyv(&["call", &app, "same-u8", "7"]).expect(0).out, "7\n");
    let late = user.qyv(&["call", &app, "act"]).expect(124);
    assert!(late.err.contains("longer than 100"), "{}", late.err);
    // The operator's is lower.
    let late = user.qyv(&["call", "--limit", "timeout=50ms", &app, "act"]).expect(124);
    assert!(late.err.contains("longer than 50"), "{}", late.err);
    let late = user.qyv(&["call", "--limit", "timeout=1h", &app, "act"]).expect(124);
    assert!(late.err.contains("longer than 100"), "{}", late.err);
}

/// A function that calls itself without end, with its name.
pub(crate) const DEEP: &str =
    "  deep:\n    wit: 'deep: func()'\n    wat: '(module (func $deep (export \"deep\") (call $deep)))'\n";

// [CALL-010] [RUN-055]
#[test]
fn call_that_exhausts_its_stack_is_ended_by_that_limit() {
    let user = User::new();
    let app = built(&user, "app", &format!("functions:\n{DEEP}"));
    let ended = user.qyv(&["call", &app, "deep"]).expect(124);
    assert!(
        ended.err.contains("(the limit `stack`, which is fixed)"),
        "{}",
        ended.err
    );
    let line = user
        .qyv_with_input(&["call", "--workers", "1", &app, "deep"], "{\"id\":1}\n")
        .out;
    assert!(line.contains("\"limit\"") && line.contains("of stack"), "{line}");
}

// [CALL-014] [CALL-015]
#[test]
fn pool_of_the_manifest_keeps_instances() {
    let user = User::new();
    let functions = |pool: &str| {
        format!(
            "functions:\n  count:\n    pool: {pool}\n    wit: 'count: func() -> u32'\n    wat: {}",
            wat(COUNTER)
        )
    };
    for (pool, expected) in [
        ("inline", [1, 1, 1]),
        ("{ type: lazy, max: 1 }", [1, 2, 3]),
        ("{ type: static, size: 1 }", [1, 2, 3]),
        ("{ type: adaptive, max: 1 }", [1, 2, 3]),
    ] {
        let app = built(&user, "app", &functions(pool));
        let lines = "{\"id\":1}\n{\"id\":2}\n{\"id\":3}\n";
        let out = user
            .qyv_with_input(&["call", "--workers", "1", &app, "count"], lines)
            .expect(0)
            .out;
        let results: Vec<Value> = out
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["result"].take())
            .collect();
        assert_eq!(results, expected.map(|n| json!(n)), "{pool}");
        // One call has nothing of an earlier command's.
        assert_eq!(user.qyv(&["call", &app, "count"]).expect(0).out, "1\n");
    }
    // It is one pool, whether a line names the function or not.
    let app = built(&user, "app", &functions("{ type: static, size: 1 }"));
    let lines = "{\"id\":1}\n{\"id\":2,\"function\":\"count\"}\n".repeat(2);
    let out = user
        .qyv_with_input(&["call", "--workers", "1", &app, "count"], &lines)
        .expect(0)
        .out;
    let expected = [(1, 1), (2, 2), (1, 3), (2, 4)].map(|(id, n)| format!("{{\"id\":{id},\"result\":{n}}}\n"));
    assert_eq!(out, expected.concat());
}

/// Tells who has called: the case of the actor, the number of the user, and how many words
/// the scope has.
const WHO: &str = r#"
  (module
    (import "qyvol:call/context@0.1.0" "actor" (func $actor (param i32)))
    (import "qyvol:call/context@0.1.0" "scope" (func $scope (param i32)))
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 1024))
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.set $next (i32.add (local.get $at) (local.get 3)))
      (local.get $at))
    (func (export "who") (result i32)
      (call $actor (i32.const 0))
      (call $scope (i32.const 16))
      (i32.store (i32.const 32) (i32.load8_u (i32.const 0)))
      (i32.store (i32.const 36) (i32.load (i32.const 4)))
      (i32.store (i32.const 40) (i32.load (i32.const 20)))
      (i32.const 32)))"#;

pub(crate) fn who() -> String {
    format!(
        "functions:\n  who:\n    imports: [qyvol:call]\n    wit: 'who: func() -> tuple<u32, u32, u32>'\n    wat: {}",
        wat(WHO)
    )
}

// [CALL-016]
#[test]
fn function_gets_the_identity_of_its_caller() {
    let user = User::new();
    let app = built(&user, "app", &who());
    let uid = rustix::process::geteuid().as_raw();
    let told = user.qyv(&["call", &app, "who"]).expect(0).out;
    assert_eq!(told, format!("(1, {uid}, 0)\n"));
    let told = user
        .qyv(&["call", "--scope", "admin", "--scope", "team:a/b", &app, "who"])
        .expect(0)
        .out;
    assert_eq!(told, format!("(1, {uid}, 2)\n"));
    let refused = user.qyv(&["call", "--scope", "a b", &app, "who"]).expect(2);
    assert!(refused.err.contains("letters, digits"), "{}", refused.err);
}

// [MAN-068] [CALL-015]
#[test]
fn example_of_functions_in_a_manifest_does_what_it_says() {
    let user = User::new();
    let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/wat-functions");
    user.qyv(&["build", example.to_str().unwrap(), "-o", "app.qyvbin", "-q"])
        .expect(0);
    let app = "app.qyvbin";
    assert_eq!(user.qyv(&["call", app, "gcd", "48", "180"]).expect(0).out, "12\n");
    assert_eq!(
        user.qyv(&["call", app, "shout", "\"hello\""]).expect(0).out,
        "\"HELLO\"\n"
    );
    // More than its memory has at first.
    user.write("long", format!("\"{}\"", "a".repeat(200_000)));
    let long = user.qyv(&["call", "--args-from", "long", app, "shout"]).expect(0).out;
    assert_eq!(long, format!("\"{}\"\n", "A".repeat(200_000)));
    let lines = "{\"id\":1}\n{\"id\":2}\n";
    let visits = user
        .qyv_with_input(&["call", "--workers", "1", app, "visit"], lines)
        .expect(0)
        .out;
    assert_eq!(visits, "{\"id\":1,\"result\":1}\n{\"id\":2,\"result\":2}\n");
    user.qyv(&["run", app, "first-visit"]).expect(0);
}
