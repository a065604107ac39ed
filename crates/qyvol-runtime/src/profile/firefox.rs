//! Samples in the processed profile format of the Firefox Profiler
//! (firefox-devtools/profiler, `docs-developer/processed-profile-format.md`).
//!
//! The crate `fxprof-processed-profile` writes it, except files and lines, which it leaves
//! empty: they are added to its tables.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use fxprof_processed_profile::debugid::DebugId;
use fxprof_processed_profile::{
    CategoryColor, CpuDelta, Frame, FrameFlags, FrameHandle, FrameInfo, LibraryInfo, Profile, ReferenceTimestamp,
    StackHandle, Symbol, SymbolTable, Timestamp,
};
use serde_json::Value;

use super::samples::{Function, Samples};
use super::{INTERVAL, Profiler};
use crate::source::{Instruction, Place, places};

/// The profile as a document.
pub(super) fn document(samples: &Samples, component: &[u8], profiler: &Profiler) -> io::Result<Value> {
    let mut profile = Profile::new(
        &profiler.name,
        ReferenceTimestamp::from_duration_since_unix_epoch(profiler.date),
        INTERVAL.into(),
    );
    profile.set_symbolicated(true);
    let category = profile.add_category("WebAssembly", CategoryColor::Purple);
    let zero = Timestamp::from_nanos_since_reference(0);
    let process = profile.add_process(&profiler.name, 0, zero);
    let thread = profile.add_thread(process, 0, zero, true);
    profile.set_thread_name(thread, "guest");

    let functions = samples.functions.values();
    let libraries: Vec<_> = (0u32..)
        .zip(samples.modules.values())
        .map(|(number, module)| profile.add_lib(library(module, functions.iter().filter(|f| f.module == number))))
        .collect();
    // The library numbers frames in the order in which they are added.
    let mut numbers: HashMap<FrameHandle, usize> = HashMap::new();
    let mut instructions: Vec<Option<(Instruction, Instruction)>> = Vec::new();
    let mut frames: Vec<FrameHandle> = Vec::new();
    for frame in samples.frames.values() {
        let function = get(functions, frame.function)?;
        let shown = match (frame.offset, function.start) {
            (Some(offset), Some(_)) => {
                Frame::RelativeAddressFromInstructionPointer(*get(&libraries, function.module)?, offset)
            }
            _ => Frame::Label(profile.intern_string(&function.name)),
        };
        let info = FrameInfo {
            frame: shown,
            category_pair: category.into(),
            flags: FrameFlags::empty(),
        };
        let handle = profile.intern_frame(thread, info);
        frames.push(handle);
        let next = numbers.len();
        if *numbers.entry(handle).or_insert(next) == next {
            let start = function.start.map(|offset| Instruction {
                offset,
                function: function.index,
            });
            instructions.push(frame.instruction(function).zip(start));
        }
    }
    let mut stacks: Vec<StackHandle> = Vec::new();
    for stack in samples.stacks.values() {
        let caller = match stack.caller {
            Some(caller) => Some(*get(&stacks, caller)?),
            None => None,
        };
        stacks.push(profile.intern_stack(thread, caller, *get(&frames, stack.frame)?));
    }
    let mut end = zero;
    for sample in &samples.samples {
        let nanoseconds = u64::try_from(sample.time.as_nanos()).unwrap_or(u64::MAX);
        end = Timestamp::from_nanos_since_reference(nanoseconds);
        let stack = match sample.stack {
            Some(stack) => Some(*get(&stacks, stack)?),
            None => None,
        };
        profile.add_sample(thread, end, stack, CpuDelta::from(sample.cpu), 1);
    }
    profile.set_thread_end_time(thread, end);
    profile.set_process_end_time(process, end);

    let wanted = instructions.iter().flatten().flat_map(|(at, start)| [*at, *start]);
    let places = places(component, wanted);
    let mut document = serde_json::to_value(&profile)?;
    if let Some(thread) = document.pointer_mut("/threads/0") {
        add_places(thread, &instructions, &places);
    }
    Ok(document)
}

/// A module, with the names of its functions that were seen.
fn library<'s>(module: &str, functions: impl Iterator<Item = &'s Function>) -> LibraryInfo {
    let symbols = functions.filter_map(|function| {
        Some(Symbol {
            address: function.start?,
            size: None,
            name: function.name.clone(),
        })
    });
    LibraryInfo {
        name: module.to_string(),
        debug_name: module.to_string(),
        path: String::new(),
        debug_path: String::new(),
        debug_id: DebugId::nil(),
        code_id: None,
        arch: None,
        symbol_table: Some(Arc::new(SymbolTable::new(symbols.collect()))),
    }
}

/// Puts the file of each function into its thread's tables, the line that it begins at, and
/// the lines of its frames. A frame of another file, which was inlined, has none.
fn add_places(
    thread: &mut Value,
    instructions: &[Option<(Instruction, Instruction)>],
    places: &HashMap<Instruction, Place>,
) {
    let functions = column(thread, "/frameTable/func");
    let mut strings = column(thread, "/stringArray");
    let mut files = column(thread, "/funcTable/fileName");
    let mut starts = column(thread, "/funcTable/lineNumber");
    let mut lines = column(thread, "/frameTable/line");
    let mut numbers: HashMap<&str, Value> = HashMap::new();
    for ((function, line), instruction) in functions.iter().zip(&mut lines).zip(instructions) {
        let Some((at, start)) = instruction else { continue };
        let Some(begin) = places.get(start) else { continue };
        if let Some(place) = places.get(at)
            && place.file == begin.file
        {
            *line = place.line.into();
        }
        let function = function.as_u64().and_then(|function| usize::try_from(function).ok());
        let Some(function) = function else { continue };
        if let (Some(file), Some(line)) = (files.get_mut(function), starts.get_mut(function))
            && file.is_null()
        {
            let number = numbers.entry(&begin.file).or_insert_with(|| {
                strings.push(begin.file.as_str().into());
                (strings.len() - 1).into()
            });
            *file = number.clone();
            *line = begin.line.into();
        }
    }
    let columns = [
        ("/stringArray", strings),
        ("/funcTable/fileName", files),
        ("/funcTable/lineNumber", starts),
        ("/frameTable/line", lines),
    ];
    for (pointer, values) in columns {
        if let Some(place) = thread.pointer_mut(pointer) {
            *place = Value::Array(values);
        }
    }
}

/// Takes a column out of a table.
fn column(thread: &mut Value, pointer: &str) -> Vec<Value> {
    match thread.pointer_mut(pointer) {
        // This one stays: it is only read.
        Some(Value::Array(values)) if pointer.ends_with("/func") => values.clone(),
        Some(Value::Array(values)) => std::mem::take(values),
        _ => Vec::new(),
    }
}

/// The value with this number. Tables refer only to earlier ones.
fn get<T>(values: &[T], number: u32) -> io::Result<&T> {
    let value = usize::try_from(number).ok().and_then(|number| values.get(number));
    value.ok_or_else(|| io::Error::other("a table of the profile lacks a value"))
}
