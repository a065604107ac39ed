//! Valid components whose WIT can or can't be printed.

use super::*;

fn wit_of(text: &str) -> Result<String, String> {
    wit(&wat::parse_str(format!("(component {text})")).unwrap())
}

/// An import of `a:b/c`, and an export of an instance of a nested component with these contents.
fn both(import: &str, export: &str) -> Result<String, String> {
    wit_of(&format!(
        "(import \"a:b/c\" (instance {import}))
         (component $shim {export})
         (instance $e (instantiate $shim))
         (export \"a:b/c\" (instance $e))"
    ))
}

fn refused(text: &str, why: &str) {
    let error = wit_of(text).unwrap_err();
    assert!(
        error.starts_with("its WIT can't be read: ") && error.contains(why),
        "{error}"
    );
}

const RECORD: &str = "(type $t (record (field \"a\" u8)))";

// [COMP-016]
#[test]
fn interface_that_is_passed_on_with_a_type_is_refused() {
    refused(
        &format!(
            "(import \"a:b/c@1.0.0\" (instance $i {RECORD} (export \"t\" (type (eq $t)))))
             (export \"a:b/c@1.0.0\" (instance $i))"
        ),
        "`t` of `a:b/c@1.0.0` is passed on from where it was imported, which WIT can't say",
    );
    refused(
        "(import \"a:b/c@1.0.0\" (instance $i (export \"r\" (type (sub resource)))))
         (export \"a:b/c@1.0.0\" (instance $i))",
        "`r` of `a:b/c@1.0.0` is passed on",
    );
}

// [COMP-016]
#[test]
fn method_of_a_resource_that_the_import_of_its_interface_uses_is_refused() {
    refused(
        "(import \"a:b/d\" (instance $d (export \"q\" (type (sub resource)))))
         (alias export $d \"q\" (type $q))
         (import \"a:b/c\" (instance (alias outer 1 $q (type $o)) (export \"r\" (type (eq $o)))))
         (core module $m (func (export \"m\") (param i32)))
         (core instance $i (instantiate $m))
         (type $r' (resource (rep i32)))
         (func $f (param \"self\" (borrow $r')) (canon lift (core func $i \"m\")))
         (component $shim
           (import \"r\" (type $s (sub resource)))
           (import \"f\" (func $f (param \"self\" (borrow $s))))
           (export $r2 \"r\" (type $s))
           (export \"[method]r.m\" (func $f) (func (param \"self\" (borrow $r2)))))
         (instance $e (instantiate $shim (with \"r\" (type $r')) (with \"f\" (func $f))))
         (export \"a:b/c\" (instance $e))",
        "`[method]r.m` of `a:b/c` is of a resource that is defined elsewhere",
    );
}

// [COMP-016]
#[test]
fn type_that_differs_between_import_and_export_is_refused() {
    let record = format!("{RECORD} (export \"r\" (type (eq $t)))");
    let of_record = "(type $t (record (field \"a\" u8))) (export \"t\" (type $e (eq $t)))
                     (type $l (list $e)) (export \"r\" (type (eq $l)))";
    for (import, export) in [
        (of_record, "(type $w (list u8)) (export \"r\" (type $w))"),
        (
            &record,
            "(type $t (variant (case \"a\" (list u8)))) (export \"r\" (type $t))",
        ),
        (&record, "(type $t (record (field \"a\" u16))) (export \"r\" (type $t))"),
        (
            "(type $t (list u8)) (export \"r\" (type (eq $t)))",
            "(type $u (record (field \"x\" u8))) (export $v \"q\" (type $u)) (type $t (list $v)) (export \"r\" (type $t))",
        ),
    ] {
        let why = both(import, export).unwrap_err();
        assert!(why.contains("`r` of `a:b/c` is another one where it imports"), "{why}");
    }
}

// [COMP-016]
#[test]
fn interface_that_is_imported_and_exported_with_the_same_types_is_printed() {
    let import = "(type $t (record (field \"a\" (list u8)))) (export \"t\" (type $e (eq $t)))
                  (export \"f\" (func (param \"x\" $e)))";
    let import = import.replace("(list u8)", "string");
    let export = "(type $t (record (field \"a\" string))) (export \"t\" (type $t))";
    let text = both(&import, export).unwrap();
    assert!(
        text.contains("import a:b/c;") && text.contains("export a:b/c;"),
        "{text}"
    );
    // What stands between an interface and its caller uses types of a third.
    let text = wit_of(
        "(import \"a:b/types\" (instance $types (export \"r\" (type (sub resource)))))
         (alias export $types \"r\" (type $r))
         (import \"a:b/handler\" (instance (alias outer 1 $r (type $o)) (export \"r\" (type $e (eq $o)))
            (export \"handle\" (func (param \"r\" (own $e))))))
         (component $shim (import \"r\" (type $s (sub resource))) (export \"r\" (type $s)))
         (instance $e (instantiate $shim (with \"r\" (type $r))))
         (export \"a:b/handler\" (instance $e))",
    );
    let text = text.unwrap();
    assert!(
        text.contains("use types.{r};") && text.contains("export a:b/handler;"),
        "{text}"
    );
}

// [COMP-016]
#[test]
fn packages_that_use_types_of_one_another_are_refused() {
    refused(
        "(import \"a:b/d\" (instance $d (export \"r\" (type (sub resource)))))
         (alias export $d \"r\" (type $r))
         (import \"x:y/z\" (instance $z (alias outer 1 $r (type $o)) (export \"r\" (type (eq $o)))))
         (alias export $z \"r\" (type $s))
         (import \"a:b/c\" (instance (alias outer 1 $s (type $o)) (export \"r\" (type (eq $o)))))",
        "packages use types of one another: a:b, x:y",
    );
}

// [COMP-016]
#[test]
fn package_of_the_components_own_world_is_used_by_no_other() {
    refused(
        "(import \"root:component/a\" (instance $a (export \"r\" (type (sub resource)))))
         (alias export $a \"r\" (type $r))
         (import \"x:y/z\" (instance (alias outer 1 $r (type $o)) (export \"r\" (type (eq $o)))))",
        "packages use types of one another: root:component, x:y",
    );
}

// [COMP-016]
#[test]
fn type_of_what_has_no_name_in_wit_is_refused() {
    refused(
        "(import \"plain\" (instance $i (export \"r\" (type (sub resource)))))
         (alias export $i \"r\" (type $r))
         (import \"a:b/c\" (instance (alias outer 1 $r (type $o)) (export \"q\" (type (eq $o)))))",
        "`q` of `a:b/c` is of no interface with a name",
    );
    refused(
        "(import \"r\" (type $r (sub resource)))
         (import \"a:b/c\" (instance (alias outer 1 $r (type $o)) (export \"q\" (type (eq $o)))))",
        "`q` of `a:b/c` is of no interface with a name",
    );
    refused(
        "(type $f (func)) (import \"f\" (type (eq $f)))",
        "`f` is the type of no value",
    );
    refused(
        "(import \"a:b/c\" (instance (type $f (func)) (export \"f\" (type (eq $f)))))",
        "`f` of `a:b/c` is the type of no value",
    );
    refused(
        "(type $c (component (export \"f\" (func)))) (export \"c\" (type $c))",
        "it exports `c`, which is no function or interface",
    );
}

#[test]
fn wit_of_a_component_with_every_kind_of_type_is_printed() {
    let text = wit_of(
        "(import \"a:b/c@1.2.3\" (instance
            (export \"r\" (type $r (sub resource)))
            (type $v (variant (case \"n\") (case \"s\" string))) (export \"v\" (type $v' (eq $v)))
            (type $e (enum \"x\" \"y\")) (export \"e\" (type (eq $e)))
            (type $f (flags \"x\" \"y\")) (export \"f\" (type (eq $f)))
            (export \"[constructor]r\" (func (result (own $r))))
            (export \"[method]r.m\" (func (param \"self\" (borrow $r)) (param \"v\" (option (tuple $v' u8)))))
            (export \"[static]r.s\" (func (result (result $v' (error (list string))))))))
         (import \"plain\" (instance (export \"f\" (func))))
         (import \"g\" (func (param \"a\" (list u8))))
         (core module $m (func (export \"f\")))
         (core instance $i (instantiate $m))
         (func $f (canon lift (core func $i \"f\")))
         (export \"run\" (func $f))",
    );
    let text = text.unwrap();
    for line in [
        "resource r {",
        "m: func(v: option<tuple<v, u8>>);",
        "import a:b/c@1.2.3;",
        "export run: func();",
    ] {
        assert!(text.contains(line), "{line} {text}");
    }
}
