//! `inspect`.

use qyvol::sandbox::Capabilities;
use qyvol::types::{AppFunction, AppManifest, Os, Resources};
use qyvol::{Context, Inspection, Target, WasmView};

use crate::cli::InspectArgs;
use crate::failure::Failure;
use crate::ui::{Ui, count, size};

pub fn inspect(ctx: &Context<'_>, ui: &Ui, args: InspectArgs) -> Result<u8, Failure> {
    if args.remote {
        let client = crate::registry::client(&ctx.home, ui, &args.registry)?;
        let view = qyvol::inspect_remote(ctx, &client, &super::reference(&args.target)?)?;
        ui.show(&view, || image(&view))?;
        return Ok(0);
    }
    let target = Target::parse(&args.target)?;
    if args.wit {
        ui.data(&qyvol::wit(ctx, &target)?);
        return Ok(0);
    }
    if args.sbom.is_some() {
        let sbom = qyvol::sbom(ctx, &target)?;
        if sbom.is_empty() {
            ui.note("the component names no packages: cargo-auditable records those of Rust");
        }
        ui.show(&sbom, || serde_json::to_string_pretty(&sbom).unwrap_or_default() + "\n")?;
        return Ok(0);
    }
    if args.assets {
        let assets = qyvol::assets(ctx, &target)?;
        ui.show(&serde_json::json!({"schema": 1, "assets": assets}), || {
            let line = |asset: &qyvol::image::ListedAsset| {
                format!("{:>12}  {}\n", asset.size, qyvol::types::escape(&asset.path))
            };
            assets.iter().map(line).collect()
        })?;
        return Ok(0);
    }
    if let Target::Wasm(path) = &target {
        let view = qyvol::inspect_wasm(path)?;
        ui.show(&view, || wasm(&view))?;
        return Ok(0);
    }
    let views = qyvol::inspect(ctx, &target)?;
    // One image is one document; several are a list.
    match views.as_slice() {
        [view] => ui.show(view, || image(view))?,
        views => ui.show(&views, || views.iter().map(image).collect::<Vec<_>>().join("\n"))?,
    }
    Ok(0)
}

/// Whether the guest's file system in memory lies over its assets.
fn is_overlaid(app: &AppManifest) -> bool {
    app.assets_root == "/" && Capabilities::read(&app.permissions).is_ok_and(|asked| asked.fs.writes())
}

/// The module that the functions of WASI preview 1 are imported from.
const PREVIEW_1: &str = "wasi_snapshot_preview1";

/// The entry point of a command in WASI 0.3.
const RUN_0_3: &str = "wasi:cli/run@0.3.";

fn kind(os: Os, exports: &[String]) -> &'static str {
    match os {
        Os::Wasip2 if exports.iter().any(|export| export.starts_with(RUN_0_3)) => "component (WASI 0.3)",
        Os::Wasip2 => "component (WASI 0.2)",
        Os::Wasip1 => "core module (WASI preview 1)",
    }
}

fn names(out: &mut String, what: &str, names: &[String]) {
    for (index, name) in names.iter().enumerate() {
        let label = if index == 0 { what } else { "" };
        out.push_str(&format!("{label:<13}{}\n", qyvol::types::escape(name)));
    }
}

fn wasm(view: &WasmView) -> String {
    let mut out = format!(
        "kind         {}\ndigest       {}\nsize         {}\n",
        match view.imports.iter().any(|import| import.starts_with(PREVIEW_1)) {
            false if view.os == Os::Wasip1 => "core module (no WASI)",
            _ => kind(view.os, &view.exports),
        },
        view.digest,
        size(view.size)
    );
    names(&mut out, "imports", &view.imports);
    names(&mut out, "exports", &view.exports);
    out
}

fn word<T: serde::Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

/// A function that the manifest names.
fn described(name: &str, function: &AppFunction) -> String {
    let method = function.method.as_deref();
    let method = method.map_or(String::new(), |method| format!(": {}", qyvol::types::escape(method)));
    let pool = match function.pool.instances() {
        Some(instances) => format!(
            ", {} pool of {}",
            word(&function.pool.kind),
            count(instances, "instance", "instances")
        ),
        None => String::new(),
    };
    format!("{name}{method}{pool}{}", own_limits(&function.limits))
}

fn own_limits(limits: &Resources) -> String {
    match *limits == Resources::default() {
        true => String::new(),
        false => format!(", {limits}"),
    }
}

