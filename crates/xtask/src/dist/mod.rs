//! `cargo xtask dist`: what is released, in `target/dist/VERSION`.
//!
//! For a target: a static `qyv` in a `.tar.gz` with man pages, completions, the
//! licences of all dependencies and an SBOM; the same as a `.deb`; checksums; for
//! each of these a sigstore bundle, and what it takes to check it by openssl
//! alone. The same commit and the same list of functions give the same bytes in any
//! directory: `--twice` builds in a second one and compares.

mod archive;
mod compile;
mod dependencies;
mod sign;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::files::{self, read, read_text};
use crate::process::{output, run};
use crate::tree::root;

const HELP: &str = "\
usage: cargo xtask dist [--target TRIPLE] [--key FILE | --no-sign | --sign-only] [OPTIONS]

  --target TRIPLE  what to build for; this machine's architecture with musl by default
  --key FILE       the private key that signs, PEM; QYVOL_KEY has its text instead,
                   QYVOL_KEY_PASSPHRASE its passphrase
  --no-sign        leave out the signatures
  --order FILE     put the functions in this order, of `order.txt` in the release that
                   is built again; without, the order is recorded anew
  --twice          build again in another directory, in the same order, and compare
                   the bytes
  --tag TAG        fail unless this is the tag of the version: v and the version
  --allow-dirty    build though there are changes that are not committed; with
                   --no-sign alone
  --std-from-source
                   where rustup has no standard library for the target, build one
                   with Debian's compiler (rustc-web, rust-web-src)
  --sign-only      sign what an earlier --no-sign has built, so that no compiler
                   runs where the key is";

/// What is built, and from what.
pub(crate) struct Release {
    /// The project's directory.
    pub(crate) root: PathBuf,
    pub(crate) target: String,
    pub(crate) version: String,
    pub(crate) commit: String,
    /// The commit's time, seconds since 1970: that of every file.
    pub(crate) time: u64,
    /// Whether the standard library is built too.
    pub(crate) from_source: bool,
    /// The order of the functions, where it is given.
    pub(crate) order: Option<String>,
}

impl Release {
    fn new(root: PathBuf, target: Option<&str>, from_source: bool) -> Result<Release, String> {
        let git = |args: &[&str]| output(Command::new("git").args(args).current_dir(&root));
        let version = env!("CARGO_PKG_VERSION").to_string();
        let time = git(&["log", "-1", "--format=%ct"])?;
        let default = || format!("{}-unknown-linux-musl", std::env::consts::ARCH);
        let is_triple = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
        if target.is_some_and(|target| !is_triple(target) || !target.ends_with("-linux-musl")) {
            return Err("--target must be a triple that ends in -linux-musl: releases are static".to_string());
        }
        Ok(Release {
            target: target.map_or_else(default, str::to_string),
            version,
            commit: head(&root)?,
            time: time.trim().parse().map_err(|e| format!("the commit's time: {e}"))?,
            root,
            from_source,
            order: None,
        })
    }

    /// `qyv-VERSION-TARGET`.
    fn name(&self) -> String {
        format!("qyv-{}-{}", self.version, self.target)
    }

