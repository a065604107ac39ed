//! A server of HTTP/1.1 and HTTP/2 in front of a [`Service`].
//!
//! ```text
//!   connection --TLS, framing--> request --route, limits--> Service --> response --> access log
//! ```
//!
//! Every resource that a client can use is bounded: connections, requests at once, the time in
//! the queue, heads, bodies, and how long a client keeps the server waiting. The server's own
//! answers reveal nothing about the host or the guest.
//!
//! It shuts down gracefully. Connections that wait to be accepted still are, each request that
//! arrives in time is answered, and each answer closes its connection.
//!
//! Deliberately absent: files, and names of hosts.

mod activity;
mod admin;
mod app;
mod connection;
mod exchange;
mod expect;
mod framing;
mod metrics;
mod opening;
mod request;
mod route;
mod site;
mod socket;
mod stalled;
mod tls;
mod writes;

use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

pub use qyvol_runtime::Stop;
use qyvol_runtime::{RuntimeError, Service, ServiceError, flush_printed};
use socket2::{SockFilter, SockRef};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

pub use crate::app::{App, Keeper};
pub use crate::exchange::{AccessSink, Answered};
use crate::metrics::{ServerMetrics, SiteMetrics};
use crate::request::Caller;
pub use crate::route::{Route, RouteError, Sites};
pub use crate::site::Site;
pub use crate::tls::{Tls, TlsContents};

/// How long shutdown waits for connections that the kernel is still setting up.
const HANDSHAKES: Duration = Duration::from_millis(250);
/// After an error of `accept`, such as too many open files.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
/// Threads for file operations of guests, and for name lookups.
const BLOCKING_THREADS: usize = 256;
/// How long shutdown waits for guests that were cut off to be dropped.
const DROP_GRACE: Duration = Duration::from_secs(1);

/// Limits of a server.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Connections that are open at once. Further ones wait to be accepted.
    pub connections: usize,
    /// Bytes of a request's body. A larger one is refused with 413 where its length is
    /// announced.
    pub body: usize,
    /// How long shutdown waits for requests.
    pub grace: Duration,
}

/// What a server reports.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServerEvent<'a> {
    /// A guest failed to answer its request completely.
    Failed {
        /// The application's name.
        application: &'a str,
        /// The request's number.
        id: u64,
        /// Why.
        error: &'a ServiceError,
    },
    /// No connection could be accepted.
    NotAccepted(&'a io::Error),
    /// The grace period of shutdown was too short for this many requests and connections.
    CutOff(usize),
}

