//! Signals that end the command: what it is writing is removed first.
//!
//! A signal handler does that: a process is not notified of its end in any other way. Ignored
//! signals stay ignored, as `nohup` requires.

use std::fs;
use std::sync::mpsc::Sender;
use std::thread;

use qyvol::runtime::Stop;
use qyvol::{Children, TempFiles};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::dev::Wake;
use crate::failure::Failure;

/// From now on, a signal that ends the process first ends its children and removes the
/// temporaries.
pub fn cleanup_on_signal(temporaries: &TempFiles, children: &Children) -> Result<(), Failure> {
    let heard = [SIGHUP, SIGINT, SIGTERM]
        .into_iter()
        .filter(|signal| !is_ignored(*signal));
    let mut signals = listen(heard)?;
    let (temporaries, children) = (temporaries.clone(), children.clone());
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            children.end();
            let _none_left = temporaries.remove_all();
            // Ends the process as the signal would have.
            let _ = emulate_default_handler(signal);
        }
    });
    Ok(())
}

/// From now on, the first SIGINT or SIGTERM starts the shutdown, and the second ends the
/// process. `hang_up` is called at each SIGHUP, which ends the process if there is none.
pub fn end_in_two_steps(stop: &Stop, hang_up: Option<impl Fn() + Send + 'static>) -> Result<(), Failure> {
    let hang_up = hang_up.filter(|_| !is_ignored(SIGHUP));
    let heard = [SIGINT, SIGTERM].into_iter().chain(hang_up.as_ref().map(|_| SIGHUP));
    let mut signals = listen(heard)?;
    let stop = stop.clone();
    thread::spawn(move || {
        for signal in signals.forever() {
            match (signal, &hang_up) {
                (SIGHUP, Some(hang_up)) => hang_up(),
                _ if stop.has_begun() => {
                    // Ends the process as the signal would have.
                    let _ = emulate_default_handler(signal);
                }
                _ => stop.begin(),
            }
        }
    });
    Ok(())
}

/// From now on, the first SIGHUP, SIGINT or SIGTERM starts the shutdown: no child is left, and
/// whoever waits is woken. The second one ends the process.
pub fn end_all(stop: &Stop, children: &Children, waker: Sender<Wake>) -> Result<(), Failure> {
    let heard = [SIGHUP, SIGINT, SIGTERM]
        .into_iter()
        .filter(|signal| !is_ignored(*signal));
    let mut signals = listen(heard)?;
    let (stop, children) = (stop.clone(), children.clone());
    thread::spawn(move || {
        for signal in signals.forever() {
            if stop.has_begun() {
                // Ends the process as the signal would have.
                let _ = emulate_default_handler(signal);
            }
            stop.begin();
            // Nobody may be waiting.
            let _ = waker.send(Wake::End);
            children.end();
        }
    });
    Ok(())
}

fn listen(signals: impl Iterator<Item = i32>) -> Result<Signals, Failure> {
    Signals::new(signals).map_err(|e| Failure::new(format!("can't listen for signals: {e}")))
}

/// Whether this process was started with a signal ignored: signal 1 is in the lowest bit
/// (proc_pid_status(5)).
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or(0) >> (signal - 1) & 1 != 0
}
