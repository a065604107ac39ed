//! The calls of preview 1 that take a path, in addition to those in [`crate::preview1`], for
//! runs with a mount that is prepared as it is used or has a quota, and for observed runs.

use wasmtime::{Caller, Linker};
use wasmtime_wasi::p1::wasi_snapshot_preview1 as api;
use wiggle::GuestMemory;

use crate::backing::Intent;
use crate::preview1::{MODULE, ModuleState, errno, guest, reported};
use crate::quota::{Held, Plan, done};
use crate::watched::Place;

/// The places of a call, and what it takes from the quota and frees.
type Before<P> = Result<(P, Option<Plan>), Refused>;

/// Why a call isn't made.
enum Refused {
    /// Its own error.
    Errno(i32),
    /// The error that ends the guest.
    End(wasmtime::Error),
}

impl From<i32> for Refused {
    fn from(errno: i32) -> Refused {
        Refused::Errno(errno)
    }
}

impl From<wasmtime::Error> for Refused {
    fn from(error: wasmtime::Error) -> Refused {
        Refused::End(error)
    }
}

impl ModuleState {
    /// Checks and provides what a call on a path uses, and plans it.
    fn before(
        &self,
        memory: &GuestMemory<'_>,
        path: (i32, i32, i32),
        intent: Intent,
        plan: impl FnOnce(&ModuleState) -> Result<Option<Plan>, i32>,
    ) -> Before<Option<Place>> {
        let place = self.check(memory, path.0, (path.1, path.2), intent)??;
        Ok((place, plan(self)?))
    }

    /// The same for a call that removes what is at a path.
    fn before_removal(&self, memory: &GuestMemory<'_>, path: (i32, i32, i32)) -> Before<Option<Place>> {
        self.before(memory, path, Intent::Remove, |state| {
            state.plan_at(memory, path.0, (path.1, path.2), |held, path| Ok(held.remove(path)))
        })
    }
}

/// It takes and frees nothing.
fn unplanned(_: &ModuleState) -> Result<Option<Plan>, i32> {
    Ok(None)
}

/// There is nothing to report.
fn nothing<P>(_: P) {}

/// Replaces a call: `before` checks, provides and plans what it needs, returns the call's
/// error, or ends the guest; then comes the call itself; `after` reports it to the mount.
/// A denied call is reported to the observer with the path after `action`.
macro_rules! replace {
    ($linker:ident, $call:ident, ($($arg:ident: $ty:ty),+), $action:literal $path:expr,
        |$state:ident, $memory:ident| $before:expr, |$place:ident| $after:expr) => {
        $linker.func_wrap_async(
            MODULE,
            stringify!($call),
            |mut caller: Caller<'_, ModuleState>, ($($arg,)+): ($($ty,)+)| {
                Box::new(async move {
                    let export = caller.get_export("memory");
                    let (mut memory, $state) = guest(&mut caller, export.as_ref())?;
                    let $memory = &memory;
                    let (descriptor, at, length) = $path;
                    let asked = $state.asked($action, $memory, descriptor, (at, length));
                    let before: Before<_> = $before;
                    let errno = match before {
                        Ok(($place, plan)) => {
                            let errno = api::$call(&mut $state.wasi, &mut memory, $($arg),+).await?;
                            if errno == 0 {
                                done(plan);
                                $after;
                            }
                            errno
                        }
                        Err(Refused::Errno(errno)) => errno,
                        Err(Refused::End(error)) => return Err(error),
                    };
                    Ok(reported(asked, errno))
                })
            },
        )?;
    };
}

pub(crate) fn link(linker: &mut Linker<ModuleState>) -> wasmtime::Result<()> {
    replace!(linker, path_create_directory, (directory: i32, at: i32, length: i32), "create" (directory, at, length),
        |state, memory| state.before(memory, (directory, at, length), Intent::Create,
            |state| state.plan(directory, Held::make_directory)),
        |place| state.watched.made_directory(place));
    replace!(linker, path_remove_directory, (directory: i32, at: i32, length: i32), "remove" (directory, at, length),
        |state, memory| state.before_removal(memory, (directory, at, length)),
        |place| state.watched.removed(place));
    replace!(linker, path_unlink_file, (directory: i32, at: i32, length: i32), "remove" (directory, at, length),
        |state, memory| state.before_removal(memory, (directory, at, length)),
        |place| state.watched.removed(place));
    replace!(linker, path_readlink,
        (directory: i32, at: i32, length: i32, buffer: i32, size: i32, result: i32), "read" (directory, at, length),
        |state, memory| state.before(memory, (directory, at, length), Intent::Stat, unplanned),
        |place| nothing(place));
    replace!(linker, path_filestat_set_times,
        (directory: i32, lookup: i32, at: i32, length: i32, accessed: i64, modified: i64, flags: i32),
        "write" (directory, at, length),
        |state, memory| state.before(memory, (directory, at, length), Intent::Write, unplanned),
        |place| nothing(place));
    replace!(linker, path_rename,
        (from: i32, from_at: i32, from_length: i32, to: i32, to_at: i32, to_length: i32),
        "rename" (from, from_at, from_length),
        |state, memory| state
            .before(memory, (from, from_at, from_length), Intent::Rename, unplanned)
            .and_then(|(old, _)| {
                let plan = |state: &ModuleState| {
                    state.plan_rename(memory, (from, from_at, from_length), (to, to_at, to_length))
                };
                let (new, plan) = state.before(memory, (to, to_at, to_length), Intent::Create, plan)?;
                Ok(((old, new), plan))
            }),
        |places| state.watched.renamed(places.0, places.1));
    replace!(linker, path_link,
        (from: i32, lookup: i32, from_at: i32, from_length: i32, to: i32, to_at: i32, to_length: i32),
        "link" (from, from_at, from_length),
        |state, memory| state
            .before(memory, (from, from_at, from_length), Intent::Read, unplanned)
            .and_then(|_| {
                let plan = |state: &ModuleState| state.plan_link(from, to);
                state.before(memory, (to, to_at, to_length), Intent::Create, plan)
            }),
        |place| nothing(place));
    replace!(linker, path_symlink,
        (target_at: i32, target_length: i32, directory: i32, at: i32, length: i32), "link" (directory, at, length),
        |state, _memory| state.watched.refuse_link(directory.cast_unsigned())
            .map_err(|e| Refused::Errno(errno(&e)))
            .and_then(|()| {
                let target = target_length.cast_unsigned() as usize;
                Ok(((), state.plan(directory, |held| held.make_link(target))?))
            }),
        |unit| nothing(unit));
    replace!(linker, fd_filestat_set_size, (file: i32, size: i64), "write" (file, 0, 0),
        |state, _memory| state
            .plan(file, |held| held.resize(size.cast_unsigned()))
            .map(|plan| ((), plan))
            .map_err(Refused::from),
        |unit| nothing(unit));
    replace!(linker, fd_filestat_set_times, (file: i32, accessed: i64, modified: i64, flags: i32), "write" (file, 0, 0),
        |_state, _memory| Ok(((), None)),
        |unit| nothing(unit));
    Ok(())
}
