//! `serve`: what `run` does up to the guest, then a server in front of it.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use qyvol_runtime::{CodeKind, RuntimeError, Service, ServiceError, ServiceLimits, serves};
use qyvol_serve::{AccessSink, App, Keeper, ServerEvent, ServerLimits, Setup, Site, Stop};
use qyvol_types::FsKind;

use crate::run::{Launch, Prepared, StepTimer, VerifiedTarget};
use crate::{Context, Error, RunRequest};

/// What to serve.
pub struct ServeRequest<'a> {
    /// The service and what it is given, as for a run of it.
    pub run: RunRequest<'a>,
    /// Where to listen; of port 0, any that is free.
    pub listen: SocketAddr,
    /// Where to tell the operator of the server's health and counters.
    pub admin: Option<SocketAddr>,
    /// Limits of the server.
    pub limits: ServeLimits,
    /// Tells the server to end.
    pub stop: Stop,
    /// Receives each request once it is over, on any thread.
    pub access: Option<AccessSink>,
    /// Receives notices, on any thread.
    pub notices: Arc<dyn Fn(ServeNotice) + Send + Sync>,
}

/// Limits of a server.
#[derive(Clone, Copy, Debug)]
pub struct ServeLimits {
    /// How long a request may take, if the manifest doesn't say less.
    pub time: Duration,
    /// Requests that are answered at once.
    pub requests: usize,
    /// Connections that are open at once.
    pub connections: usize,
    /// Bytes of a request's body.
    pub body: usize,
}

/// What a server tells its operator.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ServeNotice {
    /// It listens there.
    Listening(SocketAddr),
    /// It tells of its health and counters there.
    Admin(SocketAddr),
    /// A request was not answered, or not to its end: its number, and why.
    Failed(u64, String),
    /// Something is wrong with the server itself.
    Trouble(String),
}

/// How long the end waits beyond the time of one request.
const GRACE: Duration = Duration::from_secs(1);

/// Serves a target until it is told to end. It listens once everything is ready to answer.
pub fn serve(ctx: &Context<'_>, request: &ServeRequest<'_>) -> Result<(), Error> {
    let mut clock = StepTimer::start(request.run.events);
    let judged = VerifiedTarget::new(ctx, &request.run)?;
    clock.step("verify");
    let kind = check_servable(&judged)?;
    let name = judged.trusted.config.qyv.app.name.clone();
    let prepared = Prepared::new(ctx, judged, &request.run, kind, &mut clock)?;
    let launch = Launch::new(ctx, prepared, &request.run)?;
    let limits = ServiceLimits {
        time: launch
            .time
            .wall
            .map_or(request.limits.time, |own| own.min(request.limits.time)),
        cpu: launch.time.cpu,
        body: request.limits.body,
    };
    let Launch {
        label,
        program,
        spec,
        held,
        ..
    } = launch;
    let broken = Arc::new(Broken::default());
    let served = Service::new(program, spec, limits)
        .map_err(Error::runtime(&label))
        .and_then(|service| {
            clock.step("link");
            let keeper = Box::new(Kept(Arc::clone(&broken)));
            listen(
                request,
                Site::new(&name, App { service, keeper }, request.limits.requests),
                limits.time,
            )
        });
    let broken = broken.lock().unwrap_or_else(PoisonError::into_inner).take();
    // A service has no netfs: there is nothing to send.
    held.finish(ctx, broken.as_ref());
    served
}

/// The kind of a service's code; refuses what can't be served, before it is compiled.
fn check_servable(judged: &VerifiedTarget) -> Result<CodeKind, Error> {
    let target = judged.label();
    if !serves(judged.exports()) {
        return Err(Error::NotAService { target });
    }
    if judged.trusted.config.qyv.app.fs.kind == FsKind::Netfs {
        return Err(Error::NotPermitted {
            target,
            why:
                "its files are those of another machine (`fs.type: netfs`), which this version gives to commands alone"
                    .to_string(),
        });
    }
    Ok(CodeKind {
        metered: false,
        service: true,
    })
}

/// The first failure of an asset's check.
type Broken = Mutex<Option<RuntimeError>>;

/// What is kept of a service's failures.
struct Kept(Arc<Broken>);

impl Keeper for Kept {
    fn failed(&self, error: &ServiceError) {
        if let ServiceError::Runtime(RuntimeError::Sealed { path, why }) = error {
            let mut broken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            broken.get_or_insert(RuntimeError::Sealed {
                path: path.clone(),
                why: why.clone(),
            });
        }
    }
}

/// Listens and serves.
fn listen(request: &ServeRequest<'_>, site: Site, time: Duration) -> Result<(), Error> {
    let (listener, address) = bind(request.listen)?;
    let admin = request.admin.map(bind).transpose()?;
    let notices = Arc::clone(&request.notices);
    let sink = move |event: &ServerEvent<'_>| {
        notices(match event {
            ServerEvent::Failed { id, error } => ServeNotice::Failed(*id, error.to_string()),
            ServerEvent::NotAccepted(error) => ServeNotice::Trouble(format!("can't accept a connection: {error}")),
            ServerEvent::CutOff(requests) => ServeNotice::Trouble(format!(
                "{requests} requests and connections were cut off at the end of the grace period"
            )),
            _ => return,
        });
    };
    if let Some((_, address)) = &admin {
        (request.notices)(ServeNotice::Admin(*address));
    }
    (request.notices)(ServeNotice::Listening(address));
    let setup = Setup {
        site: Arc::new(site),
        listener,
        admin: admin.map(|(listener, _)| listener),
        limits: ServerLimits {
            connections: request.limits.connections,
            body: request.limits.body,
            grace: time + GRACE,
        },
        stop: request.stop.clone(),
        sink: Arc::new(sink),
        access: request.access.clone(),
    };
    qyvol_serve::serve(setup).map_err(|source| Error::Serve { address, source })
}

/// Listens on an address. It also says which port that is, if any would do.
fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Serve { address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}
