//! The program for WASI preview 1: its calls as they are, without a library over them.

mod driver;
mod library;
mod see1;

use driver::{list, ok, steps, word, Outcome, Step};

fn main() {
    let steps = steps(std::env::args());
    let words: Vec<String> = steps.iter().map(|step| word(perform(step))).collect();
    println!("{}", words.join(" "));
}

/// The name that later versions have for an errno.
fn error(errno: wasi::Errno) -> String {
    match errno.name() {
        "ACCES" => "access",
        "BADF" => "bad-descriptor",
        "EXIST" => "exist",
        "ILSEQ" => "illegal-byte-sequence",
        "INVAL" => "invalid",
        "ISDIR" => "is-directory",
        "LOOP" => "loop",
        "MFILE" => "too-many-open",
        "NAMETOOLONG" => "name-too-long",
        "NOENT" => "no-entry",
        "NOSPC" => "insufficient-space",
        "NOTDIR" => "not-directory",
        "NOTEMPTY" => "not-empty",
        "NOTSOCK" => "not-socket",
        "NOTSUP" => "unsupported",
        "PERM" => "not-permitted",
        "ROFS" => "read-only",
        "XDEV" => "cross-device",
        "NOTCAPABLE" => "not-capable",
        other => return other.to_lowercase(),
    }
    .to_string()
}

fn perform(step: &Step) -> Outcome {
    // SAFETY: every pointer is to a value that lives until its call has returned.
    unsafe {
        match step.op.as_str() {
            "env" => Ok(std::env::var(step.text(0)).unwrap_or("none".to_string())),
            "args" => Ok(std::env::args().collect::<Vec<_>>().join(",")),
            "stdin" => {
                let mut bytes = [0; 64];
                let read = read(0, &mut bytes)?;
                Ok(format!("read:{}", driver::text(&bytes[..read])))
            }
            "stdout" => write(1, step.arg(0)),
            "stderr" => write(2, step.arg(0)),
            "exit" => std::process::exit(step.number(0) as i32),
            "see" => Ok(see1::all()),
            "open-many" => {
                let mut opened = 0u64;
                while opened < step.number(1) {
                    match open(step, 0, "r") {
                        Ok(_) => opened += 1,
                        Err(why) => return Ok(format!("{opened}:{why}")),
                    }
                }
                Ok(format!("{opened}:ok"))
            }
            "grow" => {
                // Each page is written, so that the host has to have it.
                let mut pages = 0u64;
                loop {
                    let at = core::arch::wasm32::memory_grow(0, 1);
                    if at == usize::MAX {
                        break Ok(format!("{pages}-pages"));
                    }
                    pages += 1;
                    for part in 0..16 {
                        ((at * 65536 + part * 4096) as *mut u8).write_volatile(1);
                    }
                }
            }
            "loop" => endless(step.text(0)),
            "huge" => {
                let bytes = vec![b'a'; step.number(1) as usize];
                match step.text(0) {
                    "path" => wasi::path_filestat_get(directory(step.path(2).0)?, 0, driver::text(&bytes)).map(ok),
                    "random" => {
                        let mut bytes = bytes;
                        wasi::random_get(bytes.as_mut_ptr(), bytes.len()).map(ok)
                    }
                    "poll" => return poll_many(bytes),
                    "parts" => {
                        // Each of no byte, so that none is written.
                        let parts: &[wasi::Ciovec] = &vec![wasi::Ciovec { buf: bytes.as_ptr(), buf_len: 0 }; bytes.len() / 8];
                        drop(bytes);
                        wasi::fd_write(1, parts).map(ok)
                    }
                    _ => return write(1, &bytes).map(|_| String::new()),
                }
                .map_err(error)
            }
            _ => files(step),
        }
    }
}

/// Waits for as many clocks as there is space for in so many bytes.
unsafe fn poll_many(bytes: Vec<u8>) -> Outcome {
    let count = bytes.len() / std::mem::size_of::<wasi::Subscription>();
    drop(bytes);
    let clock = wasi::SubscriptionClock { id: wasi::CLOCKID_MONOTONIC, timeout: 0, precision: 0, flags: 0 };
    let u = wasi::SubscriptionU { tag: 0, u: wasi::SubscriptionUU { clock } };
    let subscriptions = vec![wasi::Subscription { userdata: 0, u }; count];
    let mut events: Vec<wasi::Event> = Vec::with_capacity(count);
    wasi::poll_oneoff(subscriptions.as_ptr(), events.as_mut_ptr(), count).map(ok).map_err(error)
}

