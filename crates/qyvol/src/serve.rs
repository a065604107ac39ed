//! `serve`: the steps of `run` up to the guest, then a server in front of it.

mod application;
mod apps;
mod certificate;
mod reload;
mod reload_queue;
mod standing;
mod watch;

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use qyvol_serve::{AccessSink, Route, ServerEvent, ServerLimits, Setup, Sites, Stop, Tls};
use qyvol_types::{Digest, Timestamp};

pub use self::apps::{AppEntry, read_apps};
use self::certificate::Certificate;
pub use self::certificate::TlsFiles;
use self::reload::{Answering, Supervisor};
pub use self::reload_queue::Reload;
use crate::{Context, Error, RunRequest};

/// What to serve.
pub struct ServeRequest<'a> {
    /// The applications. No two of them have the same name or the same route.
    pub apps: Vec<ServedApp<'a>>,
    /// Where to listen; of port 0, any that is free.
    pub listen: SocketAddr,
    /// Its certificate, if it has TLS.
    pub tls: Option<TlsFiles>,
    /// Where to serve the server's health and counters to the operator.
    pub admin: Option<SocketAddr>,
    /// Limits of the server.
    pub limits: ServeLimits,
    /// How often to check whether the target has changed.
    pub watch: Option<Duration>,
    /// Makes it check at once.
    pub reload: Reload,
    /// The time that signatures are judged by then.
    pub now: &'a dyn Fn() -> Timestamp,
    /// Asks the server to stop.
    pub stop: Stop,
    /// Receives each request once it is over, on any thread.
    pub access: Option<AccessSink>,
    /// Receives notices, on any thread.
    pub notices: Arc<dyn Fn(ServeNotice) + Send + Sync>,
}

/// One of the applications that a server answers with. They have nothing in common but
/// the engine, the threads and the connections.
pub struct ServedApp<'a> {
    /// Its name in the access log and in the counters, if that is not the image's.
    pub name: Option<String>,
    /// The requests that it answers.
    pub route: Route,
    /// The service and what it is granted, as for a run of it.
    pub run: RunRequest<'a>,
    /// How long a request may take, if the manifest doesn't say less.
    pub time: Duration,
    /// Requests that are answered at once.
    pub requests: usize,
    /// Files, and as many sockets, that a guest has open at once, if neither the manifest
    /// nor the operator says how many.
    pub files: u64,
}

/// Limits of a server.
#[derive(Clone, Copy, Debug)]
pub struct ServeLimits {
    /// Connections that are open at once.
    pub connections: usize,
    /// Bytes of a request's body.
    pub body: usize,
}

/// What a server reports to its operator.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServeNotice {
    /// It listens there.
    Listening {
        /// The address.
        address: SocketAddr,
        /// Whether it has TLS.
        is_secure: bool,
    },
    /// It serves health and counters there.
    Admin(SocketAddr),
    /// A request was not answered completely.
    Failed {
        /// The application's name.
        application: String,
        /// The request's number.
        id: u64,
        /// Why.
        why: String,
    },
    /// A new image answers from now on.
    Reloaded {
        /// Its name and version.
        image: String,
        /// Its manifest's digest.
        digest: Digest,
    },
    /// The target's new image can't be served; the previous one keeps answering, unless it is
    /// withheld.
    NotReloaded {
        /// The application's name.
        application: String,
        /// Whether the previous one is withheld.
        is_withheld: bool,
        /// Why.
        error: Box<Error>,
    },
    /// The image is revoked, and answers no further request until it is accepted again.
    Withheld {
        /// The application's name.
        application: String,
        /// Why.
        error: Box<Error>,
    },
    /// The certificate was read again, and is used from now on.
    Renewed,
    /// The certificate has changed and can't be used; the previous one stays in use.
    NotRenewed(Box<Error>),
    /// Something is wrong with the server itself.
    Trouble(String),
}

/// How long shutdown waits beyond the time of one request.
const GRACE: Duration = Duration::from_secs(1);

/// Serves applications until it is asked to stop. It listens once all of them are ready to
/// answer.
pub fn serve(ctx: &Context<'_>, request: &ServeRequest<'_>) -> Result<(), Error> {
    let served = load_and_serve(ctx, request);
    // Resources of guests that have all ended.
    request.reload.finish(ctx);
    served
}

fn load_and_serve(ctx: &Context<'_>, request: &ServeRequest<'_>) -> Result<(), Error> {
    let certificate = request.tls.as_ref().map(Certificate::open).transpose()?;
    let answering = request.apps.iter().map(|app| Answering::new(ctx, request, app));
    let answering = answering.collect::<Result<Vec<_>, _>>()?;
    check_names(&answering)?;
    let sites = answering
        .iter()
        .map(|one| (one.app.route.clone(), Arc::clone(&one.site)));
    let tls = certificate.as_ref().map(|certificate| Arc::clone(&certificate.tls));
    let setup = listen(request, Sites::new(sites), tls)?;
    let mut supervisor = Supervisor {
        ctx,
        request,
        answering,
        certificate,
    };
    let served = thread::scope(|scope| {
        let reload = &request.reload;
        let server = scope.spawn(move || {
            // Also if it ends in a panic.
            let _told = EndSignal(reload);
            qyvol_serve::serve(setup)
        });
        supervisor.stay();
        server.join()
    });
    let failed = |source| Error::Serve {
        address: request.listen,
        source,
    };
    match served {
        Ok(served) => served.map_err(failed),
        Err(_) => Err(failed(std::io::Error::other("the server ended in a panic"))),
    }
}

/// Refuses two applications of one name: their counters could not be distinguished.
fn check_names(answering: &[Answering<'_>]) -> Result<(), Error> {
    let mut names = HashSet::new();
    match answering.iter().find(|one| !names.insert(one.site.name())) {
        Some(one) => Err(Error::SameName {
            name: one.site.name().to_string(),
        }),
        None => Ok(()),
    }
}

/// Signals the supervisor that the server has ended.
struct EndSignal<'a>(&'a Reload);

impl Drop for EndSignal<'_> {
    fn drop(&mut self) {
        self.0.ended();
    }
}

/// Listens.
fn listen(request: &ServeRequest<'_>, sites: Sites, tls: Option<Arc<Tls>>) -> Result<Setup, Error> {
    let (listener, address) = bind(request.listen)?;
    let admin = request.admin.map(bind).transpose()?;
    let notices = Arc::clone(&request.notices);
    let sink = move |event: &ServerEvent<'_>| {
        notices(match event {
            ServerEvent::Failed { application, id, error } => ServeNotice::Failed {
                application: application.to_string(),
                id: *id,
                why: error.to_string(),
            },
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
    (request.notices)(ServeNotice::Listening {
        address,
        is_secure: tls.is_some(),
    });
    Ok(Setup {
        sites,
        listener,
        tls,
        admin: admin.map(|(listener, _)| listener),
        limits: ServerLimits {
            connections: request.limits.connections,
            body: request.limits.body,
            grace: request.apps.iter().map(|app| app.time).max().unwrap_or_default() + GRACE,
        },
        stop: request.stop.clone(),
        sink: Arc::new(sink),
        access: request.access.clone(),
    })
}

/// Listens on an address. Also returns the port, if any free one was requested.
fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Serve { address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}
