//! `completions`, `man`, `version`.

use std::path::Path;

use serde_json::json;

use crate::failure::Failure;
use crate::ui::Ui;

pub fn completions(ui: &Ui, shell: clap_complete::Shell, command: &mut clap::Command) -> Result<u8, Failure> {
    let mut out = Vec::new();
    clap_complete::generate(shell, command, "qyv", &mut out);
    ui.data(&String::from_utf8_lossy(&out));
    Ok(0)
}

pub fn man(folder: &Path, command: clap::Command) -> Result<u8, Failure> {
    let failed = |e: std::io::Error| Failure::new(format!("can't write man pages into {}: {e}", folder.display()));
    std::fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(command, folder).map_err(failed)?;
    Ok(0)
}

pub fn version(ui: &Ui) -> Result<u8, Failure> {
    let value = json!({
        "schema": 1,
        "version": env!("CARGO_PKG_VERSION"),
        "wasmtime": qyvol::runtime::WASMTIME_VERSION,
        "target": format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
    });
    ui.show(&value, || {
        format!(
            "qyv {} (wasmtime {}, {}-{})\n",
            env!("CARGO_PKG_VERSION"),
            qyvol::runtime::WASMTIME_VERSION,
            std::env::consts::ARCH,
            std::env::consts::OS
        )
    })?;
    Ok(0)
}
