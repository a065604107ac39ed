//! What a run is granted, uses and is denied: for `-v`, and as lines of JSON in the
//! file of `run --audit`.
//!
//! A line is written before the guest gets what it records. A guest can't make the file grow
//! without limit, nor suppress a line: of equal events the first is written and the others are
//! counted, and of each permission only so many denials are written. If a line can't be
//! written, because the disk is full, the run ends: nothing is used unrecorded.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use qyvol::sandbox::{Event, Observer};
use qyvol::types::{Resources, Timestamp, escape};
use serde::Serialize;

use crate::failure::Failure;
use crate::log_file;

/// How long the end of a run waits for a line that is being written.
const GRACE: Duration = Duration::from_millis(500);
/// Maximum number of denials of one permission that are written.
const MAX_DENIALS: usize = 1024;
/// Maximum number of uses that are remembered, to find equal ones.
const MAX_USES: usize = 4096;
/// How many denials of one permission `-v` prints.
const MAX_REPORTED: usize = 64;
/// How the first line begins: a run that was refused has no other than its end.
const STARTS: [&[u8]; 2] = [
    b"{\"event\":\"granted\",\"time\":\"",
    b"{\"event\":\"ended\",\"time\":\"",
];
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

/// Writes what happens in a run.
#[derive(Clone, Debug)]
pub struct Audit {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    verbose: bool,
    file: Option<Mutex<AuditFile>>,
    path: PathBuf,
    seen: Mutex<Seen>,
    denied: AtomicU64,
}

/// The open file.
#[derive(Debug)]
struct AuditFile {
    file: File,
    /// Its minimum length: the initial length plus what was written.
    length: u64,
}

impl AuditFile {
    fn write(&mut self, line: &Line) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.file.write_all(&bytes)?;
        self.length = self.length.saturating_add(bytes.len() as u64);
        Ok(())
    }

    /// Fails if what was written is no longer there.
    fn check(&self) -> io::Result<()> {
        let meta = self.file.metadata()?;
        match meta.nlink() == 0 || meta.len() < self.length {
            true => Err(io::Error::other("it was removed or truncated during the run")),
            false => Ok(()),
        }
    }
}

/// The events so far.
#[derive(Debug, Default)]
struct Seen {
    uses: HashSet<String>,
    denials: HashMap<&'static str, HashSet<String>>,
    unwritten: u64,
}

/// What happens to an event.
enum Fate {
    Written { reported: bool },
    Counted,
}

impl Seen {
    fn fate(&mut self, event: &Event) -> Fate {
        let (all, most) = match event.allowed {
            true => (&mut self.uses, MAX_USES),
            false => (self.denials.entry(event.permission).or_default(), MAX_DENIALS),
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
            reported: !event.allowed && number < MAX_REPORTED,
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
        match file.is_none() && !verbose {
            true => Ok(None),
            false => Audit::open(file, verbose).map(Some),
        }
    }

    /// The same; without both, denials are only counted.
    pub fn open(file: Option<&Path>, verbose: bool) -> Result<Audit, Failure> {
        let opened = file.map(|path| {
            let opened = log_file::open(path, &STARTS, "an audit");
            let opened = opened.map(|(file, length)| AuditFile { file, length });
            opened.map_err(|why| {
                let path = path.to_string_lossy();
                Failure::new(format!("can't write the audit file {}: {why}", escape(&path)))
            })
        });
        Ok(Audit {
            shared: Arc::new(Shared {
                verbose,
                file: opened.transpose()?.map(Mutex::new),
                path: file.unwrap_or(Path::new("")).to_path_buf(),
                seen: Mutex::default(),
                denied: AtomicU64::new(0),
            }),
        })
    }

    /// How often the guest was denied something.
    pub fn denied(&self) -> u64 {
        self.shared.denied.load(Ordering::Relaxed)
    }

    /// The guest is about to start.
    pub fn granted(&self, granted: Granted) {
        self.push(&Line::Granted(granted));
    }

    /// Writes the run's exit code. Waits for at most half a second for a line that is
    /// being written; what keeps it from being written ends the process.
    pub fn finish(&self, code: u8) {
        let Some(file) = &self.shared.file else { return };
        let unwritten = lock(&self.shared.seen).unwritten;
        let line = Line::Ended {
            time: now(),
            code,
            unwritten,
        };
        let until = Instant::now() + GRACE;
        let written = loop {
            match file.try_lock() {
                Ok(mut file) => break file.write(&line).and_then(|()| file.check()),
                Err(TryLockError::Poisoned(broken)) => break broken.into_inner().write(&line),
                Err(TryLockError::WouldBlock) if Instant::now() > until => break Err(io::ErrorKind::TimedOut.into()),
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(5)),
            }
        };
        if let Err(error) = written {
            end(&self.shared.path, &error);
        }
    }

    fn push(&self, line: &Line) {
        if let Some(file) = &self.shared.file
            && let Err(error) = lock(file).write(line)
        {
            end(&self.shared.path, &error);
        }
    }
}

impl Observer for Audit {
    fn observed(&self, event: Event) {
        if !event.allowed {
            self.shared.denied.fetch_add(1, Ordering::Relaxed);
        }
        let fate = lock(&self.shared.seen).fate(&event);
        let Fate::Written { reported } = fate else { return };
        let Event {
            permission,
            action,
            object,
            allowed,
        } = event;
        let object = escape(&object).to_string();
        if reported && self.shared.verbose {
            // If nobody reads stderr, the guest still goes on.
            let _ = writeln!(io::stderr(), "denied: {permission} {action} {object}");
        }
        let use_ = Use {
            time: now(),
            permission,
            action,
            object,
        };
        self.push(&if allowed { Line::Used(use_) } else { Line::Denied(use_) });
    }
}

pub fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
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
