//! Signals that end the command: what it is writing is removed first.
//!
//! A handler does that: a process is not notified of its end in any other way.
//! Ignored signals stay ignored, as `nohup` has it.

use std::fs;
use std::thread;

use qyvol::TempFiles;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::failure::Failure;

/// From now on, a signal that ends the process first removes the temporaries.
pub fn cleanup_on_signal(temporaries: &TempFiles) -> Result<(), Failure> {
    let heard = [SIGHUP, SIGINT, SIGTERM]
        .into_iter()
        .filter(|signal| !is_ignored(*signal));
    let mut signals = Signals::new(heard).map_err(|e| Failure::new(format!("can't listen for signals: {e}")))?;
    let temporaries = temporaries.clone();
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let _none_left = temporaries.remove_all();
            // Ends the process as the signal would have.
            let _ = emulate_default_handler(signal);
        }
    });
    Ok(())
}

/// From now on, the first SIGINT or SIGTERM is told, and the second ends the process.
pub fn tell_first_signal(tell: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let mut signals =
        Signals::new([SIGINT, SIGTERM]).map_err(|e| Failure::new(format!("can't listen for signals: {e}")))?;
    thread::spawn(move || {
        let mut signals = signals.forever();
        if signals.next().is_some() {
            tell();
        }
        if let Some(signal) = signals.next() {
            // Ends the process as the signal would have.
            let _ = emulate_default_handler(signal);
        }
    });
    Ok(())
}

/// Whether whoever started this process has told it to ignore a signal: signal 1 is in
/// the lowest bit (proc_pid_status(5)).
pub fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or(0) >> (signal - 1) & 1 != 0
}
