//! Lines of an input that blocks while it is read.
//!
//! A thread reads one buffer at a time, and only when there is no whole line left in the last
//! one: a line costs no switch of threads. The thread ends with the input, or when nobody
//! reads lines any more; one that waits for input is not waited for.

use std::io::{self, ErrorKind, Read};
use std::sync::mpsc as blocking;
use std::{mem, thread};

use tokio::sync::mpsc;

use super::ARGUMENT_BYTES;

/// Bytes of a line: the arguments of a call, and what is around them.
pub(super) const LINE_BYTES: usize = ARGUMENT_BYTES + (64 << 10);
/// Bytes that are read at once.
const BUFFER_BYTES: usize = 64 << 10;

/// A line of the input, without its newline.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Text(Vec<u8>),
    TooLong,
}

pub(super) struct LineReader {
    /// Asks the thread for more.
    request: blocking::Sender<()>,
    /// What it has read; nothing at the end.
    read: mpsc::Receiver<io::Result<Vec<u8>>>,
    buffer: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// Where no newline has been looked for yet.
    searched: usize,
    /// Whether the rest of a line that is too long is being skipped.
    is_skipping: bool,
}

impl LineReader {
    pub(super) fn new(mut input: impl Read + Send + 'static) -> io::Result<LineReader> {
        let (request, requests) = blocking::channel();
        let (send, read) = mpsc::channel(1);
        let fill = move || {
            while requests.recv().is_ok() {
                let read = read_some(&mut input);
                let is_last = read.as_ref().map_or(true, Vec::is_empty);
                if send.blocking_send(read).is_err() || is_last {
                    return;
                }
            }
        };
        thread::Builder::new().name("calls".to_string()).spawn(fill)?;
        Ok(LineReader {
            request,
            read,
            buffer: Vec::new(),
            start: 0,
            searched: 0,
            is_skipping: false,
        })
    }

    /// The next line that is not empty. Of one that is too long, nothing is kept.
    pub(super) async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            if let Some(line) = self.take() {
                return Ok(Some(line));
            }
            // It fails once the thread has ended, as `recv` does then.
            let _ = self.request.send(());
            match self.read.recv().await.transpose()? {
                Some(bytes) if !bytes.is_empty() => self.buffer.extend(bytes),
                _ => return Ok(self.take_last()),
            }
        }
    }

    /// The next line of those that are whole.
    fn take(&mut self) -> Option<Line> {
        while let Some(length) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
            let end = self.searched + length;
            let text = &self.buffer[self.start..end];
            let line = match mem::take(&mut self.is_skipping) || text.len() > LINE_BYTES {
                true => Some(Line::TooLong),
                false => (!text.trim_ascii().is_empty()).then(|| Line::Text(text.to_vec())),
            };
            self.start = end + 1;
            self.searched = self.start;
            if line.is_some() {
                return line;
            }
        }
        self.buffer.drain(..self.start);
        self.start = 0;
        if self.is_skipping || self.buffer.len() > LINE_BYTES {
            self.is_skipping = true;
            self.buffer.clear();
        }
        self.searched = self.buffer.len();
        None
    }

    /// What is left where the input ends without a newline.
    fn take_last(&mut self) -> Option<Line> {
        let text = mem::take(&mut self.buffer);
        self.searched = 0;
        if mem::take(&mut self.is_skipping) {
            return Some(Line::TooLong);
        }
        (!text.trim_ascii().is_empty()).then_some(Line::Text(text))
    }
}

/// Reads what is there, once; nothing at the end.
fn read_some(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; BUFFER_BYTES];
    let length = loop {
        match input.read(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => break read?,
        }
    };
    bytes.truncate(length);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives at most so many bytes at once.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.0.len().min(self.1).min(buffer.len());
            let (piece, rest) = self.0.split_at(length);
            buffer[..length].copy_from_slice(piece);
            self.0 = rest;
            Ok(length)
        }
    }

    fn lines(input: &'static [u8], at_once: usize) -> Vec<Line> {
        let mut reader = LineReader::new(Pieces(input, at_once)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut lines = Vec::new();
            while let Some(line) = reader.next().await.unwrap() {
                lines.push(line);
            }
            assert_eq!(reader.next().await.unwrap(), None);
            lines
        })
    }

    fn text(text: &str) -> Line {
        Line::Text(text.into())
    }

    #[test]
    fn lines_are_the_same_however_they_are_read() {
        for at_once in 1..12 {
            assert_eq!(
                lines(b"one\n\n  \ntwo\r\nthree", at_once),
                [text("one"), text("two\r"), text("three")]
            );
            assert_eq!(lines(b"one\n", at_once), [text("one")]);
            assert!(lines(b"\n \n", at_once).is_empty());
            assert!(lines(b"", at_once).is_empty());
        }
    }

    #[test]
    fn line_that_is_too_long_is_skipped_to_its_end() {
        let longest = "x".repeat(LINE_BYTES);
        for more in ["", "x", "xxxxxxxx"] {
            for end in ["\nnext\n", "\nnext", "\n", ""] {
                let input = format!("first\n{longest}{more}{end}").into_bytes().leak();
                for at_once in [BUFFER_BYTES, 50_001] {
                    let long = match more {
                        "" => text(&longest),
                        _ => Line::TooLong,
                    };
                    let mut expected = vec![text("first"), long];
                    expected.extend(end.contains("next").then(|| text("next")));
                    assert!(lines(input, at_once) == expected, "{} more, then {end:?}", more.len());
                }
            }
        }
    }

    #[test]
    fn failure_to_read_is_reported() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let mut reader = LineReader::new(Broken).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let error = runtime.block_on(reader.next()).unwrap_err();
        assert_eq!(error.to_string(), "broken");
    }
}
