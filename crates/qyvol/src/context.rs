//! What a verb knows about the host: its directories and the time.

use std::path::{Path, PathBuf};

use qyvol_runtime::Compiler;
use qyvol_store::{LocalStore, NoopReporter, Reporter};
use qyvol_types::Timestamp;

use crate::{Error, TempFiles};

/// The directories of one user.
#[derive(Clone, Debug)]
pub struct Home {
    /// Keys and the trust policy.
    pub config: PathBuf,
    /// The directory that has the store in it, as `store/v1`.
    pub store: PathBuf,
    /// Data of applications (`diskfs`).
    pub data: PathBuf,
    /// A directory in memory for `memfs`, if the host has one.
    pub memory: Option<PathBuf>,
}

impl Home {
    /// All of it in one directory.
    pub fn in_directory(directory: &Path) -> Home {
        Home {
            config: directory.to_path_buf(),
            store: directory.to_path_buf(),
            data: directory.join("data"),
            memory: None,
        }
    }
}

/// The context of every verb.
pub struct Context<'a> {
    /// The directories.
    pub home: Home,
    /// The time that signatures are judged by.
    pub now: Timestamp,
    /// The time that images and signatures record: `SOURCE_DATE_EPOCH`.
    pub source_date: Option<Timestamp>,
    /// Receives progress.
    pub report: &'a dyn Reporter,
    /// The files that are being written, to be removed if the process is ended.
    pub temporaries: &'a TempFiles,
    /// Compiles in a process of its own; if absent, in this one.
    pub compiler: Option<&'a Compiler>,
    /// Another policy than the home's.
    pub policy: Option<PathBuf>,
}

impl<'a> Context<'a> {
    /// A context without progress, in which the same process compiles.
    pub fn new(home: Home, now: Timestamp, temporaries: &'a TempFiles) -> Context<'a> {
        Context {
            home,
            now,
            source_date: None,
            report: &NoopReporter,
            temporaries,
            compiler: None,
            policy: None,
        }
    }
}

impl Context<'_> {
    /// The store, which need not exist yet.
    pub fn store(&self) -> Result<LocalStore, Error> {
        Ok(LocalStore::open(&self.home.store)?)
    }

    /// Reports what the store itself has repaired or skipped.
    pub(crate) fn report_notices(&self, store: &LocalStore) {
        for notice in store.take_notices() {
            self.report
                .warned(&format!("{}: {}", notice.path.display(), notice.what));
        }
    }
}

/// Where the policy is.
pub fn policy_path(ctx: &Context<'_>) -> PathBuf {
    ctx.policy.clone().unwrap_or_else(|| ctx.home.config.join("trust.yaml"))
}
