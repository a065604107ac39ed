//! Everything that is printed. The rules:
//!
//! - data on stdout, everything else on stderr; a closed stdout ends the
//!   command quietly, as it ends `cat`;
//! - readable without colour; colour only on a terminal, never with `NO_COLOR`;
//! - errors: `error:`, lowercase, one line, then `hint:` lines;
//! - text from outside is escaped when it enters a message, and once more here: no message has
//!   a control character except our own line ends.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use indicatif::MultiProgress;
use serde::Serialize;

use crate::cli::{Format, Global};
use crate::failure::Failure;
use crate::trust_hints::word;

/// All that the command prints. Clones share its state.
#[derive(Clone, Debug)]
pub struct Ui {
    pub format: Format,
    pub verbose: bool,
    pub quiet: bool,
    colour: bool,
    /// The policy that was given in place of this machine's.
    policy: Option<PathBuf>,
    /// Bars can be drawn: on a terminal that can move its cursor, and not in CI.
    draws: bool,
    /// Made with the first bar: most commands show none.
    bars: Arc<OnceLock<MultiProgress>>,
}

impl Ui {
    pub fn new(global: &Global) -> Ui {
        let terminal = io::stderr().is_terminal();
        let capable = terminal && env::var_os("TERM").is_none_or(|t| t != "dumb");
        let wanted = env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        Ui {
            format: global.format,
            verbose: global.verbose,
            quiet: global.quiet,
            colour: capable && wanted,
            policy: global.policy.clone(),
            draws: capable && !crate::variables::in_pipeline(),
            bars: Arc::default(),
        }
    }

    /// Whether progress is shown as bars.
    pub fn progress(&self) -> bool {
        self.draws && !self.quiet
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_string()
        }
    }

    /// Data, as text.
    pub fn data(&self, text: &str) {
        self.write(&safe(text));
    }

    /// A line of data without terminal control characters.
    ///
    /// # Errors
    ///
    /// If it can't be written, for callers with exit codes of their own. If nobody reads any
    /// more, the process ends.
    pub fn plain(&self, line: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match writeln!(out, "{line}").and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(141),
            written => written,
        }
    }

    fn write(&self, text: &str) {
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => {}
            // Nobody reads any more.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(141),
            Err(error) => {
                self.error(&Failure::new(format!("can't write to stdout: {error}")));
                std::process::exit(1);
            }
        }
    }

    /// Data as `--format` asks for it: `text` makes the text.
    pub fn show<T: Serialize>(&self, value: &T, text: impl FnOnce() -> String) -> Result<(), Failure> {
        match self.format {
            Format::Text => self.data(&text()),
            Format::Json => {
                let text = serde_json::to_string_pretty(value).map_err(|e| Failure::new(e.to_string()))?;
                self.write(&safe_json(&text));
            }
            Format::Yaml => {
                let text = serde_yaml::to_string(value).map_err(|e| Failure::new(e.to_string()))?;
                let shown = text.lines().all(|line| qyvol::types::escape(line).to_string() == line);
                if shown {
                    self.write(&text);
                } else {
                    // What could move a cursor or reorder a line has an escape in JSON,
                    // which is YAML too.
                    let text = serde_json::to_string_pretty(value).map_err(|e| Failure::new(e.to_string()))?;
                    self.write(&safe_json(&text));
                }
            }
        }
        Ok(())
    }

    /// Where progress bars are drawn; messages appear above them.
    pub fn bars(&self) -> &MultiProgress {
        self.bars.get_or_init(MultiProgress::new)
    }

    fn say(&self, text: &str) {
        let write = || {
            // A closed stderr is no reason to fail.
            let _ = writeln!(io::stderr().lock(), "{text}");
        };
        match self.bars.get() {
            Some(bars) => bars.suspend(write),
            None => write(),
        }
    }

    /// A line of a log, as it is.
    #[cfg(feature = "hub")]
    pub fn line(&self, text: &str) {
        self.say(text);
    }

    /// Prints a note, unless `--quiet`.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.say(&safe_line(text));
        }
    }

    /// Prints a line of JSON, unless `--quiet`.
    pub fn note_json(&self, text: &str) {
        if !self.quiet {
            self.say(safe_json(text).trim_end());
        }
    }

    /// Prints a detail, with `--verbose`.
    pub fn detail(&self, text: &str) {
        if self.verbose {
            self.say(&safe_line(text));
        }
    }

    /// Prints a warning.
    pub fn warn(&self, text: &str) {
        if !self.quiet {
            self.say(&format!("{} {}", self.paint("33;1", "warning:"), safe_line(text)));
        }
    }

    /// Prints an error, with its details and hints.
    pub fn error(&self, failure: &Failure) {
        let message = safe_line(&failure.message);
        self.say(&format!("{} {message}", self.paint("31;1", "error:")));
        for line in &failure.details {
            self.say(&safe_line(line));
        }
        for hint in &failure.hints {
            // A hint to change the policy means the one that was given.
            let hint = match &self.policy {
                Some(policy) => {
                    let given = format!("`qyv --policy {} trust ", word(&policy.to_string_lossy()));
                    hint.replace("`qyv trust ", &given)
                }
                None => hint.clone(),
            };
            self.say(&format!("{} {}", self.paint("36;1", "hint:"), safe_line(&hint)));
        }
    }
}

