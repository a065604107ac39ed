//! A profile of a guest: which of its functions run, sampled a thousand times a second.
//!
//! ```text
//!   a thread: epoch += 1 every millisecond
//!   the guest, at its next loop or call: callback --stack--> Samples
//!   Profiler::finish: Samples + line tables --> JSON of profiler.firefox.com
//! ```
//!
//! Samples are taken where the guest computes. While the host works for it or it waits,
//! there are none; the processor time of each sample shows that.
//!
//! wasmtime's own profiler is not compiled in: its feature adds a library that loads another
//! one, which the environment names.

mod firefox;
mod samples;

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;
use wasmtime::{AsContext, Store, UpdateDeadline, WasmBacktrace};

use crate::RuntimeError;
use crate::thread_time::thread_time;
use samples::Samples;

/// How often a guest that computes is sampled.
const INTERVAL: Duration = Duration::from_millis(1);

/// Takes the samples of one run.
#[derive(Debug)]
pub struct Profiler {
    name: String,
    /// When it was made, as Unix time.
    date: Duration,
    start: Instant,
    component: OnceLock<Arc<[u8]>>,
    samples: Mutex<Samples>,
    has_begun: AtomicBool,
    is_finished: AtomicBool,
}

/// What a profile has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Profiled {
    /// Samples.
    pub samples: usize,
    /// Whether the samples were cut off while the guest continued.
    pub is_cut: bool,
}

/// The guest still runs when its profile is finished.
#[derive(Debug, Error)]
#[error("its profile is finished")]
struct Finished;

impl Profiler {
    /// For a run that begins now. `name` is shown; `date` is the Unix time.
    pub fn new(name: &str, date: Duration) -> Profiler {
        Profiler {
            name: crate::names::cut(name),
            date,
            start: Instant::now(),
            component: OnceLock::new(),
            samples: Mutex::default(),
            has_begun: AtomicBool::new(false),
            is_finished: AtomicBool::new(false),
        }
    }

    /// Takes samples of this store's guest from now on. Its engine must be one for
    /// profiles. `component` is where its lines are read from.
    pub(crate) fn attach<S: 'static>(
        self: &Arc<Self>,
        store: &mut Store<S>,
        component: Option<&Arc<[u8]>>,
    ) -> Result<(), RuntimeError> {
        if let Some(component) = component {
            // One run has one component.
            let _ = self.component.set(Arc::clone(component));
        }
        self.has_begun.store(true, Ordering::Relaxed);
        let engine = store.engine().weak();
        let tick = move || {
            while let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
                drop(engine);
                thread::sleep(INTERVAL);
            }
        };
        let started = thread::Builder::new().name("profile".to_string()).spawn(tick);
        started.map_err(|e| RuntimeError::Host(format!("can't start a thread: {e}")))?;
        let profiler = Arc::clone(self);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |store| profiler.sample(&store));
        Ok(())
    }

    fn samples(&self) -> MutexGuard<'_, Samples> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sample(&self, store: impl AsContext) -> wasmtime::Result<UpdateDeadline> {
        if self.is_finished.load(Ordering::Relaxed) {
            return Err(Finished.into());
        }
        let mut samples = self.samples();
        if samples.has_place() {
            let stack = WasmBacktrace::force_capture(store);
            samples.add(stack.frames(), self.start.elapsed(), thread_time());
        }
        Ok(UpdateDeadline::Continue(1))
    }

    /// Whether its guest has started.
    pub fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }

    /// Writes the samples, as JSON. A guest that still runs, because its time was over, is
    /// ended at its next sample.
    pub fn finish(&self, output: impl Write) -> io::Result<Profiled> {
        self.is_finished.store(true, Ordering::Relaxed);
        let samples = self.samples();
        let component = self.component.get().map_or(&[][..], |component| component);
        let document = firefox::document(&samples, component, self)?;
        serde_json::to_writer(output, &document)?;
        Ok(Profiled {
            samples: samples.len(),
            is_cut: samples.is_cut(),
        })
    }
}
