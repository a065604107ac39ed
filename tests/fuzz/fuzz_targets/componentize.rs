//! What a core module says of its types, on its way to a component.
#![no_main]

use libfuzzer_sys::fuzz_target;

/// A core module that exports what a command and a library do.
const MODULE: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "_start"))
    (func (export "g"))
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable))"#;

/// The size of a section in LEB128.
fn size(mut left: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while left >= 0x80 {
        bytes.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes
}

fuzz_target!(|types: &[u8]| {
    let mut module = wat::parse_str(MODULE).unwrap();
    let name = b"\x0ecomponent-type";
    module.push(0);
    module.extend(size(name.len() + types.len()));
    module.extend(name);
    module.extend(types);
    let _ = qyvol_image::componentize(&module, qyvol_compose::check_embedded);
});
