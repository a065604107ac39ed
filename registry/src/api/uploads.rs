//! Uploads of blobs: in one request, in two, or in chunks.
//!
//! A small body is kept in memory and becomes a file only once, under its digest; a larger one
//! is written to the upload's file batch by batch while the next batch is received. Chunks must
//! come in order: a chunk out of order is refused and changes nothing. When a connection
//! breaks, the bytes received so far stay, and the upload can be resumed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{self, HeaderName};
use qyvol_types::{Algorithm, Digest};
use tokio::sync::OwnedMutexGuard;

use super::body::{Body, IncomingBody};
use super::{ApiResult, CONTENT_DIGEST, RequestContext, blocking, parse_digest, respond};
use crate::access::Action;
use crate::error::{ApiError, Code};
use crate::names::Name;
use crate::quotas::Owner;
use crate::storage::{BlobSource, Upload};

/// A body whose stated length is no more than this is never written to an upload's file.
const MAX_IN_MEMORY: u64 = 512 << 10;
/// Bytes written at once, unless memory is short; one batch is received while
/// one is written.
const BATCH: usize = 512 << 10;
/// How long a request waits for another that writes to the same upload.
const UPLOAD_LOCK_TIMEOUT: Duration = Duration::from_secs(10);

const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

type UploadGuard = Arc<OwnedMutexGuard<()>>;

/// `<start>-<end>`, both inclusive, with or without a unit before it.
fn content_range(text: &str) -> Option<(u64, u64)> {
    let text = text
        .strip_prefix("bytes=")
        .or_else(|| text.strip_prefix("bytes "))
        .unwrap_or(text);
    let text = text.split('/').next().unwrap_or(text);
    let (start, end) = text.split_once('-')?;
    let number = |text: &str| -> Option<u64> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten()
    };
    let (start, end) = (number(start)?, number(end)?);
    (start <= end && end < u64::MAX).then_some((start, end))
}

fn location(name: &Name, upload: &Upload) -> String {
    format!("/v2/{name}/blobs/uploads/{}", upload.id)
}

/// The bytes received, as both ends of a range. The specification has no form for an empty
/// range; like other registries, this sends `0-0`.
fn range(upload: &Upload) -> String {
    format!("0-{}", upload.offset().saturating_sub(1))
}

fn progress(status: StatusCode, name: &Name, upload: &Upload) -> ApiResult {
    respond(
        status,
        &[
            (header::LOCATION, &location(name, upload)),
            (header::RANGE, &range(upload)),
            (UPLOAD_ID, &upload.id),
        ],
        Body::empty(),
    )
}

fn created(name: &Name, digest: &Digest) -> ApiResult {
    let digest = digest.to_string();
    respond(
        StatusCode::CREATED,
        &[
            (header::LOCATION, &format!("/v2/{name}/blobs/{digest}")),
            (CONTENT_DIGEST, &digest),
        ],
        Body::empty(),
    )
}

fn wrong_digest(stated: &Digest) -> ApiError {
    ApiError::new(Code::DigestInvalid, "the content does not have the digest stated").detail(stated)
}

fn unknown() -> ApiError {
    ApiError::new(Code::BlobUploadUnknown, "no such upload in this repository")
}