/// Calls the host without end.
unsafe fn endless(what: &str) -> Outcome {
    loop {
        match what {
            "clock" => wasi::clock_time_get(wasi::CLOCKID_MONOTONIC, 0).map(|_| ()),
            "random" => wasi::random_get([0u8; 16].as_mut_ptr(), 16),
            "poll" => {
                let clock = wasi::SubscriptionClock { id: wasi::CLOCKID_MONOTONIC, timeout: 0, precision: 0, flags: 0 };
                let u = wasi::SubscriptionU { tag: 0, u: wasi::SubscriptionUU { clock } };
                let subscription = wasi::Subscription { userdata: 0, u };
                let mut event = std::mem::zeroed();
                wasi::poll_oneoff(&subscription, &mut event, 1).map(|_| ())
            }
            _ => wasi::sched_yield(),
        }
        .map_err(error)?
    }
}

/// The descriptor of a directory that the guest was given.
unsafe fn directory(name: &str) -> Result<u32, String> {
    for descriptor in 3.. {
        let Ok(prestat) = wasi::fd_prestat_get(descriptor) else { break };
        let mut bytes = vec![0; prestat.u.dir.pr_name_len];
        wasi::fd_prestat_dir_name(descriptor, bytes.as_mut_ptr(), bytes.len()).map_err(error)?;
        if bytes == name.as_bytes() {
            return Ok(descriptor);
        }
    }
    Err("not-given".to_string())
}

/// `r`ead, `w`rite, `c`reate, `t`runcate, e`x`clusive, `d`irectory, `n`o following, `a`ppend.
unsafe fn open(step: &Step, at: usize, flags: &str) -> Result<u32, String> {
    let (name, path) = step.path(at);
    open_at(name, path, flags)
}

unsafe fn open_at(name: &str, path: &str, flags: &str) -> Result<u32, String> {
    let has = |flag: char| flags.contains(flag);
    let when = |flag: char, bit: u16| if has(flag) { bit } else { 0 };
    let oflags = when('c', wasi::OFLAGS_CREAT)
        | when('t', wasi::OFLAGS_TRUNC)
        | when('x', wasi::OFLAGS_EXCL)
        | when('d', wasi::OFLAGS_DIRECTORY);
    let mut rights = 0;
    if has('r') {
        rights |= wasi::RIGHTS_FD_READ | wasi::RIGHTS_FD_READDIR;
    }
    if has('w') {
        rights |= wasi::RIGHTS_FD_WRITE | wasi::RIGHTS_FD_FILESTAT_SET_SIZE;
    }
    let lookup = if has('n') { 0 } else { wasi::LOOKUPFLAGS_SYMLINK_FOLLOW };
    let end = when('a', wasi::FDFLAGS_APPEND);
    wasi::path_open(directory(name)?, lookup, path, oflags, rights, rights, end).map_err(error)
}

/// Takes one more of what the host has.
unsafe fn hoard(what: &str, (name, path): (&str, &str), n: u64) -> Outcome {
    let bytes = [b'x'; 65536];
    match what {
        // Of one byte each.
        "small" => {
            let file = open_at(name, &format!("{path}{n}"), "wct")?;
            write(file, b"x")?;
            wasi::fd_close(file).map(ok).map_err(error)
        }
        "append" => {
            let file = open_at(name, path, "wca")?;
            write(file, &bytes)?;
            wasi::fd_close(file).map(ok).map_err(error)
        }
        // The same bytes of a file.
        "again" => {
            let file = open_at(name, path, "wc")?;
            write(file, &bytes)?;
            wasi::fd_close(file).map(ok).map_err(error)
        }
        // They stay open without a name.
        "nameless" => {
            let file = open_at(name, path, "wct")?;
            wasi::path_unlink_file(directory(name)?, path).map_err(error)?;
            write(file, &bytes)
        }
        // Written and removed.
        "passing" => {
            let file = open_at(name, path, "wct")?;
            write(file, &bytes)?;
            wasi::path_unlink_file(directory(name)?, path).map_err(error)?;
            wasi::fd_close(file).map(ok).map_err(error)
        }
        // A byte far from the next.
        "holes" => {
            let file = open_at(name, path, "wc")?;
            let parts = [wasi::Ciovec { buf: bytes.as_ptr(), buf_len: 1 }];
            wasi::fd_pwrite(file, &parts, (n + 1) * 65536 - 1).map_err(error)?;
            wasi::fd_close(file).map(ok).map_err(error)
        }
        "links" => {
            let given = directory(name)?;
            wasi::path_link(given, 0, path, given, &format!("{path}{n}")).map(ok).map_err(error)
        }
        _ => Err("no-such-step".to_string()),
    }
}

unsafe fn read(descriptor: u32, bytes: &mut [u8]) -> Result<usize, String> {
    let parts = [wasi::Iovec { buf: bytes.as_mut_ptr(), buf_len: bytes.len() }];
    wasi::fd_read(descriptor, &parts).map_err(error)
}

unsafe fn write(descriptor: u32, bytes: &[u8]) -> Outcome {
    let parts = [wasi::Ciovec { buf: bytes.as_ptr(), buf_len: bytes.len() }];
    wasi::fd_write(descriptor, &parts).map(ok).map_err(error)
}

