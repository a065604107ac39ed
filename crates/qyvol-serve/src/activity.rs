//! Since when an HTTP/2 connection has waited for its client: without an open request, or with
//! parts of responses that the client does not read.
//!
//! hyper doesn't poll the body of a response while the client reads nothing of it. Such a
//! response is ended by dropping its task, which resets its stream; the others continue.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::rt::Executor;
use tokio::sync::oneshot;
use tokio::task::{self, AbortHandle};
use tokio::time::Instant;

/// How often a connection that waits for nothing is checked.
const RECHECK_INTERVAL: Duration = Duration::from_secs(5);

/// What its requests are doing.
pub(crate) struct Activity {
    idle: Duration,
    stall: Duration,
    slow: Duration,
    sent: Sent,
    state: Mutex<State>,
}

struct State {
    open: usize,
    /// Since when none is open.
    idle: Instant,
    /// Responses of which a part has been handed over and no further part requested: since
    /// when, and by which task.
    given: HashMap<u64, (Instant, Option<task::Id>)>,
    tasks: HashMap<task::Id, AbortHandle>,
}

/// When the kernel last accepted bytes for a client.
#[derive(Clone)]
pub(crate) struct Sent(Arc<Mutex<Instant>>);

impl Default for Sent {
    fn default() -> Sent {
        Sent(Arc::new(Mutex::new(Instant::now())))
    }
}

impl Sent {
    /// Records that it accepts some now.
    pub(crate) fn more(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What to do with a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Check it again then.
    At(Instant),
    /// It has been idle for too long, since this time.
    Idle(Instant),
    /// Its client reads nothing, and no other request is open.
    Stalled,
}

impl Activity {
    /// The timeouts: for an idle connection, for a client that reads nothing, and for a single
    /// response of which no further part is requested.
    pub(crate) fn new(idle: Duration, stall: Duration, slow: Duration, sent: Sent) -> Activity {
        Activity {
            idle,
            stall,
            slow,
            sent,
            state: Mutex::new(State {
                open: 0,
                idle: Instant::now(),
                given: HashMap::new(),
                tasks: HashMap::new(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begun(&self) {
        self.state().open += 1;
    }

    pub(crate) fn ended(&self, id: u64) {
        let mut state = self.state();
        state.open = state.open.saturating_sub(1);
        state.idle = Instant::now();
        state.given.remove(&id);
    }

    /// The client reads more of this response.
    pub(crate) fn asked(&self, id: u64) {
        self.state().given.remove(&id);
    }

    /// A part of it was handed over, by the task that this is called in.
    pub(crate) fn gave(&self, id: u64) {
        self.state().given.insert(id, (Instant::now(), task::try_id()));
    }

    /// What to do now. Ends responses that the client does not read while others are open.
    pub(crate) fn due(&self, now: Instant) -> Due {
        let (mut state, sent) = (self.state(), self.sent.last());
        if state.open == 0 {
            // A connection that still sends responses that have ended is not idle.
            let due = state.idle.max(sent) + self.idle;
            return if due <= now { Due::Idle(due) } else { Due::At(due) };
        }
        let is_still = sent + self.stall <= now;
        let is_stalled = |since: Instant| (is_still && since + self.stall <= now) || since + self.slow <= now;
        let stalled: Vec<_> = state
            .given
            .iter()
            .filter(|(_, (since, _))| is_stalled(*since))
            .collect();
        if stalled.len() == state.open && is_still {
            return Due::Stalled;
        }
        let tasks: Vec<task::Id> = stalled.iter().filter_map(|(_, (_, task))| *task).collect();
        for task in tasks {
            if let Some(task) = state.tasks.remove(&task) {
                task.abort();
            }
        }
        Due::At(now + RECHECK_INTERVAL)
    }
}

/// Starts the tasks of requests, each of which can be ended alone.
#[derive(Clone)]
pub(crate) struct Tasks(pub(crate) Arc<Activity>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, future: F) {
        let activity = Arc::clone(&self.0);
        let future: Pin<Box<F>> = Box::pin(future);
        let (listed, is_listed) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            // Otherwise it may end first, and stay in the list.
            let _ = is_listed.await;
            future.await;
            activity.state().tasks.remove(&task::id());
        });
        self.0.state().tasks.insert(task.id(), task.abort_handle());
        // Not if the runtime ends.
        let _ = listed.send(());
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::yield_now;

    use super::*;

    const IDLE: Duration = Duration::from_secs(30);
    const STALL: Duration = Duration::from_secs(20);
    const SLOW: Duration = Duration::from_secs(200);

    #[test]
    fn connection_is_closed_once_it_is_idle_or_its_client_reads_nothing() {
        let activity = Activity::new(IDLE, STALL, SLOW, Sent::default());
        let start = Instant::now();
        assert!(matches!(activity.due(start), Due::At(_)));
        assert!(matches!(activity.due(start + 2 * IDLE), Due::Idle(_)));
        activity.begun();
        // The guest is at work.
        assert!(matches!(activity.due(start + 2 * IDLE), Due::At(_)));
        activity.gave(1);
        assert_eq!(activity.due(Instant::now() + STALL), Due::Stalled);
        activity.asked(1);
        assert!(matches!(activity.due(start + 2 * IDLE), Due::At(_)));
        activity.gave(1);
        activity.ended(1);
        assert!(matches!(activity.due(Instant::now() + IDLE), Due::Idle(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_the_kernel_accepts_are_progress() {
        let activity = Activity::new(IDLE, STALL, SLOW, Sent::default());
        activity.begun();
        activity.gave(1);
        for _ in 0..5 {
            tokio::time::advance(STALL * 2 / 3).await;
            activity.sent.more();
            assert!(matches!(activity.due(Instant::now()), Due::At(_)));
        }
        // What is left of the response is still being sent.
        activity.ended(1);
        tokio::time::advance(IDLE * 2 / 3).await;
        activity.sent.more();
        tokio::time::advance(IDLE * 2 / 3).await;
        assert!(matches!(activity.due(Instant::now()), Due::At(_)));
        tokio::time::advance(IDLE).await;
        assert!(matches!(activity.due(Instant::now()), Due::Idle(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn response_that_is_not_read_is_ended_alone() {
        struct Open(Arc<Activity>, u64);
        impl Drop for Open {
            fn drop(&mut self) {
                self.0.ended(self.1);
            }
        }
        for is_busy in [false, true] {
            let activity = Arc::new(Activity::new(IDLE, STALL, SLOW, Sent::default()));
            for id in 1..=3 {
                activity.begun();
                let open = Open(Arc::clone(&activity), id);
                Tasks(Arc::clone(&activity)).execute(async move {
                    // The guest of the third is at work.
                    if open.1 < 3 {
                        open.0.gave(open.1);
                    }
                    std::future::pending().await
                });
            }
            yield_now().await;
            let open = || activity.state().open;
            tokio::time::advance(STALL).await;
            activity.asked(2);
            if is_busy {
                // Another client's response progresses; this one may be slow.
                activity.sent.more();
                assert!(matches!(activity.due(Instant::now()), Due::At(_)));
                yield_now().await;
                assert_eq!(open(), 3);
                tokio::time::advance(SLOW).await;
                activity.sent.more();
            }
            assert!(matches!(activity.due(Instant::now()), Due::At(_)));
            yield_now().await;
            assert_eq!((open(), activity.state().tasks.len()), (2, 2));
        }
    }
}
