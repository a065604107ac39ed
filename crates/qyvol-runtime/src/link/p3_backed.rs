//! The calls of WASI 0.3's files that take a path, beside those in [`super::p3`], for
//! runs with a mount that is prepared as it is used. That blocks the guest's other tasks.

use std::io;

use wasmtime::component::{Access, Accessor, Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p3::bindings::filesystem::types::{
    ErrorCode, HostDescriptorWithStore as _, NewTimestamp, PathFlags,
};

use super::p3::{WASI_0_3, untrapped};
use super::{FILES, shadow};
use crate::backing::Intent;
use crate::component::ComponentState;
use crate::sealed::IntegrityError;
use crate::watched::{Place, Places, Watched};

type T = ComponentState;
type Dir = Resource<Descriptor>;

/// Calls `question` with the guest's mounts.
fn ask<R>(accessor: &Accessor<T>, question: impl FnOnce(&mut Watched) -> R) -> R {
    accessor.with(|mut store| question(store.get().files().watched))
}

/// As [`Watched::check`].
pub(super) fn check(
    accessor: &Accessor<T>,
    directory: &Dir,
    path: &str,
    intent: Intent,
) -> Result<io::Result<Option<Place>>, IntegrityError> {
    ask(accessor, |watched| watched.check(directory.rep(), path, intent))
}

/// The same for a path that is used and one where something is put.
fn both(
    accessor: &Accessor<T>,
    (from, old, intent): (&Dir, &str, Intent),
    (to, new): (&Dir, &str),
) -> Result<io::Result<Places>, IntegrityError> {
    let old = match check(accessor, from, old, intent)? {
        Ok(old) => old,
        Err(error) => return Ok(Err(error)),
    };
    let new = check(accessor, to, new, Intent::Create)?;
    Ok(new.map(|new| (old, new)))
}

/// Replaces a call: `before` checks and provides what it needs, returns the call's error,
/// or ends the guest; then comes the call itself; `after` reports it.
macro_rules! replace {
    ($instance:ident, $name:literal, $call:ident -> $returned:ty, ($($arg:ident: $ty:ty),+),
        |$accessor:ident| $before:expr, |$watched:ident, $place:ident| $after:expr) => {
        $instance.func_wrap_concurrent(
            concat!("[method]descriptor.", $name),
            |accessor: &Accessor<T>, ($($arg,)+): ($($ty,)+)| {
                Box::pin(async move {
                    let $accessor = accessor;
                    let $place = match $before {
                        Ok(place) => place,
                        Err(error) => return Ok((Err(ErrorCode::from(error)),)),
                    };
                    let inner = accessor.with_getter::<WasiFilesystem>(T::filesystem);
                    let done: Result<$returned, ErrorCode> =
                        untrapped(WasiFilesystem::$call(&inner, $($arg),+).await)?;
                    if done.is_ok() {
                        ask(accessor, |$watched| $after);
                    }
                    Ok((done,))
                })
            },
        )?;
    };
}

/// There is nothing to report.
fn nothing<P>(_: P) {}

pub(super) fn link(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    shadow(linker, FILES, WASI_0_3, |instance| {
        replace!(instance, "create-directory-at", create_directory_at -> (), (directory: Dir, path: String),
            |accessor| check(accessor, &directory, &path, Intent::Create)?,
            |watched, place| watched.made_directory(place));
        replace!(instance, "remove-directory-at", remove_directory_at -> (), (directory: Dir, path: String),
            |accessor| check(accessor, &directory, &path, Intent::Remove)?,
            |watched, place| watched.removed(place));
        replace!(instance, "unlink-file-at", unlink_file_at -> (), (directory: Dir, path: String),
            |accessor| check(accessor, &directory, &path, Intent::Remove)?,
            |watched, place| watched.removed(place));
        replace!(instance, "readlink-at", readlink_at -> String, (directory: Dir, path: String),
            |accessor| check(accessor, &directory, &path, Intent::Stat)?,
            |_watched, place| nothing(place));
        replace!(instance, "set-times-at", set_times_at -> (),
            (directory: Dir, path_flags: PathFlags, path: String, accessed: NewTimestamp, modified: NewTimestamp),
            |accessor| check(accessor, &directory, &path, Intent::Write)?,
            |_watched, place| nothing(place));
        replace!(instance, "rename-at", rename_at -> (), (from: Dir, old: String, to: Dir, new: String),
            |accessor| both(accessor, (&from, &old, Intent::Rename), (&to, &new))?,
            |watched, places| watched.renamed(places.0, places.1));
        replace!(instance, "link-at", link_at -> (),
            (from: Dir, path_flags: PathFlags, old: String, to: Dir, new: String),
            |accessor| both(accessor, (&from, &old, Intent::Read), (&to, &new))?,
            |_watched, place| nothing(place));
        replace!(instance, "symlink-at", symlink_at -> (), (directory: Dir, target: String, path: String),
            |accessor| ask(accessor, |watched| watched.refuse_link(directory.rep())),
            |_watched, unit| nothing(unit));
        replace!(instance, "sync", sync -> (), (file: Dir),
            |accessor| ask(accessor, |watched| watched.flush(file.rep())),
            |_watched, unit| nothing(unit));
        replace!(instance, "sync-data", sync_data -> (), (file: Dir),
            |accessor| ask(accessor, |watched| watched.flush(file.rep())),
            |_watched, unit| nothing(unit));
        instance.func_wrap(
            "[method]descriptor.read-directory",
            |mut store, (directory,): (Dir,)| {
                // A listing that can't be had is what is there: its entries were never told.
                let state: &mut T = store.data_mut();
                let checked = state.files().watched.check(directory.rep(), "", Intent::List)?;
                let directory = match checked {
                    Ok(_) => directory,
                    // No descriptor: the listing fails, as if it could not be read.
                    Err(_) => Resource::new_borrow(u32::MAX),
                };
                let files = Access::<T, WasiFilesystem>::new(store, T::filesystem);
                WasiFilesystem::read_directory(files, directory).map(|listing| (listing,))
            },
        )
    })
}
