//! A repository of a registry as a store (OCI distribution-spec 1.1).

use std::collections::{BTreeMap, HashMap};
use std::io::{Cursor, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use qyvol_store::{Body, Exists, Fetch, Open, Push, Referrers, StoreError};
use qyvol_types::{Descriptor, Digest, ImageManifest, Reference, limits, media_type};
use serde::Deserialize;
use ureq::http::{Method, header};

use crate::client::{Ask, Client, Home, Whole};
use crate::download::Download;
use crate::tries::Tries;
use crate::url::Url;
use crate::{RemoteError, Upload};

/// Bytes of a page of tags.
const TAGS_BYTES: u64 = 4 << 20;
/// Tags that are listed.
const TAGS: usize = 100_000;
/// Pages of a list.
const PAGES: usize = 1000;

/// What is done in a repository: the scope of the access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Pull,
    /// Reading and writing.
    Push,
    /// Reading and removing.
    Delete,
}

/// A repository.
#[derive(Clone, Debug)]
pub struct Repository {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) client: Arc<Client>,
    registry: String,
    name: String,
    pub(crate) home: Home,
    /// Where on the registry some blobs are already.
    mounts: HashMap<Digest, String>,
    /// Manifests that were read by a tag: their bytes must not be asked for a
    /// second time, when the answer could be another.
    manifests: Mutex<HashMap<Digest, Vec<u8>>>,
    /// Referrers that were pushed and that the registry did not take note of,
    /// by subject.
    unlisted: Mutex<BTreeMap<Digest, Vec<Descriptor>>>,
}

impl Repository {
    /// The repository of a name. Nothing is asked of the registry yet.
    pub fn new(client: &Arc<Client>, name: &Reference, access: Access) -> Result<Repository, RemoteError> {
        Repository::with_mounts(client, name, access, HashMap::new())
    }

    /// The same, knowing other repositories of the registry that some blobs
    /// can be mounted from.
    pub fn with_mounts(
        client: &Arc<Client>,
        name: &Reference,
        access: Access,
        mounts: HashMap<Digest, String>,
    ) -> Result<Repository, RemoteError> {
        let registry = name
            .registry()
            .ok_or_else(|| RemoteError::NoRegistry(name.to_string()))?;
        let repository = name.repository();
        let actions = match access {
            Access::Pull => "pull",
            Access::Push => "pull,push",
            Access::Delete => "pull,delete",
        };
        let mut scope = format!("repository:{repository}:{actions}");
        let mut from: Vec<&String> = mounts.values().filter(|from| *from != repository).collect();
        from.sort();
        from.dedup();
        for other in from {
            scope.push_str(&format!(" repository:{other}:pull"));
        }
        Ok(Repository {
            inner: Arc::new(Inner {
                client: client.clone(),
                registry: registry.to_string(),
                name: repository.to_string(),
                home: Home {
                    url: Url::new(client.options().is_secure(registry), registry, "/"),
                    scope,
                    repository: repository.to_string(),
                },
                mounts,
                manifests: Mutex::default(),
                unlisted: Mutex::default(),
            }),
        })
    }

    /// The registry, `host` or `host:port`.
    pub fn registry(&self) -> &str {
        &self.inner.registry
    }

    /// The repository's name on it.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// What a name stands for: asked for once, and by its digest from then on.
    /// None where the registry has no such thing.
    pub fn resolve(&self, name: &Reference) -> Result<Option<Descriptor>, RemoteError> {
        let asked = match (name.digest(), name.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.to_string(),
            (None, None) => "latest".to_string(),
        };
        let Some(bytes) = self.manifest(&asked)? else {
            return Ok(None);
        };
        let digest = match name.digest() {
            Some(digest) if digest.matches(&bytes) => *digest,
            Some(digest) => {
                return Err(RemoteError::Protocol {
                    what: format!("another manifest than {digest}: {}", Digest::of(&bytes)),
                });
            }
            None => Digest::of(&bytes),
        };
        let size = bytes.len() as u64;
        self.inner.manifests().insert(digest, bytes);
        Ok(Some(Descriptor::new(media_type::IMAGE_MANIFEST, digest, size)))
    }