fn image(view: &Inspection) -> String {
    let app = &view.app;
    let mut out = String::new();
    let mut line = |what: &str, value: String| out.push_str(&format!("{what:<13}{value}\n"));
    line("name", view.name.clone());
    for name in view.names.iter().filter(|name| **name != view.name) {
        line("saved as", format!("{name} (not judged: see `qyv load`)"));
    }
    line("digest", view.digest.clone());
    match view.archive_size {
        Some(archive) => line("size", format!("{} ({} as a file)", size(view.size), size(archive))),
        None => line("size", size(view.size)),
    }
    line("created", view.created.clone());
    line("kind", kind(view.os, &view.exports).to_string());
    line(
        "entrypoint",
        format!(
            "{} ({}, {})",
            qyvol::types::escape(&app.entrypoint),
            size(view.component_size),
            view.component_digest
        ),
    );
    if let Some(source) = &view.source {
        let (name, digest) = (qyvol::types::escape(&source.name), qyvol::types::escape(&source.digest));
        line("imported", format!("from {name}, {digest}"));
    }
    for (index, dependency) in view.dependencies.iter().enumerate() {
        let label = if index == 0 { "linked" } else { "" };
        line(label, super::dependencies::shown(dependency));
    }
    if let Some(language) = &app.language {
        line("language", qyvol::types::escape(language).to_string());
    }
    line("type", word(&app.app_type));
    line("permissions", qyvol::sandbox::describe(&app.permissions));
    for sentence in &view.permissions_in_words {
        line("", sentence.clone());
    }
    let source = app.fs.source.as_deref().map(qyvol::types::escape);
    line(
        "fs",
        source.map_or(word(&app.fs.kind), |source| {
            format!("{}, the files at {source}", word(&app.fs.kind))
        }),
    );
    if let Some(assets) = &view.assets {
        line(
            "assets",
            format!(
                "{}, {} at {}{}",
                count(usize::try_from(assets.files).unwrap_or(usize::MAX), "file", "files"),
                size(assets.bytes),
                qyvol::types::escape(&app.assets_root),
                if is_overlaid(app) { ", under memfs" } else { "" }
            ),
        );
    }
    if let Some(memory) = app.resources.memory {
        line("memory", size(memory));
    }
    if let Some(storage) = app.resources.storage {
        line("storage", size(storage));
    }
    if let Some(timeout) = app.resources.timeout {
        line(
            "timeout",
            crate::ui::format_duration(std::time::Duration::from_millis(timeout)),
        );
    }
    let others = Resources {
        memory: None,
        timeout: None,
        ..app.resources
    };
    if others != Resources::default() {
        line("limits", others.to_string());
    }
    if app.serve.reuses() {
        line("reuse", super::reuse(&app.serve));
    }
    for (index, (name, function)) in app.functions.iter().enumerate() {
        line(if index == 0 { "functions" } else { "" }, described(name, function));
    }
    for (index, (name, process)) in app.processes.iter().enumerate() {
        let label = if index == 0 { "processes" } else { "" };
        let (method, restart) = (qyvol::types::escape(&process.method), word(&process.restart));
        line(
            label,
            format!("{name}: {method}, restart {restart}{}", own_limits(&process.limits)),
        );
    }
    for (index, (name, value)) in app.env.iter().enumerate() {
        let label = if index == 0 { "env" } else { "" };
        line(
            label,
            format!("{}={}", qyvol::types::escape(name), qyvol::types::escape(value)),
        );
    }
    if view.signatures.is_empty() {
        line("signatures", "none".to_string());
    }
    for (index, signature) in view.signatures.iter().enumerate() {
        let label = if index == 0 { "signatures" } else { "" };
        let key = signature.key.as_deref().unwrap_or("no key named");
        let text = match &signature.problem {
            Some(problem) => format!("unreadable: {problem}"),
            None => format!("{key} (not judged: see `qyv verify`)"),
        };
        line(label, text);
    }
    for (index, attestation) in view.attestations.iter().enumerate() {
        let label = if index == 0 { "attested" } else { "" };
        let by = attestation
            .key
            .as_ref()
            .map_or_else(String::new, |key| format!(" by {key}"));
        let kind = qyvol::types::escape(&attestation.predicate_type);
        line(label, format!("{kind}, {}{by} (not judged)", size(attestation.size)));
    }
    names(&mut out, "imports", &view.imports);
    names(&mut out, "exports", &view.exports);
    out
}
