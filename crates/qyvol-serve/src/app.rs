//! A service that answers requests, with what belongs to it.

use std::time::Duration;

use qyvol_runtime::{Service, ServiceError};

/// A service, and the observer of its guests.
pub struct App {
    /// The service that answers.
    pub service: Service,
    /// Notified of guests that failed. Dropped once no guest of the service exists any more.
    pub keeper: Box<dyn Keeper>,
    /// The steps before it could answer, and how long each took. Words of a closed set.
    pub steps: Vec<(&'static str, Duration)>,
}

/// What belongs to a service for as long as guests of it exist.
pub trait Keeper: Send + Sync {
    /// A guest failed to answer its request completely. Called on any thread.
    fn failed(&self, error: &ServiceError);
}