    /// A manifest's bytes, checked for type and length and for the digest that
    /// the registry itself states.
    fn manifest(&self, asked: &str) -> Result<Option<Vec<u8>>, RemoteError> {
        let ask = self
            .inner
            .ask(Method::GET, &format!("manifests/{asked}"), format!("manifest {asked}"));
        let ask = ask.accepting(&[media_type::IMAGE_MANIFEST, media_type::IMAGE_INDEX]);
        let Whole { headers, bytes } = match self.inner.client.whole(&ask, limits::MANIFEST_BYTES)? {
            Ok(whole) => whole,
            Err(response) if response.status() == 404 => return Ok(None),
            Err(response) => return Err(self.inner.client.failure(&ask, response)),
        };
        let text = |name| {
            let value = headers.get(name).and_then(|v| v.to_str().ok());
            value.map(str::to_string)
        };
        let kind = text(header::CONTENT_TYPE.as_str()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let stated = text("docker-content-digest").and_then(|d| d.parse::<Digest>().ok());
        if kind != media_type::IMAGE_MANIFEST {
            let what = match kind.as_str() {
                media_type::IMAGE_INDEX => format!("an index for {asked}: expected an image manifest"),
                kind => format!(
                    "{asked} as {}: expected {}",
                    qyvol_types::escape(kind),
                    media_type::IMAGE_MANIFEST
                ),
            };
            return Err(RemoteError::Protocol { what });
        }
        if let Some(stated) = stated
            && !stated.matches(&bytes)
        {
            return Err(RemoteError::Protocol {
                what: format!("a manifest of digest {} and called it {stated}", Digest::of(&bytes)),
            });
        }
        Ok(Some(bytes))
    }

    /// Gives a pushed manifest a tag.
    pub fn tag(&self, tag: &str, manifest: &ImageManifest) -> Result<(), RemoteError> {
        self.put_manifest(tag, media_type::IMAGE_MANIFEST, manifest.raw())?;
        Ok(())
    }

    /// Puts a manifest; whether the registry noted it as its subject's
    /// referrer.
    pub(crate) fn put_manifest(&self, reference: &str, kind: &str, bytes: &[u8]) -> Result<bool, RemoteError> {
        let path = format!("manifests/{reference}");
        let mut ask = self
            .inner
            .ask(Method::PUT, &path, format!("writing manifest {reference}"));
        ask.headers.push(("content-type", kind.to_string()));
        let response = self.inner.client.send(&ask, Some(bytes))?;
        if !matches!(response.status().as_u16(), 200 | 201) {
            return Err(self.inner.client.failure(&ask, response));
        }
        let header = |name| response.headers().get(name).and_then(|v| v.to_str().ok());
        if let Some(stated) = header("docker-content-digest").and_then(|d| d.parse::<Digest>().ok())
            && !stated.matches(bytes)
        {
            return Err(RemoteError::Protocol {
                what: format!("the digest {stated} for a manifest of {}", Digest::of(bytes)),
            });
        }
        let noted = header("oci-subject").is_some();
        let _ = self.inner.client.small(&ask, response, TAGS_BYTES);
        Ok(noted)
    }

    /// Every tag, in the registry's order.
    pub fn tags(&self) -> Result<Vec<String>, RemoteError> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let mut tags = Vec::new();
        let mut ask = self
            .inner
            .ask(Method::GET, "tags/list?n=1000", format!("the tags of {}", self.name()));
        for _ in 0..PAGES {
            let Whole { headers, bytes } = match self.inner.client.whole(&ask, TAGS_BYTES)? {
                Ok(whole) => whole,
                Err(response) => return Err(self.inner.client.failure(&ask, response)),
            };
            let next = next_page(&ask, &headers)?;
            let page: Page = serde_json::from_slice(&bytes).map_err(|_| RemoteError::Protocol {
                what: "a list of tags that is not one".to_string(),
            })?;
            let page = page.tags.unwrap_or_default();
            let fine = |tag: &String| Reference::local("x", tag).is_ok();
            if let Some(bad) = page.iter().find(|tag| !fine(tag)) {
                return Err(RemoteError::Protocol {
                    what: format!("a tag that can't be one: {}", qyvol_types::escape(bad)),
                });
            }
            let before = tags.len();
            tags.extend(page);
            match next {
                Some(url) if tags.len() > before && tags.len() <= TAGS => ask.url = url,
                Some(_) => {
                    return Err(RemoteError::Protocol {
                        what: format!("a list of tags without an end, after {} of them", tags.len()),
                    });
                }
                None => return Ok(tags),
            }
        }
        Err(RemoteError::Protocol {
            what: format!("more than {PAGES} pages of tags"),
        })
    }

