//! `verify`.

use std::io;

use qyvol::types::escape;
use qyvol::{Context, NewFile, TargetVerdict, VerifyReport, VerifyRequest};
use serde_json::{Value, json};

use crate::cli::{Format, VerifyArgs};
use crate::failure::{Failure, TRUST_CODES};
use crate::ui::Ui;

pub fn verify(ctx: &Context<'_>, ui: &Ui, args: VerifyArgs) -> Result<u8, Failure> {
    // First: without a record, nothing is verified.
    let record = args.record.as_deref().map(|path| {
        let shown = escape(&path.to_string_lossy()).to_string();
        let file = NewFile::create(ctx, path, 0o644);
        file.map(|file| (file, shown.clone())).map_err(|error| {
            let failure = Failure::new(format!("can't create {shown} for --record: {error}"));
            match error.kind() {
                io::ErrorKind::AlreadyExists => {
                    failure.hint("no file is overwritten: remove that one, or name another")
                }
                _ => failure,
            }
        })
    });
    let record = record.transpose()?;
    let client = match args.remote {
        true => Some(crate::registry::client(&ctx.home, ui, &args.registry)?),
        false => None,
    };
    let request = VerifyRequest {
        targets: &args.targets,
        key: args.key.as_deref(),
        client: client.as_ref(),
    };
    let mut worst = 0;
    let mut results = Vec::new();
    let kept = record.is_some() || ui.format != Format::Text;
    let used = qyvol::verify_many(ctx, &request, &mut |verified| {
        let (code, documents) = report(ui, verified);
        if rank(code) > rank(worst) {
            worst = code;
        }
        if kept {
            results.extend(documents);
        }
    })?;
    if let Some((file, shown)) = record {
        let document = json!({
            "schema": 1,
            "time": ctx.now,
            "version": env!("CARGO_PKG_VERSION"),
            "policy": used,
            "code": worst,
            "results": results,
        });
        let written = file.finish(|out| {
            serde_json::to_writer_pretty(&mut *out, &document)?;
            out.write_all(b"\n")
        });
        written.map_err(|error| Failure::new(format!("can't write {shown}: {error}")))?;
        ui.note(&format!("recorded in {shown}"));
    }
    if ui.format != Format::Text {
        ui.show(&json!({"schema": 1, "results": results}), String::new)?;
    }
    Ok(worst)
}

/// Which exit code says more: a refusal by trust, then any other failure.
fn rank(code: u8) -> u8 {
    match code {
        0 => 0,
        code if TRUST_CODES.contains(&code) => 2,
        _ => 1,
    }
}

/// Prints the result for a target. Returns its exit code, and the result as data.
fn report(ui: &Ui, verified: TargetVerdict) -> (u8, Vec<Value>) {
    let target = verified.target;
    for warning in &verified.warnings {
        ui.warn(warning);
    }
    match verified.found {
        Ok(reports) => {
            let document = |report: &VerifyReport| {
                if ui.format == Format::Text {
                    accepted(ui, &target, report);
                }
                json!({"target": target, "verdict": "accepted", "code": 0, "report": report})
            };
            (0, reports.iter().map(document).collect())
        }
        Err(error) => {
            let report = match &error {
                qyvol::Error::Trust { source, .. } => serde_json::to_value(source.report()).unwrap_or_default(),
                _ => Value::Null,
            };
            let failure = Failure::from(error);
            ui.error(&failure);
            let document = json!({
                "target": target, "verdict": "refused", "code": failure.code, "reason": failure.message, "report": report,
            });
            (failure.code, vec![document])
        }
    }
}

fn accepted(ui: &Ui, target: &str, report: &VerifyReport) {
    ui.data(&format!(
        "{}: accepted {} {}\n",
        escape(target),
        report.image,
        report.digest
    ));
    for line in report.trust.lines() {
        ui.note(&line);
    }
    for dependency in &report.dependencies {
        ui.note(&format!("  linked: {}", super::dependencies::shown(dependency)));
    }
}
