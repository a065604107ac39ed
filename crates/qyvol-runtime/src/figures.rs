//! Figures of the guests of one application, added up for its operator.
//!
//! They cost a request a few additions and clock reads, and no system call.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use qyvol_sandbox::{Event, Observer};

/// What the guests of an application have used so far, in all its versions.
#[derive(Debug, Default)]
pub struct GuestFigures {
    made: AtomicU64,
    reused: AtomicU64,
    instantiating: AtomicU64,
    running: AtomicU64,
    memory: AtomicU64,
    received: AtomicU64,
    denied: AtomicU64,
}

/// [`GuestFigures`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuestTotals {
    /// Instances that were made.
    pub made: u64,
    /// Requests that were given an instance which had answered others.
    pub reused: u64,
    /// The total time to make the instances, which includes the code that a guest runs then.
    pub instantiating: Duration,
    /// How long guests have occupied a thread, from getting it to giving it up: their processor
    /// time, and the time that the kernel gave to other threads meanwhile.
    pub running: Duration,
    /// The most bytes of linear memory and tables that one guest has had.
    pub memory: u64,
    /// Bytes of requests' bodies that guests were given.
    pub received: u64,
    /// Calls of guests that were denied.
    pub denied: u64,
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl GuestFigures {
    /// All of them.
    pub fn totals(&self) -> GuestTotals {
        let read = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        GuestTotals {
            made: read(&self.made),
            reused: read(&self.reused),
            instantiating: Duration::from_nanos(read(&self.instantiating)),
            running: Duration::from_nanos(read(&self.running)),
            memory: read(&self.memory),
            received: read(&self.received),
            denied: read(&self.denied),
        }
    }

    pub(crate) fn made(&self, took: Duration) {
        self.made.fetch_add(1, Ordering::Relaxed);
        self.instantiating.fetch_add(nanos(took), Ordering::Relaxed);
    }

    pub(crate) fn reused(&self) {
        self.reused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn ran(&self, time: Duration) {
        self.running.fetch_add(nanos(time), Ordering::Relaxed);
    }

    pub(crate) fn had_memory(&self, bytes: u64) {
        self.memory.fetch_max(bytes, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// Counts what is denied, and passes all of it on.
#[derive(Debug)]
pub(crate) struct Counting {
    pub(crate) figures: Arc<GuestFigures>,
    pub(crate) next: Option<Arc<dyn Observer>>,
}

impl Observer for Counting {
    fn observed(&self, event: Event) {
        if !event.allowed {
            self.figures.denied.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(next) = &self.next {
            next.observed(event);
        }
    }
}
