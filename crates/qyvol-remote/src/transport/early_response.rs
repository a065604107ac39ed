//! Answers that come before a request was sent to its end.
//!
//! A registry that is out of space, or a proxy that refuses a body of this size, answers and
//! closes the connection while the body is still being sent. The next write then fails, and
//! ureq reports that failure instead of the answer. Here a write that fails after an answer has
//! arrived counts as done, and so does the rest of that request: ureq goes on to read the
//! answer. The connection is not used again.

use std::time::Duration;

use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// How long to wait for an answer after a write failed. It was sent before the connection was
/// closed, so it has arrived or is about to.
const RESPONSE_WAIT: Duration = Duration::from_millis(200);

/// Wraps the connections of the connector before it.
#[derive(Debug)]
pub(super) struct EarlyResponseConnector;

impl<In: Transport> Connector<In> for EarlyResponseConnector {
    type Out = EarlyResponseTransport<In>;

    fn connect(&self, _: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(|inner| EarlyResponseTransport { inner, is_cut: false }))
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct EarlyResponseTransport<T> {
    inner: T,
    /// The peer takes no more bytes, and has responded.
    is_cut: bool,
}

impl<T: Transport> Transport for EarlyResponseTransport<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if self.is_cut {
            return Ok(());
        }
        match self.inner.transmit_output(amount, timeout) {
            Err(Error::Io(error)) => {
                let mut wait = timeout;
                wait.after = RESPONSE_WAIT.into();
                match self.inner.maybe_await_input(wait) {
                    Ok(true) => {
                        self.is_cut = true;
                        Ok(())
                    }
                    _ => Err(Error::Io(error)),
                }
            }
            sent => sent,
        }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        !self.is_cut && self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}
