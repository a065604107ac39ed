//! `verify`, `trust`.

use qyvol::{Context, Target, VerifyReport};
use serde_json::json;

use crate::cli::{Format, TrustCommand, VerifyArgs};
use crate::failure::Failure;
use crate::ui::Ui;

pub fn verify(ctx: &Context<'_>, ui: &Ui, args: VerifyArgs) -> Result<u8, Failure> {
    let mut worst = 0;
    let mut results = Vec::new();
    for text in &args.targets {
        let verdict = Target::parse(text).and_then(|target| qyvol::verify(ctx, &target, args.key.as_deref()));
        match verdict {
            Ok(reports) => {
                for report in &reports {
                    results.push(json!({"target": text, "verdict": "accepted", "code": 0, "report": report}));
                    if ui.format == Format::Text {
                        accepted(ui, text, report);
                    }
                }
            }
            Err(error) => {
                let report = match &error {
                    qyvol::Error::Trust { source, .. } => serde_json::to_value(source.report()).unwrap_or_default(),
                    _ => serde_json::Value::Null,
                };
                let failure = Failure::from(error);
                results.push(json!({
                    "target": text, "verdict": "refused", "code": failure.code, "reason": failure.message, "report": report,
                }));
                if worst == 0 {
                    worst = failure.code;
                }
                ui.error(&failure);
            }
        }
    }
    if ui.format != Format::Text {
        ui.show(&json!({"schema": 1, "results": results}), String::new)?;
    }
    Ok(worst)
}

fn accepted(ui: &Ui, target: &str, report: &VerifyReport) {
    ui.data(&format!("{target}: accepted {} {}\n", report.image, report.digest));
    for line in report.trust.lines() {
        ui.note(&line);
    }
}

pub fn trust(ctx: &Context<'_>, ui: &Ui, command: TrustCommand) -> Result<u8, Failure> {
    let path = match &command {
        TrustCommand::Check { file: Some(file) } => file.clone(),
        _ => qyvol::policy_path(ctx),
    };
    if !path.exists() {
        return Err(Failure::new(format!(
            "there is no trust policy at {}: everything is refused",
            path.display()
        ))
        .hint("the first `qyv build` writes one that trusts this machine's own key for local files"));
    }
    let chosen = Context {
        policy: Some(path.clone()),
        home: ctx.home.clone(),
        ..*ctx
    };
    let policy = qyvol::load_policy(&chosen)?;
    match command {
        TrustCommand::Check { .. } => ui.data(&format!("{} is valid\n", path.display())),
        TrustCommand::Show => {
            ui.note(&format!("{}:", path.display()));
            ui.show(&policy.summary(), || policy.describe())?;
        }
    }
    Ok(0)
}
