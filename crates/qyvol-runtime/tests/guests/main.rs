//! Guests that end in every possible way, and guests that can't start. Written
//! here as text, so that each does one thing.

#![allow(clippy::unwrap_used, clippy::panic)]

mod check;
mod features;
mod sealed;

use std::fs::File;
use std::io::Write;

use qyvol_runtime::{
    CodeKind, Engine, Exit, Generation, Limit, Mount, Phase, Program, RunLimits, RunSpec, RuntimeError, WasmKind,
};
use qyvol_sandbox::Net;
use qyvol_trust::Verified;
use qyvol_types::{CompiledCode, Descriptor, Digest};

const MIB: u64 = 1 << 20;

fn load(kind: WasmKind, wasm: &[u8]) -> Result<Program, RuntimeError> {
    let engine = Engine::new(Generation::Blocking).unwrap();
    let code = engine.compile(wasm)?;
    load_code(&engine, kind, wasm, &code)
}

fn load_code(engine: &Engine, kind: WasmKind, wasm: &[u8], code: &[u8]) -> Result<Program, RuntimeError> {
    let mut file: File = tempfile::tempfile().unwrap();
    file.write_all(code).unwrap();
    let descriptor = Descriptor::of("application/wasm", wasm);
    let code = CompiledCode::of(descriptor.digest, file);
    let descriptor = Verified::dangerously_trust(descriptor, "a test's own guest");
    Program::load(engine, &descriptor, kind, &code)
}

// [RUN-021]
#[test]
fn code_of_another_component_is_refused() {
    let engine = Engine::new(Generation::Blocking).unwrap();
    let wasm = module("(func (export \"_start\"))");
    let code = engine.compile(&wasm).unwrap();
    let mut file: File = tempfile::tempfile().unwrap();
    file.write_all(&code).unwrap();
    let verified = Verified::dangerously_trust(Descriptor::of("application/wasm", &wasm), "a test's own guest");
    let of_another = CompiledCode::of(Digest::of(b"another"), file);
    let refused = Program::load(&engine, &verified, WasmKind::CoreModule, &of_another).unwrap_err();
    assert!(matches!(refused, RuntimeError::ComponentMismatch { .. }), "{refused}");
}

fn module(text: &str) -> Vec<u8> {
    wat::parse_str(format!("(module {text})")).unwrap()
}

fn run_module(text: &str, spec: RunSpec) -> Result<Exit, RuntimeError> {
    Ok(load(WasmKind::CoreModule, &module(text))?.run(spec)?.exit)
}

fn run_component(text: &str) -> Result<Exit, RuntimeError> {
    let wasm = wat::parse_str(format!("(component {text})")).unwrap();
    Ok(load(WasmKind::Component, &wasm)?.run(RunSpec::default())?.exit)
}

fn limited(bytes: u64) -> RunSpec {
    RunSpec {
        limits: RunLimits {
            memory: Some(bytes),
            ..RunLimits::default()
        },
        ..RunSpec::default()
    }
}

#[track_caller]
fn trap(exit: Result<Exit, RuntimeError>) -> String {
    match exit.unwrap() {
        Exit::Trap(why) => why,
        other => panic!("no trap: {other:?}"),
    }
}

/// The memory limit that ended a guest, and how it trapped.
fn out_of_memory(exit: Result<Exit, RuntimeError>) -> (u64, String) {
    match exit.unwrap() {
        Exit::Limit(Limit::Memory(bytes), why) => (bytes, why),
        other => panic!("no limit: {other:?}"),
    }
}

