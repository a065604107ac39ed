//! Bounds on what a guest takes of the host's memory.

use wasmtime::ResourceLimiter;

/// Most elements in all tables together.
const TABLE_ELEMENTS: usize = 10_000_000;

/// Counts all linear memories and tables of a store together. A growth past
/// the bound fails as it does in a guest whose own maximum is reached.
#[derive(Debug)]
pub(crate) struct Limits {
    memory: Option<u64>,
    used: u64,
    elements: usize,
}

impl Limits {
    pub(crate) fn new(memory: Option<u64>) -> Limits {
        Limits {
            memory,
            used: 0,
            elements: 0,
        }
    }
}

impl ResourceLimiter for Limits {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let used = self.used.saturating_add(desired.saturating_sub(current) as u64);
        if self.memory.is_some_and(|limit| used > limit) {
            return Ok(false);
        }
        self.used = used;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let elements = self.elements.saturating_add(desired.saturating_sub(current));
        if elements > TABLE_ELEMENTS {
            return Ok(false);
        }
        self.elements = elements;
        Ok(true)
    }
}
