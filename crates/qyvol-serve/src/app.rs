//! A service that answers, with what belongs to it.

use std::time::Duration;

use qyvol_runtime::{Service, ServiceError};

/// A service, and what is told of its guests.
pub struct App {
    /// What answers.
    pub service: Service,
    /// Is told of guests that failed. Dropped once no guest of the service exists any
    /// more.
    pub keeper: Box<dyn Keeper>,
    /// What had to be done before it could answer, and how long that took. Words of a closed
    /// set.
    pub steps: Vec<(&'static str, Duration)>,
}

/// What belongs to a service for as long as guests of it exist.
pub trait Keeper: Send + Sync {
    /// A guest did not answer its request, or not to its end. Called on any thread.
    fn failed(&self, error: &ServiceError);
}
