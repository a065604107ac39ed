//! `data`: what applications keep on this host.

use qyvol::{Context, DataName};
use serde_json::json;

use crate::cli::DataCommand;
use crate::failure::Failure;
use crate::ui::{Ui, size, table};

pub fn data(ctx: &Context<'_>, ui: &Ui, command: DataCommand) -> Result<u8, Failure> {
    match command {
        DataCommand::Ls => {
            let rows = qyvol::data_list(ctx)?;
            ui.show(&json!({"schema": 1, "data": rows}), || {
                let rows: Vec<Vec<String>> = rows
                    .iter()
                    .map(|row| vec![row.name.application.clone(), size(row.bytes), row.name.owner.clone()])
                    .collect();
                table(&["APPLICATION", "SIZE", "OWNER"], &rows)
            })?;
        }
        DataCommand::Move {
            application,
            to,
            owner,
            to_owner,
        } => {
            let from = qyvol::data_find(ctx, &application, owner.as_deref())?;
            let to = DataName {
                owner: to_owner.unwrap_or_else(|| from.name.owner.clone()),
                application: to,
            };
            let path = qyvol::data_move(ctx, &from, &to)?;
            ui.note(&format!(
                "the data of {} owned by {} is in {}",
                to.application,
                to.owner,
                path.display()
            ));
        }
        DataCommand::Rm { application, owner } => {
            let row = qyvol::data_find(ctx, &application, owner.as_deref())?;
            qyvol::data_remove(&row)?;
            ui.note(&format!(
                "removed the data of {} owned by {} ({})",
                row.name.application,
                row.name.owner,
                size(row.bytes)
            ));
        }
    }
    Ok(0)
}
