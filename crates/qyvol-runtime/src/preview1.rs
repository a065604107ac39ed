//! WASI preview 1 of a core module: wasmtime-wasi's own, with a few of its
//! functions replaced. `proc_exit` accepts every code. Those that take a path
//! check the entries of sealed mounts before the guest sees them; those that
//! change descriptors are tracked.
//!
//! Preview 1 is frozen (witx/wasi_snapshot_preview1.witx of the WebAssembly/WASI
//! repository): the names and signatures here stay.

mod backed;
mod paths;
mod quota;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io;

use wasmtime::{AsContextMut, Caller, Extern, Linker, Store};
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as api, WasiSnapshotPreview1};
use wasmtime_wasi::p1::{WasiP1Ctx, add_to_linker_async};
use wasmtime_wasi::{I32Exit, WasiCtxBuilder};
use wiggle::{GuestMemory, GuestPtr};

pub(crate) use self::quota::FileQuotas;
use crate::backing::Intent;
use crate::denials::{Asked, Denials};
use crate::limits::{Count, Limits, RunLimits};
use crate::watched::{Place, Watched};

/// Too many files are open.
const MFILE: i32 = 33;

pub(crate) const MODULE: &str = "wasi_snapshot_preview1";
/// The descriptor of the first mount: after stdin, stdout and stderr.
pub(crate) const FIRST_MOUNT: u32 = 3;

/// The state of a module's calls.
pub(crate) struct ModuleState {
    pub(crate) wasi: WasiP1Ctx,
    pub(crate) watched: Watched,
    pub(crate) quotas: FileQuotas,
    pub(crate) denials: Denials,
    pub(crate) files: Count,
    pub(crate) limits: Limits,
}

impl ModuleState {
    /// As [`Watched::check`], for a path in the guest's memory. The inner error is the
    /// call's.
    pub(crate) fn check(
        &self,
        memory: &GuestMemory<'_>,
        directory: i32,
        path: (i32, i32),
        intent: Intent,
    ) -> wasmtime::Result<Result<Option<Place>, i32>> {
        let Some(path) = text(memory, path) else {
            return Ok(Ok(None));
        };
        let checked = self.watched.check(directory.cast_unsigned(), &path, intent)?;
        Ok(checked.map_err(|error| errno(&error)))
    }

    /// As [`Denials::asked`], for a path in the guest's memory.
    pub(crate) fn asked(
        &self,
        action: &'static str,
        memory: &GuestMemory<'_>,
        descriptor: i32,
        path: (i32, i32),
    ) -> Option<Asked> {
        if !self.denials.is_on() {
            return None;
        }
        let path = text(memory, path)?;
        self.denials.asked(action, descriptor.cast_unsigned(), &path)
    }
}

/// A path in the guest's memory. The call itself refuses one that is not UTF-8.
pub(crate) fn text<'a>(memory: &'a GuestMemory<'_>, path: (i32, i32)) -> Option<Cow<'a, str>> {
    let pointer = GuestPtr::<str>::new((path.0.cast_unsigned(), path.1.cast_unsigned()));
    memory.as_cow_str(pointer).ok()
}

/// Reports a call to the observer, if it was denied.
pub(crate) fn reported(asked: Option<Asked>, errno: i32) -> i32 {
    const PERM: i32 = 63;
    const ROFS: i32 = 69;
    if let (Some(asked), PERM | ROFS) = (asked, errno) {
        asked.denied();
    }
    errno
}

/// The number of an error in preview 1.
pub(crate) fn errno(error: &io::Error) -> i32 {
    match error.raw_os_error() {
        Some(libc::EACCES) => 2,
        Some(libc::EFBIG) => 22,
        Some(libc::EHOSTUNREACH) => 23,
        Some(libc::EINVAL) => 28,
        Some(libc::ELOOP) => 32,
        Some(libc::ENAMETOOLONG) => 37,
        Some(libc::ENOENT) => 44,
        Some(libc::ENOSPC) => 51,
        Some(libc::ENOTDIR) => 54,
        Some(libc::EPERM) => 63,
        Some(libc::EROFS) => 69,
        Some(libc::ESTALE) => 72,
        Some(libc::ETIMEDOUT) => 73,
        Some(libc::EXDEV) => 75,
        // I/O.
        _ => 29,
    }
}

