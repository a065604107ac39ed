//! `build --compare`.

use qyvol::{CompareReport, Comparison};
use serde_json::json;

use crate::failure::{FAILED, Failure};
use crate::ui::Ui;

pub fn show(ui: &Ui, report: &CompareReport) -> Result<u8, Failure> {
    let (word, details, code) = match &report.comparison {
        Comparison::Identical => ("identical", None, 0),
        Comparison::SameContent(differs) => ("same-content", Some(differs.join(", ")), 0),
        Comparison::Different(first) => ("different", Some(first.clone()), FAILED),
    };
    let view = json!({
        "schema": 1, "result": word, "digest": report.digest, "built": report.built, "difference": details,
    });
    ui.show(&view, || match (&report.comparison, &details) {
        (Comparison::Identical, _) | (_, None) => format!("identical: {}\n", report.digest),
        (Comparison::SameContent(_), Some(differs)) => format!(
            "same content: manifest, component and files are those of {}; only this differs: {differs}\n",
            report.digest
        ),
        (Comparison::Different(_), Some(first)) => format!("different from {}: {first}\n", report.digest),
    })?;
    Ok(code)
}