    /// Removes what a name stands for: a tag, whose manifest stays for other
    /// tags, or a manifest by its digest, with all of its tags. False where
    /// there was none.
    pub fn remove(&self, name: &Reference) -> Result<bool, RemoteError> {
        let (path, what) = match (name.digest(), name.tag().unwrap_or("latest")) {
            (Some(digest), _) => (format!("manifests/{digest}"), format!("removing {digest}")),
            (None, tag) => (format!("manifests/{tag}"), format!("removing tag {tag}")),
        };
        let ask = self.inner.ask(Method::DELETE, &path, what);
        let response = self.inner.client.send(&ask, None)?;
        match response.status().as_u16() {
            200 | 202 | 204 => Ok(true),
            404 => Ok(false),
            _ => Err(self.inner.client.failure(&ask, response)),
        }
    }
}

/// Asks a registry for nothing but whether it takes the client's credentials;
/// one that lets everybody in is shown them all the same.
pub fn ping(client: &Arc<Client>, registry: &str) -> Result<(), RemoteError> {
    let url = Url::new(client.options().is_secure(registry), registry, "/v2/");
    let home = Home {
        url: url.clone(),
        scope: String::new(),
        repository: String::new(),
    };
    let ask = Ask {
        method: Method::GET,
        url,
        headers: Vec::new(),
        home: &home,
        what: "its API".to_string(),
    };
    loop {
        let response = client.send(&ask, None)?;
        if response.status() != 200 {
            return Err(client.failure(&ask, response));
        }
        if !client.volunteer(&home)? {
            return Ok(());
        }
    }
}

/// The address in `Link: <…>; rel="next"` (RFC 8288), which must stay on the
/// registry.
pub(crate) fn next_page(ask: &Ask<'_>, headers: &ureq::http::HeaderMap) -> Result<Option<Url>, RemoteError> {
    let fields = headers.get_all(header::LINK).iter().filter_map(|v| v.to_str().ok());
    // An address has no `<` in it: each begins a link.
    let mut links = fields.flat_map(|field| field.split('<').filter_map(|link| link.split_once('>')));
    let Some((target, _)) = links.find(|(_, params)| {
        let params = params.replace(' ', "").to_ascii_lowercase();
        params.contains("rel=\"next\"") || params.contains("rel=next")
    }) else {
        return Ok(None);
    };
    let url = ask.url.join(target)?;
    if !url.same_origin(&ask.url) {
        return Err(RemoteError::Protocol {
            what: format!("a next page on another host, {}", url.authority()),
        });
    }
    Ok(Some(url))
}

impl Inner {
    /// A request about this repository.
    pub(crate) fn ask(&self, method: Method, path: &str, what: String) -> Ask<'_> {
        let home = &self.home;
        let path = format!("/v2/{}/{path}", self.name);
        Ask {
            method,
            url: Url::new(home.url.is_secure(), home.url.authority(), &path),
            headers: Vec::new(),
            home,
            what,
        }
    }

    fn manifests(&self) -> MutexGuard<'_, HashMap<Digest, Vec<u8>>> {
        self.manifests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn unlisted(&self) -> MutexGuard<'_, BTreeMap<Digest, Vec<Descriptor>>> {
        self.unlisted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another repository that has the blob.
    pub(crate) fn mount(&self, digest: &Digest) -> Option<&str> {
        self.mounts
            .get(digest)
            .map(String::as_str)
            .filter(|from| *from != self.name)
    }
}

impl Ask<'_> {
    pub(crate) fn accepting(mut self, kinds: &[&str]) -> Self {
        self.headers.push(("accept", kinds.join(", ")));
        self
    }
}

