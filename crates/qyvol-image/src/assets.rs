//! Finding an application's assets and packing them into a layer.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use qyvol_store::Reporter;
use qyvol_types::{Algorithm, AssetPath, AssetRule, AssetTarget, AssetsConfig, Digest, Hasher, PathSet, limits};

use crate::frames::{CHUNK_SIZE, Compressor};
use crate::ignore_rules::{IgnoreRules, contains_private_key};
use crate::tar_stream::{END_OF_ARCHIVE, header, padding};
use crate::{FileId, ImageError, parallel};

/// Longest path of a directory that is entered; an asset's is no longer.
const PATH_BYTES: usize = 1024;

/// The files to pack, sorted by the bytes of their paths.
#[derive(Clone, Debug, Default)]
pub struct AssetPlan {
    /// The files.
    pub files: Vec<AssetFile>,
    /// Bytes of all files.
    pub bytes: u64,
    /// What the ignore rules excluded from a directory or glob, sorted; a directory ends with
    /// `/`.
    pub left_out: Vec<String>,
    /// Directories that a glob matches but does not enter, sorted.
    pub skipped_directories: Vec<SkippedDirectory>,
}

/// A directory that a glob matches, but none of its files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SkippedDirectory {
    /// The glob.
    pub glob: String,
    /// The directory.
    pub directory: String,
}

/// One file to pack.
#[derive(Clone, Debug)]
pub struct AssetFile {
    /// Its path under the assets root.
    pub path: AssetPath,
    /// Its source: a real path.
    pub source: PathBuf,
    /// The identity of that file.
    pub id: FileId,
    /// Its size in bytes.
    pub size: u64,
}

/// Finds the files that `rules` name inside `root`. Files in `skip` (real
/// paths: the manifest, the entrypoint, the output) and those that the ignore
/// rules name are skipped if a directory or glob finds them.
pub fn plan_assets(root: &Path, rules: &[AssetRule], skip: &HashSet<PathBuf>) -> Result<AssetPlan, ImageError> {
    let real_root = fs::canonicalize(root).map_err(|e| file_error("open", root, e))?;
    let mut finder = Finder {
        root,
        real_root,
        skip,
        ignore: IgnoreRules::read(root)?,
        found: BTreeMap::new(),
        named: HashSet::new(),
        left_out: BTreeSet::new(),
        skipped_directories: BTreeSet::new(),
    };
    for rule in rules {
        finder.rule(rule)?;
    }
    let mut plan = AssetPlan {
        // What another rule names is packed.
        left_out: finder
            .left_out
            .into_iter()
            .filter(|path| !finder.named.contains(path))
            .collect(),
        skipped_directories: finder.skipped_directories.into_iter().collect(),
        ..AssetPlan::default()
    };
    let mut names = PathSet::new();
    for (path, (source, id, size)) in finder.found {
        names
            .insert(&path)
            .map_err(|why| ImageError::asset_path(path.as_str(), &why))?;
        plan.bytes += size;
        plan.files.push(AssetFile { path, source, id, size });
    }
    limit("number of asset files", plan.files.len() as u64, limits::ASSET_FILES)?;
    limit("size of all assets in bytes", plan.bytes, limits::ASSET_BYTES)?;
    Ok(plan)
}

fn limit(what: &'static str, got: u64, limit: u64) -> Result<(), ImageError> {
    if got > limit {
        Err(ImageError::Limit { what, got, limit })
    } else {
        Ok(())
    }
}

fn file_error(action: &'static str, path: &Path, source: std::io::Error) -> ImageError {
    ImageError::File {
        action,
        path: path.to_path_buf(),
        source,
    }
}

struct Finder<'a> {
    root: &'a Path,
    real_root: PathBuf,
    skip: &'a HashSet<PathBuf>,
    ignore: IgnoreRules,
    found: BTreeMap<AssetPath, (PathBuf, FileId, u64)>,
    /// Files that rules name one by one.
    named: HashSet<String>,
    left_out: BTreeSet<String>,
    skipped_directories: BTreeSet<SkippedDirectory>,
}

