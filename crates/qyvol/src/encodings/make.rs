//! Makes the representations of a component: several at a time, within bounds of time and memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use qyvol_encoding::{Base, Blob, Effort, EncodeError, Representation, encode, saves_a_third};
use qyvol_store::{Body, Reporter, StoreError};

/// Memory of zstd, with the bases of patches.
const MEMORY: u64 = 512 << 20;
/// Representations that are made at the same time.
const CONCURRENCY: usize = 2;
/// Components and bases of more bytes are encoded one after the other, each with all of the
/// memory.
const LARGE: u64 = 64 << 20;
/// The largest representation, in bytes: it is held in memory until it is sent.
const LARGEST: u64 = 64 << 20;
/// zstd's level by the bytes of a component: what takes no more than about 20 ms.
const LEVELS: [(u64, i32); 3] = [(256 << 10, 15), (1 << 20, 9), (u64::MAX, 3)];
/// The same for a patch, most of which is found by its long matches at any level.
const PATCH_LEVELS: [(u64, i32); 2] = [(1 << 20, 9), (u64::MAX, 1)];

/// One representation and its bytes.
pub(crate) type Made = (Representation, Vec<u8>);

/// What the representations are made of.
pub(crate) struct Making<'a> {
    pub(crate) report: &'a dyn Reporter,
    /// The component.
    pub(crate) target: Blob,
    /// Opens it; what comes is checked against its digest.
    pub(crate) open: &'a (dyn Fn() -> Result<Body, StoreError> + Sync),
    /// Whether there is time for another frame.
    pub(crate) proceed: &'a (dyn Fn() -> bool + Sync),
    /// How many patches are made whether or not anybody waits for them; further ones are begun
    /// only while there is `leisure`.
    pub(crate) needed: usize,
    /// Whether nobody waits.
    pub(crate) leisure: &'a (dyn Fn() -> bool + Sync),
}

impl Making<'_> {
    /// The component compressed, and a patch from each base, in their order; without those that
    /// don't save a third.
    pub(crate) fn run(&self, bases: Vec<(Blob, Body)>) -> Vec<Made> {
        let largest = bases.iter().map(|(base, _)| base.size).max().unwrap_or(0);
        let at_once = match largest.max(self.target.size) > LARGE {
            true => 1,
            false => CONCURRENCY.min(bases.len() + 1),
        };
        let jobs = std::iter::once(None).chain(bases.into_iter().map(Some));
        let jobs = Mutex::new(jobs.enumerate());
        let found: Mutex<Vec<(usize, Made)>> = Mutex::default();
        // Of the component compressed, once that is known.
        let compressed = AtomicU64::new(self.target.size);
        let work = || {
            loop {
                let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((index, base)) = job else { return };
                if index > self.needed && !(self.leisure)() {
                    continue;
                }
                let Some(made) = self.one(base, MEMORY / at_once as u64, &compressed) else {
                    continue;
                };
                found.lock().unwrap_or_else(PoisonError::into_inner).push((index, made));
            }
        };
        thread::scope(|scope| {
            for _ in 1..at_once {
                scope.spawn(work);
            }
            work();
        });
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.sort_by_key(|(index, _)| *index);
        let compressed = compressed.into_inner();
        let mut made: Vec<Made> = found.into_iter().map(|(_, made)| made).collect();
        // A patch that was made before that was known.
        made.retain(|(made, _)| made.encoding.base().is_none() || saves_a_third(made.blob.size, compressed));
        made
    }

    fn one(&self, base: Option<(Blob, Body)>, memory: u64, compressed: &AtomicU64) -> Option<Made> {
        match self.try_one(base, memory, compressed) {
            Ok(made) => {
                if made.0.encoding.base().is_none() {
                    compressed.store(made.0.blob.size, Ordering::Relaxed);
                }
                Some(made)
            }
            Err((what, why)) => {
                self.report
                    .detailed(&format!("no {what} of {}: {why}", self.target.digest));
                None
            }
        }
    }

    fn try_one(
        &self,
        base: Option<(Blob, Body)>,
        memory: u64,
        compressed: &AtomicU64,
    ) -> Result<Made, (String, String)> {
        let what = match &base {
            None => "zstd representation".to_string(),
            Some((base, _)) => format!("patch from {}", base.digest),
        };
        let failed = |why: &dyn std::fmt::Display| (what.clone(), why.to_string());
        let out_of_time = || EncodeError::OutOfTime {
            at: 0,
            size: self.target.size,
        };
        if !(self.proceed)() {
            return Err(failed(&out_of_time()));
        }
        let base = match base {
            None => None,
            Some((blob, body)) => Some(Base::read(body, blob).map_err(|e| failed(&e))?),
        };
        let levels: &[(u64, i32)] = match &base {
            None => &LEVELS,
            Some(_) => &PATCH_LEVELS,
        };
        let level = levels.iter().find(|(bytes, _)| self.target.size <= *bytes);
        let level = level.map_or(1, |(_, level)| *level);
        let without = compressed.load(Ordering::Relaxed);
        let effort = Effort {
            level,
            // A third less than what is fetched without it.
            largest: (without.saturating_mul(2) / 3).min(LARGEST),
            memory,
            proceed: self.proceed,
        };
        let from = (self.open)().map_err(|e| failed(&e))?;
        let mut bytes = Vec::new();
        let made = encode(from, self.target, base.as_ref(), &effort, &mut bytes).map_err(|e| failed(&e))?;
        Ok((made, bytes))
    }
}
