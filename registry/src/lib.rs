//! QyvolHub: an OCI distribution registry.
//!
//! The API is all of the OCI distribution-spec 1.1: pull, push, content discovery with
//! referrers, and content management. Each repository on disk is an OCI image layout whose
//! blobs are hard links to one shared pool.
//!
//! ```text
//!   request --> access --> API --> repositories --hard links--> pool of blobs
//! ```
//!
//! ```no_run
//! # async fn example() -> Result<(), qyvol_hub::HubError> {
//! use std::time::SystemTime;
//!
//! let config = qyvol_hub::Config::new("127.0.0.1:5000".parse().unwrap(), "data", SystemTime::now);
//! let bound = qyvol_hub::Hub::open(config)?.bind().await?;
//! bound.serve(std::future::pending()).await
//! # }
//! ```
//!
//! Invariants:
//! - what was acknowledged is on disk, and survives a kill at any time;
//! - memory does not grow with the size of transfers, and by only a few hundred bytes for each
//!   open upload;
//! - nothing is read or written for a caller before the caller was checked.
//!
//! Deliberately absent: signatures are stored like any artifact and not judged, because clients
//! verify them; there is no proxying of other registries, and no storage except a local file
//! system with hard links. The crate prints nothing and reads neither the environment nor the
//! clock.

mod access;
mod api;
mod cache;
mod connections;
mod error;
mod fair_queue;
mod front;
mod log;
mod manifest;
mod metrics;
mod names;
mod pages;
mod peer;
mod query;
mod quotas;
mod reload;
mod serve;
mod storage;
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;

pub use access::{AccessControl, Action, Scope, User, Users, hash_password};
pub use cache::Cache;
pub use error::HubError;
pub use front::Network;
pub use log::{Event, Level, LogSink, RequestEvent};
pub use pages::{Catalog, ListedManifest, Page, PageRequest, Pages, Repository};
pub use serve::Bound;
pub use storage::{GcReport, GcSkipped};
pub use tls::Tls;

use access::Authorizer;
use api::Shared;
use connections::Connections;
use fair_queue::FairQueue;
use front::Forwarding;
use metrics::Metrics;
use quotas::Quotas;
use storage::Store;

/// Returns the time. The caller passes it, because libraries here don't read the clock.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// Bounds on what clients may ask for.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a manifest.
    pub manifest_bytes: u64,
    /// Bytes of a blob.
    pub blob_bytes: u64,
    /// Uploads open at once.
    pub uploads: usize,
    /// Those of one user, or of one address where there are no users.
    pub uploads_each: usize,
    /// How long an abandoned upload is kept.
    pub upload_age: Duration,
    /// Connections at once. For a further one, those that have kept the server waiting longest
    /// are closed; if none waits, the new one is closed.
    pub connections: usize,
    /// Bytes of memory for current transfers: an answer takes its size, a download or upload
    /// some blocks.
    pub memory: usize,
    /// Bytes of a request's head.
    pub header_bytes: usize,
    /// How long a client may keep the server waiting: for a request's head, or to send or read
    /// the next 16 KiB of a body.
    pub idle: Duration,
    /// How long requests may continue when the server stops.
    pub shutdown: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            manifest_bytes: 4 << 20,
            blob_bytes: 64 << 30,
            uploads: 10_000,
            uploads_each: 1000,
            upload_age: Duration::from_secs(24 * 3600),
            connections: 4096,
            memory: 128 << 20,
            header_bytes: 64 << 10,
            idle: Duration::from_secs(30),
            shutdown: Duration::from_secs(30),
        }
    }
}

/// Long lists made at once.
const LISTS: usize = 2;
/// Pages made at once.
const PAGES: usize = 2;
/// For a few manifests of any size at once.
const MIN_MEMORY: usize = 16 << 20;

impl Limits {
    /// Reduces the limits to what this number of open files allows: half of them for
    /// connections, a quarter for downloads, the rest for writing.
    pub fn within(mut self, open_files: usize) -> Limits {
        let download = api::MIN_DOWNLOAD;
        self.connections = self.connections.min(open_files / 2).max(1);
        self.memory = self
            .memory
            .min((open_files / 4).saturating_mul(download))
            .max(MIN_MEMORY);
        self
    }
}

