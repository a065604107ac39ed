//! `attest`.

use qyvol::types::escape;
use qyvol::{AttestRequest, Context, Stated, Target};
use serde_json::json;

use super::author::report_first_key;
use crate::cli::{AttestArgs, Format};
use crate::failure::Failure;
use crate::ui::{Ui, size};
use crate::{provenance, secrets};

pub fn attest(ctx: &Context<'_>, ui: &Ui, args: &AttestArgs) -> Result<u8, Failure> {
    let target = Target::parse(&args.target)?;
    let signer = secrets::Signer::with_options(args.signer.as_deref(), args.key.as_deref())?;
    let stated = match (&args.predicate_type, &args.predicate, &args.sbom) {
        (Some(predicate_type), Some(file), _) => Stated::Predicate { predicate_type, file },
        (_, _, Some(file)) => Stated::Sbom(file),
        _ => Stated::Known {
            predicate_type: provenance::TYPE,
            predicate: provenance::from_environment()?,
        },
    };
    let request = AttestRequest {
        target: &target,
        signer: signer.choose(args.key.as_deref(), false),
        stated,
        passphrase: &secrets::passphrase,
    };
    let report = qyvol::attest(ctx, &request)?;
    report_first_key(ui, report.first_key.as_ref());
    let view = json!({
        "schema": 1, "digest": report.digest, "name": report.image, "type": report.predicate_type,
        "signedBy": report.fingerprint, "size": report.size,
    });
    ui.show(&view, || format!("{}\n", report.digest))?;
    if ui.format == Format::Text {
        ui.note(&format!(
            "attested {} as {} ({}), signed by {}",
            report.image,
            escape(&report.predicate_type),
            size(report.size),
            report.fingerprint
        ));
    }
    Ok(0)
}
