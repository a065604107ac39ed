//! `init`.

use std::path::Path;

use qyvol::types::escape;
use qyvol::{Context, InitRequest, Language};
use serde_json::json;

use crate::cli::{Format, InitArgs};
use crate::failure::Failure;
use crate::toolchain::{Tools, tools};
use crate::ui::{Ui, count};

pub fn init(ctx: &Context<'_>, ui: &Ui, args: &InitArgs) -> Result<u8, Failure> {
    let language = Language::from(args.lang);
    let request = InitRequest {
        parent: Path::new(""),
        name: &args.name,
        language,
        app_type: args.app_type.map(Into::into),
    };
    let made = qyvol::init(ctx, &request)?;
    let missing = match tools(language.name()) {
        Some(Tools::Lacking(what, from)) => Some((what, from)),
        Some(Tools::Found(_)) | None => None,
    };
    let directory = made.directory.display().to_string();
    let view = json!({
        "schema": 1, "directory": directory, "type": made.app_type, "files": made.files,
        "missing": missing.as_ref().map(|(what, from)| json!({"what": what, "fix": from})),
        "next": made.commands,
    });
    ui.show(&view, || format!("{directory}\n"))?;
    if ui.format == Format::Text {
        let files = count(made.files.len(), "file", "files");
        ui.note(&format!("created {}/ with {files}", escape(&directory)));
        if let Some((what, from)) = missing {
            ui.warn(&format!("{what}: {from}"));
        }
        ui.note("next:");
        ui.note(&format!("  cd {directory}"));
        made.commands
            .iter()
            .for_each(|command| ui.note(&format!("  {command}")));
    }
    Ok(0)
}
