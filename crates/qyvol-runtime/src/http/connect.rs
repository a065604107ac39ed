//! Connections to where a guest's requests go: each name and address is checked, and
//! what was checked is connected to.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::Uri;
use hyper::http::uri::Scheme;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_service::Service;

use crate::limits::{Place, Places};
use crate::net::{MAX_ANSWERS, Network};

/// Most connections at once, whether or not a guest's sockets are limited. One more
/// waits for a place.
const MAX_CONNECTIONS: usize = 128;

/// Why there is no connection.
#[derive(Debug, Error)]
pub(super) enum ConnectError {
    #[error("the guest may not connect to any address of it")]
    Prohibited,
    #[error("too many connections are open")]
    Full,
    #[error("it could not be looked up: {0}")]
    Lookup(io::Error),
    #[error("it can't be reached: {0}")]
    Unreachable(io::Error),
}

impl ConnectError {
    /// What the guest is told.
    pub(super) fn told(&self) -> wasmtime_wasi_http::Error {
        use wasmtime_wasi_http::Error;
        match self {
            ConnectError::Prohibited => Error::DestinationIpProhibited,
            ConnectError::Full => Error::ConnectionLimitReached,
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
    connections: Arc<Semaphore>,
}

impl Connector {
    pub(super) fn new(network: Network, sockets: Places) -> Connector {
        Connector {
            network,
            sockets,
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        }
    }

    /// Whether a guest may be kept from a socket of its own by one that is idle.
    pub(super) fn is_limited(&self) -> bool {
        self.sockets.is_limited()
    }

    pub(super) fn network(&self) -> &Network {
        &self.network
    }

    async fn connect(self, uri: Uri) -> Result<Tcp, ConnectError> {
        let connection = self.connections.acquire_owned().await.map_err(|_| ConnectError::Full)?;
        let socket = self.sockets.take().ok_or(ConnectError::Full)?;
        let host = host(&uri);
        let usual = if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(usual);
        let answers = lookup_host((host, port)).await.map_err(ConnectError::Lookup)?;
        let mut failed = ConnectError::Prohibited;
        for address in answers.take(MAX_ANSWERS) {
            if !self.network.accepts_answer(host, address.ip()) || !self.network.allows_connection(address) {
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    // Requests are written in one piece: nothing is won by waiting.
                    stream.set_nodelay(true).map_err(ConnectError::Unreachable)?;
                    return Ok(Tcp {
                        stream: TokioIo::new(stream),
                        _places: (socket, connection),
                    });
                }
                Err(error) => failed = ConnectError::Unreachable(error),
            }
        }
        Err(failed)
    }
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

/// A connection, which takes its places until it is closed.
pub(super) struct Tcp {
    stream: TokioIo<TcpStream>,
    _places: (Place, OwnedSemaphorePermit),
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
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }
}
