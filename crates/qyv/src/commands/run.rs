//! `run`.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use qyvol::image::HeadImage;
use qyvol::remote_store::Client;
use qyvol::types::{AppManifest, FsAccess, ImageConfig};
use qyvol::{Context, DirGrant, Outcome, Pull, RunEvents, RunRequest, Target};

use crate::cli::{PullWhen, RunArgs};
use crate::failure::Failure;
use crate::ui::{Ui, took};

/// The guest's time was over.
const TIMED_OUT: u8 = 124;
/// How long the end of a guest that ran out of time waits for it to be told.
const TELL: Duration = Duration::from_secs(1);
/// The guest trapped: 128 and SIGABRT, as a shell says.
const TRAPPED: u8 = 134;

pub fn run(ctx: &Context<'_>, ui: &Ui, args: RunArgs) -> Result<u8, Failure> {
    let target = Target::parse(&args.target)?;
    if args.pull.is_some() && matches!(target, Target::Manifest(_)) {
        return Err(Failure::usage(format!(
            "{} is a manifest under development, which no registry has: --pull can't apply to it",
            qyvol::types::escape(&args.target)
        )));
    }
    let registry = args.registry;
    let client = || crate::registry::client(&ctx.home, ui, &registry).map_err(|f| qyvol::Error::Usage(f.message));
    let request = RunRequest {
        target: &target,
        pull: pull(args.pull, &client),
        args: args.args,
        env: args.env.iter().map(|e| variable(e)).collect::<Result<_, _>>()?,
        dirs: args.dirs.iter().map(|d| grant(d)).collect::<Result<_, _>>()?,
        key: args.key.as_deref(),
        last: true,
        events: &Events { ui },
    };
    match qyvol::run(ctx, &request)? {
        Outcome::Code(code) => Ok(u8::try_from(code & 0xff).unwrap_or(1)),
        Outcome::Trap(why) => {
            ui.error(&Failure::new(format!("{} trapped: {why}", args.target)));
            Ok(TRAPPED)
        }
        Outcome::TimedOut(limit) => {
            // The guest's thread still runs. Telling may wait for a reader of
            // stderr; the end does not wait for that.
            thread::spawn(|| {
                thread::sleep(TELL);
                std::process::exit(i32::from(TIMED_OUT));
            });
            let limit = took(limit);
            ui.error(&Failure::new(format!(
                "{} ran for longer than its {limit} (resources.timeout)",
                args.target
            )));
            std::process::exit(i32::from(TIMED_OUT));
        }
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

fn variable(text: &str) -> Result<(String, String), Failure> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_string(), value.to_string())),
        _ => Err(Failure::usage(format!("--env {text}: NAME=VALUE is expected"))),
    }
}

/// `HOST[::GUEST][:ro]`.
fn grant(text: &str) -> Result<DirGrant, Failure> {
    let (rest, writable) = match text.strip_suffix(":ro") {
        Some(rest) => (rest, false),
        None => (text, true),
    };
    let (host, guest) = rest.split_once("::").unwrap_or((rest, rest));
    let host = PathBuf::from(host);
    if !host.is_dir() {
        return Err(Failure::usage(format!(
            "--dir {text}: {} is not a folder",
            host.display()
        )));
    }
    Ok(DirGrant {
        host,
        guest: guest.to_string(),
        writable,
    })
}

struct Events<'a> {
    ui: &'a Ui,
}

impl RunEvents for Events<'_> {
    fn step(&self, what: &str, time: Duration) {
        if self.ui.verbose {
            self.ui.detail(&format!("{what:>9}  {}", took(time)));
        }
    }

    fn loaded(&self, image: &HeadImage, app: &AppManifest, path: &str) {
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
        let fs = match app.permissions.fs {
            FsAccess::None => "none",
            FsAccess::Read => "read",
            FsAccess::Write => "write",
            FsAccess::Full => "full",
        };
        let p = &app.permissions;
        ui.detail(&format!(
            "permissions: fs:{fs}, net:{}, exec:{}, gfx:{}",
            p.net, p.exec, p.gfx
        ));
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
        ui.detail(&format!("  - {}", qyvol::types::escape(name)));
    }
}