/// A component whose `run` says whether one call to `wasi:sockets` is denied:
/// 0 if it returned `access-denied`, else 1.
fn denied(interface: &str, function: &str, wit: &str, call: &str) -> Vec<u8> {
    let mut resolve = wit_parser::Resolve::default();
    let sockets = format!(
        "package wasi:sockets@0.2.0;
        interface network {{
            resource network;
            enum ip-address-family {{ ipv4, ipv6 }}
            enum error-code {{
                unknown, access-denied, not-supported, invalid-argument, out-of-memory, timeout,
                concurrency-conflict, not-in-progress, would-block, invalid-state, new-socket-limit,
                address-not-bindable, address-in-use, remote-unreachable, connection-refused,
                connection-reset, connection-aborted, datagram-too-large, name-unresolvable,
                temporary-resolver-failure, permanent-resolver-failure,
            }}
        }}
        {wit}"
    );
    resolve.push_str("sockets.wit", &sockets).unwrap();
    let cli = "package wasi:cli@0.2.0; interface run { run: func() -> result; }";
    resolve.push_str("cli.wit", cli).unwrap();
    let world =
        format!("package test:net; world net {{ import wasi:sockets/{interface}@0.2.0; export wasi:cli/run@0.2.0; }}");
    let package = resolve.push_str("world.wit", &world).unwrap();
    let world = resolve.select_world(&[package], Some("net")).unwrap();
    let mut core = module(&format!(
        r#"(import "wasi:sockets/{interface}@0.2.0" "{function}" (func $call (param i32 i32)))
        (memory (export "memory") 1)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
        (func (export "wasi:cli/run@0.2.0#run") (result i32)
            {call}
            ;; A result: 1 is an error, then at 4 its code, of which 1 is access-denied.
            (i32.ne (i32.load8_u (i32.const 0)) (i32.const 1))
            (i32.ne (i32.load8_u (i32.const 4)) (i32.const 1))
            i32.or)"#
    ));
    wit_component::embed_component_metadata(&mut core, &resolve, world, wit_component::StringEncoding::UTF8).unwrap();
    wit_component::ComponentEncoder::default()
        .module(&core)
        .unwrap()
        .validate(true)
        .encode()
        .unwrap()
}

#[test]
fn sockets_are_denied_as_errors_unless_granted() {
    let create = "(call $call (i32.const 0) (i32.const 0))";
    let guests = ["tcp", "udp"].map(|kind| {
        let interface = format!("{kind}-create-socket");
        let wit = format!(
            "interface {kind} {{ resource {kind}-socket; }}
            interface {interface} {{
                use network.{{error-code, ip-address-family}};
                use {kind}.{{{kind}-socket}};
                create-{kind}-socket: func(family: ip-address-family) -> result<{kind}-socket, error-code>;
            }}"
        );
        denied(&interface, &format!("create-{kind}-socket"), &wit, create)
    });
    for guest in guests {
        for (net, code) in [(Net::None, 0), (Net::All, 1)] {
            let spec = RunSpec {
                net: vec![net.clone()],
                ..RunSpec::default()
            };
            let ended = load(WasmKind::Component, &guest).unwrap().run(spec).unwrap();
            assert_eq!(ended.exit, Exit::Code(code), "net: {net:?}");
        }
    }
}

// [RUN-024]
#[test]
fn component_of_wasi_0_3_runs_in_an_engine_with_concurrent_calls() {
    let component = |result: i32, version: &str| {
        let text = format!(
            r#"(component
                (core module $m (func (export "run") (result i32) i32.const {result}))
                (core instance $i (instantiate $m))
                (func $run async (result (result)) (canon lift (core func $i "run")))
                (instance $run (export "run" (func $run)))
                (export "wasi:cli/run@{version}" (instance $run)))"#
        );
        wat::parse_str(text).unwrap()
    };
    for (result, code) in [(0, 0), (1, 1)] {
        let wasm = component(result, "0.3.0");
        assert_eq!(Generation::of(&wasm), Generation::Concurrent);
        let engine = Engine::new(Generation::Concurrent).unwrap();
        let compiled = engine.compile(&wasm).unwrap();
        let program = load_code(&engine, WasmKind::Component, &wasm, &compiled).unwrap();
        assert_eq!(program.run(RunSpec::default()).unwrap().exit, Exit::Code(code));
    }
    // The other engine refuses even to compile it.
    let wasm = component(0, "0.3.0");
    Engine::new(Generation::Blocking).unwrap().compile(&wasm).unwrap_err();
    assert_eq!(Generation::of(&component(0, "0.2.0")), Generation::Blocking);
}

// [RUN-034]
#[test]
fn each_exit_has_its_code() {
    let exit = |code: u32| {
        let text = format!(
            r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (func (export "_start") (call $exit (i32.const {code})))"#
        );
        run_module(&text, RunSpec::default()).unwrap()
    };
    // POSIX has codes up to 255; wasmtime's own preview 1 stops at 125.
    for code in [0, 1, 125, 126, 200, 255] {
        assert_eq!(exit(code), Exit::Code(code as i32));
    }
    let returns = run_module(r#"(func (export "_start"))"#, RunSpec::default());
    assert_eq!(returns.unwrap(), Exit::Code(0));
}

#[test]
fn result_of_a_component_is_its_exit_code() {
    for (result, code) in [(0, 0), (1, 1)] {
        let exit = run_component(&format!(
            r#"(core module $m (func (export "run") (result i32) (i32.const {result})))
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $run (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $run))"#
        ));
        assert_eq!(exit.unwrap(), Exit::Code(code));
    }
}

