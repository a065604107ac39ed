//! How a guest ended, from the error that wasmtime returns.

use std::error::Error;

use qyvol_types::escape;
use rustix::io::Errno;
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

/// The exit or trap in `error`, if the guest ended itself, or the reason for which the host
/// ended it.
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
    if error.chain().any(is_out_of_memory) {
        return Some(Err(RuntimeError::NoRoom(chain(error))));
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

/// Whether the kernel gave this process no more memory or mappings. A guest is not the cause:
/// a memory of its own that can't grow is no error.
fn is_out_of_memory(cause: &(dyn Error + 'static)) -> bool {
    cause.downcast_ref() == Some(&Errno::NOMEM)
}

/// wasmtime's message if a guest's component can have no more handles. It has no type for this
/// error.
const NO_MORE_HANDLES: &str = "store handle limit exceeded";

/// The limit on handles, if a guest asked for more.
fn handles_limit(error: &wasmtime::Error, limits: &Limits) -> Option<Limit> {
    if matches!(error.downcast_ref(), Some(ResourceTableError::Full)) {
        return Some(Limit::Handles(limits.handles));
    }
    let is_out = error.chain().any(|cause| cause.to_string().ends_with(NO_MORE_HANDLES));
    is_out.then_some(Limit::Handles(limits.component_handles))
}

/// wasmtime's message for a call that copies more than the limit of one call, and
/// wasmtime-wasi's for one that requests more random bytes. They have no types for these
/// errors.
const TOO_MUCH_DATA: &str = "too much data is being copied between the host and the guest";
const TOO_MUCH_RANDOM: (&str, &str) = ("requested len ", " exceeds limit ");

/// The limit on the data of one call, if a guest passed or requested more.
fn data_limit(error: &wasmtime::Error, limits: &Limits) -> Option<Limit> {
    let (start, middle) = TOO_MUCH_RANDOM;
    error.chain().map(ToString::to_string).find_map(|cause| {
        if cause.starts_with(TOO_MUCH_DATA) {
            return Some(Limit::CallData(limits.call_bytes));
        }
        let (_, limit) = cause.strip_prefix(start)?.split_once(middle)?;
        Some(Limit::CallData(limit.parse().unwrap_or(limits.call_bytes)))
    })
}

/// The end of a guest that the host ended because a call can't be answered.
fn failed(error: &wasmtime::Error, limits: &Limits, source: Option<&[u8]>) -> Exit {
    let mut text = chain(error);
    push_frames(&mut text, error, source);
    match handles_limit(error, limits).or_else(|| data_limit(error, limits)) {
        Some(limit) => Exit::Limit(limit, text),
        None => trapped(text, limits),
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

/// Adds the functions of the guest, innermost first, without addresses, which are useless
/// without that exact build; with files and lines, if the component is given and has them.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RunLimits;

    // [SERVE-006]
    #[test]
    fn host_without_memory_is_no_trap_of_the_guest() {
        let error = wasmtime::Error::from(Errno::NOMEM).context("mmap failed to reserve 0x4000 bytes");
        let ended = end(&error, &Limits::new(RunLimits::default()), None);
        assert!(matches!(ended, Err(RuntimeError::NoRoom(_))), "{ended:?}");
        let other = wasmtime::Error::from(Errno::IO).context("read");
        assert!(matches!(
            end(&other, &Limits::new(RunLimits::default()), None),
            Ok(Exit::Trap(_))
        ));
    }
}
