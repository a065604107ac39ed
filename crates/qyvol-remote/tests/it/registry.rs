//! A correct registry of the distribution-spec 1.1, in memory.

use std::collections::BTreeMap;

use qyvol_types::{Digest, media_type};
use serde_json::{Value, json};

use crate::server::{Head, Response};

/// What a client must send.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Auth {
    #[default]
    Open,
    /// This `Authorization` field.
    Basic(String),
    /// A token from `/token`, which gives one for this `Authorization` field;
    /// for any, if it is empty.
    Bearer(String),
}

/// Manifests, blobs and uploads of any repository, by repository.
#[derive(Clone, Debug)]
pub(crate) struct Registry {
    pub(crate) address: String,
    pub(crate) auth: Auth,
    pub(crate) referrers: bool,
    pub(crate) ranges: bool,
    pub(crate) mounts: bool,
    /// Bytes of a request's body.
    pub(crate) largest: usize,
    /// Tags or referrers of a page.
    pub(crate) page: usize,
    pub(crate) blobs: BTreeMap<(String, String), Vec<u8>>,
    /// With their media types, by digest and by tag.
    pub(crate) manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    pub(crate) uploads: BTreeMap<String, Vec<u8>>,
    /// Tokens given so far; the last one is the one that counts.
    pub(crate) tokens: usize,
}

impl Default for Registry {
    fn default() -> Registry {
        Registry {
            address: String::new(),
            auth: Auth::Open,
            referrers: true,
            ranges: true,
            mounts: true,
            largest: usize::MAX,
            page: 1000,
            blobs: BTreeMap::new(),
            manifests: BTreeMap::new(),
            uploads: BTreeMap::new(),
            tokens: 0,
        }
    }
}

/// The start of a body that broke off.
pub(crate) fn part(registry: &mut Registry, head: &Head, body: &[u8]) {
    if let Some((_, id)) = head.path().rsplit_once("/uploads/")
        && let Some(upload) = registry.uploads.get_mut(id)
    {
        upload.extend_from_slice(body);
    }
}

fn error(status: u16, code: &str) -> Response {
    let body = json!({"errors": [{"code": code, "message": "no"}]});
    Response::new(status).body(body.to_string())
}

