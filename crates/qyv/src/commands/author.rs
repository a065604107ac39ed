//! `validate`, `build`, `sign`, `clean`.

use qyvol::image::AssetPlan;
use qyvol::sandbox::Denied;
use qyvol::types::{AppManifest, Reference, Timestamp, escape};
use qyvol::{
    BuildReport, BuildRequest, Children, Claims, CleanRequest, CompareRequest, Context, Error, FirstKey, Linking,
    LockUse, SignRequest, Target,
};
use serde::Serialize;
use serde_json::json;

use super::reference;
use crate::cli::{BuildArgs, ClaimArgs, CleanArgs, Format, SignArgs, ValidateArgs};
use crate::failure::{Failure, chain};
use crate::project::{hint_build, run_build};
use crate::secrets;
use crate::ui::{Ui, count, size};

pub fn validate(ctx: &Context<'_>, ui: &Ui, args: &ValidateArgs) -> Result<u8, Failure> {
    let (path, checked) = match qyvol::validate(&args.path) {
        Ok(manifest) => (manifest.path.clone(), qyvol::check_application(ctx, manifest)),
        Err(error) => (args.path.clone(), Err(error)),
    };
    if ui.format == Format::Text {
        let valid = checked.map_err(|error| hint_build(error.into(), &args.path))?;
        let app = valid.builder.app();
        notes(ui, app, valid.builder.assets(), &valid.denied_imports());
        ui.data(&format!("{} is valid: {} {}\n", path.display(), app.name, app.version));
        return Ok(0);
    }
    // For editors: problems are data, the exit code says there are some.
    let (path, problems, app) = match checked {
        Ok(valid) => (path, Vec::new(), Some(valid.builder.app().clone())),
        Err(Error::Yaml { path, problems }) => {
            let problems = problems.0.iter().map(serde_json::to_value).collect::<Result<_, _>>();
            (path, problems.map_err(|e| Failure::new(e.to_string()))?, None)
        }
        // The manifest can't be read at all.
        Err(error @ (Error::File { .. } | Error::Usage(_))) => return Err(error.into()),
        // What a build would refuse has no place in the text.
        Err(other) => (path, vec![json!({"message": chain(&other)})], None),
    };
    let code = u8::from(!problems.is_empty());
    let value = json!({"schema": 1, "path": path.display().to_string(), "valid": code == 0, "problems": problems, "manifest": app});
    ui.show(&value, String::new)?;
    Ok(code)
}

/// What the signature says. One that would be over when it is made is a mistake.
pub fn claims(ctx: &Context<'_>, args: &ClaimArgs) -> Result<Claims, Failure> {
    let expires = match &args.expires {
        Some(text) => {
            let time = text
                .parse::<Timestamp>()
                .map_err(|why| Failure::usage(format!("--expires {text} is {why}")))?;
            let made = ctx.source_date.unwrap_or(ctx.now);
            if time <= made {
                return Err(
                    Failure::usage(format!("--expires {text} is not after the time of signing, {made}"))
                        .hint("leave it out for a signature that does not expire"),
                );
            }
            Some(time)
        }
        None => None,
    };
    let role = &args.role;
    if !qyvol::trust::is_role(role) {
        return Err(Failure::usage(format!(
            "--role {}: a role is 1 to 32 of a-z, 0-9 and -, such as release",
            qyvol::types::escape(role)
        )));
    }
    Ok(Claims {
        role: role.clone(),
        sequence: args.sequence,
        expires,
    })
}

/// More names for an image that is built.
pub fn more_names(tags: &[String]) -> Result<Vec<Reference>, Failure> {
    let mut names = Vec::new();
    for tag in tags {
        let tag: Reference = reference(tag)?;
        if tag.digest().is_some() {
            return Err(Failure::usage(format!("{tag} has a digest: a tag is a name alone")));
        }
        names.push(tag);
    }
    Ok(names)
}

