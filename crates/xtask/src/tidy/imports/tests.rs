//! The rule on small crates.

use super::super::messages;
use super::*;

fn found<const N: usize>(files: [(&str, &str); N]) -> Vec<String> {
    let files = files.map(|(path, text)| (format!("crates/c/src/{path}"), text));
    let files: [(&str, &str); N] = std::array::from_fn(|i| (files[i].0.as_str(), files[i].1));
    messages(&check_but(&Tree::from(files), &[]))
}

const ROOT: (&str, &str) = ("lib.rs", "mod a;\nmod b;\nmod c;\n");

#[test]
fn cycle_of_siblings_is_reported_with_the_names_that_close_it() {
    let a = ("a.rs", "use crate::b::Bee;\npub struct Ant(Bee);\n");
    let b = ("b.rs", "pub struct Bee;\nfn f() -> super::a::Ant { todo() }\n");
    let told = found([ROOT, a, b, ("c.rs", "use crate::a::Ant;\n")]);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("error: crates/c/src/a.rs: circle of imports: a.rs → b.rs → a.rs (through Bee, Ant):"),
        "{told:?}"
    );
}

#[test]
fn component_is_reported_once_by_its_shortest_cycle() {
    let a = ("a.rs", "use crate::b::f;\n");
    let b = ("b.rs", "use crate::c::g;\nuse crate::a::x;\npub fn f() {}\n");
    let c = ("c.rs", "use crate::a::h;\npub fn g() {}\n");
    let told = found([ROOT, a, b, c]);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("a.rs → b.rs → a.rs (through f, x), one of several among 3 files:"),
        "{told:?}"
    );
}

#[test]
fn imports_that_go_one_way_pass() {
    let a = ("a.rs", "use crate::b::Bee;\nuse crate::c::Cee;\n");
    let b = ("b.rs", "use crate::c::Cee;\npub struct Bee;\n");
    assert!(found([ROOT, a, b, ("c.rs", "pub struct Cee;\n")]).is_empty());
}

#[test]
fn name_is_followed_to_the_file_that_defines_it() {
    let root = (
        "lib.rs",
        "mod a;\nmod b;\nmod c;\npub use a::*;\npub use b::Bee as Bumble;\n",
    );
    let a = ("a.rs", "use crate::Bumble;\npub struct Ant;\n");
    let b = ("b.rs", "pub struct Bee(crate::Ant);\n");
    let told = found([root, a, b, ("c.rs", "")]);
    assert!(told[0].contains("a.rs → b.rs → a.rs (through Bee, Ant)"), "{told:?}");
}

#[test]
fn passing_a_name_on_is_no_import() {
    let a = ("a.rs", "pub use crate::b::Bee;\npub struct Ant;\n");
    let b = ("b.rs", "pub struct Bee(crate::a::Ant);\n");
    assert!(found([ROOT, a, b]).is_empty());
}

#[test]
fn module_uses_what_it_stands_in() {
    let root = (
        "lib.rs",
        "mod a;\npub struct Shared;\nfn f() { a::inner::g(); a::h(); }\n",
    );
    let a = (
        "a.rs",
        "pub mod inner;\nuse super::Shared;\npub fn h() { inner::g() }\n",
    );
    let inner = ("a/inner.rs", "use crate::Shared;\nuse super::h;\npub fn g() {}\n");
    assert!(found([root, a, inner]).is_empty());
}

#[test]
fn siblings_under_one_parent_are_reported() {
    let root = ("lib.rs", "mod a;\n");
    let a = ("a/mod.rs", "mod x;\nmod y;\n");
    let x = ("a/x.rs", "pub fn f() { super::y::g() }\n");
    let y = ("a/y.rs", "use super::x;\npub fn g() { x::f() }\n");
    let told = found([root, a, x, y]);
    assert!(told[0].contains("a/x.rs → a/y.rs → a/x.rs (through g, f)"), "{told:?}");
}

#[test]
fn tests_are_left_out() {
    let a = ("a.rs", "use crate::b::Bee;\npub fn f() {}\n#[cfg(test)]\nmod tests;\n");
    let tests = ("a/tests.rs", "use crate::b::Bee;\n");
    let b = (
        "b.rs",
        "pub struct Bee;\n#[cfg(test)]\nmod tests { use crate::a::f; }\n#[cfg(all(test, unix))]\nuse crate::a::f;\n",
    );
    assert!(found([ROOT, a, tests, b]).is_empty());
}

#[test]
fn paths_in_macros_and_attributes_count() {
    for code in [
        "fn f() { x!(1, crate::a::Ant) }",
        "#[arg(value_parser = crate::a::Ant)]\nstruct S;",
    ] {
        let a = ("a.rs", "use crate::b::Bee;\npub struct Ant;\n");
        let b = format!("pub struct Bee;\n{code}\n");
        assert_eq!(found([ROOT, a, ("b.rs", b.as_str())]).len(), 1, "{code}");
    }
}

#[test]
fn module_in_braces_belongs_to_its_file() {
    let a = ("a.rs", "mod inner { use crate::b::Bee; }\npub struct Ant;\n");
    let b = ("b.rs", "pub struct Bee;\nfn f() -> crate::a::Ant {}\n");
    assert_eq!(found([ROOT, a, b]).len(), 1);
}

#[test]
fn allowed_cycle_passes_and_is_reported_once_it_is_gone() {
    let (a, b) = ("crates/c/src/a.rs", "crates/c/src/b.rs");
    let allowed = [(a, b, "a parser's two halves")];
    let check = |b_text| {
        let root = ("crates/c/src/lib.rs", "mod a;\nmod b;\n");
        let files = [root, (a, "use crate::b::Bee;\npub struct Ant;\n"), (b, b_text)];
        messages(&check_but(&Tree::from(files), &allowed))
    };
    assert!(check("use crate::a::Ant;\npub struct Bee;\n").is_empty());
    let told = check("pub struct Bee;\n");
    assert!(told.len() == 1 && told[0].contains("closes no circle"), "{told:?}");
}

#[test]
fn source_that_does_not_parse_is_reported() {
    let told = found([("lib.rs", "fn {")]);
    assert!(told[0].contains("reading the source"), "{told:?}");
}
