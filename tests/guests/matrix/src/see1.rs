//! All that preview 1 shows.

use crate::driver::list;
use crate::error;
use crate::library::{of_today, since_start, Seen};

fn shown<T>(outcome: Result<T, wasi::Errno>) -> String {
    outcome.map_or_else(error, |_| "ok".to_string())
}

/// A line for each thing.
pub fn all() -> String {
    let mut seen = Seen::default();
    seen.add("arguments", std::env::args().take(1).collect::<Vec<_>>().join(","));
    seen.add("environment", list(std::env::vars().map(|(name, _)| name).collect()));
    // SAFETY: every pointer is to a value that lives until its call has returned.
    unsafe {
        seen.add("descriptor 3", shown(wasi::fd_fdstat_get(3)));
        seen.add("directories", shown(wasi::fd_prestat_get(3)));
        let mut byte = [0u8; 1];
        let parts = [wasi::Iovec { buf: byte.as_mut_ptr(), buf_len: 1 }];
        let read = wasi::fd_read(0, &parts);
        seen.add("stdin", read.map_or_else(error, |n| if n == 0 { "at its end" } else { "has bytes" }.to_string()));
        for (descriptor, name) in [(0, "stdin"), (1, "stdout"), (2, "stderr")] {
            let kind = wasi::fd_fdstat_get(descriptor).map_or_else(error, |stat| match stat.fs_filetype {
                wasi::FILETYPE_CHARACTER_DEVICE => "a terminal".to_string(),
                _ => "no terminal".to_string(),
            });
            seen.add(&format!("{name} is"), kind);
        }
        for (id, name) in [
            (wasi::CLOCKID_REALTIME, "wall clock"),
            (wasi::CLOCKID_MONOTONIC, "monotonic clock"),
            (wasi::CLOCKID_PROCESS_CPUTIME_ID, "processor time of the process"),
            (wasi::CLOCKID_THREAD_CPUTIME_ID, "processor time of the thread"),
        ] {
            let time = wasi::clock_time_get(id, 0).map_or_else(error, |time| match id {
                wasi::CLOCKID_REALTIME => of_today(time / 1_000_000_000),
                _ => since_start(time),
            });
            seen.add(name, time);
            let resolution = wasi::clock_res_get(id).map_or_else(error, |ns| format!("{ns} ns"));
            seen.add(&format!("{name}, resolution"), resolution);
        }
        let mut bytes = [0u8; 16];
        seen.add("random bytes", shown(wasi::random_get(bytes.as_mut_ptr(), 16)));
        let path_open = wasi::path_open(0, 0, "file", 0, wasi::RIGHTS_FD_READ, 0, 0);
        seen.add("a file through stdin", shown(path_open));
        seen.add("a connection from stdin", shown(wasi::sock_accept(0, 0)));
        seen.add("a connection from descriptor 3", shown(wasi::sock_accept(3, 0)));
        seen.add("a signal", shown(wasi::proc_raise(wasi::SIGNAL_TERM)));
        seen.add("yielding", shown(wasi::sched_yield()));
    }
    seen.lines()
}
