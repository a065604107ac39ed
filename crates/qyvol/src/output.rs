//! Output files: written atomically, and only over files that may be replaced.
//!
//! A file is written next to its destination and moved there at the end, so that the existing
//! file stays until then. Only an archive is replaced, unless the user forces it, and an input
//! of the command never is. An archive is not synced: after a power failure it may be torn,
//! which every reader of a `.qyvbin` detects. An archive that replaces the only copy is synced.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use qyvol_image::{FileId, is_qyvbin};
use rustix::fs::OFlags;

use crate::temp_file::{TempFile, TempFiles};
use crate::{Context, Error, policy_path};

/// Where a command writes its archive.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    /// The file.
    pub path: &'a Path,
    /// Whether a file that is no archive is replaced too. What the command
    /// reads never is.
    pub force: bool,
    /// More files that the command has read.
    pub inputs: &'a [PathBuf],
}

/// Files that a command reads, by their identity and by their real paths.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    ids: HashSet<FileId>,
    paths: HashSet<PathBuf>,
}

impl Inputs {
    /// Adds an opened file; `path` is how it was opened.
    pub(crate) fn add(&mut self, id: FileId, path: &Path) {
        self.ids.insert(id);
        self.paths.extend(fs::canonicalize(path));
    }

    /// Adds the file at a path, if there is one.
    pub(crate) fn add_path(&mut self, path: &Path) {
        self.ids.extend(fs::metadata(path).ok().map(|meta| FileId::of(&meta)));
        self.paths.extend(fs::canonicalize(path));
    }

    /// Adds a file whose real path is known.
    pub(crate) fn add_real(&mut self, id: FileId, real: &Path) {
        self.ids.insert(id);
        self.paths.insert(real.to_path_buf());
    }
}

/// What may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OverwritePolicy {
    /// An archive, or an empty file, in which there is nothing to lose.
    Archives,
    /// Whatever is no input.
    Anything,
    /// No file.
    #[cfg(feature = "import")]
    Nothing,
    /// This very file.
    Only(FileId),
}

/// An output path, checked before anything is written.
#[derive(Debug)]
pub(crate) struct OutputPath {
    /// As the user named it.
    shown: PathBuf,
    /// The real directory, and the name in it.
    directory: PathBuf,
    name: OsString,
    replaces: OverwritePolicy,
    inputs: Inputs,
}

/// What exists at an output path.
enum ExistingOutput {
    Nothing,
    /// A pipe or a device, which is written to as it is.
    Stream(FileId),
    /// A file that may be replaced.
    File(Metadata),
}

impl OutputPath {
    /// The place that a user named.
    pub(crate) fn new(ctx: &Context<'_>, to: &Destination<'_>) -> Result<OutputPath, Error> {
        if to.path == Path::new("-") {
            return Err(Error::Usage(
                "-o - : archives are not written to stdout (./- names a file, /dev/stdout the stream)".to_string(),
            ));
        }
        let mut place = OutputPath::at(to.path)?;
        if to.force {
            place.replaces = OverwritePolicy::Anything;
        }
        // Archives never go into the store or among the keys.
        for own in [ctx.home.store.join("store"), ctx.home.config.join("keys")] {
            if fs::canonicalize(own).is_ok_and(|own| place.directory.starts_with(own)) {
                return Err(Error::OutputIsInput {
                    path: to.path.to_path_buf(),
                });
            }
        }
        place.inputs.add_path(&policy_path(ctx));
        for input in to.inputs {
            place.inputs.add_path(input);
        }
        Ok(place)
    }

    /// The place of one file, which is to be replaced.
    pub(crate) fn of(path: &Path, file: FileId) -> Result<OutputPath, Error> {
        Ok(OutputPath {
            replaces: OverwritePolicy::Only(file),
            ..OutputPath::at(path)?
        })
    }

