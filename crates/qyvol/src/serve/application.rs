//! From a target to a service that can answer: the four values of a run, linked and tried.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use qyvol_runtime::{
    ARGUMENT_BYTES, CallLimits, Caller, CodeKind, GuestFigures, Program, RunSpec, RuntimeError, Service, ServiceError,
    ServiceLimits, serves,
};
use qyvol_serve::{App, Keeper};
use qyvol_trust::Ceiling;
use qyvol_types::{Digest, FsKind, Resources};

use super::reload_queue::{Gone, Reload};
use super::{ServeRequest, ServedApp};
use crate::functions::{self, Found};
use crate::reuse::check_reuse;
use crate::run::{Held, Launch, Prepared, StepTimer, VerifiedTarget};
use crate::{Context, Error};

/// An application that can answer.
pub(super) struct Application {
    pub(super) app: App,
    pub(super) identity: Identity,
}

/// The identity of an application. Another one with the same identity may do the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) digest: Digest,
    ceiling: Ceiling,
}

impl Identity {
    pub(super) fn of(judged: &VerifiedTarget) -> Identity {
        let app = &judged.trusted.config.qyv.app;
        Identity {
            name: app.name.clone(),
            version: app.version.clone(),
            digest: judged.trusted.digest,
            ceiling: judged.trusted.ceiling.clone(),
        }
    }
}

impl Application {
    /// Prepares an accepted image, links it, and tries one instance of it.
    pub(super) fn new(
        ctx: &Context<'_>,
        request: &ServeRequest<'_>,
        served: &ServedApp<'_>,
        judged: VerifiedTarget,
        figures: &Arc<GuestFigures>,
        clock: &mut StepTimer<'_>,
    ) -> Result<Application, Error> {
        let kind = check_servable(&judged)?;
        let identity = Identity::of(&judged);
        let app = judged.trusted.config.qyv.app.clone();
        let has_handler = serves(judged.exports());
        let mut prepared = Prepared::new(ctx, judged, &served.run, kind, served.requests, clock)?;
        // Before it is launched, which reports the limits that apply.
        prepared.limits = with_defaults(prepared.limits, served);
        let exported = prepared.functions();
        let launch = Launch::new(ctx, prepared, &served.run)?;
        let limits = ServiceLimits {
            time: launch.time.wall.unwrap_or(served.time),
            cpu: launch.time.cpu,
            body: request.limits.body,
            reuse: app.serve.reuse,
        };
        let Launch {
            label,
            program,
            mut spec,
            held,
            ..
        } = launch;
        spec.figures = Some(Arc::clone(figures));
        let keeper = Kept {
            held: Mutex::new(Some(held)),
            broken: Mutex::new(None),
            reload: request.reload.clone(),
        };
        let service = match has_handler {
            true => Service::new(program, spec, limits).map_err(Error::runtime(&label))?,
            false => {
                let named = functions::named(&app, &exported).map_err(|source| Error::Function {
                    target: label.clone(),
                    source,
                })?;
                functions_service(program, spec, limits, named).map_err(Error::runtime(&label))?
            }
        };
        clock.step("link");
        if let Err(why) = qyvol_serve::try_out(&service) {
            keeper.failed(&why);
            return Err(Error::Trial {
                target: label,
                source: why,
            });
        }
        clock.step("try");
        let keeper = Box::new(keeper);
        Ok(Application {
            app: App {
                service,
                keeper,
                steps: clock.taken(),
            },
            identity,
        })
    }
}

/// The limits of each request, in addition to those of a run.
fn with_defaults(limits: Resources, served: &ServedApp<'_>) -> Resources {
    let most = u64::try_from(served.time.as_millis().max(1)).unwrap_or(u64::MAX);
    Resources {
        timeout: Some(limits.timeout.map_or(most, |own| own.min(most))),
        files: limits.files.or(Some(served.files)),
        sockets: limits.sockets.or(Some(served.files)),
        ..limits
    }
}

/// A service that calls the functions that the manifest names.
fn functions_service(
    program: Program,
    spec: RunSpec,
    limits: ServiceLimits,
    named: BTreeMap<String, Found>,
) -> Result<Service, RuntimeError> {
    let run = spec.limits;
    let call = CallLimits {
        time: Some(limits.time),
        cpu: limits.cpu,
        bytes: Some(ARGUMENT_BYTES),
    };
    let caller = Caller::new(program, spec, call)?;
    let bound = named
        .into_iter()
        .map(|(name, found)| Ok((name, found.bind(&caller, run, call)?)));
    Ok(Service::of_functions(
        bound.collect::<Result<_, RuntimeError>>()?,
        limits,
    ))
}

/// The kind of a service's code; refuses a target that can't be served, before it is compiled.
fn check_servable(judged: &VerifiedTarget) -> Result<CodeKind, Error> {
    let target = judged.label();
    let app = &judged.trusted.config.qyv.app;
    if !serves(judged.exports()) && app.functions.is_empty() {
        return Err(Error::NotAService { target });
    }
    check_reuse(&target, app, judged.exports())?;
    if app.fs.kind == FsKind::Netfs {
        return Err(Error::NotPermitted {
            target,
            why:
                "its files are those of another machine (`fs.type: netfs`), which this version gives to commands alone"
                    .to_string(),
        });
    }
    Ok(CodeKind {
        metered: functions::metered(app),
        service: true,
        ..CodeKind::default()
    })
}

/// The resources that an application holds while guests of it exist.
struct Kept {
    held: Mutex<Option<Held>>,
    /// The first failure of an asset's check.
    broken: Mutex<Option<RuntimeError>>,
    reload: Reload,
}

impl Keeper for Kept {
    fn failed(&self, error: &ServiceError) {
        if let ServiceError::Runtime(RuntimeError::Sealed { path, why }) = error {
            let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
            broken.get_or_insert(RuntimeError::Sealed {
                path: path.clone(),
                why: why.clone(),
            });
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let held = self.held.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let broken = self.broken.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(held) = held {
            self.reload.gone(Gone { held, broken });
        }
    }
}