fn query(head: &Head, name: &str) -> Option<String> {
    let (_, query) = head.target.split_once('?')?;
    form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

impl Registry {
    pub(crate) fn put_blob(&mut self, repository: &str, bytes: &[u8]) {
        let key = (repository.to_string(), Digest::of(bytes).to_string());
        self.blobs.insert(key, bytes.to_vec());
    }

    pub(crate) fn put_manifest(&mut self, repository: &str, reference: &str, kind: &str, bytes: &[u8]) {
        for name in [reference.to_string(), Digest::of(bytes).to_string()] {
            let key = (repository.to_string(), name);
            self.manifests.insert(key, (kind.to_string(), bytes.to_vec()));
        }
    }

    pub(crate) fn manifest(&self, repository: &str, reference: &str) -> Option<&(String, Vec<u8>)> {
        self.manifests.get(&(repository.to_string(), reference.to_string()))
    }

    pub(crate) fn answer(&mut self, head: &Head, body: &[u8]) -> Response {
        if head.path() == "/token" {
            return self.token(head);
        }
        if let Some(refusal) = self.refuse(head) {
            return refusal;
        }
        if head.path() == "/v2/" {
            return Response::new(200).body("{}");
        }
        let path = head.path().strip_prefix("/v2/").unwrap_or_default().to_string();
        for (part, kind) in [
            ("/blobs/uploads/", 0),
            ("/blobs/", 1),
            ("/manifests/", 2),
            ("/tags/list", 3),
            ("/referrers/", 4),
        ] {
            if let Some((repository, name)) = path.split_once(part) {
                return match kind {
                    0 => self.upload(head, repository, name, body),
                    1 => self.blob(head, repository, name),
                    2 => self.manifests(head, repository, name, body),
                    3 => self.tags(head, repository),
                    _ => self.referrers(head, repository, name),
                };
            }
        }
        error(404, "UNSUPPORTED")
    }

    fn token(&mut self, head: &Head) -> Response {
        let Auth::Bearer(due) = &self.auth else {
            return error(404, "UNSUPPORTED");
        };
        let given = head.header("authorization").unwrap_or_default();
        if !due.is_empty() && head.method == "GET" && given != due {
            return error(401, "UNAUTHORIZED");
        }
        self.tokens += 1;
        Response::new(200).body(json!({"token": format!("token-{}", self.tokens)}).to_string())
    }

    fn refuse(&self, head: &Head) -> Option<Response> {
        let given = head.header("authorization").unwrap_or_default();
        let challenge = match &self.auth {
            Auth::Open => return None,
            Auth::Basic(due) if given == due => return None,
            Auth::Basic(_) => "Basic realm=\"registry\"".to_string(),
            Auth::Bearer(_) if self.tokens > 0 && given == format!("Bearer token-{}", self.tokens) => return None,
            Auth::Bearer(_) => format!("Bearer realm=\"http://{}/token\",service=\"r\"", self.address),
        };
        Some(error(401, "UNAUTHORIZED").with("www-authenticate", challenge))
    }

    fn blob(&mut self, head: &Head, repository: &str, digest: &str) -> Response {
        let Some(bytes) = self.blobs.get(&(repository.to_string(), digest.to_string())) else {
            return error(404, "BLOB_UNKNOWN");
        };
        let answer = Response::new(200).with("docker-content-digest", digest);
        let from = head
            .header("range")
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        match from {
            Some(from) if self.ranges && from >= bytes.len() => error(416, "RANGE"),
            Some(from) if self.ranges => {
                let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
                Response::new(206).with("content-range", range).body(&bytes[from..])
            }
            _ => answer.body(bytes.clone()),
        }
    }

    fn upload(&mut self, head: &Head, repository: &str, id: &str, body: &[u8]) -> Response {
        if body.len() > self.largest {
            return error(413, "SIZE_INVALID");
        }
        let place = |id: &str| format!("/v2/{repository}/blobs/uploads/{id}");
        if head.method == "POST" {
            if let (true, Some(digest), Some(from)) = (self.mounts, query(head, "mount"), query(head, "from"))
                && let Some(bytes) = self.blobs.get(&(from, digest.clone())).cloned()
            {
                self.put_blob(repository, &bytes);
                return Response::new(201).with("location", format!("/v2/{repository}/blobs/{digest}"));
            }
            let id = format!("u{}", self.uploads.len());
            self.uploads.insert(id.clone(), Vec::new());
            return Response::new(202).with("location", place(&id)).with("range", "0-0");
        }
        let Some(upload) = self.uploads.get_mut(id) else {
            return error(404, "BLOB_UPLOAD_UNKNOWN");
        };
        let begin = head
            .header("content-range")
            .and_then(|range| range.split_once('-')?.0.parse::<usize>().ok());
        if begin.is_some_and(|begin| begin != upload.len()) {
            return error(416, "BLOB_UPLOAD_INVALID");
        }
        upload.extend_from_slice(body);
        let range = format!("0-{}", upload.len().saturating_sub(1));
        match head.method.as_str() {
            "PATCH" => Response::new(202).with("location", place(id)).with("range", range),
            "GET" => Response::new(204).with("location", place(id)).with("range", range),
            "PUT" => {
                let bytes = upload.clone();
                let digest = Digest::of(&bytes).to_string();
                if query(head, "digest") != Some(digest.clone()) {
                    return error(400, "DIGEST_INVALID");
                }
                self.uploads.insert(id.to_string(), Vec::new());
                self.put_blob(repository, &bytes);
                Response::new(201).with("location", format!("/v2/{repository}/blobs/{digest}"))
            }
            _ => error(405, "UNSUPPORTED"),
        }
    }

    fn manifests(&mut self, head: &Head, repository: &str, reference: &str, body: &[u8]) -> Response {
        let key = (repository.to_string(), reference.to_string());
        match head.method.as_str() {
            "PUT" => {
                let kind = head.header("content-type").unwrap_or_default().to_string();
                self.put_manifest(repository, reference, &kind, body);
                let answer = Response::new(201).with("docker-content-digest", Digest::of(body).to_string());
                let value: Value = serde_json::from_slice(body).unwrap_or_default();
                match value["subject"]["digest"].as_str() {
                    Some(subject) if self.referrers => answer.with("oci-subject", subject),
                    _ => answer,
                }
            }
            "DELETE" => match self.manifests.remove(&key) {
                Some(_) => Response::new(202),
                None => error(404, "MANIFEST_UNKNOWN"),
            },
            _ => match self.manifests.get(&key) {
                Some((kind, bytes)) => Response::new(200)
                    .with("content-type", kind)
                    .with("docker-content-digest", Digest::of(bytes).to_string())
                    .body(bytes.clone()),
                None => error(404, "MANIFEST_UNKNOWN"),
            },
        }
    }

    fn tags(&mut self, head: &Head, repository: &str) -> Response {
        let last = query(head, "last").unwrap_or_default();
        let tags: Vec<&String> = self
            .manifests
            .keys()
            .filter(|(r, name)| r == repository && !name.contains(':') && name.as_str() > last.as_str())
            .map(|(_, name)| name)
            .collect();
        let page: Vec<&&String> = tags.iter().take(self.page).collect();
        let answer = Response::new(200).body(json!({"name": repository, "tags": page}).to_string());
        match page.last() {
            Some(last) if tags.len() > self.page => {
                let link = format!("</v2/{repository}/tags/list?last={last}>; rel=\"next\"");
                answer.with("link", link)
            }
            _ => answer,
        }
    }

    fn referrers(&mut self, head: &Head, repository: &str, subject: &str) -> Response {
        if !self.referrers {
            return error(404, "UNSUPPORTED");
        }
        let skip = query(head, "skip").and_then(|n| n.parse().ok()).unwrap_or(0);
        let of = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap_or_default();
        let all: Vec<Value> = self
            .manifests
            .iter()
            .filter(|((r, name), (_, bytes))| {
                r == repository && name.contains(':') && of(bytes)["subject"]["digest"] == subject
            })
            .map(|((_, digest), (kind, bytes))| {
                json!({"mediaType": kind, "digest": digest, "size": bytes.len(),
                    "artifactType": of(bytes)["artifactType"]})
            })
            .collect();
        let page: Vec<&Value> = all.iter().skip(skip).take(self.page).collect();
        let answer = list(&page);
        if skip + self.page < all.len() {
            let link = format!(
                "</v2/{repository}/referrers/{subject}?skip={}>; rel=\"next\"",
                skip + self.page
            );
            return answer.with("link", link);
        }
        answer
    }
}

/// A list of referrers.
pub(crate) fn list(manifests: &[impl serde::Serialize]) -> Response {
    let body = json!({"schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": manifests});
    Response::new(200)
        .with("content-type", media_type::IMAGE_INDEX)
        .body(body.to_string())
}