    fn at(path: &Path) -> Result<OutputPath, Error> {
        if let Ok(link) = path.symlink_metadata()
            && link.is_symlink()
            && !is_trusted_link(path, &link)
        {
            return Err(Error::file("write", path)(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "it is another user's link in a directory that others can write",
            )));
        }
        // A link's file is written, not the link.
        let real = match fs::canonicalize(path) {
            Ok(real) => real,
            Err(_) if path.is_symlink() && !path.exists() => {
                let nothing = io::Error::new(io::ErrorKind::NotFound, "it is a dangling symbolic link");
                return Err(Error::file("write", path)(nothing));
            }
            Err(_) => path.to_path_buf(),
        };
        let directory = match real.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let Some(name) = real.file_name().filter(|_| !real.is_dir()) else {
            return Err(Error::Usage(format!(
                "the output {} is a directory: name a file in it",
                qyvol_types::escape(&path.to_string_lossy())
            )));
        };
        let directory = fs::canonicalize(directory).map_err(Error::file("create a file in", directory))?;
        Ok(OutputPath {
            shown: path.to_path_buf(),
            directory,
            name: name.to_os_string(),
            replaces: OverwritePolicy::Archives,
            inputs: Inputs::default(),
        })
    }

    /// The file's real path.
    pub(crate) fn real(&self) -> PathBuf {
        self.directory.join(&self.name)
    }

    /// Whether the file there is an archive, which a build makes anew instead
    /// of packing it.
    pub(crate) fn holds_archive(&self) -> bool {
        open(&self.real()).is_ok_and(|(mut file, meta)| meta.is_file() && is_qyvbin(&mut file))
    }

    /// Keeps whatever file is there.
    #[cfg(feature = "import")]
    pub(crate) fn keep(&mut self) {
        self.replaces = OverwritePolicy::Nothing;
    }

    /// Files that the command reads, which it must not replace.
    pub(crate) fn inputs(&mut self) -> &mut Inputs {
        &mut self.inputs
    }

    /// Refuses to overwrite what must stay.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.inspect().map(drop)
    }

    fn failed(&self) -> impl FnOnce(io::Error) -> Error + use<> {
        Error::file("write", self.shown.clone())
    }

    /// Inspects the existing file, and refuses one that must stay.
    fn inspect(&self) -> Result<ExistingOutput, Error> {
        let real = self.real();
        let meta = match fs::metadata(&real) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return match self.inputs.paths.contains(&real) {
                    true => Err(self.is_input()),
                    false => Ok(ExistingOutput::Nothing),
                };
            }
            Err(error) => return Err(self.failed()(error)),
        };
        if meta.is_dir() {
            return Err(self.failed()(io::ErrorKind::IsADirectory.into()));
        }
        let id = FileId::of(&meta);
        if !meta.is_file() {
            return Ok(ExistingOutput::Stream(id));
        }
        if self.inputs.ids.contains(&id) || self.inputs.paths.contains(&real) {
            return Err(self.is_input());
        }
        match self.replaces {
            OverwritePolicy::Anything => Ok(ExistingOutput::File(meta)),
            OverwritePolicy::Only(file) if file == id => Ok(ExistingOutput::File(meta)),
            #[cfg(feature = "import")]
            OverwritePolicy::Nothing => Err(Error::OutputKept {
                path: self.shown.clone(),
            }),
            OverwritePolicy::Only(_) => Err(self.failed()(io::Error::other(
                "another file has replaced it in the meantime",
            ))),
            OverwritePolicy::Archives => {
                let (mut file, meta) =
                    open(&real).map_err(Error::file("see what would be replaced in", &self.shown))?;
                if meta.len() > 0 && !is_qyvbin(&mut file) {
                    return Err(Error::OutputExists {
                        path: self.shown.clone(),
                    });
                }
                Ok(ExistingOutput::File(meta))
            }
        }
    }

    fn is_input(&self) -> Error {
        Error::OutputIsInput {
            path: self.shown.clone(),
        }
    }
}

