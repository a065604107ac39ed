//! A first instance of a service, before it gets any request.

use std::time::Instant;

use super::{PastDeadline, Service, ServiceError, within};
use crate::{Exit, trap};

impl Service {
    /// Instantiates the component once, as for a request, and drops the instance. Called
    /// within a runtime of tokio with several threads, time and I/O.
    ///
    /// # Errors
    ///
    /// Why there is no instance.
    pub async fn try_out(&self) -> Result<(), ServiceError> {
        let shared = &self.shared;
        let deadline = Instant::now() + shared.limits.time;
        let mut store = shared.store(deadline, None).map_err(ServiceError::Runtime)?;
        let instance = within(shared.limits.cpu, shared.handler.instantiate(&mut store));
        let error = match tokio::time::timeout_at(deadline.into(), instance).await {
            Err(_) => return Err(ServiceError::Time(shared.limits.time)),
            Ok(Err(limit)) => return Err(ServiceError::CpuTime(limit)),
            Ok(Ok(Ok(()))) => return Ok(()),
            Ok(Ok(Err(error))) => error,
        };
        if error.is::<PastDeadline>() {
            return Err(ServiceError::Time(shared.limits.time));
        }
        let end = trap::end(&error, &store.data().limits).map_err(ServiceError::Runtime)?;
        Err(match end {
            Exit::Code(code) => ServiceError::Exit(code),
            Exit::Trap(why) => ServiceError::Trap(why),
            Exit::Limit(limit, why) => ServiceError::Limit(limit, why),
        })
    }
}
