//! Limits on a guest's use of the host.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use thiserror::Error;
use wasmtime::ResourceLimiter;

use crate::GuestFigures;

/// Maximum number of elements in all tables together.
const TABLE_ELEMENTS: usize = 10_000_000;
/// Bytes of host memory for each element: a pointer.
const ELEMENT: u64 = 8;

/// Bytes of stack for a guest's calls. All guests have the same, that of the engine.
pub(crate) const STACK: usize = 512 << 10;

/// Maximum number of host resources that a guest holds at once: streams,
/// pollables, descriptors, sockets.
pub(crate) const HANDLES: usize = 65_536;

/// The same for a guest with `wasi:http`, whose bodies and fields take up to 128 KiB of
/// host memory each.
pub(crate) const HTTP_HANDLES: usize = 4096;
/// Bytes that one call of a run may pass to the host: wasmtime's default.
pub(crate) const CALL_BYTES: usize = 128 << 20;

/// Bytes of host memory that such a handle may take, with what belongs to it.
const HTTP_HANDLE: u64 = 160 << 10;

/// The minimum for a guest that answers a request.
const REQUEST_HANDLES: u64 = 512;

/// The same for a guest that answers a request, of which there are many at once: its handles
/// take no more host memory than the guest may have itself.
pub(crate) fn request_handles(memory: Option<u64>) -> usize {
    let handles = memory.map_or(u64::MAX, |bytes| bytes / HTTP_HANDLE);
    usize::try_from(handles.max(REQUEST_HANDLES)).map_or(HTTP_HANDLES, |handles| handles.min(HTTP_HANDLES))
}

/// Maximum number of directory listings that a guest has open: each holds all names.
pub(crate) const LISTINGS: u64 = 64;

/// Limits of a guest. An absent one means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunLimits {
    /// Bytes of linear memory and tables, all together.
    pub memory: Option<u64>,
    /// Work, about one for each instruction; the engine must count it.
    pub fuel: Option<u64>,
    /// Bytes written to stdout and stderr.
    pub output: Option<u64>,
    /// Files and directories open at once. A call past it fails.
    pub files: Option<u64>,
    /// Sockets open at once. A call past it fails.
    pub sockets: Option<u64>,
}

/// A limit that ended a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// It was refused memory beyond this many bytes, and trapped afterwards.
    Memory(u64),
    /// It wrote more than this many bytes to stdout and stderr.
    Output(u64),
    /// It used more fuel.
    Fuel(u64),
    /// Its calls were nested deeper than this many bytes of stack allow.
    Stack(usize),
    /// It had this many handles of host resources, the most at once, and asked for another
    /// one.
    Handles(usize),
    /// One call passed more than this many bytes to or from the host.
    CallData(usize),
}

impl Limit {
    /// Its name, the field under `resources` if it can be set there.
    pub fn name(&self) -> &'static str {
        match self {
            Limit::Memory(_) => "memory",
            Limit::Output(_) => "output",
            Limit::Fuel(_) => "fuel",
            Limit::Stack(_) => "stack",
            Limit::Handles(_) => "handles",
            Limit::CallData(_) => "call-data",
        }
    }

    /// Whether a manifest, a rule or a flag can set it.
    pub fn can_be_set(&self) -> bool {
        !matches!(self, Limit::Stack(_) | Limit::Handles(_) | Limit::CallData(_))
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::Memory(bytes) => write!(f, "it needs more memory than its limit of {bytes} bytes"),
            Limit::Fuel(fuel) => write!(f, "it used more than its limit of {fuel} fuel"),
            Limit::Stack(bytes) => write!(
                f,
                "its calls are nested deeper than its limit of {bytes} bytes of stack"
            ),
            Limit::Handles(handles) => write!(
                f,
                "it has more handles open than its limit of {handles}: bodies, fields, streams, pollables, descriptors \
                 or sockets"
            ),
            Limit::CallData(bytes) => write!(
                f,
                "one call passed more data than its limit of {bytes} bytes to or from the host"
            ),
            Limit::Output(bytes) => write!(f, "it wrote more output than its limit of {bytes} bytes"),
        }
    }
}

/// Ends a guest because of a limit.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct LimitReached(pub(crate) Limit);

/// How many things of one kind may be open at once, in all parts together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    limit: Option<u64>,
    taken: Arc<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    now: AtomicU64,
    /// Whether a request for a place was refused.
    is_over: AtomicBool,
}

impl Places {
    pub(crate) fn new(limit: Option<u64>) -> Places {
        Places {
            limit,
            taken: Arc::default(),
        }
    }

    pub(crate) fn is_limited(&self) -> bool {
        self.limit.is_some()
    }

    /// A place for one more, until the value is dropped.
    pub(crate) fn take(&self) -> Option<Place> {
        let taken = self.taken.now.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(&self.taken));
        let is_free = self.limit.is_none_or(|limit| taken < limit);
        if !is_free {
            self.taken.is_over.store(true, Ordering::Relaxed);
        }
        is_free.then_some(place)
    }

    /// Whether no request was refused, and half of the places are free.
    pub(crate) fn has_room(&self) -> bool {
        let taken = self.taken.now.load(Ordering::Relaxed);
        let is_over = self.taken.is_over.load(Ordering::Relaxed);
        !is_over && self.limit.is_none_or(|limit| taken <= limit / 2)
    }
}

