//! What core modules say of the types of their functions.
//!
//! Bindings leave it in custom sections whose names begin with `component-type`, for
//! whoever makes a component of the module. Each holds a component that exports the type of
//! a world (`metadata` of wit-component), and wit-component trusts it as it trusts a whole
//! component. So it is walked first in the same way.

use qyvol_types::limits::TYPE_NESTING;
use qyvol_types::{escape, may_nest_too_deep};
use wasmparser::component_types::{ComponentAnyTypeId, ComponentEntityType, ComponentType, ComponentTypeId};
use wasmparser::names::{ComponentName, ComponentNameKind};
use wasmparser::types::TypesRef;
use wasmparser::{ComponentExport, ComponentExternalKind, Parser, Payload, Validator, WasmFeatures};

use super::{Uses, Walk, check_packages, package_of};

/// Most sections of a module. Each library with bindings of its own leaves one.
const MAX_SECTIONS: usize = 64;
/// Most bytes of them together.
const MAX_BYTES: usize = 1 << 20;

/// The package in which wit-component puts worlds together.
const TOGETHER: &str = "root:root";

/// Refuses a valid core module that can't be made a component because of what its sections
/// say of types. An error is a clause about "it".
pub fn check_embedded(module: &[u8]) -> Result<(), String> {
    let mut uses = Uses::new();
    let (mut count, mut bytes) = (0usize, 0usize);
    for section in Parser::new(0).parse_all(module) {
        let Payload::CustomSection(section) = section.map_err(|e| escape(e.message()).to_string())? else {
            continue;
        };
        let name = section.name();
        if !name.starts_with("component-type") {
            continue;
        }
        count += 1;
        bytes += section.data().len();
        if count > MAX_SECTIONS || bytes > MAX_BYTES {
            return Err(format!(
                "it has more than {MAX_SECTIONS} sections, or {MAX_BYTES} bytes, that say which types its functions have"
            ));
        }
        let found = check_world(section.data())
            .map_err(|why| format!("the types in its section `{}` can't be read: {why}", escape(name)))?;
        for (package, used) in found {
            uses.entry(package).or_default().extend(used);
        }
    }
    // Those of several libraries are put together, in a world of this package.
    let others = uses.keys().filter(|other| *other != TOGETHER).cloned().collect();
    uses.insert(TOGETHER.to_string(), others);
    check_packages(uses)
}

/// Walks the world of one section; returns the packages whose types each package uses.
fn check_world(data: &[u8]) -> Result<Uses, String> {
    // Its first byte is the version of the form that came before.
    if data.first() == Some(&3) {
        return Err("they are written in an old form".to_string());
    }
    for section in Parser::new(0).parse_all(data).map_while(Result::ok) {
        match section {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                return Err("there is more in it than types".to_string());
            }
            Payload::ComponentTypeSection(types) if may_nest_too_deep(&data[types.range()]) => {
                return Err(format!("more than {TYPE_NESTING} of them are declared inside others"));
            }
            _ => {}
        }
    }
    let types = Validator::new_with_features(WasmFeatures::all())
        .validate_all(data)
        .map_err(|e| escape(e.message()).to_string())?;
    let types = types.as_ref();
    let none = || "it exports no world, or more than one".to_string();
    let world = world(data, types).ok_or_else(none)?;
    let outer = &types[world];
    let [(name, item)] = outer.exports.iter().collect::<Vec<_>>()[..] else {
        return Err(none());
    };
    let ComponentEntityType::Component(world) = item.ty else {
        return Err(none());
    };
    if !outer.imports.is_empty() {
        return Err(none());
    }
    walk((name, item.version_suffix.as_deref()), &types[world], types)
}

/// The type that a component exports, if that is all that it exports.
fn world(data: &[u8], types: TypesRef<'_>) -> Option<ComponentTypeId> {
    let mut exports: Vec<ComponentExport<'_>> = Vec::new();
    for section in Parser::new(0).parse_all(data) {
        if let Payload::ComponentExportSection(reader) = section.ok()? {
            for export in reader {
                exports.push(export.ok()?);
            }
        }
    }
    let [export] = exports.as_slice() else { return None };
    if export.kind != ComponentExternalKind::Type || export.ty.is_some() {
        return None;
    }
    match types.component_any_type_at(export.index) {
        ComponentAnyTypeId::Component(id) => Some(id),
        _ => None,
    }
}

