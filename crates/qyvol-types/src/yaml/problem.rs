//! What is wrong with a document, and where, as compilers show it.

use std::fmt;

use crate::escape;

/// A place in the text: line and column from 1, width in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Span {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Characters to underline, at least 1.
    pub width: usize,
}

/// Something wrong at a place.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// Where.
    #[serde(flatten)]
    pub place: Span,
    /// What: lowercase, no full stop.
    pub message: String,
    /// What to write instead, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The line it stands on, for showing.
    #[serde(skip)]
    pub source_line: String,
}

/// All that is wrong with a document, in the order of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl std::error::Error for Problems {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.place.line, self.place.column, self.message)?;
        if let Some(help) = &self.help {
            write!(f, " ({help})")?;
        }
        Ok(())
    }
}

impl Problem {
    /// The problem with its line and a caret under it, as compilers show it.
    pub fn snippet(&self) -> String {
        let number = self.place.line.to_string();
        let gutter = " ".repeat(number.len());
        let mut shown = String::new();
        let mut caret_at = 0;
        for (index, c) in self.source_line.chars().enumerate() {
            if index + 1 == self.place.column {
                caret_at = shown.chars().count();
            }
            if c == '\t' {
                shown.push(' ');
            } else {
                shown.push_str(&escape(c.encode_utf8(&mut [0; 4])).to_string());
            }
        }
        if self.place.column > self.source_line.chars().count() {
            caret_at = shown.chars().count();
        }
        let (spaces, carets) = (" ".repeat(caret_at), "^".repeat(self.place.width));
        format!("{gutter} |\n{number} | {shown}\n{gutter} | {spaces}{carets}")
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            fmt::Display::fmt(problem, f)?;
        }
        Ok(())
    }
}
