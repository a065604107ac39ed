//! What a run is given, uses and is denied: for `-v`, and as lines of JSON in the file
//! of `run --audit`.
//!
//! A guest may cause events faster than a disk takes them: what does not fit the queue
//! is dropped, and counted in the last line.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use qyvol::sandbox::{Event, Observer};
use qyvol::types::Timestamp;
use serde::Serialize;

use crate::failure::Failure;

/// Events that wait to be written.
const QUEUE: usize = 4096;
/// How long the end of a run waits for its last events to be written.
const GRACE: Duration = Duration::from_secs(2);
/// Most denials that `-v` tells, each once.
const MAX_TOLD: usize = 64;

/// A line of the file.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Line {
    /// The guest is about to start.
    Granted {
        time: Timestamp,
        digest: String,
        permissions: String,
    },
    /// It used a permission.
    Used(Use),
    /// It was denied something.
    Denied(Use),
    /// It ended.
    Ended { time: Timestamp, code: u8, dropped: u64 },
}

/// One use of a permission.
#[derive(Debug, Serialize)]
pub struct Use {
    time: Timestamp,
    permission: &'static str,
    action: &'static str,
    object: String,
}

/// The file, and the thread that writes it.
#[derive(Clone, Debug)]
pub struct Audit {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Option<SyncSender<Line>>>,
    written: Mutex<Option<Receiver<()>>>,
    dropped: AtomicU64,
    /// The denials that were told, where they are.
    told: Option<Mutex<HashSet<String>>>,
}

impl Audit {
    /// Opens the file, if there is one to be written. `verbose` tells denials on
    /// stderr. Nothing, if nobody would hear.
    pub fn new(file: Option<&Path>, verbose: bool) -> Result<Option<Audit>, Failure> {
        if file.is_none() && !verbose {
            return Ok(None);
        }
        let (mut queue, mut written) = (None, None);
        if let Some(path) = file {
            let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
            let opened = opened.map_err(|error| {
                let path = path.to_string_lossy();
                Failure::new(format!(
                    "can't open the audit file {}: {error}",
                    qyvol::types::escape(&path)
                ))
            })?;
            let (send, receive) = sync_channel(QUEUE);
            let (done, is_done) = sync_channel(1);
            thread::spawn(move || {
                write_lines(opened, &receive);
                let _ = done.send(());
            });
            (queue, written) = (Some(send), Some(is_done));
        }
        Ok(Some(Audit {
            shared: Arc::new(Shared {
                queue: Mutex::new(queue),
                written: Mutex::new(written),
                dropped: AtomicU64::new(0),
                told: verbose.then(|| Mutex::new(HashSet::new())),
            }),
        }))
    }

    /// The guest is about to start.
    pub fn granted(&self, digest: String, permissions: String) {
        self.push(Line::Granted {
            time: now(),
            digest,
            permissions,
        });
    }

    /// Writes what is left, with the run's exit code.
    pub fn finish(&self, code: u8) {
        let dropped = self.shared.dropped.load(Ordering::Relaxed);
        let queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(queue) = queue else { return };
        let time = now();
        let _ = queue.send(Line::Ended { time, code, dropped });
        drop(queue);
        let written = self
            .shared
            .written
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match written.map(|written| written.recv_timeout(GRACE)) {
            None | Some(Ok(()) | Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout)) => {}
        }
    }

    fn push(&self, line: Line) {
        let queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queue.as_ref()
            && queue.try_send(line).is_err()
        {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tells a denial on stderr, once.
    fn tell(&self, event: &Event) {
        let Some(told) = &self.shared.told else { return };
        let text = format!("denied: {} {} {}", event.permission, event.action, event.object);
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < MAX_TOLD && told.insert(text.clone()) {
            // Where nobody reads stderr the guest goes on all the same.
            let _ = writeln!(io::stderr(), "{}", qyvol::types::escape(&text));
        }
    }
}

impl Observer for Audit {
    fn observed(&self, event: Event) {
        if !event.allowed {
            self.tell(&event);
        }
        let Event {
            permission,
            action,
            object,
            allowed,
        } = event;
        let use_ = Use {
            time: now(),
            permission,
            action,
            object,
        };
        self.push(if allowed { Line::Used(use_) } else { Line::Denied(use_) });
    }
}

fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}

/// Writes lines until there are no more; what can't be written is lost.
fn write_lines(file: File, lines: &Receiver<Line>) {
    let mut file = BufWriter::new(file);
    while let Ok(line) = lines.recv() {
        let mut next = Some(line);
        while let Some(line) = next {
            if let Ok(mut bytes) = serde_json::to_vec(&line) {
                bytes.push(b'\n');
                let _ = file.write_all(&bytes);
            }
            next = lines.try_recv().ok();
        }
        let _ = file.flush();
    }
}