/// Receives events, on any thread.
pub type EventSink = Arc<dyn Fn(&ServerEvent<'_>) + Send + Sync>;

/// A server that is about to serve.
pub struct Setup {
    /// What answers requests.
    pub sites: Sites,
    /// Where its clients are accepted.
    pub listener: TcpListener,
    /// Its certificate, if it has TLS.
    pub tls: Option<Arc<Tls>>,
    /// Where health and counters are served to its operator.
    pub admin: Option<TcpListener>,
    /// Limits.
    pub limits: ServerLimits,
    /// Asks it to stop.
    pub stop: Stop,
    /// Receives what it reports.
    pub sink: EventSink,
    /// Receives each request.
    pub access: Option<AccessSink>,
}

/// What the connections share.
struct Server {
    sites: Sites,
    tls: Option<Arc<Tls>>,
    limits: ServerLimits,
    stop: Stop,
    sink: EventSink,
    access: Option<AccessSink>,
    metrics: ServerMetrics,
    last_id: AtomicU64,
}

/// Serves until it is asked to stop, then until everything that was accepted has been answered,
/// or the grace period is over.
///
/// # Errors
///
/// If the threads can't be started or a listener can't be used.
pub fn serve(setup: Setup) -> io::Result<()> {
    let runtime = Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()?;
    let Setup {
        sites,
        listener,
        tls,
        admin,
        limits,
        stop,
        sink,
        access,
    } = setup;
    listener.set_nonblocking(true)?;
    let server = Arc::new(Server {
        sites,
        tls,
        limits,
        stop,
        sink,
        access,
        metrics: ServerMetrics::default(),
        last_id: AtomicU64::new(0),
    });
    let ended = runtime.block_on(async {
        if let Some(admin) = admin {
            admin.set_nonblocking(true)?;
            tokio::spawn(Arc::clone(&server).administer(admin));
        }
        server.run(listener).await
    });
    runtime.shutdown_timeout(DROP_GRACE);
    flush_printed(DROP_GRACE);
    ended
}

/// Makes the kernel ignore clients that begin to connect. A connection that is established
/// after the last `accept` would be reset; a client that gets no answer retries, and is then
/// refused.
fn refuse_newcomers(listener: &tokio::net::TcpListener) {
    // The classic BPF (bpf(4), filter.txt of Linux) sees a segment from its TCP header on:
    // byte 13 has the flags, of which SYN is 0x02 and ACK 0x10.
    let filter = [
        SockFilter::new(0x30, 0, 0, 13),
        SockFilter::new(0x54, 0, 0, 0x12),
        SockFilter::new(0x15, 0, 1, 0x02),
        SockFilter::new(0x06, 0, 0, 0),
        SockFilter::new(0x06, 0, 0, u32::MAX),
    ];
    // If that is not permitted, such a client is reset.
    let _ = SockRef::from(listener).attach_filter(&filter);
}

/// Tries one instance of a service, before it gets any request.
///
/// # Errors
///
/// Why there is none.
pub fn try_out(service: &Service) -> Result<(), ServiceError> {
    let host = |e: io::Error| ServiceError::Runtime(RuntimeError::Host(format!("can't start a thread: {e}")));
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.enable_all().worker_threads(1).build().map_err(host)?;
    let tried = runtime.block_on(service.try_out());
    runtime.shutdown_timeout(DROP_GRACE);
    tried
}

impl Server {
    async fn run(self: Arc<Server>, listener: TcpListener) -> io::Result<()> {
        let address = listener.local_addr()?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let seats = Arc::new(Semaphore::new(self.limits.connections));
        let mut connections = JoinSet::new();
        let begin = |connections: &mut JoinSet<()>, stream: TcpStream, peer, seat| {
            let server = Arc::clone(&self);
            let caller = Caller {
                peer,
                address,
                is_secure: server.tls.is_some(),
                proved: None,
            };
            connections.spawn(async move {
                server.metrics.accepted();
                Arc::clone(&server).connection(stream, caller).await;
                server.metrics.connections.down();
                drop(seat);
            });
        };
        let mut closes = Box::pin(async {
            self.stop.begun().await;
            refuse_newcomers(&listener);
            sleep(HANDSHAKES).await;
        });
        loop {
            while connections.try_join_next().is_some() {}
            let accepted = tokio::select! {
                biased;
                () = closes.as_mut() => break,
                accepted = async {
                    let seat = Arc::clone(&seats).acquire_owned().await;
                    (seat, listener.accept().await)
                } => accepted,
            };
            match accepted {
                (Ok(seat), Ok((stream, peer))) => begin(&mut connections, stream, peer, seat),
                // That one client left before it was served.
                (_, Err(error)) if error.kind() == ErrorKind::ConnectionAborted => {}
                (_, Err(error)) => {
                    (self.sink)(&ServerEvent::NotAccepted(&error));
                    sleep(ACCEPT_BACKOFF).await;
                }
                (Err(_), Ok(_)) => break,
            }
        }
        // Connections that the kernel has already established.
        drop(closes);
        let listener = listener.into_std()?;
        while let Ok(seat) = Arc::clone(&seats).try_acquire_owned()
            && let Ok((stream, peer)) = listener.accept()
        {
            stream.set_nonblocking(true)?;
            begin(&mut connections, TcpStream::from_std(stream)?, peer, seat);
        }
        drop(listener);
        self.drain(connections).await;
        Ok(())
    }

    /// The counters of an application, or of the requests that none answers.
    fn metrics_of<'a>(&'a self, site: Option<&'a Site>) -> &'a SiteMetrics {
        site.map_or(&self.metrics.unrouted, |site| &site.metrics)
    }

    /// Waits for connections, and for guests that continue after their responses.
    async fn drain(&self, mut connections: JoinSet<()>) {
        let drained = async {
            while connections.join_next().await.is_some() {}
            for site in self.sites.all() {
                site.emptied().await;
            }
        };
        if timeout(self.limits.grace, drained).await.is_err() {
            let guests: usize = self.sites.all().iter().map(|site| site.guests()).sum();
            (self.sink)(&ServerEvent::CutOff(guests.max(connections.len())));
        }
    }
}
