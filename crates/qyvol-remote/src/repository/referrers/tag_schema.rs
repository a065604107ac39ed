//! The list of referrers under a tag, for registries without the referrers API: the client
//! writes it.
//!
//! Writers don't lose each other's entries: each reads the list again after it wrote, and
//! writes again until its own entries are in it.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::thread;
use std::time::{Duration, Instant};

use qyvol_types::{Descriptor, Digest, media_type};
use serde_json::{Map, Value};
use ureq::http::Method;

use super::{MAX_REFERRERS, PAGE_BYTES, manifests, not_a_list};
use crate::RemoteError;
use crate::endpoint::Endpoint;
use crate::error::Operation;
use crate::repository::Repository;
use crate::request::{Request, RequestBody};

/// The field of an index that has its entries.
const MANIFESTS: &str = "manifests";
/// How often a list is written before giving up.
const MAX_WRITES: u32 = 12;
/// How long another writer may take between reading and writing the list, at
/// least: its network may be slower than this one.
const MIN_SETTLE: Duration = Duration::from_millis(400);
const MAX_SETTLE: Duration = Duration::from_secs(10);
/// Another writer may take this many times as long as this one took.
const SETTLE_FACTOR: u32 = 3;
/// Milliseconds within which writers that collided retry.
const JITTER_MILLIS: u64 = 256;

/// What is under the tag.
enum Tagged {
    /// A list, with the digest of its bytes where there was one.
    List(Map<String, Value>, Option<Digest>),
    /// Something else, which must stay.
    Other,
}

/// The tag in place of the API: `sha256-…`.
fn tag_of(subject: &Digest) -> String {
    format!("{}-{}", subject.algorithm().name(), subject.hex())
        .chars()
        .take(128)
        .collect()
}

fn empty_list() -> Map<String, Value> {
    let fields = [
        ("schemaVersion", 2.into()),
        ("mediaType", media_type::IMAGE_INDEX.into()),
        (MANIFESTS, Value::Array(Vec::new())),
    ];
    fields
        .map(|(key, value)| (key.to_string(), value))
        .into_iter()
        .collect()
}

impl Repository {
    /// The entries of the list under the tag.
    pub(super) fn list_from_tag(&self, endpoint: &Endpoint, subject: &Digest) -> Result<Vec<Descriptor>, RemoteError> {
        let Tagged::List(mut list, _) = self.tagged(endpoint, subject)? else {
            return Ok(Vec::new());
        };
        match list.remove(MANIFESTS) {
            Some(Value::Array(entries)) => Ok(manifests(entries).take(MAX_REFERRERS).collect()),
            _ => Ok(Vec::new()),
        }
    }

    fn tagged(&self, endpoint: &Endpoint, subject: &Digest) -> Result<Tagged, RemoteError> {
        let client = &self.inner.client;
        let url = endpoint.url(&format!("manifests/{}", tag_of(subject)));
        let request = Request::new(Method::GET, url, endpoint, Operation::ListReferrers(*subject))
            .accepting(&[media_type::IMAGE_INDEX, media_type::IMAGE_MANIFEST]);
        let answer = client.call(&request, None, PAGE_BYTES)?;
        match answer.status {
            200 => {}
            404 => return Ok(Tagged::List(empty_list(), None)),
            _ => return Err(client.unexpected(&request, answer)),
        }
        // GitLab treats `sha256-…` as the digest itself while there is no such tag, and sends
        // the image: there is no list yet.
        if subject.matches(&answer.bytes) {
            return Ok(Tagged::List(empty_list(), None));
        }
        let list: Map<String, Value> = serde_json::from_slice(&answer.bytes).map_err(|_| not_a_list())?;
        let kind = list.get("mediaType").and_then(Value::as_str);
        let is_list = !list.contains_key("layers")
            && kind.unwrap_or(media_type::IMAGE_INDEX) == media_type::IMAGE_INDEX
            && list.get(MANIFESTS).is_some_and(Value::is_array);
        match is_list {
            true => Ok(Tagged::List(list, Some(Digest::of(&answer.bytes)))),
            false => Ok(Tagged::Other),
        }
    }

