//! `run --stats`: the figures of a run, on stderr. With `--format json` it is the document of
//! `--report`, on one line.

use std::fs;

use qyvol::types::escape;

use crate::cli::Format;
use crate::run_report::Ended;
use crate::ui::{Ui, format_duration, size};

/// Prints the figures of a run that has ended.
pub fn print(ui: &Ui, run: &Ended<'_>) {
    let Ended {
        target, record, denied, ..
    } = run;
    // What is JSON is YAML too.
    if ui.format != Format::Text {
        match run.json(false) {
            Ok(line) => ui.note_json(&line),
            Err(failure) => ui.error(&failure),
        }
        return;
    }
    ui.note(&format!("figures of {}", escape(target)));
    let row = |what: &str, figure: String| ui.note(&format!("  {what:<12} {figure}"));
    for (step, took) in record.steps.borrow().iter() {
        // Its parts follow.
        if step != "run" {
            row(step, format_duration(*took));
        }
    }
    if let Some(guest) = record.figures.get() {
        row("link", format_duration(guest.link));
        row("instantiate", format_duration(guest.instantiate));
        row("execute", format_duration(guest.execute));
        row("processor", format_duration(guest.cpu));
        row("memory", size(guest.memory));
        if let Some(output) = guest.output {
            row("output", size(output));
        }
        if let Some(fuel) = guest.fuel {
            row("fuel", fuel.to_string());
        }
    }
    if let Some(process) = resident() {
        row("process", format!("{} of memory at most", size(process)));
    }
    row("denied", format!("{denied} calls"));
}

/// The peak memory of this process in bytes, if the system reports it (`proc(5)`).
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}
