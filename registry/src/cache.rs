//! A bounded cache of two generations, each with half the capacity. An entry found in the old
//! generation moves to the new one; when the new one is full it becomes the old one, and
//! entries that were not used are dropped.
//!
//! Nothing here is authoritative. Code that removes a file removes its entry while it holds the
//! lock under which entries are made.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

const SHARDS: usize = 16;

struct Shard<K, V> {
    new: HashMap<K, (V, usize)>,
    old: HashMap<K, (V, usize)>,
    weight: usize,
}

/// A cache whose entries together have at most the weight that it was created with.
pub struct Cache<K, V> {
    shards: Vec<Mutex<Shard<K, V>>>,
    half: usize,
    hasher: RandomState,
}

/// The lock, even after a panic elsewhere: every holder leaves the data consistent.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Hash + Eq + Clone, V: Clone> Cache<K, V> {
    /// An empty cache; no entry may have more than a 32nd of `room`.
    pub fn new(room: usize) -> Cache<K, V> {
        let shard = || {
            Mutex::new(Shard {
                new: HashMap::new(),
                old: HashMap::new(),
                weight: 0,
            })
        };
        Cache {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            half: room / SHARDS / 2,
            hasher: RandomState::new(),
        }
    }

    fn shard(&self, key: &K) -> MutexGuard<'_, Shard<K, V>> {
        // The remainder is below SHARDS, whatever the hash.
        let index = usize::try_from(self.hasher.hash_one(key) % 16).unwrap_or(0);
        lock(&self.shards[index])
    }

    /// A copy of an entry's value.
    pub fn get(&self, key: &K) -> Option<V> {
        let mut shard = self.shard(key);
        if let Some((value, _)) = shard.new.get(key) {
            return Some(value.clone());
        }
        let (value, weight) = shard.old.remove(key)?;
        self.place(&mut shard, key.clone(), value.clone(), weight);
        Some(value)
    }

    /// Adds an entry, unless it weighs too much.
    pub fn insert(&self, key: K, value: V, weight: usize) {
        if weight > self.half {
            return;
        }
        let mut shard = self.shard(&key);
        shard.old.remove(&key);
        self.place(&mut shard, key, value, weight);
    }

    fn place(&self, shard: &mut Shard<K, V>, key: K, value: V, weight: usize) {
        if shard.weight + weight > self.half {
            shard.old = std::mem::take(&mut shard.new);
            shard.weight = 0;
        }
        if let Some((_, before)) = shard.new.insert(key, (value, weight)) {
            shard.weight -= before;
        }
        shard.weight += weight;
    }

    /// Removes an entry.
    pub fn remove(&self, key: &K) {
        let mut shard = self.shard(key);
        shard.old.remove(key);
        if let Some((_, weight)) = shard.new.remove(key) {
            shard.weight -= weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_stays_within_its_capacity() {
        let cache = Cache::new(SHARDS * 20);
        for key in 0..10_000_u32 {
            cache.insert(key, key, 1);
        }
        let held = |shard: &Mutex<Shard<u32, u32>>| {
            let shard = lock(shard);
            shard.new.len() + shard.old.len()
        };
        let held: usize = cache.shards.iter().map(held).sum();
        assert!(held <= SHARDS * 20, "{held}");
        cache.insert(7, 7, 1);
        assert_eq!(cache.get(&7), Some(7));
        cache.remove(&7);
        assert_eq!(cache.get(&7), None);
        cache.insert(8, 8, 1_000);
        assert_eq!(cache.get(&8), None);
    }
}
