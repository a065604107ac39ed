//! A layer of files of another tool's container image: finding the one
//! WebAssembly file in it.
//!
//! The layer is read as it arrives, before its digest is known to be right, so
//! everything is bounded: bytes unpacked, entries, names, the component. What
//! was found is handed out only when all of the layer has come, which is when
//! the reader that it comes through has checked it.
//!
//! Deliberately absent: writing any file, following links, and layers on top of
//! one another, which the caller goes through from the top.

use std::io::{self, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};

use qyvol_types::foreign::Compression;
use qyvol_types::{escape, limits};

use crate::ImageError;

/// Bytes of a name, or of the records that hold one.
const NAME_BYTES: u64 = 64 << 10;
/// Names of other files that are kept to be told.
const NAMES: usize = 100;
/// Log of the largest window of zstd: 8 MiB, as everywhere here.
const WINDOW_LOG: u32 = 23;
/// Bytes reserved at once for content whose size only a header states.
const RESERVE: u64 = 1 << 20;
/// Before the name of a file that an upper layer removes.
const WHITEOUT: &str = ".wh.";

/// What a layer holds.
#[derive(Clone, Debug, Default)]
pub struct FoundFiles {
    /// The WebAssembly file: its path and content.
    pub wasm: Option<(String, Vec<u8>)>,
    /// The wanted file is removed by this layer.
    pub removed: bool,
    /// Paths of the files that are something else; the first of them.
    pub others: Vec<String>,
    /// How many those are.
    pub other_count: usize,
}

/// Looks for `wanted`, a path without a leading `/`, or where that is not said
/// for the one file whose name ends in `.wasm`. Reads the layer to its end.
pub fn find_wasm(body: impl Read, compression: Compression, wanted: Option<&str>) -> Result<FoundFiles, ImageError> {
    let failure = Arc::default();
    let mut body = Noted {
        inner: body,
        failure: Arc::clone(&failure),
    };
    let found = match compression {
        Compression::None => look(&mut body, wanted),
        Compression::Gzip => look(flate2::bufread::MultiGzDecoder::new(BufReader::new(&mut body)), wanted),
        Compression::Zstd => zstd::stream::read::Decoder::new(&mut body)
            .and_then(|mut decoder| decoder.window_log_max(WINDOW_LOG).map(|()| decoder))
            .map_err(|error| unreadable(&error))
            .and_then(|decoder| look(decoder, wanted)),
    };
    // The digest covers what comes behind the last file too. An error of the
    // source itself says more than what became of it on the way.
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

fn unreadable(error: &io::Error) -> ImageError {
    ImageError::Layer(format!("it can't be unpacked: {}", escape(&error.to_string())))
}

fn look(unpacked: impl Read, wanted: Option<&str>) -> Result<FoundFiles, ImageError> {
    let mut limited = unpacked.take(limits::IMPORT_UNPACKED_BYTES);
    let found = look_within(&mut limited, wanted);
    if limited.limit() == 0 {
        return Err(ImageError::Limit {
            what: "size of a layer, unpacked, in bytes",
            got: limits::IMPORT_UNPACKED_BYTES,
            limit: limits::IMPORT_UNPACKED_BYTES - 1,
        });
    }
    found
}

fn look_within(unpacked: impl Read, wanted: Option<&str>) -> Result<FoundFiles, ImageError> {
    let mut found = FoundFiles::default();
    let whiteout = wanted.map(|path| match path.rsplit_once('/') {
        Some((directory, name)) => format!("{directory}/{WHITEOUT}{name}"),
        None => format!("{WHITEOUT}{path}"),
    });
    let mut archive = tar::Archive::new(unpacked);
    // Raw: names that are too long for a header are read here, within a bound.
    let entries = archive.entries().map_err(|e| unreadable(&e))?.raw(true);
    let mut long_name = None;
    for (index, entry) in entries.enumerate() {
        let mut entry = entry.map_err(|e| unreadable(&e))?;
        if index >= limits::IMPORT_ENTRIES {
            return Err(ImageError::Limit {
                what: "number of entries of a layer",
                got: limits::IMPORT_ENTRIES as u64 + 1,
                limit: limits::IMPORT_ENTRIES as u64,
            });
        }
        let kind = entry.header().entry_type();
        if kind.is_gnu_longname() || kind.is_pax_local_extensions() {
            let bytes = read_up_to(&mut entry, "name of an entry in bytes", NAME_BYTES)?;
            long_name = match kind.is_gnu_longname() {
                true => Some(bytes.split(|b| *b == 0).next().unwrap_or_default().to_vec()),
                false => pax_path(&bytes).or(long_name),
            };
            continue;
        }
        let name = long_name.take().unwrap_or_else(|| entry.path_bytes().into_owned());
        let path = normal(&String::from_utf8_lossy(&name));
        if Some(&path) == whiteout.as_ref() {
            found.removed = true;
            continue;
        }
        if kind.is_dir() || kind.is_pax_global_extensions() || kind.is_gnu_longlink() {
            continue;
        }
        let is_it = match wanted {
            Some(wanted) => path == wanted,
            None => path.ends_with(".wasm"),
        };
        if !is_it {
            found.other_count += 1;
            if found.others.len() < NAMES {
                found.others.push(path);
            }
            continue;
        }
        if !kind.is_file() && !kind.is_contiguous() {
            return Err(ImageError::Layer(format!(
                "`{}` in it is not a regular file",
                escape(&path)
            )));
        }
        if let Some((first, _)) = &found.wasm {
            let (first, second) = (escape(first), escape(&path));
            return Err(ImageError::Layer(format!(
                "it has several components, `{first}` and `{second}`"
            )));
        }
        let bytes = read_up_to(&mut entry, "size of the component in bytes", limits::COMPONENT_BYTES)?;
        found.wasm = Some((path, bytes));
    }
    Ok(found)
}

fn read_up_to<R: Read>(entry: &mut tar::Entry<'_, R>, what: &'static str, limit: u64) -> Result<Vec<u8>, ImageError> {
    let size = entry.header().entry_size().map_err(|e| unreadable(&e))?;
    if size > limit {
        return Err(ImageError::Limit { what, got: size, limit });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size.min(RESERVE)).unwrap_or(0));
    entry.read_to_end(&mut bytes).map_err(|e| unreadable(&e))?;
    if bytes.len() as u64 != size {
        return Err(ImageError::Layer("it ends within a file".to_string()));
    }
    Ok(bytes)
}

