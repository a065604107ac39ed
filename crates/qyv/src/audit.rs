//! What a run is granted, uses and is denied: for `-v`, and as lines of JSON in the
//! file of `run --audit`.
//!
//! A guest can't make the file grow without limit, nor keep a line out of it: of equal
//! events the first is written and the others are counted, only so many denials are
//! written, and a use waits until there is room for its line. If a line
//! can't be written, because the disk is full, the run ends: nothing is used unrecorded.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use qyvol::sandbox::{Event, Observer};
use qyvol::types::{Resources, Timestamp, escape};
use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::Serialize;

use crate::failure::Failure;

/// Lines that wait to be written.
const QUEUE: usize = 1024;
/// How long the end of a run waits for its last lines to be written.
const GRACE: Duration = Duration::from_millis(500);
/// Maximum number of denials that are written.
const MAX_DENIALS: usize = 1024;
/// Maximum number of uses that are remembered, to find equal ones.
const MAX_USES: usize = 4096;
/// How many denials `-v` prints.
const MAX_TOLD: usize = 64;
/// How each line begins.
const LINE_START: &[u8] = b"{\"event\":\"";
/// Exit code for a failure of qyv itself.
const FAILED: i32 = 125;

/// A line of the file.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Line {
    /// The guest is about to start.
    Granted(Granted),
    /// It used a permission.
    Used(Use),
    /// It was denied something.
    Denied(Use),
    /// It ended. `unwritten` events were not written, because they had been written
    /// before or there were too many.
    Ended { time: Timestamp, code: u8, unwritten: u64 },
}

/// What a guest is given.
#[derive(Debug, Serialize)]
pub struct Granted {
    pub time: Timestamp,
    pub digest: String,
    pub permissions: String,
    pub directories: Vec<String>,
    /// Where its files are, if on another machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<String>,
    pub limits: Resources,
}

/// One use of a permission.
#[derive(Debug, Serialize)]
struct Use {
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
    verbose: bool,
    queue: Mutex<Option<SyncSender<Line>>>,
    /// The line to write after those in the queue.
    last: Arc<Mutex<Option<Line>>>,
    written: Mutex<Option<Receiver<()>>>,
    seen: Mutex<Seen>,
}

/// The events so far.
#[derive(Debug, Default)]
struct Seen {
    uses: HashSet<String>,
    denials: HashSet<String>,
    unwritten: u64,
}

/// What happens to an event.
enum Fate {
    Written { told: bool },
    Counted,
}

