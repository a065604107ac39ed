//! From the tree to values, gathering the problems on the way.

use super::{Bare, Document, Key, Node, Problem, Problems, Span, Value, bare};
use crate::escape;

/// Problems that are shown. A document can have one for every few bytes, and nobody reads
/// them all.
const SHOWN: usize = 100;
/// Longest word that may be misspelt, in bytes: to compare two takes the product of their lengths.
const MAX_WORD: usize = 100;

/// Takes a tree apart and gathers its problems, so that a user sees them at once.
#[derive(Debug)]
pub struct Reader<'a> {
    document: Document<'a>,
    problems: Vec<Problem>,
    /// Problems past [`SHOWN`], which are only counted.
    more: usize,
}

/// A mapping whose keys have been checked against the known ones.
#[derive(Debug)]
pub struct Fields<'n> {
    place: Span,
    entries: &'n [(Key, Node)],
}

impl<'n> Fields<'n> {
    /// The value of `key`, unless it is absent or null.
    pub fn get(&self, key: &str) -> Option<&'n Node> {
        let (_, node) = self.entries.iter().find(|(k, _)| k.text == key)?;
        (!node.is_null()).then_some(node)
    }

    /// Where the mapping starts.
    pub fn place(&self) -> Span {
        self.place
    }
}

impl<'a> Reader<'a> {
    /// A reader of the tree that was parsed from `text`.
    pub fn new(text: &'a str) -> Reader<'a> {
        Reader {
            document: Document::new(text),
            problems: Vec::new(),
            more: 0,
        }
    }

    /// The value, if there was no problem.
    pub fn finish<T>(mut self, value: Option<T>) -> Result<T, Problems> {
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ => {
                self.problems.sort_by_key(|p| p.place);
                if let (1.., Some(last)) = (self.more, self.problems.last()) {
                    let message = format!("and {} more problems, not shown", self.more);
                    self.problems.push(self.document.problem(last.place, message));
                }
                Err(Problems(self.problems))
            }
        }
    }

    /// Records a problem, of which the first [`SHOWN`] are shown.
    pub fn problem(&mut self, place: Span, message: impl Into<String>) {
        self.record(place, message.into(), || None);
    }

    /// Records a problem and what to write instead.
    pub fn problem_with_help(&mut self, place: Span, message: impl Into<String>, help: impl Into<String>) {
        self.record(place, message.into(), || Some(help.into()));
    }

    /// Records a word that is none of the `known` ones, with the one that was perhaps meant.
    pub fn unknown<'k>(
        &mut self,
        place: Span,
        message: impl Into<String>,
        word: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) {
        self.record(place, message.into(), || {
            nearest(word, known).map(|near| format!("did you mean `{near}`?"))
        });
    }

    /// The line and the help are looked for only if the problem is shown: both take time in
    /// proportion to the document.
    fn record(&mut self, place: Span, message: String, help: impl FnOnce() -> Option<String>) {
        if self.problems.len() >= SHOWN {
            self.more += 1;
            return;
        }
        let mut problem = self.document.problem(place, message);
        problem.help = help();
        self.problems.push(problem);
    }

    fn found(&self) -> usize {
        self.problems.len() + self.more
    }

    /// Refuses every key in the tree whose value is null, at any depth, but for some of the root's
    /// own. For documents in which an absent key asks for less than a value does: one that was
    /// emptied must not pass for absent. Returns whether there was none.
    pub fn refuse_nulls(&mut self, root: &Node, but: &[&str]) -> bool {
        let before = self.found();
        let mut rest = vec![root];
        while let Some(node) = rest.pop() {
            match &node.value {
                Value::Mapping(entries) => {
                    for (key, value) in entries {
                        let may_be_null = std::ptr::eq(node, root) && but.contains(&key.text.as_str());
                        if value.is_null() && !may_be_null {
                            let message = format!("{} has no value", escape(&key.text));
                            self.problem_with_help(key.place, message, "give it a value, or remove the key");
                        }
                        rest.push(value);
                    }
                }
                Value::Sequence(items) => rest.extend(items),
                Value::Scalar { .. } => {}
            }
        }
        self.found() == before
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
                self.record(key.place, message, || {
                    Some(match nearest(&key.text, known.iter().copied()) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("known keys: {}", known.join(", ")),
                    })
                });
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
        self.boolean_of(node, what, "true or false")
    }

    /// `true` or `false`, where something else, which the caller reads, is allowed too;
    /// `expected` says all that is.
    pub fn boolean_of(&mut self, node: &Node, what: &str, expected: &str) -> Option<bool> {
        match &node.value {
            Value::Scalar { text, plain: true } if text == "true" => Some(true),
            Value::Scalar { text, plain: true } if text == "false" => Some(false),
            _ => {
                self.problem(node.place, format!("{what} must be {expected}"));
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
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    if word.len() > MAX_WORD {
        return None;
    }
    known
        .into_iter()
        .filter(|known| known.len() <= MAX_WORD)
        .map(|known| (strsim::jaro_winkler(word, known), known))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}
