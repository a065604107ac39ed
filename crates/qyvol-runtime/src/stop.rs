//! A signal to stop.

use tokio::sync::watch;

/// Asks a server or a reader of calls to stop. Clones signal the same one.
#[derive(Clone, Debug)]
pub struct Stop {
    signal: watch::Sender<bool>,
}

impl Default for Stop {
    fn default() -> Stop {
        Stop {
            signal: watch::Sender::new(false),
        }
    }
}

impl Stop {
    /// Signals the stop.
    pub fn begin(&self) {
        self.signal.send_replace(true);
    }

    /// Whether the stop was signalled.
    pub fn has_begun(&self) -> bool {
        *self.signal.borrow()
    }

    /// Waits for the signal.
    pub async fn begun(&self) {
        // The sender lives as long as this does.
        let _ = self.signal.subscribe().wait_for(|begun| *begun).await;
    }
}
