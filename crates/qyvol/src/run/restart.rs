//! Processes of a manifest: a function that runs by itself, and is restarted as the manifest
//! says.
//!
//! A process that keeps failing soon after its start is abandoned, so that a supervisor of
//! `qyv` sees the failure.

use std::thread;
use std::time::{Duration, Instant};

use qyvol_runtime::{Arguments, CallError, CallLimits, Caller, CodeKind, Function, Language};
use qyvol_types::{AppProcess, FsKind, Restart, escape};

use super::request::StepTimer;
use super::{Launch, Outcome, Prepared, RunRequest, VerifiedTarget};
use crate::{Context, Error, functions};

/// The pause before a restart. It doubles with each consecutive failure.
const PAUSE: Duration = Duration::from_millis(100);
/// Consecutive failures, each soon after a start, after which a process is abandoned.
const FAILURES: u32 = 5;
/// A process that has run for this long has not failed soon.
const STEADY: Duration = Duration::from_secs(10);

/// A process that is asked for.
pub(super) struct Asked {
    name: String,
    process: AppProcess,
}

/// The process that the first of the user's arguments names, if the application has
/// processes.
pub(super) fn process(judged: &VerifiedTarget, request: &RunRequest<'_>) -> Result<Option<Asked>, Error> {
    let processes = &judged.trusted.config.qyv.app.processes;
    let named = request.args.first().and_then(|name| processes.get_key_value(name));
    if let Some((name, process)) = named {
        return Ok(Some(Asked {
            name: name.clone(),
            process: process.clone(),
        }));
    }
    if processes.is_empty() || !CodeKind::of_exports(judged.exports()).service {
        return Ok(None);
    }
    let known: Vec<&str> = processes.keys().map(String::as_str).collect();
    let found = match request.args.first() {
        Some(name) => format!("it has no process {}", escape(name)),
        None => "the name of a process is expected after it".to_string(),
    };
    Err(Error::Usage(format!(
        "{}: {found}; it has {}",
        escape(&judged.label()),
        known.join(", ")
    )))
}

/// Runs a process until it is no longer restarted.
pub(super) fn run(
    ctx: &Context<'_>,
    judged: VerifiedTarget,
    asked: Asked,
    request: &RunRequest<'_>,
    clock: &mut StepTimer<'_>,
) -> Result<Outcome, Error> {
    check(&judged, request)?;
    let Asked { name, process } = asked;
    // The arguments after its name are for the guest.
    let request = &RunRequest {
        args: request.args.iter().skip(1).cloned().collect(),
        ..request.clone()
    };
    let label = judged.label();
    let kind = CodeKind {
        metered: process.limits.fuel.is_some(),
        service: true,
        ..CodeKind::default()
    };
    let prepared = Prepared::new(ctx, judged, request, kind, 1, clock)?;
    let function = prepared.functions().find(&process.method);
    let function = function.map_err(|source| Error::Function {
        target: label.clone(),
        source,
    })?;
    // It has no parameters, or is refused here.
    let arguments = function.read(Language::Wave, &[])?;
    let Launch {
        program,
        mut spec,
        time,
        held,
        ..
    } = Launch::new(ctx, prepared, request)?;
    let limits = CallLimits {
        time: time.wall,
        cpu: time.cpu,
        bytes: None,
    };
    let (run, limits) = functions::lowered(spec.limits, limits, &process.limits);
    spec.limits = run;
    let caller = Caller::for_process(program, spec, limits).map_err(Error::runtime(&label))?;
    clock.step("link");
    let ended = supervise(&caller, (&function, &arguments), &name, process.restart, request);
    // It has no netfs: there is nothing to send.
    let failure = match &ended {
        Err(CallError::Runtime(error)) => Some(error),
        _ => None,
    };
    held.finish(ctx, failure);
    clock.step("run");
    outcome(ended).map_err(Error::runtime(&label))
}

/// Refuses options that a process can't have.
fn check(judged: &VerifiedTarget, request: &RunRequest<'_>) -> Result<(), Error> {
    let app = &judged.trusted.config.qyv.app;
    let why = if app.fs.kind == FsKind::Netfs {
        "its files are those of another machine (`fs.type: netfs`), which this version gives to commands alone"
    } else if request.overrides.deterministic.is_some() {
        "a process can't be run with --deterministic"
    } else if request.debugging.is_any() {
        "a process can't be run with --profile, --coredump or --debug-info"
    } else if !request.overrides.exec.is_empty() {
        "a process is given no host programs (--allow-exec)"
    } else {
        return Ok(());
    };
    Err(Error::NotPermitted {
        target: judged.label(),
        why: why.to_string(),
    })
}

