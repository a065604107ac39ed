//! Calls as lines of JSON: read, run concurrently, answered in order.
//!
//! ```text
//!   {"id":1,"function":"add","args":[1,2]}  -->  {"id":1,"result":3}
//!   {"id":2,"function":"add","args":[]}     -->  {"id":2,"error":{"kind":"usage","message":"…"}}
//! ```
//!
//! No call begins before there is room for it: as many run at once as there are workers, and as
//! many answers wait for an earlier one. One worker has neither threads nor tasks: switching to
//! another takes longer than a short call.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::runtime::Builder;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::json::{self, Json};
use super::line_reader::{LINE_BYTES, Line, LineReader};
use super::{Answer, Arguments, CallError, Caller, Function, Functions, Language};
use crate::{RuntimeError, Stop};

/// Threads for file operations of guests, and for name lookups.
const BLOCKING_THREADS: usize = 64;

/// A function, and its caller.
#[derive(Clone, Debug)]
pub struct Callee {
    /// The function.
    pub function: Function,
    /// With the limits and the instances that it has.
    pub caller: Caller,
}

/// The functions that can be called by lines.
#[derive(Debug)]
pub struct LineCalls {
    /// Functions with limits or instances of their own, which come first, by their names.
    pub named: BTreeMap<String, Callee>,
    /// The functions that a line may name.
    pub functions: Functions,
    /// The function that is called if a line names none.
    pub function: Option<Callee>,
    /// Calls that run at once.
    pub workers: usize,
}

/// An error that answers a line.
struct Refused {
    kind: &'static str,
    message: String,
}

impl Refused {
    fn usage(message: impl ToString) -> Refused {
        Refused {
            kind: "usage",
            message: message.to_string(),
        }
    }
}

/// A requested call.
struct Asked {
    callee: Callee,
    arguments: Arguments,
}

/// What the calls share.
struct Job {
    caller: Caller,
    calls: LineCalls,
    /// The first failure of the host's part.
    failure: Mutex<Option<RuntimeError>>,
}

impl Caller {
    /// Reads calls from `input` and writes an answer for each, without its newline, until the
    /// input ends or `stop` is signalled: lines that were read by then are answered.
    ///
    /// # Errors
    ///
    /// Of `output`; and the first failure of the host's part, after everything is answered.
    pub fn answer_lines(
        &self,
        calls: LineCalls,
        input: impl Read + Send + 'static,
        output: &mut dyn FnMut(&str) -> io::Result<()>,
        stop: &Stop,
    ) -> Result<(), RuntimeError> {
        let host = |error: io::Error| RuntimeError::Host(error.to_string());
        let workers = calls.workers.max(1);
        // Writing an answer may block. It is not to take the thread of another call.
        let mut runtime = match workers {
            1 => Builder::new_current_thread(),
            _ => Builder::new_multi_thread(),
        };
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let runtime = runtime
            .worker_threads(threads.min(workers))
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .build()
            .map_err(host)?;
        let job = Arc::new(Job {
            caller: self.clone(),
            calls,
            failure: Mutex::default(),
        });
        let filled = runtime.block_on(async {
            tokio::select! {
                biased;
                () = stop.begun() => Ok(false),
                filled = job.fill(workers) => filled.map(|()| true),
            }
        });
        if !filled? {
            runtime.shutdown_background();
            crate::flush_printed(super::PRINTED);
            return Ok(());
        }
        let lines = LineReader::new(input).map_err(host)?;
        let written = match workers {
            1 => runtime.block_on(answer_each(&job, lines, output, stop)),
            _ => runtime.block_on(answer_concurrently(&job, lines, workers, output, stop)),
        };
        // Nothing is waited for if nobody reads the answers any more.
        runtime.shutdown_background();
        crate::flush_printed(super::PRINTED);
        written.map_err(host)?;
        let failure = job.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failure.map_or(Ok(()), Err)
    }
}

type Output<'a> = &'a mut dyn FnMut(&str) -> io::Result<()>;

fn write(output: Output<'_>, line: &str) -> io::Result<()> {
    output(line).map_err(|error| io::Error::other(format!("can't write an answer: {error}")))
}

/// Answers one line after the other. There are no tasks: scheduling one takes longer than a
/// short call.
async fn answer_each(job: &Job, mut lines: LineReader, output: Output<'_>, stop: &Stop) -> io::Result<()> {
    let mut stopped = pin!(stop.begun());
    while let Some(line) = next_line(job, &mut lines, stopped.as_mut()).await {
        write(output, &job.answer(line).await)?;
    }
    Ok(())
}

