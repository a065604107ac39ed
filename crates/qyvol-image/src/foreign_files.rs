//! A layer of files of another tool's container image: finding the one
//! WebAssembly file in it.
//!
//! The layer is read as it arrives, before its digest is known to be right, so
//! everything is bounded: bytes unpacked, entries, names, the component. The
//! result is returned only after the whole layer was read, when the underlying
//! reader has verified its digest.
//!
//! Deliberately absent: writing any file, following links, and stacks of layers, which the
//! caller walks through.

use std::io::{self, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};

use qyvol_types::foreign::Compression;
use qyvol_types::{escape, limits};

use crate::ImageError;
use crate::foreign_tar::{EntryKind, ExtendedHeaders, read_up_to, refused, unreadable};

/// Log of the largest window of zstd: 8 MiB, as everywhere here.
const WINDOW_LOG: u32 = 23;
/// Prefix of a whiteout, before the name of what it removes.
const WHITEOUT: &str = ".wh.";
/// Prefix of names that are reserved for the tools that make layers.
const WHITEOUT_META: &str = ".wh..wh.";
/// Removes all that lower layers have in its directory.
const OPAQUE: &str = ".wh..wh..opq";

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// The file at this path, which has no leading `/`.
    Path(&'a str),
    /// Files whose names end in `.wasm`; an upper layer has these paths.
    Any(&'a [String]),
}

/// What a layer holds.
#[derive(Clone, Debug, Default)]
pub struct FoundFiles {
    /// The WebAssembly file: its path and content.
    pub wasm: Option<(String, Vec<u8>)>,
    /// Paths of further WebAssembly files, if any file is wanted.
    pub more: Vec<String>,
    /// Wanted paths of upper layers that this layer removes or replaces.
    pub removed: Option<String>,
    /// Paths of other files; the first of them.
    pub others: Vec<String>,
    /// How many other files there are.
    pub other_count: usize,
}

/// Finds what is wanted, and reads the layer to its end. At most `names` paths of each sort are
/// kept.
pub fn find_wasm(
    body: impl Read,
    compression: Compression,
    wanted: &Wanted<'_>,
    names: usize,
) -> Result<FoundFiles, ImageError> {
    let failure = Arc::default();
    let mut body = Noted {
        inner: body,
        failure: Arc::clone(&failure),
    };
    let found = match compression {
        Compression::None => search(&mut body, wanted, names),
        Compression::Gzip => search(
            flate2::bufread::MultiGzDecoder::new(BufReader::new(&mut body)),
            wanted,
            names,
        ),
        Compression::Zstd => zstd::stream::read::Decoder::new(&mut body)
            .and_then(|mut decoder| decoder.window_log_max(WINDOW_LOG).map(|()| decoder))
            .map_err(|error| unreadable(&error))
            .and_then(|decoder| search(decoder, wanted, names)),
    };
    // The digest covers the bytes after the last file too. An error of the source itself is
    // more precise than the decoder's.
    let rest = match found {
        Ok(_) => io::copy(&mut body, &mut io::sink()).map(|_| ()),
        Err(_) => Ok(()),
    };
    if let Some(error) = failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(ImageError::Read(error));
    }
    rest?;
    found
}

fn search(unpacked: impl Read, wanted: &Wanted<'_>, names: usize) -> Result<FoundFiles, ImageError> {
    let mut limited = unpacked.take(limits::IMPORT_UNPACKED_BYTES);
    let found = search_entries(&mut limited, wanted, names);
    if limited.limit() == 0 {
        return Err(ImageError::Limit {
            what: "size of a layer, unpacked, in bytes",
            got: limits::IMPORT_UNPACKED_BYTES,
            limit: limits::IMPORT_UNPACKED_BYTES - 1,
        });
    }
    found
}

