//! A component that answers requests over HTTP.
//!
//! Each request has a store and an instance with everything that the [`RunSpec`] lists: of
//! its own and with nothing of another request, unless the application's author wants instances
//! to be reused. A guest that waits holds no thread, and one that computes gives its thread up
//! at each tick of the epoch.
//!
//! A component with functions has a service too, which calls one for each request, in an
//! instance of its own.
//!
//! Deliberately absent: connections, and how many requests there are at once.

mod functions;
mod instances;
mod trial;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{Request, Response};
use thiserror::Error;
use tokio::sync::oneshot;
use wasmtime_wasi_http::Error as HttpError;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use self::functions::FunctionService;
use self::instances::{Instance, Instances};
use crate::concurrent::{Failed, Guests, Terms};
use crate::cut::CutBody;
use crate::error::chain;
use crate::handler::{Answer, Handler, Progress, Running};
use crate::output;
use crate::spec::Guest;
use crate::{Callee, Limit, Program, RunSpec, RuntimeError};

/// Bytes that one call of a guest may pass to the host.
const CALL_BYTES: usize = 16 << 20;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A service, ready to answer. Clones share it.
#[derive(Clone)]
pub struct Service {
    answers: Answers,
}

/// What answers requests.
#[derive(Clone)]
enum Answers {
    Handler(Arc<Shared>),
    Functions(Arc<FunctionService>),
}

struct Shared {
    guests: Guests,
    instances: Instances,
    /// Bytes of a request's body.
    body: usize,
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
    /// Requests that one instance answers, one after another; 1 for an instance of its own
    /// for each.
    pub reuse: u64,
}

/// Marks a request whose host the operator has named as one of this server's.
#[derive(Clone, Copy, Debug)]
pub struct NamedHost;

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

/// Why a guest failed to answer a request completely.
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

impl From<Failed> for ServiceError {
    fn from(failed: Failed) -> ServiceError {
        match failed {
            Failed::Trap(why) => ServiceError::Trap(why),
            Failed::Limit(limit, why) => ServiceError::Limit(limit, why),
            Failed::Time(limit) => ServiceError::Time(limit),
            Failed::CpuTime(limit) => ServiceError::CpuTime(limit),
            Failed::Exit(code) => ServiceError::Exit(code),
            Failed::Runtime(error) => ServiceError::Runtime(error),
        }
    }
}

impl Service {
    /// Links a loaded program, whose engine must be one for services.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::Host`] if its code is not that of a service, or counts no fuel and
    /// `spec` limits that, or if its instances are to be reused and can't be;
    /// [`RuntimeError::Instantiate`] if it does not fit what is linked.
    pub fn new(program: Program, spec: RunSpec, limits: ServiceLimits) -> Result<Service, RuntimeError> {
        let terms = Terms {
            guest: Guest::Request,
            time: Some(limits.time),
            cpu: limits.cpu,
            call_bytes: CALL_BYTES,
        };
        let (guests, entry) = Guests::new(program, spec, terms, "a core module is not a service")?;
        let handler = Handler::new(entry).map_err(|error| RuntimeError::Instantiate(chain(&error)))?;
        if limits.reuse > 1 && !handler.is_reusable() {
            return Err(RuntimeError::Host(
                "instances of WASI 0.3 answer one request".to_string(),
            ));
        }
        Ok(Service {
            answers: Answers::Handler(Arc::new(Shared {
                guests,
                instances: Instances::new(handler, limits.reuse),
                body: limits.body,
            })),
        })
    }

    /// Answers requests by calling functions by their names. `limits.cpu` is no part of it,
    /// as each function has its own.
    pub fn of_functions(functions: BTreeMap<String, Callee>, limits: ServiceLimits) -> Service {
        let service = FunctionService::new(functions, limits.body, limits.time);
        Service {
            answers: Answers::Functions(Arc::new(service)),
        }
    }

    /// Keeps no instance for another request from now on, and drops those that are kept.
    pub fn retire(&self) {
        if let Answers::Handler(shared) = &self.answers {
            shared.instances.retire();
        }
    }

    /// Answers a request, which must name its host. Called within a multi-threaded tokio
    /// runtime with time and I/O.
    ///
    /// The guest continues after this returns, until it has written the response's body and
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
        let shared = match &self.answers {
            Answers::Handler(shared) => Arc::clone(shared),
            Answers::Functions(functions) => return Ok(functions.handle(request, ended).await),
        };
        let (sender, mut receiver) = oneshot::channel();
        let progress = Arc::new(Progress::default());
        let of_guest = Arc::clone(&progress);
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
        let deadline = self.guests.deadline();
        let identity = self.guests.identity(request.extensions().get());
        let mut instance = self.instances.take(&self.guests, deadline)?;
        instance.begin_request(identity, progress.cut.clone());
        // Dropped before the instance, whose end looks like that of a complete body.
        let running = Running(&progress.cut);
        let (limit, figures) = (self.body, Arc::clone(&self.guests.figures));
        let request = request.map(|body| {
            let body = body.map_frame(move |frame| {
                figures.received(frame.data_ref().map_or(0, Bytes::len));
                frame
            });
            Limited::new(body, limit).map_err(move |error| failure(&*error, limit))
        });
        let answer = Answer {
            sender,
            progress: Arc::clone(&progress),
        };
        let budget = instance.budget.clone();
        let call = instance.call(&self.instances, &self.guests, request, answer);
        let call = output::within(budget.as_ref(), call);
        let returned = self.guests.run(deadline, call).await?;
        if let Err(error) = &returned {
            match self.guests.failed(error, instance.limits()) {
                Failed::Exit(0) => {}
                failed => return Err(failed.into()),
            }
        }
        running.returned();
        match progress.answered() {
            Some(Ok(())) if returned.is_ok() => {
                self.instances.keep(instance);
                Ok(())
            }
            Some(Ok(())) => Ok(()),
            Some(Err(name)) => Err(ServiceError::Declined(name.clone())),
            None => Err(ServiceError::NoResponse),
        }
    }
}

/// The error that a guest gets for a request's body.
fn failure(error: &(dyn std::error::Error + 'static), limit: usize) -> HttpError {
    match error.is::<LengthLimitError>() {
        true => HttpError::HttpRequestBodySize(Some(limit as u64)),
        false => HttpError::ConnectionTerminated,
    }
}
