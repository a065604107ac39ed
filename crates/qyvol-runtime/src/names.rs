//! Human-readable names of a guest's functions.
//!
//! A guest chooses them: a few bytes of a mangled name may expand to megabytes, so the output
//! is bounded while it is written.

use std::fmt::{self, Write};

use cpp_demangle::DemangleOptions;

/// Maximum length of a name, in characters.
pub(crate) const NAME: usize = 200;
/// Longest name that is demangled, in bytes.
const MANGLED: usize = 4096;

/// A name, demangled if it is mangled as Rust or C++ do it.
pub(crate) fn readable(name: &str) -> String {
    let mut text = Bounded::default();
    // Output that doesn't fit ends the writing with an error.
    let _ = write_readable(&mut text, name);
    text.0
}

/// Without the hash of Rust's older mangling.
pub(crate) fn without_hash(name: String) -> String {
    match name.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => name.to_string(),
        _ => name,
    }
}

/// A function's name, or what wasmtime calls one without a name.
pub(crate) fn of_function(name: Option<&str>, index: u32) -> String {
    match name {
        Some(name) => readable(name),
        None => format!("<wasm function {index}>"),
    }
}

/// At most this many characters of a text.
pub(crate) fn cut(text: &str) -> String {
    text.chars().take(NAME).collect()
}

fn write_readable(text: &mut Bounded, name: &str) -> fmt::Result {
    if name.len() <= MANGLED {
        if let Ok(demangled) = rustc_demangle::try_demangle(name) {
            return write!(text, "{demangled}");
        }
        if let Ok(symbol) = cpp_demangle::Symbol::new(name) {
            let mut demangled = Bounded::default();
            let written = symbol.structured_demangle(&mut demangled, &DemangleOptions::default());
            if written.is_ok() || demangled.1 == NAME {
                *text = demangled;
                return Ok(());
            }
        }
    }
    text.write_str(name)
}

/// A text of at most [`NAME`] characters.
#[derive(Default)]
struct Bounded(String, usize);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if self.1 == NAME {
                return Err(fmt::Error);
            }
            self.0.push(character);
            self.1 += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mangled_names_are_read_and_others_stay() {
        assert_eq!(
            readable("_ZN4core3fmt5write17h0123456789abcdefE"),
            "core::fmt::write::h0123456789abcdef"
        );
        assert_eq!(readable("_ZN3foo3barEv"), "foo::bar()");
        assert_eq!(readable("main"), "main");
        assert_eq!(
            without_hash("core::fmt::write::h0123456789abcdef".to_string()),
            "core::fmt::write"
        );
        assert_eq!(without_hash("a::hash".to_string()), "a::hash");
        assert_eq!(of_function(None, 7), "<wasm function 7>");
    }

    /// `pair<S, S>` of the substitution that the last such parameter has left.
    fn doubled(number: u32) -> String {
        let digit = |n: u32| char::from_digit(n, 36).unwrap().to_ascii_uppercase();
        let reference = |n: u32| match n.checked_sub(1) {
            None => "S_".to_string(),
            Some(n) if n < 36 => format!("S{}_", digit(n)),
            Some(n) => format!("S{}{}_", digit(n / 36), digit(n % 36)),
        };
        // The name `p` is a substitution of its own the first time.
        match number {
            0 => "1pIS_S_E".to_string(),
            n => format!("S0_I{0}{0}E", reference(n + 1)),
        }
    }

    #[test]
    fn name_that_expands_to_a_long_one_is_cut() {
        // Each parameter is a pair of the one before and itself: a text of 2^60 characters.
        let parameters: String = (0..60).map(doubled).collect();
        let name = format!("_Z1f1a{parameters}");
        assert!(cpp_demangle::Symbol::new(&name).is_ok());
        let read = readable(&name);
        assert!(read.starts_with("f(a, ") && read.chars().count() == NAME, "{read}");
        assert_eq!(readable(&"é".repeat(1000)), "é".repeat(NAME));
    }
}
