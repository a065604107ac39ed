//! A file of `formats/vectors/archive`: headers, an empty line, base64.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::cases::{ACCEPT, Row};

/// Runs shorter than this are written out.
const RUN: usize = 4 << 10;

pub struct Vector {
    pub file: String,
    headers: Vec<(String, String)>,
    body: String,
}

pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../formats/vectors/archive")
}

impl Vector {
    pub fn all() -> Vec<Vector> {
        let mut files: Vec<_> = fs::read_dir(directory()).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        files.iter().map(|file| Vector::read(file)).collect()
    }

    fn read(path: &Path) -> Vector {
        let text = fs::read_to_string(path).unwrap();
        let (head, body) = text.split_once("\n\n").unwrap();
        let headers = head.lines().map(|line| {
            let (key, value) = line.split_once(": ").unwrap();
            (key.to_string(), value.to_string())
        });
        Vector {
            file: path.file_name().unwrap().to_string_lossy().into_owned(),
            headers: headers.collect(),
            body: body.to_string(),
        }
    }

    /// A header's value; empty where it is absent.
    pub fn get(&self, key: &str) -> &str {
        let found = self.headers.iter().find(|(k, _)| k == key);
        found.map_or("", |(_, value)| value)
    }

    /// The content of an accepted archive, by its headers, in order.
    pub fn holds(&self) -> Vec<String> {
        let listed = |key: &str| matches!(key, "image" | "signature" | "file");
        let lines = self.headers.iter().filter(|(k, _)| listed(k));
        lines.map(|(k, v)| format!("{k}: {v}")).collect()
    }

    /// The archive.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = STANDARD.decode(self.body.replace('\n', "")).unwrap();
        if let [at, len, times] = self.numbers()[..] {
            let run = bytes[at..at + len].repeat(times);
            bytes.splice(at..at + len, run);
        }
        bytes
    }

    fn numbers(&self) -> Vec<usize> {
        let words = self.get("repeat").split_whitespace();
        words.map(|word| word.parse().unwrap()).collect()
    }
}

/// The file of a row.
pub fn write(row: &Row, holds: &[String], bytes: &[u8]) -> String {
    let Row {
        what, must, outcome, ..
    } = row;
    let mut text = format!("what: {what}\nmust: {must}\n");
    match *outcome {
        ACCEPT => text += "expect: accept\n",
        step => text += &format!("expect: refuse\nstep: {step}\n"),
    }
    for line in holds {
        text += &format!("{line}\n");
    }
    let mut body = bytes.to_vec();
    if let Some((at, len, times)) = run(bytes) {
        text += &format!("repeat: {at} {len} {times}\n");
        body.drain(at + len..at + len * times);
    }
    text.push('\n');
    for line in STANDARD.encode(body).as_bytes().chunks(100) {
        text += std::str::from_utf8(line).unwrap();
        text.push('\n');
    }
    text
}

/// The longest repetition of a few bytes, if it is long: its offset, the number of bytes and
/// how often they repeat.
fn run(bytes: &[u8]) -> Option<(usize, usize, usize)> {
    let mut longest = None;
    for len in [1, 4] {
        let mut start = 0;
        for at in 0..bytes.len() {
            if at >= start + len && bytes[at] != bytes[at - len] {
                start = at + 1 - len;
            }
            let times = (at + 1 - start) / len;
            if len * times > RUN && longest.is_none_or(|(_, l, t)| len * times > l * t) {
                longest = Some((start, len, times));
            }
        }
    }
    longest
}