/// The path in pax records: `LENGTH path=VALUE`, each on a line.
fn pax_path(records: &[u8]) -> Option<Vec<u8>> {
    let mut rest = records;
    let mut path = None;
    while !rest.is_empty() {
        let space = rest.iter().position(|b| *b == b' ')?;
        let length: usize = std::str::from_utf8(rest.get(..space)?).ok()?.parse().ok()?;
        let record = rest.get(space + 1..length)?.strip_suffix(b"\n")?;
        if let Some(value) = record.strip_prefix(b"path=") {
            path = Some(value.to_vec());
        }
        rest = rest.get(length..)?;
    }
    path
}

/// A path without what says where it begins.
fn normal(path: &str) -> String {
    let parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
    parts.collect::<Vec<_>>().join("/")
}

/// Keeps the error of a reader that others wrap: the layers between hand on
/// their own.
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
                for wanted in [None, Some(path)] {
                    let found = find_wasm(bytes.as_slice(), compression, wanted).unwrap();
                    assert_eq!(
                        found.wasm,
                        Some((path.to_string(), b"\0asm".to_vec())),
                        "{compression:?}"
                    );
                    assert_eq!((found.other_count, found.others.len()), (2, 2));
                }
            }
            let found = find_wasm(plain.as_slice(), Compression::None, Some("b.wasm")).unwrap();
            assert!(found.wasm.is_none() && !found.removed);
        }
        let two = tar(&[("a.wasm", b"\0asm"), ("b.wasm", b"\0asm")]);
        assert!(find_wasm(two.as_slice(), Compression::None, None).is_err());
        let found = find_wasm(two.as_slice(), Compression::None, Some("b.wasm")).unwrap();
        assert_eq!(found.wasm.unwrap().0, "b.wasm");
        let gone = tar(&[(".wh.a.wasm", b"")]);
        assert!(
            find_wasm(gone.as_slice(), Compression::None, Some("a.wasm"))
                .unwrap()
                .removed
        );
    }

    // [REG-029]
    #[test]
    fn layer_that_is_cut_altered_or_names_what_it_does_not_hold_is_refused() {
        let plain = tar(&[("app.wasm", &[7; 4096])]);
        let packed = gzip(&plain);
        assert!(find_wasm(&plain[..2000], Compression::None, None).is_err());
        assert!(find_wasm(&packed[..packed.len() / 2], Compression::Gzip, None).is_err());
        assert!(find_wasm(plain.as_slice(), Compression::Gzip, None).is_err());
        assert!(find_wasm(plain.as_slice(), Compression::Zstd, None).is_err());
        // Sizes in a header are claims.
        let mut huge = plain.clone();
        let mut header = tar::Header::from_byte_slice(&huge[..512]).clone();
        header.set_size(limits::COMPONENT_BYTES + 1);
        header.set_cksum();
        huge[..512].copy_from_slice(header.as_bytes());
        let error = find_wasm(huge.as_slice(), Compression::None, None).unwrap_err();
        assert!(matches!(error, ImageError::Limit { .. }), "{error}");
        // A link is not followed.
        let mut link = plain.clone();
        header.set_size(0);
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_cksum();
        link[..512].copy_from_slice(header.as_bytes());
        let error = find_wasm(link.as_slice(), Compression::None, None).unwrap_err();
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
            let wanted = wanted.then_some("app.wasm");
            for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
                let _ = find_wasm(bytes.as_slice(), compression, wanted);
            }
            let _ = find_wasm(gzip(&bytes).as_slice(), Compression::Gzip, wanted);
        }

        #[test]
        fn pax_records_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), n: usize, text: String) {
            let _ = pax_path(&bytes);
            let _ = pax_path(format!("{n} path={text}\n").as_bytes());
        }
    }

    // [REG-029]
    #[test]
    fn error_of_the_source_is_handed_on_as_it_is() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::new(io::ErrorKind::TimedOut, "late"))
            }
        }
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let error = find_wasm(Broken, compression, None).unwrap_err();
            let ImageError::Read(error) = error else {
                panic!("{error}")
            };
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
    }
}