/// Answers `workers` lines at once, in their order.
async fn answer_concurrently(
    job: &Arc<Job>,
    lines: LineReader,
    workers: usize,
    output: Output<'_>,
    stop: &Stop,
) -> io::Result<()> {
    let (started, mut answers) = mpsc::channel(workers);
    tokio::spawn(start_calls(Arc::clone(job), lines, started, workers, stop.clone()));
    while let Some(answer) = answers.recv().await {
        let answer: JoinHandle<String> = answer;
        let line = answer.await.unwrap_or_else(|_| {
            let message = "answering it ended in a panic".to_string();
            job.fail(RuntimeError::Host(format!("can't answer a call: {message}")));
            error_line(&Json::Null, &Refused { kind: "host", message })
        });
        write(output, &line)?;
    }
    Ok(())
}

/// Starts a call for each line, and passes the answers on in the order of the lines.
async fn start_calls(
    job: Arc<Job>,
    mut lines: LineReader,
    started: mpsc::Sender<JoinHandle<String>>,
    workers: usize,
    stop: Stop,
) {
    let running = Arc::new(Semaphore::new(workers));
    let mut stopped = pin!(stop.begun());
    loop {
        // It is never closed.
        let Ok(room) = Arc::clone(&running).acquire_owned().await else {
            return;
        };
        let Some(line) = next_line(&job, &mut lines, stopped.as_mut()).await else {
            return;
        };
        let job = Arc::clone(&job);
        let call = tokio::spawn(async move {
            let answer = job.answer(line).await;
            drop(room);
            answer
        });
        if started.send(call).await.is_err() {
            return;
        }
    }
}

/// The next line; none at the end of the input, once `stopped` is ready, or if the input can't
/// be read.
async fn next_line(job: &Job, lines: &mut LineReader, stopped: Pin<&mut impl Future<Output = ()>>) -> Option<Line> {
    let line = tokio::select! {
        biased;
        // The reader may wait for input, and is not waited for.
        () = stopped => return None,
        line = lines.next() => line,
    };
    line.unwrap_or_else(|error| {
        job.fail(RuntimeError::Host(format!("can't read calls: {error}")));
        None
    })
}

impl Job {
    /// Makes the initial instances before the first call.
    async fn fill(&self, workers: usize) -> Result<(), RuntimeError> {
        for callee in self.calls.named.values() {
            callee.caller.fill(workers).await.map_err(|error| match error {
                CallError::Runtime(error) => error,
                error => RuntimeError::Instantiate(error.to_string()),
            })?;
        }
        Ok(())
    }

    /// The answer to a line.
    async fn answer(&self, line: Line) -> String {
        let (id, asked) = self.read(line);
        let asked = match asked {
            Ok(asked) => asked,
            Err(refused) => return error_line(&id, &refused),
        };
        let Callee { function, caller } = &asked.callee;
        let kind = match caller.answer(function, asked.arguments, None).await {
            Ok(answer) => return result_line(&id, &answer),
            Err(error) => error,
        };
        let message = kind.to_string();
        let kind = match kind {
            CallError::Trap(_) | CallError::Exit(_) => "trap",
            CallError::Limit(..) | CallError::Time(_) | CallError::CpuTime(_) | CallError::Busy { .. } => "limit",
            CallError::Runtime(error) => {
                self.fail(error);
                "host"
            }
        };
        error_line(&id, &Refused { kind, message })
    }

