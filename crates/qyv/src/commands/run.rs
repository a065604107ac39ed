//! `run`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use qyvol::image::SignedImage;
use qyvol::remote_store::Client;
use qyvol::runtime::{Actor, Identity, Limit};
use qyvol::sandbox::{Endpoint, FsAccess, Grant, Observer};
use qyvol::types::{AppManifest, ImageConfig, Resources, escape};
use qyvol::{
    Context, Debugging, DirGrant, FsCredentials, Outcome, Overrides, Pull, ReadFrom, RunEvents, RunFigures, RunRequest,
    Target,
};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use super::first_use;
use crate::audit::{Audit, Granted, now};
use crate::cli::{GuestArgs, PullWhen, RunArgs};
use crate::failure::Failure;
use crate::guest_env;
use crate::log_file::check_apart;
use crate::run_files::RunFiles;
use crate::run_report::{Ended, Ending, Report, RunRecord};
use crate::run_stats;
use crate::ui::{Ui, format_duration};

/// A limit ended the guest.
pub const LIMIT_REACHED: u8 = 124;
/// How long the process waits for the report that a guest ran out of time.
const EXIT_GRACE: Duration = Duration::from_secs(1);
/// Bytes of arguments that may be too much for the adapter, together with its other data.
const ADAPTER_ARGS: usize = 32 << 10;
/// Steps of a run that are recorded.
const STEPS: usize = 64;
/// The guest trapped: 128 plus SIGABRT, as in a shell.
pub const TRAPPED: u8 = 134;

/// From now on, the end of the parent process ends this one too.
fn end_with(parent: i32) -> Result<(), Failure> {
    let set = set_parent_process_death_signal(Some(Signal::TERM));
    set.map_err(|error| Failure::new(format!("can't ask for a signal at the parent's end: {error}")))?;
    // It may have ended before.
    match getppid().is_some_and(|pid| pid.as_raw_nonzero().get() == parent) {
        true => Ok(()),
        false => Err(Failure::new(format!(
            "process {parent}, which started this one, has ended"
        ))),
    }
}

pub fn run(ctx: &Context<'_>, ui: &Ui, args: RunArgs) -> Result<u8, Failure> {
    args.end_with.map_or(Ok(()), end_with).map_err(Failure::before_guest)?;
    // The report is opened next: if that fails, the run is not started.
    let report = args.report.as_deref().map(Report::create).transpose();
    let report = report.map_err(Failure::before_guest)?;
    let dirs = grants(&args.guest).map_err(Failure::before_guest)?;
    if let Some(path) = &args.guest.audit {
        check_apart("--audit", path, &dirs).map_err(Failure::before_guest)?;
    }
    let target = args.target_and_args.first().map_or("", String::as_str);
    let files = RunFiles::create(ctx, &args, target, &dirs).map_err(Failure::before_guest)?;
    let counts = args.stats || report.is_some();
    let audit = match counts {
        true => Audit::open(args.guest.audit.as_deref(), ui.verbose).map(Some),
        false => Audit::new(args.guest.audit.as_deref(), ui.verbose),
    };
    let audit = audit.map_err(Failure::before_guest)?;
    let record = RunRecord::default();
    let ended = start(ctx, ui, &args, dirs, &record, audit.as_ref(), files.debugging())
        .map_err(|failure| (failure.code, failure.before_guest()));
    // A guest that ran out of time is ended by its profiler, if it has one.
    let left = files.finish(&record);
    if let Ok(Outcome::TimedOut(_) | Outcome::OutOfCpuTime(_)) = &ended {
        end_soon();
    }
    let (code, ending) = match &ended {
        Ok(Outcome::Code(code)) => {
            let code = u8::try_from(code & 0xff).unwrap_or(1);
            (code, Ending::Guest { exit_code: code })
        }
        Ok(Outcome::Trap(why)) => (TRAPPED, Ending::Trap { reason: why }),
        Ok(Outcome::TimedOut(limit)) => (LIMIT_REACHED, Ending::timeout(*limit)),
        Ok(Outcome::OutOfCpuTime(limit)) => (LIMIT_REACHED, Ending::limit("cpu", out_of_cpu_time(*limit))),
        Ok(Outcome::Limit(limit, why)) => (LIMIT_REACHED, Ending::limit(limit.name(), reached(*limit, why))),
        Err((verdict, failure)) => (failure.code, Ending::failure(*verdict, failure)),
    };
    let run = Ended {
        target,
        record: &record,
        denied: audit.as_ref().map_or(0, Audit::denied),
        code,
        ending: &ending,
    };
    if args.stats {
        run_stats::print(ui, &run);
    }
    let written = match report {
        Some(report) => report.write(&run),
        None => Ok(()),
    };
    if let Err(failure) = &written {
        ui.error(failure);
    }
    if let Some(audit) = &audit {
        audit.finish(code);
    }
    let core_dump = left.print(ui);
    match ended {
        Ok(Outcome::Code(_)) => Ok(code),
        Ok(Outcome::Trap(why)) => {
            let hints = adapter_hint(&args.target_and_args, &why).into_iter().chain(core_dump);
            let failure = Failure::new(format!("{target} trapped: {why}"));
            ui.error(&hints.fold(failure, Failure::hint));
            Ok(code)
        }
        Ok(Outcome::TimedOut(limit)) => {
            ui.error(&Failure::new(format!(
                "{target} timed out: it ran for longer than {} (resources.timeout)",
                format_duration(limit)
            )));
            std::process::exit(i32::from(code));
        }
        Ok(Outcome::OutOfCpuTime(limit)) => {
            ui.error(&Failure::new(format!("{target} was ended: {}", out_of_cpu_time(limit))));
            std::process::exit(i32::from(code));
        }
        Ok(Outcome::Limit(limit, why)) => {
            let failure = Failure::new(format!("{target} was ended: {}", reached(limit, &why)));
            ui.error(&core_dump.into_iter().fold(failure, Failure::hint));
            Ok(code)
        }
        Err((_, failure)) => Err(failure),
    }
}

