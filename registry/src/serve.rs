//! The server: accepts connections, bounds them, and ends in an orderly way.
//!
//! Beside the connections runs the upkeep: indexes are written a moment after
//! they changed, uploads that nobody continues are discarded, and garbage is
//! collected if the configuration says how often.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::Hub;
use crate::api::{self, Shared};
use crate::error::HubError;
use crate::log::{Event, Level};
use crate::patience::Patient;

/// How soon after a change `index.json` is written.
const COMPACT: Duration = Duration::from_secs(2);
/// How often uploads are looked at.
const EXPIRE: Duration = Duration::from_secs(60);
/// After an error of `accept`, such as too many open files.
const PAUSE: Duration = Duration::from_millis(50);

/// A hub that has its address and is ready to serve.
pub struct Bound {
    pub(crate) hub: Hub,
    pub(crate) listener: TcpListener,
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<TlsAcceptor>,
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
        let limits = shared.limits.clone();
        let graceful = GracefulShutdown::new();
        let permits = Arc::new(Semaphore::new(limits.connections));
        let server = Arc::new(builder(&shared));
        let upkeep = tokio::spawn(upkeep(self.hub.clone()));
        let mut shutdown = pin!(shutdown);
        let secure = self.tls.is_some();
        if shared.gate.is_open() && !self.address.ip().is_loopback() {
            let message = format!("{} is open to everyone who can reach it", self.address);
            note(&shared, Level::Warning, message);
        }
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = &mut shutdown => break,
            };
            let (stream, remote) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    note(&shared, Level::Error, format!("cannot accept a connection: {error}"));
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let Ok(permit) = permits.clone().try_acquire_owned() else {
                shared.metrics.refused.fetch_add(1, Ordering::Relaxed);
                drop(stream);
                continue;
            };
            let _no_matter = stream.set_nodelay(true);
            let (shared, server, tls, watcher) = (shared.clone(), server.clone(), self.tls.clone(), graceful.watcher());
            tokio::spawn(async move {
                let _permit = permit;
                shared.metrics.connections.fetch_add(1, Ordering::Relaxed);
                connection(&shared, &server, tls, stream, remote, secure, watcher).await;
                shared.metrics.connections.fetch_sub(1, Ordering::Relaxed);
            });
        }
        drop(self.listener);
        if tokio::time::timeout(limits.shutdown, graceful.shutdown())
            .await
            .is_err()
        {
            note(
                &shared,
                Level::Warning,
                "requests were cut off at the end of the grace time".to_string(),
            );
        }
        upkeep.abort();
        let store = shared.store.clone();
        let compacted = tokio::task::spawn_blocking(move || store.compact(true)).await;
        match compacted {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(HubError::storage("cannot write an index", self.hub.data.as_ref())(
                error,
            )),
            Err(_) => Ok(()),
        }
    }
}

fn builder(shared: &Shared) -> auto::Builder<TokioExecutor> {
    let limits = &shared.limits;
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_buf_size(limits.header_bytes.max(8 << 10))
        .half_close(false)
        .pipeline_flush(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(64)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .max_send_buf_size(1 << 20)
        .keep_alive_interval(limits.idle)
        .keep_alive_timeout(limits.idle);
    builder
}

async fn connection(
    shared: &Arc<Shared>,
    server: &auto::Builder<TokioExecutor>,
    tls: Option<TlsAcceptor>,
    stream: TcpStream,
    remote: SocketAddr,
    secure: bool,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let stream = Patient::new(stream, shared.limits.idle);
    match tls {
        None => converse(shared, server, stream, remote, secure, watcher).await,
        Some(tls) => {
            if let Ok(Ok(stream)) = tokio::time::timeout(shared.limits.idle, tls.accept(stream)).await {
                converse(shared, server, stream, remote, secure, watcher).await
            }
        }
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    shared: &Arc<Shared>,
    server: &auto::Builder<TokioExecutor>,
    stream: S,
    remote: SocketAddr,
    secure: bool,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let shared = shared.clone();
    let service = service_fn(move |request| api::serve(shared.clone(), request, remote, secure));
    let connection = server.serve_connection(TokioIo::new(stream), service).into_owned();
    // An error is the client's: it left, or spoke something else.
    let _ended = watcher.watch(connection).await;
}

async fn upkeep(hub: Hub) {
    let mut tick = tokio::time::interval(COMPACT);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut expired = Instant::now();
    let mut collected = Instant::now();
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
        if hub.gc_interval.is_some_and(|every| collected.elapsed() >= every) {
            collected = Instant::now();
            let collecting = hub.clone();
            match tokio::task::spawn_blocking(move || collecting.collect_garbage()).await {
                Ok(Ok(report)) => {
                    for kept in &report.kept {
                        let message = format!("nothing of {} is collected: {}", kept.repository, kept.reason);
                        note(&shared, Level::Error, message);
                    }
                    let message = format!("collected {} blobs, {} bytes", report.blobs, report.bytes);
                    note(&shared, Level::Info, message);
                }
                Ok(Err(error)) => note(&shared, Level::Error, format!("collection: {error}")),
                Err(_) => {}
            }
        }
    }
}
