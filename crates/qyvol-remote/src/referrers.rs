//! What refers to an image: the referrers API, or the tag that stands in for it
//! (OCI distribution-spec 1.1, "Listing Referrers", "Referrers Tag Schema").
//!
//! Descriptors in these lists are claims: whoever uses one reads the manifest
//! and judges by that. Where the list is ours to keep, writers don't lose one
//! another's entries: each reads the list again after it wrote, and writes
//! again until its own entries are in it.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::thread;
use std::time::{Duration, Instant};

use qyvol_store::StoreError;
use qyvol_types::{Descriptor, Digest, media_type};
use serde::Deserialize;
use serde_json::{Map, Value};
use ureq::http::Method;

use crate::client::Whole;
use crate::repository::next_page;
use crate::{RemoteError, Repository};

/// Where an index has its list.
const MANIFESTS: &str = "manifests";
/// Bytes of a page of referrers.
const PAGE_BYTES: u64 = 4 << 20;
/// Bytes of all pages together after which no more are read.
const LIST_BYTES: usize = 16 << 20;
/// Referrers that are looked at.
const REFERRERS: usize = 16_384;
/// Pages that are read.
const PAGES: usize = 64;
/// How often the fallback list is written before giving up.
const WRITES: u32 = 12;
/// How long another writer may take between reading and writing the list, at
/// least: it may be on a slower network than this one.
const SETTLE: Duration = Duration::from_millis(400);
/// So many times as long as it takes here, and at most so long.
const SLOWER: u32 = 3;
const SETTLE_MOST: Duration = Duration::from_secs(10);
/// Milliseconds within which those that collided try again.
const SPREAD: u64 = 256;

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    manifests: Vec<Value>,
}

/// The image manifests of a list. One that can't be read is no reason to lose
/// the others.
fn manifests(list: Vec<Value>) -> impl Iterator<Item = Descriptor> {
    let read = list
        .into_iter()
        .filter_map(|value| serde_json::from_value::<Descriptor>(value).ok());
    read.filter(|d| d.media_type == media_type::IMAGE_MANIFEST)
}

/// The tag that stands in for the API: `sha256-…`.
fn fallback_tag(subject: &Digest) -> String {
    format!("{}-{}", subject.algorithm().name(), subject.hex())
        .chars()
        .take(128)
        .collect()
}

fn not_a_list() -> RemoteError {
    RemoteError::Protocol {
        what: "a list of referrers that is not one".to_string(),
    }
}

impl Repository {
    /// Whether the registry itself keeps the lists of referrers.
    pub(crate) fn lists_referrers(&self, subject: &Digest) -> Result<bool, StoreError> {
        if let Some(known) = self.inner.client.has_referrers(self.registry()) {
            return Ok(known);
        }
        let found = self.ask_api(subject);
        Ok(found
            .map_err(|e| e.store(format!("list the referrers of {subject}")))?
            .is_some())
    }

    pub(crate) fn list_referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, RemoteError> {
        let known = self.inner.client.has_referrers(self.registry());
        let mut found = match known {
            Some(false) => None,
            _ => self.ask_api(subject)?,
        };
        if found.is_none() {
            let list = self.ask_tag(subject)?.and_then(|mut index| index.remove(MANIFESTS));
            found = list.and_then(|list| match list {
                Value::Array(list) => Some(manifests(list).take(REFERRERS).collect()),
                _ => None,
            });
        }
        // One with a false size must not stand for the one with the right one.
        let sorted: BTreeMap<_, _> = found
            .unwrap_or_default()
            .into_iter()
            .map(|d| ((d.digest, d.size), d))
            .collect();
        Ok(sorted.into_values().collect())
    }

    /// The API's list; none where the registry doesn't have the API.
    fn ask_api(&self, subject: &Digest) -> Result<Option<Vec<Descriptor>>, RemoteError> {
        let client = &self.inner.client;
        let mut ask = self
            .inner
            .ask(
                Method::GET,
                &format!("referrers/{subject}"),
                format!("the referrers of {}", subject.short()),
            )
            .accepting(&[media_type::IMAGE_INDEX]);
        let mut found = Vec::new();
        let mut room = LIST_BYTES;
        for page in 0..PAGES {
            let Whole { headers, bytes } = match client.whole(&ask, PAGE_BYTES)? {
                Ok(whole) => whole,
                Err(response) if page == 0 && matches!(response.status().as_u16(), 400 | 404 | 405 | 501) => {
                    client.learn_referrers(self.registry(), false);
                    return Ok(None);
                }
                Err(response) => return Err(client.failure(&ask, response)),
            };
            let next = next_page(&ask, &headers)?;
            let list: Page = serde_json::from_slice(&bytes).map_err(|_| not_a_list())?;
            client.learn_referrers(self.registry(), true);
            let empty = list.manifests.is_empty();
            found.extend(manifests(list.manifests));
            room = room.saturating_sub(bytes.len());
            match next {
                Some(url) if !empty && found.len() < REFERRERS && room > 0 => ask.url = url,
                _ => break,
            }
        }
        found.truncate(REFERRERS);
        Ok(Some(found))
    }

