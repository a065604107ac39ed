//! A limit on what a guest keeps in a directory of the host.
//!
//! The kernel has no such limit for a process without privileges, so each call of the guest
//! that takes space is counted before it is made:
//!
//! ```text
//!   Held (quota, open file) --take--> Plan --the call itself--> Plan::done
//!                               |                    `--failed: dropped, given back
//!                               `-- no space: the call fails with ENOSPC
//! ```
//!
//! A walk counts what exists, at the first call that takes space. From then on each
//! call is added. The count is only an estimate, because other runs may change the
//! directory too. Another walk is made before more than a sixteenth of the limit has been
//! taken since the last one, whatever was freed, so the estimate is wrong by a sixteenth
//! at most. Walks of other runs wait until a walk and the call that needed it are done.
//!
//! A call that finds no space left starts a walk too, in case other runs have freed some,
//! unless walks would then take more than a twentieth of the time.
//!
//! A file without a name still takes space while it is open. No walk finds it, so open
//! files are tracked and added.

mod open;
mod stream;
mod walk;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

pub(crate) use open::{Held, Quotas};
pub(crate) use stream::QuotaStream;
pub use walk::Usage;
use walk::{DIRECTORY, blocks, identity, space_of};

/// The part of a limit that can be taken before another walk.
const PART: u64 = 16;
/// The least that is taken before that, in bytes and in names.
const LEAST_PART: Amount = Amount {
    space: 64 << 10,
    entries: 64,
};
/// A walk that looks for freed space is made only after this many times the duration of the
/// last one.
const WALK_SHARE: u32 = 20;

/// Space and names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amount {
    space: u64,
    entries: u64,
}

impl Amount {
    const NONE: Amount = Amount { space: 0, entries: 0 };

    fn plus(self, other: Amount) -> Amount {
        Amount {
            space: self.space.saturating_add(other.space),
            entries: self.entries.saturating_add(other.entries),
        }
    }

    fn minus(self, other: Amount) -> Amount {
        Amount {
            space: self.space.saturating_sub(other.space),
            entries: self.entries.saturating_sub(other.entries),
        }
    }

    fn is_within(self, limit: Amount) -> bool {
        self.space <= limit.space && self.entries <= limit.entries
    }
}

/// A limit on everything below a directory, shared by the mounts of it.
#[derive(Debug)]
pub struct Quota {
    root: OwnedFd,
    limit: Amount,
    state: Mutex<State>,
    /// Calls that may have made a file shorter.
    cuts: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    count: Option<Count>,
    open: open::OpenFiles,
}

/// An estimate of what exists.
#[derive(Debug)]
struct Count {
    now: Amount,
    /// Taken since the walk.
    since: Amount,
    at: Instant,
    took: Duration,
}

