//! Measures the representations of one file: `measure BASE TARGET [LEVEL]`. Prints for `zstd`
//! and for `zstd-patch` the ratio to the target, and megabytes of the target per second to make
//! and to apply it.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a tool")]

use std::error::Error;
use std::fs;
use std::time::Instant;

use qyvol_encoding::{Base, Blob, Effort, decode, encode};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (base, target, level) = match &arguments[..] {
        [base, target] => (base, target, 3),
        [base, target, level] => (base, target, level.parse()?),
        _ => return Err("usage: measure BASE TARGET [LEVEL]".into()),
    };
    let (base, target) = (fs::read(base)?, fs::read(target)?);
    let base = Base::read(&base[..], Blob::of(&base))?;
    let blob = Blob::of(&target);
    for base in [None, Some(&base)] {
        let effort = Effort {
            level,
            largest: u64::MAX,
            memory: u64::MAX,
            proceed: &|| true,
        };
        let mut bytes = Vec::new();
        let begun = Instant::now();
        let made = encode(&target[..], blob, base, &effort, &mut bytes)?;
        let encoded = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        decode(&made, &bytes[..], base, Vec::with_capacity(target.len()))?;
        let applied = begun.elapsed().as_secs_f64();
        let megabytes = blob.size as f64 / 1e6;
        println!(
            "{:<10} level {level}: {} of {} bytes, {:.4}, made at {:.0} MB/s, applied at {:.0} MB/s",
            made.encoding.name(),
            made.blob.size,
            blob.size,
            made.blob.size as f64 / blob.size as f64,
            megabytes / encoded,
            megabytes / applied,
        );
    }
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM"));
    println!("{}", peak.unwrap_or_default());
    Ok(())
}
