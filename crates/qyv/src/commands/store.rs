//! `images`, `tag`, `rm`, `prune`, `check`, `save`, `load`.

use std::io::{IsTerminal, Write, stderr, stdin};

use qyvol::store::{PruneItem, PruneKind};
use qyvol::{Context, Destination, ImageName, LoadRequest};
use serde_json::json;

use super::{image_names, reference};
use crate::cli::{CheckArgs, Format, LoadArgs, PruneArgs, RmArgs, SaveArgs, TagArgs};
use crate::failure::Failure;
use crate::ui::{Ui, count, size, table};

/// Characters of a shortened digest: `sha256:` and twelve digits.
const SHORT_DIGEST: usize = 19;

pub fn images(ctx: &Context<'_>, ui: &Ui) -> Result<u8, Failure> {
    let rows = qyvol::images(ctx)?;
    ui.show(&json!({"schema": 1, "images": rows}), || {
        if ui.quiet {
            return rows.iter().map(|r| format!("{}\n", r.name)).collect();
        }
        let cells: Vec<Vec<String>> = rows
            .iter()
            .map(|r| {
                // The form that every verb accepts: the algorithm and twelve digits.
                let short = r.digest.get(..SHORT_DIGEST).unwrap_or(&r.digest).to_string();
                vec![r.name.clone(), short, size(r.size), r.signatures.to_string()]
            })
            .collect();
        table(&["NAME", "DIGEST", "SIZE", "SIGNATURES"], &cells)
    })?;
    Ok(0)
}

pub fn tag(ctx: &Context<'_>, ui: &Ui, args: TagArgs) -> Result<u8, Failure> {
    let (from, to) = (ImageName::parse(&args.from)?, reference(&args.to)?);
    let descriptor = qyvol::tag(ctx, &from, &to)?;
    ui.show(&json!({"schema": 1, "digest": descriptor.digest, "name": to}), || {
        format!("{}\n", descriptor.digest)
    })?;
    Ok(0)
}

pub fn rm(ctx: &Context<'_>, ui: &Ui, args: RmArgs) -> Result<u8, Failure> {
    let names = image_names(&args.names)?;
    let removed = qyvol::remove(ctx, &names)?;
    ui.show(&json!({"schema": 1, "removed": removed}), || {
        removed.iter().map(|n| format!("{n}\n")).collect()
    })?;
    if ui.format == Format::Text {
        ui.note("`qyv prune` removes the blobs that no other name needs");
    }
    Ok(0)
}

pub fn prune(ctx: &Context<'_>, ui: &Ui, args: PruneArgs) -> Result<u8, Failure> {
    let plan = qyvol::prune_plan(ctx)?;
    let summary = format!("{}, {}", count(plan.items.len(), "entry", "entries"), size(plan.bytes));
    if plan.items.is_empty() || args.dry_run {
        ui.show(&json!({"schema": 1, "plan": plan, "removed": null}), || {
            let mut out = String::new();
            for item in &plan.items {
                out.push_str(&row(item));
                out.push('\n');
            }
            match plan.items.is_empty() {
                true => "there is nothing to remove\n".to_string(),
                false => out + &format!("{summary} would be removed\n"),
            }
        })?;
        return Ok(0);
    }
    for item in &plan.items {
        ui.note(&row(item));
    }
    if !args.yes && !confirm(&format!("remove {summary}?"))? {
        ui.note("nothing was removed");
        return Ok(0);
    }
    let removed = qyvol::prune(ctx, &plan)?;
    for (path, why) in &removed.failed {
        ui.warn(&format!("{} was not removed: {why}", path.display()));
    }
    ui.show(&json!({"schema": 1, "plan": plan, "removed": removed}), || {
        format!(
            "removed {}, {}\n",
            count(removed.removed.len(), "entry", "entries"),
            size(removed.bytes)
        )
    })?;
    Ok(u8::from(!removed.failed.is_empty()))
}

fn row(item: &PruneItem) -> String {
    let kind = match item.kind {
        PruneKind::Code => "code",
        PruneKind::Tree => "tree",
        PruneKind::Referrer => "referrer",
        PruneKind::Blob => "blob",
        PruneKind::Staging => "staging",
        PruneKind::Partial => "partial",
        PruneKind::Policy => "policy",
        PruneKind::Quarantine => "damaged",
        _ => "other",
    };
    format!("{kind:<9} {:>8}  {}", size(item.bytes), item.path.display())
}

/// Asks on the terminal; without one, an option must give the answer.
fn confirm(question: &str) -> Result<bool, Failure> {
    if !stdin().is_terminal() {
        return Err(Failure::usage("there is no terminal to ask on")
            .hint("`--yes` goes ahead, `--dry-run` only shows the plan"));
    }
    let mut err = stderr().lock();
    let _ = write!(err, "{question} [y/N] ").and_then(|()| err.flush());
    let mut answer = String::new();
    stdin()
        .read_line(&mut answer)
        .map_err(|e| Failure::new(format!("can't read the answer: {e}")))?;
    Ok(matches!(
        answer.trim().to_lowercase().as_str(),
        "y" | "yes" | "s" | "sí" | "si"
    ))
}

pub fn check(ctx: &Context<'_>, ui: &Ui, args: CheckArgs) -> Result<u8, Failure> {
    let damage = qyvol::check(ctx, args.repair)?;
    ui.show(&json!({"schema": 1, "damage": damage}), || {
        if damage.is_empty() {
            return "the store is not damaged\n".to_string();
        }
        damage
            .iter()
            .map(|d| {
                let path = d.path.to_string_lossy();
                let done = if d.repaired { "repaired; " } else { "" };
                format!("{}: {}\n   = {done}{}\n", qyvol::types::escape(&path), d.what, d.repair)
            })
            .collect()
    })?;
    Ok(u8::from(!damage.is_empty()))
}

pub fn save(ctx: &Context<'_>, ui: &Ui, args: SaveArgs) -> Result<u8, Failure> {
    let names = image_names(&args.names)?;
    let to = Destination {
        path: &args.output,
        force: args.force,
        inputs: &[],
    };
    let bytes = qyvol::save(ctx, &names, &to)?;
    let output = args.output.display().to_string();
    ui.show(&json!({"schema": 1, "output": output, "size": bytes}), || {
        format!("{output}\n")
    })?;
    if ui.format == Format::Text {
        ui.note(&format!(
            "saved {}, {}",
            count(names.len(), "image", "images"),
            size(bytes)
        ));
    }
    Ok(0)
}

pub fn load(ctx: &Context<'_>, ui: &Ui, args: LoadArgs) -> Result<u8, Failure> {
    let request = |path| LoadRequest {
        path,
        verify: !args.no_verify,
        replace: args.replace,
    };
    let mut loaded = Vec::new();
    for file in &args.files {
        for (name, descriptor) in qyvol::load(ctx, &request(file))? {
            loaded.push((name.to_string(), descriptor.digest.to_string()));
        }
    }
    let images: Vec<_> = loaded
        .iter()
        .map(|(name, digest)| json!({"name": name, "digest": digest}))
        .collect();
    ui.show(&json!({"schema": 1, "images": images}), || {
        loaded
            .iter()
            .map(|(name, digest)| format!("{name} {digest}\n"))
            .collect()
    })?;
    Ok(0)
}
