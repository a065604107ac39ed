//! `serve --access-log`: a line of JSON for each request, once it is over.
//!
//! A line has nothing that may be secret: no query, no header but the host, no body. What
//! comes from a client is bounded and escaped, so that one line is never two. A log that can't
//! be written is reported once, and requests are answered nevertheless.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use qyvol::server::Answered;
use qyvol::types::{Timestamp, escape};
use serde::Serialize;

use crate::failure::Failure;
use crate::log_file;
use crate::spool::Spool;
use crate::ui::Ui;

/// How the first line begins.
const START: &[u8] = b"{\"time\":\"";
/// Between two reports of lines that were lost.
const REPORT: Duration = Duration::from_secs(60);

/// A line of it.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    id: u64,
    application: Option<&'a str>,
    peer: String,
    protocol: &'a str,
    method: String,
    host: String,
    path: String,
    status: u16,
    bytes: u64,
    duration: f64,
    whole: bool,
}

/// What the writer receives.
enum Entry {
    Answered(SystemTime, Answered),
    /// The file may have been moved away.
    Look,
}

/// An open log. Clones write the same one.
#[derive(Clone)]
pub struct AccessLog {
    spool: Spool<Entry>,
    reopen: Arc<AtomicBool>,
}

impl AccessLog {
    /// Opens it: a file, or stdout for `-`.
    pub fn open(path: &Path, ui: &Ui) -> Result<AccessLog, Failure> {
        let to = match path.as_os_str() == "-" {
            true => To::Stdout,
            false => To::File(
                open(path).map_err(|why| Failure::new(cannot(&shown(path), &why)))?,
                path.to_path_buf(),
            ),
        };
        let mut writer = Writer {
            to,
            ui: ui.clone(),
            torn: false,
            fails: false,
            lost: 0,
            reported: None,
        };
        let reopen = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&reopen);
        let spool = Spool::start("access-log", move |entries, lost| {
            writer.lost += lost;
            if asked.swap(false, Ordering::Relaxed) {
                writer.reopen();
            }
            writer.write(&entries);
        });
        let spool = spool.map_err(|e| Failure::new(format!("can't start a thread: {e}")))?;
        Ok(AccessLog { spool, reopen })
    }

    /// A request is over.
    pub fn answered(&self, answered: Answered) {
        let bytes = answered.method.len() + answered.host.len() + answered.path.len();
        self.spool.push(Entry::Answered(SystemTime::now(), answered), bytes);
    }

    /// Opens the file at the same path again, which may be another one by now.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
        self.spool.push(Entry::Look, 0);
    }

    /// Waits until everything is written, but not for long.
    pub fn finish(&self) {
        self.spool.finish();
    }
}

fn open(path: &Path) -> Result<File, String> {
    log_file::open(path, &[START], "an access log").map(|(file, _)| file)
}

fn shown(path: &Path) -> String {
    escape(&path.to_string_lossy()).to_string()
}

fn cannot(shown: &str, why: &str) -> String {
    format!("can't write the access log {shown}: {why}")
}

enum To {
    Stdout,
    File(File, PathBuf),
}

impl To {
    fn shown(&self) -> String {
        match self {
            To::Stdout => "on stdout".to_string(),
            To::File(_, path) => shown(path),
        }
    }
}

impl Write for To {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            To::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(bytes)?;
                out.flush().map(|()| bytes.len())
            }
            To::File(file, _) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Writer {
    to: To,
    ui: Ui,
    /// Whether it ends in the middle of a line.
    torn: bool,
    /// Whether the last attempt to write failed.
    fails: bool,
    /// Lines that were lost and not reported yet.
    lost: u64,
    reported: Option<Instant>,
}

impl Writer {
    fn reopen(&mut self) {
        let To::File(file, path) = &mut self.to else { return };
        match open(path) {
            Ok(opened) => {
                *file = opened;
                self.torn = false;
            }
            Err(why) => {
                let shown = shown(path);
                self.ui.warn(&format!(
                    "can't open the access log {shown} again, the open one is used: {why}"
                ));
            }
        }
    }

