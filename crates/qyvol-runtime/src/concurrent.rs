//! Concurrent guests: those of a [`crate::Service`] and of a [`crate::Caller`]. The
//! program is linked once, and each guest has a store of its own.
//!
//! A guest is ended at its deadline in two ways: by the epoch while it computes, and by
//! dropping its future while it waits for the host.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;
use wasmtime::component::{InstancePre, Linker};
use wasmtime::{EngineWeak, Store, UpdateDeadline};

use crate::component::ComponentState;
use crate::error::chain;
use crate::figures::Counting;
use crate::limits::Limits;
use crate::link::Linked;
use crate::net::Network;
use crate::output::OutputBudget;
use crate::process::Programs;
use crate::program::Code;
use crate::spec::Guest;
use crate::thread_time::thread_time;
use crate::{Exit, GuestFigures, Identity, Limit, Peer, Program, RunLimits, RunSpec, RuntimeError, trap};

/// How often guests that compute are interrupted, to let others run.
const TICK: Duration = Duration::from_millis(10);

/// A linked program and what each of its guests is given.
pub(crate) struct Guests {
    program: Arc<Program>,
    linked: Linked,
    pub(crate) spec: RunSpec,
    terms: Terms,
    pub(crate) figures: Arc<GuestFigures>,
}

/// What differs between guests of services and those of calls.
#[derive(Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) guest: Guest,
    /// How long one may exist.
    pub(crate) time: Option<Duration>,
    /// Processor time of one.
    pub(crate) cpu: Option<Duration>,
    /// Bytes that one call of its may pass to the host.
    pub(crate) call_bytes: usize,
}

/// Why a guest did not finish.
pub(crate) enum Failed {
    Trap(String),
    Limit(Limit, String),
    Time(Duration),
    CpuTime(Duration),
    Exit(i32),
    Runtime(RuntimeError),
}

/// The guest is past its deadline.
#[derive(Debug, Error)]
#[error("it is past its deadline")]
struct PastDeadline;

impl Guests {
    /// Links a loaded program, whose engine must be one for services. `no_module` is the error
    /// for a core module.
    pub(crate) fn new(
        program: Program,
        mut spec: RunSpec,
        terms: Terms,
        no_module: &str,
    ) -> Result<(Guests, InstancePre<ComponentState>), RuntimeError> {
        let Code::Component(component) = &program.code else {
            return Err(RuntimeError::Host(no_module.to_string()));
        };
        if !program.is_service() {
            return Err(RuntimeError::Host(
                "its code can't be interrupted, as that of a service must be".to_string(),
            ));
        }
        program.check_fuel(&spec)?;
        // They belong to one run.
        spec.programs = Programs::default();
        let figures = spec.figures.clone().unwrap_or_default();
        if spec.figures.is_some() {
            spec.observer = Some(Arc::new(Counting {
                figures: Arc::clone(&figures),
                next: spec.observer.take(),
            }));
        }
        let mut linker = Linker::new(&program.engine);
        let linked = crate::link::link(&mut linker, component, &spec).map_err(|e| RuntimeError::Host(chain(&e)))?;
        let unfit = |error| RuntimeError::Instantiate(chain(&error));
        let entry = linker.instantiate_pre(component).map_err(unfit)?;
        start_ticking(&program.engine)?;
        let guests = Guests {
            program: Arc::new(program),
            linked,
            spec,
            terms,
            figures,
        };
        Ok((guests, entry))
    }

    /// The same program with other limits, for further guests.
    pub(crate) fn with_limits(&self, limits: RunLimits, terms: Terms) -> Result<Guests, RuntimeError> {
        let spec = RunSpec {
            limits,
            ..self.spec.clone()
        };
        self.program.check_fuel(&spec)?;
        Ok(Guests {
            program: Arc::clone(&self.program),
            linked: self.linked,
            spec,
            terms,
            figures: Arc::clone(&self.figures),
        })
    }

