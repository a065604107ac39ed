//! Features of WebAssembly 3.0 and the component model: for each, a guest that traps unless it
//! works.

use qyvol_runtime::{Exit, RunSpec, RuntimeError};

use crate::{MIB, limited, out_of_memory, run_component, run_module, trap};

fn works(text: &str) {
    let exit = run_module(text, RunSpec::default());
    assert_eq!(exit.unwrap(), Exit::Code(0), "{text}");
}

#[test]
fn exceptions_are_thrown_and_caught() {
    works(
        r#"(tag $e (param i32))
        (func $throw (throw $e (i32.const 7)))
        (func (export "_start")
            (block $caught (result i32 exnref)
                (try_table (catch_ref $e $caught) (call $throw))
                unreachable)
            drop
            (if (i32.ne (i32.const 7)) (then unreachable)))"#,
    );
}

#[test]
fn uncaught_exception_is_a_trap() {
    let why = trap(run_module(
        r#"(tag $e) (func $outer (export "_start") (throw $e))"#,
        RunSpec::default(),
    ));
    assert!(why.contains("exception") && !why.contains("backtrace"), "{why}");
}

#[test]
fn garbage_is_collected() {
    // A hundred times as much as may be in use at once.
    let exit = run_module(
        r#"(type $block (array (mut i8)))
        (global $last (mut (ref null $block)) (ref.null $block))
        (func (export "_start") (local $n i32)
            (loop $next
                (global.set $last (array.new $block (i32.const 1) (i32.const 65536)))
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br_if $next (i32.lt_u (local.get $n) (i32.const 6400))))
            (if (i32.ne (array.len (ref.as_non_null (global.get $last))) (i32.const 65536)) (then unreachable)))"#,
        limited(4 * MIB),
    );
    assert_eq!(exit.unwrap(), Exit::Code(0));
}

#[test]
fn gc_heap_counts_against_the_memory_limit() {
    let (limit, _) = out_of_memory(run_module(
        r#"(type $block (array (mut i8)))
        (type $list (struct (field (ref null $list)) (field (ref $block))))
        (global $all (mut (ref null $list)) (ref.null $list))
        (func (export "_start")
            (loop $next
                (global.set $all (struct.new $list (global.get $all)
                    (array.new $block (i32.const 1) (i32.const 65536))))
                (br $next)))"#,
        limited(4 * MIB),
    ));
    assert_eq!(limit, 4 * MIB);
}

#[test]
fn atomics_work_and_shared_memory_is_refused_before_it_is_compiled() {
    works(
        r#"(memory 1)
        (func (export "_start")
            (drop (i32.atomic.rmw.add (i32.const 0) (i32.const 3)))
            (if (i32.ne (i32.atomic.load (i32.const 0)) (i32.const 3)) (then unreachable)))"#,
    );
    // Nothing would bound its growth.
    let shared = r#"(memory 1 4 shared) (func (export "_start"))"#;
    let error = run_module(shared, RunSpec::default()).unwrap_err();
    assert!(matches!(&error, RuntimeError::Incompatible(_)), "{error}");
    let error = run_component(&format!("(core module {shared})")).unwrap_err();
    assert!(error.to_string().contains("shared memory"), "{error}");
}

#[test]
fn tail_calls_wide_memories_and_typed_references_work() {
    works(
        r#"(func $down (param i32)
            (if (i32.eqz (local.get 0)) (then return))
            (return_call $down (i32.sub (local.get 0) (i32.const 1))))
        (func (export "_start") (call $down (i32.const 1000000)))"#,
    );
    works(
        r#"(memory i64 1)
        (func (export "_start") (i64.store (i64.const 8) (i64.const 1)))"#,
    );
    works(
        r#"(type $f (func))
        (func $g (type $f))
        (elem declare func $g)
        (func (export "_start") (call_ref $f (ref.func $g)))"#,
    );
}
