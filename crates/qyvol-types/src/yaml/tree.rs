//! From the parser's events to a tree in which each node knows its place.

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::{Problem, Problems, Span};
use crate::{escape, limits};

/// A value and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where it starts.
    pub place: Span,
    /// What it is.
    pub value: Value,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text as written; `plain` where it stood without quotes or a block sign.
    Scalar {
        /// The text.
        text: String,
        /// Whether it stood bare.
        plain: bool,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// Keys and values, in the order of the text, no key twice.
    Mapping(Vec<(Key, Node)>),
}

/// A mapping's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Where it starts.
    pub place: Span,
    /// The text.
    pub text: String,
}

/// What bare text would be in YAML 1.1 or 1.2: asked before text is taken as a
/// string, so that nobody's `no` or `1.10` changes meaning between readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bare {
    /// Only ever a string.
    Text,
    /// `true`, `yes`, `off` …
    Boolean,
    /// A number.
    Number,
    /// Empty, `~` or `null`.
    Null,
}

/// Sorts bare text.
pub fn bare(text: &str) -> Bare {
    match text.to_ascii_lowercase().as_str() {
        "" | "~" | "null" => return Bare::Null,
        "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n" => return Bare::Boolean,
        ".inf" | "+.inf" | "-.inf" | ".nan" => return Bare::Number,
        _ => {}
    }
    let digits = text.trim_start_matches(['+', '-']).replace('_', "");
    let radix = ["0x", "0o", "0b"].iter().any(|p| {
        digits
            .strip_prefix(p)
            .is_some_and(|r| !r.is_empty() && r.chars().all(|c| c.is_ascii_hexdigit()))
    });
    let starts = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    if radix || (starts && digits.parse::<f64>().is_ok()) {
        return Bare::Number;
    }
    Bare::Text
}

/// Reads one document of at most [`limits::YAML_BYTES`]. An empty one is an empty mapping.
pub fn parse(text: &str) -> Result<Node, Problems> {
    parse_within(text, limits::YAML_BYTES)
}

/// The same with another bound.
pub fn parse_within(text: &str, bytes: u64) -> Result<Node, Problems> {
    Document { text }.read(bytes).map_err(|p| Problems(vec![p]))
}

/// Makes problems: knows the text, so that each carries its line.
#[derive(Clone, Copy, Debug)]
pub struct Document<'a> {
    text: &'a str,
}

/// A document's events, and how many nodes it may still have.
struct Events<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    nodes: usize,
}

impl<'a> Document<'a> {
    /// A document over `text`.
    pub fn new(text: &'a str) -> Document<'a> {
        Document { text }
    }

    /// A problem at `place`.
    pub fn problem(&self, place: Span, message: impl Into<String>) -> Problem {
        let line = self.text.lines().nth(place.line.saturating_sub(1));
        let source_line: String = line.unwrap_or("").chars().take(200).collect();
        let room = source_line.chars().count().saturating_sub(place.column - 1);
        Problem {
            place: Span {
                width: place.width.clamp(1, room.max(1)),
                ..place
            },
            message: message.into(),
            help: None,
            source_line,
        }
    }

    /// The first character that YAML 1.2 does not allow (its `c-printable`), with its line
    /// and column. The parser takes them, and other readers don't.
    fn unprintable(&self) -> Option<(usize, usize, char)> {
        let is_printable =
            |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..);
        let at = self.text.find(|c| !is_printable(c))?;
        let (before, rest) = self.text.split_at(at);
        let line = before.rsplit('\n').next().unwrap_or_default();
        Some((
            before.matches('\n').count() + 1,
            line.chars().count() + 1,
            rest.chars().next()?,
        ))
    }

    fn read(&self, bytes: u64) -> Result<Node, Problem> {
        let start = Span {
            line: 1,
            column: 1,
            width: 1,
        };
        if self.text.len() as u64 > bytes {
            let message = format!("document is {} bytes: at most {bytes} are read", self.text.len());
            return Err(self.problem(start, message));
        }
        if let Some((line, column, found)) = self.unprintable() {
            let place = Span { line, column, width: 1 };
            let message = format!("the character {} can't be part of YAML", escape(&found.to_string()));
            return Err(self.problem(place, message));
        }
        let mut events = Events {
            parser: Parser::new_from_str(self.text),
            nodes: limits::YAML_NODES,
        };
        let mut root = None;
        loop {
            let (event, place) = self.next(&mut events)?;
            match event {
                Event::StreamEnd => break,
                Event::Nothing | Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(_) if root.is_some() => {
                    return Err(self.problem(place, "a second document: one is expected"));
                }
                Event::DocumentStart(_) => {
                    let (event, place) = self.next(&mut events)?;
                    root = Some(self.node(&mut events, event, place, 0)?);
                }
                _ => return Err(self.problem(place, "text outside the document")),
            }
        }
        if let Some(place) = self.tab_outside_text() {
            return Err(self.problem(place, "a tab between values: separate them with spaces"));
        }
        Ok(root.unwrap_or(Node {
            place: start,
            value: Value::Mapping(Vec::new()),
        }))
    }

    fn next(&self, events: &mut Events<'a>) -> Result<(Event<'a>, Span), Problem> {
        match events.parser.next_event() {
            Some(Ok((event, span))) => {
                let place = Span {
                    line: span.start.line(),
                    column: span.start.col() + 1,
                    width: if span.start.line() == span.end.line() {
                        span.end.col().saturating_sub(span.start.col()).max(1)
                    } else {
                        1
                    },
                };
                Ok((event, place))
            }
            Some(Err(error)) => {
                let place = Span {
                    line: error.marker().line(),
                    column: error.marker().col() + 1,
                    width: 1,
                };
                if error.info().contains("tab")
                    && let Some(tab) = self.indenting_tab(place.line)
                {
                    return Err(self.problem(tab, "not valid YAML: indentation is by spaces, and this is a tab"));
                }
                Err(self.problem(place, format!("not valid YAML: {}", escape(error.info()))))
            }
            None => Ok((
                Event::StreamEnd,
                Span {
                    line: 1,
                    column: 1,
                    width: 1,
                },
            )),
        }
    }