#[test]
fn trap_names_the_functions_and_no_addresses() {
    let why = trap(run_module(
        r#"(func $_ZN5guest5inner17h0123456789abcdefE unreachable)
        (func $outer (export "_start") (call $_ZN5guest5inner17h0123456789abcdefE))"#,
        RunSpec::default(),
    ));
    // One line, as every message is.
    let lines: Vec<&str> = why.split("; ").collect();
    assert!(lines[0].contains("unreachable"), "{why}");
    assert!(
        lines[1].starts_with("in ") && lines[1].contains("guest::inner"),
        "{why}"
    );
    assert!(lines[2].contains("outer"), "{why}");
    assert!(!why.contains("0x"), "{why}");
}

#[test]
fn hostile_function_name_in_a_trap_is_escaped() {
    let why = trap(run_module(
        r#"(func $f (@name "a\1b[2Jb\0ac") (export "_start") unreachable)"#,
        RunSpec::default(),
    ));
    assert!(why.chars().all(|c| !c.is_control()), "{why:?}");
}

#[test]
fn stack_overflow_ends_only_the_guest() {
    let exit = run_module(r#"(func $outer (export "_start") (call $outer))"#, RunSpec::default());
    let Exit::Limit(Limit::Stack(_), why) = exit.unwrap() else {
        panic!("the stack is a limit");
    };
    // One frame is shown once.
    assert!(why.contains("outer (32 times)") && why.lines().count() < 5, "{why}");
}

// [RUN-032]
#[test]
fn memory_past_the_limit_is_refused_and_a_trap_after_it_says_so() {
    let grow = |pages: u32, then: &str| {
        format!(
            r#"(memory 1)
            (func (export "_start")
                (if (i32.eq (memory.grow (i32.const {pages})) (i32.const -1)) (then {then})))"#
        )
    };
    // The guest sees -1 and continues.
    let goes_on = run_module(&grow(32, ""), limited(MIB));
    assert_eq!(goes_on.unwrap(), Exit::Code(0));
    let (limit, why) = out_of_memory(run_module(&grow(32, "unreachable"), limited(MIB)));
    assert!(limit == MIB && why.contains("unreachable"), "{why}");
    let within = run_module(&grow(15, "unreachable"), limited(MIB));
    assert_eq!(within.unwrap(), Exit::Code(0));
    // Its own maximum is no limit of ours.
    let own = trap(run_module(
        r#"(memory 1 2)
        (func (export "_start")
            (if (i32.eq (memory.grow (i32.const 2)) (i32.const -1)) (then unreachable)))"#,
        limited(MIB),
    ));
    assert!(own.contains("unreachable"), "{own}");
}

#[test]
fn memory_limit_spans_all_memories() {
    let (limit, _) = out_of_memory(run_module(
        r#"(memory $a 1) (memory $b 1)
        (func (export "_start")
            (if (i32.eq (memory.grow $a (i32.const 8)) (i32.const -1)) (then unreachable))
            (if (i32.eq (memory.grow $b (i32.const 8)) (i32.const -1)) (then unreachable)))"#,
        limited(MIB),
    ));
    assert_eq!(limit, MIB);
}

#[test]
fn initial_memory_past_the_limit_is_ended_by_the_limit() {
    let exit = run_module(r#"(memory 32) (func (export "_start"))"#, limited(MIB)).unwrap();
    assert_eq!(exit, Exit::Limit(Limit::Memory(MIB), String::new()));
}

#[test]
fn table_growth_is_bounded() {
    let exit = run_module(
        r#"(table 1 funcref)
        (func (export "_start")
            (if (i32.ne (table.grow (ref.null func) (i32.const 20000000)) (i32.const -1)) (then unreachable)))"#,
        RunSpec::default(),
    );
    assert_eq!(exit.unwrap(), Exit::Code(0));
}

#[test]
fn what_can_not_run_is_refused_before_it_is_compiled() {
    // None of its code runs: its start function would trap.
    for text in [
        "(func $f unreachable) (start $f)",
        r#"(import "env" "draw" (func)) (func (export "_start"))"#,
    ] {
        let error = run_module(text, RunSpec::default()).unwrap_err();
        assert!(matches!(&error, RuntimeError::Incompatible(_)), "{error}");
    }
    let error = run_component("").unwrap_err();
    assert!(error.to_string().contains("wasi:cli/run"), "{error}");
}

#[test]
fn entry_of_a_wrong_type_is_an_error_and_no_panic() {
    let error = run_module(r#"(func (export "_start") (param i32))"#, RunSpec::default()).unwrap_err();
    assert!(matches!(&error, RuntimeError::Instantiate(_)), "{error}");
}

#[test]
fn invalid_compiled_code_is_refused() {
    let engine = Engine::new(Generation::Blocking).unwrap();
    let wasm = module(r#"(func (export "_start"))"#);
    let code = engine.compile(&wasm).unwrap();
    for bytes in [&b""[..], b"not code", &wasm, &code[..code.len() / 2], &code[..64]] {
        let error = load_code(&engine, WasmKind::CoreModule, &wasm, bytes).unwrap_err();
        assert!(matches!(&error, RuntimeError::Load(_)), "{error}");
    }
    // A module's code is not accepted as a component's.
    let error = load_code(&engine, WasmKind::Component, &wasm, &code).unwrap_err();
    assert!(matches!(&error, RuntimeError::Load(_)), "{error}");
}

#[test]
fn content_that_is_not_wasm_does_not_compile() {
    let engine = Engine::new(Generation::Blocking).unwrap();
    for bytes in [
        &b""[..],
        b"\0asm",
        b"\0asm\x01\0\0\0\xff",
        b"\0asm\x0d\0\x01\0\xff",
        b"#!/bin/sh",
    ] {
        let error = engine.compile(bytes).unwrap_err();
        assert!(matches!(&error, RuntimeError::Incompatible(_)), "{error}");
    }
}

#[test]
fn directory_that_is_not_there_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let spec = RunSpec {
        mounts: vec![Mount {
            host: directory.path().join("absent"),
            guest: "/data".to_string(),
            writable: false,
            path: String::new(),
            seal: None,
            backing: None,
            quota: None,
        }],
        ..RunSpec::default()
    };
    let error = run_module(r#"(func (export "_start"))"#, spec).unwrap_err();
    assert!(matches!(&error, RuntimeError::Mount { .. }), "{error}");
    assert!(error.to_string().contains("/data"), "{error}");
}

#[test]
fn phases_are_reported_in_order_from_another_thread() {
    // A run with a timeout is on another thread: the program must be movable to it.
    let program = load(WasmKind::CoreModule, &module(r#"(func (export "_start"))"#)).unwrap();
    let phases = std::thread::spawn(move || {
        let mut phases = Vec::new();
        program
            .run_with_phases(RunSpec::default(), &mut |phase| phases.push(phase))
            .unwrap();
        phases
    })
    .join()
    .unwrap();
    assert_eq!(phases, [Phase::Link, Phase::Instantiate, Phase::Call]);
}

/// Waits for a millisecond by polling.
const ASKS_AGAIN: &str = r#"
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $p (sub resource)))
    (export "[method]pollable.ready" (func (param "self" (borrow $p)) (result bool)))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
    (alias outer 1 $pollable (type $outer))
    (export "pollable" (type $p (eq $outer)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $p))))))
  (core func $ready (canon lower (func $poll "[method]pollable.ready")))
  (core func $subscribe (canon lower (func $clock "subscribe-duration")))
  (core module $m
    (import "" "ready" (func $ready (param i32) (result i32)))
    (import "" "subscribe" (func $subscribe (param i64) (result i32)))
    (func (export "run") (result i32)
      (local $p i32)
      (local.set $p (call $subscribe (i64.const 1000000)))
      (loop $again (br_if $again (i32.eqz (call $ready (local.get $p)))))
      (i32.const 0)))
  (core instance $i (instantiate $m (with "" (instance
    (export "ready" (func $ready)) (export "subscribe" (func $subscribe))))))
  (func $run (result (result)) (canon lift (core func $i "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command))"#;

#[test]
fn guest_that_polls_sees_time_advance() {
    assert_eq!(run_component(ASKS_AGAIN).unwrap(), Exit::Code(0));
    let wasm = wat::parse_str(format!("(component {ASKS_AGAIN})")).unwrap();
    let metered = CodeKind {
        metered: true,
        ..CodeKind::default()
    };
    let engine = Engine::of_kind(Generation::Blocking, metered).unwrap();
    let code = engine.compile(&wasm).unwrap();
    let run = || {
        let spec = RunSpec {
            deterministic: Some(0),
            ..RunSpec::default()
        };
        load_code(&engine, WasmKind::Component, &wasm, &code)
            .unwrap()
            .run(spec)
            .unwrap()
    };
    let ended = run();
    assert_eq!(ended.exit, Exit::Code(0));
    assert_eq!(run().fuel, ended.fuel);
}