/// How a hub is set up.
#[derive(Clone)]
pub struct Config {
    /// The address to listen on; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The directory that holds everything, on a file system with hard links.
    pub data: PathBuf,
    /// A certificate for TLS; none means plain HTTP.
    pub tls: Option<Tls>,
    /// Who may use it.
    pub access: AccessControl,
    /// Bounds.
    pub limits: Limits,
    /// Receives events.
    pub log: LogSink,
    /// Returns the time.
    pub clock: Clock,
    /// `scheme://host[:port]` as clients see it, if it differs from what they send as `Host`.
    /// Challenges use it to send clients to `/token`.
    pub public_url: Option<String>,
    /// Proxies whose `X-Forwarded-For`, `-Proto` and `-Host` are trusted.
    pub proxies: Vec<Network>,
    /// How long a blob is kept that no manifest refers to.
    pub blob_grace: Duration,
    /// How often the running server collects garbage; none for never.
    pub gc_interval: Option<Duration>,
    /// Makes pages for people; none if the hub is for programs alone.
    pub pages: Option<Arc<dyn Pages>>,
}

impl Config {
    /// An open registry with default limits that logs nothing, has no pages and collects
    /// garbage every six hours.
    pub fn new(
        listen: SocketAddr,
        data: impl Into<PathBuf>,
        clock: impl Fn() -> SystemTime + Send + Sync + 'static,
    ) -> Config {
        Config {
            listen,
            data: data.into(),
            tls: None,
            access: AccessControl::Open,
            limits: Limits::default(),
            log: Arc::new(|_| {}),
            clock: Arc::new(clock),
            public_url: None,
            proxies: Vec::new(),
            blob_grace: Duration::from_secs(24 * 3600),
            gc_interval: Some(Duration::from_secs(6 * 3600)),
            pages: None,
        }
    }
}

/// A registry with its storage open. Clones are the same registry.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
    listen: SocketAddr,
    tls: Option<Tls>,
    data: Arc<PathBuf>,
    gc_interval: Option<Duration>,
}

impl Hub {
    /// Opens the storage, or creates it, and cleans up after an earlier process. Blocks while
    /// it reads the index of each repository.
    pub fn open(config: Config) -> Result<Hub, HubError> {
        // Before anything is created on disk.
        let gate = Authorizer::new(config.access.clone(), config.clock.clone())?;
        let store = Arc::new(Store::open(&config)?);
        let uploads = Quotas::new(config.limits.uploads_each);
        let connections = Connections::new(config.limits.connections, config.limits.memory);
        Ok(Hub {
            listen: config.listen,
            tls: config.tls,
            data: Arc::new(config.data),
            gc_interval: config.gc_interval,
            shared: Arc::new(Shared {
                store,
                gate,
                limits: config.limits,
                metrics: Metrics::default(),
                log: config.log,
                clock: config.clock,
                front: Forwarding::new(config.public_url, config.proxies),
                connections,
                uploads,
                lists: FairQueue::new(LISTS),
                pages: config.pages,
                page_turns: FairQueue::new(PAGES),
            }),
        })
    }

    /// Reads the certificate, if there is one, and binds the address.
    pub async fn bind(&self) -> Result<Bound, HubError> {
        let tls = self.tls.as_ref().map(Tls::acceptor).transpose()?.map(Arc::new);
        let listen = |source| HubError::Listen {
            address: self.listen,
            source,
        };
        let listener = TcpListener::bind(self.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        Ok(Bound {
            hub: self.clone(),
            listener,
            address,
            tls,
        })
    }

    /// Removes blobs that no manifest refers to and nobody used within the
    /// grace time, and uploads that have expired. Blocks; the server may run
    /// meanwhile.
    pub fn collect_garbage(&self) -> Result<GcReport, HubError> {
        let failed = |error| HubError::storage("can't collect garbage", self.data.as_ref())(error);
        let store = &self.shared.store;
        let uploads = store.expire_uploads(self.shared.limits.upload_age).map_err(failed)?;
        let mut report = store.collect().map_err(failed)?;
        report.uploads = uploads;
        Ok(report)
    }
}
