//! The files that are released: a tarball, a Debian package, checksums.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Release, listed};
use crate::files::write;
use crate::process::{output, run};

const DESCRIPTION: &str = "pack, sign, move, verify and run WebAssembly applications
 Packs a WebAssembly application into one signed file that is also an OCI
 artifact, moves it through any registry, and runs it on a host that verifies
 the signature on every start.";

/// `NAME.tar.gz` of the tree.
pub(super) fn tarball(release: &Release, tree: &Path, directory: &Path) -> Result<PathBuf, String> {
    let tar = directory.join(format!("{}.tar", release.name()));
    run(Command::new("tar")
        .args([
            "--create",
            "--format=ustar",
            "--sort=name",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
        ])
        .arg("--mode=u=rwX,go=rX")
        .arg(format!("--mtime=@{}", release.time))
        .arg("--file")
        .arg(&tar)
        .arg("-C")
        .arg(tree.parent().unwrap_or(tree))
        .arg(release.name()))?;
    run(Command::new("gzip").args(["--no-name", "--best", "--force"]).arg(&tar))?;
    Ok(tar.with_extension("tar.gz"))
}

/// `qyv_VERSION_ARCHITECTURE.deb`.
pub(super) fn debian(release: &Release, tree: &Path, directory: &Path) -> Result<PathBuf, String> {
    let architecture = release.debian_architecture()?;
    let package = tree.with_file_name("debian");
    let _ = fs::remove_dir_all(&package);
    let put = |from: &Path, to: &str| {
        let to = package.join(to);
        to.parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::copy(from, &to).map(drop))
            .map_err(|e| format!("{}: {e}", to.display()))
    };
    put(&tree.join("qyv"), "usr/bin/qyv")?;
    put(
        &tree.join("completions/qyv.bash"),
        "usr/share/bash-completion/completions/qyv",
    )?;
    put(&tree.join("completions/_qyv"), "usr/share/zsh/vendor-completions/_qyv")?;
    put(
        &tree.join("completions/qyv.fish"),
        "usr/share/fish/vendor_completions.d/qyv.fish",
    )?;
    for (name, to) in [
        ("LICENSE", "copyright"),
        ("THIRD-PARTY-LICENSES.txt", "THIRD-PARTY-LICENSES.txt"),
        ("sbom.cdx.json", "sbom.cdx.json"),
        ("README.md", "README.md"),
    ] {
        put(&tree.join(name), &format!("usr/share/doc/qyv/{to}"))?;
    }
    for page in listed(&tree.join("man"))? {
        let name = page.file_name().unwrap_or_default().to_string_lossy().into_owned();
        put(&page, &format!("usr/share/man/man1/{name}"))?;
        run(Command::new("gzip")
            .args(["--no-name", "--best", "--force"])
            .arg(package.join("usr/share/man/man1").join(name)))?;
    }
    let control = format!(
        "Package: qyv\nVersion: {}\nArchitecture: {architecture}\nMaintainer: Qyvol <security@qyvol.dev>\n\
         Section: utils\nPriority: optional\nHomepage: https://github.com/qyvol/qyvol\nDescription: {DESCRIPTION}\n",
        release.version
    );
    write(&package.join("DEBIAN/control"), &control)?;
    run(Command::new("chmod").arg("-R").arg("u=rwX,go=rX").arg(&package))?;
    let file = directory.join(format!("qyv_{}_{architecture}.deb", release.version));
    run(Command::new("dpkg-deb")
        .args(["--root-owner-group", "-Zgzip", "--build"])
        .arg(&package)
        .arg(&file)
        .env("SOURCE_DATE_EPOCH", release.time.to_string())
        .stdout(std::process::Stdio::null()))?;
    Ok(file)
}

/// The files of an earlier build.
pub(super) fn made(release: &Release, directory: &Path) -> Result<Vec<PathBuf>, String> {
    let architecture = release.debian_architecture()?;
    let names = [
        format!("{}.tar.gz", release.name()),
        format!("qyv_{}_{architecture}.deb", release.version),
        format!("{}.sha256", release.name()),
    ];
    let files: Vec<PathBuf> = names.iter().map(|name| directory.join(name)).collect();
    match files.iter().find(|file| !file.is_file()) {
        Some(missing) => Err(format!("{} is not there: build it with --no-sign", missing.display())),
        None => Ok(files),
    }
}

/// `NAME.sha256` of the files, as sha256sum(1) checks it.
pub(super) fn checksums(release: &Release, files: &[PathBuf], directory: &Path) -> Result<PathBuf, String> {
    let names = files.iter().filter_map(|file| file.file_name());
    let sums = output(Command::new("sha256sum").args(names).current_dir(directory))?;
    let path = directory.join(format!("{}.sha256", release.name()));
    write(&path, sums)?;
    Ok(path)
}
