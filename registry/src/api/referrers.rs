//! Referrers: the manifests whose subject is a given digest.
//!
//! The list is made from the state in memory; annotations are read from the
//! manifests themselves. It is cut into pages by size, since its size is up
//! to those who push.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{self, HeaderName, HeaderValue};
use qyvol_types::Digest;
use serde::Serialize;

use super::{ApiResult, RequestContext, blocking, parse_digest, with_type};
use crate::access::Action;
use crate::error::ApiError;
use crate::manifest::{self, OCI_INDEX};
use crate::names::Name;
use crate::query::encode;
use crate::storage::{Entry, State, Store, StoredRepository};

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
/// A page is closed once it has this many bytes.
const PAGE: usize = 1 << 20;
/// Entries inspected under one lock.
const BATCH_SIZE: usize = 256;

#[derive(Serialize)]
struct Index {
    #[serde(rename = "schemaVersion")]
    schema_version: u32,
    #[serde(rename = "mediaType")]
    media_type: &'static str,
    manifests: Vec<Referrer>,
}

#[derive(Serialize)]
struct Referrer {
    #[serde(rename = "mediaType")]
    media_type: Arc<str>,
    digest: Digest,
    size: u64,
    #[serde(rename = "artifactType", skip_serializing_if = "Option::is_none")]
    artifact_type: Option<Arc<str>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

/// What a client asked for.
struct ReferrersQuery {
    subject: Digest,
    artifact_type: Option<String>,
    /// The last of the page before.
    last: Option<Digest>,
}

/// The next few matching referrers after `last`, and the last one inspected. Few, so that
/// neither memory nor the time under the lock depends on their number.
fn some(state: &State, asked: &ReferrersQuery, last: Option<Digest>) -> (Vec<(Digest, Entry)>, Option<Digest>) {
    let after = last.map_or(Bound::Unbounded, Bound::Excluded);
    let all = state.referrers.get(&asked.subject).into_iter();
    let looked_at = all
        .flat_map(|set| set.range((after, Bound::Unbounded)))
        .take(BATCH_SIZE);
    let mut last = None;
    let found = looked_at
        .inspect(|digest| last = Some(**digest))
        .filter_map(|digest| Some((digest, state.manifests.get(digest)?)))
        .filter(|(_, entry)| {
            asked.artifact_type.is_none() || entry.artifact_type.as_deref() == asked.artifact_type.as_deref()
        })
        .map(|(digest, entry)| (*digest, entry.clone()))
        .collect();
    (found, last)
}

/// One page, and after which digest the next one starts.
fn page(
    store: &Store,
    repository: &StoredRepository,
    asked: &ReferrersQuery,
) -> std::io::Result<(Vec<Referrer>, Option<Digest>)> {
    let mut out: Vec<Referrer> = Vec::new();
    let mut weight = 0;
    let mut after = asked.last;
    loop {
        let (found, last) = some(&repository.state(), asked, after);
        for (digest, entry) in found {
            if weight > PAGE {
                let last = out.last().map(|referrer| referrer.digest);
                return Ok((out, last));
            }
            // Deleted meanwhile: it is no longer a referrer.
            let Some(bytes) = store.manifest_bytes(repository, &digest)? else {
                continue;
            };
            let annotations = manifest::annotations(&bytes);
            weight += 256 + annotations.iter().map(|(k, v)| k.len() + v.len() + 8).sum::<usize>();
            out.push(Referrer {
                media_type: entry.media_type,
                digest,
                size: entry.size,
                artifact_type: entry.artifact_type,
                annotations,
            });
        }
        match last {
            None => return Ok((out, None)),
            Some(_) => after = last,
        }
    }
}

impl RequestContext<'_> {
    pub(super) async fn referrers(&self, name: &Name, digest: &str) -> ApiResult {
        self.check(name, Action::Read)?;
        let asked = ReferrersQuery {
            subject: parse_digest(digest)?,
            artifact_type: self
                .query
                .get("artifactType")
                .filter(|t| !t.is_empty())
                .map(str::to_string),
            last: self.query.get("last").map(parse_digest).transpose()?,
        };
        let subject = asked.subject;
        let filter = asked.artifact_type.clone();
        let repository = self.hub.store.repository(name);
        let many = repository.as_ref().map_or(0, |repository| {
            repository.state().referrers.get(&subject).map_or(0, BTreeSet::len)
        });
        // A short list waits for no long one.
        let _turn = match many {
            ..=BATCH_SIZE => None,
            _ => Some(self.long_list().await?),
        };
        let store = self.hub.store.clone();
        let made = blocking(move || {
            let (manifests, next) = match repository.filter(|_| many > 0) {
                None => (Vec::new(), None),
                Some(repository) => page(&store, &repository, &asked)?,
            };
            let index = Index {
                schema_version: 2,
                media_type: OCI_INDEX,
                manifests,
            };
            Ok::<_, std::io::Error>((serde_json::to_vec(&index)?, next))
        });
        let (body, next) = made.await??;
        let mut response = with_type(StatusCode::OK, body, OCI_INDEX);
        let headers = response.headers_mut();
        if filter.is_some() {
            headers.insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
        }
        if let Some(next) = next {
            let filter = filter.map_or_else(String::new, |f| format!("&artifactType={}", encode(&f)));
            let link = format!("</v2/{name}/referrers/{subject}?last={next}{filter}>; rel=\"next\"");
            let link = HeaderValue::from_str(&link).map_err(ApiError::internal)?;
            headers.insert(header::LINK, link);
        }
        Ok(response)
    }
}
