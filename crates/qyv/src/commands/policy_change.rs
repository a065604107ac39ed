//! What a command has changed in the trust policy, as it is shown.

use qyvol::PolicyChange;
use qyvol::trust::Scope;
use serde_json::json;

use crate::failure::Failure;
use crate::ui::Ui;

/// Prints what has changed, and what a new scope admits.
pub fn show_change(ui: &Ui, change: &PolicyChange, scope: Option<&Scope>) -> Result<(), Failure> {
    for warning in &change.warnings {
        ui.warn(warning);
    }
    let describe_scope = scope.map_or_else(Vec::new, |scope| qyvol::describe_scope(&change.policy, scope));
    let document = json!({
        "schema": 1,
        "path": change.path,
        "created": change.created,
        "serial": change.policy.serial(),
        "changes": change.notes,
        "warnings": change.warnings,
        "admits": describe_scope,
    });
    ui.show(&document, || {
        let made = if change.created { " (new)" } else { "" };
        let mut text = format!("{}{made}:\n", change.path.display());
        if change.notes.is_empty() {
            text.push_str("  nothing to change\n");
        }
        for line in &change.notes {
            text.push_str(&format!("  {line}\n"));
        }
        for line in &describe_scope {
            text.push_str(&format!("{line}\n"));
        }
        text
    })
}
