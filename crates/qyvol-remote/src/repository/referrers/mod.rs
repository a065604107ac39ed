//! The referrers of an image: the referrers API, or the tag schema in its place
//! (OCI distribution-spec 1.1, "Listing Referrers", "Referrers Tag Schema").
//!
//! Descriptors in these lists are claims: callers read the manifest and decide by that.

mod tag_schema;

use std::collections::BTreeMap;

use qyvol_store::StoreError;
use qyvol_types::{Descriptor, Digest, media_type};
use serde::Deserialize;
use serde_json::Value;
use ureq::http::Method;

use super::Repository;
use super::pages::next_page;
use crate::RemoteError;
use crate::endpoint::Endpoint;
use crate::error::Operation;
use crate::request::{Redirects, Request};

/// Largest page of referrers, in bytes.
const PAGE_BYTES: u64 = 4 << 20;
/// Bytes of all pages together after which no more are read.
const LIST_BYTES: usize = 16 << 20;
/// Referrers that are read.
const MAX_REFERRERS: usize = 16_384;
/// Pages that are read.
const MAX_PAGES: usize = 64;

/// The image manifests of a list. An entry that can't be read is no reason to
/// lose the others.
fn manifests(list: Vec<Value>) -> impl Iterator<Item = Descriptor> {
    let read = list
        .into_iter()
        .filter_map(|value| serde_json::from_value::<Descriptor>(value).ok());
    read.filter(|d| d.media_type == media_type::IMAGE_MANIFEST)
}

fn not_a_list() -> RemoteError {
    RemoteError::Protocol {
        what: "a list of referrers that can't be read".to_string(),
    }
}

impl Repository {
    /// Whether the registry itself keeps the lists of referrers.
    pub(super) fn supports_referrers_api(&self, subject: &Digest) -> Result<bool, StoreError> {
        if let Some(known) = self.inner.client.supports_referrers(&self.inner.endpoint.registry) {
            return Ok(known);
        }
        let found = self.list_from_api(&self.inner.endpoint, subject);
        Ok(found
            .map_err(|e| e.into_store(format!("list the referrers of {subject}")))?
            .is_some())
    }

    pub(super) fn list_referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, RemoteError> {
        // A mirror may know of none that the registry has.
        let found = self.inner.read(|endpoint| {
            let found = self.list_at(endpoint, subject)?;
            Ok(Some(found).filter(|found| !found.is_empty()))
        })?;
        // An entry with a false size must not replace the one with the right
        // size.
        let sorted: BTreeMap<_, _> = found
            .unwrap_or_default()
            .into_iter()
            .map(|d| ((d.digest, d.size), d))
            .collect();
        Ok(sorted.into_values().collect())
    }

    fn list_at(&self, endpoint: &Endpoint, subject: &Digest) -> Result<Vec<Descriptor>, RemoteError> {
        if self.inner.client.supports_referrers(&endpoint.registry) != Some(false)
            && let Some(found) = self.list_from_api(endpoint, subject)?
        {
            return Ok(found);
        }
        self.list_from_tag(endpoint, subject)
    }

    /// The API's list; none if the registry doesn't have the API: it says so, redirects to
    /// another host (GitHub's registry redirects to a web page), or sends something other than
    /// an index.
    fn list_from_api(&self, endpoint: &Endpoint, subject: &Digest) -> Result<Option<Vec<Descriptor>>, RemoteError> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            manifests: Vec<Value>,
        }
        let client = &self.inner.client;
        let url = endpoint.url(&format!("referrers/{subject}"));
        let mut request = Request::new(Method::GET, url, endpoint, Operation::ListReferrers(*subject))
            .accepting(&[media_type::IMAGE_INDEX]);
        request.redirects = Redirects::SameOrigin;
        let mut found = Vec::new();
        let mut room = LIST_BYTES;
        for page in 0..MAX_PAGES {
            let answer = client.call(&request, None, PAGE_BYTES)?;
            let is_index = answer.media_type() == media_type::IMAGE_INDEX;
            match answer.status {
                200 if is_index => {}
                200 | 300..=399 | 400 | 404 | 405 | 501 if page == 0 => {
                    client.set_supports_referrers(&endpoint.registry, false);
                    return Ok(None);
                }
                200 => return Err(not_a_list()),
                _ => return Err(client.unexpected(&request, answer)),
            }
            let next = next_page(&request, &answer.headers)?;
            let list: Page = serde_json::from_slice(&answer.bytes).map_err(|_| not_a_list())?;
            client.set_supports_referrers(&endpoint.registry, true);
            let is_empty = list.manifests.is_empty();
            found.extend(manifests(list.manifests));
            room = room.saturating_sub(answer.bytes.len());
            match next {
                Some(url) if !is_empty && found.len() < MAX_REFERRERS && room > 0 => request.url = url,
                _ => break,
            }
        }
        found.truncate(MAX_REFERRERS);
        Ok(Some(found))
    }
}
