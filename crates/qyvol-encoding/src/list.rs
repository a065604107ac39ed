//! The list of representations: its JSON, strictly read.

use qyvol_types::json;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::{BASE_BYTES, Blob, ENTRIES, Encoding, LIST_BYTES, Representation, TARGET_BYTES};

const SCHEMA: u64 = 1;

/// Why some bytes are not a list.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ListError {
    /// More bytes than a list may have.
    #[error("list of representations has {got} bytes: at most {LIST_BYTES}")]
    TooLarge {
        /// Its size.
        got: u64,
    },
    /// Not strict JSON, or a field is missing or of another type.
    #[error("list of representations is {0}")]
    Json(#[from] json::JsonError),
    /// A later version's.
    #[error("list of representations has schema {0}: only {SCHEMA} can be read")]
    Schema(u64),
    /// More entries than a list may have.
    #[error("list of representations has {got} entries: at most {ENTRIES}")]
    Entries {
        /// Their number.
        got: usize,
    },
    /// An entry that can't be one.
    #[error("representation {index} of the list {why}")]
    Entry {
        /// Its place, from 0.
        index: usize,
        /// What is wrong with it.
        why: String,
    },
}

/// Representations of an image's blobs. Each is a claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    entries: Vec<Representation>,
    skipped: usize,
}

#[derive(Serialize, Deserialize)]
struct Document<E> {
    schema: u64,
    encodings: Vec<E>,
}

/// The schema alone, which decides how the rest is read.
#[derive(Deserialize)]
struct Version {
    schema: u64,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    target: Blob,
    encoding: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<Blob>,
    blob: Blob,
}

impl List {
    /// A list of `entries`, none of which may be what a reader refuses.
    pub fn new(entries: Vec<Representation>) -> Result<List, ListError> {
        if entries.len() > ENTRIES {
            return Err(ListError::Entries { got: entries.len() });
        }
        for (index, entry) in entries.iter().enumerate() {
            check(entry).map_err(|why| ListError::Entry { index, why })?;
        }
        Ok(List { entries, skipped: 0 })
    }

    /// Reads a list. Entries with an encoding that isn't known are skipped, and so are keys.
    pub fn parse(bytes: &[u8]) -> Result<List, ListError> {
        let got = bytes.len() as u64;
        if got > LIST_BYTES {
            return Err(ListError::TooLarge { got });
        }
        let Version { schema } = json::decode(bytes)?;
        if schema != SCHEMA {
            return Err(ListError::Schema(schema));
        }
        let document: Document<Value> = json::decode(bytes)?;
        if document.encodings.len() > ENTRIES {
            return Err(ListError::Entries {
                got: document.encodings.len(),
            });
        }
        let mut entries = Vec::new();
        let mut skipped = 0;
        for (index, value) in document.encodings.into_iter().enumerate() {
            match read(value).map_err(|why| ListError::Entry { index, why })? {
                Some(entry) => entries.push(entry),
                None => skipped += 1,
            }
        }
        Ok(List { entries, skipped })
    }

    /// Its JSON, without white space.
    pub fn encode(&self) -> Result<Vec<u8>, ListError> {
        let encodings = self.entries.iter().map(|entry| Entry {
            target: entry.target,
            encoding: entry.encoding.name().to_string(),
            base: entry.encoding.base(),
            blob: entry.blob,
        });
        let document = Document {
            schema: SCHEMA,
            encodings: encodings.collect(),
        };
        Ok(json::encode(&document)?)
    }

    /// The representations, in their order.
    pub fn entries(&self) -> &[Representation] {
        &self.entries
    }

    /// How many entries have an encoding that isn't known.
    pub fn skipped(&self) -> usize {
        self.skipped
    }
}

fn read(value: Value) -> Result<Option<Representation>, String> {
    let Some(name) = value.get("encoding").and_then(Value::as_str) else {
        return Err("has no encoding".to_string());
    };
    let patch = match name {
        "zstd" => false,
        "zstd-patch" => true,
        _ => return Ok(None),
    };
    if !patch && value.get("base").is_some() {
        return Err("has a base but is not a patch".to_string());
    }
    let entry: Entry = serde_json::from_value(value)
        .map_err(|error| format!("is not as expected: {}", qyvol_types::escape(&error.to_string())))?;
    let encoding = match (patch, entry.base) {
        (false, None) => Encoding::Zstd,
        (true, Some(base)) => Encoding::ZstdPatch { base },
        (false, Some(_)) => return Err("has a base but is not a patch".to_string()),
        (true, None) => return Err("is a patch without a base".to_string()),
    };
    let entry = Representation {
        target: entry.target,
        encoding,
        blob: entry.blob,
    };
    check(&entry)?;
    Ok(Some(entry))
}

