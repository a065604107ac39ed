//! The entries of a tar that another tool wrote, each with a name on which all readers agree.
//!
//! Readers of tar differ: on sizes in extended headers, on what becomes of a
//! long name before another header, on data behind a link. A layer that they
//! could read in two ways would let one tool check a file and another sign its
//! neighbour, so it is refused.
//!
//! Deliberately absent: the owners, times and link targets of entries.

use std::io::{self, Read};

use qyvol_types::escape;

use crate::ImageError;

/// Bytes of a name.
const NAME_BYTES: usize = 4096;
/// Bytes of the records of an extended header, or of a long name.
const RECORD_BYTES: u64 = 64 << 10;
/// Bytes reserved at once for content whose size only a header states.
const RESERVE: u64 = 1 << 20;
/// Where the prefix of a name is in a header of ustar.
const PREFIX: std::ops::Range<usize> = 345..500;
/// The field in which star marks its headers.
const TRAILER: std::ops::Range<usize> = 508..512;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// A file with bytes of its own.
    File,
    /// A directory.
    Directory,
    /// A link, a device or a pipe.
    Other,
}

/// The extended headers that precede an entry.
#[derive(Default)]
pub(crate) struct ExtendedHeaders {
    name: Option<Vec<u8>>,
    seen: Vec<u8>,
}

pub(crate) fn refused(why: impl Into<String>) -> ImageError {
    ImageError::Layer(why.into())
}

impl ExtendedHeaders {
    /// Reads an entry's header: its name and kind, or nothing if the entry is an extended
    /// header of the next one.
    pub(crate) fn take<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
    ) -> Result<Option<(Vec<u8>, EntryKind)>, ImageError> {
        check_header(entry.header())?;
        let kind = entry.header().entry_type().as_byte();
        match kind {
            b'L' | b'K' | b'x' => {
                if self.seen.contains(&kind) {
                    return Err(refused("it has two extended headers for one entry"));
                }
                self.seen.push(kind);
                let bytes = read_up_to(entry, "size of an extended header in bytes", RECORD_BYTES)?;
                let name = match kind {
                    b'L' => Some(bytes.split(|b| *b == 0).next().unwrap_or_default().to_vec()),
                    b'x' => pax_path(&bytes)?,
                    _ => None,
                };
                if name.is_some() && self.name.is_some() {
                    return Err(refused("it has two names for one entry"));
                }
                self.name = name.or(self.name.take());
                return Ok(None);
            }
            b'g' => {
                if !self.seen.is_empty() {
                    return Err(refused(
                        "it has a global header between an entry and its extended header",
                    ));
                }
                let bytes = read_up_to(entry, "size of an extended header in bytes", RECORD_BYTES)?;
                if pax_path(&bytes)?.is_some() {
                    return Err(refused("it has a global header with a name"));
                }
                return Ok(None);
            }
            _ => {}
        }
        self.seen.clear();
        let name = self.name.take().unwrap_or_else(|| entry.path_bytes().into_owned());
        if name.is_empty() || name.len() > NAME_BYTES || name.contains(&0) {
            return Err(refused(format!(
                "a name in it is empty, longer than {NAME_BYTES} bytes or has a NUL"
            )));
        }
        if name.split(|b| *b == b'/').any(|part| part == b"..") {
            return Err(refused("a name in it has the part `..`"));
        }
        let kind = match kind {
            0 | b'0' | b'7' => EntryKind::File,
            b'5' => EntryKind::Directory,
            b'1'..=b'6' => EntryKind::Other,
            other => {
                let kind = escape(&char::from(other).to_string()).to_string();
                return Err(refused(format!("it has an entry of the type `{kind}`")));
            }
        };
        if kind == EntryKind::File && name.ends_with(b"/") {
            return Err(refused("it has a file whose name ends in `/`"));
        }
        // Some readers skip these bytes, and some read them as entries.
        if kind != EntryKind::File && entry.header().entry_size().map_err(|e| unreadable(&e))? != 0 {
            return Err(refused("it has bytes behind an entry that is no file"));
        }
        Ok(Some((name, kind)))
    }

    /// Nothing may be left over at the end.
    pub(crate) fn finish(&self) -> Result<(), ImageError> {
        match self.seen.is_empty() {
            true => Ok(()),
            false => Err(refused("it ends behind an extended header")),
        }
    }
}

