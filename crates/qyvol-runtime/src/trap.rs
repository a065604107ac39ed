//! How a guest ended, from the error that wasmtime returns.

use qyvol_types::escape;
use wasmtime::component::ResourceTableError;
use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::error::chain;
use crate::limits::{Limit, LimitReached, Limits};
use crate::sealed::IntegrityError;
use crate::{Exit, RuntimeError};

/// Maximum length of a function's name in a message, in characters.
const NAME: usize = 200;

/// The outcome of a guest whose call returned `error`.
pub(crate) fn end(error: &wasmtime::Error, limits: &Limits) -> Result<Exit, RuntimeError> {
    ended(error, limits).unwrap_or_else(|| Ok(failed(error, limits)))
}

/// The exit or trap that `error` stands for, if it is the guest's own end, or
/// the reason for which the host ended it.
pub(crate) fn ended(error: &wasmtime::Error, limits: &Limits) -> Option<Result<Exit, RuntimeError>> {
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
    push_frames(&mut text, error);
    Some(Ok(trapped(text, limits)))
}

/// The trap of a guest that the host ended, for a call that can't be answered.
fn failed(error: &wasmtime::Error, limits: &Limits) -> Exit {
    let mut text = match error.downcast_ref::<ResourceTableError>() {
        Some(ResourceTableError::Full) => {
            "it has too many handles open: bodies, fields, streams, pollables, descriptors or sockets".to_string()
        }
        _ => chain(error),
    };
    push_frames(&mut text, error);
    trapped(text, limits)
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
/// are useless without that exact build.
fn push_frames(text: &mut String, error: &wasmtime::Error) {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return;
    };
    // wasmtime demangles names in the text alone:
    // "    0:   0x1f2 - module!function".
    let lines = backtrace.to_string();
    let mut frames: Vec<(String, usize)> = Vec::new();
    for line in lines.lines().skip(1) {
        let frame = line.split_once(": ").map_or(line, |(_, frame)| frame).trim_start();
        let frame = match frame.split_once(" - ") {
            Some((address, name)) if address.starts_with("0x") => name,
            _ => frame,
        };
        let name: String = frame.chars().take(NAME).collect();
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