/// A possible cause if a guest trapped in its adapter, which has one page of memory for all
/// arguments and variables.
fn adapter_hint(target_and_args: &[String], why: &str) -> Option<String> {
    let bytes: usize = target_and_args.iter().skip(1).map(String::len).sum();
    (bytes > ADAPTER_ARGS && why.contains("wasi_snapshot_preview1")).then(|| {
        format!(
            "its arguments have {bytes} bytes: a component that was made of a preview 1 module \
             takes less than 64 KiB of arguments and variables"
        )
    })
}

/// Ends this process, whose guest's thread still runs. Printing why may block on stderr; the
/// end does not wait for that.
fn end_soon() {
    thread::spawn(|| {
        thread::sleep(EXIT_GRACE);
        std::process::exit(i32::from(LIMIT_REACHED));
    });
}

pub fn out_of_cpu_time(limit: Duration) -> String {
    let limit = format_duration(limit);
    format!("it used more than {limit} of processor time (resources.cpu)")
}

pub fn reached(limit: Limit, why: &str) -> String {
    let reached = match limit.can_be_set() {
        true => format!("{limit} (resources.{})", limit.name()),
        false => format!("{limit} (the limit `{}`, which is fixed)", limit.name()),
    };
    match why {
        "" => reached,
        why => format!("{reached}; it trapped: {why}"),
    }
}

/// What the operator grants or takes away, for `run`, `serve` and `call`.
pub fn overrides(args: &GuestArgs) -> Result<Overrides, Failure> {
    let mut limits = Resources::default();
    for limit in &args.limits {
        let set = limits.set(limit);
        set.map_err(|why| Failure::usage(format!("--limit {}: {why}", escape(limit))))?;
    }
    let endpoint = |text: &String| Endpoint::parse(text).map_err(|why| Failure::usage(format!("--allow-net: {why}")));
    Ok(Overrides {
        net: args.allow_net.iter().map(endpoint).collect::<Result<_, _>>()?,
        no_net: args.no_net,
        limits,
        ..Overrides::default()
    })
}

/// The same, and what only a run is granted.
fn run_overrides(args: &RunArgs, given: Overrides) -> Result<Overrides, Failure> {
    Ok(Overrides {
        exec: args
            .allow_exec
            .iter()
            .map(|program| executable(program))
            .collect::<Result<_, _>>()?,
        fs: args.fs.as_deref().map(|access| match access {
            "read" => FsAccess::Read,
            _ => FsAccess::None,
        }),
        deterministic: args.deterministic.then(|| args.seed.unwrap_or_default()),
        ..given
    })
}

/// A program that the operator allows. One that can't be started is a usage error.
fn executable(program: &str) -> Result<String, Failure> {
    let slip = |why: &str| Failure::usage(format!("--allow-exec {}: {why}", escape(program)));
    if !program.starts_with('/') {
        return Err(slip("the path of a program must be absolute"));
    }
    let meta = fs::metadata(program).map_err(|e| slip(&e.to_string()))?;
    if !meta.is_file() || meta.permissions().mode() & 0o111 == 0 {
        return Err(slip("it is not an executable file"));
    }
    Ok(program.to_string())
}

