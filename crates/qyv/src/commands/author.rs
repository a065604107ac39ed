//! `validate`, `build`, `sign`.

use qyvol::types::{Reference, Timestamp};
use qyvol::{BuildReport, BuildRequest, Claims, Context, Error, FirstKey, SignRequest, Target};
use serde::Serialize;
use serde_json::json;

use super::reference;
use crate::cli::{BuildArgs, ClaimArgs, Format, SignArgs, ValidateArgs};
use crate::failure::Failure;
use crate::secrets;
use crate::ui::{Ui, size};

pub fn validate(ui: &Ui, args: &ValidateArgs) -> Result<u8, Failure> {
    let result = qyvol::validate(&args.path);
    if ui.format == Format::Text {
        let valid = result?;
        ui.data(&format!(
            "{} is valid: {} {}\n",
            valid.path.display(),
            valid.app.name,
            valid.app.version
        ));
        return Ok(0);
    }
    // For editors: problems are data, the exit code says there are some.
    let (path, problems, app) = match result {
        Ok(valid) => (valid.path, Vec::new(), Some(valid.app)),
        Err(Error::Yaml { path, problems }) => (path, problems.0, None),
        Err(other) => return Err(other.into()),
    };
    let code = u8::from(!problems.is_empty());
    let value = json!({"schema": 1, "path": path.display().to_string(), "valid": code == 0, "problems": problems, "manifest": app});
    ui.show(&value, String::new)?;
    Ok(code)
}

fn claims(args: &ClaimArgs) -> Result<Claims, Failure> {
    let expires = match &args.expires {
        Some(text) => {
            let time = text
                .parse::<Timestamp>()
                .map_err(|why| Failure::usage(format!("--expires {text} is {why}")))?;
            Some(time)
        }
        None => None,
    };
    Ok(Claims {
        role: args.role.clone(),
        sequence: args.sequence,
        expires,
    })
}

pub fn build(ctx: &Context<'_>, ui: &Ui, args: BuildArgs) -> Result<u8, Failure> {
    let mut tags = Vec::new();
    for tag in &args.tags {
        let tag: Reference = reference(tag)?;
        if tag.digest().is_some() {
            return Err(Failure::usage(format!("{tag} has a digest: a tag is a name alone")));
        }
        tags.push(tag);
    }
    let signer = secrets::Signer::read()?;
    let request = BuildRequest {
        path: &args.path,
        output: args.output.as_deref(),
        tags,
        signer: signer.choose(args.key.as_deref(), args.no_sign),
        claims: claims(&args.claims)?,
        passphrase: &secrets::passphrase,
        componentize: args.componentize,
    };
    let report = qyvol::build(ctx, &request)?;
    announce_key(ui, report.first_key.as_ref());
    for (import, permission) in &report.built.denied {
        ui.note(&format!(
            "note: imports {import}, which `{permission}` denies: its calls will fail with an access error"
        ));
    }
    if report.signed_by.is_none() {
        ui.warn("not signed: hosts refuse to run it");
    }
    show_build(ui, &report)
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
}

fn show_build(ui: &Ui, report: &BuildReport) -> Result<u8, Failure> {
    let digest = report.built.descriptor.digest.to_string();
    let view = BuildView {
        schema: 1,
        digest: digest.clone(),
        name: report.built.image.name.to_string(),
        output: report.output.display().to_string(),
        size: report.size,
        tags: report.tags.iter().map(ToString::to_string).collect(),
        signed_by: report.signed_by.as_deref(),
        denied_imports: report.built.denied.iter().map(|(import, _)| import.as_str()).collect(),
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

/// Tells of a key that was made.
pub fn announce_key(ui: &Ui, key: Option<&FirstKey>) {
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
    let signer = secrets::Signer::read()?;
    let request = SignRequest {
        target: &target,
        signer: signer.choose(args.key.as_deref(), false),
        claims: claims(&args.claims)?,
        passphrase: &secrets::passphrase,
    };
    let report = qyvol::sign(ctx, &request)?;
    announce_key(ui, report.first_key.as_ref());
    let view = json!({
        "schema": 1, "digest": report.digest, "name": report.image,
        "signedBy": report.fingerprint, "signatures": report.signatures,
    });
    ui.show(&view, || format!("{}\n", report.digest))?;
    if ui.format == Format::Text {
        ui.note(&format!(
            "signed {} by {}: {} signatures now",
            report.image, report.fingerprint, report.signatures
        ));
    }
    Ok(0)
}
