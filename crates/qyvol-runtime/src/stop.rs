//! Tells what goes on until then to end.

use tokio::sync::watch;

/// Tells a server or a reader of calls to end. Clones tell the same one.
#[derive(Clone, Debug)]
pub struct Stop {
    told: watch::Sender<bool>,
}

impl Default for Stop {
    fn default() -> Stop {
        Stop {
            told: watch::Sender::new(false),
        }
    }
}

impl Stop {
    /// Begins the end.
    pub fn begin(&self) {
        self.told.send_replace(true);
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        *self.told.borrow()
    }

    /// Waits for the end to begin.
    pub async fn begun(&self) {
        // The sender lives as long as this does.
        let _ = self.told.subscribe().wait_for(|begun| *begun).await;
    }
}