/// Decides whether a process that has ended is restarted, and after which pause.
struct Restarts {
    restart: Restart,
    /// Consecutive failures, each soon after a start.
    failures: u32,
    /// Before the next start.
    pause: Duration,
}

impl Restarts {
    fn new(restart: Restart) -> Restarts {
        Restarts {
            restart,
            failures: 0,
            pause: PAUSE,
        }
    }

    /// The pause before the next start, if there is one, after a process has run for `time`.
    fn next(&mut self, has_failed: bool, time: Duration) -> Option<Duration> {
        let failed_soon = has_failed && time < STEADY;
        if failed_soon {
            self.failures += 1;
        } else {
            (self.failures, self.pause) = (0, PAUSE);
        }
        let again = match self.restart {
            Restart::No => false,
            Restart::OnFailure => has_failed,
            Restart::Always => true,
        };
        if !again || self.failures >= FAILURES {
            return None;
        }
        let pause = self.pause;
        if failed_soon {
            self.pause = pause.saturating_mul(2);
        }
        Some(pause)
    }
}

/// Calls the function, and repeats that as long as `restart` says so. Returns how it ended
/// last: whether it returned an error, or why it did not return.
fn supervise(
    caller: &Caller,
    (function, arguments): (&Function, &Arguments),
    name: &str,
    restart: Restart,
    request: &RunRequest<'_>,
) -> Result<bool, CallError> {
    let mut restarts = Restarts::new(restart);
    loop {
        let began = Instant::now();
        let (ended, why) = match caller.call(function, arguments.clone()) {
            Ok(answer) if answer.is_err() => {
                let text = answer.write(Language::Wave).unwrap_or_default();
                (Ok(true), format!("it returned {}", escape(&text)))
            }
            Ok(_) => (Ok(false), "it returned".to_string()),
            Err(error @ CallError::Runtime(_)) => return Err(error),
            Err(error) => {
                let why = error.to_string();
                (Err(error), why)
            }
        };
        let has_failed = !matches!(ended, Ok(false) | Err(CallError::Exit(0)));
        let Some(pause) = restarts.next(has_failed, began.elapsed()) else {
            return ended;
        };
        request.events.restarting(name, &why, pause);
        thread::sleep(pause);
    }
}

fn outcome(ended: Result<bool, CallError>) -> Result<Outcome, qyvol_runtime::RuntimeError> {
    Ok(match ended {
        Ok(is_err) => Outcome::Code(i32::from(is_err)),
        Err(CallError::Exit(code)) => Outcome::Code(code),
        Err(CallError::Trap(why)) => Outcome::Trap(why),
        Err(CallError::Limit(limit, why)) => Outcome::Limit(limit, why),
        Err(CallError::Time(limit)) => Outcome::TimedOut(limit),
        Err(CallError::CpuTime(limit)) => Outcome::OutOfCpuTime(limit),
        Err(CallError::Runtime(error)) => return Err(error),
        Err(error) => Outcome::Trap(error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // [RUN-070]
    #[test]
    fn process_that_keeps_failing_soon_is_given_up() {
        let mut restarts = Restarts::new(Restart::OnFailure);
        for factor in [1, 2, 4, 8] {
            assert_eq!(restarts.next(true, Duration::ZERO), Some(PAUSE * factor));
        }
        assert_eq!(restarts.next(true, Duration::ZERO), None);
    }

    // [RUN-070]
    #[test]
    fn failure_after_a_long_run_and_success_begin_the_count_again() {
        for (has_failed, time) in [(true, STEADY), (false, Duration::ZERO)] {
            let mut restarts = Restarts::new(Restart::Always);
            for _ in 0..3 {
                for factor in [1, 2, 4, 8] {
                    assert_eq!(restarts.next(true, Duration::ZERO), Some(PAUSE * factor));
                }
                for _ in 0..2 * FAILURES {
                    assert_eq!(restarts.next(has_failed, time), Some(PAUSE));
                }
            }
        }
    }

    // [RUN-070]
    #[test]
    fn process_is_started_again_only_as_its_manifest_says() {
        for (restart, failed, returned) in [
            (Restart::No, false, false),
            (Restart::OnFailure, true, false),
            (Restart::Always, true, true),
        ] {
            assert_eq!(Restarts::new(restart).next(true, STEADY).is_some(), failed);
            assert_eq!(Restarts::new(restart).next(false, STEADY).is_some(), returned);
        }
    }
}
