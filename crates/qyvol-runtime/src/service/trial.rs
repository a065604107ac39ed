//! A first instance of a service, before it gets any request.

use super::{Answers, Service, ServiceError};

impl Service {
    /// Instantiates the component once, as for a request, and drops the instance. Called
    /// within a runtime of tokio with several threads, time and I/O.
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
        let mut store = shared.store(deadline, None)?;
        let instance = shared.handler.instantiate(&mut store);
        let instance = shared.guests.run(deadline, instance).await?;
        instance.map_err(|error| shared.guests.failed(&error, &store.data().limits).into())
    }
}
