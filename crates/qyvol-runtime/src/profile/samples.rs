//! Samples in little memory: repeated values are stored once.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use wasmtime::FrameInfo;

use crate::engine::PROFILE_FRAMES;
use crate::names;
use crate::source::Instruction;

/// Maximum number of samples: five minutes of computing.
const SAMPLES: usize = 300_000;
/// Maximum number of instructions that are seen.
const FRAMES: usize = 32_768;
/// Maximum number of stacks and parts of them.
const STACKS: usize = 262_144;

/// Values, each once, with numbers that begin at 0.
#[derive(Debug)]
pub(super) struct Table<T> {
    numbers: HashMap<T, u32>,
    values: Vec<T>,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table {
            numbers: HashMap::new(),
            values: Vec::new(),
        }
    }
}

impl<T: Clone + Eq + Hash> Table<T> {
    /// The number of a value.
    fn number(&mut self, value: T) -> u32 {
        let next = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
        *self.numbers.entry(value).or_insert_with_key(|value| {
            self.values.push(value.clone());
            next
        })
    }

    pub(super) fn values(&self) -> &[T] {
        &self.values
    }
}

/// A function of the guest's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Function {
    /// The number of its module.
    pub(super) module: u32,
    /// Its index there.
    pub(super) index: u32,
    /// Where it begins in the component, if that is known.
    pub(super) start: Option<u32>,
    pub(super) name: String,
}

/// An entry of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Frame {
    /// The number of its function.
    pub(super) function: u32,
    /// Where the instruction is in the component, if that is known.
    pub(super) offset: Option<u32>,
}

impl Frame {
    pub(super) fn instruction(self, function: &Function) -> Option<Instruction> {
        Some(Instruction {
            offset: self.offset?,
            function: function.index,
        })
    }
}

/// A stack: its innermost frame, and the stack of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Stack {
    pub(super) caller: Option<u32>,
    /// The number of the frame.
    pub(super) frame: u32,
}

/// One sample.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Since the profiler was made.
    pub(super) time: Duration,
    /// Processor time since the last one.
    pub(super) cpu: Duration,
    /// The number of the stack.
    pub(super) stack: Option<u32>,
}

/// All samples of a run. Later tables refer to the numbers of earlier ones; callers come before
/// what they call.
#[derive(Debug, Default)]
pub(super) struct Samples {
    pub(super) modules: Table<String>,
    pub(super) functions: Table<Function>,
    pub(super) frames: Table<Frame>,
    pub(super) stacks: Table<Stack>,
    pub(super) samples: Vec<Sample>,
    cpu: Option<Duration>,
    is_cut: bool,
}

impl Samples {
    /// Whether one more sample is taken. If not, that is recorded.
    pub(super) fn has_place(&mut self) -> bool {
        let is_full =
            self.samples.len() >= SAMPLES || self.frames.values.len() >= FRAMES || self.stacks.values.len() >= STACKS;
        self.is_cut |= is_full;
        !is_full
    }

    pub(super) fn len(&self) -> usize {
        self.samples.len()
    }

    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Adds a stack, innermost frame first. `cpu` is the processor time of the thread.
    pub(super) fn add(&mut self, frames: &[FrameInfo], time: Duration, cpu: Duration) {
        let mut stack = None;
        if frames.len() >= PROFILE_FRAMES {
            let frame = self.left_out();
            stack = Some(self.stacks.number(Stack { caller: None, frame }));
        }
        for frame in frames.iter().rev() {
            let frame = self.frame(frame);
            stack = Some(self.stacks.number(Stack { caller: stack, frame }));
        }
        let before = self.cpu.replace(cpu).unwrap_or(cpu);
        self.samples.push(Sample {
            time,
            cpu: cpu.saturating_sub(before),
            stack,
        });
    }

    fn frame(&mut self, frame: &FrameInfo) -> u32 {
        let narrow = |offset: Option<usize>| offset.and_then(|offset| u32::try_from(offset).ok());
        let offset = narrow(frame.module_offset());
        let start = offset.zip(narrow(frame.func_offset()));
        let name = names::of_function(frame.func_name(), frame.func_index());
        let module = names::cut(frame.module().name().unwrap_or("<unknown>"));
        let function = Function {
            module: self.modules.number(module),
            index: frame.func_index(),
            start: start.and_then(|(offset, within)| offset.checked_sub(within)),
            name: names::without_hash(name),
        };
        let function = self.functions.number(function);
        self.frames.number(Frame { function, offset })
    }

    /// In place of the outer frames of a deep stack.
    fn left_out(&mut self) -> u32 {
        let function = Function {
            module: self.modules.number("<unknown>".to_string()),
            index: u32::MAX,
            start: None,
            name: format!("(callers beyond {PROFILE_FRAMES} frames)"),
        };
        let function = self.functions.number(function);
        self.frames.number(Frame { function, offset: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // [RUN-072]
    #[test]
    fn samples_are_taken_until_the_limit() {
        let mut samples = Samples::default();
        for _ in 0..SAMPLES {
            assert!(samples.has_place());
            samples.add(&[], Duration::ZERO, Duration::ZERO);
        }
        assert!(!samples.is_cut());
        assert!(!samples.has_place());
        assert!(samples.is_cut());
        let mut samples = Samples::default();
        for frame in 0..u32::try_from(STACKS).unwrap() {
            assert!(samples.has_place());
            samples.stacks.number(Stack { caller: None, frame });
        }
        assert!(!samples.has_place());
    }

    #[test]
    fn repeated_values_are_stored_once() {
        let mut table = Table::default();
        assert_eq!([table.number("a"), table.number("b"), table.number("a")], [0, 1, 0]);
        assert_eq!(table.values(), ["a", "b"]);
    }
}