    /// The index under the fallback tag, an empty one where there is none yet;
    /// none where the tag holds something else, which is no list and stays.
    fn ask_tag(&self, subject: &Digest) -> Result<Option<Map<String, Value>>, RemoteError> {
        let tag = fallback_tag(subject);
        let ask = self
            .inner
            .ask(
                Method::GET,
                &format!("manifests/{tag}"),
                format!("the list of referrers {tag}"),
            )
            .accepting(&[media_type::IMAGE_INDEX, media_type::IMAGE_MANIFEST]);
        let bytes = match self.inner.client.whole(&ask, PAGE_BYTES)? {
            Ok(whole) => whole.bytes,
            Err(response) if response.status() == 404 => {
                let mut empty = Map::new();
                empty.insert("schemaVersion".to_string(), 2.into());
                empty.insert("mediaType".to_string(), media_type::IMAGE_INDEX.into());
                empty.insert(MANIFESTS.to_string(), Value::Array(Vec::new()));
                return Ok(Some(empty));
            }
            Err(response) => return Err(self.inner.client.failure(&ask, response)),
        };
        let index: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|_| not_a_list())?;
        let kind = index.get("mediaType").and_then(Value::as_str);
        let is_index =
            !index.contains_key("layers") && kind.unwrap_or(media_type::IMAGE_INDEX) == media_type::IMAGE_INDEX;
        Ok(Some(index).filter(|index| is_index && index.get(MANIFESTS).is_some_and(Value::is_array)))
    }

    /// Writes the referrers that were pushed and that the registry did not note
    /// by itself into the lists. To be called before anything is tagged.
    pub fn publish_referrers(&self) -> Result<(), RemoteError> {
        let mut unlisted = std::mem::take(&mut *self.inner.unlisted());
        while let Some((subject, mut ours)) = unlisted.pop_first() {
            ours.sort_by_key(|d| d.digest);
            ours.dedup_by_key(|d| d.digest);
            if let Err(error) = self.publish(&subject, &ours) {
                // Whoever tries again must find them still to be done.
                unlisted.insert(subject, ours);
                for (subject, mut ours) in unlisted {
                    self.inner.unlisted().entry(subject).or_default().append(&mut ours);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn publish(&self, subject: &Digest, ours: &[Descriptor]) -> Result<(), RemoteError> {
        let tag = fallback_tag(subject);
        let mut written = 0;
        // Those that wrote at one time would find what they lost at one time.
        let mut apart = true;
        loop {
            let begin = Instant::now();
            // Written back as it was read, but for what is added: the list is
            // others' too.
            let mut index = self.ask_tag(subject)?;
            let list = index
                .as_mut()
                .and_then(|index| index.get_mut(MANIFESTS)?.as_array_mut());
            let Some(list) = list else {
                return Err(RemoteError::Protocol {
                    what: format!("something else than a list of referrers under the tag {tag}, which stays as it is"),
                });
            };
            let there = |d: &Descriptor, list: &[Value]| {
                let digest = Value::String(d.digest.to_string());
                list.iter().any(|entry| entry.get("digest") == Some(&digest))
            };
            let missing: Vec<&Descriptor> = ours.iter().filter(|d| !there(d, list)).collect();
            if missing.is_empty() {
                return Ok(());
            }
            if !apart {
                let spread = RandomState::new().hash_one(written) % SPREAD;
                thread::sleep(Duration::from_millis(spread));
                apart = true;
                continue;
            }
            if written == WRITES {
                return Err(RemoteError::Busy {
                    host: self.registry().to_string(),
                    what: format!("the list of referrers {tag}, which does not keep what is written to it,"),
                    seconds: 10,
                });
            }
            for d in missing {
                list.push(serde_json::to_value(d).map_err(|_| not_a_list())?);
            }
            let bytes = serde_json::to_vec(&index).map_err(|_| not_a_list())?;
            if bytes.len() as u64 > PAGE_BYTES {
                return Err(RemoteError::Protocol {
                    what: format!("a list of referrers {tag} that has no room for more"),
                });
            }
            self.put_manifest(&tag, media_type::IMAGE_INDEX, &bytes)?;
            written += 1;
            apart = false;
            // Another writer that read before this wrote has written by then.
            thread::sleep((begin.elapsed() * SLOWER).clamp(SETTLE, SETTLE_MOST));
        }
    }
}
