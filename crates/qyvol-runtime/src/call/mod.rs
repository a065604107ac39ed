//! Functions of a component, called with values in text form.
//!
//! ```text
//!   Program --functions--> Functions --find--> Function --read--> Arguments
//!   Program --Caller::new--> Caller --call(Function, Arguments)--> Answer --write--> text
//! ```
//!
//! A function is found and its arguments are read before anything is instantiated. Each
//! call has a store and an instance of its own, unless the function has a pool of them.

mod caller;
mod convert;
mod http;
mod json;
mod line_reader;
mod names;
mod pool;
mod stream;
#[cfg(test)]
pub(crate) mod tests;
mod wave;
mod words;

use std::sync::Arc;
use std::time::Duration;

use qyvol_types::escape;
use thiserror::Error;
use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::{Component, ComponentExportIndex, Type, Val};

use self::convert::Reader;
use self::json::Json;
use self::names::Exported;
use self::wave::Wave;
use crate::concurrent::Failed;
use crate::generation::is_entry;
use crate::program::Code;
use crate::{Limit, Program, RuntimeError};

pub use caller::{CallLimits, Caller};
pub(crate) use http::{JsonError, error_body};
pub use names::{FunctionError, find_by_name};
pub use stream::{Callee, LineCalls};

/// Bytes of the arguments of one call, as they are written.
pub const ARGUMENT_BYTES: usize = 4 << 20;
/// How long the end of a run waits for a reader of what guests have printed.
const PRINTED: Duration = Duration::from_secs(1);

/// A text format of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// WAVE.
    Wave,
    /// JSON.
    Json,
}

/// The functions that a component exports.
#[derive(Debug)]
pub struct Functions {
    component: Option<Component>,
    list: Vec<Exported>,
}

/// A function that can be called from outside. Clones share what was found.
#[derive(Clone, Debug)]
pub struct Function {
    found: Arc<Found>,
}

#[derive(Debug)]
struct Found {
    name: String,
    index: ComponentExportIndex,
    ty: ComponentFunc,
    /// Of its type: one, or none.
    results: usize,
}

/// The arguments of a call: as many as the function has, of its types.
#[derive(Clone, Debug)]
pub struct Arguments(Vec<Val>);

/// What a function has returned.
#[derive(Debug)]
pub struct Answer {
    value: Option<Val>,
}

/// An argument that can't be passed, or a number of them.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{what}")]
pub struct ArgumentError {
    what: String,
    signature: String,
}

impl ArgumentError {
    /// The function's types, as WIT has them.
    pub fn signature(&self) -> &str {
        &self.signature
    }
}

/// Why a function did not return.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CallError {
    /// It trapped: why, and where in the guest.
    #[error("it trapped: {0}")]
    Trap(String),
    /// It exited in place of returning.
    #[error("it exited with {0} in place of returning")]
    Exit(i32),
    /// A limit ended it; how it trapped then, if it did.
    #[error("{0}{sep}{1}", sep = if .1.is_empty() { "" } else { "; it trapped: " })]
    Limit(Limit, String),
    /// It took longer.
    #[error("it took more than {} s", .0.as_secs_f64())]
    Time(Duration),
    /// It used more processor time.
    #[error("it used more than {} s of processor time", .0.as_secs_f64())]
    CpuTime(Duration),
    /// All its instances are in use, and the queue is full.
    #[error("all of its {instances} instances are in use, and {queue} calls wait")]
    Busy {
        /// Most instances.
        instances: usize,
        /// Most calls that wait.
        queue: usize,
    },
    /// The host's part failed, or an asset is not what was signed.
    #[error(transparent)]
    Runtime(RuntimeError),
}

impl From<Failed> for CallError {
    fn from(failed: Failed) -> CallError {
        match failed {
            Failed::Trap(why) => CallError::Trap(why),
            Failed::Limit(limit, why) => CallError::Limit(limit, why),
            Failed::Time(limit) => CallError::Time(limit),
            Failed::CpuTime(limit) => CallError::CpuTime(limit),
            Failed::Exit(code) => CallError::Exit(code),
            Failed::Runtime(error) => CallError::Runtime(error),
        }
    }
}

impl Program {
    /// The functions that it exports. A core module has none with types.
    pub fn functions(&self) -> Functions {
        let Code::Component(component) = &self.code else {
            return Functions {
                component: None,
                list: Vec::new(),
            };
        };
        let ty = component.component_type();
        let mut list = Vec::new();
        for (name, item) in ty.exports(&self.engine) {
            match item.ty {
                ComponentItem::ComponentFunc(_) => list.push(Exported {
                    interface: None,
                    function: name.to_string(),
                }),
                ComponentItem::ComponentInstance(instance) if !is_entry(name) => {
                    let functions = instance.exports(&self.engine);
                    let functions = functions.filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)));
                    list.extend(functions.map(|(function, _)| Exported {
                        interface: Some(name.to_string()),
                        function: function.to_string(),
                    }));
                }
                _ => {}
            }
        }
        Functions {
            component: Some(component.clone()),
            list,
        }
    }
}

