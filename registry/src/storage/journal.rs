//! The journal: the changes to one repository since its index was written.
//!
//! A line has the changes that were made durable by one sync, so no line follows one that was
//! not synced. A power loss can tear only the last line, whose changes were never acknowledged;
//! a bad line before a valid one is damage. Lines are numbered, and the index states the last
//! line that it includes: a journal that is older than its index changes nothing.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::checked_line;
use super::disk::Disk;
use super::state::{Record, State};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<R> {
    sequence: u64,
    changes: Vec<R>,
}

/// The file, and what this process knows of it.
pub(super) struct Journal {
    path: PathBuf,
    /// Bytes of complete lines.
    length: u64,
    /// The number of the last line. A line that failed has used up its number.
    pub(super) sequence: u64,
    /// Whether the file may have bytes that `length` does not cover.
    pub(super) broken: bool,
    /// When the index was last written, and how long that took.
    pub(super) compacted: Option<(Instant, Duration)>,
}

impl Journal {
    /// A journal whose file exists, and is empty unless it is called broken.
    pub(super) fn new(path: PathBuf, sequence: u64, broken: bool) -> Journal {
        Journal {
            path,
            length: 0,
            sequence,
            broken,
            compacted: None,
        }
    }

    /// Adds a line: it is durable when this returns. After an error, the file's content is
    /// unknown, so the next change must empty it first.
    pub(super) fn append(&mut self, disk: &dyn Disk, changes: Vec<&Record>) -> io::Result<()> {
        let sequence = self.sequence + 1;
        let line = Bytes::from(checked_line::encode_line(&Line { sequence, changes })?);
        self.sequence = sequence;
        self.broken = true;
        disk.write(&self.path, self.length, std::slice::from_ref(&line))?;
        disk.sync(&self.path)?;
        self.length += line.len() as u64;
        self.broken = false;
        Ok(())
    }

    /// Empties the file, once the index includes all of it. That is made durable too: what is
    /// written next may reach the disk before it is synced, and must not be followed by older
    /// lines.
    pub(super) fn clear(&mut self, disk: &dyn Disk) -> io::Result<()> {
        self.broken = true;
        disk.truncate(&self.path, 0)?;
        disk.sync(&self.path)?;
        self.length = 0;
        self.broken = false;
        Ok(())
    }
}

/// Applies a journal to the state of an index that includes everything up to the line
/// `sequence`. Returns the number of the last line.
pub(super) fn replay(bytes: &[u8], mut sequence: u64, state: &mut State) -> Result<u64, String> {
    let mut lines = (1_u64..).zip(bytes.split_inclusive(|b| *b == b'\n'));
    for (number, line) in lines.by_ref() {
        let Some(line) = checked_line::decode_line::<Line<Record>>(line) else {
            return match lines.find(|(_, line)| checked_line::decode_line::<Line<Record>>(line).is_some()) {
                Some((valid, _)) => Err(format!(
                    "line {number} is not what was written, and line {valid} after it is: changes are lost"
                )),
                None => Ok(sequence),
            };
        };
        if line.sequence <= sequence {
            continue;
        }
        if line.sequence != sequence + 1 {
            return Err(format!(
                "line {number} is change {}, expected {}: changes are lost",
                line.sequence,
                sequence + 1
            ));
        }
        line.changes.iter().for_each(|change| state.apply(change));
        sequence = line.sequence;
    }
    Ok(sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(numbers: &[u64]) -> Vec<Vec<u8>> {
        let line = |sequence: &u64| {
            let changes = vec![Record::Untag {
                tag: format!("t{sequence}"),
            }];
            checked_line::encode_line(&Line {
                sequence: *sequence,
                changes,
            })
            .unwrap()
        };
        numbers.iter().map(line).collect()
    }

    fn replayed(bytes: &[u8], from: u64) -> Result<u64, String> {
        replay(bytes, from, &mut State::default())
    }

    #[test]
    fn torn_last_line_is_dropped() {
        let lines = lines(&[1, 2, 3]);
        let whole = lines.concat();
        let last = whole.len() - lines[2].len();
        assert_eq!(replayed(&whole, 0), Ok(3));
        for end in last..whole.len() {
            assert_eq!(replayed(&whole[..end], 0), Ok(2), "{end}");
        }
        let mut zeros = whole[..last].to_vec();
        zeros.extend(b"\0\0\0\n\0\n");
        assert_eq!(replayed(&zeros, 0), Ok(2));
    }

    #[test]
    fn bad_line_before_a_valid_one_is_refused() {
        let lines = lines(&[1, 2, 3]);
        let mut bytes = lines.concat();
        bytes[lines[0].len() + 30] ^= 1;
        let refused = replayed(&bytes, 0).unwrap_err();
        assert!(refused.contains("line 2") && refused.contains("line 3"), "{refused}");
        // A line that is missing altogether is as bad as one that is wrong.
        assert!(replayed(&[lines[0].clone(), lines[2].clone()].concat(), 0).is_err());
        assert!(replayed(&lines[1..].concat(), 0).is_err());
    }

    #[test]
    fn lines_that_the_index_includes_are_not_applied_again() {
        let bytes = lines(&[4, 5, 6]).concat();
        assert_eq!(replayed(&bytes, 5), Ok(6));
        assert_eq!(replayed(&bytes, 9), Ok(9));
        assert_eq!(replayed(&bytes, 3), Ok(6));
        assert!(replayed(&bytes, 2).is_err());
    }
}