    fn write(&mut self, entries: &[Entry]) {
        let mut bytes = Vec::new();
        for entry in entries {
            if let Entry::Answered(time, answered) = entry {
                bytes.extend(line(*time, answered));
            }
        }
        if !bytes.is_empty() {
            self.put(&bytes);
        }
        if self.lost > 0 && !self.fails && self.reported.is_none_or(|reported| reported.elapsed() > REPORT) {
            let log = self.to.shown();
            let lost = std::mem::take(&mut self.lost);
            self.reported = Some(Instant::now());
            self.ui.warn(&format!(
                "the access log {log} lacks {lost} requests, which were answered"
            ));
        }
    }

    fn put(&mut self, lines: &[u8]) {
        let mut left = lines;
        let written = match std::mem::take(&mut self.torn) {
            true => self.to.write_all(b"\n"),
            false => Ok(()),
        };
        let written = written.and_then(|()| {
            while !left.is_empty() {
                match self.to.write(left) {
                    Ok(0) => return Err(ErrorKind::WriteZero.into()),
                    Ok(n) => left = left.get(n..).unwrap_or_default(),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        });
        let done = lines.len() - left.len();
        let Err(error) = written else {
            self.fails = false;
            return;
        };
        self.torn = lines
            .get(..done)
            .is_some_and(|done| done.last().is_some_and(|last| *last != b'\n'));
        self.lost += left.iter().filter(|byte| **byte == b'\n').count() as u64;
        if !std::mem::replace(&mut self.fails, true) {
            let why = format!("{error}: requests are answered without it");
            self.ui.warn(&cannot(&self.to.shown(), &why));
        }
    }
}

fn line(time: SystemTime, answered: &Answered) -> Vec<u8> {
    let text = |text: &str| escape(text).to_string();
    let line = Line {
        time: rfc3339(time),
        id: answered.id,
        application: answered.application.as_deref(),
        peer: answered.peer.to_string(),
        protocol: answered.protocol,
        method: text(&answered.method),
        host: text(&answered.host),
        path: text(&answered.path),
        status: answered.status,
        bytes: answered.bytes,
        duration: answered.duration.as_micros() as f64 / 1e6,
        whole: answered.whole,
    };
    let mut bytes = serde_json::to_vec(&line).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// With milliseconds.
fn rfc3339(time: SystemTime) -> String {
    let millis = time.duration_since(UNIX_EPOCH).unwrap_or_default().subsec_millis();
    let seconds = Timestamp::from_system(time).to_string();
    format!("{}.{millis:03}Z", seconds.trim_end_matches('Z'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_is_one_whatever_a_client_sends() {
        let answered = Answered {
            id: 7,
            application: Some("app".into()),
            peer: ([192, 0, 2, 1], 4711).into(),
            protocol: "HTTP/1.1",
            method: "GET".to_string(),
            host: "a\n{\"b\u{202e}".to_string(),
            path: "/\u{1b}[2J".to_string(),
            status: 200,
            bytes: 6,
            duration: Duration::from_micros(1234),
            whole: true,
        };
        let time = UNIX_EPOCH + Duration::from_millis(1_800_000_000_042);
        let line = String::from_utf8(line(time, &answered)).unwrap();
        assert!(
            line.starts_with("{\"time\":\"2027-01-15T08:00:00.042Z\",\"id\":7,"),
            "{line}"
        );
        assert!(
            line.contains("\"peer\":\"192.0.2.1:4711\"") && line.contains("\"duration\":0.001234,"),
            "{line}"
        );
        assert!(
            line.trim_end().chars().all(|c| !c.is_control() && c != '\u{202e}'),
            "{line}"
        );
        assert_eq!(line.matches('\n').count(), 1);
    }
}
