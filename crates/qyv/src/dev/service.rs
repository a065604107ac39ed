//! A service under development: served by this process, and replaced while it answers.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use qyvol::server::{Answered, Route};
use qyvol::types::escape;
use qyvol::{Context, Error, Reload, ServeLimits, ServeNotice, ServeRequest, ServedApp, Target};

use super::watch::Wake;
use super::{Next, Project};
use crate::audit::now;
use crate::cli::{DevArgs, GuestArgs};
use crate::commands::run::{Events, grants, request};
use crate::commands::serve::{notice_bytes, print_notice};
use crate::failure::Failure;
use crate::open_files::open_files;
use crate::run_report::RunRecord;
use crate::spool::Spool;
use crate::ui::{Ui, format_duration};

/// Requests that are answered at once.
const REQUESTS: usize = 32;
/// Connections that are open at once.
const CONNECTIONS: usize = 256;
/// Bytes of a request's body.
const BODY: usize = 16 << 20;
/// The time of a request.
const REQUEST_TIME: Duration = Duration::from_secs(30);
/// The share of the open files of this process for guests (one in this many).
const SHARE: usize = 4;

/// What is printed while requests are answered.
enum Line {
    Notice(ServeNotice),
    Answered(Answered),
}

/// Serves the application, each version as soon as it can answer, until the command ends. A
/// first version that does not start is reported, and the next change is waited for.
pub(super) fn serve(ctx: &Context<'_>, ui: &Ui, args: &DevArgs, project: &mut Project<'_>) -> Result<Next, Failure> {
    let target = Target::Manifest(project.path.clone());
    let guest = GuestArgs {
        env: args.env.clone(),
        dirs: args.dirs.clone(),
        allow_net: args.allow_net.clone(),
        ..GuestArgs::default()
    };
    let dirs = grants(&guest)?;
    let client = || Ok(crate::registry::client(&ctx.home, ui, &guest.registry)?);
    let record = RunRecord::default();
    let events = Events {
        ui,
        record: &record,
        audit: None,
    };
    let run = request(&target, &guest, dirs, &client, &events)?;
    let lines = print(ui)?;
    let (notices, answered) = (lines.clone(), lines.clone());
    let reload = Reload::default();
    let request = ServeRequest {
        apps: vec![ServedApp {
            name: None,
            route: Route::all(),
            run,
            time: REQUEST_TIME,
            requests: REQUESTS,
            files: (open_files() / SHARE / REQUESTS).max(1) as u64,
        }],
        listen: args.listen,
        tls: None,
        admin: None,
        limits: ServeLimits {
            connections: CONNECTIONS,
            body: BODY,
        },
        watch: None,
        reload: reload.clone(),
        now: &now,
        stop: project.stop.clone(),
        access: Some(Arc::new(move |one: Answered| {
            let bytes = one.path.len();
            answered.push(Line::Answered(one), bytes);
        })),
        notices: Arc::new(move |notice| {
            let bytes = notice_bytes(&notice);
            notices.push(Line::Notice(notice), bytes);
        }),
    };
    let waker = project.watch.waker();
    let (served, followed) = thread::scope(|scope| {
        let follower = scope.spawn(|| follow(project, &reload));
        let served = qyvol::serve(ctx, &request);
        // The command ends: nobody has to be woken.
        let _ = waker.send(Wake::Left);
        (served, follower.join())
    });
    lines.finish();
    let Ok(has_changed) = followed else {
        return Err(Failure::new("the thread that watches the files has ended in a panic"));
    };
    match served {
        Ok(()) => Ok(Next::End),
        Err(error @ Error::Serve { .. }) => Err(error.into()),
        Err(error) => {
            project.report(&error.into());
            match has_changed {
                true => Ok(Next::Changed { is_built: false }),
                false => project.next(None),
            }
        }
    }
}

/// Builds after each change, and has the server look at the result. Returns whether there was a
/// change.
fn follow(project: &mut Project<'_>, reload: &Reload) -> bool {
    let mut has_changed = false;
    loop {
        let built = match project.next(None) {
            Ok(Next::Changed { is_built: true }) => Ok(()),
            Ok(Next::Changed { is_built: false }) => project.build(),
            Ok(Next::Exited | Next::End) => return has_changed,
            Err(failure) => Err(failure),
        };
        has_changed = true;
        match built {
            Ok(()) => reload.ask(),
            Err(failure) => project.report(&failure),
        }
    }
}

/// Prints notices and requests. If nobody reads stderr, requests are answered all the same.
fn print(ui: &Ui) -> Result<Spool<Line>, Failure> {
    let ui = ui.clone();
    let spool = Spool::start("lines", move |lines, lost| {
        for line in lines {
            match line {
                Line::Notice(notice) => print_notice(&ui, false, notice),
                Line::Answered(one) => ui.note(&format!(
                    "{} {} {} {}",
                    escape(&one.method),
                    escape(&one.path),
                    one.status,
                    format_duration(one.duration)
                )),
            }
        }
        if lost > 0 {
            ui.warn(&format!("{lost} further lines were left out"));
        }
    });
    spool.map_err(|error| Failure::new(format!("can't start a thread: {error}")))
}
