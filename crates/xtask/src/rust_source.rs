//! Just enough of Rust's lexical grammar to search code without finding what
//! stands in comments, strings or tests.
//!
//! Everything keeps its line and column: what is left out becomes spaces.
//! Deliberately absent: a syntax tree; macros are searched as they are written.

/// The code alone: comments, strings and characters blanked.
pub(crate) fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let end = skipped(&chars, at);
        if end == at {
            out.push(c);
            at += 1;
            continue;
        }
        for c in chars.get(at..end).unwrap_or_default() {
            out.push(if *c == '\n' { '\n' } else { ' ' });
        }
        at = end;
    }
    out
}

/// Where the comment, string or character that starts at `at` ends; `at` where
/// none starts.
fn skipped(chars: &[char], at: usize) -> usize {
    let get = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let ident_before = at > 0 && is_ident(get(at - 1));
    match get(at) {
        '/' if get(at + 1) == '/' => (at..chars.len()).find(|i| get(*i) == '\n').unwrap_or(chars.len()),
        '/' if get(at + 1) == '*' => block_comment(chars, at),
        '"' => string(chars, at + 1),
        'r' | 'b' | 'c' if !ident_before => {
            let mut i = at + 1;
            if get(at) != 'r' && get(i) == 'r' {
                i += 1;
            }
            let hashes = (i..chars.len()).take_while(|i| get(*i) == '#').count();
            let raw = get(i - 1) == 'r';
            match get(i + hashes) {
                '"' if raw => raw_string(chars, i + hashes + 1, hashes),
                '"' if hashes == 0 => string(chars, i + 1),
                '\'' if hashes == 0 && get(at) == 'b' => character(chars, i),
                _ => at,
            }
        }
        '\'' if !ident_before => character(chars, at),
        _ => at,
    }
}

fn block_comment(chars: &[char], at: usize) -> usize {
    let (mut depth, mut i) = (0, at);
    while i < chars.len() {
        match (chars.get(i), chars.get(i + 1)) {
            (Some('/'), Some('*')) => (depth, i) = (depth + 1, i + 2),
            (Some('*'), Some('/')) => {
                (depth, i) = (depth - 1, i + 2);
                if depth == 0 {
                    return i;
                }
            }
            _ => i += 1,
        }
    }
    chars.len()
}

fn string(chars: &[char], mut i: usize) -> usize {
    while let Some(c) = chars.get(i) {
        match c {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

fn raw_string(chars: &[char], start: usize, hashes: usize) -> usize {
    (start..chars.len())
        .find(|i| chars.get(*i) == Some(&'"') && (1..=hashes).all(|n| chars.get(i + n) == Some(&'#')))
        .map_or(chars.len(), |i| i + 1 + hashes)
}

/// A character literal; a lifetime is code.
fn character(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => {
            let end = (at + 3..chars.len()).find(|i| chars.get(*i) == Some(&'\''));
            end.map_or(chars.len(), |i| i + 1)
        }
        (Some(_), Some('\'')) => at + 3,
        _ => at,
    }
}

fn is_ident(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The lines, from 1, on which `needle` stands as a whole word.
pub(crate) fn lines_with(text: &str, needle: &str) -> Vec<usize> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| has_word(line, needle))
        .map(|(index, _)| index + 1)
        .collect()
}

/// Whether `needle` stands in `line` with no letter, digit or `_` touching an
/// end of it that is one itself.
pub(crate) fn has_word(line: &str, needle: &str) -> bool {
    line.match_indices(needle).any(|(at, _)| {
        let before = line.get(..at).and_then(|s| s.chars().next_back());
        let after = line.get(at + needle.len()..).and_then(|s| s.chars().next());
        let joined =
            |inner: Option<char>, outer: Option<char>| inner.is_some_and(is_ident) && outer.is_some_and(is_ident);
        !joined(needle.chars().next(), before) && !joined(needle.chars().next_back(), after)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_comments_and_strings_is_not_code() {
        let text = "a /* x /* y */ z */ b // c\nd \"e\\\" f\" g r#\"h \" i\"# j 'k' '\\'' l<'m> b'n' br\"o\" p";
        let kept: String = code(text).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(kept, "a b d g j l<'m> p");
        assert_eq!(code(text).lines().count(), 2);
    }

    #[test]
    fn raw_identifier_and_suffix_are_code() {
        for text in ["r#type", "bar", "for x in b", "'a: loop {}", "&'static str"] {
            assert_eq!(code(text), text);
        }
    }

    #[test]
    fn whole_word_is_found() {
        assert!(has_word("unsafe {", "unsafe"));
        assert!(!has_word("deny(unsafe_code)", "unsafe"));
        assert!(has_word("std::println!(\"\")", "println!"));
        assert!(!has_word("eprintln!(\"\")", "println!"));
    }
}
