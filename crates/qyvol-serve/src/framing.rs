//! Where one request of HTTP/1 ends and the next begins (RFC 9112, 6 and 7).
//!
//! A proxy in front of this server may interpret an ambiguous head differently, and pass on as
//! a body what is read here as the next request ("request smuggling"). hyper accepts some
//! ambiguous heads: with both a length and a transfer coding, with the same length twice, or
//! with lines that end in LF alone. It does not report this to its service, so what a client
//! sends is inspected on its way to hyper. The first request that could be read in two ways is
//! refused, and so is whatever comes after it on its connection.
//!
//! Deliberately absent: what hyper refuses on its own, such as folded lines, control
//! characters and spaces before a colon. Nothing is changed, and a body is skipped by its
//! length.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use crate::writes::write_through;

/// How many bytes of a line are inspected: enough for a relevant field name and its value.
const START: usize = 128;

/// Digits of a chunk's size, leading zeros included.
const SIZE_DIGITS: usize = 16;

/// The number of the first request of a connection that is refused, counted from 1 on.
#[derive(Clone)]
pub(crate) struct Refused(Arc<AtomicU64>);

impl Refused {
    pub(crate) fn none() -> Refused {
        Refused(Arc::new(AtomicU64::new(u64::MAX)))
    }

    /// Whether the request with this number is refused.
    pub(crate) fn has(&self, number: u64) -> bool {
        self.0.load(Ordering::Relaxed) <= number
    }
}

/// An HTTP/1 stream that finds the boundaries of requests while they are read.
pub(crate) struct Framed<S> {
    stream: S,
    reader: Reader,
    refused: Refused,
}

impl<S> Framed<S> {
    pub(crate) fn new(stream: S, refused: Refused) -> Framed<S> {
        Framed {
            stream,
            reader: Reader::default(),
            refused,
        }
    }
}

/// What comes next.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
enum Part {
    /// Empty lines, which may stand before a request, or its first line.
    #[default]
    First,
    /// A field, or the end of the head.
    Field,
    /// This much of a body of known length.
    Body(u64),
    /// The line with the size of a chunk.
    Size,
    /// This much of a chunk.
    Chunk(u64),
    /// The end of the line after a chunk.
    ChunkEnd,
    /// A field after the last chunk, or the end of them.
    Trailer,
    /// It is unknown where the next request begins.
    Lost,
}

/// The length of a request's body, according to its head so far.
#[derive(Clone, Copy, Default)]
enum Length {
    #[default]
    None,
    Bytes(u64),
    Chunked,
}

/// Reads what a client sends.
#[derive(Default)]
struct Reader {
    part: Part,
    length: Length,
    /// Requests that have begun.
    requests: u64,
    /// Whether the first line of the next request has a `#`.
    has_fragment: bool,
    line: Line,
}

/// An incomplete line.
#[derive(Default)]
struct Line {
    start: Vec<u8>,
    is_longer: bool,
    last: Option<u8>,
}

impl Line {
    fn push(&mut self, bytes: &[u8]) {
        let room = START - self.start.len();
        self.start.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        self.is_longer |= bytes.len() > room;
        self.last = bytes.last().copied().or(self.last);
    }
}

/// It is ambiguous or malformed.
struct Unclear;

