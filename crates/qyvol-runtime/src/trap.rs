//! A guest's end, told from the error that wasmtime returns.

use qyvol_types::escape;
use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::Exit;
use crate::error::chain;
use crate::limits::Limits;

/// Most characters of a function's name that are shown.
const NAME: usize = 200;

/// The exit or trap that `error` stands for, if it is the guest's own end.
pub(crate) fn ended(error: &wasmtime::Error, limits: &Limits) -> Option<Exit> {
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return Some(Exit::Code(exit.0));
    }
    let mut text = error.downcast_ref::<Trap>()?.to_string();
    if let Some(limit) = limits.reached() {
        // Languages abort where no memory comes: the trap alone hides why.
        text.push_str(&format!("\n  after its memory limit of {limit} bytes was reached"));
    }
    push_frames(&mut text, error);
    Some(Exit::Trap(text))
}

/// The trap of a guest that the host ended, for a call that can't be answered.
pub(crate) fn failed(error: &wasmtime::Error) -> Exit {
    let mut text = chain(error);
    push_frames(&mut text, error);
    Exit::Trap(text)
}

/// Adds the functions of the guest, innermost first. Their addresses help
/// nobody who has not got the very build.
fn push_frames(text: &mut String, error: &wasmtime::Error) {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return;
    };
    // wasmtime demangles names in the text alone:
    // "    0:   0x1f2 - module!function".
    for line in backtrace.to_string().lines().skip(1) {
        let frame = line.split_once(": ").map_or(line, |(_, frame)| frame).trim_start();
        let frame = match frame.split_once(" - ") {
            Some((address, name)) if address.starts_with("0x") => name,
            _ => frame,
        };
        let name: String = frame.chars().take(NAME).collect();
        text.push_str(&format!("\n  in {}", escape(&name)));
    }
}
