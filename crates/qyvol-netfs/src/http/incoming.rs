//! A body as it arrives, with a minimum speed and a limit.

use std::io::Read;
use std::time::{Duration, Instant};

use ureq::Body;
use ureq::http::Response;

use super::failure::connection_failure;
use crate::error::{ErrorKind, Failure, FsError};

/// Bytes that must arrive within the server's time limit, except for the last ones.
pub(super) const MIN_BYTES_PER_TIMEOUT: u64 = 16 << 10;

/// The bytes of one response.
pub(super) struct Incoming<'a> {
    body: Box<dyn Read + Send>,
    /// What they are for, in a message.
    what: &'a str,
    timeout: Duration,
    /// Start of the current interval, and the bytes that arrived in it.
    window: (Instant, u64),
}

impl<'a> Incoming<'a> {
    pub(super) fn new(response: Response<Body>, what: &'a str, timeout: Duration) -> Incoming<'a> {
        Incoming {
            body: Box::new(response.into_body().into_with_config().limit(u64::MAX).reader()),
            what,
            timeout,
            window: (Instant::now(), 0),
        }
    }

    /// Reads some; 0 at the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        let n = self
            .body
            .read(buffer)
            .map_err(|error| connection_failure(self.what, error))?;
        self.window.1 += n as u64;
        if n > 0 && self.window.0.elapsed() > self.timeout {
            if self.window.1 < MIN_BYTES_PER_TIMEOUT {
                let message = format!(
                    "{}: the response is too slow, {} bytes in {} s; expected at least {MIN_BYTES_PER_TIMEOUT}",
                    self.what,
                    self.window.1,
                    self.timeout.as_secs_f64()
                );
                return Err(Failure::temporary(FsError::outage(ErrorKind::TimedOut, message)));
            }
            self.window = (Instant::now(), 0);
        }
        Ok(n)
    }

    /// Reads all; none if there are more than `limit` bytes.
    pub(super) fn read_all(mut self, limit: usize) -> Result<Option<Vec<u8>>, Failure> {
        let mut bytes = Vec::new();
        let mut chunk = [0; 8 << 10];
        loop {
            let n = self.read(&mut chunk)?;
            if n == 0 {
                return Ok(Some(bytes));
            }
            bytes.extend_from_slice(chunk.get(..n).unwrap_or_default());
            if bytes.len() > limit {
                return Ok(None);
            }
        }
    }
}
