//! Lines with a checksum: detects a line that was written only in part, or changed afterwards.
//!
//! A line is sixteen hexadecimal digits of the SHA-256 of what follows them, a
//! space, a JSON value without a line feed, and a line feed.

use qyvol_types::Digest;
use serde::Serialize;
use serde::de::DeserializeOwned;

const DIGITS: usize = 16;

fn checksum(json: &[u8]) -> String {
    let mut hex = Digest::of(json).hex();
    hex.truncate(DIGITS);
    hex
}

/// The line of a value.
pub(super) fn encode_line<T: Serialize>(value: &T) -> serde_json::Result<Vec<u8>> {
    let json = serde_json::to_vec(value)?;
    let mut line = checksum(&json).into_bytes();
    line.push(b' ');
    line.extend(json);
    line.push(b'\n');
    Ok(line)
}

/// The value of a line, or none if its checksum is wrong.
pub(super) fn decode_line<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    let line = line.strip_suffix(b"\n")?;
    let (stated, rest) = line.split_at_checked(DIGITS)?;
    let json = rest.strip_prefix(b" ")?;
    if checksum(json).as_bytes() != stated {
        return None;
    }
    serde_json::from_slice(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn altered_line_fails_its_checksum() {
        let line = encode_line(&vec!["a", "b"]).unwrap();
        assert_eq!(decode_line::<Vec<String>>(&line).unwrap(), ["a", "b"]);
        for at in 0..line.len() {
            let mut changed = line.clone();
            changed[at] ^= 4;
            assert!(decode_line::<Vec<String>>(&changed).is_none(), "{at}");
            assert!(decode_line::<Vec<String>>(&line[..at]).is_none(), "{at}");
        }
    }
}