pub fn build(ctx: &Context<'_>, ui: &Ui, args: BuildArgs, children: &Children) -> Result<u8, Failure> {
    let client = || Ok(crate::registry::client(&ctx.home, ui, &args.registry)?);
    let linking = Linking {
        pull: super::run::pull(args.pull, &client),
        lock: match args.locked {
            true => LockUse::Locked,
            false => LockUse::Extended,
        },
    };
    if let Some(image) = &args.compare {
        let request = CompareRequest {
            path: &args.path,
            image: &Target::parse(image)?,
            componentize: args.componentize,
            linking,
        };
        return super::compare::show(ui, &qyvol::compare(ctx, &request)?);
    }
    let (tags, claims) = (more_names(&args.tags)?, claims(ctx, &args.claims)?);
    if args.run_build {
        run_authors_build(ui, &args, children)?;
    }
    let signer = secrets::Signer::with_options(args.signer.as_deref(), args.key.as_deref())?;
    let request = BuildRequest {
        path: &args.path,
        output: args.output.as_deref(),
        force: args.force,
        tags,
        signer: signer.choose(args.key.as_deref(), args.no_sign),
        claims,
        passphrase: &secrets::passphrase,
        componentize: args.componentize,
        linking,
    };
    let built = qyvol::build(ctx, &request);
    let report = built.map_err(|error| hint_build(error.into(), &args.path))?;
    report_build(ui, &report);
    show_build(ui, &report, None)
}

/// Runs the `build` of the manifest, before a key is read. The manifest is read again afterwards.
fn run_authors_build(ui: &Ui, args: &BuildArgs, children: &Children) -> Result<(), Failure> {
    crate::variables::refuse_empty()?;
    let manifest = qyvol::validate(&args.path)?;
    let Some(build) = &manifest.app.build else {
        let path = escape(&manifest.path.to_string_lossy()).to_string();
        return Err(
            Failure::usage(format!("{path} has no `build` that --run-build could run"))
                .hint("add one, such as `build: [cargo, build, --release]`, or leave --run-build out"),
        );
    };
    let built = run_build(ui, &manifest, build, children);
    if children.is_over() {
        // A signal ends this process, as soon as its temporaries are removed.
        loop {
            std::thread::park();
        }
    }
    built
}