impl Seen {
    fn fate(&mut self, event: &Event) -> Fate {
        let (all, most) = match event.allowed {
            true => (&mut self.uses, MAX_USES),
            false => (&mut self.denials, MAX_DENIALS),
        };
        let name = format!("{} {} {}", event.permission, event.action, event.object);
        if all.contains(&name) {
            self.unwritten += 1;
            return Fate::Counted;
        }
        let number = all.len();
        if number < most {
            all.insert(name);
        } else if !event.allowed || event.action == "receive" {
            // The guest, or anybody who sends to it, can cause any number of these.
            self.unwritten += 1;
            return Fate::Counted;
        }
        Fate::Written {
            told: !event.allowed && number < MAX_TOLD,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Audit {
    /// Opens the file, if one is to be written. With `verbose`, denials are printed on
    /// stderr. `None` if there is neither.
    pub fn new(file: Option<&Path>, verbose: bool) -> Result<Option<Audit>, Failure> {
        if file.is_none() && !verbose {
            return Ok(None);
        }
        let (mut queue, mut written) = (None, None);
        let last = Arc::default();
        if let Some(path) = file {
            let opened = open(path).map_err(|why| {
                let path = path.to_string_lossy();
                Failure::new(format!("can't write the audit file {}: {why}", escape(&path)))
            })?;
            let path = path.to_path_buf();
            let (send, receive) = sync_channel(QUEUE);
            let (done, is_done) = sync_channel(1);
            let ending = Arc::clone(&last);
            thread::spawn(move || {
                write_lines(opened, &path, &receive, &ending);
                let _ = done.send(());
            });
            (queue, written) = (Some(send), Some(is_done));
        }
        Ok(Some(Audit {
            shared: Arc::new(Shared {
                verbose,
                queue: Mutex::new(queue),
                last,
                written: Mutex::new(written),
                seen: Mutex::default(),
            }),
        }))
    }

    /// The guest is about to start.
    pub fn granted(&self, granted: Granted) {
        self.push(Line::Granted(granted));
    }

    /// Writes the remaining lines and the run's exit code. Waits for at most half a
    /// second.
    pub fn finish(&self, code: u8) {
        let Some(queue) = lock(&self.shared.queue).take() else {
            return;
        };
        let unwritten = lock(&self.shared.seen).unwritten;
        let time = now();
        *lock(&self.shared.last) = Some(Line::Ended { time, code, unwritten });
        drop(queue);
        if let Some(written) = lock(&self.shared.written).take() {
            let _ = written.recv_timeout(GRACE);
        }
    }

    fn push(&self, line: Line) {
        let queue = lock(&self.shared.queue).clone();
        if let Some(queue) = queue {
            // Fails only while the process ends because a line could not be written.
            let _ = queue.send(line);
        }
    }
}

impl Observer for Audit {
    fn observed(&self, event: Event) {
        let fate = lock(&self.shared.seen).fate(&event);
        let Fate::Written { told } = fate else { return };
        let Event {
            permission,
            action,
            object,
            allowed,
        } = event;
        let object = escape(&object).to_string();
        if told && self.shared.verbose {
            // If nobody reads stderr, the guest still goes on.
            let _ = writeln!(io::stderr(), "denied: {permission} {action} {object}");
        }
        let use_ = Use {
            time: now(),
            permission,
            action,
            object,
        };
        self.push(if allowed { Line::Used(use_) } else { Line::Denied(use_) });
    }
}

/// Opens the file to append to: a new file, an empty one, or one that begins with a line
/// of an audit, so that nothing else of the operator's is written into. No link is
/// followed: a guest may have left one in its place.
fn open(path: &Path) -> Result<File, String> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    let opened = options.custom_flags(flags).open(path);
    let mut file = opened.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::LOOP) => "it is a symbolic link, which is not followed".to_string(),
        _ => error.to_string(),
    })?;
    let meta = file.metadata().map_err(|error| error.to_string())?;
    if !meta.is_file() {
        return Err("it is not a file".to_string());
    }
    let mut start = Vec::new();
    let read = (&mut file).take(LINE_START.len() as u64).read_to_end(&mut start);
    read.map_err(|error| error.to_string())?;
    if !start.is_empty() && start != LINE_START {
        return Err("it contains something other than an audit, which is left as it is".to_string());
    }
    // A run on a full disk may have left half a line.
    let mut last = [b'\n'];
    let end = meta.len().checked_sub(1);
    let read = end.map(|end| file.read_exact_at(&mut last, end));
    read.transpose().map_err(|error| error.to_string())?;
    if last != [b'\n'] {
        file.write_all(b"\n").map_err(|error| error.to_string())?;
    }
    Ok(file)
}

pub fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}

/// Writes lines until there are no more, then the last one.
fn write_lines(mut file: File, path: &Path, lines: &Receiver<Line>, last: &Mutex<Option<Line>>) {
    let mut write = |line: &Line| {
        let mut bytes = serde_json::to_vec(line).unwrap_or_default();
        bytes.push(b'\n');
        if let Err(error) = file.write_all(&bytes) {
            end(path, &error);
        }
    };
    lines.iter().for_each(|line| write(&line));
    if let Some(line) = lock(last).take() {
        write(&line);
    }
}

/// Ends the process, whether or not anybody reads stderr.
fn end(path: &Path, error: &io::Error) -> ! {
    thread::spawn(|| {
        thread::sleep(GRACE);
        std::process::exit(FAILED);
    });
    let path = path.to_string_lossy();
    let path = escape(&path);
    let _ = writeln!(
        io::stderr(),
        "error: can't write the audit file {path}: {error}\nhint: the run was ended, because its uses could not be recorded: free some space, or use a file elsewhere"
    );
    std::process::exit(FAILED);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(object: usize, allowed: bool) -> Event {
        Event {
            permission: "net",
            action: "connect",
            object: object.to_string(),
            allowed,
        }
    }

    #[test]
    fn flood_of_denials_is_counted_and_hides_no_use() {
        let mut seen = Seen::default();
        let written = |seen: &mut Seen, event: &Event| matches!(seen.fate(event), Fate::Written { .. });
        let denials = (0..5000).filter(|n| written(&mut seen, &event(*n, false))).count();
        assert_eq!(denials, MAX_DENIALS);
        assert!((0..5000).all(|n| written(&mut seen, &event(n, true))));
        assert!(!written(&mut seen, &event(0, true)), "it was written before");
        assert_eq!(seen.unwritten, 5000 - MAX_DENIALS as u64 + 1);
    }
}
