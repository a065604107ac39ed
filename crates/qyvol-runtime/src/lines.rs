//! Stdout and stderr of concurrent guests: each writes complete lines, so that the lines of
//! different guests don't mix.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::printer::Printer;

/// Length up to which a line is kept together, in bytes.
const LINE: usize = 8 << 10;
/// Bytes that a guest may write at once.
const WRITE: usize = 64 << 10;

/// One guest's lines on their way to a stream of this process.
pub(crate) struct Lines {
    shared: Arc<Mutex<Pending>>,
    to: Arc<Printer>,
}

struct Pending {
    line: Vec<u8>,
    to: Arc<Printer>,
}

impl Lines {
    pub(crate) fn new(to: Arc<Printer>) -> Lines {
        let pending = Pending {
            line: Vec::new(),
            to: Arc::clone(&to),
        };
        Lines {
            shared: Arc::new(Mutex::new(pending)),
            to,
        }
    }

    fn writer(&self) -> Writer {
        Writer {
            pending: Arc::clone(&self.shared),
            to: Arc::clone(&self.to),
            waits: None,
        }
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
        self.to.print(lines);
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

struct Writer {
    pending: Arc<Mutex<Pending>>,
    to: Arc<Printer>,
    /// Waits for room.
    waits: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

impl Writer {
    fn push(&self, bytes: &[u8]) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
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
        Ok(if self.to.is_ready() { WRITE } else { 0 })
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {
        self.to.ready().await;
    }
}

impl AsyncWrite for Writer {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.waits.is_none() && !self.to.is_ready() {
            let to = Arc::clone(&self.to);
            self.waits = Some(Box::pin(async move { to.ready().await }));
        }
        if let Some(waits) = &mut self.waits {
            ready!(waits.as_mut().poll(cx));
            self.waits = None;
        }
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

    const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);

    #[test]
    fn lines_of_two_guests_do_not_mix() {
        let pipe = MemoryOutputPipe::new(1 << 20);
        let printer = Printer::new(Box::new(pipe.clone()));
        let [mut one, mut other] = [(); 2].map(|()| Lines::new(Arc::clone(&printer)).p2_stream());
        one.write("first, ".into()).unwrap();
        other.write("second\nand more".into()).unwrap();
        one.write("in parts\n".into()).unwrap();
        drop((one, other));
        printer.flush(TIMEOUT);
        assert_eq!(pipe.contents(), "second\nfirst, in parts\nand more\n");
    }

    #[test]
    fn line_without_an_end_takes_little_memory() {
        let pipe = MemoryOutputPipe::new(1 << 20);
        let printer = Printer::new(Box::new(pipe.clone()));
        let lines = Lines::new(Arc::clone(&printer));
        let mut stream = lines.p2_stream();
        for _ in 0..LINE {
            stream.write("0123456789".into()).unwrap();
        }
        assert!(lines.shared.lock().unwrap().line.len() < LINE);
        printer.flush(TIMEOUT);
        assert!(pipe.contents().len() > 9 * LINE);
    }
}