impl Quota {
    /// Limits what is below a directory to this many bytes, in blocks of 4 KiB, and this many
    /// names of files and directories. Nothing is counted yet.
    ///
    /// # Errors
    ///
    /// An error of the system.
    pub fn new(directory: &Path, bytes: u64, files: u64) -> io::Result<Quota> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Quota {
            root: rustix::fs::open(directory, flags, Mode::empty())?,
            limit: Amount {
                space: bytes,
                entries: files,
            },
            state: Mutex::default(),
            cuts: AtomicU64::new(0),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of it is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an amount. ENOSPC if it isn't there.
    fn take(self: &Arc<Quota>, wanted: Amount) -> io::Result<Plan> {
        let mut plan = Plan::new(self);
        if wanted == Amount::NONE {
            return Ok(plan);
        }
        let mut state = self.state();
        let part = Amount {
            space: (self.limit.space / PART).max(LEAST_PART.space),
            entries: (self.limit.entries / PART).max(LEAST_PART.entries),
        };
        let is_due = state.count.as_ref().is_none_or(|count| {
            let fits = count.now.plus(wanted).is_within(self.limit);
            match fits {
                true => !count.since.plus(wanted).is_within(part),
                // Other runs may have freed some.
                false => count.at.elapsed() >= count.took.saturating_mul(WALK_SHARE),
            }
        });
        if is_due {
            plan.lock();
            let count = self.walk(&mut state.open)?;
            state.count = Some(count);
        }
        match &mut state.count {
            Some(count) if count.now.plus(wanted).is_within(self.limit) => {
                count.now = count.now.plus(wanted);
                count.since = count.since.plus(wanted);
                plan.taken = wanted;
                drop(state);
                Ok(plan)
            }
            _ => {
                drop(state);
                Err(Errno::NOSPC.into())
            }
        }
    }

    /// Counts what exists: what has a name, and what this run has open without one.
    fn walk(&self, open: &mut open::OpenFiles) -> io::Result<Count> {
        let started = Instant::now();
        let is_over = |usage: &Usage| usage.space > self.limit.space || usage.entries > self.limit.entries;
        let usage = Usage::below(&self.root, open.nameless(), is_over)?;
        let at = Instant::now();
        Ok(Count {
            now: Amount {
                space: usage.space,
                entries: usage.entries,
            },
            since: Amount::NONE,
            at,
            took: at.duration_since(started),
        })
    }

    /// A file may become shorter.
    fn cut(&self) {
        self.cuts.fetch_add(1, Ordering::Relaxed);
    }

    /// What changes when a file may have become shorter.
    pub(crate) fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::Relaxed)
    }

    /// Frees an amount.
    fn free(&self, amount: Amount) {
        if amount != Amount::NONE
            && let Some(count) = &mut self.state().count
        {
            count.now = count.now.minus(amount);
        }
    }

    /// What is freed where a file, a link or an empty directory loses a name. What is open
    /// stays until it is closed.
    fn freed_by_removal(&self, stat: &Stat) -> Amount {
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if !is_directory && stat.st_nlink > 1 {
            return Amount { space: 0, entries: 1 };
        }
        match self.state().open.has(identity(stat)) {
            true => Amount::NONE,
            false => Amount {
                space: space_of(stat),
                entries: 1,
            },
        }
    }

    /// The guest has opened something.
    pub(crate) fn opened(&self, file: &Arc<File>) -> io::Result<()> {
        let stat = rustix::fs::fstat(file)?;
        self.state().open.add(identity(&stat), file);
        Ok(())
    }

    /// The guest closes something; this is a remaining reference to it.
    pub(crate) fn closing(&self, file: &Arc<File>) {
        if Arc::strong_count(file) > 1 {
            return;
        }
        if let Ok(stat) = rustix::fs::fstat(file)
            && stat.st_nlink == 0
            && !self.state().open.has_other(identity(&stat), file)
        {
            self.free(Amount {
                space: space_of(&stat),
                entries: 1,
            });
        }
    }
}

/// What a call takes and frees. If it is dropped before the call is made, both are undone.
#[derive(Debug)]
#[must_use]
pub(crate) struct Plan {
    quota: Arc<Quota>,
    taken: Amount,
    freed: Amount,
    is_locked: bool,
}

impl Plan {
    fn new(quota: &Arc<Quota>) -> Plan {
        Plan {
            quota: Arc::clone(quota),
            taken: Amount::NONE,
            freed: Amount::NONE,
            is_locked: false,
        }
    }

    /// Makes the walks of other runs wait, if the file system has locks.
    fn lock(&mut self) {
        let lock = || rustix::fs::flock(&self.quota.root, FlockOperation::LockExclusive);
        self.is_locked = rustix::io::retry_on_intr(lock).is_ok();
    }

    /// The call was made.
    pub(crate) fn done(mut self) {
        self.taken = Amount::NONE;
        self.quota.free(self.freed);
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        if self.taken != Amount::NONE
            && let Some(count) = &mut self.quota.state().count
        {
            count.now = count.now.minus(self.taken);
            count.since = count.since.minus(self.taken);
        }
        if self.is_locked {
            // If this fails, the end of the run unlocks it.
            let _ = rustix::fs::flock(&self.quota.root, FlockOperation::Unlock);
        }
    }
}

