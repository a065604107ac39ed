//! The mixed assets that `build` and `verify` are measured with: the same bytes
//! on every machine, half of them compressible.

use std::fs;
use std::io;
use std::path::Path;

const MIB: u64 = 1 << 20;

/// A kind of file: its directory, size, share of the total in 1/16, and content.
struct Kind {
    directory: &'static str,
    size: u64,
    share: u64,
    fill: fn(&mut Random, &mut Vec<u8>, usize),
}

const KINDS: &[Kind] = &[
    // Compressible: many small texts, records, a few large tables.
    Kind {
        directory: "text",
        size: 8 << 10,
        share: 2,
        fill: text,
    },
    Kind {
        directory: "records",
        size: MIB,
        share: 2,
        fill: records,
    },
    Kind {
        directory: "tables",
        size: 16 * MIB,
        share: 4,
        fill: table,
    },
    // Not compressible, like pictures and archives: small, then large.
    Kind {
        directory: "pictures",
        size: 64 << 10,
        share: 2,
        fill: noise,
    },
    Kind {
        directory: "archives",
        size: 32 * MIB,
        share: 6,
        fill: noise,
    },
];

/// Fills `directory` with `mib` MiB; files of an earlier run are kept.
pub(super) fn make(directory: &Path, mib: u64) -> io::Result<()> {
    let done = directory.with_extension("complete");
    if done.exists() {
        return Ok(());
    }
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    let mut bytes = Vec::new();
    for (seed, kind) in KINDS.iter().enumerate() {
        let mut random = Random(seed as u64);
        let count = mib * MIB * kind.share / 16 / kind.size;
        for index in 0..count {
            let parent = directory.join(kind.directory).join(format!("{:03}", index / 256));
            fs::create_dir_all(&parent)?;
            bytes.clear();
            (kind.fill)(
                &mut random,
                &mut bytes,
                usize::try_from(kind.size).unwrap_or(usize::MAX),
            );
            fs::write(parent.join(format!("{index:05}.bin")), &bytes)?;
        }
    }
    fs::write(done, "")
}

/// splitmix64: a few lines, and the same numbers everywhere.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Words of a made-up language, some far more common than others.
fn text(random: &mut Random, out: &mut Vec<u8>, size: usize) {
    const PARTS: [&str; 16] = [
        "ka", "lo", "mi", "ren", "ta", "shu", "vo", "ni", "per", "dal", "ou", "gri", "es", "an", "tor", "el",
    ];
    while out.len() < size {
        let n = random.next();
        // The square of a share is small more often than not.
        let rank = ((n & 0xff) * (n & 0xff)) >> 4;
        for shift in [0, 4, 8].into_iter().take(1 + (n >> 60) as usize % 3) {
            let part = (rank >> shift) as usize % PARTS.len();
            out.extend_from_slice(PARTS.get(part).map_or(b"", |p| p.as_bytes()));
        }
        out.extend_from_slice(if n >> 56 & 15 == 0 { b".\n" } else { b" " });
    }
    out.truncate(size);
}

fn records(random: &mut Random, out: &mut Vec<u8>, size: usize) {
    let mut id = random.next() % 1_000_000;
    while out.len() < size {
        let n = random.next();
        id += 1 + n % 3;
        let line = format!(
            "{{\"id\":{id},\"active\":{},\"score\":{}.{:02},\"tags\":[\"t{}\",\"t{}\"],\"at\":{}}}\n",
            n & 1 == 0,
            n >> 8 & 1023,
            n >> 20 & 63,
            n >> 30 & 31,
            n >> 36 & 31,
            1_700_000_000 + id * 60
        );
        out.extend_from_slice(line.as_bytes());
    }
    out.truncate(size);
}

/// Rows of a rising key, a small number, a slowly changing one and zeros.
fn table(random: &mut Random, out: &mut Vec<u8>, size: usize) {
    let (mut key, mut level) = (0u64, 1u32 << 20);
    while out.len() < size {
        let n = random.next();
        key += n & 7;
        level = level.wrapping_add((n >> 8 & 63) as u32).wrapping_sub(31);
        out.extend_from_slice(&key.to_le_bytes());
        out.extend_from_slice(&((n >> 16 & 255) as u32).to_le_bytes());
        out.extend_from_slice(&level.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
    }
    out.truncate(size);
}

pub(super) fn noise(random: &mut Random, out: &mut Vec<u8>, size: usize) {
    while out.len() < size {
        out.extend_from_slice(&random.next().to_le_bytes());
    }
    out.truncate(size);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_a_whole_half_of_it_compressible() {
        assert_eq!(KINDS.iter().map(|kind| kind.share).sum::<u64>(), 16);
        assert_eq!(KINDS.iter().take(3).map(|kind| kind.share).sum::<u64>(), 8);
    }

    #[test]
    fn same_bytes_of_the_size_asked_for_every_time() {
        for kind in KINDS {
            let (mut one, mut two) = (Vec::new(), Vec::new());
            (kind.fill)(&mut Random(7), &mut one, 10_001);
            (kind.fill)(&mut Random(7), &mut two, 10_001);
            assert_eq!((one.len(), &one), (10_001, &two), "{}", kind.directory);
        }
    }
}