    /// When a guest that begins now is ended. A time beyond the clock's range is no limit.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.terms.time.and_then(|time| Instant::now().checked_add(time))
    }

    /// The caller of a guest: an authenticated client, or the one that all calls come from.
    pub(crate) fn identity(&self, peer: Option<&Peer>) -> Arc<Identity> {
        match peer {
            Some(peer) => Arc::new(Identity {
                actor: peer.actor(),
                scope: self.spec.caller.scope.clone(),
            }),
            None => Arc::clone(&self.spec.caller),
        }
    }

    /// A budget for what one guest prints, if that is limited.
    pub(crate) fn budget(&self) -> Option<OutputBudget> {
        self.spec.limits.output.map(OutputBudget::new)
    }

    /// A store for one guest.
    pub(crate) fn store(
        &self,
        deadline: Option<Instant>,
        budget: Option<OutputBudget>,
    ) -> Result<Store<ComponentState>, RuntimeError> {
        let spec = &self.spec;
        let network = Network::new(&spec.net, spec.observer.clone());
        let mut store = self
            .program
            .component_store(spec, self.terms.guest, network, budget, self.linked)?;
        store.set_hostcall_fuel(self.terms.call_bytes);
        store.set_epoch_deadline(1);
        let state = store.data_mut();
        state.deadline = deadline;
        state.limits.call_bytes = self.terms.call_bytes;
        state.limits.report_to(&self.figures);
        store.epoch_deadline_callback(|store| {
            match store.data().deadline.is_none_or(|deadline| Instant::now() < deadline) {
                true => Ok(UpdateDeadline::Yield(1)),
                false => Err(PastDeadline.into()),
            }
        });
        Ok(store)
    }

    /// Begins another call of a guest, with the limits of a first one. It keeps its memory.
    pub(crate) fn begin_call(
        &self,
        store: &mut Store<ComponentState>,
        deadline: Option<Instant>,
    ) -> Result<(), RuntimeError> {
        store.set_epoch_deadline(1);
        let state = store.data_mut();
        state.deadline = deadline;
        state.limits.begin_call();
        self.program.refuel(store, &self.spec)
    }

    /// Runs a call of a guest until it returns or reaches a limit.
    pub(crate) async fn run<R>(
        &self,
        deadline: Option<Instant>,
        call: impl Future<Output = wasmtime::Result<R>>,
    ) -> Result<wasmtime::Result<R>, Failed> {
        let call = within(self.terms.cpu, &self.figures, call);
        let returned = match deadline {
            Some(deadline) => match tokio::time::timeout_at(deadline.into(), call).await {
                Ok(returned) => returned,
                Err(_) => return Err(self.out_of_time()),
            },
            None => call.await,
        };
        returned.map_err(Failed::CpuTime)
    }

    /// The cause of the error that a call returned.
    pub(crate) fn failed(&self, error: &wasmtime::Error, limits: &Limits) -> Failed {
        if error.is::<PastDeadline>() {
            return self.out_of_time();
        }
        match trap::end(error, limits, None) {
            Ok(Exit::Code(code)) => Failed::Exit(code),
            Ok(Exit::Trap(why)) => Failed::Trap(why),
            Ok(Exit::Limit(limit, why)) => Failed::Limit(limit, why),
            Err(error) => Failed::Runtime(error),
        }
    }

    fn out_of_time(&self) -> Failed {
        Failed::Time(self.terms.time.unwrap_or_default())
    }
}

/// The engines whose epochs advance. One thread serves all of them, as long as there are any: a
/// host may have a thousand idle services.
static TICKING: Mutex<Vec<EngineWeak>> = Mutex::new(Vec::new());

/// Advances the engine's epoch for as long as it exists.
fn start_ticking(engine: &wasmtime::Engine) -> Result<(), RuntimeError> {
    let lock = || TICKING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut engines = lock();
    engines.push(engine.weak());
    if engines.len() > 1 {
        return Ok(());
    }
    let tick = move || {
        loop {
            thread::sleep(TICK);
            let mut engines = lock();
            engines.retain(|engine| engine.upgrade().map(|engine| engine.increment_epoch()).is_some());
            if engines.is_empty() {
                return;
            }
        }
    };
    let started = thread::Builder::new().name("epoch".to_string()).spawn(tick);
    if let Err(e) = started {
        engines.clear();
        return Err(RuntimeError::Host(format!("can't start a thread: {e}")));
    }
    Ok(())
}

/// Polls a future for at most this much processor time, and measures it. Guests yield at each
/// tick, so the limit is exceeded by little more than one tick.
async fn within<F: Future>(limit: Option<Duration>, figures: &GuestFigures, future: F) -> Result<F::Output, Duration> {
    let mut future = pin!(future);
    let mut used = Duration::ZERO;
    poll_fn(|cx| {
        // Unlike the clock of a thread, this one is read without a call of the system.
        let begun = Instant::now();
        let Some(limit) = limit else {
            let polled = future.as_mut().poll(cx);
            figures.ran(begun.elapsed());
            return polled.map(Ok);
        };
        let before = thread_time();
        let polled = future.as_mut().poll(cx);
        used += thread_time().saturating_sub(before);
        figures.ran(begun.elapsed());
        match polled {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending if used >= limit => Poll::Ready(Err(limit)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
