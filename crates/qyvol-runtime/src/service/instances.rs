//! The instances of a service: one for each request, or kept for others that come after it.
//!
//! An instance belongs to one request at a time. It is kept only if the application's author
//! wants that, and if its guest has returned after a response: one that trapped, exited,
//! reached a limit, declined or was cancelled is dropped with its request. So is one that has
//! answered as many requests as it may, that still holds anything of the request or its
//! response, or that uses more than half of any limit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::Body;
use hyper::Request;
use wasmtime::Store;
use wasmtime_wasi_http::Error as HttpError;

use super::ServiceError;
use crate::Identity;
use crate::component::ComponentState;
use crate::concurrent::Guests;
use crate::cut::Cut;
use crate::handler::{Answer, Exports, Handler};
use crate::idle::Idle;
use crate::limits::Limits;
use crate::output::OutputBudget;

/// Handles of a guest's tables, those of streams and tasks in WASI 0.3 too.
const HANDLES: usize = 4096;
/// How long an idle instance is kept.
const IDLE: Duration = Duration::from_secs(60);

/// The source of instances, which keeps them for reuse.
pub(super) struct Instances {
    handler: Handler,
    /// Requests that one of them answers.
    reuse: u64,
    /// None if each request has an instance of its own. There are at most as many as there were
    /// concurrent requests.
    idle: Option<Arc<Idle<Instance>>>,
}

/// An instance, or a store for one.
pub(super) struct Instance {
    store: Store<ComponentState>,
    exports: Option<Exports>,
    pub(super) budget: Option<OutputBudget>,
    /// Requests that it has answered, including the current one.
    requests: u64,
}

impl Instances {
    pub(super) fn new(handler: Handler, reuse: u64) -> Instances {
        Instances {
            handler,
            reuse,
            idle: (reuse > 1).then(|| Arc::new(Idle::new(Some(IDLE)))),
        }
    }

    /// One for a request, with all of its limits.
    pub(super) fn take(&self, guests: &Guests, deadline: Option<Instant>) -> Result<Instance, ServiceError> {
        let kept = self.idle.as_ref().and_then(|idle| idle.take());
        let Some(mut instance) = kept else {
            return Instance::new(guests, deadline);
        };
        instance.begin_call(guests, deadline)?;
        guests.figures.reused();
        Ok(instance)
    }

    /// Keeps one whose guest has answered and returned, if it may have another request.
    pub(super) fn keep(&self, mut instance: Instance) {
        if let Some(idle) = &self.idle
            && instance.requests < self.reuse
            && instance.store.data_mut().may_be_kept()
        {
            idle.put(instance);
        }
    }

    pub(super) fn retire(&self) {
        if let Some(idle) = &self.idle {
            idle.close();
        }
    }
}

impl Instance {
    /// A store for an instance that the first call makes.
    pub(super) fn new(guests: &Guests, deadline: Option<Instant>) -> Result<Instance, ServiceError> {
        let budget = guests.budget();
        let mut store = guests.store(deadline, budget.clone()).map_err(ServiceError::Runtime)?;
        store.set_max_component_handles(HANDLES);
        store.data_mut().limits.component_handles = HANDLES;
        Ok(Instance {
            store,
            exports: None,
            budget,
            requests: 1,
        })
    }

    /// Begins another request, with nothing of an earlier one's time and quota.
    fn begin_call(&mut self, guests: &Guests, deadline: Option<Instant>) -> Result<(), ServiceError> {
        if let Some(budget) = &self.budget {
            budget.renew();
        }
        self.requests += 1;
        let begun = guests.begin_call(&mut self.store, deadline);
        begun.map_err(ServiceError::Runtime)
    }

    pub(super) fn begin_request(&mut self, identity: Arc<Identity>, cut: Cut) {
        self.store.data_mut().begin_request(identity, cut);
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.store.data().limits
    }

    /// Instantiates the component, if that has not been done.
    pub(super) async fn start(
        &mut self,
        instances: &Instances,
        guests: &Guests,
    ) -> wasmtime::Result<(&Exports, &mut Store<ComponentState>)> {
        let Instance { store, exports, .. } = self;
        let exports = match exports {
            Some(exports) => exports,
            None => {
                let begun = Instant::now();
                let made = instances.handler.instantiate(store).await?;
                guests.figures.made(begun.elapsed());
                exports.insert(made)
            }
        };
        Ok((exports, store))
    }

    /// Has it answer a request.
    pub(super) async fn call<B>(
        &mut self,
        instances: &Instances,
        guests: &Guests,
        request: Request<B>,
        answer: Answer,
    ) -> wasmtime::Result<()>
    where
        B: Body<Data = Bytes, Error = HttpError> + Send + 'static,
    {
        let (exports, store) = self.start(instances, guests).await?;
        exports.call(store, request, answer).await
    }
}
