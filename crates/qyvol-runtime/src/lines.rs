//! Stdout and stderr of guests that run beside one another: each writes whole lines, so
//! that those of one don't end up within those of another.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// Length up to which a line is kept together, in bytes.
const LINE: usize = 8 << 10;
/// Bytes that a guest may write at once.
const WRITE: usize = 64 << 10;

/// One guest's lines on their way to a stream of this process.
pub(crate) struct Lines {
    shared: Arc<Mutex<Pending>>,
}

struct Pending {
    line: Vec<u8>,
    to: Box<dyn OutputStream>,
}

impl Lines {
    pub(crate) fn new(to: Box<dyn OutputStream>) -> Lines {
        let line = Vec::new();
        Lines {
            shared: Arc::new(Mutex::new(Pending { line, to })),
        }
    }

    fn writer(&self) -> Writer {
        Writer(Arc::clone(&self.shared))
    }
}

impl Pending {
    fn push(&mut self, bytes: &[u8]) {
        self.line.extend_from_slice(bytes);
        let end = match self.line.iter().rposition(|byte| *byte == b'\n') {
            Some(last) => last + 1,
            None if self.line.len() < LINE => return,
            None => self.line.len(),
        };
        let rest = self.line.split_off(end);
        let lines = std::mem::replace(&mut self.line, rest);
        // Nobody reads it any more; requests are answered all the same.
        let _ = self.to.write(Bytes::from(lines));
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            self.push(b"\n");
        }
    }
}

impl IsTerminal for Lines {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Lines {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.writer())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.writer())
    }
}

struct Writer(Arc<Mutex<Pending>>);

impl Writer {
    fn push(&self, bytes: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }
}

impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.push(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {}
}

impl AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.push(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use wasmtime_wasi::p2::pipe::MemoryOutputPipe;

    use super::*;

    #[test]
    fn lines_of_two_guests_stay_whole() {
        let pipe = MemoryOutputPipe::new(1 << 20);
        let [mut one, mut other] = [(); 2].map(|()| Lines::new(Box::new(pipe.clone())).p2_stream());
        one.write("first, ".into()).unwrap();
        other.write("second\nand more".into()).unwrap();
        one.write("in parts\n".into()).unwrap();
        drop((one, other));
        assert_eq!(pipe.contents(), "second\nfirst, in parts\nand more\n");
    }

    #[test]
    fn line_without_an_end_takes_little_memory() {
        let pipe = MemoryOutputPipe::new(1 << 20);
        let lines = Lines::new(Box::new(pipe.clone()));
        let mut stream = lines.p2_stream();
        for _ in 0..LINE {
            stream.write("0123456789".into()).unwrap();
        }
        assert!(lines.shared.lock().unwrap().line.len() < LINE);
        assert!(pipe.contents().len() > 9 * LINE);
    }
}
