//! The server: accepts and bounds connections, and shuts down gracefully.
//!
//! Maintenance runs in parallel: indexes are written shortly after they change, abandoned
//! uploads are discarded, and garbage is collected if the configuration says how often.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::Hub;
use crate::api::{self, Shared};
use crate::connections::ConnectionGuard;
use crate::error::HubError;
use crate::log::{Event, Level};
use crate::peer::Peer;
use crate::reload::Reloadable;

/// How soon after a change `index.json` is written.
const COMPACT: Duration = Duration::from_secs(2);
/// How often the users file and the certificate files are checked.
const RELOAD: Duration = Duration::from_secs(1);
/// How often uploads are checked.
const EXPIRE: Duration = Duration::from_secs(60);
/// After an error of `accept`, such as too many open files.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
/// Between two lines of the log about such errors.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// How long an idle connection has to close gracefully.
const CLOSE_GRACE: Duration = Duration::from_secs(1);
/// How often a connection that waits for nothing is checked.
const RECHECK_INTERVAL: Duration = Duration::from_secs(60);

/// A hub that has its address and is ready to serve.
pub struct Bound {
    pub(crate) hub: Hub,
    pub(crate) listener: TcpListener,
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<Arc<Reloadable<TlsAcceptor>>>,
}

fn note(hub: &Shared, level: Level, message: String) {
    (hub.log)(&Event {
        time: (hub.clock)(),
        level,
        message,
        request: None,
    });
}

impl Bound {
    /// The address listened on, with the port that was chosen if the
    /// configuration left that open.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` is done, then lets requests that run finish
    /// within the grace time.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), HubError> {
        let shared = self.hub.shared.clone();
        let (stop, stopped) = watch::channel(());
        let server = Arc::new(builder(&shared));
        let upkeep = tokio::spawn(upkeep(self.hub.clone()));
        let reload = tokio::spawn(reload(shared.clone(), self.tls.clone()));
        let collecting = self.hub.gc_interval;
        let collecting = collecting.map(|every| tokio::spawn(collect(self.hub.clone(), every)));
        let mut shutdown = pin!(shutdown);
        if shared.gate.is_open() && !self.address.ip().is_loopback() {
            let message = format!("{} is open to everyone who can reach it", self.address);
            note(&shared, Level::Warning, message);
        }
        let mut complained: Option<Instant> = None;
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = &mut shutdown => break,
            };
            let (stream, remote) = match accepted {
                Ok(accepted) => accepted,
                // That one client left before it was served.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => continue,
                Err(error) => {
                    if complained.is_none_or(|when| when.elapsed() >= LOG_INTERVAL) {
                        complained = Some(Instant::now());
                        note(&shared, Level::Error, format!("can't accept a connection: {error}"));
                    }
                    // Too many open files, most likely: each of these has one.
                    shared.connections.evict_waiting();
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                    continue;
                }
            };
            let Some(seat) = shared.connections.admit(Peer::of(remote.ip())) else {
                shared.metrics.refused.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            let _no_matter = stream.set_nodelay(true);
            let caller = ConnectionTask {
                shared: shared.clone(),
                seat,
                remote,
                secure: self.tls.is_some(),
                stopped: stopped.clone(),
            };
            let (server, tls) = (server.clone(), self.tls.as_ref().map(|tls| tls.current()));
            tokio::spawn(async move {
                let metrics = &caller.shared.clone().metrics;
                metrics.connections.fetch_add(1, Ordering::Relaxed);
                caller.serve(&server, tls, stream).await;
                metrics.connections.fetch_sub(1, Ordering::Relaxed);
            });
        }
        drop((self.listener, stopped));
        let _nobody_left = stop.send(());
        if tokio::time::timeout(shared.limits.shutdown, stop.closed())
            .await
            .is_err()
        {
            note(
                &shared,
                Level::Warning,
                "requests were cut off at the end of the grace period".to_string(),
            );
        }
        upkeep.abort();
        reload.abort();
        if let Some(collecting) = collecting {
            collecting.abort();
        }
        let store = shared.store.clone();
        let compacted = tokio::task::spawn_blocking(move || store.compact(true)).await;
        match compacted {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(HubError::storage("can't write an index", self.hub.data.as_ref())(error)),
            Err(_) => Ok(()),
        }
    }
}

/// hyper without its timers: [`ConnectionTask::serve_http`] bounds everything, also what hyper
/// has no timer for.
fn builder(shared: &Shared) -> auto::Builder<TokioExecutor> {
    let limits = &shared.limits;
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .header_read_timeout(None)
        .max_buf_size(limits.header_bytes.max(8 << 10))
        .half_close(false);
    builder
        .http2()
        .max_concurrent_streams(64)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        // For each stream: bytes that its client has not read yet.
        .max_send_buf_size(64 << 10);
    builder
}

/// One connection and its client.
struct ConnectionTask {
    shared: Arc<Shared>,
    seat: ConnectionGuard,
    remote: SocketAddr,
    secure: bool,
    stopped: watch::Receiver<()>,
}