fn walk((name, suffix): (&str, Option<&str>), world: &ComponentType, types: TypesRef<'_>) -> Result<Uses, String> {
    let mut walk = Walk::strict(types);
    for (name, item) in &world.imports {
        walk.import(name, item)?;
    }
    for (name, item) in &world.exports {
        walk.export(name, item)?;
    }
    let parsed = ComponentName::new(name, 0).map_err(|e| escape(e.message()).to_string())?;
    match parsed.kind() {
        // The package of the world has a name once.
        ComponentNameKind::Interface(_) if walk.named.contains_key(name) => {
            Err(format!("`{}` is a world and an interface", escape(name)))
        }
        ComponentNameKind::Interface(name) => Ok(walk.uses_of_world(&package_of(&name, suffix)?)),
        _ => Err(format!("`{}` is no name of a world", escape(name))),
    }
}

#[cfg(test)]
mod tests {
    use wasm_encoder::{CustomSection, Module};
    use wit_component::{StringEncoding, metadata};
    use wit_parser::Resolve;

    use super::*;

    /// A module with these sections.
    fn module(sections: &[&[u8]]) -> Vec<u8> {
        let mut module = Module::new();
        for data in sections {
            module.section(&CustomSection {
                name: "component-type:it".into(),
                data: (*data).into(),
            });
        }
        module.finish()
    }

    fn world(text: &str) -> Vec<u8> {
        let mut resolve = Resolve::default();
        let package = resolve.push_source("it.wit", text).unwrap();
        let world = resolve.select_world(&[package], None).unwrap();
        metadata::encode(&resolve, world, StringEncoding::UTF8, None).unwrap()
    }

