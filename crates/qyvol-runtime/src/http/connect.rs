//! Connections for a guest's requests: each name and address is checked, and the
//! connection is made to exactly the address that was checked.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper::http::uri::Scheme;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep, timeout};
use tower_service::Service;

use crate::limits::{Place, Places};
use crate::net::{MAX_ANSWERS, Network};

/// Maximum number of connections at once, whether or not a guest's sockets are limited.
/// Further ones wait until one is closed.
const MAX_CONNECTIONS: usize = 128;

/// How long it may take until a connection can be used.
const CONNECT: Duration = Duration::from_secs(60);
/// How long a server may accept none of the data that is sent to it.
const STALL: Duration = Duration::from_secs(120);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why there is no connection.
#[derive(Debug, Error)]
pub(super) enum ConnectError {
    #[error("the guest may not connect to any of its addresses")]
    Prohibited,
    #[error("too many connections are open")]
    Full,
    #[error("it could not be looked up: {0}")]
    Lookup(io::Error),
    #[error("it can't be reached: {0}")]
    Unreachable(io::Error),
    #[error("it took too long")]
    TimedOut,
}

impl ConnectError {
    /// The error that the guest gets.
    pub(super) fn error_code(&self) -> wasmtime_wasi_http::Error {
        use wasmtime_wasi_http::Error;
        match self {
            ConnectError::Prohibited => Error::DestinationIpProhibited,
            ConnectError::Full => Error::ConnectionLimitReached,
            ConnectError::TimedOut => Error::ConnectionTimeout,
            ConnectError::Lookup(_) => Error::DnsError {
                rcode: None,
                info_code: None,
            },
            ConnectError::Unreachable(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
                io::ErrorKind::TimedOut => Error::ConnectionTimeout,
                io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => Error::DestinationIpUnroutable,
                _ => Error::DestinationUnavailable,
            },
        }
    }
}

/// Makes connections.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    network: Network,
    sockets: Places,
    lookups: Places,
    connections: Arc<Semaphore>,
}

impl Connector {
    pub(super) fn new(network: Network, sockets: Places, lookups: Places) -> Connector {
        Connector {
            network,
            sockets,
            lookups,
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        }
    }

    /// Whether an idle connection could keep a guest from opening a socket of its own.
    pub(super) fn is_limited(&self) -> bool {
        self.sockets.is_limited()
    }

    pub(super) fn network(&self) -> &Network {
        &self.network
    }

    async fn connect(self, uri: Uri) -> Result<Tcp, ConnectError> {
        let connection = Arc::clone(&self.connections)
            .acquire_owned()
            .await
            .map_err(|_| ConnectError::Full)?;
        let socket = self.sockets.take().ok_or(ConnectError::Full)?;
        let host = host(&uri);
        let answers = self.look_up(host, port(&uri)).await?;
        let mut failed = ConnectError::Prohibited;
        for address in answers.into_iter().take(MAX_ANSWERS) {
            if !self.network.accepts_answer(host, address.ip()) || !self.network.allows_connection(address) {
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    // Requests are written in one piece, so waiting gains nothing.
                    stream.set_nodelay(true).map_err(ConnectError::Unreachable)?;
                    return Ok(Tcp {
                        stream: TokioIo::new(stream),
                        stalled: None,
                        _places: (socket, connection),
                    });
                }
                Err(error) => failed = ConnectError::Unreachable(error),
            }
        }
        Err(failed)
    }

    /// Asks the system for the addresses of a host. If the request is cancelled, the lookup
    /// still runs, and frees its place when it is done.
    async fn look_up(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
        let busy = || ConnectError::Lookup(io::ErrorKind::WouldBlock.into());
        let place = self.lookups.take().ok_or_else(busy)?;
        let host = host.to_string();
        let lookup = tokio::spawn(async move {
            let answers = lookup_host((host, port)).await.map(Iterator::collect);
            drop(place);
            answers
        });
        lookup.await.map_err(|_| busy())?.map_err(ConnectError::Lookup)
    }
}

/// Abandons a connection that is not ready in time, including TLS. Its request may have
/// found another connection by then, and would not end this one.
#[derive(Clone, Debug)]
pub(super) struct InTime<S>(pub(super) S);

impl<S> Service<Uri> for InTime<S>
where
    S: Service<Uri, Error: Into<BoxError>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = timeout(CONNECT, self.0.call(uri));
        Box::pin(async {
            let connected = connecting.await.map_err(|_| ConnectError::TimedOut)?;
            connected.map_err(Into::into)
        })
    }
}

/// The port of an address, its own or the scheme's.
pub(super) fn port(uri: &Uri) -> u16 {
    let usual = if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
    uri.port_u16().unwrap_or(usual)
}

/// The host of an address, without the brackets of IPv6.
pub(super) fn host(uri: &Uri) -> &str {
    let host = uri.host().unwrap_or_default();
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

impl Service<Uri> for Connector {
    type Response = Tcp;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Tcp, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// A connection, which counts against the limits until it is closed.
pub(super) struct Tcp {
    stream: TokioIo<TcpStream>,
    /// If the server accepts no data now, the time by which it must.
    stalled: Option<Pin<Box<Sleep>>>,
    _places: (Place, OwnedSemaphorePermit),
}

impl Tcp {
    /// Fails a write that has made no progress for too long.
    fn progress<R>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(STALL)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Connection for Tcp {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Tcp {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl Write for Tcp {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.progress(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.progress(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.progress(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.progress(cx, polled)
    }
}
