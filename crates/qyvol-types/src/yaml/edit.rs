//! Changes to a document's text that leave the rest as it stands: comments,
//! order, spelling, line endings.
//!
//! Positions come from the parser, so quoted text and comments are never
//! mistaken for structure. A form that can't be edited here (such as a comment
//! after the last element of a flow list over several lines) yields a text with
//! another meaning: the caller parses the result again and compares.

use thiserror::Error;

use super::{Bare, Node, Problems, Value, bare, parse_within};
use crate::limits;

/// A text that is edited.
#[derive(Clone, Debug)]
pub struct Editor {
    text: String,
}

/// One step from the root to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Into a mapping.
    Key(&'a str),
    /// Into a list.
    Item(usize),
}

/// A value to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// On one line, as it stands: a scalar (see [`scalar`]) or a flow value.
    Inline(String),
    /// Lines of text, written as a literal block where there is room for one.
    Literal(String),
    /// Items.
    List(Vec<Written>),
    /// Keys and values.
    Mapping(Vec<(String, Written)>),
}

/// Why a text can't be edited.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EditError {
    /// It is not valid.
    #[error(transparent)]
    Invalid(#[from] Problems),
    /// It is, in a form that isn't edited.
    #[error("{0}")]
    Unsupported(&'static str),
}

type Edited = Result<(), EditError>;

fn parse(text: &str) -> Result<Node, Problems> {
    parse_within(text, limits::POLICY_BYTES)
}

/// A scalar as it can stand in a document: bare where no reader takes it for
/// something else, else in double quotes.
pub fn scalar(text: &str) -> String {
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/');
    let bare_word = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic()) && text.bytes().all(word);
    if bare_word && bare(text) == Bare::Text {
        return text.to_string();
    }
    quoted(text)
}

/// JSON's strings are YAML's double-quoted ones.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn flow(value: &Written) -> String {
    match value {
        Written::Inline(text) => text.clone(),
        Written::Literal(text) => quoted(text),
        Written::List(items) => {
            let items: Vec<String> = items.iter().map(flow).collect();
            format!("[{}]", items.join(", "))
        }
        Written::Mapping(entries) => {
            let entries: Vec<String> = entries.iter().map(|(k, v)| flow_entry(k, v)).collect();
            format!("{{ {} }}", entries.join(", "))
        }
    }
}

fn flow_entry(key: &str, value: &Written) -> String {
    format!("{}: {}", scalar(key), flow(value))
}

/// What follows `key:` in a block whose keys stand at `indent`.
fn block(value: &Written, indent: usize) -> String {
    let deeper = " ".repeat(indent + 2);
    match value {
        Written::Inline(text) => format!(" {text}\n"),
        Written::Literal(text) => {
            let lines: String = text.lines().map(|line| format!("{deeper}{line}\n")).collect();
            format!(" |\n{lines}")
        }
        Written::List(items) => {
            let items: String = items.iter().map(|item| block_item(item, indent + 2)).collect();
            format!("\n{items}")
        }
        Written::Mapping(entries) => {
            let entries: String = entries.iter().map(|(k, v)| block_entry(k, v, indent + 2)).collect();
            format!("\n{entries}")
        }
    }
}

fn block_entry(key: &str, value: &Written, indent: usize) -> String {
    format!("{}{}:{}", " ".repeat(indent), scalar(key), block(value, indent))
}

/// An item of a block list whose dashes stand at `indent`.
fn block_item(value: &Written, indent: usize) -> String {
    let dash = format!("{}- ", " ".repeat(indent));
    match value {
        Written::Mapping(entries) => {
            let entries: String = entries.iter().map(|(k, v)| block_entry(k, v, indent + 2)).collect();
            dash + entries.get(indent + 2..).unwrap_or_default()
        }
        other => format!("{dash}{}\n", flow(other)),
    }
}

impl Editor {
    /// An editor of a valid document.
    pub fn new(text: &str) -> Result<Editor, EditError> {
        parse(text)?;
        Ok(Editor { text: text.to_string() })
    }

    /// The text as it is by now.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text.
    pub fn finish(self) -> String {
        self.text
    }

