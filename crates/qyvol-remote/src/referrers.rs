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
use std::time::Duration;

use qyvol_store::StoreError;
use qyvol_types::{Descriptor, Digest, media_type};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use ureq::http::Method;

use crate::repository::next_page;
use crate::{RemoteError, Repository};

/// Bytes of a page of referrers.
const PAGE_BYTES: u64 = 4 << 20;
/// Referrers that are looked at.
const REFERRERS: usize = 16_384;
/// Pages that are read.
const PAGES: usize = 64;
/// How often the fallback list is written before giving up.
const WRITES: u32 = 12;
/// How long another writer may take between reading and writing the list.
const SETTLE: Duration = Duration::from_millis(60);

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    manifests: Vec<Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u8,
    media_type: &'a str,
    manifests: &'a [Value],
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
            found = Some(self.ask_tag(subject)?.0);
        }
        let mut sorted = BTreeMap::new();
        for value in found.unwrap_or_default() {
            // One that can't be read is no reason to lose the others.
            if let Ok(d) = serde_json::from_value::<Descriptor>(value)
                && d.media_type == media_type::IMAGE_MANIFEST
            {
                sorted.insert(d.digest, d);
            }
        }
        Ok(sorted.into_values().collect())
    }

    /// The API's list; none where the registry doesn't have the API.
    fn ask_api(&self, subject: &Digest) -> Result<Option<Vec<Value>>, RemoteError> {
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
        for page in 0..PAGES {
            let response = client.send(&ask, None)?;
            match response.status().as_u16() {
                200 => {}
                400 | 404 | 405 | 501 if page == 0 => {
                    client.learn_referrers(self.registry(), false);
                    return Ok(None);
                }
                _ => return Err(client.failure(&ask, response)),
            }
            let next = next_page(&ask, response.headers())?;
            let bytes = client.small(&ask, response, PAGE_BYTES)?;
            let list: Page = serde_json::from_slice(&bytes).map_err(|_| not_a_list())?;
            client.learn_referrers(self.registry(), true);
            let empty = list.manifests.is_empty();
            found.extend(list.manifests);
            match next {
                Some(url) if !empty && found.len() < REFERRERS => ask.url = url,
                _ => break,
            }
        }
        found.truncate(REFERRERS);
        Ok(Some(found))
    }

    /// The fallback tag's list, and whether the tag is free to be written: it
    /// may hold something else, which is no list and stays.
    fn ask_tag(&self, subject: &Digest) -> Result<(Vec<Value>, bool), RemoteError> {
        let tag = fallback_tag(subject);
        let ask = self
            .inner
            .ask(
                Method::GET,
                &format!("manifests/{tag}"),
                format!("the list of referrers {tag}"),
            )
            .accepting(&[media_type::IMAGE_INDEX, media_type::IMAGE_MANIFEST]);
        let response = self.inner.client.send(&ask, None)?;
        match response.status().as_u16() {
            200 => {}
            404 => return Ok((Vec::new(), true)),
            _ => return Err(self.inner.client.failure(&ask, response)),
        }
        let bytes = self.inner.client.small(&ask, response, PAGE_BYTES)?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|_| not_a_list())?;
        let is_index = value.get("layers").is_none()
            && value
                .get("mediaType")
                .and_then(Value::as_str)
                .unwrap_or(media_type::IMAGE_INDEX)
                == media_type::IMAGE_INDEX;
        match value.get("manifests").and_then(Value::as_array) {
            Some(list) if is_index => Ok((list.iter().take(REFERRERS).cloned().collect(), true)),
            _ => Ok((Vec::new(), false)),
        }
    }

    /// Writes the referrers that were pushed and that the registry did not note
    /// by itself into the lists. To be called before anything is tagged.
    pub fn publish_referrers(&self) -> Result<(), RemoteError> {
        let unlisted = std::mem::take(&mut *self.inner.unlisted());
        for (subject, mut ours) in unlisted {
            ours.sort_by_key(|d| d.digest);
            ours.dedup_by_key(|d| d.digest);
            self.publish(&subject, &ours)?;
        }
        Ok(())
    }

    fn publish(&self, subject: &Digest, ours: &[Descriptor]) -> Result<(), RemoteError> {
        let tag = fallback_tag(subject);
        for round in 0..WRITES {
            let (mut list, free) = self.ask_tag(subject)?;
            if !free {
                return Err(RemoteError::Protocol {
                    what: format!("something else than a list of referrers under the tag {tag}, which stays as it is"),
                });
            }
            let there = |d: &Descriptor, list: &[Value]| {
                let digest = Value::String(d.digest.to_string());
                list.iter().any(|entry| entry.get("digest") == Some(&digest))
            };
            let missing: Vec<&Descriptor> = ours.iter().filter(|d| !there(d, &list)).collect();
            if missing.is_empty() {
                return Ok(());
            }
            for d in missing {
                list.push(serde_json::to_value(d).map_err(|_| not_a_list())?);
            }
            let index = Index {
                schema_version: 2,
                media_type: media_type::IMAGE_INDEX,
                manifests: &list,
            };
            let bytes = serde_json::to_vec(&index).map_err(|_| not_a_list())?;
            self.put_manifest(&tag, media_type::IMAGE_INDEX, &bytes)?;
            // Another writer that read before this wrote has written by then.
            let spread = RandomState::new().hash_one(round) % 64;
            thread::sleep(SETTLE + Duration::from_millis(spread * u64::from(round + 1)));
        }
        Err(RemoteError::Busy {
            host: self.registry().to_string(),
            what: format!("the list of referrers {tag}, which others keep writing,"),
            seconds: 10,
        })
    }
}