/// What an author should know before the result of a build.
pub fn report_build(ui: &Ui, report: &BuildReport) {
    report_first_key(ui, report.first_key.as_ref());
    for file in &report.assets.files {
        ui.detail(&format!("packed {} ({})", escape(file.path.as_str()), size(file.size)));
    }
    let linked = report.built.config.lock.iter().flat_map(|lock| &lock.dependencies);
    for dependency in linked {
        ui.note(&format!(
            "linked {} for {}: it has the application's permissions",
            dependency.name, dependency.key
        ));
    }
    if let Some(lock) = &report.lock {
        ui.note(&format!("wrote {}", escape(&lock.to_string_lossy())));
    }
    let app = &report.built.config.qyv.app;
    for sentence in qyvol::sandbox::in_words(app, !report.assets.files.is_empty()) {
        ui.note(&sentence);
    }
    notes(ui, app, &report.assets, &report.denied_imports);
    if report.signed_by.is_none() {
        ui.warn("not signed: hosts refuse to run it");
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BuildView<'a> {
    schema: u32,
    digest: String,
    name: String,
    output: String,
    size: u64,
    tags: Vec<String>,
    signed_by: Option<&'a str>,
    denied_imports: Vec<&'a str>,
    left_out: &'a [String],
    /// Where an imported component came from, and what of it was left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<serde_json::Value>,
}

/// The digest on stdout; what was built on stderr. `source` is printed as data.
pub fn show_build(ui: &Ui, report: &BuildReport, source: Option<serde_json::Value>) -> Result<u8, Failure> {
    let digest = report.built.descriptor.digest.to_string();
    let view = BuildView {
        schema: 1,
        digest: digest.clone(),
        name: report.built.name.to_string(),
        output: report.output.display().to_string(),
        size: report.size,
        tags: report.tags.iter().map(ToString::to_string).collect(),
        signed_by: report.signed_by.as_deref(),
        denied_imports: report
            .denied_imports
            .iter()
            .flat_map(|d| &d.imports)
            .map(String::as_str)
            .collect(),
        left_out: &report.assets.left_out,
        source,
    };
    ui.show(&view, || format!("{digest}\n"))?;
    if ui.format == Format::Text {
        let signed = match &report.signed_by {
            Some(fingerprint) => format!("signed by {fingerprint}"),
            None => "unsigned".to_string(),
        };
        ui.note(&format!(
            "built {} ({}), {} as {}",
            view.output,
            size(view.size),
            signed,
            view.tags.join(", ")
        ));
    }
    Ok(0)
}

/// Names that a note shows; `-v` shows all.
const MAX_SHOWN: usize = 3;

/// What an author should know of a build that is no fault.
fn notes(ui: &Ui, app: &AppManifest, assets: &AssetPlan, denied: &[Denied]) {
    if app.serve.reuses() {
        ui.note(&format!("note: `serve.reuse`: {}", super::reuse(&app.serve)));
    }
    for denied in denied {
        ui.note(&format!(
            "note: imports {}: `{}` {}",
            some(ui, &denied.imports),
            denied.permission,
            denied.effect
        ));
    }
    if !assets.left_out.is_empty() {
        ui.note(&format!(
            "note: {} left out of the assets: {}; name a file explicitly to pack it",
            count(assets.left_out.len(), "entry", "entries"),
            some(ui, &assets.left_out)
        ));
    }
    for skipped in &assets.skipped_directories {
        ui.note(&format!(
            "note: `{}` does not enter {}; a glob that ends in `/**` does",
            escape(&skipped.glob),
            escape(&skipped.directory)
        ));
    }
}

/// The first of some names, or with `-v` all.
pub fn some(ui: &Ui, names: &[String]) -> String {
    let shown = if ui.verbose { names.len() } else { MAX_SHOWN };
    let mut text = names
        .iter()
        .take(shown)
        .map(|name| escape(name).to_string())
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > shown {
        text.push_str(&format!(" and {} more", names.len() - shown));
    }
    text
}

/// Reports a key that was made.
pub fn report_first_key(ui: &Ui, key: Option<&FirstKey>) {
    if let Some(key) = key {
        ui.note(&format!("made this machine's first key: {}", key.fingerprint));
        if key.trusted {
            ui.note("it is trusted for local files on this machine (trust.yaml); other hosts decide for themselves");
        } else {
            ui.note("there is a trust policy already, which was left as it is: the key is not trusted by it");
        }
    }
}

pub fn sign(ctx: &Context<'_>, ui: &Ui, args: SignArgs) -> Result<u8, Failure> {
    let target = Target::parse(&args.target)?;
    if args.print_predicate {
        let predicate = qyvol::release_predicate(ctx, &target, &claims(ctx, &args.claims)?)?;
        ui.data(&format!("{predicate}\n"));
        return Ok(0);
    }
    let signer = secrets::Signer::with_options(args.signer.as_deref(), args.key.as_deref())?;
    let request = SignRequest {
        target: &target,
        signer: signer.choose(args.key.as_deref(), false),
        claims: claims(ctx, &args.claims)?,
        passphrase: &secrets::passphrase,
    };
    let report = qyvol::sign(ctx, &request)?;
    report_first_key(ui, report.first_key.as_ref());
    let view = json!({
        "schema": 1, "digest": report.digest, "name": report.image,
        "signedBy": report.fingerprint, "signatures": report.signatures,
    });
    ui.show(&view, || format!("{}\n", report.digest))?;
    if ui.format == Format::Text {
        ui.note(&format!(
            "signed {} by {}: {} now",
            report.image,
            report.fingerprint,
            count(report.signatures, "signature", "signatures")
        ));
    }
    Ok(0)
}

pub fn clean(ctx: &Context<'_>, ui: &Ui, args: CleanArgs) -> Result<u8, Failure> {
    let request = CleanRequest {
        target: &Target::parse(&args.target)?,
        dry_run: args.dry_run,
        all: args.all,
    };
    let removed = qyvol::clean(ctx, &request)?;
    let rows: Vec<_> = removed
        .iter()
        .map(|r| json!({"digest": r.digest, "fingerprint": r.fingerprint}))
        .collect();
    let value = json!({"schema": 1, "removed": rows, "dryRun": args.dry_run});
    ui.show(&value, || {
        removed
            .iter()
            .map(|r| format!("{} {}\n", r.digest, r.fingerprint.as_deref().unwrap_or("-")))
            .collect()
    })?;
    if ui.format == Format::Text {
        let verb = if args.dry_run { "would be removed" } else { "removed" };
        ui.note(&format!("{verb}: {}", count(removed.len(), "signature", "signatures")));
    }
    Ok(0)
}
