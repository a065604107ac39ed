//! `call`.

use std::fs::File;
use std::io::{self, Read};

use qyvol::runtime::{ARGUMENT_BYTES, CallError, Language, Stop};
use qyvol::types::escape;
use qyvol::{CallArguments, CallRequest, Called, Context, DirGrant, LinesRequest, RunRequest, Target};

use crate::audit::Audit;
use crate::cli::CallArgs;
use crate::commands::run::{
    Events, LIMIT_REACHED, TRAPPED, check_pull, grants, out_of_cpu_time, reached, request, this_user,
};
use crate::failure::{FAILED, Failure};
use crate::log_file::check_apart;
use crate::run_report::RunRecord;
use crate::signals::end_in_two_steps;
use crate::ui::{Ui, format_duration};

pub fn call(ctx: &Context<'_>, ui: &Ui, args: &CallArgs) -> Result<u8, Failure> {
    let dirs = grants(&args.guest).map_err(Failure::before_call)?;
    if let Some(path) = &args.guest.audit {
        check_apart("--audit", path, &dirs).map_err(Failure::before_call)?;
    }
    let audit = Audit::new(args.guest.audit.as_deref(), ui.verbose).map_err(Failure::before_call)?;
    let called = start(ctx, ui, args, dirs, audit.as_ref()).map_err(Failure::before_call);
    if let Some(audit) = &audit {
        audit.finish(called.as_ref().map_or_else(|failure| failure.code, |code| *code));
    }
    called
}

fn start(
    ctx: &Context<'_>,
    ui: &Ui,
    args: &CallArgs,
    dirs: Vec<DirGrant>,
    audit: Option<&Audit>,
) -> Result<u8, Failure> {
    let [target_text, words @ ..] = args.words.as_slice() else {
        return Err(Failure::usage("a target is expected"));
    };
    let target = Target::parse(target_text)?;
    check_pull(&args.guest, &target, target_text)?;
    let client = || Ok(crate::registry::client(&ctx.home, ui, &args.guest.registry)?);
    let record = RunRecord::default();
    let events = Events {
        ui,
        record: &record,
        audit,
    };
    let run = RunRequest {
        caller: this_user(args.scope.clone()),
        ..request(&target, &args.guest, dirs, &client, &events)?
    };
    if let Some(workers) = args.workers {
        let function = match words {
            [] => None,
            [function] => Some(function.as_str()),
            _ => return Err(Failure::usage("with --workers, arguments come from stdin")),
        };
        let stop = Stop::default();
        end_in_two_steps(&stop, None::<fn()>)?;
        let request = LinesRequest {
            run,
            function,
            workers: usize::from(workers),
            stop,
        };
        qyvol::call_lines(ctx, &request, io::stdin(), &mut |line| ui.plain(line))?;
        return Ok(0);
    }
    let Some((function, given)) = words.split_first() else {
        return Err(
            Failure::usage("the name of a function is expected after the target").hint(format!(
                "`qyv inspect --wit {}` shows its functions",
                escape(target_text)
            )),
        );
    };
    let language = if args.json { Language::Json } else { Language::Wave };
    let request = CallRequest {
        run,
        function,
        arguments: arguments(args, language, given)?,
        language,
    };
    match qyvol::call(ctx, &request)? {
        Called::Returned { text, is_err } => {
            if let Some(text) = text {
                let written = ui.plain(&text);
                written.map_err(|error| Failure::new(format!("can't write to stdout: {error}")))?;
            }
            Ok(if is_err { FAILED } else { 0 })
        }
        Called::Failed(error) => Ok(print_failure(ui, function, &error)),
    }
}

/// Prints why a function did not return. Returns the exit code.
fn print_failure(ui: &Ui, function: &str, error: &CallError) -> u8 {
    let (code, why) = match error {
        CallError::Trap(why) => (TRAPPED, format!("trapped: {why}")),
        CallError::Limit(limit, why) => (LIMIT_REACHED, format!("was ended: {}", reached(*limit, why))),
        CallError::Time(limit) => {
            let limit = format_duration(*limit);
            let why = format!("timed out: it ran for longer than {limit} (resources.timeout)");
            (LIMIT_REACHED, why)
        }
        CallError::CpuTime(limit) => (LIMIT_REACHED, format!("was ended: {}", out_of_cpu_time(*limit))),
        // It has ended without a result, whatever code it gave.
        CallError::Exit(code) => (TRAPPED, format!("exited with {code} in place of returning")),
        error => (TRAPPED, format!("did not return: {error}")),
    };
    ui.error(&Failure::new(format!("{} {why}", escape(function))));
    code
}

fn arguments(args: &CallArgs, language: Language, given: &[String]) -> Result<CallArguments, Failure> {
    let Some(from) = &args.args_from else {
        let given = match given.split_first() {
            Some((first, rest)) if first == "--" => rest,
            _ => given,
        };
        return Ok(CallArguments::Each(language, given.to_vec()));
    };
    if !given.is_empty() {
        return Err(Failure::usage(
            "arguments come from the command line or with --args-from, not both",
        ));
    }
    let text = read_arguments(from)?;
    Ok(match language {
        Language::Json => CallArguments::Array(text),
        Language::Wave => {
            let lines = text.lines().filter(|line| !line.trim().is_empty());
            CallArguments::Each(language, lines.map(str::to_string).collect())
        }
    })
}

/// Reads the arguments of one call. They are the user's: a mistake in them is wrong usage.
fn read_arguments(from: &str) -> Result<String, Failure> {
    let failed = |why: String| Failure::usage(format!("can't read the arguments from {}: {why}", escape(from)));
    let mut bytes = Vec::new();
    let limit = ARGUMENT_BYTES as u64 + 1;
    let read = match from {
        "-" => io::stdin().take(limit).read_to_end(&mut bytes),
        path => File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)),
    };
    read.map_err(|error| failed(error.to_string()))?;
    if bytes.len() > ARGUMENT_BYTES {
        return Err(failed(format!("they are more than {ARGUMENT_BYTES} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| failed(format!("they are not UTF-8: {}", error.utf8_error())))
}
