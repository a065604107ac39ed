//! `run --report FILE`: who ended a run (`formats/run-report.schema.json`).
//! Exit codes are ambiguous: 124 to 126 and 134 may also be the guest's own.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use qyvol::RunFigures;
use serde::Serialize;

use crate::failure::{Failure, TRUST_CODES};

/// How a run ended.
#[derive(Debug, Serialize)]
#[serde(tag = "endedBy", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Ending<'a> {
    /// The guest exited.
    Guest { exit_code: u8 },
    /// The guest trapped.
    Trap { reason: &'a str },
    /// The guest ran for longer than `resources.timeout`.
    Timeout { limit_milliseconds: u64 },
    /// Another limit ended it.
    Limit { limit: &'static str, reason: String },
    /// Trust refused: no guest was started.
    Trust { verdict: u8, reason: &'a str },
    /// qyv failed.
    Qyv { reason: &'a str },
}

impl Ending<'_> {
    pub fn timeout(limit: Duration) -> Ending<'static> {
        Ending::Timeout {
            limit_milliseconds: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
        }
    }

    pub fn limit(limit: &'static str, reason: String) -> Ending<'static> {
        Ending::Limit { limit, reason }
    }

    /// `verdict` is the code that `verify` would exit with.
    pub fn failure(verdict: u8, failure: &Failure) -> Ending<'_> {
        let reason = failure.message.as_str();
        match TRUST_CODES.contains(&verdict) {
            true => Ending::Trust { verdict, reason },
            false => Ending::Qyv { reason },
        }
    }
}

/// What the events of a run recorded.
#[derive(Debug, Default)]
pub struct RunRecord {
    /// The image's manifest digest.
    pub digest: RefCell<Option<String>>,
    /// The steps until then, and how long each took.
    pub steps: RefCell<Vec<(String, Duration)>>,
    /// What the guest used, if it ended.
    pub figures: OnceCell<RunFigures>,
    /// The guest's core dump, if it trapped.
    pub core_dump: OnceCell<Vec<u8>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    schema: u32,
    target: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<&'a str>,
    code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    fuel: Option<u64>,
    figures: Figures<'a>,
    #[serde(flatten)]
    ending: &'a Ending<'a>,
}

/// Times in seconds, sizes in bytes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures<'a> {
    steps: BTreeMap<&'a str, f64>,
    denied: u64,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    guest: Option<GuestFigures>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GuestFigures {
    link: f64,
    instantiate: f64,
    execute: f64,
    cpu: f64,
    memory: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<u64>,
}

impl From<&RunFigures> for GuestFigures {
    fn from(figures: &RunFigures) -> GuestFigures {
        GuestFigures {
            link: figures.link.as_secs_f64(),
            instantiate: figures.instantiate.as_secs_f64(),
            execute: figures.execute.as_secs_f64(),
            cpu: figures.cpu.as_secs_f64(),
            memory: figures.memory,
            output: figures.output,
        }
    }
}

/// A report that is open and will be written at the end of the run. It stays empty if
/// qyv itself is killed.
pub struct Report {
    path: PathBuf,
    file: File,
}

impl Report {
    /// Creates the file, which must not exist, so that no other report is overwritten.
    pub fn create(path: &Path) -> Result<Report, Failure> {
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        let file = file.map_err(|error| {
            let failure = Failure::new(format!("can't make the report {}: {error}", show(path)));
            match error.kind() {
                std::io::ErrorKind::AlreadyExists => {
                    failure.hint("a report is always a new file: remove that one, or name another")
                }
                _ => failure,
            }
        })?;
        Ok(Report {
            path: path.to_path_buf(),
            file,
        })
    }

    /// Writes the document.
    pub fn write(mut self, run: &Ended<'_>) -> Result<(), Failure> {
        let mut bytes = run.json(true)?;
        bytes.push('\n');
        let failed = |why| Failure::new(format!("can't write the report {}: {why}", show(&self.path)));
        self.file.write_all(bytes.as_bytes()).map_err(failed)
    }
}

/// A run that has ended.
pub struct Ended<'a> {
    pub target: &'a str,
    pub record: &'a RunRecord,
    /// Calls that the guest was denied.
    pub denied: u64,
    /// The exit code of qyv.
    pub code: u8,
    pub ending: &'a Ending<'a>,
}

impl Ended<'_> {
    /// The document, on one line or on several.
    pub fn json(&self, is_pretty: bool) -> Result<String, Failure> {
        let record = self.record;
        let (digest, steps) = (record.digest.borrow(), record.steps.borrow());
        let document = Document {
            schema: 1,
            target: self.target,
            digest: digest.as_deref(),
            code: self.code,
            fuel: record.figures.get().and_then(|figures| figures.fuel),
            figures: Figures {
                steps: steps
                    .iter()
                    .map(|(step, took)| (step.as_str(), took.as_secs_f64()))
                    .collect(),
                denied: self.denied,
                guest: record.figures.get().map(GuestFigures::from),
            },
            ending: self.ending,
        };
        let text = match is_pretty {
            true => serde_json::to_string_pretty(&document),
            false => serde_json::to_string(&document),
        };
        text.map_err(|error| Failure::new(error.to_string()))
    }
}

fn show(path: &Path) -> String {
    qyvol::types::escape(&path.to_string_lossy()).to_string()
}
