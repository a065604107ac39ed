//! The queue of a server's supervisor: requests to check its targets, the end of the server,
//! and resources of applications whose last guest has ended.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use qyvol_runtime::RuntimeError;

use crate::Context;
use crate::run::Held;

/// Makes a server check its target at once. Clones signal the same one.
#[derive(Clone, Default)]
pub struct Reload {
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

/// Pending work.
#[derive(Default)]
pub(super) struct Waiting {
    pub(super) is_asked: bool,
    pub(super) gone: Vec<Gone>,
    pub(super) has_ended: bool,
}

impl Reload {
    /// Requests a check.
    pub fn ask(&self) {
        self.waiting().is_asked = true;
        self.queue.changed.notify_all();
    }

    pub(super) fn gone(&self, gone: Gone) {
        self.waiting().gone.push(gone);
        self.queue.changed.notify_all();
    }

    pub(super) fn ended(&self) {
        self.waiting().has_ended = true;
        self.queue.changed.notify_all();
    }

    /// Releases resources that no guest needs any more.
    pub(super) fn finish(&self, ctx: &Context<'_>) {
        let gone = std::mem::take(&mut self.waiting().gone);
        gone.into_iter().for_each(|gone| gone.finish(ctx));
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.queue.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is something to do, or until this time.
    pub(super) fn wait(&self, until: Option<Instant>) -> Waiting {
        let mut waiting = self.waiting();
        while !waiting.is_asked && !waiting.has_ended && waiting.gone.is_empty() {
            let Some(until) = until else {
                waiting = self.queue.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.queue.changed.wait_timeout(waiting, left);
            waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::take(&mut *waiting)
    }
}

/// Resources that no guest needs any more.
pub(super) struct Gone {
    pub(super) held: Held,
    /// The first failure of an asset's check.
    pub(super) broken: Option<RuntimeError>,
}

impl Gone {
    pub(super) fn finish(self, ctx: &Context<'_>) {
        // A service has no netfs: there is nothing to send.
        self.held.finish(ctx, self.broken.as_ref());
    }
}
