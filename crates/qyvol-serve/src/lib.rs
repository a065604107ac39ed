//! An HTTP/1.1 server in front of a [`Service`].
//!
//! Every resource that a client can take is bounded: connections, requests at once, the
//! time that one waits for its turn, heads, bodies, and how long a client keeps the
//! server waiting. What the server itself answers says nothing of the host or the guest.
//!
//! It ends gracefully. Connections that wait to be accepted still are, each request that
//! arrives in time is answered, and each answer closes its connection.
//!
//! Deliberately absent: TLS, HTTP/2, and names of hosts.

mod connection;
mod stalled;

use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use qyvol_runtime::{Service, ServiceError, flush_printed};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// After an error of `accept`, such as too many open files.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
/// Threads for what guests do to files, and for lookups of names.
const BLOCKING_THREADS: usize = 256;
/// How long the end waits for guests that were cut off to be dropped.
const DROP_GRACE: Duration = Duration::from_secs(1);

/// Limits of a server.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Requests that are answered at once. Further ones wait for a moment, and are then
    /// refused with 503.
    pub requests: usize,
    /// Connections that are open at once. Further ones wait to be accepted.
    pub connections: usize,
    /// Bytes of a request's body. A larger one is refused with 413 where its length is
    /// announced.
    pub body: usize,
    /// How long the end waits for requests.
    pub grace: Duration,
}

/// What a server reports.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServerEvent<'a> {
    /// A guest did not answer its request, or not to its end.
    Failed(&'a ServiceError),
    /// No connection could be accepted.
    NotAccepted(&'a io::Error),
    /// The grace of the end was not enough for this many requests and connections.
    CutOff(usize),
}

/// Receives events, on any thread.
pub type EventSink = Arc<dyn Fn(&ServerEvent<'_>) + Send + Sync>;

/// Tells a server to end. Clones tell the same one.
#[derive(Clone, Debug)]
pub struct Stop {
    told: watch::Sender<bool>,
}

impl Default for Stop {
    fn default() -> Stop {
        Stop {
            told: watch::Sender::new(false),
        }
    }
}

impl Stop {
    /// Begins the end.
    pub fn begin(&self) {
        self.told.send_replace(true);
    }

    pub(crate) fn has_begun(&self) -> bool {
        *self.told.borrow()
    }

    /// Waits for the end to begin.
    pub(crate) async fn begun(&self) {
        // The sender lives as long as this does.
        let _ = self.told.subscribe().wait_for(|begun| *begun).await;
    }
}

/// What the connections share.
struct Server {
    service: Service,
    limits: ServerLimits,
    requests: Arc<Semaphore>,
    stop: Stop,
    sink: EventSink,
}

/// Serves until `stop` is told to begin, then until everything that was accepted has been
/// answered, or the grace is over.
///
/// # Errors
///
/// If the threads can't be started or the listener can't be used.
pub fn serve(
    service: Service,
    listener: TcpListener,
    limits: ServerLimits,
    stop: Stop,
    sink: EventSink,
) -> io::Result<()> {
    let runtime = Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()?;
    listener.set_nonblocking(true)?;
    let server = Arc::new(Server {
        service,
        limits,
        requests: Arc::new(Semaphore::new(limits.requests)),
        stop,
        sink,
    });
    let ended = runtime.block_on(server.run(listener));
    runtime.shutdown_timeout(DROP_GRACE);
    flush_printed(DROP_GRACE);
    ended
}

impl Server {
    async fn run(self: Arc<Server>, listener: TcpListener) -> io::Result<()> {
        let address = listener.local_addr()?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let seats = Arc::new(Semaphore::new(self.limits.connections));
        let mut connections = JoinSet::new();
        let begin = |connections: &mut JoinSet<()>, stream: TcpStream, seat| {
            let server = Arc::clone(&self);
            connections.spawn(async move {
                server.connection(stream, address).await;
                drop(seat);
            });
        };
        loop {
            while connections.try_join_next().is_some() {}
            let accepted = tokio::select! {
                biased;
                () = self.stop.begun() => break,
                accepted = async {
                    let seat = Arc::clone(&seats).acquire_owned().await;
                    (seat, listener.accept().await)
                } => accepted,
            };
            match accepted {
                (Ok(seat), Ok((stream, _))) => begin(&mut connections, stream, seat),
                // That one client left before it was served.
                (_, Err(error)) if error.kind() == ErrorKind::ConnectionAborted => {}
                (_, Err(error)) => {
                    (self.sink)(&ServerEvent::NotAccepted(&error));
                    sleep(ACCEPT_BACKOFF).await;
                }
                (Err(_), Ok(_)) => break,
            }
        }
        // Clients that the system has let in already.
        let listener = listener.into_std()?;
        while let Ok(seat) = Arc::clone(&seats).try_acquire_owned()
            && let Ok((stream, _)) = listener.accept()
        {
            stream.set_nonblocking(true)?;
            begin(&mut connections, TcpStream::from_std(stream)?, seat);
        }
        drop(listener);
        self.drain(connections).await;
        Ok(())
    }

    /// Waits for connections, and for guests that go on after their responses.
    async fn drain(&self, mut connections: JoinSet<()>) {
        let all = u32::try_from(self.limits.requests).unwrap_or(u32::MAX);
        let drained = async {
            while connections.join_next().await.is_some() {}
            // It is never closed.
            let _all = self.requests.acquire_many(all).await;
        };
        if timeout(self.limits.grace, drained).await.is_err() {
            let guests = self.limits.requests - self.requests.available_permits();
            (self.sink)(&ServerEvent::CutOff(guests.max(connections.len())));
        }
    }
}