    /// The first tab that is neither in a value's text nor in a comment. YAML 1.2 allows
    /// some, and readers differ on which.
    fn tab_outside_text(&self) -> Option<Span> {
        if !self.text.contains('\t') {
            return None;
        }
        let mut texts = Parser::new_from_str(self.text)
            .filter_map(|event| match event.ok()? {
                (Event::Scalar(..), span) => Some(span.start.index()..span.end.index()),
                _ => None,
            })
            .peekable();
        let (mut line, mut column) = (1, 0);
        let (mut before, mut is_comment) = ('\n', false);
        for (index, c) in self.text.chars().enumerate() {
            while texts.next_if(|text| text.end <= index).is_some() {}
            let is_text = texts.peek().is_some_and(|text| text.start <= index);
            column += 1;
            is_comment = !is_text && c != '\n' && (is_comment || c == '#' && before.is_whitespace());
            if c == '\t' && !is_text && !is_comment {
                return Some(Span { line, column, width: 1 });
            }
            if c == '\n' {
                (line, column) = (line + 1, 0);
            }
            before = c;
        }
        None
    }

    /// The first tab that indents a line, from `line` on. The parser names the
    /// place where what the tab interrupts began.
    fn indenting_tab(&self, line: usize) -> Option<Span> {
        let mut lines = self.text.lines().enumerate().skip(line.saturating_sub(1));
        lines.find_map(|(index, text)| {
            let indent = text.len() - text.trim_start_matches([' ', '\t']).len();
            let column = text.get(..indent)?.find('\t')? + 1;
            Some(Span {
                line: index + 1,
                column,
                width: 1,
            })
        })
    }

    fn node(&self, events: &mut Events<'a>, event: Event<'a>, place: Span, depth: usize) -> Result<Node, Problem> {
        let Some(nodes) = events.nodes.checked_sub(1) else {
            let message = format!("more than {} keys and values", limits::YAML_NODES);
            return Err(self.problem(place, message));
        };
        events.nodes = nodes;
        if depth > limits::NESTING {
            return Err(self.problem(place, format!("nested more than {} levels deep", limits::NESTING)));
        }
        let (anchor, tag) = match &event {
            Event::Scalar(_, _, anchor, tag) => (*anchor, tag.is_some()),
            Event::SequenceStart(anchor, tag) | Event::MappingStart(anchor, tag) => (*anchor, tag.is_some()),
            Event::Alias(_) => return Err(self.problem(place, "aliases are not allowed: write the value out")),
            _ => (0, false),
        };
        if anchor != 0 {
            return Err(self.problem(place, "anchors are not allowed: write the value out where it is used"));
        }
        if tag {
            return Err(self.problem(place, "tags are not allowed"));
        }
        let value = match event {
            Event::Scalar(text, style, ..) => Value::Scalar {
                text: text.into_owned(),
                plain: style == ScalarStyle::Plain,
            },
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    let (event, place) = self.next(events)?;
                    if event == Event::SequenceEnd {
                        break Value::Sequence(items);
                    }
                    items.push(self.node(events, event, place, depth + 1)?);
                }
            }
            Event::MappingStart(..) => self.mapping(events, depth)?,
            _ => return Err(self.problem(place, "a value is expected here")),
        };
        Ok(Node { place, value })
    }

    fn mapping(&self, events: &mut Events<'a>, depth: usize) -> Result<Value, Problem> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut seen = std::collections::HashMap::new();
        loop {
            let (event, place) = self.next(events)?;
            if event == Event::MappingEnd {
                return Ok(Value::Mapping(entries));
            }
            let key = match self.node(events, event, place, depth + 1)?.value {
                Value::Scalar { text, .. } => Key { place, text },
                _ => return Err(self.problem(place, "a key must be text")),
            };
            if key.text == "<<" {
                return Err(self.problem(place, "merge keys are not allowed: write the values out"));
            }
            if let Some(line) = seen.insert(key.text.clone(), place.line) {
                let message = format!("duplicate key `{}`, first on line {line}", escape(&key.text));
                return Err(self.problem(place, message));
            }
            let (event, place) = self.next(events)?;
            let value = self.node(events, event, place, depth + 1)?;
            entries.push((key, value));
        }
    }
}

impl Node {
    /// Whether it is empty, `~` or `null`, bare.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if bare(text) == Bare::Null)
    }

    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
            Value::Scalar { plain: false, .. } => "text",
            Value::Scalar { text, plain: true } => match bare(text) {
                Bare::Text => "text",
                Bare::Boolean => "a boolean",
                Bare::Number => "a number",
                Bare::Null => "null",
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tab_that_indents_is_shown_on_its_own_line() {
        for (text, line, column) in [
            ("a: b\n\tc: d\n", 2, 1),
            ("a:\n\tb: c\n", 2, 1),
            ("a:\n  b: c\n\td: e\nf: g\n", 3, 1),
            ("a:\n  b: c\n  \td: e\n", 3, 3),
        ] {
            let problems = parse(text).unwrap_err();
            let problem = &problems.0[0];
            assert_eq!((problem.place.line, problem.place.column), (line, column), "{text:?}");
            assert!(problem.message.contains("spaces"), "{}", problem.message);
        }
    }
}
