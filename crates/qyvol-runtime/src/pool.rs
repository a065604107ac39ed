//! Memories, tables and stacks of a service's guests, reserved once for as many as may exist at
//! a time, and reset between two guests.
//!
//! The sizes are those that the one component of the engine needs. If they can't be known
//! ahead, or if the pools of this process have used up their part of the address space, there
//! is no pool. `spec/decisions/` has what it saves.

use std::sync::atomic::{AtomicU32, Ordering};

use wasmtime::PoolingAllocationConfig;
use wasmtime::component::Component;

/// Bytes at the beginning of a memory or table that are emptied by hand. What is above them is
/// returned to the kernel, which costs a call and the page faults of the next guest.
const RESIDENT: usize = 64 << 10;
/// Elements that a table can grow to, if it does not begin with more.
const TABLE: usize = 100_000;

/// Memories that all pools of this process have places for. Each takes 4 GiB of the address
/// space and a guard: a quarter of the 128 TiB that a process has.
const PLACES: u32 = 8192;

/// Places that are taken.
static TAKEN: AtomicU32 = AtomicU32::new(0);

/// Places of a pool. They are free again when this is dropped.
pub(crate) struct Places {
    taken: &'static AtomicU32,
    memories: u32,
}

impl Places {
    fn take(taken: &'static AtomicU32, memories: u32) -> Option<Places> {
        let after = |taken: u32| taken.checked_add(memories).filter(|sum| *sum <= PLACES);
        let before = taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after);
        before.ok().map(|_| Places { taken, memories })
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.memories, Ordering::Relaxed);
    }
}

/// Places for this many guests of a component.
pub(crate) fn allocation(component: &Component, guests: usize) -> Option<(PoolingAllocationConfig, Places)> {
    // One more, for the first trial instance.
    let guests = u32::try_from(guests).ok()?.checked_add(1)?;
    let needs = component.resources_required()?;
    // A heap for garbage collection takes the place of a memory.
    let memories = needs.num_memories.checked_add(1)?;
    let places = Places::take(&TAKEN, guests.checked_mul(memories)?)?;
    let table = usize::try_from(needs.max_initial_table_size.unwrap_or_default()).ok()?;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(guests)
        // They are counted, and nothing is reserved for them.
        .total_core_instances(u32::MAX)
        .total_memories(places.memories)
        .total_tables(guests.checked_mul(needs.num_tables)?)
        .total_stacks(guests)
        .total_gc_heaps(guests)
        .max_memories_per_component(memories)
        .max_tables_per_component(needs.num_tables)
        .max_memories_per_module(memories)
        .max_tables_per_module(needs.num_tables)
        .max_unused_warm_slots(guests)
        .table_elements(table.max(TABLE))
        .linear_memory_keep_resident(RESIDENT)
        .table_keep_resident(RESIDENT);
    Some((pool, places))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn pools_together_reserve_a_part_of_the_address_space_and_release_it() {
        static OWN: AtomicU32 = AtomicU32::new(0);
        let most = Places::take(&OWN, PLACES).unwrap();
        assert!(Places::take(&OWN, 1).is_none() && Places::take(&OWN, u32::MAX).is_none());
        drop(most);
        assert!(Places::take(&OWN, 1).is_some());
    }
}
