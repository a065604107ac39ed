//! The content of a repository in memory: manifests, tags, referrers; and the records that
//! change it.
//!
//! A state is the result of its records in order; `index.json` states up to which line of the
//! journal it includes them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use qyvol_types::Digest;
use serde::{Deserialize, Serialize};

/// The annotation by which an image layout names a manifest.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Our annotation in `index.json`: the digest of a manifest's subject.
const SUBJECT: &str = "org.qyvol.hub.subject";
/// Our annotation of `index.json` itself: the last line of the journal that it includes.
const SEQUENCE: &str = "org.qyvol.hub.sequence";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

/// What is kept in memory of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    #[serde(rename = "mediaType")]
    pub(crate) media_type: Arc<str>,
    pub(crate) size: u64,
    #[serde(rename = "artifactType", skip_serializing_if = "Option::is_none", default)]
    pub(crate) artifact_type: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    // Boxed: most have none, and there is one entry for each manifest.
    pub(crate) subject: Option<Box<Digest>>,
}

/// One change, and one line of the journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Record {
    /// A manifest, with the tags that now point to it.
    Put {
        digest: Digest,
        entry: Entry,
        tags: Vec<String>,
    },
    /// A tag is removed.
    Untag { tag: String },
    /// A manifest is removed, with the tags that point to it.
    Delete { digest: Digest },
}

/// Manifests, tags and referrers of one repository.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) manifests: HashMap<Digest, Entry>,
    pub(crate) tags: BTreeMap<String, Digest>,
    pub(crate) referrers: HashMap<Digest, BTreeSet<Digest>>,
    /// The few types that all manifests share.
    types: HashSet<Arc<str>>,
}

#[derive(Serialize, Deserialize)]
struct Index {
    #[serde(rename = "schemaVersion")]
    schema_version: u32,
    #[serde(rename = "mediaType")]
    media_type: String,
    manifests: Vec<IndexEntry>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct IndexEntry {
    #[serde(rename = "mediaType")]
    media_type: Arc<str>,
    digest: Digest,
    size: u64,
    #[serde(rename = "artifactType", skip_serializing_if = "Option::is_none", default)]
    artifact_type: Option<Arc<str>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    annotations: BTreeMap<String, String>,
}

impl State {
    pub(super) fn apply(&mut self, record: &Record) {
        match record {
            Record::Put { digest, entry, tags } => {
                if let Some(subject) = &entry.subject {
                    self.referrers.entry(**subject).or_default().insert(*digest);
                }
                let mut entry = entry.clone();
                entry.media_type = self.shared(entry.media_type);
                entry.artifact_type = entry.artifact_type.map(|name| self.shared(name));
                self.manifests.insert(*digest, entry);
                for tag in tags {
                    self.tags.insert(tag.clone(), *digest);
                }
            }
            Record::Untag { tag } => {
                self.tags.remove(tag);
            }
            Record::Delete { digest } => {
                let Some(entry) = self.manifests.remove(digest) else {
                    return;
                };
                if let Some(subject) = entry.subject
                    && let Some(referrers) = self.referrers.get_mut(&subject)
                {
                    referrers.remove(digest);
                    if referrers.is_empty() {
                        self.referrers.remove(&subject);
                    }
                }
                self.tags.retain(|_, to| to != digest);
            }
        }
    }

    fn shared(&mut self, name: Arc<str>) -> Arc<str> {
        if let Some(known) = self.types.get(&name) {
            return known.clone();
        }
        // Clients choose artifact types: beyond a number, each entry has its own copy.
        if self.types.len() < 1024 {
            self.types.insert(name.clone());
        }
        name
    }

    /// The `index.json` of an image layout, with the journal up to the line `sequence`.
    pub(super) fn to_index(&self, sequence: u64) -> serde_json::Result<Vec<u8>> {
        let mut tags: HashMap<Digest, Vec<&str>> = HashMap::new();
        for (tag, digest) in &self.tags {
            tags.entry(*digest).or_default().push(tag);
        }
        let mut digests: Vec<_> = self.manifests.keys().collect();
        digests.sort_unstable();
        let mut manifests = Vec::with_capacity(digests.len());
        for digest in digests {
            let Some(entry) = self.manifests.get(digest) else {
                continue;
            };
            let line = |tag: Option<&str>| {
                let mut annotations = BTreeMap::new();
                if let Some(tag) = tag {
                    annotations.insert(REF_NAME.to_string(), tag.to_string());
                }
                if let Some(subject) = &entry.subject {
                    annotations.insert(SUBJECT.to_string(), subject.to_string());
                }
                IndexEntry {
                    media_type: entry.media_type.clone(),
                    digest: *digest,
                    size: entry.size,
                    artifact_type: entry.artifact_type.clone(),
                    annotations,
                }
            };
            match tags.get(digest) {
                Some(tags) => manifests.extend(tags.iter().map(|tag| line(Some(tag)))),
                None => manifests.push(line(None)),
            }
        }
        serde_json::to_vec(&Index {
            schema_version: 2,
            media_type: INDEX_TYPE.to_string(),
            manifests,
            annotations: BTreeMap::from([(SEQUENCE.to_string(), sequence.to_string())]),
        })
    }

    /// The state in an `index.json`, and the last line that it includes.
    pub(super) fn from_index(bytes: &[u8]) -> Result<(State, u64), String> {
        let index: Index = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        let sequence = index.annotations.get(SEQUENCE).and_then(|text| text.parse().ok());
        let sequence = sequence.ok_or_else(|| format!("expected a number as the annotation {SEQUENCE}"))?;
        let mut state = State::default();
        for line in index.manifests {
            let subject = match line.annotations.get(SUBJECT) {
                Some(text) => Some(Box::new(text.parse().map_err(|e| format!("subject: {e}"))?)),
                None => None,
            };
            let entry = Entry {
                media_type: line.media_type,
                size: line.size,
                artifact_type: line.artifact_type,
                subject,
            };
            state.apply(&Record::Put {
                digest: line.digest,
                entry,
                tags: line.annotations.get(REF_NAME).cloned().into_iter().collect(),
            });
        }
        Ok((state, sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(bytes: &[u8], subject: Option<Digest>, tags: &[&str]) -> Record {
        Record::Put {
            digest: Digest::of(bytes),
            entry: Entry {
                media_type: "application/x".into(),
                size: 1,
                artifact_type: subject.map(|_| "a/b".into()),
                subject: subject.map(Box::new),
            },
            tags: tags.iter().map(|t| t.to_string()).collect(),
        }
    }

    fn shown(state: &State) -> String {
        String::from_utf8(state.to_index(7).unwrap()).unwrap()
    }

    #[test]
    fn index_round_trips_the_state() {
        let a = Digest::of(b"a");
        let records = [
            put(b"a", None, &["t", "u"]),
            put(b"b", Some(a), &["t"]),
            Record::Delete { digest: a },
            put(b"a", None, &["v"]),
            put(b"c", Some(a), &[]),
            Record::Untag { tag: "v".to_string() },
            put(b"a", None, &["w"]),
        ];
        let mut state = State::default();
        records.iter().for_each(|r| state.apply(r));
        let index = shown(&state);
        let (again, sequence) = State::from_index(index.as_bytes()).unwrap();
        assert_eq!((shown(&again), sequence), (index, 7));
        assert_eq!(again.referrers[&a].len(), 2);
        assert_eq!(again.tags.keys().collect::<Vec<_>>(), ["t", "w"]);
    }
}
