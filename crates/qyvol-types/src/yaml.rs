//! A small strict subset of YAML 1.2 as a tree in which each node knows its
//! place, for the two documents that people write: the `.qyv` manifest and the
//! trust policy.
//!
//! Refused, with line and column: anchors, aliases and merge keys (they
//! multiply), tags, more than one document, a key twice, keys that aren't
//! text, nesting past [`limits::NESTING`], text past [`limits::YAML_BYTES`].
//! Scalars stay text; a reader asks for the type it wants, so `yes`, `1.10`
//! and `null` are never turned into something their author did not write.
//!
//! Deliberately absent: writing YAML.

use std::fmt;

use saphyr_parser::{Event, Parser, ScalarStyle};

use crate::{escape, limits};

/// A place in the text: line and column from 1, width in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Place {
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
    pub place: Place,
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

/// A value and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where it starts.
    pub place: Place,
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
    pub place: Place,
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

/// Reads one document. An empty document is an empty mapping.
pub fn parse(text: &str) -> Result<Node, Problems> {
    Document { text }.read().map_err(|p| Problems(vec![p]))
}

/// Makes problems: knows the text, so that each carries its line.
#[derive(Clone, Copy, Debug)]
pub struct Document<'a> {
    text: &'a str,
}

type Events<'a> = Parser<'a, saphyr_parser::StrInput<'a>>;

impl<'a> Document<'a> {
    /// A document over `text`.
    pub fn new(text: &'a str) -> Document<'a> {
        Document { text }
    }

    /// A problem at `place`.
    pub fn problem(&self, place: Place, message: impl Into<String>) -> Problem {
        let line = self.text.lines().nth(place.line.saturating_sub(1));
        let source_line: String = line.unwrap_or("").chars().take(200).collect();
        let room = source_line.chars().count().saturating_sub(place.column - 1);
        Problem {
            place: Place {
                width: place.width.clamp(1, room.max(1)),
                ..place
            },
            message: message.into(),
            help: None,
            source_line,
        }
    }

    fn read(&self) -> Result<Node, Problem> {
        let start = Place {
            line: 1,
            column: 1,
            width: 1,
        };
        if self.text.len() as u64 > limits::YAML_BYTES {
            return Err(self.problem(
                start,
                format!(
                    "document is {} bytes: at most {} are read",
                    self.text.len(),
                    limits::YAML_BYTES
                ),
            ));
        }
        let mut events = Parser::new_from_str(self.text);
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
        Ok(root.unwrap_or(Node {
            place: start,
            value: Value::Mapping(Vec::new()),
        }))
    }

    fn next(&self, events: &mut Events<'a>) -> Result<(Event<'a>, Place), Problem> {
        match events.next_event() {
            Some(Ok((event, span))) => {
                let place = Place {
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
                let place = Place {
                    line: error.marker().line(),
                    column: error.marker().col() + 1,
                    width: 1,
                };
                Err(self.problem(place, format!("not valid YAML: {}", escape(error.info()))))
            }
            None => Ok((
                Event::StreamEnd,
                Place {
                    line: 1,
                    column: 1,
                    width: 1,
                },
            )),
        }
    }

    fn node(&self, events: &mut Events<'a>, event: Event<'a>, place: Place, depth: usize) -> Result<Node, Problem> {
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
                let message = format!("key `{}` stands twice, first on line {line}", escape(&key.text));
                return Err(self.problem(place, message));
            }
            let (event, place) = self.next(events)?;
            let value = self.node(events, event, place, depth + 1)?;
            entries.push((key, value));
        }
    }
}

/// Takes a tree apart and gathers every problem, so that a user sees all of
/// them at once.
#[derive(Debug)]
pub struct Reader<'a> {
    document: Document<'a>,
    problems: Vec<Problem>,
}

/// A mapping whose keys have been held against the known ones.
#[derive(Debug)]
pub struct Fields<'n> {
    place: Place,
    entries: &'n [(Key, Node)],
}

