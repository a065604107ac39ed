//! `import`.

use qyvol::image::ImageError;
use qyvol::sandbox::Denied;
use qyvol::store::StoreError;
use qyvol::types::{AppManifest, Reference, escape};
use qyvol::{Context, Error, ImportReport, ImportRequest, Target};
use serde_json::json;

use super::author::{claims, more_names, report_build, show_build, some};
use crate::cli::{Format, ImportArgs};
use crate::failure::Failure;
use crate::registry::{client, inputs};
use crate::secrets;
use crate::ui::{Ui, count};

pub fn import(ctx: &Context<'_>, ui: &Ui, args: ImportArgs) -> Result<u8, Failure> {
    let source = Target::parse(&args.source)?;
    let name = args.name.as_deref().map(own_name).transpose()?;
    let signer = secrets::Signer::read()?;
    let inputs = inputs(&ctx.home, &args.registry);
    let request = ImportRequest {
        source: &source,
        manifest: args.manifest.as_deref(),
        name: name.as_ref(),
        layer: args.layer.as_deref(),
        replace: args.replace,
        output: args.output.as_deref(),
        force: args.force,
        inputs: &inputs,
        tags: more_names(&args.tags)?,
        signer: signer.choose(args.key.as_deref(), args.no_sign),
        claims: claims(ctx, &args.claims)?,
        passphrase: &secrets::passphrase,
    };
    let report = qyvol::import(ctx, &client(&ctx.home, ui, &args.registry)?, &request);
    let report = report.map_err(|error| failure(error, &source))?;
    report_build(ui, &report.build);
    print_report(ui, &report);
    show_build(ui, &report.build, Some(source_view(&report)))
}

/// What failed, with the hints that fit a source in a registry.
fn failure(error: Error, source: &Target) -> Failure {
    let is_wasm = matches!(&error, Error::Image { source, .. } if matches!(source, ImageError::Wasm(_)));
    let is_taken = matches!(&error, Error::Store(StoreError::NameTaken { .. }));
    let mut failure = Failure::from(error);
    if is_taken {
        failure.hints = vec!["--replace moves it; --name NAME:VERSION gives the image another name".to_string()];
    }
    if let Target::Image(name) = source {
        // The usual hint is about a file.
        if is_wasm {
            failure.hints.clear();
        }
        if name.reference().is_some() && name.in_registry().is_none() {
            failure.hints.push(format!("on Docker Hub it is docker.io/{name}"));
        }
    }
    failure
}

/// `NAME:VERSION`: both are said.
fn own_name(text: &str) -> Result<Reference, Failure> {
    let parsed = text.parse::<Reference>().ok();
    let name = parsed.filter(|name| name.registry().is_none() && name.digest().is_none() && text.contains(':'));
    name.ok_or_else(|| {
        Failure::usage(format!(
            "--name {}: expected NAME:VERSION, such as hello:1.0.0",
            escape(text)
        ))
    })
}

fn source_view(report: &ImportReport) -> serde_json::Value {
    let signatures = |origin: &qyvol::Origin| {
        let all = origin.signatures.iter();
        all.map(|(kind, count)| json!({"kind": kind, "count": count}))
            .collect::<Vec<_>>()
    };
    json!({
        "name": report.origin.as_ref().map(|origin| &origin.name),
        "digest": report.origin.as_ref().map(|origin| origin.digest),
        "layer": report.origin.as_ref().map(|origin| origin.layer),
        "signatures": report.origin.as_ref().map(signatures).unwrap_or_default(),
        "leftOut": report.left_out,
    })
}

/// Prints its origin, what was left out, and a manifest that would grant more.
fn print_report(ui: &Ui, report: &ImportReport) {
    if ui.format != Format::Text {
        return;
    }
    if !report.left_out.is_empty() {
        let number = count(report.left_out.len(), "part", "parts");
        ui.warn(&format!(
            "{number} of the source left out: {}",
            some(ui, &report.left_out)
        ));
    }
    if report.made_manifest && !report.build.denied_imports.is_empty() {
        ui.note("note: the manifest that was made grants nothing; one that would, for --manifest FILE.qyv:");
        for line in granting(&report.build.built.config.qyv.app, &report.build.denied_imports) {
            ui.note(&format!("  {line}"));
        }
    }
    let Some(origin) = &report.origin else { return };
    ui.note(&format!("imported {} (digest {})", origin.name, origin.digest));
    if !origin.signatures.is_empty() {
        let kinds = origin.signatures.iter().map(|(kind, n)| format!("{n} {kind}"));
        let kinds = kinds.collect::<Vec<_>>().join(", ");
        let yours = if report.build.signed_by.is_some() {
            "; hosts check yours"
        } else {
            ""
        };
        ui.note(&format!(
            "  signatures on the source, neither checked nor inherited: {kinds}{yours}"
        ));
    }
}

/// The lines of a manifest that grants what is denied.
fn granting(app: &AppManifest, denied: &[Denied]) -> Vec<String> {
    let mut lines = vec![
        format!("name: \"{}\"", app.name),
        format!("version: \"{}\"", app.version),
        format!("entrypoint: \"{}\"", app.entrypoint),
        "permissions:".to_string(),
    ];
    lines.extend(denied.iter().map(|denied| format!("  {}", denied.grant)));
    lines
}
