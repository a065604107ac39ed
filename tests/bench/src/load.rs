//! Many clients at one registry: small images pulled and pushed over
//! connections that are kept, one request at a time on each.
//!
//! An answer that is not the expected one ends the run as an error: a registry
//! that refuses fast is not a fast one.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use qyvol_types::Digest;

use super::assets::{Random, noise};
use super::http::{Connection, Response, request};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONTENT: &str = "application/octet-stream";

struct Blob {
    digest: String,
    bytes: Vec<u8>,
}

/// A small image of noise, its first blob the config.
pub(super) struct Image {
    repository: String,
    tag: String,
    blobs: Vec<Blob>,
    manifest: String,
}

impl Image {
    /// The same numbers give the same image.
    pub(super) fn new(repository: &str, tag: &str, blobs: usize, seed: u64) -> Image {
        let mut random = Random(seed);
        let blobs = (0..blobs).map(|_| {
            let size = 1024 + random.next() % (63 << 10);
            let mut bytes = Vec::new();
            noise(&mut random, &mut bytes, usize::try_from(size).unwrap_or(1024));
            let digest = Digest::of(&bytes).to_string();
            Blob { digest, bytes }
        });
        let blobs: Vec<Blob> = blobs.collect();
        let listed = |blob: &Blob| {
            format!(
                r#"{{"mediaType":"{CONTENT}","digest":"{}","size":{}}}"#,
                blob.digest,
                blob.bytes.len()
            )
        };
        let config = blobs.first().map_or(String::new(), listed);
        let layers: Vec<String> = blobs.iter().skip(1).map(listed).collect();
        let mut manifest = format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{config},"#);
        let _ = write!(manifest, r#""layers":[{}]}}"#, layers.join(","));
        Image {
            repository: repository.to_string(),
            tag: tag.to_string(),
            blobs,
            manifest,
        }
    }
}

/// What a client does next.
#[derive(Clone, Copy)]
pub(super) enum Work<'a> {
    Pull(&'a Image),
    Push(&'a Image),
}

/// The result of a load.
pub(super) struct LoadResult {
    pub(super) requests: usize,
    pub(super) took: Duration,
    /// Of each request, in order of size.
    pub(super) latencies: Vec<Duration>,
}

/// Does the work in order until the time is up, with this many clients, each taking the next
/// item when it is done.
pub(super) fn run(address: &str, work: &[Work<'_>], clients: usize, time: Duration) -> Result<LoadResult, String> {
    let connections: Result<Vec<Connection>, String> = (0..clients).map(|_| Connection::open(address)).collect();
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    let latencies: Result<Vec<Vec<Duration>>, String> = thread::scope(|scope| {
        let started: Vec<_> = connections?
            .into_iter()
            .map(|connection| {
                let next = &next;
                scope.spawn(move || {
                    let mut client = Client {
                        connection,
                        address,
                        latencies: Vec::new(),
                    };
                    while start.elapsed() < time
                        && let Some(work) = work.get(next.fetch_add(1, Relaxed))
                    {
                        client.work(*work)?;
                    }
                    Ok(client.latencies)
                })
            })
            .collect();
        started
            .into_iter()
            .map(|client| client.join().unwrap_or_else(|_| Err("a client panicked".to_string())))
            .collect()
    });
    let took = start.elapsed();
    let mut latencies = latencies?.concat();
    latencies.sort_unstable();
    Ok(LoadResult {
        requests: latencies.len(),
        took,
        latencies,
    })
}

/// The nearest-rank percentile of sorted times.
pub(super) fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

struct Client<'a> {
    connection: Connection,
    address: &'a str,
    latencies: Vec<Duration>,
}

impl Client<'_> {
    fn work(&mut self, work: Work<'_>) -> Result<(), String> {
        match work {
            Work::Pull(image) => self.pull(image),
            Work::Push(image) => self.push(image),
        }
    }

    fn ask(&mut self, method: &str, path: &str, media_type: &str, body: &[u8], good: u16) -> Result<Response, String> {
        let field = match method {
            "GET" => format!("Accept: {media_type}\r\n"),
            _ => format!("Content-Type: {media_type}\r\n"),
        };
        let request = request(method, self.address, path, &field);
        let start = Instant::now();
        let answer = self.connection.ask(&request, body, 1)?;
        self.latencies.push(start.elapsed());
        if answer.status == good {
            Ok(answer)
        } else {
            Err(format!("{method} {path}: {} where {good} is due", answer.status))
        }
    }

    fn pull(&mut self, image: &Image) -> Result<(), String> {
        let Image { repository, tag, .. } = image;
        let manifest = (format!("manifests/{tag}"), MANIFEST, image.manifest.len());
        let blobs = image.blobs.iter();
        let blobs = blobs.map(|blob| (format!("blobs/{}", blob.digest), CONTENT, blob.bytes.len()));
        for (what, media_type, size) in std::iter::once(manifest).chain(blobs) {
            let answer = self.ask("GET", &format!("/v2/{repository}/{what}"), media_type, &[], 200)?;
            if answer.bytes != size as u64 {
                return Err(format!("{repository}, {what}: {} of {size} bytes", answer.bytes));
            }
        }
        Ok(())
    }

    fn push(&mut self, image: &Image) -> Result<(), String> {
        let Image { repository, tag, .. } = image;
        for blob in &image.blobs {
            let place = self.ask("POST", &format!("/v2/{repository}/blobs/uploads/"), CONTENT, &[], 202)?;
            let path = with_digest(&place.location, &blob.digest);
            self.ask("PUT", &path, CONTENT, &blob.bytes, 201)?;
        }
        let path = format!("/v2/{repository}/manifests/{tag}");
        self.ask("PUT", &path, MANIFEST, image.manifest.as_bytes(), 201)?;
        Ok(())
    }
}

/// The place that ends an upload.
pub(super) fn with_digest(location: &str, digest: &str) -> String {
    let mark = if location.contains('?') { '&' } else { '?' };
    format!("{location}{mark}digest={digest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentile_is_one_of_the_times() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 50), Duration::from_millis(100));
        assert_eq!(percentile(&times, 99), Duration::from_millis(198));
        assert_eq!(percentile(&times, 100), Duration::from_millis(200));
        let few = &times[..3];
        assert_eq!(
            (percentile(few, 50), percentile(few, 99)),
            (Duration::from_millis(2), Duration::from_millis(3))
        );
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }

    #[test]
    fn image_is_the_same_each_time_and_another_for_another_number() {
        let [one, same, other] = [1, 1, 2].map(|seed| Image::new("a", "b", 3, seed));
        assert_eq!(one.manifest, same.manifest);
        assert_ne!(one.manifest, other.manifest);
        for blob in &one.blobs {
            assert!((1 << 10..=64 << 10).contains(&blob.bytes.len()));
            assert!(one.manifest.contains(&blob.digest) && Digest::of(&blob.bytes).to_string() == blob.digest);
        }
    }

    #[test]
    fn digest_joins_the_query_that_is_there() {
        assert_eq!(with_digest("/u/1", "d"), "/u/1?digest=d");
        assert_eq!(with_digest("/u/1?s=2", "d"), "/u/1?s=2&digest=d");
    }
}