/// Runs the guest to its end.
fn start(
    ctx: &Context<'_>,
    ui: &Ui,
    args: &RunArgs,
    dirs: Vec<DirGrant>,
    record: &RunRecord,
    audit: Option<&Audit>,
    debugging: Debugging,
) -> Result<Outcome, Failure> {
    let Some((target_text, guest_args)) = args.target_and_args.split_first() else {
        return Err(Failure::usage("a target is expected"));
    };
    let target = Target::parse(target_text)?;
    check_pull(&args.guest, &target, target_text)?;
    let client = || Ok(crate::registry::client(&ctx.home, ui, &args.guest.registry)?);
    let guest_args = match guest_args.split_first() {
        Some((first, rest)) if first == "--" => rest,
        _ => guest_args,
    };
    let events = Events { ui, record, audit };
    let given = request(&target, &args.guest, dirs, &client, &events)?;
    let request = RunRequest {
        args: guest_args.to_vec(),
        fs_credentials: match &args.fs_credentials {
            Some(path) => qyvol::read_fs_credentials(path)?,
            None => FsCredentials::None,
        },
        overrides: run_overrides(args, given.overrides)?,
        caller: this_user(Vec::new()),
        measured: args.stats || args.report.is_some(),
        debugging,
        last: true,
        ..given
    };
    let refused = match args.guest.pull {
        Some(PullWhen::Always) => ReadFrom::Registry,
        _ => ReadFrom::StoreFirst,
    };
    match qyvol::run(ctx, &request) {
        Err(error) => match first_use::accepted(ctx, ui, &error, &target, request.key, &client, refused)? {
            true => Ok(qyvol::run(ctx, &request)?),
            false => Err(error.into()),
        },
        Ok(ended) => Ok(ended),
    }
}

/// Refuses to ask a registry for a manifest under development.
pub fn check_pull(args: &GuestArgs, target: &Target, text: &str) -> Result<(), Failure> {
    match args.pull.is_some() && matches!(target, Target::Manifest(_)) {
        true => Err(Failure::usage(format!(
            "{} is a manifest under development, which no registry has: --pull can't apply to it",
            escape(text)
        ))),
        false => Ok(()),
    }
}

/// What `run`, `serve` and `call` have in common.
pub fn request<'a>(
    target: &'a Target,
    args: &'a GuestArgs,
    dirs: Vec<DirGrant>,
    client: &'a dyn Fn() -> Result<Arc<Client>, qyvol::Error>,
    events: &'a Events<'a>,
) -> Result<RunRequest<'a>, Failure> {
    Ok(RunRequest {
        pull: pull(args.pull, client),
        env: guest_env::read(args)?,
        dirs,
        overrides: overrides(args)?,
        observer: events.audit.map(|audit| Arc::new(audit.clone()) as Arc<dyn Observer>),
        key: args.key.as_deref(),
        events,
        ..RunRequest::new(target)
    })
}

/// The user who runs this process, with the operator's scope.
pub fn this_user(scope: Vec<String>) -> Identity {
    Identity {
        actor: Actor::User(rustix::process::geteuid().as_raw()),
        scope,
    }
}

/// When a registry is asked for a target.
pub fn pull<'a>(when: Option<PullWhen>, client: &'a dyn Fn() -> Result<Arc<Client>, qyvol::Error>) -> Pull<'a> {
    match when.unwrap_or(PullWhen::Missing) {
        PullWhen::Always => Pull::Always(client),
        PullWhen::Missing => Pull::Missing(client),
        PullWhen::Never => Pull::Never,
    }
}

/// The directories that the operator grants.
pub fn grants(args: &GuestArgs) -> Result<Vec<DirGrant>, Failure> {
    args.dirs.iter().map(|dir| grant(Path::new(""), dir)).collect()
}

/// `HOST[::GUEST][:ro]`; a relative HOST begins at `base`.
pub fn grant(base: &Path, text: &str) -> Result<DirGrant, Failure> {
    let (rest, writable) = match (text.strip_suffix(":ro"), text.strip_suffix(":rw")) {
        (Some(rest), _) => (rest, false),
        (None, Some(rest)) => (rest, true),
        (None, None) => (text, true),
    };
    let (host, guest) = rest.split_once("::").unwrap_or((rest, rest));
    let host = base.join(host);
    // A guest looks paths up component by component, and would never find a `..`.
    if guest.is_empty() || guest.split('/').any(|part| part == "..") {
        return Err(
            Failure::usage(format!("--dir {text}: the guest's path must not contain `..`"))
                .hint(format!("name it after two colons: --dir {}::/data", host.display())),
        );
    }
    if !host.is_dir() {
        let failure = Failure::usage(format!("--dir {text}: {} is not a directory", host.display()));
        return Err(match rest.split_once(':') {
            Some((host, guest)) if !rest.contains("::") => failure.hint(format!(
                "the guest's path comes after two colons: --dir {host}::{guest}"
            )),
            _ => failure,
        });
    }
    Ok(DirGrant {
        host,
        guest: guest.to_string(),
        writable,
    })
}