impl Functions {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Looks a function up: `ns:pkg/iface.func`, `iface#func`, or less of it where that is
    /// not ambiguous.
    ///
    /// # Errors
    ///
    /// If there is none, or several, or it can't be called from outside.
    pub fn find(&self, name: &str) -> Result<Function, FunctionError> {
        let found = names::find(&self.list, name)?;
        let lost = || FunctionError::Unknown {
            name: found.name(),
            known: Vec::new(),
        };
        let component = self.component.as_ref().ok_or_else(lost)?;
        let instance = match &found.interface {
            Some(interface) => Some(component.get_export_index(None, interface.as_str()).ok_or_else(lost)?),
            None => None,
        };
        let export = component.get_export(instance.as_ref(), found.function.as_str());
        let Some((ComponentItem::ComponentFunc(ty), index)) = export else {
            return Err(lost());
        };
        let results = ty.results().len();
        match words::unfit(&ty) {
            None => Ok(Function {
                found: Arc::new(Found {
                    name: found.function.clone(),
                    index,
                    results,
                    ty,
                }),
            }),
            Some(why) => Err(FunctionError::Unfit {
                name: found.name(),
                why,
                signature: words::signature(&found.function, &ty),
            }),
        }
    }
}

impl Function {
    /// Its name and types, as WIT has them, cut where they are long.
    pub fn signature(&self) -> String {
        words::signature(&self.found.name, &self.found.ty)
    }

    /// Reads arguments, each a text of its own.
    ///
    /// # Errors
    ///
    /// If one is not of its type; names the argument, the place in it, what was expected
    /// and what was there.
    pub fn read(&self, language: Language, texts: &[String]) -> Result<Arguments, ArgumentError> {
        let bytes: usize = texts.iter().map(String::len).sum();
        if bytes > ARGUMENT_BYTES {
            return Err(self.error(format!(
                "the arguments of {} are more than {ARGUMENT_BYTES} bytes",
                self.found.name
            )));
        }
        let mut reader = Reader::new();
        self.read_each(texts, |text, ty| match language {
            Language::Wave => {
                let value = wave::parse(text).map_err(|why| format!("not WAVE: {why}"))?;
                let text = value.source();
                let written = Wave {
                    node: value.node(),
                    text,
                };
                reader.read(written, ty).map_err(|error| error.to_string())
            }
            Language::Json => {
                let value = json::parse(text.as_bytes()).map_err(|why| format!("not JSON: {why}"))?;
                reader.read(&value, ty).map_err(|error| error.to_string())
            }
        })
    }

    /// Reads arguments that are in one JSON array.
    ///
    /// # Errors
    ///
    /// As [`Function::read`].
    pub fn read_array(&self, text: &str) -> Result<Arguments, ArgumentError> {
        if text.len() > ARGUMENT_BYTES {
            return Err(self.error(format!(
                "the arguments of {} are more than {ARGUMENT_BYTES} bytes",
                self.found.name
            )));
        }
        match json::parse(text.as_bytes()) {
            Ok(Json::Array(items)) => self.read_json(&items),
            Ok(_) => Err(self.error(format!("the arguments of {} are no JSON array", self.found.name))),
            Err(why) => Err(self.error(format!("the arguments of {} are not JSON: {why}", self.found.name))),
        }
    }

    fn read_json(&self, items: &[Json]) -> Result<Arguments, ArgumentError> {
        let mut reader = Reader::new();
        self.read_each(items, |item, ty| {
            reader.read(item, ty).map_err(|error| error.to_string())
        })
    }

    fn read_each<T>(
        &self,
        items: &[T],
        mut read: impl FnMut(&T, &Type) -> Result<Val, String>,
    ) -> Result<Arguments, ArgumentError> {
        let parameters = self.found.ty.params();
        let (expected, given) = (parameters.len(), items.len());
        if given != expected {
            let plural = if expected == 1 { "" } else { "s" };
            let (name, what) = (
                escape(&self.found.name),
                format!("expected {expected} argument{plural}"),
            );
            return Err(self.error(format!("{name}: {what}, found {given}")));
        }
        let values = items
            .iter()
            .zip(parameters)
            .enumerate()
            .map(|(index, (item, (name, ty)))| {
                read(item, &ty).map_err(|why| {
                    let (number, function) = (index + 1, escape(&self.found.name));
                    self.error(format!("argument {number} '{}' of {function}: {why}", escape(name)))
                })
            });
        Ok(Arguments(values.collect::<Result<_, _>>()?))
    }

    fn error(&self, what: String) -> ArgumentError {
        ArgumentError {
            what,
            signature: self.signature(),
        }
    }
}

impl Answer {
    /// What was returned, as one line; nothing of a function that returns nothing.
    pub fn write(&self, language: Language) -> Option<String> {
        let value = self.value.as_ref()?;
        let mut text = String::new();
        match language {
            Language::Wave => wave::write(&mut text, value),
            Language::Json => json::write(&mut text, value),
        }
        Some(text)
    }

    /// Whether it is the error of a `result`.
    pub fn is_err(&self) -> bool {
        matches!(self.value, Some(Val::Result(Err(_))))
    }
}