/// A planned call was made.
pub(crate) fn done(plan: Option<Plan>) {
    if let Some(plan) = plan {
        plan.done();
    }
}

impl Held {
    /// Opens a path, and makes or empties a file there.
    pub(crate) fn open(&self, path: &str, follow: bool, create: bool, truncate: bool) -> io::Result<Option<Plan>> {
        if !create && !truncate {
            return Ok(None);
        }
        let there = self.look(path, follow);
        let entries = u64::from(create && there.is_none());
        let mut plan = self.quota.take(Amount { space: 0, entries })?;
        if let Some(stat) = there.filter(|_| truncate) {
            plan.freed.space = space_of(&stat);
            self.quota.cut();
        }
        Ok(Some(plan))
    }

    /// Makes a directory.
    pub(crate) fn make_directory(&self) -> io::Result<Plan> {
        self.quota.take(Amount {
            space: DIRECTORY,
            entries: 1,
        })
    }

    /// Makes a symbolic link to a target of this many bytes.
    pub(crate) fn make_link(&self, target: usize) -> io::Result<Plan> {
        self.quota.take(Amount {
            space: blocks(target as u64),
            entries: 1,
        })
    }

    /// Adds another name for a file under this quota.
    pub(crate) fn add_name(&self) -> io::Result<Plan> {
        self.quota.take(Amount { space: 0, entries: 1 })
    }

    /// Removes what is at a path.
    pub(crate) fn remove(&self, path: &str) -> Plan {
        let mut plan = Plan::new(&self.quota);
        if let Some(stat) = self.look(path, false) {
            plan.freed = self.quota.freed_by_removal(&stat);
        }
        plan
    }

    /// Renames what is at a path of `from`, over what is at a path here.
    pub(crate) fn rename_from(&self, from: &Held, old: &str, new: &str) -> Plan {
        let mut plan = Plan::new(&self.quota);
        if let (Some(source), Some(target)) = (from.look(old, false), self.look(new, false))
            // Two names of one file both stay.
            && identity(&source) != identity(&target)
        {
            plan.freed = self.quota.freed_by_removal(&target);
        }
        plan
    }

    /// Gives the file a size.
    pub(crate) fn resize(&self, size: u64) -> io::Result<Plan> {
        let (old, new) = (self.space()?, blocks(size));
        let mut plan = self.quota.take(Amount {
            space: new.saturating_sub(old),
            entries: 0,
        })?;
        plan.freed.space = old.saturating_sub(new);
        self.quota.cut();
        Ok(plan)
    }

    /// Writes this many bytes at an offset, or at the end. None if that takes nothing.
    pub(crate) fn write(&self, at: Option<u64>, length: u64) -> io::Result<Option<Plan>> {
        self.write_into(self.size()?, at, length)
    }

    /// The same, in a file that has at least this size.
    pub(crate) fn write_into(&self, size: u64, at: Option<u64>, length: u64) -> io::Result<Option<Plan>> {
        if length == 0 {
            return Ok(None);
        }
        let end = at.unwrap_or(size).saturating_add(length);
        match blocks(end).saturating_sub(blocks(size)) {
            0 => Ok(None),
            space => self.quota.take(Amount { space, entries: 0 }).map(Some),
        }
    }

    fn size(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstat(&self.file)?;
        Ok(u64::try_from(stat.st_size).unwrap_or_default())
    }

    fn space(&self) -> io::Result<u64> {
        Ok(space_of(&rustix::fs::fstat(&self.file)?))
    }

    /// The entry at a path in this directory, if there is one.
    fn look(&self, path: &str, follow: bool) -> Option<Stat> {
        // A plain name can't leave this directory: one system call instead of three.
        if !path.contains('/') && path != ".." {
            let stat = rustix::fs::statat(self.file.as_fd(), path, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            if !follow || FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
                return Some(stat);
            }
        }
        let links = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        let flags = OFlags::PATH | OFlags::CLOEXEC | links;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let there = rustix::fs::openat2(self.file.as_fd(), path, flags, Mode::empty(), resolve).ok()?;
        rustix::fs::fstat(there).ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