/// Prints the steps of a run or a server's start, and records what is granted.
pub struct Events<'a> {
    pub ui: &'a Ui,
    pub record: &'a RunRecord,
    pub audit: Option<&'a Audit>,
}

impl RunEvents for Events<'_> {
    fn step(&self, what: &str, time: Duration) {
        let mut steps = self.record.steps.borrow_mut();
        // A server repeats the same steps.
        if steps.len() < STEPS {
            steps.push((what.to_string(), time));
        }
        if self.ui.verbose {
            self.ui.detail(&format!("{what:>9}  {}", format_duration(time)));
        }
    }

    fn loaded(&self, image: &SignedImage, app: &AppManifest, path: &str) {
        *self.record.digest.borrow_mut() = Some(image.manifest.digest().to_string());
        if !self.ui.verbose {
            return;
        }
        let ui = self.ui;
        ui.detail(&format!(
            "loading {}:{} {}",
            app.name,
            app.version,
            image.manifest.digest()
        ));
        ui.detail(&format!("path: {path} ({})", app.entrypoint));
        if let Some(language) = &app.language {
            ui.detail(&format!("language: {language}"));
        }
        if let Ok(config) = ImageConfig::parse(&image.config) {
            match config.component {
                Some(component) => {
                    list(ui, "imports", &component.imports);
                    list(ui, "exports", &component.exports);
                }
                None => ui.detail("a core module: `qyv inspect FILE.wasm` lists its imports and exports"),
            }
        }
        ui.detail(&format!("permissions: {}", qyvol::sandbox::describe(&app.permissions)));
    }

    fn started(&self, app: &AppManifest, grant: &Grant, limits: &Resources, dirs: &[DirGrant]) {
        // If there is one, its files are on another machine.
        let source = app.fs.source.as_deref().filter(|_| grant.fs != FsAccess::None);
        if self.ui.verbose {
            self.ui.detail(&format!("granted: {grant}"));
            if let Some(source) = source {
                self.ui.detail(&format!("granted: the files at {}", escape(source)));
            }
            if *limits != Resources::default() {
                self.ui.detail(&format!("limits: {limits}"));
            }
        }
        if let Some(audit) = self.audit {
            let directory = |dir: &DirGrant| {
                let mode = if dir.writable { "" } else { ":ro" };
                format!("{}::{}{mode}", dir.host.display(), dir.guest)
            };
            audit.granted(Granted {
                time: now(),
                digest: self.record.digest.borrow().clone().unwrap_or_default(),
                permissions: grant.to_string(),
                directories: dirs.iter().map(directory).collect(),
                files: source.map(str::to_string),
                limits: *limits,
            });
        }
    }

    fn restarting(&self, process: &str, why: &str, after: Duration) {
        let (process, after) = (escape(process), format_duration(after));
        self.ui
            .note(&format!("{process}: {why}; it is started again in {after}"));
    }

    fn ended(&self, figures: &RunFigures) {
        let _ = self.record.figures.set(figures.clone());
        if let (true, Some(fuel)) = (self.ui.verbose, figures.fuel) {
            self.ui.detail(&format!("fuel used: {fuel}"));
        }
    }

    fn core_dump(&self, bytes: Vec<u8>) {
        let _ = self.record.core_dump.set(bytes);
    }

    fn unsigned(&self, reason: &str) {
        self.ui.note(&format!("running unsigned: {reason}"));
    }

    fn granted(&self, what: &str) {
        self.ui.note(&format!("granted: {what}"));
    }
}

fn list(ui: &Ui, what: &str, names: &[String]) {
    ui.detail(&format!("{what}:"));
    for name in names {
        ui.detail(&format!("  - {}", escape(name)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_is_granted_under_a_path_that_a_guest_can_look_up() {
        let granted = grant(Path::new(""), "/tmp::/data:ro").unwrap();
        assert_eq!((granted.guest.as_str(), granted.writable), ("/data", false));
        assert_eq!(grant(Path::new(""), "/tmp").unwrap().guest, "/tmp");
        let granted = grant(Path::new(""), "/tmp::/data:rw").unwrap();
        assert_eq!((granted.guest.as_str(), granted.writable), ("/data", true));
        for text in ["/tmp::/a/../b", "/tmp::..", "/tmp::", "../tmp"] {
            let failure = grant(Path::new(""), text).unwrap_err();
            assert!(
                failure.message.contains("must not contain `..`"),
                "{text}: {}",
                failure.message
            );
        }
    }
}
