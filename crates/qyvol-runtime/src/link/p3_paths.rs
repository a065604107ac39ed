//! The calls of WASI 0.3's files that take a path, in addition to those in [`super::p3`], for
//! runs with a mount that is prepared as it is used or has a quota, and for observed runs.
//! Preparing a mount blocks the guest's other tasks.

use std::io;

use wasmtime::component::{Accessor, Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p3::bindings::filesystem::types::{
    ErrorCode, HostDescriptorWithStore as _, NewTimestamp, PathFlags,
};
use wasmtime_wasi::p3::filesystem::FilesystemError;

use super::p3::{self, WASI_0_3, ask, reported, untrapped};
use super::{FILES, shadow};
use crate::backing::Intent;
use crate::component::ComponentState;
use crate::quota::{Held, Plan, done};
use crate::watched::{Place, Places};

type T = ComponentState;
type Dir = Resource<Descriptor>;
/// An error of a call, or the error that ends the guest.
type Checked<R> = Result<R, FilesystemError>;
/// The places of a call, and what it takes from the quota and frees.
type Before<P> = Checked<(P, Option<Plan>)>;

/// Checks and provides what a call on a path uses.
fn check(accessor: &Accessor<T>, directory: &Dir, path: &str, intent: Intent) -> Checked<Option<Place>> {
    let checked = p3::check(accessor, directory, path, intent);
    Ok(checked.map_err(FilesystemError::trap)??)
}

/// The same for a call that takes and frees nothing.
fn checked(accessor: &Accessor<T>, directory: &Dir, path: &str, intent: Intent) -> Before<Option<Place>> {
    Ok((check(accessor, directory, path, intent)?, None))
}

/// Plans a call on the file or directory of a descriptor.
fn plan(
    accessor: &Accessor<T>,
    descriptor: &Dir,
    plan: impl FnOnce(&Held) -> io::Result<Plan>,
) -> Checked<Option<Plan>> {
    let held = ask(accessor, |files| files.held(descriptor));
    Ok(held.map(|held| plan(&held)).transpose()?)
}

/// The directories of two descriptors, the second first. An error if they are not under
/// the same quota.
fn both(accessor: &Accessor<T>, from: &Dir, to: &Dir) -> Checked<Option<(Held, Held)>> {
    let (from, to) = ask(accessor, |files| (files.held(from), files.held(to)));
    match Held::are_together(from.as_ref(), to.as_ref()) {
        true => Ok(to.zip(from)),
        false => Err(ErrorCode::Io.into()),
    }
}

fn remove(accessor: &Accessor<T>, directory: &Dir, path: &str) -> Before<Option<Place>> {
    let place = check(accessor, directory, path, Intent::Remove)?;
    Ok((place, plan(accessor, directory, |held| Ok(held.remove(path)))?))
}

fn rename(accessor: &Accessor<T>, from: &Dir, old: &str, to: &Dir, new: &str) -> Before<Places> {
    let places = (
        check(accessor, from, old, Intent::Rename)?,
        check(accessor, to, new, Intent::Create)?,
    );
    let plan = both(accessor, from, to)?.map(|(to, from)| to.rename_from(&from, old, new));
    Ok((places, plan))
}

fn add_name(accessor: &Accessor<T>, from: &Dir, old: &str, to: &Dir, new: &str) -> Before<()> {
    check(accessor, from, old, Intent::Read)?;
    check(accessor, to, new, Intent::Create)?;
    let plan = both(accessor, from, to)?.map(|(to, _)| to.add_name());
    Ok(((), plan.transpose()?))
}

fn make_directory(accessor: &Accessor<T>, directory: &Dir, path: &str) -> Before<Option<Place>> {
    let place = check(accessor, directory, path, Intent::Create)?;
    Ok((place, plan(accessor, directory, Held::make_directory)?))
}

fn make_link(accessor: &Accessor<T>, directory: &Dir, target: &str) -> Before<()> {
    let refused = ask(accessor, |files| files.watched.refuse_link(directory.rep()));
    refused?;
    Ok(((), plan(accessor, directory, |held| held.make_link(target.len()))?))
}

/// There is nothing to report.
fn nothing<P>(_: P) {}

/// Replaces a call: `before` checks, provides and plans what it needs, returns the call's
/// error, or ends the guest; then comes the call itself; `after` reports it to the mount.
/// A denied call is reported to the observer with the path after `action`.
macro_rules! replace {
    ($instance:ident, $name:literal, $call:ident -> $returned:ty, ($($arg:ident: $ty:ty),+),
        $action:literal ($descriptor:ident, $path:expr),
        |$accessor:ident| $before:expr, |$files:ident, $place:ident| $after:expr) => {
        $instance.func_wrap_concurrent(
            concat!("[method]descriptor.", $name),
            |accessor: &Accessor<T>, ($($arg,)+): ($($ty,)+)| {
                Box::pin(async move {
                    let $accessor = accessor;
                    let asked = ask(accessor, |files| files.denials.asked($action, $descriptor.rep(), $path));
                    let before: Before<_> = $before;
                    let result: Result<$returned, ErrorCode> = match untrapped(before)? {
                        Ok(($place, plan)) => {
                            let inner = accessor.with_getter::<WasiFilesystem>(T::filesystem);
                            let result = untrapped(WasiFilesystem::$call(&inner, $($arg),+).await)?;
                            if result.is_ok() {
                                done(plan);
                                ask(accessor, |$files| $after);
                            }
                            result
                        }
                        Err(error) => Err(error),
                    };
                    Ok((reported(asked, result),))
                })
            },
        )?;
    };
}

pub(super) fn link(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    shadow(linker, FILES, WASI_0_3, |instance| {
        replace!(instance, "create-directory-at", create_directory_at -> (), (directory: Dir, path: String),
            "create" (directory, &path),
            |accessor| make_directory(accessor, &directory, &path),
            |files, place| files.watched.made_directory(place));
        replace!(instance, "remove-directory-at", remove_directory_at -> (), (directory: Dir, path: String),
            "remove" (directory, &path),
            |accessor| remove(accessor, &directory, &path),
            |files, place| files.watched.removed(place));
        replace!(instance, "unlink-file-at", unlink_file_at -> (), (directory: Dir, path: String),
            "remove" (directory, &path),
            |accessor| remove(accessor, &directory, &path),
            |files, place| files.watched.removed(place));
        replace!(instance, "readlink-at", readlink_at -> String, (directory: Dir, path: String),
            "read" (directory, &path),
            |accessor| checked(accessor, &directory, &path, Intent::Stat),
            |_files, place| nothing(place));
        replace!(instance, "set-times-at", set_times_at -> (),
            (directory: Dir, path_flags: PathFlags, path: String, accessed: NewTimestamp, modified: NewTimestamp),
            "write" (directory, &path),
            |accessor| checked(accessor, &directory, &path, Intent::Write),
            |_files, place| nothing(place));
        replace!(instance, "rename-at", rename_at -> (), (from: Dir, old: String, to: Dir, new: String),
        "rename" (from, &old),
        |accessor| rename(accessor, &from, &old, &to, &new),
        |files, places| files.watched.renamed(places.0, places.1));
        replace!(instance, "link-at", link_at -> (),
            (from: Dir, path_flags: PathFlags, old: String, to: Dir, new: String),
            "link" (from, &old),
            |accessor| add_name(accessor, &from, &old, &to, &new),
            |_files, unit| nothing(unit));
        replace!(instance, "symlink-at", symlink_at -> (), (directory: Dir, target: String, path: String),
            "link" (directory, &path),
            |accessor| make_link(accessor, &directory, &target),
            |_files, unit| nothing(unit));
        replace!(instance, "set-size", set_size -> (), (file: Dir, size: u64),
            "write" (file, ""),
            |accessor| plan(accessor, &file, |held| held.resize(size)).map(|plan| ((), plan)),
            |_files, unit| nothing(unit));
        replace!(instance, "set-times", set_times -> (),
            (file: Dir, accessed: NewTimestamp, modified: NewTimestamp),
            "write" (file, ""),
            |_accessor| Ok(((), None)),
            |_files, unit| nothing(unit));
        Ok(())
    })
}