    /// Writes referrers that were pushed and that the registry does not list itself into the
    /// lists under the tags. Call it before anything is tagged.
    pub fn publish_referrers(&self) -> Result<(), RemoteError> {
        let mut unlisted = std::mem::take(&mut *self.inner.unlisted());
        while let Some((subject, mut ours)) = unlisted.pop_first() {
            ours.sort_by_key(|d| d.digest);
            ours.dedup_by_key(|d| d.digest);
            if let Err(error) = self.publish(&subject, &ours) {
                // The next call must find them again.
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
        let tag = tag_of(subject);
        let mut writes = 0;
        // Lists that this call replaced.
        let mut superseded = BTreeSet::new();
        // Writers that collided wait for different times; otherwise they would collide again.
        let mut has_waited = true;
        loop {
            let begin = Instant::now();
            // Written back as it was read, plus the new entries: other writers' fields and
            // entries stay.
            let Tagged::List(mut list, current) = self.tagged(&self.inner.endpoint, subject)? else {
                return Err(RemoteError::Protocol {
                    what: format!("something other than a referrers list under the tag {tag}, which is left unchanged"),
                });
            };
            let entries = list
                .get_mut(MANIFESTS)
                .and_then(Value::as_array_mut)
                .ok_or_else(not_a_list)?;
            let is_listed = |d: &Descriptor, entries: &[Value]| {
                let digest = Value::String(d.digest.to_string());
                entries.iter().any(|entry| entry.get("digest") == Some(&digest))
            };
            let missing: Vec<&Descriptor> = ours.iter().filter(|d| !is_listed(d, entries)).collect();
            if missing.is_empty() {
                if let Some(current) = current {
                    superseded.remove(&current);
                }
                self.delete_superseded(&superseded);
                return Ok(());
            }
            if !has_waited {
                let spread = RandomState::new().hash_one(writes) % JITTER_MILLIS;
                thread::sleep(Duration::from_millis(spread));
                has_waited = true;
                continue;
            }
            if writes == MAX_WRITES {
                return Err(RemoteError::Contended {
                    host: self.inner.endpoint.host().to_string(),
                    tag,
                });
            }
            for d in missing {
                entries.push(serde_json::to_value(d).map_err(|_| not_a_list())?);
            }
            let bytes = serde_json::to_vec(&list).map_err(|_| not_a_list())?;
            if bytes.len() as u64 > PAGE_BYTES {
                return Err(RemoteError::Protocol {
                    what: format!("a list of referrers {tag} that has no room for more"),
                });
            }
            match self.put_manifest(&tag, media_type::IMAGE_INDEX, &bytes) {
                Ok(_) => {
                    superseded.extend(current);
                    superseded.insert(Digest::of(&bytes));
                }
                // Another writer may be deleting this very list as superseded: it is read again.
                Err(error) if error.status() == Some(400) && writes + 1 < MAX_WRITES => {}
                Err(error) => return Err(error),
            }
            writes += 1;
            has_waited = false;
            // Another writer that read before this one wrote has written by
            // then.
            thread::sleep((begin.elapsed() * SETTLE_FACTOR).clamp(MIN_SETTLE, MAX_SETTLE));
        }
    }

    /// Deletes a referrer of `subject`; false if there was none. Where the client keeps the
    /// list, it is taken out of that first: nobody is sent to what is gone.
    pub fn delete_referrer(&self, subject: &Digest, referrer: &Digest) -> Result<bool, RemoteError> {
        let client = &self.inner.client;
        let endpoint = self.inner.endpoint.for_delete();
        if client.supports_referrers(&endpoint.registry) == Some(false) {
            self.unlist(subject, referrer)?;
        }
        let url = endpoint.url(&format!("manifests/{referrer}"));
        let request = Request::new(Method::DELETE, url, &endpoint, Operation::DeleteManifest(*referrer));
        let answer = client.call(&request, None, PAGE_BYTES)?;
        match answer.status {
            200 | 202 | 204 => Ok(true),
            404 => Ok(false),
            _ => Err(client.unexpected(&request, answer)),
        }
    }

    /// Takes an entry out of the list under the tag. A writer whose entry this loses finds that
    /// out, as it reads the list again.
    fn unlist(&self, subject: &Digest, referrer: &Digest) -> Result<(), RemoteError> {
        let Tagged::List(mut list, Some(current)) = self.tagged(&self.inner.endpoint, subject)? else {
            return Ok(());
        };
        let entries = list
            .get_mut(MANIFESTS)
            .and_then(Value::as_array_mut)
            .ok_or_else(not_a_list)?;
        let digest = Value::String(referrer.to_string());
        let before = entries.len();
        entries.retain(|entry| entry.get("digest") != Some(&digest));
        if entries.len() == before {
            return Ok(());
        }
        let bytes = serde_json::to_vec(&list).map_err(|_| not_a_list())?;
        self.put_manifest(&tag_of(subject), media_type::IMAGE_INDEX, &bytes)?;
        self.delete_superseded(&BTreeSet::from([current]));
        Ok(())
    }

    /// Deletes lists that were replaced, if the registry allows it: no tag refers to them any
    /// more.
    fn delete_superseded(&self, superseded: &BTreeSet<Digest>) {
        let client = &self.inner.client;
        let endpoint = self.inner.endpoint.for_delete();
        for digest in superseded {
            let url = endpoint.url(&format!("manifests/{digest}"));
            let request = Request::new(Method::DELETE, url, &endpoint, Operation::DeleteManifest(*digest));
            // A list that stays costs space and nothing else; a registry that
            // refuses one refuses the others.
            match client.attempt(&request, RequestBody::None) {
                Ok(response) if matches!(response.status().as_u16(), 200 | 202 | 204 | 404) => {
                    client.drain(&request, response);
                }
                _ => return,
            }
        }
    }
}