/// What a rule does with the files it walks over.
struct Selection<'a> {
    /// The rule, as written.
    from: &'a str,
    /// Part of the path that `to` replaces.
    base: &'a str,
    to: &'a AssetTarget,
    glob: Option<GlobMatcher>,
    count: u64,
    left_out: u64,
}

impl Selection<'_> {
    fn takes(&self, path: &str) -> bool {
        self.glob.as_ref().is_none_or(|glob| glob.is_match(path))
    }

    /// Whether a file of that directory could be selected, judging by the path alone.
    fn enters(&self, directory: &str) -> bool {
        self.takes(&format!("{directory}/file"))
    }
}

impl Finder<'_> {
    fn rule(&mut self, rule: &AssetRule) -> Result<(), ImageError> {
        let from = rule.from.as_str();
        let whole = self.root.join(from);
        let fixed = from
            .split('/')
            .take_while(|c| !c.contains(['*', '?', '[', '{']))
            .collect::<Vec<_>>()
            .join("/");
        let mut selection = Selection {
            from,
            base: from,
            to: &rule.to,
            glob: None,
            count: 0,
            left_out: 0,
        };
        match fs::symlink_metadata(&whole) {
            Ok(meta) if meta.is_dir() => self.start(from, &mut selection)?,
            Ok(_) => {
                let real = fs::canonicalize(&whole).map_err(|e| file_error("read", &whole, e))?;
                let to = match &rule.to {
                    AssetTarget::Own => from,
                    AssetTarget::Root => from.rsplit('/').next().unwrap_or(from),
                    AssetTarget::Path(path) => path.as_str(),
                };
                let file = self.stat_file(from, real)?;
                self.add(from, to, file)?;
                self.named.insert(from.to_string());
                selection.count = 1;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && from.contains(['*', '?', '[', '{']) => {
                let glob = GlobBuilder::new(from).literal_separator(true).build();
                let glob = glob.map_err(|e| ImageError::asset(from, format_args!("it is not a glob: {}", e.kind())))?;
                selection.glob = Some(glob.compile_matcher());
                selection.base = &fixed;
                if self.root.join(&fixed).is_dir() {
                    self.start(&fixed, &mut selection)?;
                }
            }
            Err(error) => return Err(file_error("read", &whole, error)),
        }
        match selection {
            Selection { count: 1.., .. } => Ok(()),
            Selection { left_out: 0, .. } => Err(ImageError::asset(from, "no file matches it")),
            Selection { left_out, .. } => Err(ImageError::asset(
                from,
                format_args!("everything it matches is left out ({left_out}): name a file explicitly to pack it"),
            )),
        }
    }

    fn start(&mut self, directory: &str, selection: &mut Selection<'_>) -> Result<(), ImageError> {
        let path = self.root.join(directory);
        let real = fs::canonicalize(&path).map_err(|e| file_error("read", &path, e))?;
        self.walk(directory, &real, selection)
    }

    /// Walks a directory, whose real path is `real`: only links below it need
    /// to be resolved.
    fn walk(&mut self, directory: &str, real: &Path, selection: &mut Selection<'_>) -> Result<(), ImageError> {
        // Bounds the recursion, too.
        if directory.len() > PATH_BYTES {
            let why = format!("its path is longer than {PATH_BYTES} bytes");
            return Err(ImageError::asset(directory, why));
        }
        let path = self.root.join(directory);
        let mut entries = Vec::new();
        for entry in fs::read_dir(&path).map_err(|e| file_error("list", &path, e))? {
            let entry = entry.map_err(|e| file_error("list", &path, e))?;
            let kind = entry.file_type().map_err(|e| file_error("read", &entry.path(), e))?;
            entries.push((entry.file_name(), kind));
        }
        for (name, kind) in entries {
            let Some(text) = name.to_str() else {
                return Err(ImageError::asset(
                    &path.join(name).to_string_lossy(),
                    "its name is not valid UTF-8",
                ));
            };
            let relative = match directory {
                "" => text.to_string(),
                directory => format!("{directory}/{text}"),
            };
            if kind.is_dir() {
                self.subdirectory(relative, &real.join(text), selection)?;
            } else if selection.takes(&relative) {
                let real = real.join(text);
                let real = match kind.is_symlink() {
                    true => fs::canonicalize(&real).map_err(|e| file_error("read", &real, e))?,
                    false => real,
                };
                self.file(relative, real, kind.is_symlink(), selection)?;
            }
        }
        Ok(())
    }

    fn subdirectory(&mut self, path: String, real: &Path, selection: &mut Selection<'_>) -> Result<(), ImageError> {
        if self.ignore.is_ignored(&path, true) {
            if selection.enters(&path) {
                selection.left_out += 1;
                self.left_out.insert(path + "/");
            }
            return Ok(());
        }
        let before = selection.count + selection.left_out;
        self.walk(&path, real, selection)?;
        let matches = selection.glob.as_ref().is_some_and(|glob| glob.is_match(&path));
        if matches && selection.count + selection.left_out == before && !selection.enters(&path) {
            self.skipped_directories.insert(SkippedDirectory {
                glob: selection.from.to_string(),
                directory: path,
            });
        }
        Ok(())
    }

    fn file(
        &mut self,
        path: String,
        real: PathBuf,
        is_link: bool,
        selection: &mut Selection<'_>,
    ) -> Result<(), ImageError> {
        if self.skip.contains(&real) {
            return Ok(());
        }
        // A link counts as its file, whatever its name.
        let target = real.strip_prefix(&self.real_root).ok().filter(|_| is_link);
        let target = target.and_then(Path::to_str);
        let mut left_out =
            self.ignore.is_ignored(&path, false) || target.is_some_and(|target| self.ignore.is_ignored(target, false));
        if !left_out {
            let file = self.stat_file(&path, real)?;
            left_out = contains_private_key(&file.0, file.2).map_err(|e| file_error("read", &file.0, e))?;
            if !left_out {
                let rest = path
                    .strip_prefix(selection.base)
                    .unwrap_or(&path)
                    .trim_start_matches('/');
                let to = match selection.to {
                    AssetTarget::Own => path.clone(),
                    AssetTarget::Root => rest.to_string(),
                    AssetTarget::Path(to) => format!("{to}/{rest}"),
                };
                self.add(&path, &to, file)?;
                selection.count += 1;
            }
        }
        if left_out {
            selection.left_out += 1;
            self.left_out.insert(path);
        }
        Ok(())
    }

    /// Checks a file before it is selected: a regular file inside the root.
    fn stat_file(&self, from: &str, real: PathBuf) -> Result<(PathBuf, FileId, u64), ImageError> {
        if !real.starts_with(&self.real_root) {
            return Err(ImageError::asset(
                from,
                "it is a link that leaves the manifest's directory",
            ));
        }
        // The path is resolved; a link that was put there meanwhile is not followed.
        let meta = fs::symlink_metadata(&real).map_err(|e| file_error("read", &real, e))?;
        if meta.is_dir() {
            return Err(ImageError::asset(
                from,
                "it is a link to a directory: list the directory itself",
            ));
        }
        if !meta.is_file() {
            return Err(ImageError::asset(from, "it is not a regular file"));
        }
        limit("size of an asset in bytes", meta.len(), limits::ENTRY_BYTES)?;
        Ok((real, FileId::of(&meta), meta.len()))
    }

    fn add(&mut self, from: &str, to: &str, file: (PathBuf, FileId, u64)) -> Result<(), ImageError> {
        let path = AssetPath::parse(to).map_err(|why| ImageError::asset_path(to, &why))?;
        match self.found.get(&path) {
            Some((other, ..)) if *other != file.0 => Err(ImageError::asset(
                from,
                format_args!("two files would be packed as `{path}`"),
            )),
            _ => {
                self.found.insert(path, file);
                Ok(())
            }
        }
    }
}