impl Reader {
    /// Reads on. Returns the number of the first request that is to be refused.
    fn read(&mut self, mut bytes: &[u8]) -> Option<u64> {
        while !bytes.is_empty() && self.part != Part::Lost {
            if let Part::Body(left) | Part::Chunk(left) = &mut self.part {
                let now = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= now as u64;
                bytes = bytes.get(now..).unwrap_or_default();
                match self.part {
                    Part::Body(0) => self.part = Part::First,
                    Part::Chunk(0) => self.part = Part::ChunkEnd,
                    _ => {}
                }
                continue;
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            self.has_fragment |= self.part == Part::First && line.contains(&b'#');
            if end.is_none() {
                self.line.push(line);
                return None;
            }
            bytes = rest.get(1..).unwrap_or_default();
            if self.ended(line).is_err() {
                // The end of the body is lost, and with it the next request.
                let is_in_head = self.part == Part::Field;
                self.part = Part::Lost;
                return Some(self.requests + u64::from(!is_in_head));
            }
        }
        None
    }

    /// A line ends with these bytes and LF.
    fn ended(&mut self, bytes: &[u8]) -> Result<(), Unclear> {
        let mut begun = std::mem::take(&mut self.line);
        let (line, is_longer, last) = match begun.last {
            None => (bytes.get(..START).unwrap_or(bytes), bytes.len() > START, bytes.last()),
            Some(_) => {
                begun.push(bytes);
                (begun.start.as_slice(), begun.is_longer, begun.last.as_ref())
            }
        };
        if last != Some(&b'\r') {
            return Err(Unclear);
        }
        let line = if is_longer {
            line
        } else {
            line.strip_suffix(b"\r").unwrap_or(line)
        };
        self.part = match (self.part, line.is_empty()) {
            (Part::First, true) => Part::First,
            // A target has none (RFC 9112, 3.2). hyper would cut it off.
            (Part::First, false) if self.has_fragment => return Err(Unclear),
            (Part::First, false) => {
                self.requests += 1;
                self.length = Length::None;
                Part::Field
            }
            (Part::Field, true) => match self.length {
                Length::None | Length::Bytes(0) => Part::First,
                Length::Bytes(length) => Part::Body(length),
                Length::Chunked => Part::Size,
            },
            (Part::Field, false) => {
                self.length = with_field(self.length, line, is_longer)?;
                Part::Field
            }
            (Part::Size, _) => match size(line)? {
                0 => Part::Trailer,
                size => Part::Chunk(size),
            },
            (Part::ChunkEnd, true) => Part::Size,
            (Part::Trailer, true) => Part::First,
            (Part::Trailer, false) => Part::Trailer,
            _ => return Err(Unclear),
        };
        Ok(())
    }
}

/// The length of a body, with one more field of its head.
fn with_field(length: Length, line: &[u8], is_longer: bool) -> Result<Length, Unclear> {
    let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
    let (name, value) = line.split_at(colon);
    let is_length = name.eq_ignore_ascii_case(b"content-length");
    if !is_length && !name.eq_ignore_ascii_case(b"transfer-encoding") {
        return Ok(length);
    }
    let value = value.strip_prefix(b":").unwrap_or(value).trim_ascii();
    match length {
        Length::None if is_longer => Err(Unclear),
        Length::None if is_length => number(value, 10).map(Length::Bytes),
        // This is the only coding that is known here.
        Length::None if value.eq_ignore_ascii_case(b"chunked") => Ok(Length::Chunked),
        _ => Err(Unclear),
    }
}

/// The size of a chunk. Extensions after it are ignored. Only the start of a long line is
/// known: the size must end in it, because hyper accepts any number of zeros.
fn size(line: &[u8]) -> Result<u64, Unclear> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    if digits > SIZE_DIGITS {
        return Err(Unclear);
    }
    let (digits, rest) = line.split_at(digits);
    match rest.first() {
        None | Some(b' ' | b'\t' | b';') => number(digits, 16),
        Some(_) => Err(Unclear),
    }
}

/// A number that consists only of digits.
fn number(digits: &[u8], radix: u32) -> Result<u64, Unclear> {
    // Otherwise a sign would be accepted.
    if !digits.first().is_some_and(u8::is_ascii_hexdigit) {
        return Err(Unclear);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| Unclear)?;
    u64::from_str_radix(digits, radix).map_err(|_| Unclear)
}