    /// Sets a mapping's key: a new one is appended, one that is there must
    /// have a scalar on one line or nothing.
    pub fn set(&mut self, path: &[Step<'_>], key: &str, value: &Written) -> Edited {
        let root = parse(&self.text)?;
        let node = find(&root, path)?;
        let Value::Mapping(entries) = &node.value else {
            return Err(EditError::Unsupported("a mapping was expected"));
        };
        let start = self.offset(node)?;
        let in_flow = self.text[start..].starts_with('{');
        let Some((place, old)) = entries.iter().find(|(k, _)| k.text == key) else {
            if in_flow {
                return self.append_flow(start, &flow_entry(key, value));
            }
            let Some((last, _)) = entries.last() else {
                return Err(EditError::Unsupported("an empty document"));
            };
            let indent = last.place.column - 1;
            let end = self.block_end(last.place.line, indent, true);
            return self.insert_lines(end, &block_entry(key, value, indent));
        };
        let Value::Scalar { text: old_text, plain } = &old.value else {
            return Err(EditError::Unsupported("a scalar was expected"));
        };
        let new = if in_flow {
            format!(" {}", flow(value))
        } else {
            block(value, place.place.column - 1)
        };
        if *plain && old_text.is_empty() {
            if let Some(lines) = new.strip_prefix('\n') {
                let end = self.block_end(place.place.line, place.place.column - 1, true);
                return self.insert_lines(end, lines);
            }
            let after = self.at(place.place.line, place.place.column + place.place.width)?;
            let colon = self.text[after..]
                .find(':')
                .ok_or(EditError::Unsupported("a key without a colon"))?;
            self.text.insert_str(after + colon + 1, new.trim_end_matches('\n'));
            return Ok(());
        }
        let mut at = self.offset(old)?;
        let end = at
            + self.text[at..]
                .chars()
                .take(old.place.width)
                .map(char::len_utf8)
                .sum::<usize>();
        if *plain && self.text[at..end] != **old_text {
            return Err(EditError::Unsupported("a value on more than one line"));
        }
        if new.starts_with('\n') {
            at = self.text[..at].trim_end_matches(' ').len();
        }
        let new = new.strip_prefix(' ').unwrap_or(&new).trim_end_matches('\n');
        let new = self.endings(new);
        self.text.replace_range(at..end, &new);
        Ok(())
    }

    /// Appends an item to a list that has items or brackets.
    pub fn push(&mut self, path: &[Step<'_>], value: &Written) -> Edited {
        let root = parse(&self.text)?;
        let node = find(&root, path)?;
        let Value::Sequence(items) = &node.value else {
            return Err(EditError::Unsupported("a list was expected"));
        };
        let start = self.offset(node)?;
        if self.text[start..].starts_with('[') {
            return self.append_flow(start, &flow(value));
        }
        let Some(last) = items.last() else {
            return Err(EditError::Unsupported("a list without brackets or items"));
        };
        let (line, indent) = self.dash(last)?;
        let end = self.block_end(line, indent, false);
        self.insert_lines(end, &block_item(value, indent))
    }

    /// Removes an item of a list.
    pub fn remove(&mut self, path: &[Step<'_>], index: usize) -> Edited {
        let root = parse(&self.text)?;
        let node = find(&root, path)?;
        let Value::Sequence(items) = &node.value else {
            return Err(EditError::Unsupported("a list was expected"));
        };
        let item = items
            .get(index)
            .ok_or(EditError::Unsupported("an item that is not there"))?;
        let start = self.offset(node)?;
        if !self.text[start..].starts_with('[') {
            let (line, indent) = self.dash(item)?;
            let from = self.at(line, 1)?;
            let to = self.block_end(line, indent, false);
            self.text.replace_range(from..to, "");
            return Ok(());
        }
        let from = self.offset(item)?;
        let close = self.close(start)?;
        // With the comma behind it, or the one before it where it is the last.
        let range = match items.get(index + 1) {
            Some(next) => from..self.offset(next)?,
            None => {
                let before = self.text[..from].trim_end();
                let start = if before.ends_with(',') { before.len() - 1 } else { from };
                start..close
            }
        };
        self.text.replace_range(range, "");
        Ok(())
    }

    /// The offset of a line and column.
    fn at(&self, line: usize, column: usize) -> Result<usize, EditError> {
        let mut start = 0;
        for _ in 1..line {
            let end = self.text[start..]
                .find('\n')
                .ok_or(EditError::Unsupported("a place past the end"))?;
            start += end + 1;
        }
        let skipped = self.text[start..].chars().take(column - 1);
        Ok(start + skipped.map(char::len_utf8).sum::<usize>())
    }

    fn offset(&self, node: &Node) -> Result<usize, EditError> {
        self.at(node.place.line, node.place.column)
    }

    /// Line and indentation of the dash in front of an item.
    fn dash(&self, item: &Node) -> Result<(usize, usize), EditError> {
        let line = self.at(item.place.line, 1)?;
        let head = &self.text[line..self.offset(item)?];
        let indent = head.len() - head.trim_start_matches(' ').len();
        if head.trim() == "-" {
            return Ok((item.place.line, indent));
        }
        Err(EditError::Unsupported("an item that does not stand behind its dash"))
    }

    /// The offset after the entry that starts on `line` and is indented by
    /// `indent`; trailing comments and empty lines are excluded.
    fn block_end(&self, line: usize, indent: usize, mapping: bool) -> usize {
        let mut offset = 0;
        let mut end = 0;
        for (index, text) in self.text.split_inclusive('\n').enumerate() {
            offset += text.len();
            if index + 1 < line {
                continue;
            }
            let content = text.trim_start_matches(' ');
            let own = text.len() - content.len();
            let silent = content.trim().is_empty() || content.starts_with('#');
            // A mapping's list may stand as deep as its key.
            let list = mapping && own == indent && content.starts_with("- ");
            // So may the bracket that closes a value.
            let bracket = own >= indent && content.starts_with([']', '}']);
            if index + 1 > line && !silent && own <= indent && !list && !bracket {
                break;
            }
            if !silent || index + 1 == line {
                end = offset;
            }
        }
        end
    }

    /// The offset of the bracket that closes the one at `start`.
    fn close(&self, start: usize) -> Result<usize, EditError> {
        let mut depth = 0usize;
        let mut quote = None;
        let mut comment = false;
        let mut before = ' ';
        let mut escaped = false;
        for (at, c) in self.text[start..].char_indices() {
            let token = matches!(before, ' ' | '\t' | '\n' | '[' | '{' | ',' | ':');
            match (comment, quote, c) {
                (true, _, '\n') => comment = false,
                (true, ..) => {}
                (_, Some('"'), _) if escaped => escaped = false,
                (_, Some('"'), '\\') => escaped = true,
                (_, Some(q), c) if q == c => quote = None,
                (_, Some(_), _) => {}
                (_, None, '"' | '\'') if token => quote = Some(c),
                (_, None, '#') if matches!(before, ' ' | '\t' | '\n') => comment = true,
                (_, None, '[' | '{') => depth += 1,
                (_, None, ']' | '}') => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        return Ok(start + at);
                    }
                }
                _ => {}
            }
            before = c;
        }
        Err(EditError::Unsupported("a bracket that nothing closes"))
    }

    fn append_flow(&mut self, start: usize, value: &str) -> Edited {
        let close = self.close(start)?;
        let inside = self.text[..close].trim_end().len();
        match self.text[..inside].chars().next_back() {
            Some('[') => self.text.replace_range(inside..close, value),
            Some('{') => self.text.replace_range(inside..close, &format!(" {value} ")),
            Some(',') => self.text.insert_str(inside, &format!(" {value}")),
            _ => self.text.insert_str(inside, &format!(", {value}")),
        }
        Ok(())
    }

    fn insert_lines(&mut self, at: usize, lines: &str) -> Edited {
        let lines = self.endings(lines);
        let broken = at > 0 && !self.text[..at].ends_with('\n');
        let new = if broken { self.endings("\n") + &lines } else { lines };
        self.text.insert_str(at, &new);
        Ok(())
    }

    /// With the document's line endings.
    fn endings(&self, text: &str) -> String {
        if self.text.contains("\r\n") {
            text.replace('\n', "\r\n")
        } else {
            text.to_string()
        }
    }
}

fn find<'n>(root: &'n Node, path: &[Step<'_>]) -> Result<&'n Node, EditError> {
    path.iter()
        .try_fold(root, |node, step| match (&node.value, step) {
            (Value::Mapping(entries), Step::Key(key)) => {
                entries.iter().find(|(k, _)| k.text == *key).map(|(_, value)| value)
            }
            (Value::Sequence(items), Step::Item(index)) => items.get(*index),
            _ => None,
        })
        .ok_or(EditError::Unsupported("a value that is not there"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(text: &str, act: impl FnOnce(&mut Editor) -> Edited) -> String {
        let mut editor = Editor::new(text).unwrap();
        act(&mut editor).unwrap();
        parse(&editor.text).unwrap();
        editor.finish()
    }

    fn inline(text: &str) -> Written {
        Written::Inline(text.to_string())
    }

    #[test]
    fn edit_leaves_comments_and_order_as_they_stand() {
        let text =
            "# top\nb: 1 # one\na:\n  # inside\n  x: [k] # keys\n# between\n\nc: |\n  text # no comment\n# end\n";
        let key = [Step::Key("a")];
        let out = edit(text, |e| {
            e.set(&[], "b", &inline("2"))?;
            e.push(&[Step::Key("a"), Step::Key("x")], &inline("\"l]\""))?;
            e.set(&key, "w", &Written::Literal("1\n2\n".to_string()))?;
            e.set(&[], "d", &Written::Mapping(vec![("e".to_string(), inline("f"))]))
        });
        assert_eq!(
            out,
            "# top\nb: 2 # one\na:\n  # inside\n  x: [k, \"l]\"] # keys\n  w: |\n    1\n    2\n# between\n\nc: |\n  \
             text # no comment\nd:\n  e: f\n# end\n"
        );
    }

    #[test]
    fn lists_of_every_form_take_and_lose_items() {
        for (text, pushed, removed) in [
            ("a: []\n", "a: [z]\n", None),
            ("a: [ ]\n", "a: [z]\n", None),
            ("a: [x]\n", "a: [x, z]\n", Some("a: []\n")),
            ("a: [x, y]\n", "a: [x, y, z]\n", Some("a: [y]\n")),
            ("a: [ x , y ]\n", "a: [ x , y, z ]\n", Some("a: [ y ]\n")),
            (
                "a: [\n  x,\n  y,\n]\n",
                "a: [\n  x,\n  y, z\n]\n",
                Some("a: [\n  y,\n]\n"),
            ),
            (
                "a:\n- x\n- y\nb: 1\n",
                "a:\n- x\n- y\n- z\nb: 1\n",
                Some("a:\n- y\nb: 1\n"),
            ),
            ("a:\n  - x # one\n", "a:\n  - x # one\n  - z\n", Some("a:\n")),
            ("a:\n  - x", "a:\n  - x\n  - z\n", Some("a:\n")),
            ("a:\r\n  - x\r\n", "a:\r\n  - x\r\n  - z\r\n", Some("a:\r\n")),
        ] {
            let path = [Step::Key("a")];
            assert_eq!(edit(text, |e| e.push(&path, &inline("z"))), pushed, "{text}");
            if let Some(removed) = removed {
                assert_eq!(edit(text, |e| e.remove(&path, 0)), removed, "{text}");
            }
        }
    }

    #[test]
    fn mappings_of_every_form_take_keys() {
        let value = Written::Mapping(vec![("p".to_string(), Written::Literal("1\n2\n".to_string()))]);
        for (text, path, expected) in [
            (
                "{\"a\": {}}",
                &[Step::Key("a")][..],
                "{\"a\": { z: { p: \"1\\n2\\n\" } }}",
            ),
            ("{\"a\": 1}", &[], "{\"a\": 1, z: { p: \"1\\n2\\n\" }}"),
            ("a: 1", &[], "a: 1\nz:\n  p: |\n    1\n    2\n"),
            ("z:\n# c\n", &[], "z:\n  p: |\n    1\n    2\n# c\n"),
            ("z: ~\nb: 1\n", &[], "z:\n  p: |\n    1\n    2\nb: 1\n"),
            (
                "a:\n  - b: 1\n",
                &[Step::Key("a"), Step::Item(0)],
                "a:\n  - b: 1\n    z:\n      p: |\n        1\n        2\n",
            ),
        ] {
            assert_eq!(edit(text, |e| e.set(path, "z", &value)), expected, "{text}");
        }
        let item = Written::Mapping(vec![("p".to_string(), inline("1")), ("q".to_string(), inline("2"))]);
        let out = edit("a:\n  - b\n", |e| e.push(&[Step::Key("a")], &item));
        assert_eq!(out, "a:\n  - b\n  - p: 1\n    q: 2\n");
    }

    #[test]
    fn scalar_is_quoted_where_a_reader_could_take_it_for_something_else() {
        for (text, written) in [
            ("release", "release"),
            ("acme/app", "acme/app"),
            ("no", "\"no\""),
            ("1.10", "\"1.10\""),
            ("file:", "\"file:\""),
            ("r.example/**", "\"r.example/**\""),
            ("", "\"\""),
        ] {
            assert_eq!(scalar(text), written);
        }
    }
}
