//! Trying again: how often, and how long after.

use std::hash::{BuildHasher, RandomState};
use std::thread;
use std::time::Duration;

use ureq::Body;
use ureq::http::{Response, header};

use crate::RemoteError;
use crate::client::Client;

/// Counts what was tried.
pub(crate) struct Tries {
    left: u32,
    wait: Duration,
}

impl Tries {
    pub(crate) fn new(client: &Client) -> Tries {
        Tries {
            left: client.options().retries,
            wait: client.options().backoff,
        }
    }

    /// Waits for the next try, or gives the error back if there is to be none.
    pub(crate) fn again(
        &mut self,
        client: &Client,
        error: RemoteError,
        asked: Option<Duration>,
    ) -> Result<(), RemoteError> {
        // Who asks for more patience than there is gets none from an outer
        // loop either.
        if !error.is_temporary() || self.left == 0 || matches!(error, RemoteError::Busy { .. }) {
            return Err(error);
        }
        if let Some(asked) = asked.filter(|asked| *asked > client.options().longest_wait) {
            return Err(match error {
                RemoteError::Status { host, what, .. } => RemoteError::Busy {
                    host,
                    what,
                    seconds: asked.as_secs(),
                },
                other => other,
            });
        }
        self.left -= 1;
        // Apart from one another, so that many hosts don't come back at once.
        let spread = RandomState::new().hash_one(self.left) % 512;
        let wait = asked.unwrap_or_else(|| self.wait.mul_f64(0.75 + spread as f64 / 1024.0));
        self.wait = (self.wait * 2).min(client.options().longest_wait);
        client.tell(&format!("{error}: trying again in {:.1} s", wait.as_secs_f64()));
        thread::sleep(wait);
        Ok(())
    }

    /// The next try is the last one.
    pub(crate) fn last(&mut self) {
        self.left = 0;
    }

    /// Something was achieved: patience begins anew.
    pub(crate) fn progressed(&mut self, client: &Client) {
        *self = Tries::new(client);
    }
}

/// `Retry-After` in seconds (RFC 9110 section 10.2.3). The form with a date
/// needs a clock that agrees with the server's, and is not used.
pub(crate) fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let text = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // More than can be counted is long, and not no wait.
    digits.then(|| Duration::from_secs(text.parse().unwrap_or(u64::MAX)))
}
