//! Stdout and stderr of this process, for concurrent guests: a thread writes them, because a
//! write may block as long as nobody reads.
//!
//! A guest waits while there is no room for its lines, but holds no thread, and not for
//! long: once nobody has read anything for a second, lines are left out, and a line in
//! their place says how many.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;
use wasmtime_wasi::cli::StdoutStream as _;
use wasmtime_wasi::p2::OutputStream;

/// Bytes that wait to be written.
const QUEUE: usize = 1 << 20;
/// How long a guest waits if nobody reads anything.
const TIMEOUT: Duration = Duration::from_secs(1);

static STDOUT: OnceLock<Arc<Printer>> = OnceLock::new();
static STDERR: OnceLock<Arc<Printer>> = OnceLock::new();

/// A stream, and the thread that writes it.
pub(crate) struct Printer {
    state: Mutex<State>,
    /// There is something to write, or all is written.
    changed: Condvar,
    /// There may be room again.
    room: Notify,
}

struct State {
    queue: VecDeque<Vec<u8>>,
    /// Of the queue, and of what is being written.
    bytes: usize,
    /// When something was written last, or the queue began to fill.
    progress: Instant,
    lost: u64,
}

impl Printer {
    pub(crate) fn stdout() -> Arc<Printer> {
        Arc::clone(STDOUT.get_or_init(|| Printer::new(wasmtime_wasi::cli::stdout().p2_stream())))
    }

    pub(crate) fn stderr() -> Arc<Printer> {
        Arc::clone(STDERR.get_or_init(|| Printer::new(wasmtime_wasi::cli::stderr().p2_stream())))
    }

    pub(crate) fn new(mut to: Box<dyn OutputStream>) -> Arc<Printer> {
        let printer = Arc::new(Printer {
            state: Mutex::new(State {
                queue: VecDeque::new(),
                bytes: 0,
                progress: Instant::now(),
                lost: 0,
            }),
            changed: Condvar::new(),
            room: Notify::new(),
        });
        let weak = Arc::downgrade(&printer);
        let work = move || {
            while let Some(printer) = weak.upgrade() {
                printer.write_next(&mut *to);
            }
        };
        // Without a thread, lines are left out as if nobody read them.
        let _ = thread::Builder::new().name("printer".to_string()).spawn(work);
        printer
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits a while for lines, and writes them.
    fn write_next(&self, to: &mut dyn OutputStream) {
        let state = self.state();
        let waited = self
            .changed
            .wait_timeout_while(state, TIMEOUT, |state| state.queue.is_empty() && state.lost == 0);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let mut lines: Vec<u8> = state.queue.drain(..).flatten().collect();
        if state.lost > 0 {
            let lost = std::mem::take(&mut state.lost);
            let lost = format!("[{lost} lines of guests are left out here: nobody has read them]\n");
            state.bytes += lost.len();
            lines.extend(lost.into_bytes());
        }
        drop(state);
        if lines.is_empty() {
            return;
        }
        let written = lines.len();
        // Nobody reads it any more; requests are answered all the same.
        let _ = to.write(Bytes::from(lines));
        let mut state = self.state();
        state.bytes = state.bytes.saturating_sub(written);
        state.progress = Instant::now();
        drop(state);
        self.changed.notify_all();
        self.room.notify_waiters();
    }

    /// Passes lines on, if there is room for them.
    pub(crate) fn print(&self, lines: Vec<u8>) {
        let mut state = self.state();
        if state.bytes == 0 {
            state.progress = Instant::now();
        }
        if state.bytes > QUEUE {
            let ends = lines.iter().filter(|byte| **byte == b'\n').count();
            state.lost += ends.max(1) as u64;
            return;
        }
        state.bytes += lines.len();
        state.queue.push_back(lines);
        drop(state);
        self.changed.notify_all();
    }

    /// When a guest may go on, whether or not there is room then; none if it may at once.
    fn deadline(&self) -> Option<Instant> {
        let state = self.state();
        let until = state.progress + TIMEOUT;
        (state.bytes > QUEUE && Instant::now() < until).then_some(until)
    }

    /// Whether a guest may print now.
    pub(crate) fn is_ready(&self) -> bool {
        self.deadline().is_none()
    }

    /// Waits until a guest may print.
    pub(crate) async fn ready(&self) {
        loop {
            let room = self.room.notified();
            let Some(until) = self.deadline() else { return };
            // After the deadline it goes on.
            let _ = tokio::time::timeout_at(until.into(), room).await;
        }
    }

    /// Waits until all is written, but not for longer than that.
    pub(crate) fn flush(&self, timeout: Duration) {
        let waited = self
            .changed
            .wait_timeout_while(self.state(), timeout, |state| state.bytes > 0 || state.lost > 0);
        drop(waited);
    }
}

/// Waits until what guests of services and calls have printed is written, but for each of the two
/// streams not for longer than that.
pub fn flush_printed(timeout: Duration) {
    for printer in [&STDOUT, &STDERR].into_iter().filter_map(OnceLock::get) {
        printer.flush(timeout);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use wasmtime_wasi::p2::{Pollable, StreamResult};

    use super::*;

    /// A stream that writes as often as it is let.
    struct Slow {
        go: Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    #[wasmtime_wasi::async_trait]
    impl Pollable for Slow {
        async fn ready(&mut self) {}
    }

    impl OutputStream for Slow {
        fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
            let _ = self.go.recv();
            self.written.lock().unwrap().extend_from_slice(&bytes);
            Ok(())
        }

        fn flush(&mut self) -> StreamResult<()> {
            Ok(())
        }

        fn check_write(&mut self) -> StreamResult<usize> {
            Ok(1)
        }
    }

    #[tokio::test]
    async fn guest_waits_for_a_reader_and_goes_on_if_there_is_none() {
        let (go, gone) = channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let printer = Printer::new(Box::new(Slow {
            go: gone,
            written: Arc::clone(&written),
        }));
        let line = |byte: u8| [&vec![byte; QUEUE], &b"\n"[..]].concat();
        printer.print(line(b'1'));
        assert!(!printer.is_ready());
        // It is read: the guest goes on, and nothing is lost.
        go.send(()).unwrap();
        printer.ready().await;
        printer.print(line(b'2'));
        // It is not read: the guest goes on all the same.
        printer.ready().await;
        printer.print(line(b'3'));
        drop(go);
        printer.flush(Duration::from_secs(60));
        let written = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let firsts: Vec<&str> = written.lines().map(|line| &line[..2]).collect();
        assert_eq!(firsts, ["11", "22", "[1"], "{}", written.lines().last().unwrap());
    }
}
