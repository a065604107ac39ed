//! `serve`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use qyvol::server::{AccessSink, Route, Stop};
use qyvol::types::{escape, parse_size};
use qyvol::{
    AppEntry, Context, DirGrant, Reload, RunRequest, ServeLimits, ServeNotice, ServeRequest, ServedApp, Target,
    TlsFiles,
};

use crate::access_log::AccessLog;
use crate::audit::{Audit, now};
use crate::cli::{GuestArgs, ServeArgs};
use crate::commands::run::{Events, check_pull, grant, grants, request};
use crate::failure::Failure;
use crate::guest_env::secret_of;
use crate::log_file::check_apart;
use crate::open_files::open_files;
use crate::run_report::RunRecord;
use crate::signals::end_in_two_steps;
use crate::spool::Spool;
use crate::ui::Ui;

/// The share of the open files of this process for connections (one in this many). Guests'
/// files and their sockets each get the same share; the rest is its own.
const SHARE: usize = 4;
/// Minimum number of files that a guest may open.
const FILES: usize = 16;
/// Maximum number of connections.
const CONNECTIONS: usize = 4096;
/// Maximum time of a request.
const REQUEST_TIME: Duration = Duration::from_secs(24 * 60 * 60);

pub fn serve(ctx: &Context<'_>, ui: &Ui, args: ServeArgs) -> Result<u8, Failure> {
    let dirs = grants(&args.guest).map_err(Failure::before_guest)?;
    for (option, path) in [("--audit", &args.guest.audit), ("--access-log", &args.access_log)] {
        if let Some(path) = path.as_ref().filter(|path| path.as_os_str() != "-") {
            check_apart(option, path, &dirs).map_err(Failure::before_guest)?;
        }
    }
    let audit = Audit::new(args.guest.audit.as_deref(), ui.verbose).map_err(Failure::before_guest)?;
    let served = start(ctx, ui, &args, dirs, audit.as_ref()).map_err(Failure::before_guest);
    if let Some(audit) = &audit {
        audit.finish(served.as_ref().map_or_else(|failure| failure.code, |()| 0));
    }
    served.map(|()| 0)
}

/// An application that the operator named: on the command line, or in the file of `--apps`.
struct Named {
    target: Target,
    dirs: Vec<DirGrant>,
    /// Its entry in the file.
    entry: Option<AppEntry>,
}

/// The applications to serve.
fn named(args: &ServeArgs, dirs: Vec<DirGrant>) -> Result<Vec<Named>, Failure> {
    let Some(file) = &args.apps else {
        let text = args.target.as_deref().unwrap_or_default();
        let target = Target::parse(text)?;
        check_pull(&args.guest, &target, text)?;
        return Ok(vec![Named {
            target,
            dirs,
            entry: None,
        }]);
    };
    check_shared(&args.guest)?;
    let base = file.parent().unwrap_or(Path::new(""));
    let mut apps = Vec::new();
    for entry in qyvol::read_apps(file)? {
        let dirs = entry.dirs.iter().map(|dir| grant(base, dir));
        apps.push(Named {
            target: entry.target.clone(),
            dirs: dirs.collect::<Result<_, _>>()?,
            entry: Some(entry),
        });
    }
    Ok(apps)
}

/// Refuses options that give one application something: with `--apps`, its file does.
fn check_shared(guest: &GuestArgs) -> Result<(), Failure> {
    let given = [
        ("--env", guest.env.is_empty(), "env"),
        ("--env-file", guest.env_file.is_empty(), "env"),
        ("--secret", guest.secrets.is_empty(), "secrets"),
        ("--dir", guest.dirs.is_empty(), "dirs"),
        ("--allow-net", guest.allow_net.is_empty(), "allow_net"),
        ("--limit", guest.limits.is_empty(), "limits"),
    ];
    match given.into_iter().find(|(_, is_absent, _)| !is_absent) {
        Some((option, _, key)) => Err(Failure::usage(format!(
            "{option} and --apps can't be used together: each application has what the file gives it"
        ))
        .hint(format!("write it as `{key}:` of the application that needs it"))),
        None => Ok(()),
    }
}

/// What an application is served with.
fn served<'a>(app: &Named, run: RunRequest<'a>, args: &ServeArgs) -> Result<ServedApp<'a>, Failure> {
    let mut served = ServedApp {
        name: None,
        route: Route::all(),
        run,
        time: *args.request_timeout,
        requests: usize::try_from(args.max_requests).unwrap_or(usize::MAX),
        files: 0,
    };
    if let Some(entry) = &app.entry {
        served.name = entry.name.clone();
        served.route = entry.route.clone();
        served.time = entry.time.unwrap_or(served.time);
        served.requests = entry.requests.unwrap_or(served.requests);
        let run = &mut served.run;
        run.env.extend(entry.env.iter().cloned());
        for (name, path) in &entry.secrets {
            run.env.push(secret_of(name, path)?);
        }
        run.overrides.limits = entry.limits;
        if !run.overrides.no_net {
            run.overrides.net.extend(entry.net.iter().cloned());
        }
    }
    if served.time.is_zero() || served.time > REQUEST_TIME {
        return Err(Failure::usage(match &app.entry {
            Some(_) => "request_timeout: expected more than 0, and a day at most",
            None => "--request-timeout: expected more than 0, and a day at most",
        }));
    }
    Ok(served)
}