/// The result of packing.
pub(crate) struct Packed {
    pub(crate) config: AssetsConfig,
    pub(crate) digest: Digest,
}

/// Writes the layer: a canonical tar in frames of [`CHUNK_SIZE`].
pub(crate) fn pack(plan: &AssetPlan, out: &mut impl Write, report: &dyn Reporter) -> Result<Packed, ImageError> {
    let mut diff_id = None;
    let mut stream = TarStream::new(plan);
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let next: parallel::Next<'_, Vec<u8>, ImageError> = Box::new({
        let (diff_id, stream) = (&mut diff_id, &mut stream);
        move || {
            let chunk = stream.next_chunk()?;
            report.advanced(chunk.as_ref().map_or(0, Vec::len) as u64);
            if chunk.is_none() {
                *diff_id = stream.hasher.take().map(Hasher::finish);
            }
            Ok(chunk)
        }
    });
    let worker = || {
        let mut compressor = Compressor::new();
        move |chunk: Vec<u8>| match &mut compressor {
            Ok(compressor) => compressor.frame(&chunk),
            Err(error) => Err(ImageError::format(error.to_string())),
        }
    };
    parallel::map_ordered(next, worker, |frame: Vec<u8>| {
        hasher.update(&frame);
        out.write_all(&frame).map_err(ImageError::Write)
    })?;
    let diff_id = diff_id.ok_or_else(|| ImageError::format("the assets were not packed to their end"))?;
    Ok(Packed {
        config: AssetsConfig {
            diff_id,
            files: plan.files.len() as u64,
            bytes: plan.bytes,
        },
        digest: hasher.finish(),
    })
}

