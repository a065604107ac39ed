//! `cargo xtask dist`: what is released, in `target/dist/VERSION`.
//!
//! For a target: a static `qyv` in a `.tar.gz` with man pages, completions, the
//! licences of all dependencies and an SBOM; the same as a `.deb`; checksums; for
//! each of these a sigstore bundle, and what it takes to check it by openssl
//! alone. The same commit gives the same bytes in any directory: `--twice` builds
//! in a second one and compares.

mod archive;
mod compile;
mod dependencies;
mod sign;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{output, run};
use crate::tree::root;

const HELP: &str = "\
usage: cargo xtask dist [--target TRIPLE] [--key FILE | --no-sign] [--twice] [--allow-dirty]

  --target TRIPLE  what to build for; this machine's architecture with musl by default
  --key FILE       the private key that signs, PEM; QYVOL_KEY has its text instead,
                   QYVOL_KEY_PASSPHRASE its passphrase
  --no-sign        leave out the signatures
  --twice          build again in another directory and compare the bytes
  --allow-dirty    build though there are changes that are not committed";

/// What is built, and from what.
pub(crate) struct Release {
    /// The project's directory.
    pub(crate) root: PathBuf,
    pub(crate) target: String,
    pub(crate) version: String,
    pub(crate) commit: String,
    /// The commit's time, seconds since 1970: that of every file.
    pub(crate) time: u64,
}

impl Release {
    fn new(root: PathBuf, target: Option<&str>) -> Result<Release, String> {
        let git = |args: &[&str]| output(Command::new("git").args(args).current_dir(&root));
        let version = env!("CARGO_PKG_VERSION").to_string();
        let time = git(&["log", "-1", "--format=%ct"])?;
        let default = || format!("{}-unknown-linux-musl", std::env::consts::ARCH);
        Ok(Release {
            target: target.map_or_else(default, str::to_string),
            version,
            commit: git(&["rev-parse", "HEAD"])?.trim().to_string(),
            time: time.trim().parse().map_err(|e| format!("the commit's time: {e}"))?,
            root,
        })
    }

    /// `qyv-VERSION-TARGET`.
    fn name(&self) -> String {
        format!("qyv-{}-{}", self.version, self.target)
    }

    /// The architecture, as Debian calls it.
    fn debian_architecture(&self) -> Result<&'static str, String> {
        match self.target.split('-').next() {
            Some("x86_64") => Ok("amd64"),
            Some("aarch64") => Ok("arm64"),
            _ => Err(format!(
                "{}: Debian's name of its architecture is not known",
                self.target
            )),
        }
    }
}

/// Builds a release.
pub(crate) fn dist(args: &[String]) -> Result<(), String> {
    let (mut target, mut key, mut signed, mut twice, mut dirty) = (None, None, true, false, false);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value\n{HELP}"));
        match arg.as_str() {
            "--target" => target = Some(value()?.clone()),
            "--key" => key = Some(PathBuf::from(value()?)),
            "--no-sign" => signed = false,
            "--twice" => twice = true,
            "--allow-dirty" => dirty = true,
            "--help" | "-h" => {
                println!("{HELP}");
                return Ok(());
            }
            _ => return Err(format!("unknown argument `{arg}`\n{HELP}")),
        }
    }
    // Before the long work.
    let signer = signed.then(|| sign::Signer::open(key.as_deref())).transpose()?;
    let changed = output(Command::new("git").args(["status", "--porcelain"]).current_dir(root()))?;
    if !changed.is_empty() && !dirty {
        return Err("there are changes that are not committed: commit them, or add --allow-dirty".to_string());
    }
    let release = Release::new(root(), target.as_deref())?;
    let directory = root().join("target/dist").join(&release.version);
    let files = make(&release, &directory)?;
    if twice {
        compare(&release, &files)?;
    }
    if let Some(signer) = signer {
        signer.sign(&release, &directory, &files)?;
    }
    for entry in listed(&directory)? {
        println!("{}", entry.display());
    }
    Ok(())
}

/// Compiles and packs; returns the files that were made.
fn make(release: &Release, directory: &Path) -> Result<Vec<PathBuf>, String> {
    let binary = compile::binary(release)?;
    let tree = release.root.join("target/dist/tree").join(release.name());
    let _ = fs::remove_dir_all(&tree);
    let write = |name: &str, bytes: &[u8]| {
        let path = tree.join(name);
        path.parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(&path, bytes))
            .map_err(|e| format!("{}: {e}", path.display()))
    };
    let read = |path: &Path| fs::read(path).map_err(|e| format!("{}: {e}", path.display()));
    write("qyv", &read(&binary)?)?;
    run(Command::new("chmod").arg("0755").arg(tree.join("qyv")))?;
    for name in ["README.md", "README.es.md", "LICENSE", "CHANGELOG.md"] {
        write(name, &read(&release.root.join(name))?)?;
    }
    for (shell, name) in [("bash", "qyv.bash"), ("zsh", "_qyv"), ("fish", "qyv.fish")] {
        let text = output(Command::new(&binary).args(["completions", shell]))?;
        write(&format!("completions/{name}"), text.as_bytes())?;
    }
    run(Command::new(&binary).arg("man").arg(tree.join("man")))?;
    let dependencies = dependencies::all(release)?;
    write(
        "THIRD-PARTY-LICENSES.txt",
        dependencies::licences(&dependencies)?.as_bytes(),
    )?;
    write("sbom.cdx.json", dependencies::sbom(release, &dependencies)?.as_bytes())?;
    let _ = fs::remove_dir_all(directory);
    fs::create_dir_all(directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    let files = vec![
        archive::tarball(release, &tree, directory)?,
        archive::debian(release, &tree, directory)?,
    ];
    let sums = archive::checksums(release, &files, directory)?;
    Ok(files.into_iter().chain([sums]).collect())
}

/// Builds the same commit in another directory, and finds what differs.
fn compare(release: &Release, files: &[PathBuf]) -> Result<(), String> {
    let other = release.root.join("target/dist/another-directory");
    let _ = fs::remove_dir_all(&other);
    let mut clone = Command::new("git");
    run(clone.args(["clone", "--quiet"]).arg(&release.root).arg(&other))?;
    let again = Release::new(other.clone(), Some(&release.target))?;
    for (ours, theirs) in files.iter().zip(make(&again, &other.join("out"))?) {
        let read = |path: &Path| fs::read(path).map_err(|e| format!("{}: {e}", path.display()));
        if read(ours)? != read(&theirs)? {
            return Err(format!(
                "{} differs from {}: the build is not reproducible",
                ours.display(),
                theirs.display()
            ));
        }
    }
    println!("built twice: the same bytes");
    fs::remove_dir_all(&other).map_err(|e| format!("{}: {e}", other.display()))
}

/// The entries of a directory, sorted.
fn listed(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}
