//! What is linked in: the licences of all dependencies, and an SBOM (CycloneDX 1.6).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::Release;
use crate::process::output;

/// A crate that is part of the binary.
pub(super) struct Dependency {
    name: String,
    version: String,
    licence: String,
    directory: PathBuf,
    is_ours: bool,
}

/// Every crate that `qyv` is built of for the target, by name.
pub(super) fn all(release: &Release) -> Result<Vec<Dependency>, String> {
    let mut cargo = Command::new("cargo");
    cargo
        .args([
            "tree",
            "--locked",
            "-p",
            "qyv",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--no-dedupe",
        ])
        .args(["--format", "{p}", "--target", &release.target])
        .current_dir(&release.root);
    let linked: BTreeSet<(String, String)> = output(&mut cargo)?
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some((
                words.next()?.to_string(),
                words.next()?.trim_start_matches('v').to_string(),
            ))
        })
        .collect();
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--locked", "--format-version", "1"]);
    let metadata = output(cargo.current_dir(&release.root))?;
    let metadata: Value = serde_json::from_str(&metadata).map_err(|e| format!("cargo metadata: {e}"))?;
    let mut found = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let text = |key: &str| package[key].as_str().unwrap_or_default().to_string();
        let dependency = Dependency {
            name: text("name"),
            version: text("version"),
            licence: text("license"),
            directory: Path::new(&text("manifest_path"))
                .parent()
                .map(PathBuf::from)
                .unwrap_or_default(),
            is_ours: package["source"].is_null(),
        };
        if linked.contains(&(dependency.name.clone(), dependency.version.clone())) {
            found.push(dependency);
        }
    }
    found.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    match found.len() == linked.len() {
        true => Ok(found),
        false => Err(format!(
            "{} crates are linked, {} are described",
            linked.len(),
            found.len()
        )),
    }
}

/// The texts of all licences, each once, with the crates that they are of.
pub(super) fn licences(dependencies: &[Dependency]) -> Result<String, String> {
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut page = String::from("qyv is made of these crates, besides its own:\n\n");
    for dependency in dependencies.iter().filter(|dependency| !dependency.is_ours) {
        let title = format!("{} {}", dependency.name, dependency.version);
        page.push_str(&format!("{title}: {}\n", dependency.licence));
        let entries = fs::read_dir(&dependency.directory);
        let entries = entries.map_err(|e| format!("{}: {e}", dependency.directory.display()))?;
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().to_uppercase();
            let is_licence = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"]
                .iter()
                .any(|start| name.starts_with(start));
            if let Some(text) = is_licence.then(|| fs::read_to_string(entry.path()).ok()).flatten() {
                texts.entry(text).or_default().push(title.clone());
            }
        }
    }
    let rule = "-".repeat(80);
    for (text, mut titles) in texts {
        titles.dedup();
        page.push_str(&format!(
            "\n{rule}\n{}\n{rule}\n\n{}\n",
            titles.join(", "),
            text.trim_end()
        ));
    }
    Ok(page)
}

/// The bill of materials.
pub(super) fn sbom(release: &Release, dependencies: &[Dependency]) -> Result<String, String> {
    let purl = |d: &Dependency| format!("pkg:cargo/{}@{}", d.name, d.version);
    let components: Vec<Value> = dependencies
        .iter()
        .filter(|dependency| dependency.name != "qyv")
        .map(|dependency| {
            json!({
                "type": "library",
                "bom-ref": purl(dependency),
                "name": dependency.name,
                "version": dependency.version,
                "purl": purl(dependency),
                // The form of before SPDX expressions.
                "licenses": [{ "expression": dependency.licence.replace('/', " OR ") }],
            })
        })
        .collect();
    let component = json!({
        "type": "application",
        "bom-ref": format!("pkg:cargo/qyv@{}", release.version),
        "name": "qyv",
        "version": release.version,
        "purl": format!("pkg:cargo/qyv@{}", release.version),
        "licenses": [{ "expression": "MIT" }],
        "properties": [
            { "name": "commit", "value": release.commit },
            { "name": "target", "value": release.target },
        ],
    });
    let bom = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": { "component": component },
        "components": components,
    });
    let text = serde_json::to_string_pretty(&bom).map_err(|e| e.to_string())?;
    Ok(text + "\n")
}
