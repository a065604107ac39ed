//! Calls as lines of JSON: read, made beside one another, answered in their order.
//!
//! ```text
//!   {"id":1,"function":"add","args":[1,2]}  -->  {"id":1,"result":3}
//!   {"id":2,"function":"add","args":[]}     -->  {"id":2,"error":{"kind":"usage","message":"…"}}
//! ```
//!
//! No line is taken from the input before there is room for its call: as many run at once as
//! there are workers, and as many answers wait for an earlier one. One worker has no threads:
//! waking another one takes longer than a short call.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::runtime::Builder;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::json::{self, Json};
use super::line_reader::{LINE_BYTES, Line, LineReader};
use super::{Answer, Arguments, CallError, Caller, Function, Functions, Language};
use crate::{RuntimeError, Stop};

/// Threads for what guests do to files, and for lookups of names.
const BLOCKING_THREADS: usize = 64;

/// A function, and what calls it.
#[derive(Clone, Debug)]
pub struct Callee {
    /// The function.
    pub function: Function,
    /// With the limits and the instances that it has.
    pub caller: Caller,
}

/// What is called by lines.
#[derive(Debug)]
pub struct LineCalls {
    /// Functions with limits or instances of their own, which come first, by their names.
    pub named: BTreeMap<String, Callee>,
    /// The functions that a line may name.
    pub functions: Functions,
    /// The one that is called where a line names none.
    pub function: Option<Callee>,
    /// Calls that run at once.
    pub workers: usize,
}

/// Why a line is answered with an error.
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

/// A call that a line asks for.
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
    /// Reads calls from `input` and writes an answer for each, without its newline, until
    /// the input ends or `stop` begins: lines that were read by then are answered.
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
        let threads = thread::available_parallelism().map_or(1, usize::from).min(workers);
        let mut runtime = match threads {
            1 => Builder::new_current_thread(),
            _ => Builder::new_multi_thread(),
        };
        let runtime = runtime
            .worker_threads(threads)
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
        let (started, mut answers) = mpsc::channel(workers);
        let written = runtime.block_on(async {
            tokio::spawn(start_calls(Arc::clone(&job), lines, started, workers, stop.clone()));
            while let Some(answer) = answers.recv().await {
                let answer: JoinHandle<String> = answer;
                let line = answer.await.unwrap_or_else(|_| {
                    let message = "answering it ended in a panic".to_string();
                    job.fail(RuntimeError::Host(format!("can't answer a call: {message}")));
                    error_line(&Json::Null, &Refused { kind: "host", message })
                });
                output(&line).map_err(|error| io::Error::other(format!("can't write an answer: {error}")))?;
            }
            Ok::<(), io::Error>(())
        });
        // Nothing is waited for if nobody reads the answers any more.
        runtime.shutdown_background();
        crate::flush_printed(super::PRINTED);
        written.map_err(host)?;
        let failure = job.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failure.map_or(Ok(()), Err)
    }
}

/// Starts a call for each line, and hands its answer on in the order of the lines.
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
        let line = tokio::select! {
            biased;
            // The reader may wait for input, and is not waited for.
            () = &mut stopped => return,
            line = lines.next() => line,
        };
        let line = match line {
            Ok(Some(line)) => line,
            Ok(None) => return,
            Err(error) => {
                job.fail(RuntimeError::Host(format!("can't read calls: {error}")));
                return;
            }
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

impl Job {
    /// Makes the instances that are there before the first call.
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
                // A number is answered as it was written, and others would be rounded.
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

    // [CALL-012]
    #[test]
    fn line_that_was_read_before_the_end_is_answered() {
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
            workers: 1,
        };
        let job = Job {
            caller: Caller::new(program, RunSpec::default(), CallLimits::default()).unwrap(),
            calls,
            failure: Mutex::default(),
        };
        let stop = Stop::default();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            // The input stays open, and has no second line.
            let (input, mut writer) = io::pipe().unwrap();
            writer.write_all(b"{\"id\":7,\"function\":\"f\"}\n").unwrap();
            let lines = LineReader::new(input).unwrap();
            let (started, mut answers) = mpsc::channel(1);
            tokio::spawn(start_calls(Arc::new(job), lines, started, 1, stop.clone()));
            let call = answers.recv().await.unwrap();
            stop.begin();
            assert_eq!(call.await.unwrap(), "{\"id\":7,\"result\":null}");
            assert!(answers.recv().await.is_none());
        });
    }
}