fn start(
    ctx: &Context<'_>,
    ui: &Ui,
    args: &ServeArgs,
    dirs: Vec<DirGrant>,
    audit: Option<&Audit>,
) -> Result<(), Failure> {
    let named = named(args, dirs)?;
    let body = parse_size(&args.max_body).and_then(|bytes| usize::try_from(bytes).ok());
    let body = body.ok_or_else(|| {
        let given = escape(&args.max_body);
        Failure::usage(format!("--max-body {given}: expected a size such as 16MiB"))
    })?;
    if args.watch.is_some_and(|every| every.is_zero() || *every > REQUEST_TIME) {
        return Err(Failure::usage("--watch: expected more than 0, and a day at most"));
    }
    let client = || Ok(crate::registry::client(&ctx.home, ui, &args.guest.registry)?);
    let record = RunRecord::default();
    let events = Events {
        ui,
        record: &record,
        audit,
    };
    let mut apps = Vec::new();
    for app in &named {
        let run = request(&app.target, &args.guest, app.dirs.clone(), &client, &events)?;
        apps.push(served(app, run, args)?);
    }
    let requests: usize = apps.iter().map(|app| app.requests).sum();
    for app in &mut apps {
        app.files = (open_files() / SHARE / requests).max(FILES) as u64;
    }
    let log = args.access_log.as_deref().map(|path| AccessLog::open(path, ui));
    let log = log.transpose()?;
    let voice = voice(ui, args.apps.is_some())?;
    let stop = Stop::default();
    let reload = Reload::default();
    let (hung_up, reopened) = (reload.clone(), log.clone());
    let hang_up = move || {
        if let Some(log) = &reopened {
            log.reopen();
        }
        hung_up.ask();
    };
    end_in_two_steps(&stop, Some(hang_up))?;
    let (notices, answered) = (voice.clone(), log.clone());
    let request = ServeRequest {
        apps,
        listen: args.listen,
        tls: args
            .tls_cert
            .clone()
            .zip(args.tls_key.clone())
            .map(|(certificate, key)| TlsFiles {
                certificate,
                key,
                clients: args.client_ca.clone(),
            }),
        admin: args.admin,
        limits: ServeLimits {
            connections: (open_files() / SHARE).clamp(1, CONNECTIONS),
            body,
        },
        watch: args.watch.map(|every| *every),
        reload,
        now: &now,
        stop,
        access: answered.map(|log| Arc::new(move |answered| log.answered(answered)) as AccessSink),
        notices: Arc::new(move |notice| {
            let bytes = notice_bytes(&notice);
            notices.push(notice, bytes);
        }),
    };
    let served = qyvol::serve(ctx, &request);
    voice.finish();
    if let Some(log) = log {
        log.finish();
    }
    Ok(served?)
}

/// Prints notices. If nobody reads stderr, requests are answered all the same.
fn voice(ui: &Ui, has_several: bool) -> Result<Spool<ServeNotice>, Failure> {
    let ui = ui.clone();
    let voice = Spool::start("notices", move |notices, lost| {
        for notice in notices {
            print_notice(&ui, has_several, notice);
        }
        if lost > 0 {
            ui.warn(&format!("{lost} further reports were left out"));
        }
    });
    voice.map_err(|e| Failure::new(format!("can't start a thread: {e}")))
}

/// Bytes of a notice. The message of a trap can be of any length; the other texts are the
/// host's own.
pub fn notice_bytes(notice: &ServeNotice) -> usize {
    match notice {
        ServeNotice::Failed { why, .. } => why.len(),
        _ => 0,
    }
}

/// `has_several`: whether a notice must name its application.
pub fn print_notice(ui: &Ui, has_several: bool, notice: ServeNotice) {
    let of = |application: String| match has_several {
        true => format!(" of {}", escape(&application)),
        false => String::new(),
    };
    match notice {
        ServeNotice::Listening { address, is_secure } => {
            let scheme = if is_secure { "https" } else { "http" };
            ui.note(&format!("listening on {scheme}://{address}"));
        }
        ServeNotice::Admin(address) => ui.note(&format!("health and metrics on http://{address}")),
        ServeNotice::Failed { application, id, why } => {
            ui.warn(&format!("a request{} failed: {why} (request {id})", of(application)));
        }
        ServeNotice::Reloaded { image, digest } => ui.note(&format!("reloaded: {image} {digest} answers")),
        ServeNotice::NotReloaded {
            application,
            is_withheld,
            error,
        } => {
            let whose = match has_several {
                true => format!("{} ", escape(&application)),
                false => String::new(),
            };
            let what = match is_withheld {
                true => "not reloaded, further requests are still refused",
                false => "not reloaded, the previous one keeps answering",
            };
            stays(ui, &format!("{whose}{what}"), *error);
        }
        ServeNotice::Withheld { application, error } => stays(
            ui,
            &format!("revoked, further requests{} are refused", of(application)),
            *error,
        ),
        ServeNotice::Renewed => ui.note("the certificate was read again"),
        ServeNotice::NotRenewed(error) => stays(ui, "the previous certificate stays in use", *error),
        ServeNotice::Trouble(why) => ui.warn(&why),
        _ => {}
    }
}

/// Prints why something could not be replaced.
fn stays(ui: &Ui, what: &str, error: qyvol::Error) {
    let failure = Failure::from(error);
    ui.warn(&format!("{what}: {}", failure.message));
    for line in &failure.details {
        ui.note(line);
    }
    for hint in &failure.hints {
        ui.note(&format!("hint: {hint}"));
    }
}
