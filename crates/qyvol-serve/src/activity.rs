//! Since when a connection of HTTP/2 waits for its client: with no request open, or with a
//! part of a response that the client does not take.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// When it is looked at again while it waits for nothing.
const AGAIN: Duration = Duration::from_secs(5);

/// What its requests are doing.
pub(crate) struct Activity {
    idle: Duration,
    stall: Duration,
    state: Mutex<State>,
}

struct State {
    open: usize,
    /// Since when none is open.
    idle: Instant,
    /// Since when a part of a response has been handed over and no further one asked for.
    given: HashMap<u64, Instant>,
}

/// What becomes of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// It is looked at again then.
    At(Instant),
    /// It has been idle for too long; since when it has been that.
    Idle(Instant),
    /// Its client takes nothing.
    Stalled,
}

impl Activity {
    /// A connection that may be idle, and stalled, for so long.
    pub(crate) fn new(idle: Duration, stall: Duration) -> Activity {
        Activity {
            idle,
            stall,
            state: Mutex::new(State {
                open: 0,
                idle: Instant::now(),
                given: HashMap::new(),
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

    /// The client takes more of this response.
    pub(crate) fn asked(&self, id: u64) {
        self.state().given.remove(&id);
    }

    /// It has been handed a part of it.
    pub(crate) fn gave(&self, id: u64) {
        self.state().given.insert(id, Instant::now());
    }

    pub(crate) fn due(&self, now: Instant) -> Due {
        let state = self.state();
        if state.open == 0 {
            let due = state.idle + self.idle;
            return if due <= now { Due::Idle(due) } else { Due::At(due) };
        }
        match state.given.values().min() {
            Some(since) if *since + self.stall <= now => Due::Stalled,
            _ => Due::At(now + AGAIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_is_closed_once_it_is_idle_or_its_client_takes_nothing() {
        let (idle, stall) = (Duration::from_secs(30), Duration::from_secs(20));
        let activity = Activity::new(idle, stall);
        let start = Instant::now();
        assert!(matches!(activity.due(start), Due::At(_)));
        assert!(matches!(activity.due(start + 2 * idle), Due::Idle(_)));
        activity.begun();
        activity.begun();
        // The guest is at work.
        assert!(matches!(activity.due(start + 2 * idle), Due::At(_)));
        activity.gave(1);
        assert_eq!(activity.due(Instant::now() + stall), Due::Stalled);
        activity.asked(1);
        assert!(matches!(activity.due(start + 2 * idle), Due::At(_)));
        activity.gave(1);
        activity.ended(1);
        assert!(matches!(activity.due(start + 2 * idle), Due::At(_)));
        activity.ended(2);
        assert!(matches!(activity.due(Instant::now() + idle), Due::Idle(_)));
    }
}