/// The reasons for replacing calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Whether open files have to be tracked.
    pub(crate) tracked: bool,
    /// Whether a mount is prepared as it is used.
    pub(crate) backed: bool,
    /// Whether a mount has a quota.
    pub(crate) quotas: bool,
    /// Whether denials are reported to an observer.
    pub(crate) observed: bool,
}

/// Describes preview 1 to the linker.
pub(crate) fn link(linker: &mut Linker<ModuleState>, wanted: &Wanted) -> wasmtime::Result<()> {
    add_to_linker_async(linker, |state: &mut ModuleState| &mut state.wasi)?;
    linker.allow_shadowing(true);
    // wasmtime-wasi makes a trap of 126 and more.
    linker.func_wrap(MODULE, "proc_exit", |code: i32| -> wasmtime::Result<()> {
        Err(I32Exit(code).into())
    })?;
    if *wanted == Wanted::default() {
        return Ok(());
    }
    linker.func_wrap_async(
        MODULE,
        "path_open",
        |mut caller: Caller<'_, ModuleState>, args: (i32, i32, i32, i32, i32, i64, i64, i32, i32)| {
            Box::new(async move {
                let export = caller.get_export("memory");
                let (mut memory, state) = guest(&mut caller, export.as_ref())?;
                let (directory, lookup, at, length, open, rights, inherited, flags, result) = args;
                let asked = state.asked(open_action(open, rights), &memory, directory, (at, length));
                let place = match state.check(&memory, directory, (at, length), open_intent(open, rights))? {
                    Ok(place) => place,
                    Err(errno) => return Ok(reported(asked, errno)),
                };
                if !state.files.is_free() {
                    return Ok(MFILE);
                }
                let opening = match state.opening(&memory, directory, lookup, (at, length), open)? {
                    Ok(opening) => opening,
                    Err(errno) => return Ok(errno),
                };
                let errno = api::path_open(
                    &mut state.wasi,
                    &mut memory,
                    directory,
                    lookup,
                    at,
                    length,
                    open,
                    rights,
                    inherited,
                    flags,
                    result,
                )
                .await?;
                if errno == 0 {
                    let descriptor = memory.read(GuestPtr::<u32>::new(result.cast_unsigned()))?;
                    state.files.opened(descriptor);
                    if let Some(place) = place {
                        state.watched.opened(place, descriptor);
                    }
                    if let Some(opening) = opening {
                        state.opened(opening, descriptor, flags)?;
                    }
                    state.denials.opened(asked, descriptor);
                    return Ok(0);
                }
                Ok(reported(asked, errno))
            })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "path_filestat_get",
        |mut caller: Caller<'_, ModuleState>, (directory, lookup, at, length, result): (i32, i32, i32, i32, i32)| {
            Box::new(async move {
                let export = caller.get_export("memory");
                let (mut memory, state) = guest(&mut caller, export.as_ref())?;
                let asked = state.asked("read", &memory, directory, (at, length));
                if let Err(errno) = state.check(&memory, directory, (at, length), Intent::Stat)? {
                    return Ok(reported(asked, errno));
                }
                let wasi = &mut state.wasi;
                let errno = api::path_filestat_get(wasi, &mut memory, directory, lookup, at, length, result).await?;
                Ok(reported(asked, errno))
            })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "fd_close",
        |mut caller: Caller<'_, ModuleState>, (descriptor,): (i32,)| {
            Box::new(async move {
                let export = caller.get_export("memory");
                let (mut memory, state) = guest(&mut caller, export.as_ref())?;
                let errno = api::fd_close(&mut state.wasi, &mut memory, descriptor).await?;
                if errno == 0 {
                    state.files.closed(descriptor.cast_unsigned());
                    state.watched.closed(descriptor.cast_unsigned());
                    state.quotas.closed(descriptor.cast_unsigned());
                    state.denials.closed(descriptor.cast_unsigned());
                }
                Ok(errno)
            })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "fd_renumber",
        |mut caller: Caller<'_, ModuleState>, (from, to): (i32, i32)| {
            Box::new(async move {
                let export = caller.get_export("memory");
                let (mut memory, state) = guest(&mut caller, export.as_ref())?;
                let errno = api::fd_renumber(&mut state.wasi, &mut memory, from, to).await?;
                if errno == 0 {
                    if from != to {
                        state.files.closed(from.cast_unsigned());
                        state.files.opened(to.cast_unsigned());
                    }
                    state.watched.renumbered(from.cast_unsigned(), to.cast_unsigned());
                    state.quotas.renumbered(from.cast_unsigned(), to.cast_unsigned());
                    state.denials.renumbered(from.cast_unsigned(), to.cast_unsigned());
                }
                Ok(errno)
            })
        },
    )?;
    if wanted.backed || wanted.quotas || wanted.observed {
        paths::link(linker)?;
    }
    if wanted.backed {
        backed::link(linker)?;
    }
    if wanted.quotas {
        quota::link(linker)?;
    }
    Ok(())
}

