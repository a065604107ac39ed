//! Calls functions: a linked component, with limits and, if there is a pool, instances.

use std::sync::Arc;
use std::time::Duration;

use qyvol_types::Pool as PoolSettings;
use wasmtime::component::InstancePre;

use super::pool::{Instance, Pool};
use super::{Answer, Arguments, CallError, Function, PRINTED};
use crate::component::ComponentState;
use crate::concurrent::{Guests, Terms};
use crate::program::BLOCKING_THREADS;
use crate::spec::Guest;
use crate::{Peer, Program, RunLimits, RunSpec, RuntimeError};

/// Bytes of host memory that a result may take, and that one call of the guest may pass to
/// the host.
const CALL_BYTES: usize = 64 << 20;

/// Limits of each call, in addition to those of [`RunSpec`].
#[derive(Clone, Copy, Debug, Default)]
pub struct CallLimits {
    /// How long its guest may exist.
    pub time: Option<Duration>,
    /// Processor time.
    pub cpu: Option<Duration>,
    /// Bytes of host memory that a result may take, and that one call of the guest may pass
    /// to the host; [`CALL_BYTES`] at most, and if it is not set.
    pub bytes: Option<usize>,
}

impl CallLimits {
    fn terms(self, guest: Guest) -> Terms {
        Terms {
            guest,
            time: self.time,
            cpu: self.cpu,
            call_bytes: self.bytes.map_or(CALL_BYTES, |bytes| bytes.min(CALL_BYTES)),
        }
    }
}

/// A component whose functions are ready to be called. Clones share it.
#[derive(Clone)]
pub struct Caller {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) guests: Guests,
    pub(super) entry: InstancePre<ComponentState>,
    pub(super) pool: Option<Arc<Pool>>,
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Caller")
    }
}

impl Caller {
    /// Links a loaded program, whose engine must be one for services.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::Host`] if its code is not that of a service, or counts no fuel and
    /// `spec` limits that; [`RuntimeError::Instantiate`] if it does not fit what is linked.
    pub fn new(program: Program, spec: RunSpec, limits: CallLimits) -> Result<Caller, RuntimeError> {
        Caller::link(program, spec, limits.terms(Guest::Call))
    }

    /// The same for a function that runs for itself: what it prints to stdout goes there.
    ///
    /// # Errors
    ///
    /// As [`Caller::new`].
    pub fn for_process(program: Program, spec: RunSpec, limits: CallLimits) -> Result<Caller, RuntimeError> {
        Caller::link(program, spec, limits.terms(Guest::Process))
    }

    fn link(program: Program, spec: RunSpec, terms: Terms) -> Result<Caller, RuntimeError> {
        let (guests, entry) = Guests::new(program, spec, terms, "a core module has no functions with types")?;
        Ok(Caller::of(guests, entry, None))
    }

    fn of(guests: Guests, entry: InstancePre<ComponentState>, pool: Option<Arc<Pool>>) -> Caller {
        Caller {
            shared: Arc::new(Shared { guests, entry, pool }),
        }
    }

    /// The same component, with limits for the calls of one function, and with instances
    /// that are kept for them, if there is a pool.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::Host`] if its code counts no fuel and `run` limits that.
    pub fn for_function(
        &self,
        run: RunLimits,
        limits: CallLimits,
        pool: Option<&PoolSettings>,
    ) -> Result<Caller, RuntimeError> {
        let guests = self.shared.guests.with_limits(run, limits.terms(Guest::Call))?;
        Ok(Caller::of(guests, self.shared.entry.clone(), pool.and_then(Pool::new)))
    }

    /// Calls a function.
    ///
    /// # Errors
    ///
    /// Why it did not return.
    pub fn call(&self, function: &Function, arguments: Arguments) -> Result<Answer, CallError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .build()
            .map_err(|e| CallError::Runtime(RuntimeError::Host(e.to_string())))?;
        let answer = runtime.block_on(self.answer(function, arguments, None));
        // A name lookup that the guest has cancelled is not waited for.
        runtime.shutdown_background();
        crate::flush_printed(PRINTED);
        answer
    }

    /// Counts bytes of arguments.
    pub(super) fn received(&self, bytes: usize) {
        self.shared.guests.figures.received(bytes);
    }

    /// Calls a function within a tokio runtime with time and I/O; on behalf of a client, if it
    /// is authenticated.
    pub(super) async fn answer(
        &self,
        function: &Function,
        arguments: Arguments,
        peer: Option<&Peer>,
    ) -> Result<Answer, CallError> {
        let Shared { guests, entry, pool } = &*self.shared;
        let identity = guests.identity(peer);
        let Some(pool) = pool else {
            let deadline = guests.deadline();
            let mut instance = Instance::new(guests, deadline).map_err(CallError::Runtime)?;
            instance.called_by(identity);
            let value = instance.run(guests, entry, deadline, function, &arguments).await?;
            return Ok(Answer { value });
        };
        let (mut taken, deadline) = pool.take(guests).await?;
        let mut instance = match taken.instance.take() {
            Some(instance) => instance,
            None => Instance::new(guests, deadline).map_err(CallError::Runtime)?,
        };
        instance.called_by(identity);
        // If it fails, or this future is dropped, the instance is dropped.
        let value = instance.run(guests, entry, deadline, function, &arguments).await?;
        pool.keep(instance, taken);
        Ok(Answer { value })
    }

    /// Makes one instance and drops it, within a tokio runtime.
    pub(crate) async fn try_out(&self) -> Result<(), CallError> {
        let Shared { guests, entry, .. } = &*self.shared;
        let deadline = guests.deadline();
        let mut instance = Instance::new(guests, deadline).map_err(CallError::Runtime)?;
        instance.start(guests, entry, deadline).await
    }

    /// Makes the instances that are there from the start, if no more than `calls` run at
    /// once. Called within a tokio runtime.
    pub(super) async fn fill(&self, calls: usize) -> Result<(), CallError> {
        let Shared { guests, entry, pool } = &*self.shared;
        let Some(pool) = pool else { return Ok(()) };
        let mut made = Vec::new();
        for _ in 0..pool.at_start(calls) {
            let (taken, deadline) = pool.take(guests).await?;
            let mut instance = Instance::new(guests, deadline).map_err(CallError::Runtime)?;
            instance.start(guests, entry, deadline).await?;
            made.push((instance, taken));
        }
        for (instance, taken) in made {
            pool.keep(instance, taken);
        }
        Ok(())
    }
}
