//! Values that are kept for their next use, and dropped if there is none for long.
//!
//! The last used value is taken first, so that the others expire.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Values that nobody uses at the moment. The caller bounds their number.
pub(crate) struct Idle<T> {
    /// How long one is kept; for ever if it is not set.
    time: Option<Duration>,
    kept: Mutex<Kept<T>>,
    /// Whether a task drops values that were not used for long.
    is_swept: AtomicBool,
}

struct Kept<T> {
    /// With the time of their last use; the oldest is first.
    values: Vec<(T, Instant)>,
    is_closed: bool,
}

impl<T: Send + 'static> Idle<T> {
    pub(crate) fn new(time: Option<Duration>) -> Idle<T> {
        Idle {
            time,
            kept: Mutex::new(Kept {
                values: Vec::new(),
                is_closed: false,
            }),
            is_swept: AtomicBool::new(false),
        }
    }

    pub(crate) fn take(&self) -> Option<T> {
        self.kept().values.pop().map(|(value, _)| value)
    }

    /// Keeps a value. Called within a tokio runtime with time.
    pub(crate) fn put(self: &Arc<Self>, value: T) {
        let mut kept = self.kept();
        if kept.is_closed {
            // Dropping it may take a while.
            drop(kept);
            return drop(value);
        }
        kept.values.push((value, Instant::now()));
        drop(kept);
        self.look_after();
    }

    /// Drops everything, and keeps nothing any more.
    pub(crate) fn close(&self) {
        let mut kept = self.kept();
        kept.is_closed = true;
        let values = std::mem::take(&mut kept.values);
        drop(kept);
        drop(values);
    }

    fn kept(&self) -> MutexGuard<'_, Kept<T>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the task that drops unused values, if one is needed and none runs.
    fn look_after(self: &Arc<Self>) {
        let Some(time) = self.time else {
            return;
        };
        if self.is_swept.swap(true, Ordering::AcqRel) {
            return;
        }
        let idle = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut pause = time;
            loop {
                tokio::time::sleep(pause).await;
                let Some(idle) = idle.upgrade() else { return };
                match idle.sweep(time) {
                    Some(next) => pause = next,
                    None => return,
                }
            }
        });
    }

    /// Drops expired values. Returns when to check again; none if nothing is left, and the task
    /// is to end.
    fn sweep(&self, time: Duration) -> Option<Duration> {
        let now = Instant::now();
        let mut kept = self.kept();
        let age = |since: Instant| now.saturating_duration_since(since);
        let old = kept.values.partition_point(|(_, since)| age(*since) >= time);
        let dropped: Vec<(T, Instant)> = kept.values.drain(..old).collect();
        let next = kept.values.first().map(|(_, since)| time.saturating_sub(age(*since)));
        if next.is_none() {
            // Under the lock, so that the next `put` starts a new task.
            self.is_swept.store(false, Ordering::Release);
        }
        drop(kept);
        drop(dropped);
        next
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.kept().values.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(30);

    // [SERVE-016]
    #[tokio::test(start_paused = true)]
    async fn unused_value_is_dropped_and_the_last_used_is_taken_first() {
        let idle = Arc::new(Idle::new(Some(TIME)));
        idle.put("first");
        tokio::time::sleep(TIME / 2).await;
        idle.put("second");
        assert_eq!(idle.take(), Some("second"));
        idle.put("second");
        tokio::time::sleep(TIME / 2 + Duration::from_millis(1)).await;
        assert_eq!((idle.len(), idle.take()), (1, Some("second")));
        idle.put("second");
        tokio::time::sleep(TIME + Duration::from_millis(1)).await;
        assert_eq!(idle.take(), None);
        // The task has ended, and is started again.
        tokio::time::sleep(TIME).await;
        idle.put("third");
        tokio::time::sleep(TIME + Duration::from_millis(1)).await;
        assert_eq!(idle.len(), 0);
    }

    // [SERVE-016]
    #[tokio::test]
    async fn nothing_is_kept_once_it_is_closed() {
        let idle = Arc::new(Idle::new(Some(TIME)));
        let (one, other) = (Arc::new(()), Arc::new(()));
        idle.put(Arc::clone(&one));
        idle.close();
        idle.put(Arc::clone(&other));
        assert_eq!(
            (idle.len(), Arc::strong_count(&one), Arc::strong_count(&other)),
            (0, 1, 1)
        );
    }
}