/// Refuses a header that some readers take for another format's.
fn check_header(header: &tar::Header) -> Result<(), ImageError> {
    let bytes = header.as_bytes();
    let has_prefix = bytes.get(PREFIX).is_some_and(|prefix| prefix.iter().any(|b| *b != 0));
    let is_star = bytes.get(TRAILER) == Some(b"tar\0");
    if has_prefix && (header.as_ustar().is_none() || is_star) {
        return Err(refused("it has a header that can be read in two ways"));
    }
    // Sizes in base 256 are for files beyond every limit.
    if header.as_old().size.first().is_some_and(|first| first & 0x80 != 0) {
        return Err(refused("it has a size that is not written in octal digits"));
    }
    Ok(())
}

/// The path in pax records: `LENGTH KEY=VALUE`, each on a line.
fn pax_path(records: &[u8]) -> Result<Option<Vec<u8>>, ImageError> {
    let malformed = || refused("it has an extended header with malformed records");
    let mut rest = records;
    let mut path = None;
    while !rest.is_empty() {
        let space = rest.iter().position(|b| *b == b' ').ok_or_else(malformed)?;
        let digits = rest.get(..space).unwrap_or_default();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(malformed());
        }
        let digits = std::str::from_utf8(digits).map_err(|_| malformed())?;
        let length: usize = digits.parse().map_err(|_| malformed())?;
        let record = rest
            .get(space + 1..length)
            .and_then(|record| record.strip_suffix(b"\n"));
        let record = record.ok_or_else(malformed)?;
        let equals = record.iter().position(|b| *b == b'=').ok_or_else(malformed)?;
        let (key, value) = (record.get(..equals), record.get(equals + 1..).unwrap_or_default());
        match key.unwrap_or_default() {
            b"" => return Err(malformed()),
            b"path" if value.is_empty() || path.is_some() => return Err(malformed()),
            b"path" => path = Some(value.to_vec()),
            b"size" => return Err(refused("it has a size in an extended header")),
            key if key.starts_with(b"GNU.sparse.") => return Err(refused("it has a sparse file")),
            _ => {}
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(path)
}

pub(crate) fn unreadable(error: &io::Error) -> ImageError {
    ImageError::Layer(format!("it can't be unpacked: {}", escape(&error.to_string())))
}

/// The content of an entry, within a bound.
pub(crate) fn read_up_to<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    what: &'static str,
    limit: u64,
) -> Result<Vec<u8>, ImageError> {
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

#[cfg(test)]
mod tests {
    use std::io;

    use proptest::prelude::*;
    use qyvol_types::foreign::Compression;

    use super::*;
    use crate::{Wanted, find_wasm};

    fn header(name: &str, kind: u8, size: usize) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_size(size as u64);
        header.set_cksum();
        header
    }

    fn entry(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = header(name, kind, content.len()).as_bytes().to_vec();
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    fn record(key: &str, value: &str) -> Vec<u8> {
        let rest = format!(" {key}={value}\n");
        let mut length = rest.len() + 1;
        while format!("{length}{rest}").len() != length {
            length += 1;
        }
        format!("{length}{rest}").into_bytes()
    }

    fn find(parts: &[Vec<u8>]) -> Result<Option<(String, Vec<u8>)>, ImageError> {
        let mut bytes = parts.concat();
        bytes.extend([0; 1024]);
        let found = find_wasm(io::Cursor::new(bytes), Compression::None, &Wanted::Path("app.wasm"), 9);
        found.map(|found| found.wasm)
    }

    // [REG-029]
    #[test]
    fn ambiguous_layer_tar_is_refused() {
        let app = || entry("app.wasm", b'0', b"\0asm");
        let pax = |kind, records: &[u8]| entry("pax", kind, records);
        assert!(find(&[app()]).unwrap().is_some());
        let fine = [record("mtime", "1.5"), record("path", "app.wasm")].concat();
        assert!(find(&[pax(b'x', &fine), entry("x", b'0', b"\0asm")]).unwrap().is_some());
        let comment = record("comment", "a commit");
        assert!(find(&[pax(b'g', &comment), app()]).unwrap().is_some());
        let other = || record("path", "other");
        let cut = [other(), b"zz".to_vec()].concat();
        let mut sized = entry("link", b'2', b"");
        sized = [header("link", b'2', 512).as_bytes().to_vec(), sized].concat();
        let mut base_256 = header("app.wasm", b'0', 0);
        base_256.as_old_mut().size[0] = 0x80;
        base_256.set_cksum();
        let mut prefixed = tar::Header::new_gnu();
        prefixed.set_path("app.wasm").unwrap();
        prefixed.set_size(0);
        prefixed.as_mut_bytes()[PREFIX.start] = b'x';
        prefixed.set_cksum();
        let bad: [(&str, Vec<Vec<u8>>); 20] = [
            ("pax size", vec![pax(b'x', &record("size", "512")), app()]),
            ("global size", vec![pax(b'g', &record("size", "512")), app()]),
            (
                "sparse",
                vec![pax(b'x', &record("GNU.sparse.name", "app.wasm")), entry("x", b'0', b"")],
            ),
            ("old sparse", vec![entry("app.wasm", b'S', b"")]),
            (
                "global path",
                vec![pax(b'g', &record("path", "app.wasm")), entry("x", b'0', b"")],
            ),
            ("malformed behind a path", vec![pax(b'x', &cut), app()]),
            ("malformed", vec![pax(b'x', b"+9 a=bcd\n"), app()]),
            ("no key", vec![pax(b'x', &record("", "v")), app()]),
            ("empty path", vec![pax(b'x', &record("path", "")), app()]),
            ("two paths", vec![pax(b'x', &[other(), other()].concat()), app()]),
            (
                "L then g",
                vec![entry("l", b'L', b"other\0"), pax(b'g', &comment), app()],
            ),
            (
                "L then x",
                vec![entry("l", b'L', b"other\0"), pax(b'x', &other()), app()],
            ),
            ("x twice", vec![pax(b'x', &comment), pax(b'x', &comment), app()]),
            ("x at the end", vec![app(), pax(b'x', &comment)]),
            ("`..`", vec![entry("x/../app.wasm", b'0', b"\0asm")]),
            ("bytes behind a link", vec![sized, app()]),
            ("unknown type", vec![entry("x", b'X', b""), app()]),
            ("a slash at the end", vec![entry("app.wasm/", b'0', b"")]),
            ("base 256", vec![base_256.as_bytes().to_vec()]),
            ("a prefix in GNU's", vec![prefixed.as_bytes().to_vec()]),
        ];
        for (what, parts) in bad {
            let error = find(&parts).expect_err(what);
            assert!(matches!(error, ImageError::Layer(_)), "{what}: {error}");
        }
        // At the bound, and past it.
        for (length, is_read) in [(4096, true), (4097, false)] {
            let long = record("path", &"d".repeat(length));
            assert_eq!(find(&[pax(b'x', &long), entry("x", b'0', b"")]).is_ok(), is_read);
        }
    }

    proptest! {
        #[test]
        fn pax_records_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), n: usize, text: String) {
            let _ = pax_path(&bytes);
            let _ = pax_path(format!("{n} path={text}\n").as_bytes());
        }
    }
}
