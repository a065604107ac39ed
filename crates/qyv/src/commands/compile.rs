//! `compile`, and the process that compiles.

use std::env;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use qyvol::runtime::{CodeKind, CompileLimits, Compiler, compile_worker};
use qyvol::types::{escape, parse_size};
use qyvol::{Context, RunRequest, Target};

use crate::cli::CompileArgs;
use crate::commands::run::pull;
use crate::failure::Failure;
use crate::ui::Ui;

/// The word that starts this program as a compiler. Users don't type it.
const WORKER: &str = "compile-worker";

/// This program. The link leads to the file that this process runs, even after an
/// upgrade has put another in its place. Without procfs, the file isn't known for certain: for
/// a script with `#!`, the kernel names the script (getauxval(3), `AT_EXECFN`).
fn program() -> Option<PathBuf> {
    let is_procfs = rustix::fs::statfs("/proc").is_ok_and(|system| system.f_type == rustix::fs::PROC_SUPER_MAGIC);
    is_procfs.then(|| PathBuf::from("/proc/self/exe"))
}

/// How this program starts itself as a compiler.
pub fn compiler() -> Compiler {
    Compiler {
        program,
        entry: vec![WORKER.into()],
        seconds: None,
        memory: None,
    }
}

/// Compiles, if that is what this process was started for.
pub fn worker() -> Option<ExitCode> {
    let mut args = env::args().skip(1);
    if args.next()? != WORKER {
        return None;
    }
    let mut number = || args.next().and_then(|text| text.parse().ok());
    let (Some(seconds), Some(memory)) = (number(), number()) else {
        return Some(ExitCode::from(2));
    };
    let Some(kind) = CodeKind::from_words(args) else {
        return Some(ExitCode::from(2));
    };
    let done = compile_worker(CompileLimits { seconds, memory }, kind, io::stdin(), io::stdout());
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The parent process reads this.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    })
}

pub fn compile(ctx: &Context<'_>, ui: &Ui, args: CompileArgs) -> Result<u8, Failure> {
    let target = Target::parse(&args.target)?;
    if matches!(target, Target::Manifest(_)) {
        return Err(Failure::usage(format!(
            "{} is a manifest under development, which is compiled when it is run",
            escape(&args.target)
        )));
    }
    let mut compiler = ctx.compiler.cloned().unwrap_or_else(compiler);
    compiler.seconds = args.max_seconds;
    compiler.memory =
        match &args.max_memory {
            Some(text) => Some(parse_size(text).ok_or_else(|| {
                Failure::usage(format!("--max-memory {}: expected a size such as 512MiB", escape(text)))
            })?),
            None => None,
        };
    let ctx = Context {
        home: ctx.home.clone(),
        policy: ctx.policy.clone(),
        compiler: Some(&compiler),
        ..*ctx
    };
    let client = || crate::registry::client(&ctx.home, ui, &args.registry).map_err(|f| qyvol::Error::Usage(f.message));
    let request = RunRequest {
        pull: pull(args.pull, &client),
        key: args.key.as_deref(),
        ..RunRequest::new(&target)
    };
    qyvol::compile(&ctx, &request)?;
    ui.note(&format!("{} is compiled", escape(&args.target)));
    Ok(0)
}
