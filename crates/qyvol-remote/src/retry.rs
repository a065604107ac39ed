//! Retries: the one retry loop of this crate.
//!
//! An operation is retried as a whole. Whatever it sends on the way (a token, a
//! redirect, the status of an upload) is sent once per attempt, so retries
//! never multiply.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::RemoteError;

/// Called with messages that a user should see while waiting.
pub type Notify = Box<dyn Fn(&str) + Send + Sync>;

/// How often, and after which waits, a failed operation is retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts after the first.
    pub retries: u32,
    /// The wait before the second attempt; each later wait is twice as long.
    pub backoff: Duration,
    /// The longest wait, computed or asked for by a registry.
    pub max_wait: Duration,
}

impl Default for RetryPolicy {
    fn default() -> RetryPolicy {
        RetryPolicy {
            retries: 4,
            backoff: Duration::from_millis(500),
            max_wait: Duration::from_secs(60),
        }
    }
}

impl RetryPolicy {
    /// A single attempt.
    pub(crate) fn never() -> RetryPolicy {
        RetryPolicy {
            retries: 0,
            ..RetryPolicy::default()
        }
    }
}

/// A request that failed, and how long the registry asks to wait.
#[derive(Debug)]
pub(crate) struct AttemptError {
    pub(crate) error: RemoteError,
    pub(crate) retry_after: Option<Duration>,
}

impl From<RemoteError> for AttemptError {
    fn from(error: RemoteError) -> AttemptError {
        AttemptError {
            error,
            retry_after: None,
        }
    }
}

/// A failed attempt of an operation. `E` is what the operation fails with.
#[derive(Debug)]
pub(crate) enum AttemptFailure<E> {
    /// The registry failed.
    Remote(AttemptError),
    /// Something else failed: another attempt would not help.
    Final(E),
}

impl<E: fmt::Display> fmt::Display for AttemptFailure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttemptFailure::Remote(failed) => failed.error.fmt(f),
            AttemptFailure::Final(error) => error.fmt(f),
        }
    }
}

impl<E> From<RemoteError> for AttemptFailure<E> {
    fn from(error: RemoteError) -> AttemptFailure<E> {
        AttemptFailure::Remote(error.into())
    }
}

impl<E> From<AttemptError> for AttemptFailure<E> {
    fn from(error: AttemptError) -> AttemptFailure<E> {
        AttemptFailure::Remote(error)
    }
}

/// The attempts of one operation.
pub(crate) struct Retry {
    policy: RetryPolicy,
    left: u32,
    wait: Duration,
    notify: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Retry {
    pub(crate) fn new(policy: RetryPolicy, notify: Arc<dyn Fn(&str) + Send + Sync>) -> Retry {
        Retry {
            policy,
            left: policy.retries,
            wait: policy.backoff,
            notify,
        }
    }

    /// Makes attempts until one succeeds, fails for good, or none is left.
    pub(crate) fn run<T, E: From<RemoteError>>(
        &mut self,
        mut attempt: impl FnMut(&mut Retry) -> Result<T, AttemptFailure<E>>,
    ) -> Result<T, E> {
        loop {
            match attempt(self) {
                Ok(value) => return Ok(value),
                Err(AttemptFailure::Final(error)) => return Err(error),
                Err(AttemptFailure::Remote(failed)) => self.wait(failed.error, failed.retry_after)?,
            }
        }
    }

    /// The operation made progress: all attempts are available again.
    pub(crate) fn reset(&mut self) {
        self.left = self.policy.retries;
        self.wait = self.policy.backoff;
    }

    /// Waits for the next attempt; returns the error if there is none.
    fn wait(&mut self, error: RemoteError, retry_after: Option<Duration>) -> Result<(), RemoteError> {
        if !error.is_retryable() || self.left == 0 {
            return Err(error);
        }
        if let Some(asked) = retry_after.filter(|asked| *asked > self.policy.max_wait) {
            return Err(match error {
                RemoteError::Status { host, operation, .. } => RemoteError::Busy {
                    host,
                    operation,
                    seconds: asked.as_secs(),
                },
                other => other,
            });
        }
        self.left -= 1;
        // Jitter, so that many hosts don't retry at the same moment.
        let spread = RandomState::new().hash_one(self.left) % 512;
        let wait = retry_after.unwrap_or_else(|| self.wait.mul_f64(0.75 + spread as f64 / 1024.0));
        self.wait = (self.wait * 2).min(self.policy.max_wait);
        (self.notify)(&format!("{error}; retrying in {:.1} s", wait.as_secs_f64()));
        thread::sleep(wait);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(retries: u32) -> Retry {
        let policy = RetryPolicy {
            retries,
            backoff: Duration::ZERO,
            max_wait: Duration::from_secs(1),
        };
        Retry::new(policy, Arc::new(|_| {}))
    }

    fn broken(temporary: bool) -> AttemptFailure<RemoteError> {
        let error = RemoteError::Unreachable {
            host: "r.example".to_string(),
            why: "gone".to_string(),
            temporary,
        };
        error.into()
    }

    #[test]
    fn attempts_end_with_the_policy_or_with_a_permanent_error() {
        for (temporary, due) in [(true, 3), (false, 1)] {
            let mut attempts = 0;
            let result: Result<(), RemoteError> = retry(2).run(|_| {
                attempts += 1;
                Err(broken(temporary))
            });
            assert!(result.is_err());
            assert_eq!(attempts, due);
        }
    }

    #[test]
    fn progress_resets_the_retries() {
        let mut attempts = 0;
        let result = retry(1).run(|retry| {
            attempts += 1;
            match attempts {
                1..5 => {
                    retry.reset();
                    Err(broken(true))
                }
                _ => Ok(()),
            }
        });
        assert!(result.is_ok());
    }
}
