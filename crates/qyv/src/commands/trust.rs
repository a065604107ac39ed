//! `trust`.

use std::path::{Path, PathBuf};

use qyvol::trust::{Form, Identity, PolicyEdit, Scope, ScopeError, TrustPolicy};
use qyvol::types::{Timestamp, escape};
use qyvol::{Context, Target};
use serde_json::json;

use crate::cli::{FormArg, Format, IdentityArg, TrustCommand};
use crate::commands::policy_change::show_change;
use crate::failure::Failure;
use crate::ui::Ui;

pub fn trust(ctx: &Context<'_>, ui: &Ui, command: TrustCommand) -> Result<u8, Failure> {
    match command {
        TrustCommand::Show => {
            let policy = in_force(ctx, None)?;
            ui.note(&format!("{}:", qyvol::policy_path(ctx).display()));
            ui.show(&policy.summary(), || policy.describe())?;
        }
        TrustCommand::Check { file, all, at } => {
            let path = file.clone().unwrap_or_else(|| qyvol::policy_path(ctx));
            let policy = in_force(ctx, file.clone())?;
            if let Err((key, why)) = policy.check_keys() {
                let shown = path.display();
                return Err(Failure {
                    code: 19,
                    ..Failure::new(format!("trust policy {shown}: the key `{key}` can't be used: {why}"))
                });
            }
            if all {
                return check_all(ctx, ui, file.as_deref(), at.as_deref());
            }
            ui.data(&format!("{} is valid\n", path.display()));
        }
        TrustCommand::Add {
            scope,
            key,
            role,
            form,
            threshold,
            identity,
        } => {
            let scope = scope_of(&scope)?;
            let change = PolicyEdit::Add {
                scope: scope.clone(),
                name: qyvol::key_name(&key),
                key: qyvol::key_to_trust(ctx, &key)?,
                role,
                form: match form {
                    FormArg::Qyvol => Form::Qyvol,
                    FormArg::Cosign => Form::Cosign,
                },
                threshold,
                identity: identity.map(|i| match i {
                    IdentityArg::Exact => Identity::Exact,
                    IdentityArg::Repository => Identity::Repository,
                    IdentityArg::Any => Identity::Any,
                }),
            };
            show_change(ui, &qyvol::change_policy(ctx, &change)?, Some(&scope))?;
        }
        TrustCommand::Pin {
            name,
            fingerprint,
            registry,
        } => return super::first_use::pin(ctx, ui, &name, fingerprint.as_deref(), &registry),
        TrustCommand::Remove { scope, key } => {
            let change = PolicyEdit::Remove {
                scope: scope_of(&scope)?,
                key: key.map(|key| qyvol::key_id(ctx, &key)).transpose()?,
            };
            show_change(ui, &qyvol::change_policy(ctx, &change)?, None)?;
        }
        TrustCommand::Revoke { what, keep, undo } => {
            show_change(ui, &qyvol::revoke(ctx, &what, &keep, undo)?, None)?;
        }
        TrustCommand::Fleet(command) => return super::fleet::fleet(ctx, ui, command),
        TrustCommand::Explain { target } => return explain(ctx, ui, &target),
    }
    Ok(0)
}

