//! Compositions of small components, written as text.

use qyvol_types::WitName;

use super::*;

/// A component that exports `interface` with a function `add`, of the type that `params` and
/// `result` make.
fn adder(interface: &str, params: &str, result: &str) -> Vec<u8> {
    let core = |ty: &str| match ty {
        "f64" => "f64",
        "u64" | "s64" => "i64",
        _ => "i32",
    };
    let types: Vec<&str> = params.split(' ').collect();
    let named: String = ["a", "b", "c"]
        .iter()
        .zip(&types)
        .map(|(name, ty)| format!("(param \"{name}\" {ty})"))
        .collect();
    let lowered: String = types.iter().map(|ty| format!("(param {})", core(ty))).collect();
    component(&format!(
        "(component
            (core module $m (func (export \"add\") {lowered} (result {}) unreachable))
            (core instance $i (instantiate $m))
            (func $add {named} (result {result}) (canon lift (core func $i \"add\")))
            (instance $e (export \"add\" (func $add)))
            (export \"{interface}\" (instance $e)))",
        core(result)
    ))
}

/// A component that imports `interface` with `add: func(a: u32, b: u32) -> u32`, and exports a function
/// that calls it.
fn caller(interface: &str) -> Vec<u8> {
    component(&caller_text(interface))
}

fn caller_text(interface: &str) -> String {
    format!(
        "(component
            (import \"{interface}\" (instance $ops (export \"add\" (func (param \"a\" u32) (param \"b\" u32) (result u32)))))
            (core func $add (canon lower (func $ops \"add\")))
            (core module $m
                (import \"ops\" \"add\" (func $add (param i32 i32) (result i32)))
                (func (export \"twice\") (param i32) (result i32) local.get 0 local.get 0 call $add))
            (core instance $i (instantiate $m (with \"ops\" (instance (export \"add\" (func $add))))))
            (func $twice (param \"a\" u32) (result u32) (canon lift (core func $i \"twice\")))
            (instance $e (export \"twice\" (func $twice)))
            (export \"acme:app/api@1.0.0\" (instance $e)))"
    )
}

pub(crate) fn component(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

fn key(text: &str) -> WitName {
    text.parse().unwrap()
}

pub(crate) fn link(application: &[u8], dependencies: &[(&str, &[u8])]) -> Result<Vec<u8>, Vec<String>> {
    let keys: Vec<WitName> = dependencies.iter().map(|(name, _)| key(name)).collect();
    let keys: Vec<[&WitName; 1]> = keys.iter().map(|key| [key]).collect();
    let labels: Vec<String> = (1..=dependencies.len()).map(|n| format!("dep-{n}")).collect();
    let all: Vec<Dependency<'_>> = dependencies
        .iter()
        .zip(&keys)
        .zip(&labels)
        .map(|(((_, component), keys), label)| Dependency { label, keys, component })
        .collect();
    plug("app", application, &all).map_err(|ComposeError(all)| all.iter().map(ToString::to_string).collect())
}

/// What a component imports and exports.
fn externs(wasm: &[u8]) -> (Vec<String>, Vec<String>) {
    let part = Part::read("it", wasm).unwrap();
    let exports = part.exports.iter().map(|export| export.name.clone()).collect();
    (part.import_order, exports)
}

// [COMP-010]
#[test]
fn import_is_satisfied_and_exports_stay() {
    let ops = adder("acme:calc/ops@1.0.0", "u32 u32", "u32");
    let app = caller("acme:calc/ops@1.0.0");
    for name in ["acme:calc/ops", "acme:calc", "acme:calc/ops@1.0.0", "acme:calc@1.0.0"] {
        let linked = link(&app, &[(name, &ops)]).unwrap();
        assert_eq!(
            externs(&linked),
            (vec![], vec!["acme:app/api@1.0.0".to_string()]),
            "{name}"
        );
        assert_eq!(linked, link(&app, &[(name, &ops)]).unwrap());
    }
}

// [COMP-012]
#[test]
fn version_of_an_export_must_be_compatible() {
    let app = caller("acme:calc/ops@1.0.0");
    let newer = adder("acme:calc/ops@1.4.2", "u32 u32", "u32");
    link(&app, &[("acme:calc/ops", &newer)]).unwrap();
    let other = adder("acme:calc/ops@2.0.0", "u32 u32", "u32");
    assert_eq!(
        link(&app, &[("acme:calc/ops", &other)]).unwrap_err(),
        ["dep-1 does not export `acme:calc/ops@1.0.0` (it exports `acme:calc/ops@2.0.0`)"]
    );
}

// [COMP-012]
#[test]
fn export_of_the_same_version_comes_first_and_then_the_newest_that_is_compatible() {
    // The type of `b` shows which export was used.
    let ops = |exports: &[(&str, &str)]| {
        let each: String = exports
            .iter()
            .enumerate()
            .map(|(n, (version, ty))| {
                format!(
                    "(func $add{n} (param \"a\" u32) (param \"b\" {ty}) (result u32) (canon lift (core func $i \"add\")))
                     (instance $e{n} (export \"add\" (func $add{n})))
                     (export \"acme:calc/ops@{version}\" (instance $e{n}))"
                )
            })
            .collect();
        component(&format!(
            "(component
                (core module $m (func (export \"add\") (param i32 i32) (result i32) unreachable))
                (core instance $i (instantiate $m))
                {each})"
        ))
    };
    let linked = |import: &str, exports: &[(&str, &str)]| {
        let app = caller(&format!("acme:calc/ops@{import}"));
        link(&app, &[("acme:calc/ops", &ops(exports))])
    };
    for (import, exports) in [
        ("1.0.0", &[("1.4.0", "s32"), ("1.0.0", "u32")][..]),
        ("1.0.0", &[("1.10.0", "u32"), ("1.9.0", "s32"), ("2.0.0", "s32")]),
        ("0.2.0", &[("0.2.6", "u32"), ("0.3.0", "s32")]),
        ("1.0.0-rc.1", &[("1.0.0-rc.1", "u32"), ("1.0.0", "s32")]),
        ("0.0.1", &[("0.0.1", "u32"), ("0.0.2", "s32")]),
    ] {
        linked(import, exports).unwrap_or_else(|why| panic!("{import} {exports:?}: {why:?}"));
    }
    for (import, exports, taken) in [
        ("1.0.0", &[("1.9.0", "u32"), ("1.10.0", "s32")][..], "1.10.0"),
        ("1.0.0", &[("1.0.0", "s32"), ("1.4.0", "u32")], "1.0.0"),
    ] {
        let why = &linked(import, exports).unwrap_err()[0];
        assert!(
            why.contains(&format!("dep-1 exports `acme:calc/ops@{taken}` with other types")),
            "{why}"
        );
    }
    for (import, export) in [
        ("0.2.0", "0.3.0"),
        ("0.0.1", "0.0.2"),
        ("1.0.0", "2.0.0"),
        ("1.0.0", "1.0.1-rc.1"),
        ("1.0.0-rc.1", "1.0.0"),
    ] {
        let why = &linked(import, &[(export, "u32")]).unwrap_err()[0];
        assert!(why.contains("dep-1 does not export"), "{import} {export}: {why}");
    }
}

// [COMP-013]
#[test]
fn types_that_almost_match_are_reported_with_both() {
    let app = caller("acme:calc/ops@1.0.0");
    for (params, result, expected) in [
        (
            "u32 s32",
            "u32",
            "function `add`, parameter `b`: expected `u32`, found `s32`",
        ),
        ("u32 u32", "u64", "function `add`, result: expected `u32`, found `u64`"),
        (
            "u32",
            "u32",
            "function `add`: expected `func(a: u32, b: u32) -> u32`, found `func(a: u32) -> u32`",
        ),
        (
            "u32 u32 u32",
            "u32",
            "function `add`: expected `func(a: u32, b: u32) -> u32`, found `func(a: u32, b: u32, c: u32) -> u32`",
        ),
    ] {
        let ops = adder("acme:calc/ops@1.0.0", params, result);
        let problems = link(&app, &[("acme:calc/ops", &ops)]).unwrap_err();
        assert_eq!(
            problems,
            [format!(
                "app imports `acme:calc/ops@1.0.0`, and dep-1 exports `acme:calc/ops@1.0.0` with other types: {expected}"
            )]
        );
    }
}

// [COMP-011]
#[test]
fn unused_dependency_ambiguous_key_and_duplicate_key_are_reported() {
    let ops = adder("acme:calc/ops@1.0.0", "u32 u32", "u32");
    let app = caller("acme:calc/ops@1.0.0");
    assert_eq!(
        link(&app, &[("acme:calc/sums", &ops)]).unwrap_err(),
        ["`acme:calc/sums` is unused: app imports no such interface (it imports `acme:calc/ops@1.0.0`)"]
    );
    assert_eq!(
        link(&app, &[("acme:calc/ops", &ops), ("acme:calc", &ops)]).unwrap_err(),
        [
            "app imports `acme:calc/ops@1.0.0` once, and it is a dependency under two keys: `acme:calc/ops` and `acme:calc`"
        ]
    );
    let two = component(
        "(component
            (import \"acme:calc/ops@1.0.0\" (instance (export \"add\" (func (param \"a\" u32) (param \"b\" u32) (result u32)))))
            (import \"acme:calc/ops@2.0.0\" (instance (export \"add\" (func (param \"a\" u32) (param \"b\" u32) (result u32))))))",
    );
    let second = adder("acme:calc/ops@2.0.0", "u32 u32", "u32");
    assert_eq!(
        link(&two, &[("acme:calc/ops", &ops)]).unwrap_err(),
        [
            "`acme:calc/ops` fits several imports of app: name a version (they are `acme:calc/ops@1.0.0`, `acme:calc/ops@2.0.0`)"
        ]
    );
    let both = link(&two, &[("acme:calc/ops@1.0.0", &ops), ("acme:calc/ops@2.0.0", &second)]).unwrap();
    assert_eq!(externs(&both), (vec![], vec![]));
}

/// An interface of a host, with a resource that one function makes, and one of two more functions.
fn host(version: &str, function: &str) -> String {
    format!(
        "(import \"host:io/streams@{version}\" (instance $streams
            (export \"stream\" (type $s (sub resource)))
            (export \"open\" (func (result (own $s))))
            (export \"{function}\" (func (param \"s\" (borrow $s))))))"
    )
}

// [COMP-014]
#[test]
fn resource_of_the_host_is_one_in_all_parts() {
    // The dependency takes a stream of the host's, and sees another function and another version of
    // its interface than the application does.
    let dependency = component(&format!(
        "(component {}
            (alias export $streams \"stream\" (type $stream))
            (core module $m (func (export \"take\") (param i32)))
            (core instance $i (instantiate $m))
            (func $take (param \"s\" (own $stream)) (canon lift (core func $i \"take\")))
            (component $shim
                (import \"stream\" (type $s (sub resource)))
                (import \"take\" (func $take (param \"s\" (own $s))))
                (export \"stream\" (type $s))
                (export \"take\" (func $take)))
            (instance $e (instantiate $shim (with \"stream\" (type $stream)) (with \"take\" (func $take))))
            (export \"acme:sink/sink@1.0.0\" (instance $e)))",
        host("0.2.6", "read")
    ));
    let application = component(&format!(
        "(component {}
            (alias export $streams \"stream\" (type $stream))
            (import \"acme:sink/sink@1.0.0\" (instance
                (alias outer 1 $stream (type $outer))
                (export \"stream\" (type $s (eq $outer)))
                (export \"take\" (func (param \"s\" (own $s)))))))",
        host("0.2.0", "write")
    ));
    let linked = link(&application, &[("acme:sink/sink", &dependency)]).unwrap();
    assert_eq!(externs(&linked).0, ["host:io/streams@0.2.6"]);
    let part = Part::read("it", &linked).unwrap();
    let streams = &part.resolve.interfaces[part.imports["host:io/streams@0.2.6"].id];
    let functions: Vec<&String> = streams.functions.keys().collect();
    assert_eq!(functions, ["open", "write", "read"]);
}

// [COMP-014]
#[test]
fn parts_that_see_one_import_with_different_types_are_refused() {
    let import = |ty: &str| format!("(import \"host:x/y@1.0.0\" (instance (export \"f\" (func (param \"a\" {ty})))))");
    let dependency = component(&format!(
        "(component {} (instance $e) (export \"acme:calc/ops@1.0.0\" (instance $e)))",
        import("u32")
    ));
    let application = component(&format!(
        "(component {} (import \"acme:calc/ops@1.0.0\" (instance)))",
        import("s32")
    ));
    assert_eq!(
        link(&application, &[("acme:calc/ops", &dependency)]).unwrap_err(),
        [
            "app and dep-1 import `host:x/y@1.0.0` with different types: function `f`, parameter `a`: expected `s32`, found `u32`"
        ]
    );
}

// [COMP-015]
#[test]
fn parts_that_need_each_other_are_refused() {
    let mut composition = Composition::default();
    let both = |import: &str, export: &str| {
        component(&format!(
            "(component (import \"{import}\" (instance)) (instance $e) (export \"{export}\" (instance $e)))"
        ))
    };
    let a = composition.add("a", &both("x:y/b", "x:y/a")).unwrap();
    let b = composition.add("b", &both("x:y/a", "x:y/b")).unwrap();
    composition.connect(a, "x:y/b", b, "x:y/b").unwrap();
    composition.connect(b, "x:y/a", a, "x:y/a").unwrap();
    let error = composition.encode().unwrap_err();
    assert_eq!(error.to_string(), "a, b depend on one another");
}

#[test]
fn exports_of_several_parts_are_renamed() {
    let mut composition = Composition::default();
    let ops = adder("acme:calc/ops@1.0.0", "u32 u32", "u32");
    let a = composition.add("a", &ops).unwrap();
    let b = composition.add("b", &ops).unwrap();
    composition.export_all(a).unwrap();
    let twice = composition.export_all(b).unwrap_err();
    assert_eq!(twice.to_string(), "`acme:calc/ops@1.0.0` is exported twice, by a and b");
    composition.export(b, "acme:calc/ops@1.0.0", "second").unwrap();
    let bytes = composition.encode().unwrap();
    assert_eq!(externs(&bytes).1, ["acme:calc/ops@1.0.0", "second"]);
}

// [COMP-016]
#[test]
fn components_that_cost_too_much_or_are_none_are_refused() {
    let app = caller("acme:calc/ops@1.0.0");
    let many: String = (0..2_001)
        .map(|n| format!("(import \"acme:calc/i{n}@1.0.0\" (instance))"))
        .collect();
    for (wasm, why) in [
        (
            component(&format!("(component {many})")),
            "it has more than 2000 imports and exports",
        ),
        (b"\0asm\x01\0\0\0".to_vec(), "it is a core module, not a component"),
        (b"no wasm".to_vec(), "it is not valid: "),
        (
            component("(component (import \"f\" (func)))"),
            "it imports `f`, which is no interface: only interfaces can be linked",
        ),
        (
            component("(component (import \"f\" (instance)))"),
            "`f` is no interface with a name",
        ),
    ] {
        let problems = link(&app, &[("acme:calc/ops", &wasm)]).unwrap_err();
        assert!(problems[0].starts_with(&format!("dep-1: {why}")), "{problems:?}");
    }
}

// [COMP-016]
#[test]
fn types_of_a_hostile_component_are_bounded() {
    let app = component("(component (import \"acme:calc/ops@1.0.0\" (instance)))");
    let of = |types: &str| {
        component(&format!(
            "(component (import \"host:a/b@1.0.0\" (instance {types}))
                (instance $e) (export \"acme:calc/ops@1.0.0\" (instance $e)))"
        ))
    };
    // Each type contains the previous one, as `fields` says.
    let chain = |length: usize, fields: &[&str]| {
        let first = "(type $d0 (record (field \"a\" u8)))(export \"t0\" (type $e0 (eq $d0)))".to_string();
        (1..length).fold(first, |types, n| {
            let fields: String = fields.iter().map(|f| format!("(field \"{f}\" $e{})", n - 1)).collect();
            format!("{types}(type $d{n} (record {fields}))(export \"t{n}\" (type $e{n} (eq $d{n})))")
        })
    };
    link(&app, &[("acme:calc/ops", &of(&chain(98, &["a"])))]).unwrap();
    for (types, why) in [
        (chain(200, &["a"]), "it is not valid: type nesting is too deep"),
        (chain(40, &["a", "b"]), "it is not valid: effective type size"),
        (
            (0..50)
                .map(|n| format!("(export \"{}{n}\" (func))", "a".repeat(99_000)))
                .collect(),
            "its imports and exports have more than 4194304 bytes of types",
        ),
    ] {
        let problems = link(&app, &[("acme:calc/ops", &of(&types))]).unwrap_err();
        assert!(problems[0].starts_with(&format!("dep-1: {why}")), "{problems:?}");
    }
}

// [COMP-016]
#[test]
fn odd_components_are_linked_or_refused_without_a_panic() {
    let app = component("(component (import \"acme:calc/ops@1.0.0\" (instance)))");
    let ops = "(instance $ops) (export \"acme:calc/ops@1.0.0\" (instance $ops))";
    let f = |ty: &str| format!("(instance (export \"f\" (func (param \"a\" {ty}))))");
    let resource = "(instance (export \"r\" (type (sub resource))))";
    for odd in [
        // The name that wit-parser gives to a component's own package.
        format!("(import \"root:component/root\" {})", f("u8")),
        format!("(import \"root:component/other@1.0.0\" {})", f("u8")),
        format!("(import \"root:root/root\" {})", f("u8")),
        // One interface imported and exported, with one type and with two.
        format!("(import \"a:b/c@1.0.0\" {}) (instance $e) (export \"a:b/c@1.0.0\" (instance $e))", f("u8")),
        "(import \"a:b/c@1.0.0\" (instance $i (export \"f\" (func)))) (instance $e (export \"g\" (func $i \"f\")))
             (export \"a:b/c@1.0.0\" (instance $e))"
            .to_string(),
        // Versions of one interface that are compatible, and that are not.
        format!("(import \"a:b/c@1.0.0\" {}) (import \"a:b/c@1.2.0\" {})", f("u8"), f("u16")),
        format!("(import \"a:b/c@1.0.0\" {}) (import \"a:b/c@2.0.0\" {})", f("u8"), f("u16")),
        format!("(import \"a:b/c@1.0.0-rc.1\" {0}) (import \"a:b/c@1.0.0-rc.2\" {0})", f("u8")),
        format!("(import \"a:b/c@1.0.0+x\" {0}) (import \"a:b/c@1.0.0+y\" {0})", f("u8")),
        format!("(import \"a:b/c\" {0}) (import \"a:b/c@1.0.0\" {0})", f("u8")),
        format!("(import \"a:b/c@0.2.0\" {resource}) (import \"a:b/c@0.2.1\" {resource})"),
        // Instances in instances, components and modules in instances, type bounds of a resource elsewhere.
        "(import \"a:b/c\" (instance (export \"i\" (instance (export \"f\" (func))))))".to_string(),
        "(import \"a:b/c\" (instance (export \"i\" (component))))".to_string(),
        "(import \"a:b/c\" (instance (export \"m\" (core module))))".to_string(),
        "(import \"a:b/c\" (instance $c (export \"r\" (type (sub resource))))) (alias export $c \"r\" (type $r))
         (import \"a:b/d\" (instance (alias outer 1 $r (type $o)) (export \"q\" (type (eq $o))) (export \"f\" (func (param \"a\" (own $o))))))"
            .to_string(),
        "(import \"a:b/c\" (instance $c (export \"r\" (type (sub resource))))) (alias export $c \"r\" (type $r))
         (import \"a:b/d\" (instance (alias outer 1 $r (type $o)) (export \"f\" (func (param \"a\" (borrow $o))))))"
            .to_string(),
        "(import \"a:b/c\" (instance (export \"r\" (type $r (sub resource))) (export \"[constructor]r\" (func (result (own $r))))
            (export \"[method]r.m\" (func (param \"self\" (borrow $r)))) (export \"[static]r.s\" (func))))"
            .to_string(),
        "(import \"a:b/c\" (instance (type $t (record (field \"a\" u8))) (export \"t\" (type $e (eq $t))) (export \"u\" (type (eq $e)))))"
            .to_string(),
        // Types that are exported, and nothing else of the kind.
        "(type $t (record (field \"a\" u8))) (export \"t\" (type $t))".to_string(),
        "(component $c) (export \"c\" (component $c))".to_string(),
        "(core module $m) (export \"m\" (core module $m))".to_string(),
        "(instance $e) (export \"plain\" (instance $e))".to_string(),
    ] {
        let Ok(wasm) = wat::parse_str(format!("(component {odd} {ops})")) else {
            panic!("{odd}")
        };
        // As in a build, where invalid components never get here.
        if wasmparser::Validator::new_with_features(wasmparser::WasmFeatures::all())
            .validate_all(&wasm)
            .is_err()
        {
            continue;
        }
        match link(&app, &[("acme:calc/ops", &wasm)]) {
            Ok(linked) => assert!(!linked.is_empty()),
            Err(problems) => assert!(!problems.is_empty()),
        }
        let mut alone = Composition::default();
        if let Ok(part) = alone.add("it", &wasm) {
            let again = alone.add("again", &wasm).unwrap();
            let _ = (alone.export_all(part), alone.export_all(again), alone.encode());
        }
    }
}

// [COMP-013]
#[test]
fn application_may_export_more_of_an_interface_than_it_imports() {
    let ops = adder("acme:calc/ops@1.0.0", "u32 u32", "u32");
    let wrapper = component(
        "(component
            (import \"acme:calc/ops@1.0.0\" (instance $ops (export \"add\" (func (param \"a\" u32) (param \"b\" u32) (result u32)))))
            (instance $e (export \"add\" (func $ops \"add\")) (export \"more\" (func $ops \"add\")))
            (export \"acme:calc/ops@1.0.0\" (instance $e)))",
    );
    let linked = link(&wrapper, &[("acme:calc/ops", &ops)]).unwrap();
    assert_eq!(externs(&linked), (vec![], vec!["acme:calc/ops@1.0.0".to_string()]));
}

// [COMP-014]
#[test]
fn import_that_stays_does_not_grow_by_what_its_part_exports() {
    let app = component(
        "(component
            (import \"host:a/b@1.0.0\" (instance $b (export \"f\" (func))))
            (import \"acme:calc/ops@1.0.0\" (instance))
            (instance $e (export \"f\" (func $b \"f\")) (export \"g\" (func $b \"f\")))
            (export \"host:a/b@1.0.0\" (instance $e)))",
    );
    let ops = adder("acme:calc/ops@1.0.0", "u32 u32", "u32");
    let linked = link(&app, &[("acme:calc/ops", &ops)]).unwrap();
    let part = Part::read("it", &linked).unwrap();
    let import = &part.imports["host:a/b@1.0.0"];
    assert!(import.has("f") && !import.has("g"));
}