/// A line of a message. One is never two: the second could be a false verdict.
fn safe_line(text: &str) -> String {
    qyvol::types::escape(text).to_string()
}

/// Text of several lines, with the tabs that generated scripts have.
fn safe(text: &str) -> String {
    let lines = text.split('\n').map(|line| {
        let parts: Vec<String> = line.split('\t').map(safe_line).collect();
        parts.join("\t")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// JSON escapes only ASCII control characters; the others, which occur only in strings, get
/// JSON escapes here.
fn safe_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        if c == '\n' || qyvol::types::escape(c.encode_utf8(&mut [0; 4])).to_string().len() == c.len_utf8() {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out.push('\n');
    out
}

/// A size for people.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ if value < 9.95 => format!("{value:.1} {}", UNITS[unit]),
        _ => format!("{value:.0} {}", UNITS[unit]),
    }
}

/// A number of things.
pub fn count(number: usize, one: &str, many: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        n => format!("{n} {many}"),
    }
}

/// A duration for people.
pub fn format_duration(time: Duration) -> String {
    let micros = time.as_micros();
    match micros {
        0..=999 => format!("{micros} µs"),
        1_000..=999_999 => format!("{:.1} ms", micros as f64 / 1e3),
        _ => format!("{:.2} s", time.as_secs_f64()),
    }
}

/// Rows under a head, columns aligned, the last one free.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    let head: Vec<String> = head.iter().map(|h| (*h).to_string()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 3));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untrusted_text_is_escaped() {
        assert_eq!(safe_line("a\nb: accepted\u{1b}[2K"), "a\\u{a}b: accepted\\u{1b}[2K");
        assert_eq!(safe("a\tb\r\nc\u{9b}1A\n"), "a\tb\\u{d}\nc\\u{9b}1A\n");
        let text = serde_json::to_string(&json_value()).unwrap();
        let shown = safe_json(&text);
        assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), json_value());
    }

    fn json_value() -> serde_json::Value {
        serde_json::json!({"a": "\u{1b}[1A\u{9b}\u{202e}\u{e0001}ñ"})
    }

    #[test]
    fn sizes_and_times_read_well() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(999), "999 B");
        assert_eq!(size(1000), "1.0 kB");
        assert_eq!(size(999_999), "1.0 MB");
        assert_eq!(size(12_345_678), "12 MB");
        assert_eq!(format_duration(Duration::from_micros(250)), "250 µs");
        assert_eq!(format_duration(Duration::from_millis(12)), "12.0 ms");
    }

    #[test]
    fn table_aligns_by_characters_not_bytes() {
        let rows = vec![
            vec!["ñandú".to_string(), "1".to_string()],
            vec!["b".to_string(), "22".to_string()],
        ];
        assert_eq!(table(&["NAME", "N"], &rows), "NAME    N\nñandú   1\nb       22\n");
    }
}
