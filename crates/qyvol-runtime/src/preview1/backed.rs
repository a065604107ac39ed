//! The calls of preview 1 on what is open, for runs with a mount that is prepared as it
//! is used.

use wasmtime::{Caller, Linker};
use wasmtime_wasi::p1::wasi_snapshot_preview1 as api;

use crate::backing::Intent;
use crate::preview1::{MODULE, ModuleState, errno, guest};

/// Replaces a call: `before` checks and provides what it needs, or returns the call's error.
macro_rules! replace {
    ($linker:ident, $call:ident, ($($arg:ident: $ty:ty),+), |$state:ident| $before:expr) => {
        $linker.func_wrap_async(
            MODULE,
            stringify!($call),
            |mut caller: Caller<'_, ModuleState>, ($($arg,)+): ($($ty,)+)| {
                Box::new(async move {
                    let export = caller.get_export("memory");
                    let (mut memory, $state) = guest(&mut caller, export.as_ref())?;
                    match $before {
                        Ok(()) => api::$call(&mut $state.wasi, &mut memory, $($arg),+).await,
                        Err(error) => Ok(errno(&error)),
                    }
                })
            },
        )?;
    };
}

pub(crate) fn link(linker: &mut Linker<ModuleState>) -> wasmtime::Result<()> {
    replace!(linker, fd_readdir, (directory: i32, buffer: i32, size: i32, cookie: i64, result: i32),
    |state| match cookie {
        0 => state.watched.check(directory.cast_unsigned(), "", Intent::List)?.map(|_| ()),
        // It continues a listing, whose content was provided when it was started.
        _ => state.watched.check(directory.cast_unsigned(), "", Intent::Stat)?.map(|_| ()),
    });
    replace!(linker, fd_sync, (file: i32), |state| state.watched.flush(file.cast_unsigned()));
    replace!(linker, fd_datasync, (file: i32), |state| state.watched.flush(file.cast_unsigned()));
    Ok(())
}
