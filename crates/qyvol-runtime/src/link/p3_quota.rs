//! The calls of WASI 0.3's files that write streams, for runs with a mount that has a
//! quota.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::io::{Errno, ReadWriteFlags};
use tokio::sync::oneshot;
use wasmtime::StoreContextMut;
use wasmtime::component::{
    Access, FutureReader, Linker, LinkerInstance, Resource, Source, StreamConsumer, StreamReader, StreamResult,
};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p3::bindings::filesystem::types::{ErrorCode, HostDescriptorWithStore as _};

use super::p3::WASI_0_3;
use super::{FILES, shadow};
use crate::component::ComponentState;
use crate::quota::{Held, done};

type T = ComponentState;
type Dir = Resource<Descriptor>;
/// The result of writing a stream, once it has been written.
type Written = FutureReader<Result<(), ErrorCode>>;

pub(super) fn link(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    shadow(linker, FILES, WASI_0_3, write_streams)
}

/// Streams are written here, because the bytes of each write must be counted before it.
fn write_streams(instance: &mut LinkerInstance<'_, T>) -> wasmtime::Result<()> {
    instance.func_wrap(
        "[method]descriptor.write-via-stream",
        |mut store, (file, data, offset): (Dir, StreamReader<u8>, u64)| {
            let written = match writable(store.data_mut(), &file) {
                Some(held) => pipe(store, data, held, Some(offset))?,
                None => {
                    let files = Access::<T, WasiFilesystem>::new(store, T::filesystem);
                    WasiFilesystem::write_via_stream(files, file, data, offset)?
                }
            };
            Ok((written,))
        },
    )?;
    instance.func_wrap(
        "[method]descriptor.append-via-stream",
        |mut store, (file, data): (Dir, StreamReader<u8>)| {
            let written = match writable(store.data_mut(), &file) {
                Some(held) => pipe(store, data, held, None)?,
                None => {
                    let files = Access::<T, WasiFilesystem>::new(store, T::filesystem);
                    WasiFilesystem::append_via_stream(files, file, data)?
                }
            };
            Ok((written,))
        },
    )
}

/// The file, if it is under a quota and may be written. For any other, wasmtime-wasi
/// returns the error.
fn writable(state: &mut T, file: &Dir) -> Option<Held> {
    let files = state.files();
    match files.inner.table.get(file) {
        Ok(Descriptor::File(open)) if !open.perms.write_not_permitted() => files.held(file),
        _ => None,
    }
}

fn pipe(
    mut store: StoreContextMut<'_, T>,
    data: StreamReader<u8>,
    held: Held,
    at: Option<u64>,
) -> wasmtime::Result<Written> {
    let (result, written) = oneshot::channel();
    let writer = Writer {
        held,
        at,
        result: Some(result),
    };
    data.pipe(&mut store, writer)?;
    FutureReader::new(&mut store, written)
}

/// Writes a stream to a file, from an offset or at its end.
struct Writer {
    held: Held,
    at: Option<u64>,
    result: Option<oneshot::Sender<Result<(), ErrorCode>>>,
}

impl Writer {
    /// Writes some of it.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let plan = self.held.write(self.at, bytes.len() as u64)?;
        let written = match self.at {
            Some(at) => self.held.file.write_at(bytes, at)?,
            None => append(&self.held.file, bytes)?,
        };
        if let Some(at) = &mut self.at {
            *at = at.checked_add(written as u64).ok_or(Errno::OVERFLOW)?;
        }
        done(plan);
        Ok(written)
    }

    fn close(&mut self, result: Result<(), ErrorCode>) {
        if let Some(sender) = self.result.take() {
            // The guest may have dropped the other end.
            let _ = sender.send(result);
        }
    }
}

fn append(file: &File, bytes: &[u8]) -> io::Result<usize> {
    let parts = [io::IoSlice::new(bytes)];
    Ok(rustix::io::pwritev2(file, &parts, 0, ReadWriteFlags::APPEND)?)
}

impl StreamConsumer<T> for Writer {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        store: StoreContextMut<'_, T>,
        source: Source<'_, u8>,
        _: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let mut source = source.as_direct(store);
        Poll::Ready(Ok(match self.write(source.remaining()) {
            Ok(written) => {
                source.mark_read(written);
                StreamResult::Completed
            }
            Err(error) => {
                self.close(Err(error.into()));
                StreamResult::Dropped
            }
        }))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.held.quota.closing(&self.held.file);
        self.close(Ok(()));
    }
}
