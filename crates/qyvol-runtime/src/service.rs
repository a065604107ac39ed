//! A component that answers requests over HTTP.
//!
//! Each request has a store and an instance of its own, with everything that the
//! [`RunSpec`] lists and nothing of another request. It runs as a task beside others:
//! a guest that waits holds no thread, and one that computes gives its thread up at each
//! tick of the epoch. It is ended at its deadline in two ways: by the epoch while it
//! computes, and by dropping its future while it waits for the host.
//!
//! Deliberately absent: connections, and how many requests there are at once.

mod trial;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::Body;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{Request, Response};
use thiserror::Error;
use tokio::sync::oneshot;
use wasmtime::component::Linker;
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi_http::Error as HttpError;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use crate::component::ComponentState;
use crate::cut::CutBody;
use crate::error::chain;
use crate::handler::{Answer, Handler, Progress, Running};
use crate::link::Linked;
use crate::net::Network;
use crate::output::{self, OutputBudget};
use crate::process::Programs;
use crate::program::Code;
use crate::spec::Guest;
use crate::{Exit, Limit, Program, RunSpec, RuntimeError, trap};

/// How often guests that compute are interrupted, to let others run.
const TICK: Duration = Duration::from_millis(10);
/// Handles of a guest's tables, those of streams and tasks in WASI 0.3 too.
const HANDLES: usize = 4096;
/// Bytes that one call of a guest may pass to the host.
const CALL_BYTES: usize = 16 << 20;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A service, ready to answer. Clones share it.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
}

struct Shared {
    program: Program,
    handler: Handler,
    linked: Linked,
    spec: RunSpec,
    limits: ServiceLimits,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Service")
    }
}

/// Limits of each request, in addition to those of [`RunSpec`].
#[derive(Clone, Copy, Debug)]
pub struct ServiceLimits {
    /// How long its guest may exist: until the response has been written and it has
    /// returned.
    pub time: Duration,
    /// Processor time.
    pub cpu: Option<Duration>,
    /// Bytes of the request's body. Reading more fails.
    pub body: usize,
}

/// Marks a request that came over TLS, as one of its extensions.
#[derive(Clone, Copy, Debug)]
pub struct Secure;

/// The body of a response. It fails if the guest is ended before it has written all.
pub type ResponseBody = UnsyncBoxBody<Bytes, Incomplete>;

/// A guest was ended in the middle of its response.
#[derive(Clone, Copy, Debug, Error)]
#[error("the guest was ended in the middle of its response")]
pub struct Incomplete;

impl From<HttpError> for Incomplete {
    fn from(_: HttpError) -> Incomplete {
        Incomplete
    }
}

/// Why a guest did not answer a request, or not to its end.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// It trapped: why, and where in the guest.
    #[error("it trapped: {0}")]
    Trap(String),
    /// A limit ended it; how it trapped then, if it did.
    #[error("{0}{sep}{1}", sep = if .1.is_empty() { "" } else { "; it trapped: " })]
    Limit(Limit, String),
    /// It took longer.
    #[error("it took more than {} s", .0.as_secs_f64())]
    Time(Duration),
    /// It used more processor time.
    #[error("it used more than {} s of processor time", .0.as_secs_f64())]
    CpuTime(Duration),
    /// It exited.
    #[error("it exited with {0}")]
    Exit(i32),
    /// It returned without a response.
    #[error("it returned without a response")]
    NoResponse,
    /// It answered with an error in place of a response.
    #[error("it answered with the error {0}")]
    Declined(String),
    /// The host's part failed, or an asset is not what was signed.
    #[error(transparent)]
    Runtime(RuntimeError),
}

impl Service {
    /// Links a loaded program, whose engine must be one for services.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::Host`] if its code is not that of a service, or counts no fuel and
    /// `spec` limits that; [`RuntimeError::Instantiate`] if it does not fit what is linked.
    pub fn new(program: Program, mut spec: RunSpec, limits: ServiceLimits) -> Result<Service, RuntimeError> {
        let Code::Component(component) = &program.code else {
            return Err(RuntimeError::Host("a core module is not a service".to_string()));
        };
        if !program.is_service() {
            return Err(RuntimeError::Host(
                "its code can't be interrupted, as that of a service must be".to_string(),
            ));
        }
        program.check_fuel(&spec)?;
        // They belong to one run.
        spec.programs = Programs::default();
        let mut linker = Linker::new(&program.engine);
        let linked = crate::link::link(&mut linker, component, &spec).map_err(|e| RuntimeError::Host(chain(&e)))?;
        let unfit = |error| RuntimeError::Instantiate(chain(&error));
        let pre = linker.instantiate_pre(component).map_err(unfit)?;
        let handler = Handler::new(component, pre).map_err(unfit)?;
        start_ticking(&program.engine)?;
        Ok(Service {
            shared: Arc::new(Shared {
                program,
                handler,
                linked,
                spec,
                limits,
            }),
        })
    }