impl Fetch for Repository {
    fn fetch_unverified(&self, d: &Descriptor) -> Result<Body, StoreError> {
        if d.media_type != media_type::IMAGE_MANIFEST {
            return Ok(Box::new(Download::new(&self.inner, d, 0)));
        }
        if let Some(bytes) = self.inner.manifests().get(&d.digest) {
            return Ok(Box::new(Cursor::new(bytes.clone())));
        }
        let found = self.manifest(&d.digest.to_string()).map_err(|error| match error {
            RemoteError::Protocol { what } => StoreError::Mismatch {
                digest: d.digest,
                what: format!("the registry sent {what}"),
            },
            error => error.store(format!("read manifest {}", d.digest)),
        })?;
        match found {
            Some(bytes) => Ok(Box::new(Cursor::new(bytes))),
            None => Err(StoreError::NotFound { digest: d.digest }),
        }
    }

    fn fetch_unverified_from(&self, d: &Descriptor, at: u64) -> Result<Body, StoreError> {
        Ok(Box::new(Download::new(&self.inner, d, at)))
    }
}

impl Exists for Repository {
    fn exists(&self, d: &Descriptor) -> Result<bool, StoreError> {
        let kind = if d.media_type == media_type::IMAGE_MANIFEST {
            "manifests"
        } else {
            "blobs"
        };
        let path = format!("{kind}/{}", d.digest);
        let ask = self
            .inner
            .ask(Method::HEAD, &path, format!("whether it has {}", d.digest.short()))
            .accepting(&[if kind == "manifests" {
                media_type::IMAGE_MANIFEST
            } else {
                "*/*"
            }]);
        let action = || format!("ask for {}", d.digest);
        let response = self
            .inner
            .client
            .follow(ask, &mut Tries::new(&self.inner.client))
            .map_err(|e| e.store(action()))?;
        match response.status().as_u16() {
            200 => {
                let length = response.headers().get(header::CONTENT_LENGTH);
                let length = length.and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
                Ok(length.is_none_or(|length| length == d.size))
            }
            404 => Ok(false),
            _ => {
                let ask = self
                    .inner
                    .ask(Method::HEAD, &path, format!("whether it has {}", d.digest.short()));
                Err(self.inner.client.failure(&ask, response).store(action()))
            }
        }
    }

    fn has_manifest(&self, manifest: &ImageManifest) -> Result<bool, StoreError> {
        // Without the referrers API the list of referrers is ours to keep.
        if let Some(subject) = manifest.subject()
            && !self.lists_referrers(&subject.digest)?
        {
            return Ok(false);
        }
        self.exists(&manifest.descriptor())
    }
}

impl Push for Repository {
    fn push(&self, d: &Descriptor, body: &mut dyn Read) -> Result<(), StoreError> {
        if d.media_type == media_type::IMAGE_MANIFEST {
            return self.push_manifest(d, body);
        }
        Upload::new(&self.inner, d).once(body)
    }

    fn push_from(&self, d: &Descriptor, open: &Open<'_>) -> Result<(), StoreError> {
        if d.media_type == media_type::IMAGE_MANIFEST {
            return self.push_manifest(d, &mut open(0)?);
        }
        Upload::new(&self.inner, d).run(open)
    }
}

impl Repository {
    fn push_manifest(&self, d: &Descriptor, body: &mut dyn Read) -> Result<(), StoreError> {
        if d.size > limits::MANIFEST_BYTES {
            return Err(StoreError::TooLarge {
                digest: d.digest,
                size: d.size,
                limit: limits::MANIFEST_BYTES,
            });
        }
        let mut bytes = Vec::new();
        qyvol_store::VerifyReader::new(body, d)
            .read_to_end(&mut bytes)
            .map_err(|e| {
                StoreError::from_io(e).unwrap_or_else(|source| StoreError::Read {
                    digest: d.digest,
                    source,
                })
            })?;
        let manifest = ImageManifest::parse(bytes).map_err(|source| StoreError::Manifest {
            digest: d.digest,
            source,
        })?;
        let noted = self
            .put_manifest(&d.digest.to_string(), &d.media_type, manifest.raw())
            .map_err(|e| e.store(format!("write manifest {}", d.digest)))?;
        if let Some(subject) = manifest.subject() {
            if noted {
                self.inner.client.learn_referrers(&self.inner.registry, true);
            } else {
                let mut unlisted = self.inner.unlisted();
                unlisted.entry(subject.digest).or_default().push(manifest.descriptor());
            }
        }
        Ok(())
    }
}

impl Referrers for Repository {
    fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, StoreError> {
        self.list_referrers(subject)
            .map_err(|e| e.store(format!("list the referrers of {subject}")))
    }
}