impl<S: AsyncRead + Unpin> AsyncRead for Framed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let framed = &mut *self;
        let before = buffer.filled().len();
        ready!(Pin::new(&mut framed.stream).poll_read(cx, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        if let Some(refused) = framed.reader.read(read) {
            framed.refused.0.store(refused, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

write_through!(Framed);

#[cfg(test)]
mod tests {
    use super::*;

    /// The first request that is refused, and how many have begun.
    fn read(sent: &[u8], step: usize) -> (Option<u64>, u64) {
        let mut reader = Reader::default();
        let refused = sent.chunks(step).find_map(|bytes| reader.read(bytes));
        (refused, reader.requests)
    }

    #[test]
    fn boundaries_of_requests_are_found_however_they_arrive() {
        let extended = format!("{}5;{}\r\n12345\r\n", "0".repeat(15), "a".repeat(500));
        let long = format!("GET /{} HTTP/1.1\r\nX: #{}\r\n\r\n", "a".repeat(500), "b".repeat(500));
        let sent = [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\n\r\nPOST / HTTP/1.1\r\ncontent-LENGTH: \t5 \r\n\r\n\r\n\n\n\n",
            "POST / HTTP/1.1\r\nContent-Length:0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n",
            "5;a=b\r\nGET /\r\nA \r\n0123456789\r\n",
            &extended,
            "00\r\nTrailer: a\r\n\r\n",
            &long,
            "GET /last HTTP/1.1\r\n\r\n",
        ]
        .concat();
        for step in [1, 2, 3, 7, 64, 129, sent.len()] {
            assert_eq!(read(sent.as_bytes(), step), (None, 6), "{step}");
        }
    }

    #[test]
    fn ambiguous_request_is_refused_and_so_is_the_next() {
        let first = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let padded = format!("POST / HTTP/1.1\r\nContent-Length: {}5\r\n\r\n", " ".repeat(200));
        let fields = |fields: &str| format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n");
        let hidden = |zeros: usize| {
            let zeros = "0".repeat(zeros);
            let two = fields("Content-Length: 1\r\nTransfer-Encoding: chunked");
            format!("{chunked}{zeros}1e\r\n\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n\r\n0\r\n\r\n{two}")
        };
        for (sent, refused) in [
            (fields("Content-Length: 1\r\nTransfer-Encoding: chunked"), 2),
            (fields("Transfer-Encoding: chunked\r\nContent-Length: 1"), 2),
            (fields("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), 2),
            (fields("Transfer-Encoding: identity"), 2),
            (fields("Transfer-Encoding: gzip, chunked"), 2),
            (fields("Transfer-Encoding: \"chunked\""), 2),
            (fields("Content-Length: 1\r\nContent-Length: 1"), 2),
            (fields("Content-Length: 1, 1"), 2),
            (fields("Content-Length: +1"), 2),
            (fields("Content-Length: 0x1"), 2),
            (fields("Content-Length:"), 2),
            (fields("Content-Length: 18446744073709551616"), 2),
            (fields("X: 1\nTransfer-Encoding: chunked"), 2),
            (padded, 2),
            ("GET /a#b HTTP/1.1\r\n\r\n".to_string(), 2),
            (format!("GET /{}# HTTP/1.1\r\n\r\n", "a".repeat(500)), 2),
            ("GET / HTTP/1.1\nHost: a\r\n\r\n".to_string(), 2),
            ("\nGET / HTTP/1.1\r\n\r\n".to_string(), 2),
            (format!("{chunked}1\na\r\n0\r\n\r\n"), 3),
            (format!("{chunked}1\r\nab\r\n0\r\n\r\n"), 3),
            (format!("{chunked}-1\r\n"), 3),
            (format!("{chunked}\r\n"), 3),
            (format!("{chunked}0x1\r\n"), 3),
            (format!("{chunked}1ffffffffffffffff\r\n"), 3),
            (format!("{chunked}0\r\nA: b\n\r\n"), 3),
            // hyper reads the first request as the content of a chunk.
            (hidden(128), 3),
            (hidden(15), 3),
        ] {
            let sent = format!("{first}{sent}");
            for step in [1, 5, sent.len()] {
                assert_eq!(read(sent.as_bytes(), step).0, Some(refused), "{sent:?}");
            }
        }
        let refused = Refused::none();
        assert!(!refused.has(u64::MAX - 1));
        refused.0.store(2, Ordering::Relaxed);
        assert_eq!([1, 2, 3].map(|number| refused.has(number)), [false, true, true]);
    }
}