/// A place that is taken.
#[derive(Debug)]
pub(crate) struct Place(Arc<Taken>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Which resources of one kind a guest has open. Without a limit, nothing is counted.
#[derive(Debug, Default)]
pub(crate) struct Count {
    places: Places,
    open: HashMap<u32, Place>,
}

impl Count {
    pub(crate) fn new(limit: Option<u64>) -> Count {
        Count {
            places: Places::new(limit),
            open: HashMap::new(),
        }
    }

    /// The places, to share them with others.
    pub(crate) fn places(&self) -> Places {
        self.places.clone()
    }

    /// Whether no request was refused, and half of the places are free.
    pub(crate) fn has_room(&self) -> bool {
        self.places.has_room()
    }

    /// Whether one more may be opened.
    pub(crate) fn is_free(&self) -> bool {
        !self.places.is_limited() || self.places.take().is_some()
    }

    pub(crate) fn opened(&mut self, handle: u32) {
        if self.places.is_limited()
            && let Some(place) = self.places.take()
        {
            self.open.insert(handle, place);
        }
    }

    pub(crate) fn closed(&mut self, handle: u32) {
        self.open.remove(&handle);
    }
}

/// Counts all linear memories and tables of a store together. Growing beyond the limit
/// fails as it does when a memory's own maximum is reached: `memory.grow` returns -1.
///
/// If growth is granted here but the host then can't provide the memory, it stays
/// counted. wasmtime reports such a failure without its amount, and also if nothing had
/// been granted: a guest could exploit a refund.
#[derive(Debug)]
pub(crate) struct Limits {
    memory: Option<u64>,
    pub(crate) fuel: Option<u64>,
    used: u64,
    elements: usize,
    refused: bool,
    /// Handles of host resources.
    pub(crate) handles: usize,
    /// Handles of any kind in the component's own tables.
    pub(crate) component_handles: usize,
    /// Bytes that one call may pass to the host.
    pub(crate) call_bytes: usize,
    /// Receives the memory in use.
    figures: Option<Arc<GuestFigures>>,
}

impl Limits {
    pub(crate) fn new(limits: RunLimits) -> Limits {
        Limits {
            memory: limits.memory,
            fuel: limits.fuel,
            used: 0,
            elements: 0,
            refused: false,
            handles: HANDLES,
            component_handles: HANDLES,
            call_bytes: CALL_BYTES,
            figures: None,
        }
    }

    pub(crate) fn report_to(&mut self, figures: &Arc<GuestFigures>) {
        self.figures = Some(Arc::clone(figures));
    }

    /// Takes this many bytes of the rest.
    fn take(&mut self, bytes: u64) -> bool {
        let used = self.used.saturating_add(bytes);
        if self.memory.is_some_and(|limit| used > limit) {
            self.refused = true;
            return false;
        }
        self.used = used;
        if let Some(figures) = &self.figures {
            figures.had_memory(used);
        }
        true
    }

    /// Begins another call of the same guest, which keeps its memory.
    pub(crate) fn begin_call(&mut self) {
        self.refused = false;
    }

    /// Bytes in use. They only grow: WebAssembly releases no memory.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// Whether no memory was refused, and at most half of it is taken.
    pub(crate) fn has_room(&self) -> bool {
        !self.refused && self.memory.is_none_or(|limit| self.used <= limit / 2)
    }

    /// The limit, if memory has been refused because of it.
    pub(crate) fn reached(&self) -> Option<Limit> {
        self.memory.filter(|_| self.refused).map(Limit::Memory)
    }
}

impl ResourceLimiter for Limits {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.take(desired.saturating_sub(current) as u64))
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let more = desired.saturating_sub(current);
        let elements = self.elements.saturating_add(more);
        if elements > TABLE_ELEMENTS || !self.take((more as u64).saturating_mul(ELEMENT)) {
            return Ok(false);
        }
        self.elements = elements;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(memory: Option<u64>) -> Limits {
        Limits::new(RunLimits {
            memory,
            ..RunLimits::default()
        })
    }

    #[test]
    fn handles_of_a_request_stand_for_no_more_than_its_memory() {
        let handles = |mebibytes: u64| request_handles(Some(mebibytes << 20));
        assert_eq!(
            [handles(1), handles(80), handles(160), handles(2048)],
            [512, 512, 1024, 4096]
        );
        assert_eq!(request_handles(None), HTTP_HANDLES);
    }

    #[test]
    fn two_memories_share_one_bound() {
        let mut limits = limits(Some(100));
        assert!(limits.memory_growing(0, 60, None).unwrap());
        assert!(!limits.memory_growing(0, 60, None).unwrap());
        assert_eq!(limits.reached(), Some(Limit::Memory(100)));
        assert!(limits.memory_growing(60, 100, None).unwrap());
        assert!(!limits.memory_growing(100, 101, None).unwrap());
    }

    #[test]
    fn the_guests_own_maximum_is_not_reported_as_the_limit() {
        let mut limits = limits(Some(100));
        assert!(!limits.memory_growing(0, 60, Some(50)).unwrap());
        assert_eq!(limits.reached(), None);
    }

    #[test]
    fn tables_share_one_bound() {
        let mut limits = limits(None);
        assert!(limits.table_growing(0, TABLE_ELEMENTS, None).unwrap());
        assert!(!limits.table_growing(0, 1, None).unwrap());
        assert!(!limits.table_growing(0, usize::MAX, None).unwrap());
    }

    #[test]
    fn tables_are_counted_with_the_memories() {
        let mut limits = limits(Some(100));
        assert!(limits.memory_growing(0, 60, None).unwrap());
        assert!(!limits.table_growing(0, 6, None).unwrap());
        assert_eq!(limits.reached(), Some(Limit::Memory(100)));
        assert!(limits.table_growing(0, 5, None).unwrap());
        assert!(!limits.memory_growing(60, 61, None).unwrap());
    }
}
