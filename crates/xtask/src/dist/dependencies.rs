//! What is linked in: the licences of all dependencies, and an SBOM (CycloneDX 1.6).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::Release;
use crate::files::read;
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

/// What is linked in besides crates: name, licence, whose it is.
const OTHERS: &[(&str, &str, &str)] = &[
    ("musl", "MIT", "Copyright © 2005-2020 Rich Felker, et al."),
    (
        "rust-std",
        "MIT OR Apache-2.0",
        "Copyright © The Rust Project contributors",
    ),
    (
        "libgcc_eh",
        "GPL-3.0-or-later WITH GCC-exception-3.1",
        "Copyright © Free Software Foundation, Inc.",
    ),
];

/// How deep in a crate a licence of bundled code may be.
const MAX_DEPTH: usize = 5;

/// The texts of all licences, each once, with the crates that they are of.
pub(super) fn licences(release: &Release, dependencies: &[Dependency]) -> Result<String, String> {
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut page = String::from("qyv is made of these, besides its own crates:\n\n");
    for (name, licence, copyright) in OTHERS {
        page.push_str(&format!("{name}: {licence}, {copyright}\n"));
    }
    for dependency in dependencies.iter().filter(|dependency| !dependency.is_ours) {
        let title = format!("{} {}", dependency.name, dependency.version);
        let mut files = Vec::new();
        licence_files(&dependency.directory, MAX_DEPTH, &mut files)?;
        let note = match files.is_empty() {
            true => " (the crate has no text of it)",
            false => "",
        };
        page.push_str(&format!("{title}: {}{note}\n", dependency.licence));
        for file in files {
            let text = String::from_utf8_lossy(&read(&file)?).into_owned();
            texts.entry(text).or_default().push(title.clone());
        }
    }
    // That of musl, and of most others, word for word.
    let mit = release.root.join("LICENSE");
    let mit = fs::read_to_string(&mit).map_err(|e| format!("{}: {e}", mit.display()))?;
    texts
        .entry(mit)
        .or_default()
        .push("musl, and what is MIT above".to_string());
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

/// The files of licences in a directory and below.
fn licence_files(directory: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("{}: {e}", directory.display());
    let Some(depth) = depth.checked_sub(1) else {
        return Ok(());
    };
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        let starts = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];
        if path.is_dir() {
            licence_files(&path, depth, found)?;
        } else if starts.iter().any(|start| name.starts_with(start)) && !name.ends_with(".RS") {
            found.push(path);
        }
    }
    found.sort();
    Ok(())
}

/// The bill of materials.
pub(super) fn sbom(release: &Release, dependencies: &[Dependency]) -> Result<String, String> {
    let purl = |d: &Dependency| format!("pkg:cargo/{}@{}", d.name, d.version);
    let others = OTHERS.iter().map(|(name, licence, _)| {
        json!({
            "type": "library",
            "bom-ref": name,
            "name": name,
            "licenses": [{ "expression": licence }],
        })
    });
    // The version of the C library that a crate bundles: `2.0.16+zstd.1.5.7`.
    let bundled = dependencies.iter().filter_map(|dependency| {
        let (name, version) = dependency.version.split_once('+')?.1.split_once('.')?;
        let purl = format!("pkg:generic/{name}@{version}");
        (dependency.name.ends_with("-sys")).then(|| {
            json!({
                "type": "library",
                "bom-ref": purl,
                "name": name,
                "version": version,
                "purl": purl,
            })
        })
    });
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
        .chain(others)
        .chain(bundled)
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