// Flags of opening, and a right.
const CREATE: i32 = 1;
const DIRECTORY: i32 = 2;
const EXCLUSIVE: i32 = 4;
const TRUNCATE: i32 = 8;
const WRITE: i64 = 1 << 6;

/// The action that opening something with these flags and rights is reported as.
fn open_action(open: i32, rights: i64) -> &'static str {
    if open & CREATE != 0 {
        "create"
    } else if open & TRUNCATE != 0 || rights & WRITE != 0 {
        "write"
    } else {
        "read"
    }
}

/// What the guest is about to do when it opens something with these flags and rights.
fn open_intent(open: i32, rights: i64) -> Intent {
    // Without CREATE nothing is exclusive.
    if open & (CREATE | EXCLUSIVE) == CREATE | EXCLUSIVE {
        Intent::Create
    } else if open & TRUNCATE != 0 {
        Intent::Truncate
    } else if open & DIRECTORY != 0 {
        Intent::Directory
    } else if open & CREATE != 0 || rights & WRITE != 0 {
        Intent::Write
    } else {
        Intent::Read
    }
}

/// The names of the functions that a module gets.
pub(crate) fn names(engine: &wasmtime::Engine) -> wasmtime::Result<BTreeSet<(String, String)>> {
    let mut linker = Linker::new(engine);
    link(&mut linker, &Wanted::default())?;
    let state = ModuleState {
        wasi: WasiCtxBuilder::new().build_p1(),
        watched: Watched::default(),
        quotas: FileQuotas::default(),
        denials: Denials::default(),
        files: Count::default(),
        limits: Limits::new(RunLimits::default()),
    };
    let mut store = Store::new(engine, state);
    let names = linker.iter(&mut store);
    Ok(names
        .map(|(module, name, _)| (module.to_string(), name.to_string()))
        .collect())
}

/// The guest's memory and its state, as wasmtime-wasi's own functions take them.
pub(crate) fn guest<'a>(
    caller: &'a mut Caller<'_, ModuleState>,
    memory: Option<&'a Extern>,
) -> wasmtime::Result<(GuestMemory<'a>, &'a mut ModuleState)> {
    let fuel = caller.as_context_mut().hostcall_fuel();
    let (memory, state) = match memory {
        Some(Extern::Memory(memory)) => {
            let (bytes, state) = memory.data_and_store_mut(caller);
            (GuestMemory::Unshared(bytes), state)
        }
        Some(Extern::SharedMemory(memory)) => (GuestMemory::Shared(memory.data()), caller.data_mut()),
        _ => wasmtime::bail!("missing required memory export"),
    };
    state.wasi.set_hostcall_fuel(fuel);
    Ok((memory, state))
}
