//! `wasi:filesystem` of a component: wasmtime-wasi's own, with a look at every
//! entry of a sealed mount before the guest is told of it, and a word to the backing of
//! a mount before and after it is used. All else is passed on.

use wasmtime::component::{HasData, Resource};
use wasmtime_wasi::filesystem::WasiFilesystemCtxView;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    self, Descriptor, DirectoryEntryStream, ErrorCode, HostDescriptor, HostDirectoryEntryStream,
};
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types::Filesize};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};
use wasmtime_wasi::p3::bindings::filesystem::preopens as preopens3;

use crate::backing::Intent;
use crate::limits::Count;
use crate::watched::{Place, Watched};

/// A guest's file system.
pub(crate) struct FsView<'a> {
    pub(crate) inner: WasiFilesystemCtxView<'a>,
    pub(crate) watched: &'a mut Watched,
    pub(crate) files: &'a mut Count,
    pub(crate) listings: &'a mut Count,
}

/// Tells the linker that [`FsView`] implements the interface.
pub(crate) struct Filesystem;

impl HasData for Filesystem {
    type Data<'a> = FsView<'a>;
}

impl preopens::Host for FsView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let directories = preopens::Host::get_directories(&mut self.inner)?;
        for (mount, (descriptor, _)) in directories.iter().enumerate() {
            self.files.opened(descriptor.rep());
            self.watched.opened_mount(mount, descriptor.rep());
        }
        Ok(directories)
    }
}

impl preopens3::Host for FsView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        preopens::Host::get_directories(self)
    }
}

impl types::Host for FsView<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        self.inner.convert_error_code(error)
    }

    fn filesystem_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        self.inner.filesystem_error_code(error)
    }
}

impl<'a> FsView<'a> {
    /// As [`Watched::check`].
    fn check(&self, directory: &Resource<Descriptor>, path: &str, intent: Intent) -> FsResult<Option<Place>> {
        let checked = self.watched.check(directory.rep(), path, intent);
        Ok(checked.map_err(FsError::trap)??)
    }

    /// Makes a stream of a file, which holds the file open by itself.
    fn stream<S: 'static>(
        &mut self,
        make: impl FnOnce(&mut WasiFilesystemCtxView<'a>) -> FsResult<Resource<S>>,
    ) -> FsResult<Resource<S>> {
        if !self.files.is_free() {
            return Err(ErrorCode::InsufficientMemory.into());
        }
        let stream = make(&mut self.inner)?;
        self.files.opened(stream.rep());
        Ok(stream)
    }
}

/// What the guest is about to do when it opens something with these flags.
fn open_intent(open: types::OpenFlags, flags: types::DescriptorFlags) -> Intent {
    // Without CREATE nothing is exclusive.
    if open.contains(types::OpenFlags::CREATE | types::OpenFlags::EXCLUSIVE) {
        Intent::Create
    } else if open.contains(types::OpenFlags::TRUNCATE) {
        Intent::Truncate
    } else if open.contains(types::OpenFlags::DIRECTORY) {
        Intent::Directory
    } else if open.contains(types::OpenFlags::CREATE) || flags.contains(types::DescriptorFlags::WRITE) {
        Intent::Write
    } else {
        Intent::Read
    }
}