    /// Answers a request, which must name its host. Called within a runtime of tokio with
    /// several threads, time and I/O.
    ///
    /// The guest goes on after this returns, until it has written the response's body and
    /// returned, or until its deadline. Then `ended` is called. If this future is dropped
    /// before it returns, the guest is ended, and `ended` is dropped.
    ///
    /// # Errors
    ///
    /// Why there is no response.
    pub async fn handle<B>(
        &self,
        request: Request<B>,
        ended: impl FnOnce(&Result<(), ServiceError>) + Send + 'static,
    ) -> Result<Response<ResponseBody>, ServiceError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (sender, mut receiver) = oneshot::channel();
        let progress = Arc::new(Progress::default());
        let (shared, of_guest) = (Arc::clone(&self.shared), Arc::clone(&progress));
        let mut guest = Box::pin(async move {
            let answered = shared.answer(request, sender, of_guest).await;
            ended(&answered);
            answered
        });
        // Most guests have returned by the time that they have answered, and need no task.
        let answered = poll_fn(|cx| {
            let returned = guest.as_mut().poll(cx);
            match (receiver.try_recv(), returned) {
                (Ok(response), Poll::Pending) => Poll::Ready(Ok((response, false))),
                (Ok(response), Poll::Ready(_)) => Poll::Ready(Ok((response, true))),
                (Err(_), Poll::Pending) => Poll::Pending,
                (Err(_), Poll::Ready(Ok(()))) => Poll::Ready(Err(ServiceError::NoResponse)),
                (Err(_), Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
            }
        });
        let (response, has_returned) = answered.await?;
        if !has_returned {
            tokio::spawn(guest);
        }
        let body = |body| CutBody::new(body, progress.cut.clone(), || Incomplete).boxed_unsync();
        Ok(response.map(body))
    }
}

/// Advances the engine's epoch for as long as it exists.
pub(crate) fn start_ticking(engine: &wasmtime::Engine) -> Result<(), RuntimeError> {
    let engine = engine.weak();
    let tick = move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            thread::sleep(TICK);
        }
    };
    let started = thread::Builder::new().name("epoch".to_string()).spawn(tick);
    started
        .map(|_| ())
        .map_err(|e| RuntimeError::Host(format!("can't start a thread: {e}")))
}

/// The guest is past its deadline.
#[derive(Debug, Error)]
#[error("it is past its deadline")]
pub(crate) struct PastDeadline;

impl Shared {
    /// Runs a guest for a request, to its end.
    async fn answer<B>(
        &self,
        request: Request<B>,
        sender: oneshot::Sender<Response<HyperOutgoingBody>>,
        progress: Arc<Progress>,
    ) -> Result<(), ServiceError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let deadline = Instant::now() + self.limits.time;
        let budget = self.spec.limits.output.map(OutputBudget::new);
        let mut store = self.store(deadline, budget.clone()).map_err(ServiceError::Runtime)?;
        // Dropped before the store is, whose end looks like that of a whole body.
        store.data_mut().cut = progress.cut.clone();
        let running = Running(&progress.cut);
        let limit = self.limits.body;
        let request = request.map(|body| Limited::new(body, limit).map_err(move |error| failure(&*error, limit)));
        let answer = Answer {
            sender,
            progress: Arc::clone(&progress),
        };
        let call = self.handler.call(&mut store, request, answer);
        let call = within(self.limits.cpu, output::within(budget.as_ref(), call));
        let returned = match tokio::time::timeout_at(deadline.into(), call).await {
            Err(_) => return Err(ServiceError::Time(self.limits.time)),
            Ok(Err(limit)) => return Err(ServiceError::CpuTime(limit)),
            Ok(Ok(returned)) => returned,
        };
        let limits = &store.data().limits;
        match returned {
            Ok(()) => {}
            Err(error) if error.is::<PastDeadline>() => return Err(ServiceError::Time(self.limits.time)),
            Err(error) => match trap::end(&error, limits).map_err(ServiceError::Runtime)? {
                Exit::Code(0) => {}
                Exit::Code(code) => return Err(ServiceError::Exit(code)),
                Exit::Trap(why) => return Err(ServiceError::Trap(why)),
                Exit::Limit(limit, why) => return Err(ServiceError::Limit(limit, why)),
            },
        }
        running.returned();
        match progress.answered() {
            Some(Ok(())) => Ok(()),
            Some(Err(name)) => Err(ServiceError::Declined(name.clone())),
            None => Err(ServiceError::NoResponse),
        }
    }

    /// A store for one request.
    fn store(&self, deadline: Instant, budget: Option<OutputBudget>) -> Result<Store<ComponentState>, RuntimeError> {
        let spec = &self.spec;
        let network = Network::new(&spec.net, spec.observer.clone());
        let mut store = self
            .program
            .component_store(spec, Guest::Request, network, budget, self.linked)?;
        store.set_hostcall_fuel(CALL_BYTES);
        store.set_max_component_handles(HANDLES);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |_| match Instant::now() < deadline {
            true => Ok(UpdateDeadline::Yield(1)),
            false => Err(PastDeadline.into()),
        });
        Ok(store)
    }
}

/// The error that a guest gets for a request's body.
fn failure(error: &(dyn std::error::Error + 'static), limit: usize) -> HttpError {
    match error.is::<LengthLimitError>() {
        true => HttpError::HttpRequestBodySize(Some(limit as u64)),
        false => HttpError::ConnectionTerminated,
    }
}

/// Polls a future for at most so much processor time. Guests give up their thread at
/// each tick, so that it is exceeded by little more than one.
pub(crate) async fn within<F: Future>(limit: Option<Duration>, future: F) -> Result<F::Output, Duration> {
    let mut future = pin!(future);
    let mut used = Duration::ZERO;
    poll_fn(|cx| {
        let Some(limit) = limit else {
            return future.as_mut().poll(cx).map(Ok);
        };
        let before = thread_time();
        let polled = future.as_mut().poll(cx);
        used += thread_time().saturating_sub(before);
        match polled {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending if used >= limit => Poll::Ready(Err(limit)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Processor time of this thread.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}