/// Whether a link may be followed, by the rule of Linux's `protected_symlinks`:
/// in a directory that others can write, only one's own or root's.
fn is_trusted_link(path: &Path, link: &Metadata) -> bool {
    let own = link.uid() == rustix::process::geteuid().as_raw() || link.uid() == 0;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    own || fs::metadata(directory).is_ok_and(|meta| meta.mode() & 0o022 == 0)
}

/// Opens a file to inspect it, without blocking.
fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits() as i32;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let meta = file.metadata()?;
    Ok((file, meta))
}

/// An archive being written. Dropped, nothing of it is left.
pub(crate) struct Output<'a> {
    file: BufWriter<Sink<'a>>,
    place: OutputPath,
    written: u64,
}

enum Sink<'a> {
    Beside(TempFile<'a>),
    Through(File),
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Sink::Beside(temporary) => temporary.file().write(bytes),
            Sink::Through(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> Output<'a> {
    /// Starts writing, once all that the command reads is known.
    pub(crate) fn create(ctx: &Context<'a>, place: OutputPath) -> Result<Output<'a>, Error> {
        let sink = match place.inspect()? {
            ExistingOutput::Stream(id) => {
                let stream = File::options().write(true).open(place.real()).map_err(place.failed())?;
                let meta = stream.metadata().map_err(place.failed())?;
                if FileId::of(&meta) != id {
                    return Err(place.failed()(io::Error::other(
                        "something else has replaced it meanwhile",
                    )));
                }
                Sink::Through(stream)
            }
            standing => {
                let failed = || Error::file("create a file in", &place.directory);
                let mut temporary = TempFile::create(ctx.temporaries, &place.directory, 0o644).map_err(failed())?;
                if let ExistingOutput::File(meta) = standing {
                    // A file that others can't read stays so.
                    let mode = fs::Permissions::from_mode(meta.permissions().mode() & 0o777);
                    temporary.file().set_permissions(mode).map_err(failed())?;
                }
                Sink::Beside(temporary)
            }
        };
        Ok(Output {
            file: BufWriter::with_capacity(256 << 10, sink),
            place,
            written: 0,
        })
    }

    /// Puts the file in its place; returns its size. The existing file stays until then, and is
    /// inspected once more.
    pub(crate) fn finish(self) -> Result<u64, Error> {
        let failed = || self.place.failed();
        let sink = self.file.into_inner().map_err(|e| failed()(e.into_error()))?;
        let Sink::Beside(mut temporary) = sink else {
            return Ok(self.written);
        };
        match self.place.inspect()? {
            ExistingOutput::Stream(_) => {
                return Err(failed()(io::Error::other("a pipe or device has replaced it meanwhile")));
            }
            ExistingOutput::Nothing => temporary.persist_noclobber(&self.place.name).map_err(failed())?,
            ExistingOutput::File(_) if matches!(self.place.replaces, OverwritePolicy::Only(_)) => {
                temporary.file().sync_all().map_err(failed())?;
                temporary.replace(&self.place.name).map_err(failed())?;
                sync_directory(&self.place.directory)?;
            }
            ExistingOutput::File(_) => temporary.replace(&self.place.name).map_err(failed())?,
        }
        Ok(self.written)
    }
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn sync_directory(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(Error::file("write", path))
}

/// Makes a directory that only its owner enters.
pub(crate) fn private_directory(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    if path.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(Error::file("make the directory", path))
}

/// Writes a new small file, with `mode`; fails if it exists.
pub(crate) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let directory = path.parent().unwrap_or(Path::new("."));
    private_directory(directory)?;
    let write = || {
        let all = TempFiles::default();
        let mut temporary = TempFile::create(&all, directory, mode)?;
        temporary.file().write_all(bytes)?;
        temporary.file().sync_all()?;
        temporary.persist_noclobber(path.file_name().unwrap_or(OsStr::new("")))
    };
    write().map_err(Error::file("write", path))?;
    sync_directory(directory)
}
