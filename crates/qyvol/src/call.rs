//! `call`: the steps of `run` up to the guest, then calls of its functions.

use std::collections::BTreeMap;
use std::io::{self, Read};

use qyvol_runtime::{
    Arguments, CallError, CallLimits, Callee, Caller, CodeKind, Function, FunctionError, Functions, Language,
    LineCalls, RunLimits, RuntimeError, Stop, exports_functions,
};
use qyvol_types::{AppManifest, FsKind, escape};

use crate::functions::{self, Found};
use crate::run::{Launch, Prepared, StepTimer, VerifiedTarget};
use crate::{Context, Error, RunRequest};

/// A function to call, and its arguments.
pub struct CallRequest<'a> {
    /// The application and what it is given, as for a run of it.
    pub run: RunRequest<'a>,
    /// The name of the function, or as much of it as is not ambiguous.
    pub function: &'a str,
    /// The arguments.
    pub arguments: CallArguments,
    /// The text format of the result.
    pub language: Language,
}

/// Arguments as they are written.
#[derive(Clone, Debug)]
pub enum CallArguments {
    /// Each by itself.
    Each(Language, Vec<String>),
    /// All of them in one JSON array.
    Array(String),
}

/// How a call ended.
#[derive(Debug)]
pub enum Called {
    /// The function returned.
    Returned {
        /// What it returned, as one line; none if it returns nothing.
        text: Option<String>,
        /// Whether that is the error of a `result`.
        is_err: bool,
    },
    /// It did not return. Failures of the host's part are errors of [`call`].
    Failed(CallError),
}

/// Functions to call by lines of JSON.
pub struct LinesRequest<'a> {
    /// The application and what it is given, as for a run of it.
    pub run: RunRequest<'a>,
    /// The function that is called if a line names none.
    pub function: Option<&'a str>,
    /// Calls that run at once.
    pub workers: usize,
    /// Ends the reading of lines.
    pub stop: Stop,
}

/// Calls a function of a target. The function is found and its arguments are read before
/// the guest is given anything.
pub fn call(ctx: &Context<'_>, request: &CallRequest<'_>) -> Result<Called, Error> {
    let mut clock = StepTimer::start(request.run.events);
    let ready = Ready::new(ctx, &request.run, 1, &mut clock)?;
    let found = ready.find(request.function)?;
    let arguments = read(&found.function, &request.arguments)?;
    clock.step("read");
    let called = ready.with_caller(ctx, &request.run, |calling| {
        let callee = calling.bind(found)?;
        clock.step("link");
        match callee.caller.call(&callee.function, arguments) {
            Ok(answer) => Ok(Called::Returned {
                text: answer.write(request.language),
                is_err: answer.is_err(),
            }),
            Err(CallError::Runtime(error)) => Err(error),
            Err(error) => Ok(Called::Failed(error)),
        }
    })?;
    clock.step("call");
    Ok(called)
}

/// Calls functions of a target, one for each line of `input`, and writes the answers to
/// `output` in order.
pub fn call_lines(
    ctx: &Context<'_>,
    request: &LinesRequest<'_>,
    input: impl Read + Send + 'static,
    output: &mut dyn FnMut(&str) -> io::Result<()>,
) -> Result<(), Error> {
    let mut clock = StepTimer::start(request.run.events);
    let ready = Ready::new(ctx, &request.run, request.workers, &mut clock)?;
    let function = request.function.map(|name| Ok::<_, Error>((name, ready.find(name)?)));
    let function = function.transpose()?;
    let named = functions::named(ready.app(), &ready.functions).map_err(ready.no_function())?;
    ready.with_caller(ctx, &request.run, |calling| {
        let named = named.into_iter().map(|(name, found)| Ok((name, calling.bind(found)?)));
        let named = named.collect::<Result<BTreeMap<_, _>, RuntimeError>>()?;
        let function = function.map(|(name, found)| match named.get(name) {
            // Lines that name it and lines that don't share its instances.
            Some(callee) => Ok(callee.clone()),
            None => calling.bind(found),
        });
        let function = function.transpose()?;
        clock.step("link");
        let Calling { caller, functions, .. } = calling;
        let calls = LineCalls {
            named,
            functions,
            function,
            workers: request.workers,
        };
        caller.answer_lines(calls, input, output, &request.stop)
    })
}

