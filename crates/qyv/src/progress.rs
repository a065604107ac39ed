//! Progress on stderr, where it is a terminal and the work is long: a bar for
//! the whole, and one for each part that moves beside others.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use qyvol::store::Reporter;

use crate::ui::Ui;

/// Bytes of a part that is worth a line of its own.
const WORTH_A_LINE: u64 = 1 << 20;

/// Shows how long work goes.
pub struct Progress {
    ui: Ui,
    bars: Mutex<Option<Bars>>,
}

struct Bars {
    whole: ProgressBar,
    parts: HashMap<String, ProgressBar>,
}

impl Progress {
    pub fn new(ui: Ui) -> Progress {
        Progress {
            ui,
            bars: Mutex::new(None),
        }
    }

    fn bars(&self) -> MutexGuard<'_, Option<Bars>> {
        self.bars.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn part(&self, part: &str, act: impl FnOnce(&ProgressBar)) {
        if let Some(bar) = self.bars().as_ref().and_then(|bars| bars.parts.get(part)) {
            act(bar);
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

impl Reporter for Progress {
    fn started(&self, what: &str, total: Option<u64>) {
        if !self.ui.progress() {
            return;
        }
        let whole = match total {
            Some(total) => ProgressBar::new(total).with_style(style(
                "{msg:>12} [{bar:32}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            )),
            None => ProgressBar::new_spinner().with_style(style("{msg:>12} {spinner} {elapsed}")),
        };
        let whole = self.ui.bars().add(whole.with_message(what.to_string()));
        if total.is_none() {
            whole.enable_steady_tick(Duration::from_millis(100));
        }
        *self.bars() = Some(Bars {
            whole,
            parts: HashMap::new(),
        });
    }

    fn advanced(&self, bytes: u64) {
        if let Some(bars) = self.bars().as_ref() {
            bars.whole.inc(bytes);
        }
    }

    fn finished(&self) {
        if let Some(bars) = self.bars().take() {
            bars.whole.finish_and_clear();
        }
    }

    fn part_started(&self, part: &str, bytes: u64) {
        if let Some(bars) = self.bars().as_mut().filter(|_| bytes >= WORTH_A_LINE) {
            let bar = ProgressBar::new(bytes)
                .with_style(style("{msg:>12} [{bar:32}] {bytes}/{total_bytes}"))
                .with_message(part.to_string());
            let bar = self.ui.bars().add(bar);
            bars.parts.insert(part.to_string(), bar);
        }
    }

    fn part_advanced(&self, part: &str, bytes: u64) {
        self.part(part, |bar| bar.inc(bytes));
    }

    fn part_finished(&self, part: &str) {
        if let Some(bar) = self.bars().as_mut().and_then(|bars| bars.parts.remove(part)) {
            bar.finish_and_clear();
        }
    }

    fn part_skipped(&self, _: &str, bytes: u64) {
        self.advanced(bytes);
    }

    fn warned(&self, message: &str) {
        self.ui.warn(message);
    }
}
