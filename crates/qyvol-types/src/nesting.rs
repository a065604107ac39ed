//! How deep types of WebAssembly components may be inside each other.
//!
//! Readers of WebAssembly recurse into types, so the bytes are looked at before them.

use crate::limits::TYPE_NESTING;

/// Whether types in the content of a component's section of types may be nested deeper than
/// [`TYPE_NESTING`].
///
/// Only the type of a component or instance has types inside it. A type that is declared
/// there is written as 0x01 and itself, and a type of a component or instance begins with
/// 0x41 or 0x42 (component model, Binary.md). So there are at least as many of these pairs
/// as levels. Where they are not nested, they are counted all the same.
pub fn may_nest_too_deep(types: &[u8]) -> bool {
    let nested = types.windows(2).filter(|pair| matches!(pair, [0x01, 0x41 | 0x42]));
    nested.take(TYPE_NESTING + 1).count() > TYPE_NESTING
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_types_are_counted_up_to_the_limit() {
        let nested = |levels: usize| [&[1][..], &[0x42, 1, 1].repeat(levels), &[0x41, 0]].concat();
        assert!(!may_nest_too_deep(&nested(TYPE_NESTING - 1)));
        assert!(may_nest_too_deep(&nested(TYPE_NESTING + 1)));
        assert!(!may_nest_too_deep(&[]));
    }
}