impl<'n> Fields<'n> {
    /// The value of `key`, unless it is absent or null.
    pub fn get(&self, key: &str) -> Option<&'n Node> {
        let (_, node) = self.entries.iter().find(|(k, _)| k.text == key)?;
        (!node.is_null()).then_some(node)
    }

    /// Where the mapping starts.
    pub fn place(&self) -> Place {
        self.place
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

impl<'a> Reader<'a> {
    /// A reader of the tree that was parsed from `text`.
    pub fn new(text: &'a str) -> Reader<'a> {
        Reader {
            document: Document { text },
            problems: Vec::new(),
        }
    }

    /// The value, if there was no problem.
    pub fn finish<T>(mut self, value: Option<T>) -> Result<T, Problems> {
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ => {
                self.problems.sort_by_key(|p| p.place);
                Err(Problems(self.problems))
            }
        }
    }

    /// Records a problem.
    pub fn problem(&mut self, place: Place, message: impl Into<String>) {
        self.problems.push(self.document.problem(place, message));
    }

    /// Records a problem and what to write instead.
    pub fn problem_with_help(&mut self, place: Place, message: impl Into<String>, help: impl Into<String>) {
        let mut problem = self.document.problem(place, message);
        problem.help = Some(help.into());
        self.problems.push(problem);
    }

    /// A mapping with only `known` keys; `what` names it in messages.
    pub fn fields<'n>(&mut self, node: &'n Node, what: &str, known: &[&str]) -> Option<Fields<'n>> {
        let Value::Mapping(entries) = &node.value else {
            self.problem(node.place, format!("{what} must be a mapping, not {}", node.kind()));
            return None;
        };
        for (key, _) in entries {
            if !known.contains(&key.text.as_str()) {
                let message = format!("unknown key `{}` in {what}", escape(&key.text));
                match nearest(&key.text, known) {
                    Some(near) => self.problem_with_help(key.place, message, format!("did you mean `{near}`?")),
                    None => self.problem_with_help(key.place, message, format!("known keys: {}", known.join(", "))),
                }
            }
        }
        Some(Fields {
            place: node.place,
            entries,
        })
    }

    /// A mapping with free keys.
    pub fn entries<'n>(&mut self, node: &'n Node, what: &str) -> &'n [(Key, Node)] {
        match &node.value {
            Value::Mapping(entries) => entries,
            _ => {
                self.problem(node.place, format!("{what} must be a mapping, not {}", node.kind()));
                &[]
            }
        }
    }

    /// A list.
    pub fn items<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Node] {
        match &node.value {
            Value::Sequence(items) => items,
            _ => {
                self.problem(node.place, format!("{what} must be a list, not {}", node.kind()));
                &[]
            }
        }
    }

    /// The value of a key that must be there.
    pub fn required<'n>(&mut self, fields: &Fields<'n>, key: &str, what: &str) -> Option<&'n Node> {
        let found = fields.get(key);
        if found.is_none() {
            self.problem(fields.place, format!("{what} lacks the key `{key}`"));
        }
        found
    }

    /// Text. Bare text that some reader of YAML takes for something else is
    /// refused with the advice to quote it.
    pub fn text<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        match &node.value {
            Value::Scalar { text, plain } if !plain || bare(text) == Bare::Text => Some(text),
            Value::Scalar { text, .. } => {
                let message = format!("{what} must be text, and {} is {} in YAML", escape(text), node.kind());
                self.problem_with_help(node.place, message, format!("write \"{}\"", escape(text)));
                None
            }
            _ => {
                self.problem(node.place, format!("{what} must be text, not {}", node.kind()));
                None
            }
        }
    }

    /// Text or a bare number, kept as it was written.
    pub fn text_or_number<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        match &node.value {
            Value::Scalar { text, plain: true } if bare(text) == Bare::Number => Some(text),
            _ => self.text(node, what),
        }
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, node: &Node, what: &str) -> Option<bool> {
        match &node.value {
            Value::Scalar { text, plain: true } if text == "true" => Some(true),
            Value::Scalar { text, plain: true } if text == "false" => Some(false),
            _ => {
                self.problem(node.place, format!("{what} must be true or false"));
                None
            }
        }
    }

    /// A whole number without sign, at most `max`.
    pub fn integer(&mut self, node: &Node, what: &str, max: u64) -> Option<u64> {
        if let Value::Scalar { text, plain: true } = &node.value
            && text.bytes().all(|b| b.is_ascii_digit())
            && let Ok(number) = text.parse::<u64>()
            && number <= max
        {
            return Some(number);
        }
        self.problem(node.place, format!("{what} must be a whole number, at most {max}"));
        None
    }

    /// One of some words; `words` pairs what may be written with its meaning.
    pub fn word<T: Copy>(&mut self, node: &Node, what: &str, words: &[(&str, T)]) -> Option<T> {
        if let Value::Scalar { text, .. } = &node.value {
            if let Some((_, meaning)) = words.iter().find(|(word, _)| word == text) {
                return Some(*meaning);
            }
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let message = format!("{what} can't be `{}`", escape(text));
            self.problem_with_help(node.place, message, format!("one of: {}", known.join(", ")));
        } else {
            self.problem(node.place, format!("{what} must be text, not {}", node.kind()));
        }
        None
    }
}

/// The known word closest to `word`, if any is close enough to be meant.
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .map(|k| (strsim::jaro_winkler(word, k), *k))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Problem {
        parse(text).unwrap_err().0.remove(0)
    }

    #[test]
    fn billion_laughs_and_other_multipliers_are_refused() {
        for text in [
            "a: &a [x, x]\nb: [*a, *a]\n",
            "a: &x 1\n",
            "<<: {a: 1}\n",
            "a: !!str 1\n",
            "--- {}\n--- {}\n",
            "? [a]\n: b\n",
        ] {
            parse(text).expect_err(text);
        }
    }

    #[test]
    fn duplicate_key_names_both_lines() {
        let problem = refused("name: a\nx: 1\nname: b\n");
        assert_eq!((problem.place.line, problem.place.column), (3, 1));
        assert!(problem.message.contains("first on line 1"), "{problem}");
    }

    #[test]
    fn deep_document_is_refused_without_overflowing_the_stack() {
        parse(&"[".repeat(50_000)).unwrap_err();
        parse(&"- ".repeat(50_000)).unwrap_err();
        parse(&format!("{}x", "a: \n ".repeat(20_000))).unwrap_err();
    }

    #[test]
    fn tab_indentation_is_refused_with_its_place() {
        let problem = refused("permissions:\n\tfs: none\n");
        assert_eq!(problem.place.line, 2);
    }

    #[test]
    fn bare_words_of_other_yaml_versions_are_not_strings() {
        for (text, kind) in [
            ("no", Bare::Boolean),
            ("On", Bare::Boolean),
            ("1.10", Bare::Number),
            ("0x1F", Bare::Number),
            ("1e3", Bare::Number),
            ("~", Bare::Null),
            ("1.0.0", Bare::Text),
            ("e3", Bare::Text),
            ("30s", Bare::Text),
            ("inf", Bare::Text),
        ] {
            assert_eq!(bare(text), kind, "{text}");
        }
    }

    #[test]
    fn snippet_points_at_the_column() {
        let text = "a: 1\nñandú: x\nñandú: y\n";
        let problem = refused(text);
        assert_eq!(problem.snippet(), "  |\n3 | ñandú: y\n  | ^^^^^");
    }
}
