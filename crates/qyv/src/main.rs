//! The `qyv` command: arguments in, verbs of the facade, output.
//!
//! The only crate that reads the environment, the clock and the user's
//! directories, that prints, and that exits.
#![allow(clippy::disallowed_methods, reason = "the command is where these belong")]

mod access_log;
mod audit;
mod cli;
mod cli_attest;
mod cli_call;
mod cli_keys;
mod cli_meta;
mod cli_project;
mod cli_registry;
mod cli_run;
mod cli_sign;
mod cli_trust;
mod commands;
mod complete;
mod dev;
mod doctor;
mod failure;
mod guest_env;
mod hints;
#[cfg(feature = "hub")]
mod hub;
mod log_file;
mod open_files;
mod paths;
mod progress;
mod project;
mod provenance;
mod quickstart;
mod registry;
mod run_files;
mod run_report;
mod run_stats;
mod secrets;
mod signals;
mod spool;
mod toolchain;
mod trust_hints;
mod ui;
mod variables;

use std::process::ExitCode;
use std::time::SystemTime;

use clap::CommandFactory;
use qyvol::types::Timestamp;
use qyvol::{Children, Context, TempFiles};

use crate::cli::{Cli, Command};
use crate::failure::Failure;
use crate::progress::Progress;
use crate::ui::Ui;

/// musl's own returns each page to the kernel and requests it again: a third of the system
/// calls of a warm run.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    if let Some(code) = commands::compile::worker() {
        return code;
    }
    if let Some(code) = complete::answer() {
        return code;
    }
    let cli = Cli::read();
    let ui = Ui::new(&cli.global);
    let progress = Progress::new(ui.clone());
    let result = dispatch(cli, &ui, &progress);
    qyvol::store::Reporter::finished(&progress);
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            ui.error(&failure);
            ExitCode::from(failure.code)
        }
    }
}

fn dispatch(cli: Cli, ui: &Ui, progress: &Progress) -> Result<u8, Failure> {
    match &cli.command {
        // These need no directories.
        Command::Completions(args) => return commands::meta::completions(ui, args.shell),
        Command::Man(args) => return commands::meta::man(&args.directory, Cli::command()),
        Command::Version => return commands::meta::version(ui),
        Command::Reference => return commands::meta::reference(ui, Cli::command()),
        Command::Help(args) => return commands::help::help(ui, &args.words, Cli::command()),
        _ => {}
    }
    secrets::protect_memory(&cli.command)?;
    let (temporaries, children) = (TempFiles::default(), Children::default());
    if writes_archives(&cli.command) {
        signals::cleanup_on_signal(&temporaries, &children)?;
    }
    let compiler = commands::compile::compiler();
    let ctx = Context {
        home: paths::home()?,
        now: Timestamp::from_system(SystemTime::now()),
        source_date: source_date()?,
        report: progress,
        temporaries: &temporaries,
        compiler: Some(&compiler),
        policy: cli.global.policy.clone(),
    };
    match cli.command {
        Command::Init(args) => commands::init::init(&ctx, ui, &args),
        Command::Dev(args) => dev::dev(&ctx, ui, &args, &children),
        Command::Validate(args) => commands::author::validate(&ctx, ui, &args),
        Command::Build(args) => commands::author::build(&ctx, ui, args, &children),
        Command::Update(args) => commands::dependencies::update(&ctx, ui, &args),
        Command::Sign(args) => commands::author::sign(&ctx, ui, args),
        Command::Attest(args) => commands::attest::attest(&ctx, ui, &args),
        Command::Clean(args) => commands::author::clean(&ctx, ui, args),
        Command::Keys { command } => commands::keys::keys(&ctx, ui, command),
        Command::Verify(args) => commands::verify::verify(&ctx, ui, args),
        Command::Trust { command } => commands::trust::trust(&ctx, ui, command),
        Command::Data { command } => commands::data::data(&ctx, ui, command),
        Command::Compile(args) => commands::compile::compile(&ctx, ui, args),
        Command::Run(args) => commands::run::run(&ctx, ui, args),
        Command::Serve(args) => commands::serve::serve(&ctx, ui, args),
        Command::Call(args) => commands::call::call(&ctx, ui, &args),
        Command::Inspect(args) => commands::inspect::inspect(&ctx, ui, args),
        Command::Images => commands::store::images(&ctx, ui),
        Command::Tag(args) => commands::store::tag(&ctx, ui, args),
        Command::Push(args) => commands::remote::push(&ctx, ui, args),
        Command::Pull(args) => commands::remote::pull(&ctx, ui, args),
        #[cfg(feature = "import")]
        Command::Import(args) => commands::import::import(&ctx, ui, args),
        Command::Copy(args) => commands::remote::copy(&ctx, ui, args),
        Command::Encode(args) => commands::remote::encode(&ctx, ui, &args),
        Command::Tags(args) => commands::remote::tags(&ctx, ui, args),
        Command::Catalog(args) => commands::remote::catalog(&ctx, ui, args),
        Command::Login(args) => commands::remote::login(&ctx, ui, args),
        Command::Logout(args) => commands::remote::logout(&ctx, ui, args),
        #[cfg(feature = "hub")]
        Command::Hub { command } => hub::hub(&ctx, ui, command),
        Command::Rm(args) if args.remote => commands::remote::rm(&ctx, ui, args),
        Command::Rm(args) => commands::store::rm(&ctx, ui, args),
        Command::Prune(args) => commands::store::prune(&ctx, ui, args),
        Command::Check(args) => commands::store::check(&ctx, ui, args),
        Command::Save(args) => commands::store::save(&ctx, ui, args),
        Command::Load(args) => commands::store::load(&ctx, ui, args),
        Command::Quickstart(args) => quickstart::quickstart(&ctx, ui, args),
        Command::Doctor(args) => doctor::doctor(&ctx, ui, &args),
        Command::Completions(_) | Command::Man(_) | Command::Reference | Command::Version | Command::Help(_) => Ok(0),
    }
}

/// Whether the command may be ended while it writes a file.
fn writes_archives(command: &Command) -> bool {
    match command {
        Command::Init(_)
        | Command::Build(_)
        | Command::Update(_)
        | Command::Sign(_)
        | Command::Attest(_)
        | Command::Save(_) => true,
        Command::Clean(args) => !args.dry_run,
        Command::Verify(args) => args.record.is_some(),
        #[cfg(feature = "import")]
        Command::Import(_) => true,
        Command::Pull(args) => args.output.is_some(),
        _ => false,
    }
}

/// `SOURCE_DATE_EPOCH` (reproducible-builds.org): seconds since 1970.
fn source_date() -> Result<Option<Timestamp>, Failure> {
    let Some(value) = variables::text("SOURCE_DATE_EPOCH")? else {
        return Ok(None);
    };
    let time = value.parse::<u64>().ok().and_then(|s| Timestamp::from_unix(s).ok());
    time.map(Some)
        .ok_or_else(|| Failure::usage("SOURCE_DATE_EPOCH must be a number of seconds since 1970"))
}
