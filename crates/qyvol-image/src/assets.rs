//! Finding an application's assets and packing them into a layer.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use qyvol_store::Reporter;
use qyvol_types::{Algorithm, AssetPath, AssetRule, AssetsConfig, Digest, Hasher, PathSet, limits};

use crate::frames::{CHUNK, Compressor};
use crate::tar_stream::{END, header, padding};
use crate::{ImageError, parallel};

/// The files to pack, sorted by the bytes of their paths.
#[derive(Clone, Debug, Default)]
pub struct AssetPlan {
    /// The files.
    pub files: Vec<AssetFile>,
    /// Bytes of all files.
    pub bytes: u64,
}

/// One file to pack.
#[derive(Clone, Debug)]
pub struct AssetFile {
    /// Where it goes under the assets root.
    pub path: AssetPath,
    /// Where it is.
    pub source: PathBuf,
    /// Its size in bytes.
    pub size: u64,
}

/// Finds the files that `rules` name inside `root`. Files in `skip` (canonical
/// paths: the manifest, the entrypoint, the output) are passed over where a
/// folder or glob finds them.
pub fn plan_assets(root: &Path, rules: &[AssetRule], skip: &HashSet<PathBuf>) -> Result<AssetPlan, ImageError> {
    let real_root = fs::canonicalize(root).map_err(|e| file_error("open", root, e))?;
    let mut finder = Finder {
        root,
        real_root,
        skip,
        found: BTreeMap::new(),
    };
    for rule in rules {
        finder.rule(rule)?;
    }
    let mut plan = AssetPlan::default();
    let mut names = PathSet::new();
    for (path, (source, size)) in finder.found {
        names
            .insert(&path)
            .map_err(|why| ImageError::asset_path(path.as_str(), &why))?;
        plan.bytes += size;
        plan.files.push(AssetFile { path, source, size });
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
    found: BTreeMap<AssetPath, (PathBuf, u64)>,
}

/// What a rule does with the files it walks over.
struct Selection<'a> {
    /// Part of the path that `to` replaces.
    base: &'a str,
    to: Option<&'a AssetPath>,
    glob: Option<GlobMatcher>,
    count: u64,
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
            base: from,
            to: rule.to.as_ref(),
            glob: None,
            count: 0,
        };
        match fs::symlink_metadata(&whole) {
            Ok(meta) if meta.is_dir() => self.walk(from, &mut selection)?,
            Ok(_) => {
                let to = rule.to.as_ref().map_or(from, AssetPath::as_str);
                self.add(from, to)?;
                selection.count = 1;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && from.contains(['*', '?', '[', '{']) => {
                let glob = GlobBuilder::new(from).literal_separator(true).build();
                let glob = glob.map_err(|e| ImageError::asset(from, format_args!("it is not a glob: {}", e.kind())))?;
                selection.glob = Some(glob.compile_matcher());
                selection.base = &fixed;
                if self.root.join(&fixed).is_dir() {
                    self.walk(&fixed, &mut selection)?;
                }
            }
            Err(error) => return Err(file_error("read", &whole, error)),
        }
        if selection.count == 0 {
            return Err(ImageError::asset(from, "no file matches it"));
        }
        Ok(())
    }

    fn walk(&mut self, folder: &str, selection: &mut Selection<'_>) -> Result<(), ImageError> {
        let path = self.root.join(folder);
        let mut names = Vec::new();
        for entry in fs::read_dir(&path).map_err(|e| file_error("list", &path, e))? {
            let entry = entry.map_err(|e| file_error("list", &path, e))?;
            let is_dir = entry
                .file_type()
                .map_err(|e| file_error("read", &entry.path(), e))?
                .is_dir();
            names.push((entry.file_name(), is_dir));
        }
        for (name, is_dir) in names {
            let Some(text) = name.to_str() else {
                return Err(ImageError::asset(
                    &path.join(name).to_string_lossy(),
                    "its name is not valid UTF-8",
                ));
            };
            let relative = if folder.is_empty() {
                text.to_string()
            } else {
                format!("{folder}/{text}")
            };
            if is_dir {
                self.walk(&relative, selection)?;
            } else if selection.glob.as_ref().is_none_or(|g| g.is_match(&relative)) {
                if fs::canonicalize(self.root.join(&relative)).is_ok_and(|real| self.skip.contains(&real)) {
                    continue;
                }
                let rest = relative
                    .strip_prefix(selection.base)
                    .unwrap_or(&relative)
                    .trim_start_matches('/');
                let to = selection
                    .to
                    .map_or_else(|| relative.clone(), |to| format!("{to}/{rest}"));
                self.add(&relative, &to)?;
                selection.count += 1;
            }
        }
        Ok(())
    }

    fn add(&mut self, from: &str, to: &str) -> Result<(), ImageError> {
        let path = AssetPath::parse(to).map_err(|why| ImageError::asset_path(to, &why))?;
        let source = self.root.join(from);
        let real = fs::canonicalize(&source).map_err(|e| file_error("read", &source, e))?;
        if !real.starts_with(&self.real_root) {
            return Err(ImageError::asset(
                from,
                "it is a link that leaves the manifest's folder",
            ));
        }
        let meta = fs::metadata(&real).map_err(|e| file_error("read", &source, e))?;
        if meta.is_dir() {
            return Err(ImageError::asset(
                from,
                "it is a link to a folder: list the folder itself",
            ));
        }
        if !meta.is_file() {
            return Err(ImageError::asset(from, "it is not a regular file"));
        }
        limit("size of an asset in bytes", meta.len(), limits::ENTRY_BYTES)?;
        match self.found.get(&path) {
            Some((other, _)) if *other != real => {
                Err(ImageError::asset(from, format_args!("two files want to be `{path}`")))
            }
            _ => {
                self.found.insert(path, (real, meta.len()));
                Ok(())
            }
        }
    }
}

/// What packing made.
pub(crate) struct Packed {
    pub(crate) config: AssetsConfig,
    pub(crate) digest: Digest,
}

/// Writes the layer: a canonical tar in frames of [`CHUNK`].
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
    parallel::ordered(next, worker, |frame: Vec<u8>| {
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
        let mut chunk = Vec::with_capacity(CHUNK);
        while chunk.len() < CHUNK {
            if !self.pending.is_empty() {
                let n = self.pending.len().min(CHUNK - chunk.len());
                chunk.extend(self.pending.drain(..n));
            } else if let Some((file, asset, left)) = &mut self.current {
                let room = ((CHUNK - chunk.len()) as u64).min(*left);
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
                self.pending = header(asset.path.as_str(), asset.size);
                self.current = Some((file, asset, asset.size));
            } else if !self.ended {
                self.pending = END.to_vec();
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
