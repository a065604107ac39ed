//! `run`: four values, each made from the one before.
//!
//! [`Resolved`](resolve::Resolved): the image behind the target, its small blobs
//! read. [`VerifiedTarget`](resolve::Judged): trust has accepted it, down to its config,
//! and its run lock is held. [`Prepared`](prepare::Prepared): its blobs, assets
//! and compiled code are on this host. [`Launch`](launch::Launch): the program
//! with everything that it is given. [`crate::serve()`] and [`crate::call()`] make the
//! same four.

mod grant;
mod launch;
mod prepare;
mod request;
mod resolve;
mod restart;

use qyvol_runtime::{CodeKind, serves};

pub(crate) use launch::{Held, Launch};
pub(crate) use prepare::Prepared;
pub(crate) use request::StepTimer;
pub use request::{Debugging, DirGrant, Outcome, Overrides, Pull, RunEvents, RunFigures, RunRequest};
pub(crate) use resolve::VerifiedTarget;

use crate::{Context, Error};

/// Does everything that a run does before the guest starts, so that the next run can
/// start at once.
pub fn compile(ctx: &Context<'_>, request: &RunRequest<'_>) -> Result<(), Error> {
    let mut clock = StepTimer::start(request.events);
    let judged = VerifiedTarget::new(ctx, request)?;
    clock.step("verify");
    let kind = CodeKind::of_exports(judged.exports());
    Prepared::new(ctx, judged, request, kind, 1, &mut clock)?;
    Ok(())
}

/// Runs a target to its end.
///
/// With the `host` and the `file` of [`build`](crate::build()):
///
/// ```
/// # let scratch = tempfile::tempdir()?;
/// # let temporaries = qyvol::TempFiles::default();
/// # let now = qyvol::types::Timestamp::from_unix(1_800_000_000)?;
/// # let host = qyvol::Context::new(qyvol::Home::in_directory(scratch.path()), now, &temporaries);
/// # let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/hello");
/// # let file = scratch.path().join("hello.qyvbin");
/// # let request = qyvol::BuildRequest { output: Some(&file), ..qyvol::BuildRequest::new(&example) };
/// # qyvol::build(&host, &request)?;
/// use qyvol::{Outcome, RunRequest, Target};
///
/// // Verified, then compiled, then run with the standard streams of this process.
/// let target = Target::Archive(file);
/// let outcome = qyvol::run(&host, &RunRequest::new(&target))?;
/// assert_eq!(outcome, Outcome::Code(0));
///
/// // Verified again. The compiled code was kept, and this run uses it.
/// let request = RunRequest { args: vec!["again".into()], ..RunRequest::new(&target) };
/// assert_eq!(qyvol::run(&host, &request)?, Outcome::Code(0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn run(ctx: &Context<'_>, request: &RunRequest<'_>) -> Result<Outcome, Error> {
    let mut clock = StepTimer::start(request.events);
    let details = request.debugging.details()?;
    let judged = VerifiedTarget::new(ctx, request)?;
    clock.step("verify");
    if let Some(process) = restart::process(&judged, request)? {
        return restart::run(ctx, judged, process, request, &mut clock);
    }
    if CodeKind::of_exports(judged.exports()).service {
        let target = judged.label();
        return Err(match serves(judged.exports()) {
            true => Error::IsService { target },
            false => Error::HasFunctions { target },
        });
    }
    let kind = CodeKind {
        details,
        ..CodeKind::default()
    };
    let prepared = Prepared::new(ctx, judged, request, kind, 1, &mut clock)?;
    let launch = Launch::new(ctx, prepared, request)?;
    let outcome = launch.run(ctx, request.events)?;
    clock.step("run");
    Ok(outcome)
}