impl ConnectionTask {
    async fn serve(mut self, server: &auto::Builder<TokioExecutor>, tls: Option<Arc<TlsAcceptor>>, stream: TcpStream) {
        let Some(tls) = tls else {
            return self.serve_http(server, stream).await;
        };
        let connection = self.seat.connection().clone();
        let accepted = tokio::select! {
            accepted = tokio::time::timeout(self.shared.limits.idle, tls.accept(stream)) => accepted,
            () = connection.asked_to_close() => return,
            _ = self.stopped.changed() => return,
        };
        if let Ok(Ok(stream)) = accepted {
            self.serve_http(server, stream).await;
        }
    }

    /// Serves requests until the client leaves, the server shuts down or a timeout expires.
    async fn serve_http<S>(mut self, server: &auto::Builder<TokioExecutor>, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connection = self.seat.connection().clone();
        let idle = self.shared.limits.idle;
        let service = service_fn(|request| {
            let exchange = connection.exchange();
            api::serve(self.shared.clone(), request, self.remote, self.secure, exchange)
        });
        let mut conversation = pin!(server.serve_connection(TokioIo::new(stream), service));
        let mut leaving = false;
        let mut look = pin!(tokio::time::sleep(idle));
        loop {
            tokio::select! {
                // An error is the client's fault: it left, or it doesn't speak HTTP.
                _ended = conversation.as_mut() => return,
                () = connection.asked_to_close() => return,
                _ = self.stopped.changed(), if !leaving => {
                    leaving = true;
                    conversation.as_mut().graceful_shutdown();
                }
                () = look.as_mut() => {
                    let now = tokio::time::Instant::now();
                    match connection.due(idle) {
                        Some(due) if due + CLOSE_GRACE <= now => return,
                        Some(due) if due <= now => {
                            leaving = true;
                            conversation.as_mut().graceful_shutdown();
                            look.as_mut().reset(due + CLOSE_GRACE);
                        }
                        Some(due) => look.as_mut().reset(due),
                        None => look.as_mut().reset(now + idle.min(RECHECK_INTERVAL)),
                    }
                }
            }
        }
    }
}

/// Reloads the users file and the certificate files when they change.
async fn reload(shared: Arc<Shared>, tls: Option<Arc<Reloadable<TlsAcceptor>>>) {
    let mut tick = tokio::time::interval(RELOAD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failed = [None, None];
    loop {
        tick.tick().await;
        let (gate, tls) = (shared.clone(), tls.clone());
        let looked = tokio::task::spawn_blocking(move || {
            [
                ("users", gate.gate.refresh()),
                ("certificate", tls.map_or(Ok(false), |tls| tls.refresh())),
            ]
        });
        let Ok(looked) = looked.await else { continue };
        for ((what, outcome), failed) in looked.into_iter().zip(&mut failed) {
            match outcome {
                Ok(true) => {
                    *failed = None;
                    note(&shared, Level::Info, format!("reloaded the {what} file"));
                }
                Ok(false) => {}
                // A file that can't be read fails each time: logged once.
                Err(error) => {
                    let message = format!(
                        "the {what} file changed but can't be used, the previous version stays in force: {error}"
                    );
                    if failed.as_ref() != Some(&message) {
                        note(&shared, Level::Error, message.clone());
                        *failed = Some(message);
                    }
                }
            }
        }
    }
}

async fn upkeep(hub: Hub) {
    let mut tick = tokio::time::interval(COMPACT);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut expired = Instant::now();
    loop {
        tick.tick().await;
        let shared = hub.shared.clone();
        let store = shared.store.clone();
        let expire = expired.elapsed() >= EXPIRE;
        if expire {
            expired = Instant::now();
        }
        let age = shared.limits.upload_age;
        let done = tokio::task::spawn_blocking(move || {
            store.compact(false)?;
            if expire {
                store.expire_uploads(age)?;
            }
            Ok::<_, std::io::Error>(())
        });
        if let Ok(Err(error)) = done.await {
            note(&shared, Level::Error, format!("upkeep: {error}"));
        }
    }
}

/// Collects garbage at intervals. Separate from the other maintenance, which must not wait for
/// it.
async fn collect(hub: Hub, every: Duration) {
    loop {
        tokio::time::sleep(every.max(COMPACT)).await;
        let shared = &hub.shared;
        let collecting = hub.clone();
        match tokio::task::spawn_blocking(move || collecting.collect_garbage()).await {
            Ok(Ok(report)) => {
                for kept in &report.kept {
                    let message = format!("garbage collection skipped {}: {}", kept.repository, kept.reason);
                    note(shared, Level::Error, message);
                }
                let message = format!("collected {} blobs, {} bytes", report.blobs, report.bytes);
                note(shared, Level::Info, message);
            }
            Ok(Err(error)) => note(shared, Level::Error, format!("collection: {error}")),
            Err(_) => {}
        }
    }
}
