//! The socket of a connection: it reports when its client has left, and cuts off what must not
//! look complete.

use std::io::{self, ErrorKind, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::yield_now;

use crate::activity::Sent;

/// Bytes that are discarded at once.
const DISCARD: usize = 4 << 10;

/// Whether a response is in progress that ends only with its connection.
#[derive(Clone, Default)]
pub(crate) struct Unfinished(Arc<AtomicBool>);

impl Unfinished {
    /// Such a response begins.
    pub(crate) fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// The connection has come to its end.
    pub(crate) fn end(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    pub(crate) fn is_under_way(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Waits until the client of a connection has closed it, or its sending side, or has reset it.
/// That is noticed even while nothing is read.
pub(crate) async fn left(stream: &TcpStream) {
    // This interest is ready for urgent data, which is not requested, or for the end of
    // reading. Its errors are those of a runtime that shuts down.
    let _ = stream.ready(Interest::PRIORITY).await;
}

/// Closes the sending side, and waits until the client closes its own; what it sends is
/// discarded.
pub(crate) async fn drained(stream: &TcpStream) {
    // It may be closed already, and the client may have left.
    let _ = SockRef::from(stream).shutdown(Shutdown::Write);
    let mut unread = [0; DISCARD];
    loop {
        match stream.try_read(&mut unread) {
            Ok(0) => return,
            Ok(_) => yield_now().await,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if stream.readable().await.is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

/// A socket that is read and written. When it is dropped in the middle of a response that
/// is [`Unfinished`], the client gets a reset in place of an end.
pub(crate) struct Socket {
    stream: Arc<TcpStream>,
    unfinished: Unfinished,
    sent: Sent,
}

impl Socket {
    pub(crate) fn new(stream: Arc<TcpStream>, unfinished: Unfinished, sent: Sent) -> Socket {
        Socket {
            stream,
            unfinished,
            sent,
        }
    }

    /// Tries to write while the kernel reports that the socket is ready.
    fn poll_sent(
        &self,
        cx: &mut Context<'_>,
        send: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match send(&self.stream) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                sent => {
                    self.sent.more();
                    return Poll::Ready(sent);
                }
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.unfinished.is_under_way() {
            // It fails for sockets that are closed.
            let _ = SockRef::from(&*self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            match self.stream.try_read(buffer.initialize_unfilled()) {
                Ok(read) => {
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_sent(cx, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_sent(cx, |stream| stream.try_write_vectored(parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.stream).shutdown(Shutdown::Write))
    }
}