    fn fail(&self, error: RuntimeError) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
    }

    /// The id of a line, as far as it can be read, and its call.
    fn read(&self, line: Line) -> (Json, Result<Asked, Refused>) {
        let text = match line {
            Line::Text(text) => text,
            Line::TooLong => {
                let why = format!("the line is longer than {LINE_BYTES} bytes");
                return (Json::Null, Err(Refused::usage(why)));
            }
        };
        let entries = match json::parse(&text) {
            Ok(Json::Object(entries)) => entries,
            Ok(_) => return (Json::Null, Err(Refused::usage("the line is no JSON object"))),
            Err(why) => return (Json::Null, Err(Refused::usage(format!("the line is not JSON: {why}")))),
        };
        let (mut id, mut name, mut args, mut wrong) = (Json::Null, None, Vec::new(), None);
        for (key, value) in entries {
            match (key.as_str(), value) {
                // A number is echoed as it was written; others would be rounded.
                ("id", Json::Number(number)) if number.is_f64() => {
                    wrong = Some("\"id\" is a number that is no integer of 64 bits".to_string());
                }
                ("id", value @ (Json::Null | Json::Number(_) | Json::String(_))) => id = value,
                ("function", Json::String(value)) => name = Some(value),
                ("args", Json::Array(value)) => args = value,
                ("id", _) => wrong = Some("\"id\" is neither a number nor a string".to_string()),
                ("function", _) => wrong = Some("\"function\" is no string".to_string()),
                ("args", _) => wrong = Some("\"args\" is no array".to_string()),
                (key, _) => {
                    let key = super::convert::quoted(key);
                    wrong = Some(format!("unknown key \"{key}\": a call has id, function and args"));
                }
            }
        }
        let asked = match wrong {
            Some(wrong) => Err(Refused::usage(wrong)),
            None => self.asked(name.as_deref(), &args),
        };
        (id, asked)
    }

    fn find(&self, name: &str) -> Result<Callee, Refused> {
        if let Some(callee) = self.calls.named.get(name) {
            return Ok(callee.clone());
        }
        Ok(Callee {
            function: self.calls.functions.find(name).map_err(Refused::usage)?,
            caller: self.caller.clone(),
        })
    }

    fn asked(&self, name: Option<&str>, args: &[Json]) -> Result<Asked, Refused> {
        let callee = match (name, &self.calls.function) {
            (Some(name), _) => self.find(name)?,
            (None, Some(callee)) => callee.clone(),
            (None, None) => return Err(Refused::usage("the line names no function")),
        };
        let arguments = callee
            .function
            .read_json(args)
            .map_err(|error| Refused::usage(format!("{error}; {}", error.signature())))?;
        Ok(Asked { callee, arguments })
    }
}

fn begin(id: &Json) -> String {
    let mut line = "{\"id\":".to_string();
    match id {
        Json::Number(number) => line.push_str(&number.to_string()),
        Json::String(text) => json::string(&mut line, text),
        _ => line.push_str("null"),
    }
    line
}

fn result_line(id: &Json, answer: &Answer) -> String {
    let mut line = begin(id);
    line.push_str(",\"result\":");
    line.push_str(answer.write(Language::Json).as_deref().unwrap_or("null"));
    line.push('}');
    line
}

fn error_line(id: &Json, refused: &Refused) -> String {
    let mut line = begin(id);
    line.push_str(&format!(",\"error\":{{\"kind\":\"{}\",\"message\":", refused.kind));
    json::string(&mut line, &refused.message);
    line.push_str("}}");
    line
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::CallLimits;
    use super::super::tests::load;
    use super::*;
    use crate::RunSpec;

    /// Calls of a function that does nothing, by `workers` at once.
    fn job(workers: usize) -> Arc<Job> {
        let wasm = wat::parse_str(
            r#"(component
            (core module $m (func (export "f")))
            (core instance $i (instantiate $m))
            (func (export "f") (canon lift (core func $i "f"))))"#,
        );
        let program = load(&wasm.unwrap());
        let calls = LineCalls {
            named: BTreeMap::new(),
            functions: program.functions(),
            function: None,
            workers,
        };
        Arc::new(Job {
            caller: Caller::new(program, RunSpec::default(), CallLimits::default()).unwrap(),
            calls,
            failure: Mutex::default(),
        })
    }

    const LINE: &[u8] = b"{\"id\":7,\"function\":\"f\"}\n";
    const ANSWER: &str = "{\"id\":7,\"result\":null}";

    // [CALL-012]
    #[tokio::test]
    async fn call_that_has_begun_before_the_end_is_answered_and_no_other_is() {
        // The input stays open.
        let (input, mut writer) = io::pipe().unwrap();
        let (lines, stop) = (LineReader::new(input).unwrap(), Stop::default());
        let (started, mut answers) = mpsc::channel(1);
        tokio::spawn(start_calls(job(1), lines, started, 1, stop.clone()));
        writer.write_all(LINE).unwrap();
        let call = answers.recv().await.unwrap();
        stop.begin();
        writer.write_all(LINE).unwrap();
        assert_eq!(call.await.unwrap(), ANSWER);
        assert!(answers.recv().await.is_none());
    }

    // [CALL-012]
    #[tokio::test]
    async fn one_worker_answers_nothing_after_the_end() {
        let (input, mut writer) = io::pipe().unwrap();
        let (lines, stop) = (LineReader::new(input).unwrap(), Stop::default());
        writer.write_all(&LINE.repeat(2)).unwrap();
        let mut written = Vec::new();
        let mut output = |line: &str| {
            written.push(line.to_string());
            stop.begin();
            Ok(())
        };
        answer_each(&job(1), lines, &mut output, &stop).await.unwrap();
        assert_eq!(written, [ANSWER]);
    }
}
