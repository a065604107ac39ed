//! Bounds on what a guest takes of the host's memory.

use wasmtime::ResourceLimiter;

/// Most elements in all tables together.
const TABLE_ELEMENTS: usize = 10_000_000;

/// Counts all linear memories and tables of a store together. A growth past
/// the bound fails as it does in a guest whose own maximum is reached:
/// `memory.grow` returns -1.
///
/// A growth that is granted here and that the host then can't provide stays
/// counted. wasmtime reports such a failure without its amount, and also where
/// nothing had been granted: a guest could exploit a refund.
#[derive(Debug)]
pub(crate) struct Limits {
    memory: Option<u64>,
    used: u64,
    elements: usize,
    refused: bool,
}

impl Limits {
    pub(crate) fn new(memory: Option<u64>) -> Limits {
        Limits {
            memory,
            used: 0,
            elements: 0,
            refused: false,
        }
    }

    /// The bound, if memory has been refused for its sake.
    pub(crate) fn reached(&self) -> Option<u64> {
        self.memory.filter(|_| self.refused)
    }
}

impl ResourceLimiter for Limits {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let used = self.used.saturating_add(desired.saturating_sub(current) as u64);
        if self.memory.is_some_and(|limit| used > limit) {
            self.refused = true;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_memories_share_one_bound() {
        let mut limits = Limits::new(Some(100));
        assert!(limits.memory_growing(0, 60, None).unwrap());
        assert!(!limits.memory_growing(0, 60, None).unwrap());
        assert_eq!(limits.reached(), Some(100));
        assert!(limits.memory_growing(60, 100, None).unwrap());
        assert!(!limits.memory_growing(100, 101, None).unwrap());
    }

    #[test]
    fn the_guests_own_maximum_is_not_taken_for_the_limit() {
        let mut limits = Limits::new(Some(100));
        assert!(!limits.memory_growing(0, 60, Some(50)).unwrap());
        assert_eq!(limits.reached(), None);
    }

    #[test]
    fn tables_share_one_bound() {
        let mut limits = Limits::new(None);
        assert!(limits.table_growing(0, TABLE_ELEMENTS, None).unwrap());
        assert!(!limits.table_growing(0, 1, None).unwrap());
        assert!(!limits.table_growing(0, usize::MAX, None).unwrap());
    }
}
