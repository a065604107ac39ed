//! Where the guests of a service live: memories, tables and stacks, reserved once for as
//! many as may exist at a time, and emptied between two of them.
//!
//! The sizes are those that the one component of the engine needs. What can't be told
//! ahead has no pool. What it saves is in `spec/decisions/`.

use wasmtime::PoolingAllocationConfig;
use wasmtime::component::Component;

/// Bytes at the beginning of a memory or table that are emptied by hand. What is above
/// them is given back to the system, which costs a call and the page faults of the next
/// guest.
const RESIDENT: usize = 64 << 10;
/// Elements that a table can grow to, if it does not begin with more.
const TABLE: usize = 100_000;

/// Places for so many guests of a component.
pub(crate) fn allocation(component: &Component, guests: usize) -> Option<PoolingAllocationConfig> {
    // One more, for a first instance that is made on trial.
    let guests = u32::try_from(guests).ok()?.checked_add(1)?;
    let needs = component.resources_required()?;
    // A heap for garbage collection takes the place of a memory.
    let memories = needs.num_memories.checked_add(1)?;
    let table = usize::try_from(needs.max_initial_table_size.unwrap_or_default()).ok()?;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(guests)
        // They are counted, and nothing is reserved for them.
        .total_core_instances(u32::MAX)
        .total_memories(guests.checked_mul(memories)?)
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
    Some(pool)
}
