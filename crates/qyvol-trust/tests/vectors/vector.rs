//! A vector: headers, an empty line, the body. And the bundles that a signing
//! vector's body lists.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

pub struct Vector {
    pub file: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

pub fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../formats/vectors")
        .join(name)
}

impl Vector {
    pub fn all(name: &str) -> Vec<Vector> {
        let entries = fs::read_dir(directory(name)).unwrap();
        let mut files: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{name} is empty");
        files.iter().map(|file| Vector::read(file)).collect()
    }

    fn read(path: &Path) -> Vector {
        let text = fs::read_to_string(path).unwrap();
        let (head, body) = text.split_once("\n\n").expect("an empty line after the headers");
        let headers = head.lines().map(|line| {
            let (key, value) = line.split_once(": ").expect("key: value");
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

    /// The headers that say what must come of it.
    pub fn outcome(&self) -> Vec<(&str, String)> {
        let rest = self
            .headers
            .iter()
            .filter(|(k, _)| !matches!(k.as_str(), "what" | "must"));
        rest.map(|(k, v)| (k.as_str(), v.clone())).collect()
    }

    /// The file, with what came of it.
    pub fn write(&self, said: &[(&str, String)]) -> String {
        let mut text = String::new();
        for (key, value) in &self.headers {
            text += &format!("{key}: {value}\n");
        }
        for (key, value) in said {
            text += &format!("{key}: {value}\n");
        }
        text + "\n" + &self.body
    }
}

/// Bundles as a body lists them: a text, or an object of `text` or `base64`,
/// `repeat` (so often in the one bundle) and `copies` (so many bundles).
pub fn bundles(list: &Value) -> Vec<Vec<u8>> {
    let number = |item: &Value, key: &str| item[key].as_u64().map_or(1, |n| n as usize);
    let items = list.as_array().expect("a list of bundles").iter();
    let all = items.flat_map(|item| {
        let bytes = match (item.as_str(), item["text"].as_str(), item["base64"].as_str()) {
            (Some(text), _, _) | (None, Some(text), _) => text.as_bytes().to_vec(),
            (_, _, Some(text)) => STANDARD.decode(text).unwrap(),
            _ => panic!("{item}"),
        };
        vec![bytes.repeat(number(item, "repeat")); number(item, "copies")]
    });
    all.collect()
}
