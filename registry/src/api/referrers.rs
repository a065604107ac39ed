//! Referrers: the manifests whose subject is a given digest.
//!
//! The list is made from the state in memory; annotations are read from the
//! manifests themselves. It is cut into pages by size, since its size is up
//! to those who push.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{self, HeaderName, HeaderValue};
use qyvol_types::Digest;
use serde::Serialize;

use super::{Answer, Call, blocking, parse_digest, with_type};
use crate::access::Action;
use crate::error::ApiError;
use crate::manifest::{self, OCI_INDEX};
use crate::names::Name;
use crate::query::encode;
use crate::storage::{Entry, Repository, Store};

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
/// A page is closed once it has this many bytes.
const PAGE: usize = 4 << 20;

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

/// One page, and after which digest the next one starts.
fn page(
    store: &Store,
    repository: &Repository,
    found: Vec<(Digest, Entry)>,
) -> std::io::Result<(Vec<Referrer>, Option<Digest>)> {
    let mut out: Vec<Referrer> = Vec::new();
    let mut weight = 0;
    for (digest, entry) in found {
        if weight > PAGE {
            let last = out.last().map(|referrer| referrer.digest);
            return Ok((out, last));
        }
        // Deleted since: then it is no referrer any more.
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
    Ok((out, None))
}

impl Call<'_> {
    pub(super) async fn referrers(&self, name: &Name, digest: &str) -> Answer {
        self.check(name, Action::Read)?;
        let subject = parse_digest(digest)?;
        let last = self.query.get("last").map(parse_digest).transpose()?;
        let filter = self.query.get("artifactType").filter(|filter| !filter.is_empty());
        let (manifests, next) = match self.hub.store.repository(name) {
            None => (Vec::new(), None),
            Some(repository) => {
                let found: Vec<(Digest, Entry)> = {
                    let state = repository.state();
                    let after = last.map_or(Bound::Unbounded, Bound::Excluded);
                    let all = state.referrers.get(&subject).into_iter();
                    all.flat_map(|set| set.range((after, Bound::Unbounded)))
                        .filter_map(|digest| Some((*digest, state.manifests.get(digest)?.clone())))
                        .filter(|(_, entry)| filter.is_none_or(|wanted| entry.artifact_type.as_deref() == Some(wanted)))
                        .collect()
                };
                let store = self.hub.store.clone();
                match found.is_empty() {
                    true => (Vec::new(), None),
                    false => blocking(move || page(&store, &repository, found)).await??,
                }
            }
        };
        let body = serde_json::to_vec(&Index {
            schema_version: 2,
            media_type: OCI_INDEX,
            manifests,
        })
        .map_err(ApiError::internal)?;
        let mut response = with_type(StatusCode::OK, body, OCI_INDEX);
        let headers = response.headers_mut();
        if filter.is_some() {
            headers.insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
        }
        if let Some(next) = next {
            let filter = filter.map_or_else(String::new, |f| format!("&artifactType={}", encode(f)));
            let link = format!("</v2/{name}/referrers/{subject}?last={next}{filter}>; rel=\"next\"");
            let link = HeaderValue::from_str(&link).map_err(ApiError::internal)?;
            headers.insert(header::LINK, link);
        }
        Ok(response)
    }
}