unsafe fn names(descriptor: u32) -> Outcome {
    let mut bytes = vec![0u8; 65536];
    let used = wasi::fd_readdir(descriptor, bytes.as_mut_ptr(), bytes.len(), 0).map_err(error)?;
    let (mut names, mut at) = (Vec::new(), 0);
    while at + 24 <= used {
        let entry: wasi::Dirent = std::ptr::read_unaligned(bytes[at..].as_ptr().cast());
        let end = (at + 24 + entry.d_namlen as usize).min(used);
        names.push(String::from_utf8_lossy(&bytes[at + 24..end]).into_owned());
        at = end;
    }
    names.retain(|name| name != "." && name != "..");
    Ok(list(names))
}

unsafe fn files(step: &Step) -> Outcome {
    let (name, path) = step.path(0);
    let follow = wasi::LOOKUPFLAGS_SYMLINK_FOLLOW;
    let done = match step.op.as_str() {
        "open" => return open(step, 0, step.text(1)).map(ok),
        "read" => {
            let mut bytes = [0; 64];
            let length = read(open(step, 0, "r")?, &mut bytes)?;
            return Ok(format!("read:{}", driver::text(&bytes[..length])));
        }
        "write" => {
            let descriptor = open(step, 0, "wct")?;
            let written = write(descriptor, step.arg(1));
            wasi::fd_close(descriptor).map_err(error)?;
            return written;
        }
        "resize" => wasi::fd_filestat_set_size(open(step, 0, "w")?, step.number(1)),
        "list" => return names(open(step, 0, "rd")?),
        "stat" | "lstat" => {
            let lookup = if step.op == "stat" { follow } else { 0 };
            let stat = wasi::path_filestat_get(directory(name)?, lookup, path).map_err(error)?;
            let kind = match stat.filetype {
                wasi::FILETYPE_DIRECTORY => "directory",
                wasi::FILETYPE_REGULAR_FILE => "file",
                wasi::FILETYPE_SYMBOLIC_LINK => "symlink",
                _ => "other",
            };
            return Ok(kind.to_string());
        }
        "mkdir" => wasi::path_create_directory(directory(name)?, path),
        "rmdir" => wasi::path_remove_directory(directory(name)?, path),
        "unlink" => wasi::path_unlink_file(directory(name)?, path),
        "symlink" => {
            let (name, path) = step.path(1);
            wasi::path_symlink(step.text(0), directory(name)?, path)
        }
        "readlink" => {
            let mut bytes = [0; 256];
            let length = wasi::path_readlink(directory(name)?, path, bytes.as_mut_ptr(), bytes.len());
            let length = length.map_err(error)?;
            return Ok(format!("to:{}", driver::text(&bytes[..length])));
        }
        "link" => {
            let (other, new) = step.path(1);
            wasi::path_link(directory(name)?, 0, path, directory(other)?, new)
        }
        "rename" => {
            let (other, new) = step.path(1);
            wasi::path_rename(directory(name)?, path, directory(other)?, new)
        }
        "times" => {
            let now = wasi::FSTFLAGS_ATIM_NOW | wasi::FSTFLAGS_MTIM_NOW;
            wasi::path_filestat_set_times(directory(name)?, follow, path, 0, 0, now)
        }
        "many" => {
            for n in 0..step.number(1) {
                let made = wasi::path_create_directory(directory(name)?, &format!("{path}{n}"));
                if let Err(errno) = made {
                    return Ok(format!("{n}:{}", error(errno)));
                }
            }
            Ok(())
        }
        "fill" => {
            let (descriptor, bytes) = (open(step, 0, "wct")?, vec![b'x'; 65536]);
            for n in 0..step.number(1) {
                if let Err(why) = write(descriptor, &bytes) {
                    return Ok(format!("{n}:{why}"));
                }
            }
            wasi::fd_close(descriptor)
        }
        "hoard" => {
            for n in 0..step.number(2) {
                if let Err(why) = hoard(step.text(1), (name, path), n) {
                    return Ok(format!("{n}:{why}"));
                }
            }
            Ok(())
        }
        "deep" => {
            let mut at = directory(name)?;
            for n in 0..step.number(1) {
                let made = wasi::path_create_directory(at, "d");
                let rights = wasi::RIGHTS_FD_READ;
                let opened = made
                    .and_then(|()| wasi::path_open(at, 0, "d", wasi::OFLAGS_DIRECTORY, rights, rights, 0));
                if n > 0 {
                    wasi::fd_close(at).map_err(error)?;
                }
                match opened {
                    Ok(opened) => at = opened,
                    Err(errno) => return Ok(format!("{n}:{}", error(errno))),
                }
            }
            Ok(())
        }
        _ => return Err("no-such-step".to_string()),
    };
    done.map(ok).map_err(error)
}
