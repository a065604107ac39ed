//! The step at which an archive is refused, or its content if it is accepted.

use std::fs;
use std::path::Path;

use qyvol_image::{Archive, ImageError, unpack_assets};
use qyvol_store::{Fetch, NoopReporter};
use qyvol_types::{Digest, ImageConfig};

/// Takes an archive through every step. Signatures are not judged here.
pub fn judge(bytes: &[u8], directory: &Path) -> Result<Vec<String>, (&'static str, String)> {
    let path = directory.join("test.qyvbin");
    fs::write(&path, bytes).unwrap();
    judge_file(&path, directory)
}

/// The same of a file that stands already.
pub fn judge_file(path: &Path, directory: &Path) -> Result<Vec<String>, (&'static str, String)> {
    let at = |step| move |e: ImageError| (step, e.to_string());
    let archive = Archive::open(path).map_err(at("open"))?;
    archive.check_content(&NoopReporter).map_err(at("content"))?;
    let mut holds = Vec::new();
    for image in archive.images() {
        for name in &image.names {
            holds.push(format!("image: {name} {}", image.manifest.digest()));
        }
        for signature in &image.signatures {
            holds.push(format!("signature: {}", signature.manifest.digest()));
        }
        let config = ImageConfig::parse(&image.config).map_err(|e| ("config", e.to_string()))?;
        // Checks against a signed digest are not this crate's; the vectors have them
        // nevertheless.
        let layers: Vec<Digest> = image.manifest.layers().iter().map(|l| l.digest).collect();
        let name = format!("{}:{}", config.qyv.app.name, config.qyv.app.version);
        if config.layer_digests != layers
            || config.qyv.assets.is_some() != (layers.len() == 2)
            || image
                .names
                .iter()
                .any(|n| n.registry().is_none() && n.to_string() != name)
        {
            return Err(("config", "config, manifest and index disagree".into()));
        }
        if let (Some(expected), Some(layer)) = (&config.qyv.assets, image.manifest.layers().get(1)) {
            let out = directory.join("out");
            let _ = fs::remove_dir_all(&out);
            fs::create_dir(&out).unwrap();
            let body = archive.fetch(layer).map_err(|e| ("unpack", e.to_string()))?;
            unpack_assets(body, expected, &out, &NoopReporter).map_err(at("unpack"))?;
            list(&out, "", &mut holds);
        }
    }
    Ok(holds)
}

fn list(directory: &Path, prefix: &str, holds: &mut Vec<String>) {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    for name in names {
        let path = directory.join(&name);
        let shown = format!("{prefix}{}", name.to_str().unwrap());
        if path.is_dir() {
            list(&path, &format!("{shown}/"), holds);
        } else {
            let bytes = fs::read(&path).unwrap();
            holds.push(format!("file: {} {} {shown}", Digest::of(&bytes), bytes.len()));
        }
    }
}

/// Judges an archive in a directory of its own; nothing else may change.
pub fn outcome(bytes: &[u8]) -> Result<Vec<String>, (&'static str, String)> {
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let got = judge(bytes, &inner);
    let beside = fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(beside, 1, "wrote outside its directory");
    if let Err((_, why)) = &got {
        let shown = why.chars().all(|c| !c.is_control() && c != '\u{202e}');
        assert!(shown, "message not escaped: {why:?}");
    }
    got
}
