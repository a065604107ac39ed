//! As much of HTTP/1.1 as the measurements need: heads, and a persistent connection.
//!
//! Bodies have a `Content-Length`: the registries and clients measured here
//! send it, and anything else is an error instead of a wrong figure. No TLS, no
//! redirects, no pipelining.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long an answer may take: a registry syncs a whole blob before it.
const IO_TIMEOUT: Duration = Duration::from_secs(300);
const HEAD_BYTES: u64 = 64 << 10;

/// The head of a request or an answer, as it came.
pub(super) struct Head(String);

impl Head {
    /// The next one; nothing where the connection ends before it.
    pub(super) fn read(from: &mut impl BufRead) -> io::Result<Option<Head>> {
        let mut from = from.take(HEAD_BYTES);
        let mut text = String::new();
        while !text.ends_with("\r\n\r\n") {
            if from.read_line(&mut text)? == 0 {
                return match text.is_empty() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
        Ok(Some(Head(text)))
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// Of the first line, the word at `index`.
    fn word(&self, index: usize) -> &str {
        let first = self.0.lines().next().unwrap_or_default();
        first.split(' ').nth(index).unwrap_or_default()
    }

    pub(super) fn method(&self) -> &str {
        self.word(0)
    }

    pub(super) fn path(&self) -> &str {
        self.word(1)
    }

    fn field(&self, name: &str) -> Option<&str> {
        let fields = self.0.lines().skip(1).filter_map(|line| line.split_once(':'));
        let mut named = fields.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        named.next().map(|(_, value)| value.trim())
    }

    /// The length of the body; 0 if none is stated.
    pub(super) fn body(&self) -> Result<u64, String> {
        let strange = |what: &str| format!("a body that can't be counted, {what}: {}", self.0.trim());
        if let Some(coding) = self.field("transfer-encoding") {
            return Err(strange(coding));
        }
        match self.field("content-length") {
            Some(text) => text.parse().map_err(|_| strange(text)),
            None => Ok(0),
        }
    }
}

/// A request without what belongs to its body.
pub(super) fn request(method: &str, host: &str, path: &str, fields: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{fields}")
}

/// The answer to a request, without its body.
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) bytes: u64,
    /// The path at which an upload continues.
    pub(super) location: String,
}

/// One connection for one request after the other.
pub(super) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(super) fn open(address: &str) -> Result<Connection, String> {
        let stream = TcpStream::connect(address).and_then(|stream| {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(IO_TIMEOUT))?;
            stream.set_write_timeout(Some(IO_TIMEOUT))?;
            Ok(stream)
        });
        let stream = stream.map_err(|e| format!("connecting to {address}: {e}"))?;
        Ok(Connection(BufReader::with_capacity(128 << 10, stream)))
    }

    /// Sends a request of `request()` with a body that is `piece`, `times` over.
    pub(super) fn ask(&mut self, request: &str, piece: &[u8], times: u64) -> Result<Response, String> {
        let failed = |e: io::Error| format!("{}: {e}", request.lines().next().unwrap_or_default());
        let length = piece.len() as u64 * times;
        let head = match request.starts_with("GET ") {
            true => format!("{request}\r\n"),
            false => format!("{request}Content-Length: {length}\r\n\r\n"),
        };
        let mut first = head.into_bytes();
        // Small requests leave in one packet.
        let small = times == 1 && piece.len() < 128 << 10;
        if small {
            first.extend_from_slice(piece);
        }
        let stream = self.0.get_mut();
        stream.write_all(&first).map_err(failed)?;
        for _ in 0..if small { 0 } else { times } {
            stream.write_all(piece).map_err(failed)?;
        }
        self.answer().map_err(failed)
    }

    fn answer(&mut self) -> io::Result<Response> {
        let head = Head::read(&mut self.0)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let bytes = head.body().map_err(io::Error::other)?;
        let read = io::copy(&mut (&mut self.0).take(bytes), &mut io::sink())?;
        if read < bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let location = head.field("location").unwrap_or_default();
        // Absolute from some registries: the host is known.
        let path = location.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
        Ok(Response {
            status: head.word(1).parse().unwrap_or(0),
            bytes,
            location: path.map_or(location.to_string(), |(_, path)| format!("/{path}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> io::Result<Option<Head>> {
        Head::read(&mut text.as_bytes())
    }

    #[test]
    fn head_ends_where_the_body_begins() {
        let mut from = &b"PUT /v2/a/blobs/uploads/1?x=2 HTTP/1.1\r\nHost: h\r\ncontent-LENGTH: 12\r\n\r\nbody"[..];
        let head = Head::read(&mut from).unwrap().unwrap();
        assert_eq!((head.method(), head.path()), ("PUT", "/v2/a/blobs/uploads/1?x=2"));
        assert_eq!((head.body(), from), (Ok(12), &b"body"[..]));
    }

    #[test]
    fn body_is_none_where_nothing_is_said_and_an_error_where_it_can_not_be_counted() {
        let body = |fields: &str| {
            read(&format!("GET / HTTP/1.1\r\n{fields}\r\n"))
                .unwrap()
                .unwrap()
                .body()
        };
        assert_eq!(body("Host: h\r\n"), Ok(0));
        body("Transfer-Encoding: chunked\r\n").unwrap_err();
        body("Content-Length: -1\r\n").unwrap_err();
    }

    #[test]
    fn end_between_heads_is_none_and_within_one_an_error() {
        assert!(read("").unwrap().is_none());
        assert!(read("GET / HTTP/1.1\r\nHost:").is_err());
        assert!(read(&"a: b\r\n".repeat(20_000)).is_err());
    }
}
