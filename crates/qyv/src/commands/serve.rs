//! `serve`.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use qyvol::sandbox::Observer;
use qyvol::server::Stop;
use qyvol::types::{escape, parse_size};
use qyvol::{Context, DirGrant, RunRequest, ServeLimits, ServeNotice, ServeRequest, Target};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::audit::Audit;
use crate::cli::ServeArgs;
use crate::commands::run::{Events, check_audit, check_pull, grants, overrides, pull};
use crate::failure::Failure;
use crate::guest_env;
use crate::open_files::open_files;
use crate::run_report::Told;
use crate::ui::Ui;

/// Share of the files that this process may have open which connections take: one in so
/// many. Guests open the others.
const CONNECTION_SHARE: usize = 4;
/// Maximum number of connections.
const CONNECTIONS: usize = 4096;
/// Maximum time of a request.
const REQUEST_TIME: Duration = Duration::from_secs(24 * 60 * 60);

pub fn serve(ctx: &Context<'_>, ui: &Ui, args: ServeArgs) -> Result<u8, Failure> {
    let dirs = grants(&args.guest).map_err(Failure::before_guest)?;
    if let Some(path) = &args.guest.audit {
        check_audit(path, &dirs).map_err(Failure::before_guest)?;
    }
    let audit = Audit::new(args.guest.audit.as_deref(), ui.verbose).map_err(Failure::before_guest)?;
    let served = start(ctx, ui, &args, dirs, audit.as_ref()).map_err(Failure::before_guest);
    if let Some(audit) = &audit {
        audit.finish(served.as_ref().map_or_else(|failure| failure.code, |()| 0));
    }
    served.map(|()| 0)
}

fn start(
    ctx: &Context<'_>,
    ui: &Ui,
    args: &ServeArgs,
    dirs: Vec<DirGrant>,
    audit: Option<&Audit>,
) -> Result<(), Failure> {
    let target = Target::parse(&args.target)?;
    check_pull(&args.guest, &target, &args.target)?;
    let body = parse_size(&args.max_body).and_then(|bytes| usize::try_from(bytes).ok());
    let body = body.ok_or_else(|| {
        let given = escape(&args.max_body);
        Failure::usage(format!("--max-body {given}: expected a size such as 16MiB"))
    })?;
    let time = *args.request_timeout;
    if time.is_zero() || time > REQUEST_TIME {
        return Err(Failure::usage(
            "--request-timeout: expected more than 0, and a day at most",
        ));
    }
    let client = || Ok(crate::registry::client(&ctx.home, ui, &args.guest.registry)?);
    let told = Told::default();
    let run = RunRequest {
        pull: pull(args.guest.pull, &client),
        env: guest_env::read(&args.guest)?,
        dirs,
        overrides: overrides(&args.guest)?,
        observer: audit.map(|audit| Arc::new(audit.clone()) as Arc<dyn Observer>),
        key: args.guest.key.as_deref(),
        events: &Events { ui, told: &told, audit },
        ..RunRequest::new(&target)
    };
    let voice = ui.clone();
    let stop = Stop::default();
    end_on_signal(&stop)?;
    let request = ServeRequest {
        run,
        listen: args.listen,
        limits: ServeLimits {
            time,
            requests: usize::try_from(args.max_requests).unwrap_or(usize::MAX),
            connections: (open_files() / CONNECTION_SHARE).clamp(1, CONNECTIONS),
            body,
        },
        stop,
        notices: Arc::new(move |notice| tell(&voice, notice)),
    };
    Ok(qyvol::serve(ctx, &request)?)
}

fn tell(ui: &Ui, notice: ServeNotice) {
    match notice {
        ServeNotice::Listening(address) => ui.note(&format!("listening on http://{address}")),
        ServeNotice::Failed(why) => ui.warn(&format!("a request failed: {why}")),
        ServeNotice::Trouble(why) => ui.warn(&why),
        _ => {}
    }
}

/// Ends the server with the first SIGINT or SIGTERM, and the process with the second.
fn end_on_signal(stop: &Stop) -> Result<(), Failure> {
    let mut signals =
        Signals::new([SIGINT, SIGTERM]).map_err(|e| Failure::new(format!("can't listen for signals: {e}")))?;
    let stop = stop.clone();
    thread::spawn(move || {
        let mut signals = signals.forever();
        if signals.next().is_some() {
            stop.begin();
        }
        if let Some(signal) = signals.next() {
            // Ends the process as the signal would have.
            let _ = emulate_default_handler(signal);
        }
    });
    Ok(())
}
