//! The canonical tar: regular files whose headers follow from path and size
//! alone (POSIX ustar: mode 0644, ids 0, time 0, no names).
//!
//! A path that doesn't fit the ustar fields is in one PAX record (`path`). The reader takes
//! path and size from a header, writes the header again and accepts only an equal one: so two
//! tar readers can't read an entry differently.

use std::io::{self, Read};

use crate::ImageError;

/// Size of a tar block.
pub(crate) const BLOCK: usize = 512;
/// The two zero blocks at the end.
pub(crate) const END_OF_ARCHIVE: [u8; 2 * BLOCK] = [0; 2 * BLOCK];
/// Longest PAX body that can be canonical.
const PAX_BYTES: u64 = 4096;
const PAX_NAME: &[u8] = b"././@PaxHeader";

/// Zero bytes expected after `size` bytes of content.
pub(crate) fn padding(size: u64) -> usize {
    ((BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64) as usize
}

/// Bytes of an entry: headers, content and padding.
pub(crate) fn entry_len(path: &str, size: u64) -> u64 {
    header(path, size).len() as u64 + size + padding(size) as u64
}

/// The header blocks of a file.
pub(crate) fn header(path: &str, size: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(BLOCK);
    let bytes = path.as_bytes();
    match split(path) {
        Some((prefix, name)) => block(&mut out, prefix, name, size, b'0'),
        None => {
            let record = pax_record(bytes);
            block(&mut out, b"", PAX_NAME, record.len() as u64, b'x');
            out.extend_from_slice(&record);
            out.resize(out.len() + padding(record.len() as u64), 0);
            block(&mut out, b"", &bytes[..bytes.len().min(100)], size, b'0');
        }
    }
    out
}

/// Splits a path into ustar's prefix and name: the full path in the name if it fits, else split
/// at the last slash that leaves both within their fields.
fn split(path: &str) -> Option<(&[u8], &[u8])> {
    let bytes = path.as_bytes();
    if bytes.len() <= 100 {
        return Some((b"", bytes));
    }
    let slash = bytes.iter().take(156).rposition(|b| *b == b'/')?;
    let (prefix, name) = (bytes.get(..slash)?, bytes.get(slash + 1..)?);
    (!prefix.is_empty() && name.len() <= 100).then_some((prefix, name))
}

fn block(out: &mut Vec<u8>, prefix: &[u8], name: &[u8], size: u64, typeflag: u8) {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    if let Some(ustar) = header.as_ustar_mut() {
        ustar.typeflag = [typeflag];
        ustar.name[..name.len()].copy_from_slice(name);
        ustar.prefix[..prefix.len()].copy_from_slice(prefix);
    }
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
}

/// `LENGTH path=VALUE\n`, where LENGTH counts itself.
fn pax_record(path: &[u8]) -> Vec<u8> {
    let rest = path.len() + " path=\n".len();
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    let mut record = format!("{len} path=").into_bytes();
    record.extend_from_slice(path);
    record.push(b'\n');
    record
}

/// Reads the next entry's header. `None` is the end: two zero blocks, after
/// which the caller checks that nothing follows.
pub(crate) fn read_header(from: &mut impl Read) -> Result<Option<(String, u64)>, ImageError> {
    let mut seen = [0; BLOCK].to_vec();
    fill(from, &mut seen)?;
    if seen.iter().all(|b| *b == 0) {
        fill(from, &mut seen)?;
        if seen.iter().any(|b| *b != 0) {
            return Err(ImageError::format("tar has one zero block where two end it"));
        }
        return Ok(None);
    }
    let first = parse(&seen)?;
    let (path, size) = match first.typeflag {
        b'0' => (first.path, first.size),
        b'x' => {
            if first.size > PAX_BYTES {
                return Err(ImageError::format(format!("PAX header of {} bytes", first.size)));
            }
            let body_len = first.size as usize;
            let mut body = vec![0; body_len + padding(first.size)];
            fill(from, &mut body)?;
            let path = body
                .get(..body_len)
                .and_then(|b| b.strip_suffix(b"\n"))
                .and_then(|b| Some(b.split_at_checked(b.iter().position(|c| *c == b'=')? + 1)?.1.to_vec()))
                .ok_or_else(|| ImageError::format("PAX header without a path record"))?;
            seen.extend_from_slice(&body);
            let mut block = [0; BLOCK];
            fill(from, &mut block)?;
            seen.extend_from_slice(&block);
            (path, parse(&block)?.size)
        }
        other => {
            return Err(ImageError::format(format!(
                "tar entry of type {:?}: only regular files are allowed",
                char::from(other)
            )));
        }
    };
    let path = String::from_utf8(path).map_err(|_| ImageError::format("tar entry whose name is not UTF-8"))?;
    if seen != header(&path, size) {
        let path = qyvol_types::escape(&path);
        return Err(ImageError::format(format!(
            "tar header of `{path}` is not the canonical one"
        )));
    }
    Ok(Some((path, size)))
}

struct Parsed {
    path: Vec<u8>,
    size: u64,
    typeflag: u8,
}

/// Takes name, size and type from a block; the comparison with the canonical
/// header checks everything else, the checksum too.
fn parse(block: &[u8]) -> Result<Parsed, ImageError> {
    let header = tar::Header::from_byte_slice(block);
    let ustar = header
        .as_ustar()
        .ok_or_else(|| ImageError::format("tar header is not ustar"))?;
    let text = |field: &[u8]| field.split(|b| *b == 0).next().unwrap_or_default().to_vec();
    let mut path = text(&ustar.prefix);
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(&text(&ustar.name));
    // Eleven octal digits: base-256 and signed sizes are not read at all.
    let digits = ustar.size.get(..11).unwrap_or_default();
    let mut size = 0;
    for digit in digits {
        if !(b'0'..=b'7').contains(digit) {
            return Err(ImageError::format(
                "tar header with a size that is not eleven octal digits",
            ));
        }
        size = size * 8 + u64::from(digit - b'0');
    }
    Ok(Parsed {
        path,
        size,
        typeflag: ustar.typeflag[0],
    })
}

fn fill(from: &mut impl Read, buffer: &mut [u8]) -> Result<(), ImageError> {
    from.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => ImageError::format("tar ends before its end"),
        _ => ImageError::Read(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // [BIN-011]
    #[test]
    fn path_of_any_length_round_trips() {
        let component = "c".repeat(200);
        for path in [
            "a".to_string(),
            "é/ñ".repeat(30),
            format!("{component}/{component}/x"),
            format!("d/{component}"),
        ] {
            let bytes = [header(&path, 7), END_OF_ARCHIVE.to_vec()].concat();
            assert_eq!(read_header(&mut bytes.as_slice()).unwrap(), Some((path, 7)));
        }
    }

    // [BIN-010] [BIN-012]
    #[test]
    fn any_altered_header_bit_is_refused_or_names_another_file() {
        for path in ["assets/a.txt", &"long/".repeat(60)] {
            let good = header(path, 1234);
            for bit in 0..good.len() * 8 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                // A PAX record has no checksum: another letter is another name.
                if let Ok(Some(other)) = read_header(&mut bad.as_slice()) {
                    assert!(
                        path.len() > 256 && other.0 != path && other.1 == 1234,
                        "bit {bit} of {path}"
                    );
                }
            }
        }
    }

    proptest! {
        #[test]
        fn header_reader_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            let _ = read_header(&mut bytes.as_slice());
        }
    }
}