    /// The file with the order in which the functions were linked.
    fn list(&self) -> PathBuf {
        self.root.join("target/dist/build").join(&self.target).join("order.txt")
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
    let (mut target, mut key, mut tag, mut signed, mut sign_only) = (None, None, None, true, false);
    let mut order = None;
    let (mut twice, mut dirty, mut from_source) = (false, false, false);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value\n{HELP}"));
        match arg.as_str() {
            "--target" => target = Some(value()?.clone()),
            "--key" => key = Some(PathBuf::from(value()?)),
            "--no-sign" => signed = false,
            "--tag" => tag = Some(value()?.clone()),
            "--order" => order = Some(PathBuf::from(value()?)),
            "--sign-only" => sign_only = true,
            "--std-from-source" => from_source = true,
            "--twice" => twice = true,
            "--allow-dirty" => dirty = true,
            "--help" | "-h" => {
                println!("{HELP}");
                return Ok(());
            }
            _ => return Err(format!("unknown argument `{arg}`\n{HELP}")),
        }
    }
    if !signed && (key.is_some() || sign_only) {
        return Err("--no-sign goes with neither --key nor --sign-only".to_string());
    }
    if dirty && signed {
        return Err("--allow-dirty goes with --no-sign alone: a signature is for a commit".to_string());
    }
    // Before the long work.
    let signer = signed.then(|| sign::Signer::open(key.as_deref())).transpose()?;
    let mut release = Release::new(root(), target.as_deref(), from_source)?;
    if let Some(order) = order {
        release.order = Some(read_text(&order)?);
    }
    let is_dirty = !is_clean(&release)?;
    if is_dirty && !dirty {
        return Err(
            "there are changes that are not committed: commit them, or add --allow-dirty --no-sign".to_string(),
        );
    }
    if is_dirty {
        release.commit.push_str("-dirty");
    }
    if tag.as_ref().is_some_and(|tag| *tag != format!("v{}", release.version)) {
        return Err(format!("the tag of version {0} is v{0}", release.version));
    }
    let directory = root().join("target/dist").join(&release.version);
    let files = match sign_only {
        true => archive::made(&release, &directory)?,
        false => make(&release, &directory)?,
    };
    if twice && !sign_only {
        compare(&release, &files)?;
    }
    if let Some(signer) = signer {
        if head(&release.root)? != release.commit || !is_clean(&release)? {
            return Err("the sources have changed since the build began: nothing was signed".to_string());
        }
        signer.sign(&release, &directory, &files)?;
    }
    for entry in listed(&directory)? {
        println!("{}", entry.display());
    }
    Ok(())
}

/// The commit that is checked out.
fn head(root: &Path) -> Result<String, String> {
    let commit = output(Command::new("git").args(["rev-parse", "HEAD"]).current_dir(root))?;
    Ok(commit.trim().to_string())
}

/// Whether the project's directory is as it was committed.
fn is_clean(release: &Release) -> Result<bool, String> {
    let mut git = Command::new("git");
    git.args(["status", "--porcelain"]).current_dir(&release.root);
    Ok(output(&mut git)?.is_empty())
}

/// Compiles and packs; returns the files that were made.
fn make(release: &Release, directory: &Path) -> Result<Vec<PathBuf>, String> {
    let binary = compile::binary(release)?;
    let tree = release.root.join("target/dist/tree").join(release.name());
    let _ = fs::remove_dir_all(&tree);
    let write = |name: &str, bytes: &[u8]| files::write(&tree.join(name), bytes);
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
    if release.list().is_file() {
        write("order.txt", &read(&release.list())?)?;
    }
    let dependencies = dependencies::all(release)?;
    write(
        "THIRD-PARTY-LICENSES.txt",
        dependencies::licences(release, &dependencies)?.as_bytes(),
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
    // Beside no configuration of Cargo that the first build had.
    let other = tempfile::tempdir().map_err(|e| format!("a temporary directory: {e}"))?;
    let mut clone = Command::new("git");
    run(clone.args(["clone", "--quiet"]).arg(&release.root).arg(other.path()))?;
    let mut again = Release::new(other.path().to_path_buf(), Some(&release.target), release.from_source)?;
    if release.list().is_file() {
        again.order = Some(read_text(&release.list())?);
    }
    for (ours, theirs) in files.iter().zip(make(&again, &other.path().join("out"))?) {
        if read(ours)? != read(&theirs)? {
            let _ = other.keep();
            return Err(format!(
                "{} differs from {}: the build is not reproducible",
                ours.display(),
                theirs.display()
            ));
        }
    }
    println!("built twice: the same bytes");
    Ok(())
}

/// The entries of a directory, sorted.
fn listed(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}
