//! Errors for components and modules that can't run, before they are compiled.

use qyvol_runtime::{CodeKind, Engine, Generation, Incompatibility};

use crate::module;

fn check(wasm: &[u8]) -> Vec<Incompatibility> {
    Engine::new(Generation::Blocking).unwrap().check(wasm)
}

fn component(text: &str) -> Vec<u8> {
    wat::parse_str(format!("(component {text})")).unwrap()
}

/// A component that exports an instance by this name.
fn exports(name: &str) -> Vec<u8> {
    component(&format!(
        r#"(core module $m (func (export "f") (result i32) (i32.const 0)))
        (core instance $i (instantiate $m))
        (func $f (result (result)) (canon lift (core func $i "f")))
        (instance $instance (export "run" (func $f)))
        (export "{name}" (instance $instance))"#
    ))
}

#[test]
fn command_has_no_problem() {
    let wasm = module(
        r#"(import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1) (func (export "_start"))"#,
    );
    assert_eq!(check(&wasm), []);
    assert_eq!(check(&exports("wasi:cli/run@0.2.0")), []);
}

// [RUN-022]
#[test]
fn all_missing_imports_are_named_at_once() {
    let wasm = module(
        r#"(import "env" "draw" (func)) (import "wasi_snapshot_preview1" "sock_connect" (func))
        (func (export "_start"))"#,
    );
    let missing = ["env.draw", "wasi_snapshot_preview1.sock_connect"].map(str::to_string);
    assert_eq!(check(&wasm), [Incompatibility::MissingImports(missing.to_vec())]);

    let wasm = component(
        r#"(import "acme:gpu/draw@1.0.0" (instance (export "draw" (func))))
        (import "wasi:cli/stdout@0.3.0" (instance (export "get-stdout" (func))))
        (import "wasi:keyvalue/store@0.2.0" (instance (export "bucket" (type (sub resource)))))
        (import "acme:gpu/types@1.0.0" (instance (type $t (record (field "x" u32))) (export "t" (type (eq $t)))))
        (import "wasi:cli/exit@0.2.6" (instance (export "exit" (func (param "status" (result))))))"#,
    );
    let missing = [
        "acme:gpu/draw@1.0.0",
        "wasi:cli/stdout@0.3.0",
        "wasi:keyvalue/store@0.2.0",
    ]
    .map(str::to_string);
    let problems = check(&wasm);
    assert_eq!(problems[0], Incompatibility::MissingImports(missing.to_vec()));
    assert!(matches!(problems[1], Incompatibility::NotACommand(_)), "{problems:?}");
}

// [RUN-022]
#[test]
fn non_command_is_described_by_what_it_is() {
    for (wasm, name) in [
        (exports("wasi:http/incoming-handler@0.2.0"), "HTTP service"),
        (exports("wasi:cli/run@0.3.0"), "wasi:cli/run@0.3.0"),
        (exports("acme:calc/ops@1.0.0"), "library"),
        (module(r#"(func (export "_initialize"))"#), "library"),
        (module(r#"(func (export "start"))"#), "_start"),
        (module(r#"(global (export "_start") i32 (i32.const 0))"#), "_start"),
    ] {
        let problems = check(&wasm);
        let [Incompatibility::NotACommand(what)] = problems.as_slice() else {
            panic!("{problems:?}");
        };
        assert!(what.contains(name), "{what}");
    }
}

// [RUN-022] [SERVE-002]
#[test]
fn engine_for_services_accepts_only_services() {
    let kind = CodeKind {
        service: true,
        ..CodeKind::default()
    };
    let engine = Engine::of_kind(Generation::Blocking, kind).unwrap();
    assert_eq!(engine.check(&exports("wasi:http/incoming-handler@0.2.0")), []);
    let concurrent = Engine::of_kind(Generation::Concurrent, kind).unwrap();
    assert_eq!(concurrent.check(&exports("wasi:http/handler@0.3.0")), []);
    for (wasm, why) in [
        (
            exports("wasi:cli/run@0.2.0"),
            "neither wasi:http/incoming-handler of WASI 0.2",
        ),
        (exports("wasi:http/handler@0.2.0"), "nor wasi:http/handler of WASI 0.3"),
        (module(r#"(func (export "_start"))"#), "core module"),
    ] {
        let problems = engine.check(&wasm);
        let [Incompatibility::NotAService(what)] = problems.as_slice() else {
            panic!("{problems:?}");
        };
        assert!(what.contains(why), "{what}");
    }
}

#[test]
fn unsupported_feature_is_reported_by_check_and_compile() {
    // Custom page sizes, stack switching: off in wasmtime by default.
    for text in [
        r#"(memory 1 (pagesize 1)) (func (export "_start"))"#,
        r#"(type $f (func)) (type $c (cont $f)) (func (export "_start"))"#,
    ] {
        let wasm = module(text);
        let problems = check(&wasm);
        assert!(
            matches!(problems.as_slice(), [Incompatibility::Invalid(_)]),
            "{problems:?}"
        );
        Engine::new(Generation::Blocking).unwrap().compile(&wasm).unwrap_err();
    }
    for bytes in [&b""[..], b"\0asm", b"#!/bin/sh", b"\0asm\x0d\0\x01\0\xff"] {
        assert!(
            matches!(check(bytes).as_slice(), [Incompatibility::Invalid(_)]),
            "{bytes:?}"
        );
    }
}
