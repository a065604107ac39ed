//! A chain of documents in a file.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use qyvol_trust::{CHAIN_BYTES, CHAIN_DOCUMENTS, CHAIN_LINE_BYTES, SignedPolicy};

use crate::{Error, secure_file};

/// Reads a chain. Serials must follow each other; nothing is verified.
pub(super) fn read(path: &Path) -> Result<Vec<SignedPolicy>, Error> {
    let malformed = |line: usize, why: String| Error::Malformed {
        target: format!("{}:{line}", path.display()),
        why,
    };
    let file = File::open(path).map_err(Error::file("open", path))?;
    let mut reader = BufReader::new(file);
    let mut left = CHAIN_BYTES;
    let mut steps: Vec<SignedPolicy> = Vec::new();
    loop {
        let number = steps.len() + 1;
        let mut line = Vec::new();
        let mut bounded = (&mut reader).take(CHAIN_LINE_BYTES + 1);
        let read = bounded.read_until(b'\n', &mut line);
        if read.map_err(Error::file("read", path))? == 0 {
            return Ok(steps);
        }
        let Some(rest) = left.checked_sub(line.len() as u64) else {
            return Err(malformed(number, format!("more than {CHAIN_BYTES} bytes in all")));
        };
        left = rest;
        if line.len() as u64 > CHAIN_LINE_BYTES {
            return Err(malformed(
                number,
                format!("a line of more than {CHAIN_LINE_BYTES} bytes"),
            ));
        }
        // This host's own document comes before those that it can follow.
        if number > CHAIN_DOCUMENTS + 1 {
            return Err(malformed(
                number,
                format!("more than {} documents", CHAIN_DOCUMENTS + 1),
            ));
        }
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let step = SignedPolicy::parse_line(line).map_err(|error| malformed(number, error.to_string()))?;
        if let Some(before) = steps.last()
            && before.document.serial() + 1 != step.document.serial()
        {
            let (serial, expected) = (step.document.serial(), before.document.serial() + 1);
            return Err(malformed(number, format!("the serial {serial}: expected {expected}")));
        }
        steps.push(step);
    }
}

/// Writes a chain whole.
pub(super) fn write(path: &Path, steps: &[SignedPolicy]) -> Result<(), Error> {
    let mut bytes = Vec::new();
    for step in steps {
        let line = step.to_line().map_err(|error| Error::Malformed {
            target: path.display().to_string(),
            why: error.to_string(),
        })?;
        bytes.extend(line);
        bytes.push(b'\n');
    }
    secure_file::replace(path, &bytes, 0o644).map_err(Error::file("write", path))
}
