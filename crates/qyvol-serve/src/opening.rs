//! How a connection without TLS begins: HTTP/2 has a preface of its own (RFC 9113, 3.4).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

use crate::writes::write_through;

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream whose first bytes were read to determine the protocol. They are returned again.
pub(crate) struct Opened<S> {
    pub(crate) is_http2: bool,
    read: [u8; PREFACE.len()],
    from: usize,
    to: usize,
    stream: S,
}

impl<S: AsyncRead + Unpin> Opened<S> {
    /// Reads until the protocol is clear.
    pub(crate) async fn read(mut stream: S) -> io::Result<Opened<S>> {
        let mut read = [0; PREFACE.len()];
        let mut to = 0;
        loop {
            let (begun, left) = read.split_at_mut(to);
            let is_preface = PREFACE.starts_with(begun);
            let bytes = match is_preface && !left.is_empty() {
                true => stream.read(left).await?,
                false => 0,
            };
            if bytes == 0 {
                return Ok(Opened {
                    is_http2: to == PREFACE.len() && is_preface,
                    read,
                    from: 0,
                    to,
                    stream,
                });
            }
            to += bytes;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Opened<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let opened = &mut *self;
        let left = opened.read.get(opened.from..opened.to).unwrap_or_default();
        if left.is_empty() {
            return Pin::new(&mut opened.stream).poll_read(cx, buffer);
        }
        let bytes = left.len().min(buffer.remaining());
        buffer.put_slice(left.get(..bytes).unwrap_or_default());
        opened.from += bytes;
        Poll::Ready(Ok(()))
    }
}

write_through!(Opened);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn version_is_recognised_by_the_first_bytes_which_are_read_again() {
        let post = b"POST / HTTP/1.1\r\nHost: a\r\n\r\n";
        let near = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rx";
        let begun = [&PREFACE[..], b"more"].concat();
        for (sent, is_http2) in [
            (&begun[..], true),
            (&post[..], false),
            (&near[..], false),
            (b"PR", false),
        ] {
            let (mut client, server) = tokio::io::duplex(1024);
            let (opened, ()) = tokio::join!(Opened::read(server), async {
                for byte in sent {
                    client.write_all(&[*byte]).await.unwrap();
                    tokio::task::yield_now().await;
                }
                drop(client);
            });
            let mut opened = opened.unwrap();
            assert_eq!(opened.is_http2, is_http2);
            let mut read = Vec::new();
            opened.read_to_end(&mut read).await.unwrap();
            assert_eq!(read, sent);
        }
    }
}
