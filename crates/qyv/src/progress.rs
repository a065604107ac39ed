//! Progress on stderr of long work. On a terminal: a bar for the whole, and one for each
//! concurrent part. Elsewhere (a pipe, CI, `TERM=dumb`): a plain line every few seconds. With
//! `--verbose`, a line with its time for each step that has ended. Sizes are decimal, as
//! everywhere in the command.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use qyvol::store::Reporter;

use crate::ui::{Ui, format_duration, size};

/// Bytes of a part that is worth a line of its own.
const MIN_BAR_BYTES: u64 = 1 << 20;
/// Time between two plain lines, and before the first.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Shows the progress of long work.
pub struct Progress {
    ui: Ui,
    shown: Mutex<Shown>,
    /// The current step, if its duration will be shown.
    step: Mutex<Option<(String, Instant)>>,
}

enum Shown {
    Nothing,
    Bars(Bars),
    Lines(Lines),
}

struct Bars {
    whole: ProgressBar,
    parts: HashMap<String, ProgressBar>,
}

/// Plain lines of one piece of work.
struct Lines {
    what: String,
    total: Option<u64>,
    done: u64,
    /// The part of `done` that existed before.
    skipped: u64,
    started: Instant,
    last: Instant,
}

impl Lines {
    fn new(what: &str, total: Option<u64>, now: Instant) -> Lines {
        Lines {
            what: what.to_string(),
            total,
            done: 0,
            skipped: 0,
            started: now,
            last: now,
        }
    }

    /// The line that is due.
    fn due(&mut self, now: Instant) -> Option<String> {
        if now.saturating_duration_since(self.last) < LINE_INTERVAL {
            return None;
        }
        self.last = now;
        let seconds = now.saturating_duration_since(self.started).as_secs_f64();
        let rate = size(((self.done - self.skipped) as f64 / seconds) as u64);
        let done = size(self.done);
        Some(match self.total {
            Some(total) if total > 0 => {
                let percent = u128::from(self.done) * 100 / u128::from(total);
                format!("{}: {done} of {} ({percent}%), {rate}/s", self.what, size(total))
            }
            _ => format!("{}: {done}, {rate}/s", self.what),
        })
    }
}

impl Progress {
    pub fn new(ui: Ui) -> Progress {
        Progress {
            ui,
            shown: Mutex::new(Shown::Nothing),
            step: Mutex::new(None),
        }
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self) -> MutexGuard<'_, Option<(String, Instant)>> {
        self.step.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn part(&self, part: &str, act: impl FnOnce(&ProgressBar)) {
        if let Shown::Bars(bars) = &*self.shown()
            && let Some(bar) = bars.parts.get(part)
        {
            act(bar);
        }
    }

    fn bars(&self, what: &str, total: Option<u64>) -> Bars {
        let whole = match total {
            Some(total) => ProgressBar::new(total).with_style(style(
                "{msg:>12} [{wide_bar}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta}",
            )),
            None => ProgressBar::new_spinner().with_style(style("{msg:>12} {spinner} {elapsed}")),
        };
        let whole = self.ui.bars().add(whole.with_message(what.to_string()));
        if total.is_none() {
            whole.enable_steady_tick(Duration::from_millis(100));
        }
        Bars {
            whole,
            parts: HashMap::new(),
        }
    }

    fn moved(&self, bytes: u64, skipped: bool) {
        let line = match &mut *self.shown() {
            Shown::Nothing => None,
            Shown::Bars(bars) => {
                bars.whole.inc(bytes);
                if skipped {
                    // What existed already doesn't count for the rate.
                    bars.whole.reset_eta();
                }
                None
            }
            Shown::Lines(lines) => {
                lines.done = lines.done.saturating_add(bytes);
                if skipped {
                    lines.skipped = lines.skipped.saturating_add(bytes);
                }
                lines.due(Instant::now())
            }
        };
        if let Some(line) = line {
            self.ui.note(&line);
        }
    }
}

/// `wide_bar` fills what the rest of the line leaves: no line wraps.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

impl Reporter for Progress {
    fn started(&self, what: &str, total: Option<u64>) {
        if self.ui.quiet {
            return;
        }
        let shown = match self.ui.progress() {
            true => Shown::Bars(self.bars(what, total)),
            false => Shown::Lines(Lines::new(what, total, Instant::now())),
        };
        *self.shown() = shown;
        if self.ui.verbose {
            *self.step() = Some((what.to_string(), Instant::now()));
        }
    }

    fn advanced(&self, bytes: u64) {
        self.moved(bytes, false);
    }

    fn finished(&self) {
        if let Shown::Bars(bars) = std::mem::replace(&mut *self.shown(), Shown::Nothing) {
            bars.whole.finish_and_clear();
        }
        if let Some((what, started)) = self.step().take() {
            self.ui
                .detail(&format!("{what:>9}  {}", format_duration(started.elapsed())));
        }
    }

    fn part_started(&self, part: &str, bytes: u64) {
        if bytes < MIN_BAR_BYTES {
            return;
        }
        if let Shown::Bars(bars) = &mut *self.shown() {
            let bar = ProgressBar::new(bytes)
                .with_style(style("{msg:>12} [{wide_bar}] {decimal_bytes}/{decimal_total_bytes}"))
                .with_message(part.to_string());
            let bar = self.ui.bars().add(bar);
            bars.parts.insert(part.to_string(), bar);
        }
    }

    fn part_advanced(&self, part: &str, bytes: u64) {
        self.part(part, |bar| bar.inc(bytes));
    }

    fn part_finished(&self, part: &str) {
        if let Shown::Bars(bars) = &mut *self.shown()
            && let Some(bar) = bars.parts.remove(part)
        {
            bar.finish_and_clear();
        }
    }

    fn part_skipped(&self, _: &str, bytes: u64) {
        self.moved(bytes, true);
    }

    fn detailed(&self, message: &str) {
        self.ui.detail(message);
    }

    fn warned(&self, message: &str) {
        self.ui.warn(message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_lines_come_every_few_seconds_and_never_for_short_work() {
        let start = Instant::now();
        let mut lines = Lines::new("pushing", Some(200_000_000), start);
        lines.done = 90_000_000;
        assert_eq!(lines.due(start + Duration::from_millis(4900)), None);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(
            lines.due(at(5)).as_deref(),
            Some("pushing: 90 MB of 200 MB (45%), 18 MB/s")
        );
        assert_eq!(lines.due(at(6)), None);
        lines.done = 200_000_000;
        assert_eq!(
            lines.due(at(10)).as_deref(),
            Some("pushing: 200 MB of 200 MB (100%), 20 MB/s")
        );
    }

    #[test]
    fn existing_bytes_do_not_count_into_the_rate() {
        let start = Instant::now();
        let mut lines = Lines::new("pulling", Some(100_000_000), start);
        (lines.done, lines.skipped) = (90_000_000, 80_000_000);
        assert_eq!(
            lines.due(start + Duration::from_secs(10)).as_deref(),
            Some("pulling: 90 MB of 100 MB (90%), 1.0 MB/s")
        );
    }
}
