//! The calls of preview 1 that take a path, beside those in [`crate::preview1`], for
//! runs with a mount that is prepared as it is used.

use wasmtime::{Caller, Linker};
use wasmtime_wasi::p1::wasi_snapshot_preview1 as api;
use wiggle::GuestMemory;

use crate::backing::Intent;
use crate::preview1::{MODULE, ModuleState, errno, guest};
use crate::watched::Places;

/// Replaces a call: `before` checks and provides what it needs, returns the call's error,
/// or ends the guest; then comes the call itself; `after` reports it.
macro_rules! replace {
    ($linker:ident, $call:ident, ($($arg:ident: $ty:ty),+),
        |$state:ident, $memory:ident| $before:expr, |$place:ident| $after:expr) => {
        $linker.func_wrap_async(
            MODULE,
            stringify!($call),
            |mut caller: Caller<'_, ModuleState>, ($($arg,)+): ($($ty,)+)| {
                Box::new(async move {
                    let export = caller.get_export("memory");
                    let (mut memory, $state) = guest(&mut caller, export.as_ref())?;
                    let $memory = &memory;
                    let $place = match $before {
                        Ok(place) => place,
                        Err(errno) => return Ok(errno),
                    };
                    let errno = api::$call(&mut $state.wasi, &mut memory, $($arg),+).await?;
                    if errno == 0 {
                        $after;
                    }
                    Ok(errno)
                })
            },
        )?;
    };
}

/// As [`ModuleState::check`], for a path that is used and one where something is put.
fn both(
    state: &ModuleState,
    memory: &GuestMemory<'_>,
    (from, from_at, from_length, intent): (i32, i32, i32, Intent),
    (to, to_at, to_length): (i32, i32, i32),
) -> wasmtime::Result<Result<Places, i32>> {
    let old = match state.check(memory, from, (from_at, from_length), intent)? {
        Ok(old) => old,
        Err(errno) => return Ok(Err(errno)),
    };
    let new = state.check(memory, to, (to_at, to_length), Intent::Create)?;
    Ok(new.map(|new| (old, new)))
}

/// There is nothing to report.
fn nothing<P>(_: P) {}

pub(crate) fn link(linker: &mut Linker<ModuleState>) -> wasmtime::Result<()> {
    replace!(linker, path_create_directory, (directory: i32, at: i32, length: i32),
        |state, memory| state.check(memory, directory, (at, length), Intent::Create)?,
        |place| state.watched.made_directory(place));
    replace!(linker, path_remove_directory, (directory: i32, at: i32, length: i32),
        |state, memory| state.check(memory, directory, (at, length), Intent::Remove)?,
        |place| state.watched.removed(place));
    replace!(linker, path_unlink_file, (directory: i32, at: i32, length: i32),
        |state, memory| state.check(memory, directory, (at, length), Intent::Remove)?,
        |place| state.watched.removed(place));
    replace!(linker, path_readlink,
        (directory: i32, at: i32, length: i32, buffer: i32, size: i32, result: i32),
        |state, memory| state.check(memory, directory, (at, length), Intent::Stat)?,
        |place| nothing(place));
    replace!(linker, path_filestat_set_times,
        (directory: i32, lookup: i32, at: i32, length: i32, accessed: i64, modified: i64, flags: i32),
        |state, memory| state.check(memory, directory, (at, length), Intent::Write)?,
        |place| nothing(place));
    replace!(linker, path_rename,
        (from: i32, from_at: i32, from_length: i32, to: i32, to_at: i32, to_length: i32),
        |state, memory| both(state, memory, (from, from_at, from_length, Intent::Rename), (to, to_at, to_length))?,
        |places| state.watched.renamed(places.0, places.1));
    replace!(linker, path_link,
        (from: i32, lookup: i32, from_at: i32, from_length: i32, to: i32, to_at: i32, to_length: i32),
        |state, memory| both(state, memory, (from, from_at, from_length, Intent::Read), (to, to_at, to_length))?,
        |place| nothing(place));
    replace!(linker, path_symlink,
        (target_at: i32, target_length: i32, directory: i32, at: i32, length: i32),
        |state, _memory| state.watched.refuse_link(directory.cast_unsigned()).map_err(|e| errno(&e)),
        |unit| nothing(unit));
    replace!(linker, fd_readdir, (directory: i32, buffer: i32, size: i32, cookie: i64, result: i32),
        |state, _memory| match cookie {
            0 => state.watched.check(directory.cast_unsigned(), "", Intent::List)?.map_err(|e| errno(&e)),
            // It continues a listing that was started.
            _ => Ok(None),
        },
        |place| nothing(place));
    replace!(linker, fd_sync, (file: i32),
        |state, _memory| state.watched.flush(file.cast_unsigned()).map_err(|e| errno(&e)),
        |unit| nothing(unit));
    replace!(linker, fd_datasync, (file: i32),
        |state, _memory| state.watched.flush(file.cast_unsigned()).map_err(|e| errno(&e)),
        |unit| nothing(unit));
    Ok(())
}