fn search_entries(unpacked: impl Read, wanted: &Wanted<'_>, names: usize) -> Result<FoundFiles, ImageError> {
    let mut found = FoundFiles::default();
    let mut cover = Whiteouts::default();
    let mut archive = tar::Archive::new(unpacked);
    // Raw: extended headers are read here, within a bound.
    let entries = archive.entries().map_err(|e| unreadable(&e))?.raw(true);
    let mut ahead = ExtendedHeaders::default();
    for (index, entry) in entries.enumerate() {
        let mut entry = entry.map_err(|e| unreadable(&e))?;
        if index >= limits::IMPORT_ENTRIES {
            return Err(ImageError::Limit {
                what: "number of entries of a layer",
                got: limits::IMPORT_ENTRIES as u64 + 1,
                limit: limits::IMPORT_ENTRIES as u64,
            });
        }
        let Some((name, kind)) = ahead.take(&mut entry)? else {
            continue;
        };
        let is_text = std::str::from_utf8(&name).is_ok();
        let path = normal(&String::from_utf8_lossy(&name));
        // A name that is not UTF-8 can't be wanted.
        if is_text && cover.matches(&path, kind, wanted)? {
            continue;
        }
        if kind == EntryKind::Directory {
            continue;
        }
        let is_it = match wanted {
            Wanted::Path(wanted) => is_text && path == *wanted,
            Wanted::Any(_) => path.ends_with(".wasm"),
        };
        if !is_it {
            found.other_count += 1;
            if found.others.len() < names {
                found.others.push(path);
            }
            continue;
        }
        if kind != EntryKind::File || !is_text {
            let path = escape(&path).to_string();
            return Err(refused(format!(
                "`{path}` in it is not a regular file with a name in UTF-8"
            )));
        }
        let known = found.wasm.iter().map(|(path, _)| path).chain(&found.more);
        if known.into_iter().any(|known| *known == path) {
            return Err(refused(format!("it has `{}` twice", escape(&path))));
        }
        if found.wasm.is_some() {
            // Their content is not kept: their names are enough.
            if found.more.len() < names {
                found.more.push(path);
            }
            continue;
        }
        let bytes = read_up_to(&mut entry, "size of the component in bytes", limits::COMPONENT_BYTES)?;
        found.wasm = Some((path, bytes));
    }
    ahead.finish()?;
    if let (Some((path, _)), Some(_), Wanted::Path(_)) = (&found.wasm, &cover.gone, wanted) {
        let path = escape(path).to_string();
        return Err(refused(format!(
            "it has `{path}`, and removes or replaces it or its directory"
        )));
    }
    found.removed = cover.gone.or(cover.opaque);
    Ok(found)
}

/// What a layer removes from the layers below it.
#[derive(Default)]
struct Whiteouts {
    /// A wanted path that is removed or replaced.
    gone: Option<String>,
    /// A wanted path in an opaque directory.
    opaque: Option<String>,
}

impl Whiteouts {
    /// Inspects an entry; returns whether it is a whiteout, which is no file.
    fn matches(&mut self, path: &str, kind: EntryKind, wanted: &Wanted<'_>) -> Result<bool, ImageError> {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let removes = name.strip_prefix(WHITEOUT);
        if let Some(removed) = removes {
            if name == OPAQUE {
                let below = first(wanted, |path| is_within(path, directory));
                self.opaque = self.opaque.take().or(below);
            } else if matches!(removed, "" | "." | "..") {
                return Err(refused("it has a whiteout without a name"));
            } else if !name.starts_with(WHITEOUT_META) {
                let target = match directory {
                    "" => removed.to_string(),
                    directory => format!("{directory}/{removed}"),
                };
                let below = first(wanted, |path| path == target || is_within(path, &target));
                self.gone = self.gone.take().or(below);
            }
            return Ok(true);
        }
        let below = match (kind, wanted) {
            // A directory where the file was.
            (EntryKind::Directory, _) => first(wanted, |wanted| wanted == path),
            // A file or a link where a directory was.
            (EntryKind::File, _) | (_, Wanted::Path(_)) => first(wanted, |wanted| is_below(wanted, path)),
            (EntryKind::Other, Wanted::Any(_)) => first(wanted, |wanted| wanted == path || is_below(wanted, path)),
        };
        self.gone = self.gone.take().or(below);
        Ok(false)
    }
}

