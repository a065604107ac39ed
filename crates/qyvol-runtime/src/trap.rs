//! How a guest ended, from the error that wasmtime returns.

use qyvol_types::escape;
use wasmtime::component::ResourceTableError;
use wasmtime::{FrameInfo, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::engine::TRAP_FRAMES;
use crate::error::chain;
use crate::limits::{Limit, LimitReached, Limits, STACK};
use crate::sealed::IntegrityError;
use crate::source::{Instruction, Place, places};
use crate::{RuntimeError, names};

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// It returned or exited.
    Code(i32),
    /// It trapped: why, and where in the guest.
    Trap(String),
    /// A limit ended it; how it trapped then, if it did.
    Limit(Limit, String),
}

/// The outcome of a guest whose call returned `error`.
/// `source` is the component, if files and lines are to be named.
pub(crate) fn end(error: &wasmtime::Error, limits: &Limits, source: Option<&[u8]>) -> Result<Exit, RuntimeError> {
    ended(error, limits, source).unwrap_or_else(|| Ok(failed(error, limits, source)))
}

/// The exit or trap that `error` stands for, if it is the guest's own end, or
/// the reason for which the host ended it.
pub(crate) fn ended(
    error: &wasmtime::Error,
    limits: &Limits,
    source: Option<&[u8]>,
) -> Option<Result<Exit, RuntimeError>> {
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return Some(Ok(Exit::Code(exit.0)));
    }
    if let Some(broken) = error.downcast_ref::<IntegrityError>() {
        return Some(Err(broken.into()));
    }
    if let Some(LimitReached(limit)) = error.downcast_ref::<LimitReached>() {
        return Some(Ok(Exit::Limit(*limit, String::new())));
    }
    let trap = error.downcast_ref::<Trap>()?;
    if let (Trap::OutOfFuel, Some(limit)) = (trap, limits.fuel) {
        return Some(Ok(Exit::Limit(Limit::Fuel(limit), String::new())));
    }
    let mut text = trap.to_string();
    push_frames(&mut text, error, source);
    Some(Ok(match trap {
        Trap::StackOverflow => Exit::Limit(Limit::Stack(STACK), text),
        _ => trapped(text, limits),
    }))
}

/// What wasmtime says of a guest whose component can have no more handles. It has no type
/// for this.
const NO_MORE_HANDLES: &str = "store handle limit exceeded";

/// Whether a guest asked for more handles than it may have.
fn is_out_of_handles(error: &wasmtime::Error) -> bool {
    matches!(error.downcast_ref(), Some(ResourceTableError::Full))
        || error.chain().any(|cause| cause.to_string().ends_with(NO_MORE_HANDLES))
}

/// What wasmtime says of a call that would copy more than the data of one call, and what
/// wasmtime-wasi says of one that asks for more random bytes. They have no types for these.
const TOO_MUCH_DATA: &str = "too much data is being copied between the host and the guest";
const TOO_MUCH_RANDOM: (&str, &str) = ("requested len ", " exceeds limit ");

/// Whether a guest passed more data in one call, or asked for more, than one call may pass.
fn is_too_much_data(error: &wasmtime::Error) -> bool {
    let (start, middle) = TOO_MUCH_RANDOM;
    error
        .chain()
        .map(ToString::to_string)
        .any(|cause| cause.starts_with(TOO_MUCH_DATA) || cause.starts_with(start) && cause.contains(middle))
}

/// The end of a guest that the host ended, for a call that can't be answered.
fn failed(error: &wasmtime::Error, limits: &Limits, source: Option<&[u8]>) -> Exit {
    let mut text = chain(error);
    push_frames(&mut text, error, source);
    match error {
        _ if is_out_of_handles(error) => Exit::Limit(Limit::Handles, text),
        _ if is_too_much_data(error) => Exit::Limit(Limit::CallData, text),
        _ => trapped(text, limits),
    }
}

/// A trap, or the limit that most likely caused it: programs abort if they get no
/// memory, and the trap alone does not show why.
fn trapped(why: String, limits: &Limits) -> Exit {
    match limits.reached() {
        Some(limit) => Exit::Limit(limit, why),
        None => Exit::Trap(why),
    }
}

/// Adds the functions of the guest, innermost first, without addresses, which
/// are useless without that exact build; with files and lines, if the component is given and
/// has them.
fn push_frames(text: &mut String, error: &wasmtime::Error, source: Option<&[u8]>) {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return;
    };
    let shown = || backtrace.frames().iter().take(TRAP_FRAMES);
    let places = source.map(|wasm| places(wasm, shown().filter_map(instruction)));
    let places = places.unwrap_or_default();
    let mut frames: Vec<(String, usize)> = Vec::new();
    for frame in shown() {
        let module = names::cut(frame.module().name().unwrap_or("<unknown>"));
        let function = names::of_function(frame.func_name(), frame.func_index());
        let mut name = names::cut(&format!("{module}!{function}"));
        if let Some(Place { file, line }) = instruction(frame).and_then(|at| places.get(&at)) {
            name.push_str(&format!(" ({file}:{line})"));
        }
        match frames.last_mut() {
            Some((last, times)) if *last == name => *times += 1,
            _ => frames.push((name, 1)),
        }
    }
    for (name, times) in frames {
        text.push_str(&format!("; in {}", escape(&name)));
        if times > 1 {
            text.push_str(&format!(" ({times} times)"));
        }
    }
}

/// The instruction of a frame, in an engine that keeps where it is.
fn instruction(frame: &FrameInfo) -> Option<Instruction> {
    Some(Instruction {
        offset: u32::try_from(frame.module_offset()?).ok()?,
        function: frame.func_index(),
    })
}