    /// A section of an encoded world with these declarations.
    fn written(name: &str, declarations: &str) -> Vec<u8> {
        let text = format!(
            "(component
                (type $w (component (type $world (component {declarations}))
                    (export \"{name}\" (component (type $world)))))
                (export \"w\" (type $w)))"
        );
        wat::parse_str(text).unwrap()
    }

    #[track_caller]
    fn refused(section: &[u8], why: &str) {
        let said = check_embedded(&module(&[section])).unwrap_err();
        assert!(said.contains(why), "{said}");
    }

    // [MAN-070]
    #[test]
    fn world_that_bindings_leave_is_accepted() {
        let one = world(
            "package a:b@1.0.0;
             interface types { resource r { constructor(); m: func() -> list<string>; } record p { x: option<u8> } }
             interface ops { use types.{r, p}; take: func(r: borrow<r>, p: p) -> result<r, string>; }
             world w { use types.{p}; import ops; import plain: func(p: p); export ops; export inline: interface { f: func(); } }",
        );
        check_embedded(&module(&[&one, &one])).unwrap();
        wit_component::metadata::decode(&module(&[&one])).unwrap();
        check_embedded(&module(&[])).unwrap();
    }

    // [MAN-070]
    #[test]
    fn what_would_stop_the_reader_of_types_is_refused() {
        // A type that is passed on from where it was imported, a method of another's resource.
        refused(
            &written(
                "a:b/w",
                "(import \"a:b/d\" (instance $d (export \"q\" (type (sub resource)))))
                 (alias export $d \"q\" (type $q))
                 (import \"a:b/c\" (instance (alias outer 1 $q (type $o)) (export \"r\" (type $r (eq $o)))
                    (export \"[method]r.m\" (func (param \"self\" (borrow $r))))))",
            ),
            "`[method]r.m` of `a:b/c` is of a resource that is defined elsewhere",
        );
        refused(
            &written("a:b/w", "(type $f (func)) (import \"f\" (type (eq $f)))"),
            "`f` is the type of no value",
        );
        refused(
            &written("a:b/c", "(import \"a:b/c\" (instance))"),
            "is a world and an interface",
        );
        refused(&written("plain", ""), "is no name of a world");
        for none in [
            "(component)",
            "(component (type $w (component)) (export \"w\" (type $w)))",
            "(component (type $w (component (export \"a:b/c\" (func)))) (export \"w\" (type $w)))",
            "(component (type $w (func)) (export \"w\" (type $w)))",
            "(component (type $w (component (import \"f\" (func)) (type $i (component))
                (export \"a:b/c\" (component (type $i))))) (export \"w\" (type $w)))",
            "(module)",
        ] {
            refused(&wat::parse_str(none).unwrap(), "it exports no world, or more than one");
        }
        refused(
            &wat::parse_str("(component (component))").unwrap(),
            "more in it than types",
        );
        refused(b"\x03\0", "an old form");
        refused(b"", "can't be read: ");
        refused(b"\0asm", "can't be read: ");
    }

    #[test]
    fn packages_of_two_sections_that_use_each_other_are_refused() {
        let uses = |package: &str, other: &str| {
            written(
                "it:it/w",
                &format!(
                    "(import \"{other}/a\" (instance $a (export \"r\" (type (sub resource)))))
                     (alias export $a \"r\" (type $r))
                     (import \"{package}/b\" (instance (alias outer 1 $r (type $o)) (export \"s\" (type (eq $o)))))"
                ),
            )
        };
        let (one, two) = (uses("a:a", "b:b"), uses("b:b", "a:a"));
        check_embedded(&module(&[&one])).unwrap();
        let said = check_embedded(&module(&[&one, &two])).unwrap_err();
        assert!(said.contains("packages use types of one another: a:a, b:b"), "{said}");
    }

    #[test]
    fn package_of_the_world_that_an_interface_of_it_uses_is_refused() {
        let declarations = "(import \"it:it/a\" (instance $a (export \"r\" (type (sub resource)))))
             (alias export $a \"r\" (type $r))
             (import \"b:b/b\" (instance (alias outer 1 $r (type $o)) (export \"s\" (type (eq $o)))))";
        refused(
            &written("it:it/w", declarations),
            "packages use types of one another: b:b, it:it",
        );
        check_embedded(&module(&[&written("it:other/w", declarations)])).unwrap();
        let together = declarations.replace("it:it/", "root:root/");
        refused(
            &written("it:other/w", &together),
            "packages use types of one another: b:b",
        );
    }

    #[test]
    fn type_of_another_interface_that_has_no_name_where_it_is_used_is_refused() {
        let declarations =
            "(import \"a:b/t\" (instance $t (type $d (record (field \"x\" u8))) (export \"p\" (type (eq $d)))))
             (alias export $t \"p\" (type $p))
             (import \"a:b/u\" (instance (alias outer 1 $p (type $o)) (export \"f\" (func (param \"p\" (list $o))))))";
        refused(
            &written("a:b/w", declarations),
            "`f` of `a:b/u` has a type that is of another interface",
        );
    }

    #[test]
    fn sections_are_bounded_before_they_are_read() {
        let one = world("package a:b; world w { import f: func(); }");
        check_embedded(&module(&[one.as_slice(); MAX_SECTIONS])).unwrap();
        let said = check_embedded(&module(&[one.as_slice(); MAX_SECTIONS + 1])).unwrap_err();
        assert!(said.contains("more than 64 sections"), "{said}");
        let large = vec![0; MAX_BYTES + 1];
        let said = check_embedded(&module(&[&large])).unwrap_err();
        assert!(said.contains("1048576 bytes"), "{said}");
        // A type in a type in a type.
        let content = [&[1][..], &[0x41, 1, 1].repeat(100_000), &[0x41, 0]].concat();
        let size = u32::try_from(content.len()).unwrap();
        let mut nested = b"\0asm\x0d\0\x01\0\x07".to_vec();
        wasm_encoder::Encode::encode(&size, &mut nested);
        nested.extend(content);
        refused(&nested, "more than 500 of them are declared inside others");
    }
}