/// Refuses what no writer writes, before anything is fetched for it.
fn check(entry: &Representation) -> Result<(), String> {
    let Representation { target, encoding, blob } = entry;
    let within = |what: &str, size: u64, limit: u64| match size {
        0 => Err(format!("has a {what} of 0 bytes")),
        size if size > limit => Err(format!("has a {what} of {size} bytes: at most {limit}")),
        _ => Ok(()),
    };
    within("target", target.size, TARGET_BYTES)?;
    within("blob", blob.size, TARGET_BYTES)?;
    if let Some(base) = encoding.base() {
        within("base", base.size, BASE_BYTES)?;
        if base.digest == target.digest {
            return Err("is a patch of its own target".to_string());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use qyvol_types::Digest;

    use super::*;

    fn entry(encoding: Encoding) -> Representation {
        Representation {
            target: Blob::of(&[7; 900]),
            encoding,
            blob: Blob::of(b"small"),
        }
    }

    fn base() -> Encoding {
        Encoding::ZstdPatch {
            base: Blob::of(b"base"),
        }
    }

    fn changed(change: impl Fn(&mut Value)) -> Result<List, ListError> {
        let list = List::new(vec![entry(base()), entry(Encoding::Zstd)]).unwrap();
        let mut value: Value = serde_json::from_slice(&list.encode().unwrap()).unwrap();
        change(&mut value);
        List::parse(&serde_json::to_vec(&value).unwrap())
    }

    // [ENC-010]
    #[test]
    fn list_is_read_as_it_was_written() {
        let list = List::new(vec![entry(base()), entry(Encoding::Zstd)]).unwrap();
        assert_eq!(List::parse(&list.encode().unwrap()).unwrap(), list);
    }

    // [ENC-011]
    #[test]
    fn unknown_keys_and_encodings_are_skipped() {
        let list = changed(|v| {
            v["later"] = serde_json::json!([1]);
            v["encodings"][0]["encoding"] = "brotli-patch".into();
            v["encodings"][0]["target"] = "of another form".into();
            v["encodings"][1]["later"] = 1.into();
        })
        .unwrap();
        assert_eq!((list.entries(), list.skipped()), (&[entry(Encoding::Zstd)][..], 1));
    }

    // [ENC-011]
    #[test]
    fn list_of_a_later_schema_is_refused_whatever_its_form() {
        let error = List::parse(br#"{"schema":2,"encodings":{}}"#).unwrap_err();
        assert!(matches!(error, ListError::Schema(2)), "{error}");
    }

    // [ENC-012]
    #[test]
    fn list_beyond_its_bounds_is_refused() {
        let many = |n| changed(|v| v["encodings"] = vec![v["encodings"][1].clone(); n].into());
        assert!(many(ENTRIES).is_ok());
        assert!(matches!(many(ENTRIES + 1), Err(ListError::Entries { .. })));
        assert!(List::new(vec![entry(Encoding::Zstd); ENTRIES + 1]).is_err());
        assert!(matches!(
            List::parse(&vec![b' '; LIST_BYTES as usize + 1]),
            Err(ListError::TooLarge { .. })
        ));
        let deep = format!(
            "{{\"schema\":1,\"encodings\":[],\"x\":{}{}}}",
            "[".repeat(40),
            "]".repeat(40)
        );
        assert!(matches!(List::parse(deep.as_bytes()), Err(ListError::Json(_))));
    }

    // [ENC-013]
    #[test]
    fn entry_that_no_writer_writes_refuses_the_list() {
        let at = |index: usize, key: &'static str, value: Value| {
            changed(move |v| v["encodings"][index][key] = value.clone())
        };
        let blob = |size: u64| serde_json::json!({ "digest": Digest::of(b"x"), "size": size });
        for (key, value) in [
            ("target", blob(0)),
            ("target", blob(TARGET_BYTES + 1)),
            ("blob", blob(0)),
            ("blob", blob(u64::MAX)),
            ("base", blob(0)),
            ("base", blob(BASE_BYTES + 1)),
            ("base", Value::Null),
            ("base", serde_json::json!(Blob::of(&[7; 900]))),
            ("target", serde_json::json!({"digest": "sha256:../x", "size": 1})),
            ("target", serde_json::json!({"digest": Digest::of(b"x"), "size": -1})),
            ("encoding", 7.into()),
            ("encoding", "zstd".into()),
        ] {
            let shown = format!("{key}: {value}");
            assert!(
                matches!(at(0, key, value), Err(ListError::Entry { index: 0, .. })),
                "{shown}"
            );
        }
        assert!(at(1, "base", blob(1)).is_err());
        assert!(List::parse(br#"{"schema":1,"schema":1,"encodings":[]}"#).is_err());
        assert!(List::parse(br#"{"schema":1}"#).is_err());
    }
}
