//! Progress bars on stderr, where it is a terminal and the work is long.

use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use qyvol::store::Reporter;

use crate::ui::Ui;

/// Shows one bar at a time.
pub struct Progress {
    ui: Ui,
    bar: Mutex<Option<ProgressBar>>,
}

impl Progress {
    pub fn new(ui: Ui) -> Progress {
        Progress {
            ui,
            bar: Mutex::new(None),
        }
    }

    fn with(&self, act: impl FnOnce(&mut Option<ProgressBar>)) {
        if let Ok(mut bar) = self.bar.lock() {
            act(&mut bar);
        }
    }
}

impl Reporter for Progress {
    fn started(&self, what: &str, total: Option<u64>) {
        if !self.ui.progress() {
            return;
        }
        let template = match total {
            Some(_) => "{msg:>12} [{bar:32}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            None => "{msg:>12} {spinner} {elapsed}",
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = match total {
            Some(total) => ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr()),
            None => ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()),
        };
        let bar = bar
            .with_style(style.progress_chars("=> "))
            .with_message(what.to_string());
        if total.is_none() {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        self.with(|slot| *slot = Some(bar));
    }

    fn advanced(&self, bytes: u64) {
        if self.ui.progress() {
            self.with(|slot| {
                if let Some(bar) = slot {
                    bar.inc(bytes);
                }
            });
        }
    }

    fn finished(&self) {
        self.with(|slot| {
            if let Some(bar) = slot.take() {
                bar.finish_and_clear();
            }
        });
    }

    fn warned(&self, message: &str) {
        self.ui.warn(message);
    }
}