/// The first wanted path for which this is true.
fn first(wanted: &Wanted<'_>, holds: impl Fn(&str) -> bool) -> Option<String> {
    match wanted {
        Wanted::Path(path) => holds(path).then(|| path.to_string()),
        Wanted::Any(below) => below.iter().find(|path| holds(path)).cloned(),
    }
}

/// Whether a path is below another.
fn is_below(path: &str, directory: &str) -> bool {
    !directory.is_empty() && path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

/// Whether a path is in a directory, of which the root is one.
fn is_within(path: &str, directory: &str) -> bool {
    directory.is_empty() || is_below(path, directory)
}

/// A path without what says where it begins.
fn normal(path: &str) -> String {
    let parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
    parts.collect::<Vec<_>>().join("/")
}

/// Keeps the error of the wrapped reader: the decoders around it return their own.
struct Noted<R> {
    inner: R,
    failure: Arc<Mutex<Option<io::Error>>>,
}

impl<R: Read> Read for Noted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buf).map_err(|error| {
            if error.kind() == io::ErrorKind::Interrupted {
                return error;
            }
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert(error);
            io::Error::other("the source failed")
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    const ANY: Wanted<'static> = Wanted::Any(&[]);

    fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, path, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn find(layer: &[u8], wanted: &Wanted<'_>) -> Result<FoundFiles, ImageError> {
        find_wasm(layer, Compression::None, wanted, 9)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    // [REG-029]
    #[test]
    fn one_wasm_file_is_found_in_each_compression() {
        let deep = format!("{}/app.wasm", "d".repeat(150));
        for path in ["app.wasm", deep.as_str()] {
            let plain = tar(&[("etc/x", b"1"), (path, b"\0asm"), ("readme", b"2")]);
            let zstd = zstd::bulk::compress(&plain, 3).unwrap();
            for (bytes, compression) in [
                (plain.clone(), Compression::None),
                (gzip(&plain), Compression::Gzip),
                (zstd, Compression::Zstd),
            ] {
                for wanted in [Wanted::Any(&[]), Wanted::Path(path)] {
                    let found = find_wasm(bytes.as_slice(), compression, &wanted, 9).unwrap();
                    assert_eq!(
                        found.wasm,
                        Some((path.to_string(), b"\0asm".to_vec())),
                        "{compression:?}"
                    );
                    assert_eq!((found.other_count, found.others.len()), (2, 2));
                }
            }
            let found = find(&plain, &Wanted::Path("b.wasm")).unwrap();
            assert!(found.wasm.is_none() && found.removed.is_none());
        }
        let two = tar(&[("a.wasm", b"\0asm"), ("b.wasm", b"\0asm")]);
        let found = find(&two, &Wanted::Any(&[])).unwrap();
        assert_eq!(found.more, ["b.wasm"]);
        let found = find(&two, &Wanted::Path("b.wasm")).unwrap();
        assert_eq!(found.wasm.unwrap().0, "b.wasm");
        let twice = tar(&[("a.wasm", b"\0asm"), ("./a.wasm", b"\0asm")]);
        assert!(find(&twice, &Wanted::Path("a.wasm")).is_err());
    }

    // [REG-029]
    #[test]
    fn whiteouts_and_replacements_are_reported() {
        let link = |name: &str| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            let mut builder = tar::Builder::new(Vec::new());
            builder.append_link(&mut header, name, "elsewhere").unwrap();
            builder.into_inner().unwrap()
        };
        let directory = |name: &str| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Directory);
            header.set_size(0);
            let mut builder = tar::Builder::new(Vec::new());
            builder.append_data(&mut header, name, io::empty()).unwrap();
            builder.into_inner().unwrap()
        };
        let below = ["srv/a/app.wasm".to_string()];
        for wanted in [Wanted::Path("srv/a/app.wasm"), Wanted::Any(&below)] {
            for (layer, is_gone) in [
                (tar(&[("srv/a/.wh.app.wasm", b"")]), true),
                (tar(&[("srv/.wh.a", b"")]), true),
                (tar(&[(".wh.srv", b"")]), true),
                (tar(&[("srv/a/.wh..wh..opq", b"")]), true),
                (tar(&[("./srv/.wh..wh..opq", b"")]), true),
                (tar(&[(".wh..wh..opq", b"")]), true),
                (tar(&[("srv", b"a file")]), true),
                (link("srv/a"), true),
                (directory("srv/a/app.wasm/"), true),
                (
                    tar(&[(".wh.sr", b""), ("srv/.wh.b", b""), ("srv/.wh..wh.aufs", b"")]),
                    false,
                ),
                (tar(&[("srv/b/.wh..wh..opq", b"")]), false),
                (directory("srv/a/"), false),
                (tar(&[("srv/ab", b"")]), false),
            ] {
                let found = find(&layer, &wanted).unwrap();
                assert!(found.wasm.is_none());
                assert_eq!(found.removed.is_some(), is_gone, "{found:?}");
            }
            // A file that is added again counts.
            let layer = tar(&[("srv/.wh..wh..opq", b""), ("srv/a/app.wasm", b"\0asm")]);
            assert!(find(&layer, &wanted).unwrap().wasm.is_some());
        }
        for layer in [
            tar(&[("a.wasm", b"\0asm"), (".wh.a.wasm", b"")]),
            tar(&[(".wh.", b"")]),
            tar(&[(".wh...", b"")]),
        ] {
            assert!(find(&layer, &Wanted::Path("a.wasm")).is_err());
        }
        // A whiteout is no component.
        assert!(
            find(&tar(&[(".wh.a.wasm", b"")]), &Wanted::Any(&[]))
                .unwrap()
                .wasm
                .is_none()
        );
    }

    // [REG-029]
    #[test]
    fn truncated_or_inconsistent_layer_is_refused() {
        let plain = tar(&[("app.wasm", &[7; 4096])]);
        let packed = gzip(&plain);
        assert!(find_wasm(&plain[..2000], Compression::None, &ANY, 9).is_err());
        assert!(find_wasm(&packed[..packed.len() / 2], Compression::Gzip, &ANY, 9).is_err());
        assert!(find_wasm(plain.as_slice(), Compression::Gzip, &ANY, 9).is_err());
        assert!(find_wasm(plain.as_slice(), Compression::Zstd, &ANY, 9).is_err());
        // Sizes in a header are claims.
        let mut huge = plain.clone();
        let mut header = tar::Header::from_byte_slice(&huge[..512]).clone();
        header.set_size(limits::COMPONENT_BYTES + 1);
        header.set_cksum();
        huge[..512].copy_from_slice(header.as_bytes());
        let error = find_wasm(huge.as_slice(), Compression::None, &ANY, 9).unwrap_err();
        assert!(matches!(error, ImageError::Limit { .. }), "{error}");
        // A link is not followed.
        let mut link = plain.clone();
        header.set_size(0);
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_cksum();
        link[..512].copy_from_slice(header.as_bytes());
        let error = find_wasm(link.as_slice(), Compression::None, &ANY, 9).unwrap_err();
        assert!(error.to_string().contains("not a regular file"), "{error}");
    }

    proptest! {
        #[test]
        fn layer_of_any_bytes_is_read_without_panic(
            at in 0..3000usize, with in proptest::collection::vec(any::<u8>(), 0..64), wanted: bool
        ) {
            let long = format!("{}/app.wasm", "d".repeat(150));
            let mut bytes = tar(&[(&long, b"\0asm"), ("x", b"1")]);
            let end = bytes.len().min(at + with.len());
            bytes.splice(at.min(end)..end, with);
            let wanted = if wanted { Wanted::Path("app.wasm") } else { ANY };
            for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
                let _ = find_wasm(bytes.as_slice(), compression, &wanted, 9);
            }
            let _ = find_wasm(gzip(&bytes).as_slice(), Compression::Gzip, &wanted, 9);
        }
    }

    // [REG-029]
    #[test]
    fn error_of_the_source_is_returned_unchanged() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::new(io::ErrorKind::TimedOut, "late"))
            }
        }
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let error = find_wasm(Broken, compression, &ANY, 9).unwrap_err();
            let ImageError::Read(error) = error else {
                panic!("{error}")
            };
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
    }
}