/// Cuts the tar of a plan into chunks, hashing it on the way.
struct TarStream<'a> {
    files: std::slice::Iter<'a, AssetFile>,
    current: Option<(File, &'a AssetFile, u64)>,
    /// Bytes that come before more content: headers, padding, the end.
    pending: Vec<u8>,
    ended: bool,
    hasher: Option<Hasher>,
}

impl<'a> TarStream<'a> {
    fn new(plan: &'a AssetPlan) -> TarStream<'a> {
        TarStream {
            files: plan.files.iter(),
            current: None,
            pending: Vec::new(),
            ended: false,
            hasher: Some(Hasher::new(Algorithm::Sha256)),
        }
    }

    fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, ImageError> {
        let mut chunk = Vec::with_capacity(CHUNK_SIZE);
        while chunk.len() < CHUNK_SIZE {
            if !self.pending.is_empty() {
                let n = self.pending.len().min(CHUNK_SIZE - chunk.len());
                chunk.extend(self.pending.drain(..n));
            } else if let Some((file, asset, left)) = &mut self.current {
                let room = ((CHUNK_SIZE - chunk.len()) as u64).min(*left);
                let got = Read::by_ref(file)
                    .take(room)
                    .read_to_end(&mut chunk)
                    .map_err(|e| file_error("read", &asset.source, e))?;
                *left -= got as u64;
                let changed = (got as u64) < room;
                if changed || (*left == 0 && is_longer(file, asset)?) {
                    return Err(ImageError::asset(asset.path.as_str(), "it changed while it was packed"));
                }
                if *left == 0 {
                    self.pending = vec![0; padding(asset.size)];
                    self.current = None;
                }
            } else if let Some(asset) = self.files.next() {
                let file = File::open(&asset.source).map_err(|e| file_error("read", &asset.source, e))?;
                let meta = file.metadata().map_err(|e| file_error("read", &asset.source, e))?;
                if FileId::of(&meta) != asset.id {
                    return Err(ImageError::asset(asset.path.as_str(), "it changed while it was packed"));
                }
                self.pending = header(asset.path.as_str(), asset.size);
                self.current = Some((file, asset, asset.size));
            } else if !self.ended {
                self.pending = END_OF_ARCHIVE.to_vec();
                self.ended = true;
            } else {
                break;
            }
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&chunk);
        }
        Ok((!chunk.is_empty()).then_some(chunk))
    }
}

fn is_longer(file: &mut File, asset: &AssetFile) -> Result<bool, ImageError> {
    let mut more = [0];
    Ok(file.read(&mut more).map_err(|e| file_error("read", &asset.source, e))? > 0)
}