impl RequestContext<'_> {
    pub(super) async fn start_upload(&self, name: &Name, inflow: &mut IncomingBody) -> ApiResult {
        let mount = self.query.get("mount").and_then(|digest| parse_digest(digest).ok());
        let from = mount.and_then(|_| self.query.get("from"));
        let source = from.and_then(Name::parse);
        let readable = match &source {
            Some(source) => {
                let (to, from) = (name.as_str(), source.as_str());
                self.hub.gate.check_mount(&self.caller, to, from, &self.origin)?
            }
            None => {
                self.check(name, Action::Write)?;
                from.is_none()
            }
        };
        // If it can't be mounted, an ordinary upload starts.
        if let Some(digest) = mount.filter(|_| readable)
            && self.mount(name, source, digest).await?
        {
            return created(name, &digest);
        }
        if let Some(digest) = self.query.get("digest") {
            let digest = parse_digest(digest)?;
            self.monolithic(name, digest, inflow).await?;
            return created(name, &digest);
        }
        let algorithm = match self.query.get("digest-algorithm") {
            None | Some("sha256") => Algorithm::Sha256,
            Some("sha512") => Algorithm::Sha512,
            Some(_) => return Err(ApiError::new(Code::DigestInvalid, "unknown digest algorithm")),
        };
        let upload = self.open_upload(name, algorithm)?;
        progress(StatusCode::ACCEPTED, name, &upload)
    }

    fn open_upload(&self, name: &Name, algorithm: Algorithm) -> Result<Arc<Upload>, ApiError> {
        let id = self.hub.gate.random_id()?;
        let refused = |message| ApiError::new(Code::TooManyRequests, message).header(header::RETRY_AFTER, "60");
        let owner = match self.caller.user() {
            Some(user) => Owner::User(user.to_string()),
            None => Owner::Peer(self.client),
        };
        let share = self.hub.uploads.take(owner);
        let share = share.ok_or_else(|| refused("you have too many uploads open"))?;
        let store = &self.hub.store;
        let started = store.uploads.start(name, id, algorithm, store.now(), Some(share));
        started.ok_or_else(|| refused("too many uploads are open"))
    }

    /// Mounts a blob of `source` into `name`; without a source, of any repository that the
    /// caller may read. False if none has the blob.
    async fn mount(&self, name: &Name, source: Option<Name>, digest: Digest) -> Result<bool, ApiError> {
        let store = self.hub.store.clone();
        let sources = match source {
            Some(source) => store.repository(&source).into_iter().collect(),
            None => {
                let store = store.clone();
                let mut all = blocking(move || store.holders(&digest)).await??;
                let gate = &self.hub.gate;
                all.retain(|one| gate.may(&self.caller, one.name.as_str(), Action::Read));
                all
            }
        };
        let name = name.clone();
        blocking(move || {
            for source in sources {
                if store.mount(&name, &source, &digest)? {
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .await?
    }

    /// A whole blob in one body.
    async fn monolithic(&self, name: &Name, digest: Digest, inflow: &mut IncomingBody) -> Result<(), ApiError> {
        if inflow.stated().is_some_and(|stated| stated <= MAX_IN_MEMORY) {
            let bytes = inflow.collect(MAX_IN_MEMORY).await?;
            return self.store_bytes(name, digest, bytes).await;
        }
        let upload = self.open_upload(name, digest.algorithm())?;
        let lock_upload = self.lock_upload(&upload).await?;
        match self.receive(&upload, &lock_upload, inflow, None).await {
            Ok(()) => self.close(name, &upload, &lock_upload, digest).await,
            Err(error) => {
                // Its location was never returned.
                self.discard(&upload).await?;
                Err(error)
            }
        }
    }

    async fn store_bytes(&self, name: &Name, digest: Digest, bytes: Bytes) -> Result<(), ApiError> {
        let store = self.hub.store.clone();
        let name = name.clone();
        blocking(move || {
            if !digest.matches(&bytes) {
                return Err(wrong_digest(&digest));
            }
            Ok(store.put_blob(&name, &digest, &BlobSource::Bytes(&bytes))?)
        })
        .await?
    }

    fn find(&self, name: &Name, id: &str) -> Result<Arc<Upload>, ApiError> {
        let store = &self.hub.store;
        store.uploads.get(name, id, store.now()).ok_or_else(unknown)
    }

    /// Locks an upload for writing to it or ending it.
    async fn lock_upload(&self, upload: &Arc<Upload>) -> Result<UploadGuard, ApiError> {
        match tokio::time::timeout(UPLOAD_LOCK_TIMEOUT, upload.busy.clone().lock_owned()).await {
            // The previous holder may have ended it.
            Ok(_) if upload.is_closed() => Err(unknown()),
            Ok(guard) => Ok(Arc::new(guard)),
            Err(_) => Err(ApiError::new(
                Code::TooManyRequests,
                "another request writes to this upload",
            )),
        }
    }

    async fn discard(&self, upload: &Arc<Upload>) -> Result<bool, ApiError> {
        let (store, upload) = (self.hub.store.clone(), upload.clone());
        Ok(blocking(move || store.uploads.discard(&upload)).await??)
    }

    pub(super) fn upload_status(&self, name: &Name, id: &str) -> ApiResult {
        self.check(name, Action::Write)?;
        let upload = self.find(name, id)?;
        progress(StatusCode::NO_CONTENT, name, &upload)
    }

    pub(super) async fn cancel_upload(&self, name: &Name, id: &str) -> ApiResult {
        self.check(name, Action::Write)?;
        let upload = self.find(name, id)?;
        let _turn = self.lock_upload(&upload).await?;
        match self.discard(&upload).await? {
            true => respond(StatusCode::NO_CONTENT, &[], Body::empty()),
            false => Err(unknown()),
        }
    }

    /// How many bytes a chunk may have, by its headers; refuses a chunk that doesn't continue
    /// what was received.
    fn chunk(&self, name: &Name, upload: &Upload, inflow: &IncomingBody) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.headers.get(header::CONTENT_RANGE) else {
            return Ok(None);
        };
        let refused = |message| {
            ApiError::new(Code::BlobUploadInvalid, message)
                .status(StatusCode::RANGE_NOT_SATISFIABLE)
                .header(header::LOCATION, &location(name, upload))
                .header(header::RANGE, &range(upload))
                .header(UPLOAD_ID, &upload.id)
        };
        let parsed = value.to_str().ok().and_then(content_range);
        let (start, end) = parsed.ok_or_else(|| refused("Content-Range is not `<start>-<end>`"))?;
        if start != upload.offset() {
            return Err(refused("the chunk does not follow what was received"));
        }
        let length = end - start + 1;
        if inflow.stated().is_some_and(|stated| stated != length) {
            return Err(ApiError::new(
                Code::SizeInvalid,
                "Content-Range and Content-Length do not agree",
            ));
        }
        Ok(Some(length))
    }

    pub(super) async fn upload_chunk(&self, name: &Name, id: &str, inflow: &mut IncomingBody) -> ApiResult {
        self.check(name, Action::Write)?;
        let upload = self.find(name, id)?;
        let lock_upload = self.lock_upload(&upload).await?;
        let length = self.chunk(name, &upload, inflow)?;
        self.receive(&upload, &lock_upload, inflow, length).await?;
        progress(StatusCode::ACCEPTED, name, &upload)
    }

    pub(super) async fn finish_upload(&self, name: &Name, id: &str, inflow: &mut IncomingBody) -> ApiResult {
        self.check(name, Action::Write)?;
        let upload = self.find(name, id)?;
        let digest = self
            .query
            .get("digest")
            .ok_or_else(|| ApiError::new(Code::DigestInvalid, "the parameter `digest` is missing"))?;
        let digest = parse_digest(digest)?;
        let lock_upload = self.lock_upload(&upload).await?;
        let length = self.chunk(name, &upload, inflow)?;
        if upload.offset() == 0 && inflow.stated().is_some_and(|stated| stated <= MAX_IN_MEMORY) {
            let bytes = inflow.collect(MAX_IN_MEMORY).await?;
            let stored = self.store_bytes(name, digest, bytes).await;
            self.hub.store.uploads.forget(&upload);
            stored?;
            return created(name, &digest);
        }
        self.receive(&upload, &lock_upload, inflow, length).await?;
        self.close(name, &upload, &lock_upload, digest).await?;
        created(name, &digest)
    }

    async fn close(
        &self,
        name: &Name,
        upload: &Arc<Upload>,
        lock_upload: &UploadGuard,
        digest: Digest,
    ) -> Result<(), ApiError> {
        let (store, name, upload, lock_upload) = (
            self.hub.store.clone(),
            name.clone(),
            upload.clone(),
            lock_upload.clone(),
        );
        let finished = blocking(move || {
            let _turn = lock_upload;
            store.finish_upload(&name, &upload, &digest)
        });
        match finished.await?? {
            true => Ok(()),
            false => Err(wrong_digest(&digest)),
        }
    }

    /// Adds the body to the upload. However it ends, written bytes are counted and hashed.
    async fn receive(
        &self,
        upload: &Arc<Upload>,
        lock_upload: &UploadGuard,
        inflow: &mut IncomingBody,
        length: Option<u64>,
    ) -> Result<(), ApiError> {
        let limit = self.hub.limits.blob_bytes;
        let room = limit.saturating_sub(upload.offset());
        let too_large = || {
            ApiError::new(Code::SizeInvalid, "the blob is larger than this registry accepts")
                .status(StatusCode::PAYLOAD_TOO_LARGE)
                .detail(format_args!("at most {limit} bytes"))
        };
        if inflow.stated().or(length).is_some_and(|length| length > room) {
            return Err(too_large());
        }
        let most = self.exchange.transfer(2, BATCH)?;
        let before = inflow.received;
        let mut batch: Vec<Bytes> = Vec::new();
        let mut held = 0;
        let mut writing: Option<tokio::task::JoinHandle<std::io::Result<()>>> = None;
        loop {
            let next = inflow.next().await;
            let over = !matches!(next, Ok(Some(_)));
            let mut failed = None;
            match next {
                Ok(Some(bytes)) => {
                    let received = inflow.received - before;
                    if received > room {
                        failed = Some(too_large());
                    } else if length.is_some_and(|length| received > length) {
                        failed = Some(ApiError::new(
                            Code::SizeInvalid,
                            "the chunk is longer than its Content-Range",
                        ));
                    } else {
                        held += bytes.len();
                        batch.push(bytes);
                    }
                }
                Ok(None) => {}
                Err(error) => failed = Some(error),
            }
            if held >= most || ((over || failed.is_some()) && held > 0) {
                if let Some(writing) = writing.take() {
                    writing.await.map_err(ApiError::internal)??;
                }
                let (store, upload, lock_upload) = (self.hub.store.clone(), upload.clone(), lock_upload.clone());
                let parts = std::mem::take(&mut batch);
                held = 0;
                writing = Some(tokio::task::spawn_blocking(move || {
                    // The write holds it too: if this request is dropped, the next one waits
                    // for the write.
                    let _turn = lock_upload;
                    store.uploads.append(&upload, &parts)
                }));
            }
            if over || failed.is_some() {
                if let Some(writing) = writing.take() {
                    writing.await.map_err(ApiError::internal)??;
                }
                if let Some(error) = failed {
                    return Err(error);
                }
                break;
            }
        }
        if length.is_some_and(|length| inflow.received - before < length) {
            return Err(ApiError::new(
                Code::SizeInvalid,
                "the chunk is shorter than its Content-Range",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_that_overflow_or_run_backwards_are_none() {
        assert_eq!(content_range("0-9"), Some((0, 9)));
        assert_eq!(content_range("bytes 5-5/100"), Some((5, 5)));
        for bad in [
            "",
            "-",
            "5-4",
            "a-b",
            "1",
            "0-18446744073709551615",
            "0-99999999999999999999",
            "+1-2",
            "-1-2",
        ] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }
}