impl HostDescriptor for FsView<'_> {
    async fn open_at(
        &mut self,
        directory: Resource<Descriptor>,
        path_flags: types::PathFlags,
        path: String,
        open_flags: types::OpenFlags,
        flags: types::DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let place = self.check(&directory, &path, open_intent(open_flags, flags))?;
        if !self.files.is_free() {
            return Err(ErrorCode::InsufficientMemory.into());
        }
        let opened = self
            .inner
            .open_at(directory, path_flags, path, open_flags, flags)
            .await?;
        self.files.opened(opened.rep());
        if let Some(place) = place {
            self.watched.opened(place, opened.rep());
        }
        Ok(opened)
    }

    async fn stat_at(
        &mut self,
        directory: Resource<Descriptor>,
        path_flags: types::PathFlags,
        path: String,
    ) -> FsResult<types::DescriptorStat> {
        self.check(&directory, &path, Intent::Stat)?;
        self.inner.stat_at(directory, path_flags, path).await
    }

    fn drop(&mut self, descriptor: Resource<Descriptor>) -> wasmtime::Result<()> {
        self.watched.closed(descriptor.rep());
        self.files.closed(descriptor.rep());
        HostDescriptor::drop(&mut self.inner, descriptor)
    }

    async fn advise(
        &mut self,
        file: Resource<Descriptor>,
        offset: Filesize,
        length: Filesize,
        advice: types::Advice,
    ) -> FsResult<()> {
        self.inner.advise(file, offset, length, advice).await
    }

    async fn sync_data(&mut self, file: Resource<Descriptor>) -> FsResult<()> {
        self.watched.flush(file.rep())?;
        self.inner.sync_data(file).await
    }

    async fn get_flags(&mut self, descriptor: Resource<Descriptor>) -> FsResult<types::DescriptorFlags> {
        self.inner.get_flags(descriptor).await
    }

    async fn get_type(&mut self, descriptor: Resource<Descriptor>) -> FsResult<types::DescriptorType> {
        self.inner.get_type(descriptor).await
    }

    async fn set_size(&mut self, file: Resource<Descriptor>, size: Filesize) -> FsResult<()> {
        self.inner.set_size(file, size).await
    }

    async fn set_times(
        &mut self,
        descriptor: Resource<Descriptor>,
        accessed: types::NewTimestamp,
        modified: types::NewTimestamp,
    ) -> FsResult<()> {
        self.inner.set_times(descriptor, accessed, modified).await
    }

    async fn read(
        &mut self,
        file: Resource<Descriptor>,
        length: Filesize,
        offset: Filesize,
    ) -> FsResult<(Vec<u8>, bool)> {
        self.inner.read(file, length, offset).await
    }

    async fn write(&mut self, file: Resource<Descriptor>, buffer: Vec<u8>, offset: Filesize) -> FsResult<Filesize> {
        self.inner.write(file, buffer, offset).await
    }

    async fn read_directory(&mut self, directory: Resource<Descriptor>) -> FsResult<Resource<DirectoryEntryStream>> {
        // A listing holds all entries until it is dropped.
        if !self.listings.is_free() {
            return Err(ErrorCode::InsufficientMemory.into());
        }
        self.check(&directory, "", Intent::List)?;
        let listing = self.inner.read_directory(directory).await?;
        self.listings.opened(listing.rep());
        Ok(listing)
    }

    async fn sync(&mut self, descriptor: Resource<Descriptor>) -> FsResult<()> {
        self.watched.flush(descriptor.rep())?;
        self.inner.sync(descriptor).await
    }

    async fn create_directory_at(&mut self, directory: Resource<Descriptor>, path: String) -> FsResult<()> {
        let place = self.check(&directory, &path, Intent::Create)?;
        self.inner.create_directory_at(directory, path).await?;
        self.watched.made_directory(place);
        Ok(())
    }

    async fn stat(&mut self, descriptor: Resource<Descriptor>) -> FsResult<types::DescriptorStat> {
        self.inner.stat(descriptor).await
    }

    async fn set_times_at(
        &mut self,
        directory: Resource<Descriptor>,
        path_flags: types::PathFlags,
        path: String,
        accessed: types::NewTimestamp,
        modified: types::NewTimestamp,
    ) -> FsResult<()> {
        self.check(&directory, &path, Intent::Write)?;
        self.inner
            .set_times_at(directory, path_flags, path, accessed, modified)
            .await
    }

    async fn link_at(
        &mut self,
        old_directory: Resource<Descriptor>,
        old_path_flags: types::PathFlags,
        old_path: String,
        new_directory: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        self.check(&old_directory, &old_path, Intent::Read)?;
        self.check(&new_directory, &new_path, Intent::Create)?;
        self.inner
            .link_at(old_directory, old_path_flags, old_path, new_directory, new_path)
            .await
    }

    async fn readlink_at(&mut self, directory: Resource<Descriptor>, path: String) -> FsResult<String> {
        self.check(&directory, &path, Intent::Stat)?;
        self.inner.readlink_at(directory, path).await
    }

    async fn remove_directory_at(&mut self, directory: Resource<Descriptor>, path: String) -> FsResult<()> {
        let place = self.check(&directory, &path, Intent::Remove)?;
        self.inner.remove_directory_at(directory, path).await?;
        self.watched.removed(place);
        Ok(())
    }

    async fn rename_at(
        &mut self,
        old_directory: Resource<Descriptor>,
        old_path: String,
        new_directory: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        let from = self.check(&old_directory, &old_path, Intent::Rename)?;
        let to = self.check(&new_directory, &new_path, Intent::Create)?;
        self.inner
            .rename_at(old_directory, old_path, new_directory, new_path)
            .await?;
        self.watched.renamed(from, to);
        Ok(())
    }

    async fn symlink_at(&mut self, directory: Resource<Descriptor>, target: String, path: String) -> FsResult<()> {
        self.watched.refuse_link(directory.rep())?;
        self.inner.symlink_at(directory, target, path).await
    }

    async fn unlink_file_at(&mut self, directory: Resource<Descriptor>, path: String) -> FsResult<()> {
        let place = self.check(&directory, &path, Intent::Remove)?;
        self.inner.unlink_file_at(directory, path).await?;
        self.watched.removed(place);
        Ok(())
    }

    fn read_via_stream(&mut self, file: Resource<Descriptor>, offset: Filesize) -> FsResult<Resource<DynInputStream>> {
        self.stream(|files| files.read_via_stream(file, offset))
    }

    fn write_via_stream(
        &mut self,
        file: Resource<Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        self.stream(|files| files.write_via_stream(file, offset))
    }

    fn append_via_stream(&mut self, file: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        self.stream(|files| files.append_via_stream(file))
    }

    async fn is_same_object(&mut self, a: Resource<Descriptor>, b: Resource<Descriptor>) -> wasmtime::Result<bool> {
        self.inner.is_same_object(a, b).await
    }

    async fn metadata_hash(&mut self, descriptor: Resource<Descriptor>) -> FsResult<types::MetadataHashValue> {
        self.inner.metadata_hash(descriptor).await
    }

    async fn metadata_hash_at(
        &mut self,
        directory: Resource<Descriptor>,
        path_flags: types::PathFlags,
        path: String,
    ) -> FsResult<types::MetadataHashValue> {
        self.check(&directory, &path, Intent::Stat)?;
        self.inner.metadata_hash_at(directory, path_flags, path).await
    }
}

impl HostDirectoryEntryStream for FsView<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<types::DirectoryEntry>> {
        self.inner.read_directory_entry(stream).await
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.listings.closed(stream.rep());
        HostDirectoryEntryStream::drop(&mut self.inner, stream)
    }
}
