//! The calls of WASI 0.3's files on what is open, for runs with a mount that is prepared
//! as it is used. That blocks the guest's other tasks.

use wasmtime::component::{Access, Accessor, Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p3::bindings::filesystem::types::{ErrorCode, HostDescriptorWithStore as _};

use super::p3::{WASI_0_3, ask, untrapped};
use super::{FILES, shadow};
use crate::backing::Intent;
use crate::component::ComponentState;

type T = ComponentState;
type Dir = Resource<Descriptor>;

/// Replaces a call that syncs: changes are sent before it.
macro_rules! flush_before {
    ($instance:ident, $name:literal, $call:ident) => {
        $instance.func_wrap_concurrent(
            concat!("[method]descriptor.", $name),
            |accessor: &Accessor<T>, (file,): (Dir,)| {
                Box::pin(async move {
                    if let Err(error) = ask(accessor, |files| files.watched.flush(file.rep())) {
                        return Ok((Err(ErrorCode::from(error)),));
                    }
                    let inner = accessor.with_getter::<WasiFilesystem>(T::filesystem);
                    let done: Result<(), ErrorCode> = untrapped(WasiFilesystem::$call(&inner, file).await)?;
                    Ok((done,))
                })
            },
        )?;
    };
}

pub(super) fn link(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    shadow(linker, FILES, WASI_0_3, |instance| {
        flush_before!(instance, "sync", sync);
        flush_before!(instance, "sync-data", sync_data);
        instance.func_wrap(
            "[method]descriptor.read-directory",
            |mut store, (directory,): (Dir,)| {
                // A listing that the backing can't provide fails.
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
