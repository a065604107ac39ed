//! A first instance of a service, before it gets any request.

use super::{Answers, Instance, Service, ServiceError};

impl Service {
    /// Instantiates the component once, as for a request, and drops the instance. Called within
    /// a multi-threaded tokio runtime with time and I/O.
    ///
    /// # Errors
    ///
    /// Why there is no instance.
    pub async fn try_out(&self) -> Result<(), ServiceError> {
        let shared = match &self.answers {
            Answers::Handler(shared) => shared,
            Answers::Functions(functions) => return functions.try_out().await,
        };
        let deadline = shared.guests.deadline();
        let mut instance = Instance::new(&shared.guests, deadline)?;
        let started = async { instance.start(&shared.instances, &shared.guests).await.map(drop) };
        let started = shared.guests.run(deadline, started).await?;
        started.map_err(|error| shared.guests.failed(&error, instance.limits()).into())
    }
}
