//! Instances that are kept for more than one call.
//!
//! An instance belongs to one call at a time. It comes back to its pool only if that call
//! has returned; one that trapped, exited, reached a limit or was cancelled is dropped with its
//! call, and so is one that has more memory than the pool keeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use qyvol_types::{Pool as Settings, PoolKind};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::Store;
use wasmtime::component::{Instance as Exports, InstancePre, Val};

use super::{Arguments, CallError, Function};
use crate::component::ComponentState;
use crate::concurrent::Guests;
use crate::idle::Idle;
use crate::output::OutputBudget;
use crate::{Identity, RuntimeError};

/// A component's instance, or a store for one.
pub(super) struct Instance {
    store: Store<ComponentState>,
    exports: Option<Exports>,
    budget: Option<OutputBudget>,
}

impl Instance {
    /// A store for an instance that the first call makes.
    pub(super) fn new(guests: &Guests, deadline: Option<Instant>) -> Result<Instance, RuntimeError> {
        let budget = guests.budget();
        Ok(Instance {
            store: guests.store(deadline, budget.clone())?,
            exports: None,
            budget,
        })
    }

    /// Begins a call of an instance that has answered others.
    fn begin_call(&mut self, guests: &Guests, deadline: Option<Instant>) -> Result<(), RuntimeError> {
        if let Some(budget) = &self.budget {
            budget.renew();
        }
        guests.begin_call(&mut self.store, deadline)
    }

    /// Who makes its next call.
    pub(super) fn called_by(&mut self, identity: Arc<Identity>) {
        self.store.data_mut().identity = identity;
    }

    async fn exports(&mut self, guests: &Guests, entry: &InstancePre<ComponentState>) -> wasmtime::Result<Exports> {
        if let Some(exports) = self.exports {
            return Ok(exports);
        }
        let begun = Instant::now();
        let made = entry.instantiate_async(&mut self.store).await?;
        guests.figures.made(begun.elapsed());
        Ok(*self.exports.insert(made))
    }

    async fn call(
        &mut self,
        guests: &Guests,
        entry: &InstancePre<ComponentState>,
        function: &Function,
        arguments: &[Val],
    ) -> wasmtime::Result<Option<Val>> {
        let exports = self.exports(guests, entry).await?;
        let Some(callee) = exports.get_func(&mut self.store, function.found.index) else {
            return Err(wasmtime::format_err!("the function is not there"));
        };
        let mut result = [Val::Bool(false)];
        let results = &mut result[..function.found.results];
        callee.call_async(&mut self.store, arguments, results).await?;
        let [result] = result;
        Ok((function.found.results > 0).then_some(result))
    }

    /// Runs one call within its limits.
    pub(super) async fn run(
        &mut self,
        guests: &Guests,
        entry: &InstancePre<ComponentState>,
        deadline: Option<Instant>,
        function: &Function,
        Arguments(arguments): &Arguments,
    ) -> Result<Option<Val>, CallError> {
        let call = self.call(guests, entry, function, arguments);
        match guests.run(deadline, call).await? {
            Ok(value) => Ok(value),
            Err(error) => Err(guests.failed(&error, &self.store.data().limits).into()),
        }
    }

    /// Instantiates the component and calls nothing.
    pub(super) async fn start(
        &mut self,
        guests: &Guests,
        entry: &InstancePre<ComponentState>,
        deadline: Option<Instant>,
    ) -> Result<(), CallError> {
        let started = self.exports(guests, entry);
        match guests.run(deadline, started).await? {
            Ok(_) => Ok(()),
            Err(error) => Err(guests.failed(&error, &self.store.data().limits).into()),
        }
    }

    /// Bytes of linear memory and tables.
    fn memory(&self) -> u64 {
        self.store.data().limits.used()
    }
}

/// The instances that are kept for the calls of one function.
pub(super) struct Pool {
    settings: Settings,
    instances: usize,
    /// One for each instance that may exist.
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// The idle instances.
    idle: Arc<Idle<Instance>>,
}

/// A permit for an instance, and an idle instance, if there is one.
pub(super) struct Taken {
    pub(super) instance: Option<Instance>,
    _place: OwnedSemaphorePermit,
}

/// Counts a call for as long as it waits.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pool {
    /// None where each call has an instance of its own.
    pub(super) fn new(settings: &Settings) -> Option<Arc<Pool>> {
        let instances = settings.instances()?.clamp(1, Semaphore::MAX_PERMITS);
        Some(Arc::new(Pool {
            settings: *settings,
            instances,
            places: Arc::new(Semaphore::new(instances)),
            waiting: AtomicUsize::new(0),
            idle: Arc::new(Idle::new(settings.idle.map(Duration::from_millis))),
        }))
    }

    /// How many instances are made at the start, if no more than `calls` run at once.
    pub(super) fn at_start(&self, calls: usize) -> usize {
        match self.settings.kind {
            PoolKind::Static => self.instances.min(calls),
            _ => 0,
        }
    }

    /// Waits for an instance, or for a permit to make one.
    pub(super) async fn take(&self, guests: &Guests) -> Result<(Taken, Option<Instant>), CallError> {
        let place = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => self.wait().await?,
        };
        let mut instance = self.idle.take();
        let deadline = guests.deadline();
        if let Some(instance) = &mut instance {
            instance.begin_call(guests, deadline).map_err(CallError::Runtime)?;
        }
        let taken = Taken {
            instance,
            _place: place,
        };
        Ok((taken, deadline))
    }

    async fn wait(&self) -> Result<OwnedSemaphorePermit, CallError> {
        let queue = self
            .settings
            .queue
            .map_or(0, |queue| usize::try_from(queue).unwrap_or(usize::MAX));
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        let busy = || CallError::Busy {
            instances: self.instances,
            queue,
        };
        if before >= queue {
            return Err(busy());
        }
        // It is never closed.
        let place = Arc::clone(&self.places).acquire_owned().await;
        place.map_err(|_| busy())
    }

    /// Keeps an instance whose call has returned, if it may be kept.
    pub(super) fn keep(self: &Arc<Self>, instance: Instance, taken: Taken) {
        let retained = self.settings.retained;
        if retained.is_none_or(|retained| instance.memory() <= retained) {
            self.idle.put(instance);
        }
        // The permit is released once the instance is back.
        drop(taken);
    }

    /// The number of idle instances.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.idle.len()
    }
}