fn read(function: &Function, arguments: &CallArguments) -> Result<Arguments, Error> {
    Ok(match arguments {
        CallArguments::Each(language, texts) => function.read(*language, texts)?,
        CallArguments::Array(text) => function.read_array(text)?,
    })
}

/// An application whose functions are known, on this host.
struct Ready {
    label: String,
    functions: Functions,
    prepared: Prepared,
}

impl Ready {
    /// For this many calls at once.
    fn new(ctx: &Context<'_>, run: &RunRequest<'_>, workers: usize, clock: &mut StepTimer<'_>) -> Result<Ready, Error> {
        let judged = VerifiedTarget::new(ctx, run)?;
        clock.step("verify");
        let label = judged.label();
        check_callable(&judged)?;
        let app = &judged.trusted.config.qyv.app;
        let kind = CodeKind {
            metered: functions::metered(app),
            service: true,
            ..CodeKind::default()
        };
        let guests = match workers {
            1 => 1,
            workers => workers.saturating_add(functions::instances(app)),
        };
        let exports = judged.exports().to_vec();
        let prepared = Prepared::new(ctx, judged, run, kind, guests, clock)?;
        let functions = prepared.functions();
        if functions.is_empty() {
            return Err(no_functions(label, &exports));
        }
        Ok(Ready {
            label,
            functions,
            prepared,
        })
    }

    fn app(&self) -> &AppManifest {
        self.prepared.app()
    }

    fn find(&self, name: &str) -> Result<Found, Error> {
        functions::find(self.app(), &self.functions, name).map_err(self.no_function())
    }

    fn no_function(&self) -> impl FnOnce(FunctionError) -> Error + use<> {
        let target = self.label.clone();
        |source| Error::Function { target, source }
    }

    /// Grants the application its resources, for as long as `work` calls its functions.
    fn with_caller<T>(
        self,
        ctx: &Context<'_>,
        run: &RunRequest<'_>,
        work: impl FnOnce(Calling) -> Result<T, RuntimeError>,
    ) -> Result<T, Error> {
        let Launch {
            program,
            spec,
            time,
            held,
            ..
        } = Launch::new(ctx, self.prepared, run)?;
        let limits = CallLimits {
            time: time.wall,
            cpu: time.cpu,
            bytes: None,
        };
        let run = spec.limits;
        let done = Caller::new(program, spec, limits).and_then(|caller| {
            work(Calling {
                caller,
                functions: self.functions,
                run,
                limits,
            })
        });
        // It has no netfs: there is nothing to send.
        held.finish(ctx, done.as_ref().err());
        done.map_err(Error::runtime(&self.label))
    }
}

/// The caller of an application's functions, and its limits.
struct Calling {
    caller: Caller,
    functions: Functions,
    run: RunLimits,
    limits: CallLimits,
}

impl Calling {
    fn bind(&self, found: Found) -> Result<Callee, RuntimeError> {
        found.bind_pooled(&self.caller, self.run, self.limits)
    }
}

/// Refuses a component without functions, before it is compiled.
fn check_callable(judged: &VerifiedTarget) -> Result<(), Error> {
    let target = judged.label();
    let exports = judged.exports();
    if !exports_functions(exports) {
        return Err(no_functions(target, exports));
    }
    let refused = |why: &str| {
        Err(Error::NotPermitted {
            target: judged.label(),
            why: why.to_string(),
        })
    };
    let app = &judged.trusted.config.qyv.app;
    functions::check_pools(app, judged.generation()).or_else(|why| refused(&why))?;
    match app.fs.kind {
        FsKind::Netfs => refused(
            "its files are those of another machine (`fs.type: netfs`), which this version gives to commands alone",
        ),
        _ => Ok(()),
    }
}

fn no_functions(target: String, exports: &[String]) -> Error {
    let what = match exports {
        [] => "it is a core module, or a component that exports nothing".to_string(),
        exports => {
            let names: Vec<String> = exports.iter().take(10).map(|name| escape(name).to_string()).collect();
            format!("it exports {}", names.join(", "))
        }
    };
    Error::NoFunctions { target, what }
}