/// Prints how a policy judges the store's images. Fails if one that is accepted now would be
/// refused.
fn check_all(ctx: &Context<'_>, ui: &Ui, file: Option<&Path>, at: Option<&str>) -> Result<u8, Failure> {
    let time = |text: &str| {
        let time = text.parse::<Timestamp>();
        time.map_err(|why| Failure::usage(format!("--at {} is {why}", escape(text))))
    };
    let at = at.map(time).transpose()?;
    let (mut code, mut lost, mut accepted) = (0, 0, 0);
    let mut text = String::new();
    let mut documents = Vec::new();
    for row in qyvol::check_images(ctx, file, at)? {
        let now = if row.accepted_now { "accepted" } else { "refused" };
        let failure = row.refused.map(|error| match &error {
            // The row names the image.
            qyvol::Error::Trust { source, .. } => Failure {
                message: source.to_string().trim_start_matches("refused: ").to_string(),
                ..Failure::from(error)
            },
            _ => Failure::from(error),
        });
        let verdict = failure.as_ref().map_or("accepted", |_| "refused");
        let (name, digest) = (row.name.to_string(), row.digest.to_string());
        text.push_str(&format!("{verdict:<8} {name} {digest}"));
        match &failure {
            Some(failure) => {
                text.push_str(&format!(": {}", failure.message));
                if row.accepted_now {
                    lost += 1;
                    code = if code == 0 { failure.code } else { code };
                }
            }
            None => accepted += 1,
        }
        text.push_str(if verdict == now {
            "\n"
        } else if row.accepted_now {
            " (accepted now)\n"
        } else {
            " (refused now)\n"
        });
        documents.push(json!({
            "name": name,
            "digest": digest,
            "verdict": verdict,
            "code": failure.as_ref().map_or(0, |f| f.code),
            "reason": failure.as_ref().map(|f| &f.message),
            "now": now,
        }));
    }
    let refused = documents.len() - accepted;
    ui.show(
        &json!({"schema": 1, "at": at.unwrap_or(ctx.now), "results": documents}),
        || text,
    )?;
    ui.note(&format!(
        "{accepted} accepted, {refused} refused ({lost} of them accepted now)"
    ));
    Ok(code)
}

/// The policy in force, or that of another file. A missing policy is an error here.
fn in_force(ctx: &Context<'_>, file: Option<PathBuf>) -> Result<TrustPolicy, Failure> {
    let path = file.unwrap_or_else(|| qyvol::policy_path(ctx));
    if !path.exists() {
        return Err(
            Failure::new(format!("there is no trust policy at {}", path.display())).hint(
                "`qyv trust add SCOPE --key FILE.pub` creates this machine's own; `qyv help trust add` explains scopes",
            ),
        );
    }
    let chosen = Context {
        policy: Some(path),
        home: ctx.home.clone(),
        ..*ctx
    };
    Ok(qyvol::load_policy(&chosen)?)
}

fn scope_of(text: &str) -> Result<Scope, Failure> {
    let failed = |error: ScopeError| {
        let message = format!("`{}` can't be a scope: {error}", escape(text));
        Failure::usage(message).hint(escape(error.help()).to_string())
    };
    text.parse().map_err(failed)
}

fn explain(ctx: &Context<'_>, ui: &Ui, text: &str) -> Result<u8, Failure> {
    let target = Target::parse(text)?;
    let policy = qyvol::load_policy(ctx)?;
    let mut code = 0;
    let mut documents = Vec::new();
    for judged in qyvol::explain(ctx, &target)? {
        let failure = judged.refused.map(Failure::from);
        let report = &judged.report;
        let rule = report.rule.as_ref();
        let decided = rule.and_then(|r| policy.rules().iter().find(|p| p.scope.to_string() == r.scope));
        let verdict = failure.as_ref().map_or("accepted", |_| "refused");
        documents.push(json!({
            "target": text,
            "digest": judged.digest,
            "verdict": verdict,
            "code": failure.as_ref().map_or(0, |f| f.code),
            "reason": failure.as_ref().map(|f| &f.message),
            "report": report,
        }));
        if ui.format == Format::Text {
            ui.data(&format!(
                "{text} is {} {}, {}\njudged as {}\n",
                escape(&report.application),
                escape(&report.version),
                judged.digest,
                escape(report.asked.as_deref().unwrap_or(&report.scope)),
            ));
            ui.data(&match decided {
                Some(rule) => format!("the rule {} decides: {}\n", rule.scope, policy.describe_rule(rule)),
                None => "no rule covers it\n".to_string(),
            });
            for line in report.lines() {
                ui.data(&format!("{line}\n"));
            }
            ui.data(&format!("{verdict}\n"));
        }
        if let Some(failure) = failure {
            code = if code == 0 { failure.code } else { code };
            ui.error(&Failure {
                details: Vec::new(),
                ..failure
            });
        }
    }
    if ui.format != Format::Text {
        ui.show(&json!({"schema": 1, "results": documents}), String::new)?;
    }
    Ok(code)
}
