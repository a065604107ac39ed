//! Waits for changes of a project's files, by inotify(7).
//!
//! An event only wakes: what has changed is found by comparing the files with those that were
//! there before. So an event that is lost or joined with others, an editor that writes by rename,
//! and a directory that was moved away and back need no rules of their own. Watches belong to
//! the directories themselves, not to their names.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use rustix::io::{Errno, read};

use super::files::{Changed, Files};
use crate::failure::Failure;

/// Changes that follow one another this closely are one.
const QUIET: Duration = Duration::from_millis(20);
/// Changes that never stop are looked at this often.
const LONGEST: Duration = Duration::from_millis(300);

/// What ends a wait.
#[derive(Debug, PartialEq, Eq)]
pub enum Wake {
    /// Something has changed in a directory.
    Event,
    /// The program that this number was given to has ended.
    Exited(u64),
    /// The service does not answer any longer.
    Left,
    /// The command ends.
    End,
}

/// The files of a project, and what wakes whoever waits for them.
pub struct Watch {
    inotify: Arc<OwnedFd>,
    wakes: Receiver<Wake>,
    sender: Sender<Wake>,
    /// The project's directory.
    root: PathBuf,
    /// As they were when they were looked at last.
    files: Files,
    /// Whether there was an event that nobody has heard of.
    is_pending: bool,
}

impl Watch {
    /// Begins to watch a directory. `made` are the files that its build makes, wherever they are.
    pub fn new(root: &Path, made: &[PathBuf]) -> Result<Watch, Failure> {
        let inotify = init(CreateFlags::CLOEXEC).map_err(|error| failed(root, error))?;
        let (sender, wakes) = channel();
        let mut watch = Watch {
            inotify: Arc::new(inotify),
            wakes,
            sender,
            root: root.to_path_buf(),
            files: Files::default(),
            is_pending: false,
        };
        watch.look(made)?;
        let (inotify, wake) = (Arc::clone(&watch.inotify), watch.sender.clone());
        thread::spawn(move || {
            let mut events = vec![0_u8; 64 << 10];
            loop {
                match read(&*inotify, &mut events) {
                    Ok(1..) | Err(Errno::INTR) if wake.send(Wake::Event).is_ok() => {}
                    _ => return,
                }
            }
        });
        Ok(watch)
    }

    /// Wakes whoever waits.
    pub fn waker(&self) -> Sender<Wake> {
        self.sender.clone()
    }

    /// Looks at the files, and watches their directories. Returns what has changed.
    pub fn look(&mut self, made: &[PathBuf]) -> Result<Changed, Failure> {
        let files = Files::read(&self.root, made, &self.files, &|directory| self.add(directory))?;
        let changed = self.files.compare(&files);
        self.files = files;
        Ok(changed)
    }

    /// Watches a directory, which may be watched already.
    fn add(&self, directory: &Path) -> Result<(), Failure> {
        let events = WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ATTRIB
            | WatchFlags::ONLYDIR;
        match add_watch(&*self.inotify, directory, events) {
            // It is gone again.
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(error) => Err(failed(directory, error)),
        }
    }

    /// Waits for anything but an event, or for events to be followed by none.
    pub fn wait(&mut self) -> Wake {
        while !self.is_pending {
            match self.wakes.recv() {
                Ok(Wake::Event) => self.is_pending = true,
                Ok(other) => return other,
                Err(_) => return Wake::End,
            }
        }
        self.settle(QUIET)
    }

    /// Waits for anything but an event, or until there was no event for this long. If something
    /// else ends it, an event that came before is not forgotten.
    pub fn settle(&mut self, quiet: Duration) -> Wake {
        let end = Instant::now() + LONGEST.max(quiet);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.wakes.recv_timeout(quiet.min(left)) {
                Ok(Wake::Event) if !left.is_zero() => self.is_pending = true,
                Ok(Wake::Event) | Err(RecvTimeoutError::Timeout) => {
                    self.is_pending = false;
                    return Wake::Event;
                }
                Ok(other) => return other,
                Err(RecvTimeoutError::Disconnected) => return Wake::End,
            }
        }
    }
}

fn failed(directory: &Path, error: Errno) -> Failure {
    let failure = Failure::new(format!("can't watch {}: {error}", directory.display()));
    match error {
        Errno::NOSPC => failure
            .hint("this user watches as many directories as may be: the sysctl fs.inotify.max_user_watches allows more")
            .hint("directories that .gitignore names are not watched"),
        Errno::MFILE => failure.hint("the sysctl fs.inotify.max_user_instances allows more"),
        _ => failure,
    }
}
