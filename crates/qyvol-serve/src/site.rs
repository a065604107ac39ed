//! Applications that answer requests.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use qyvol_runtime::GuestFigures;
use tokio::sync::Semaphore;

use crate::app::App;
use crate::metrics::SiteMetrics;

/// An application under its name, with its own bound on requests and its own counters.
pub struct Site {
    pub(crate) name: Arc<str>,
    app: RwLock<Arc<App>>,
    is_withheld: AtomicBool,
    requests: usize,
    pub(crate) turns: Arc<Semaphore>,
    pub(crate) metrics: SiteMetrics,
    pub(crate) figures: Arc<GuestFigures>,
}

impl Site {
    /// A site that answers this many requests at once. Further ones wait for a short time, and
    /// are then refused with 503. `figures` counts what its guests use.
    pub fn new(name: &str, app: App, requests: usize, figures: Arc<GuestFigures>) -> Site {
        Site {
            name: name.into(),
            app: RwLock::new(Arc::new(app)),
            is_withheld: AtomicBool::new(false),
            requests,
            turns: Arc::new(Semaphore::new(requests)),
            metrics: SiteMetrics::default(),
            figures,
        }
    }

    /// Counts what its guests use.
    pub fn figures(&self) -> &Arc<GuestFigures> {
        &self.figures
    }

    /// Its name in the access log and in the counters.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// From the next request on, this service answers. Requests in progress continue.
    pub fn replace(&self, app: App) {
        let app = Arc::new(app);
        let mut current = self.app.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *current, app);
        drop(current);
        // Instances that it keeps get no further requests.
        before.service.retire();
        self.metrics.reloaded(true);
        // If it has no guests, dropping it delays no request.
        drop(before);
    }

    /// Whether further requests are refused. Returns whether they were before.
    pub fn withhold(&self, is_withheld: bool) -> bool {
        self.is_withheld.swap(is_withheld, Ordering::Relaxed)
    }

    /// Whether further requests are refused.
    pub fn is_withheld(&self) -> bool {
        self.is_withheld.load(Ordering::Relaxed)
    }

    /// Counts a failed replacement.
    pub fn not_replaced(&self) {
        self.metrics.reloaded(false);
    }

    /// The service that answers the next request.
    pub(crate) fn current(&self) -> Arc<App> {
        Arc::clone(&self.app.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Guests that exist now.
    pub(crate) fn guests(&self) -> usize {
        self.requests.saturating_sub(self.turns.available_permits())
    }

    /// Waits until no guests exist.
    pub(crate) async fn emptied(&self) {
        let all = u32::try_from(self.requests).unwrap_or(u32::MAX);
        // It is never closed.
        let _all = self.turns.acquire_many(all).await;
    }
}
