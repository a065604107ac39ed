//! Text from outside, made safe to show.

use std::fmt;

/// Shows text with everything escaped that could move a cursor, hide text or
/// turn its direction: control characters, bidirectional overrides,
/// zero-width characters and the byte order mark.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(&'a str);

/// Wraps outside text for a message.
pub fn escape(text: &str) -> Escaped<'_> {
    Escaped(text)
}

/// Characters that change how the text around them is shown.
pub fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for c in self.0.chars() {
            if is_deceptive(c) {
                write!(f, "\\u{{{:x}}}", u32::from(c))?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_bidi_characters_are_escaped() {
        assert_eq!(
            escape("a\u{1b}[31mb\u{202e}c\nñ").to_string(),
            "a\\u{1b}[31mb\\u{202e}c\\u{a}ñ"
        );
    }
}
