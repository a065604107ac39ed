//! Clocks and random numbers of a deterministic run: time advances only while the guest sleeps
//! or reads it, and the numbers come from a seed.
//!
//! Timers are tokio's, whose clock is paused in such a run: when nothing else is left to do, it
//! jumps to the next timer.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng, SeedableRng};
use tokio::time::Instant;
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtxBuilder};

use crate::RuntimeError;

/// When every such run begins: 2000-01-01, in seconds of Unix time.
const BEGINNING: u64 = 946_684_800;
/// How far each reading advances the clock, so that a guest that polls it comes to an end.
const TICK: Duration = Duration::from_micros(1);
/// Most bytes of stdin, which are read before the guest starts.
const STDIN_LIMIT: u64 = 64 << 20;

/// The time in a run.
#[derive(Clone)]
struct Clock {
    start: Instant,
    readings: Arc<AtomicU64>,
}

impl Clock {
    fn elapsed(&self) -> Duration {
        let readings = self.readings.fetch_add(1, Ordering::Relaxed);
        let ticks = Duration::from_micros(readings);
        self.start.elapsed().saturating_add(ticks)
    }
}

impl HostMonotonicClock for Clock {
    fn resolution(&self) -> u64 {
        u64::try_from(TICK.as_nanos()).unwrap_or(u64::MAX)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl HostWallClock for Clock {
    fn resolution(&self) -> Duration {
        TICK
    }

    fn now(&self) -> Duration {
        Duration::from_secs(BEGINNING).saturating_add(self.elapsed())
    }
}

/// Advances the timers by a tick, for a guest that polls them.
pub(crate) async fn tick() {
    tokio::time::advance(TICK).await;
}

/// Gives a guest the clocks and the numbers of this seed. Within the run's tokio
/// runtime.
pub(crate) fn give(wasi: &mut WasiCtxBuilder, seed: u64) {
    let clock = Clock {
        start: Instant::now(),
        readings: Arc::default(),
    };
    let numbers = |stream: u64| {
        let mut numbers = ChaCha20Rng::seed_from_u64(seed);
        numbers.set_stream(stream);
        numbers
    };
    let mut seeds = numbers(2);
    wasi.monotonic_clock(clock.clone())
        .wall_clock(clock)
        .secure_random(numbers(0))
        .insecure_random(numbers(1))
        .insecure_random_seed(u128::from(seeds.next_u64()) << 64 | u128::from(seeds.next_u64()));
}

/// All of this process's stdin: the time at which a part arrives must not matter.
pub(crate) fn stdin() -> Result<MemoryInputPipe, RuntimeError> {
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(STDIN_LIMIT + 1).read_to_end(&mut bytes);
    read.map_err(|error| RuntimeError::Host(format!("can't read its stdin: {error}")))?;
    if bytes.len() as u64 > STDIN_LIMIT {
        return Err(RuntimeError::Host(format!(
            "its stdin has more than {STDIN_LIMIT} bytes, the most that a deterministic run takes"
        )));
    }
    Ok(MemoryInputPipe::new(bytes))
}
