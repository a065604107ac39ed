//! `wasi:filesystem` of a component: wasmtime-wasi's own, which checks every entry of a
//! sealed mount before the guest sees it, calls the backing of a mount before and after it is
//! used, and counts usage against a quota. All else is passed on.

use std::io;

use wasmtime::component::{HasData, Resource};
use wasmtime_wasi::filesystem::WasiFilesystemCtxView;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    self, Descriptor, DirectoryEntryStream, ErrorCode, HostDescriptor, HostDirectoryEntryStream,
};
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types::Filesize};
use wasmtime_wasi::p2::{DynOutputStream, FsError, FsResult};
use wasmtime_wasi::p3::bindings::filesystem::preopens as preopens3;

use crate::backing::Intent;
use crate::denials::Denials;
use crate::limits::Count;
use crate::quota::{Held, QuotaStream, Quotas, done};
use crate::watched::{Place, Watched};

/// A guest's file system.
pub(crate) struct FsView<'a> {
    pub(crate) inner: WasiFilesystemCtxView<'a>,
    pub(crate) watched: &'a mut Watched,
    pub(crate) quotas: &'a mut Quotas,
    pub(crate) denials: &'a mut Denials,
    pub(crate) files: &'a mut Count,
    pub(crate) listings: &'a mut Count,
}

/// Connects the interface to [`FsView`] in the linker.
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
            self.quotas.opened_mount(mount, descriptor.rep());
            self.denials.opened_mount(mount, descriptor.rep());
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
    pub(crate) fn check(
        &self,
        directory: &Resource<Descriptor>,
        path: &str,
        intent: Intent,
    ) -> FsResult<Option<Place>> {
        let checked = self.watched.check(directory.rep(), path, intent);
        Ok(checked.map_err(FsError::trap)??)
    }

    /// The file or directory of a descriptor, if it is under a quota.
    pub(crate) fn held(&self, descriptor: &Resource<Descriptor>) -> Option<Held> {
        let quota = self.quotas.of(descriptor.rep())?;
        let file = match self.inner.table.get(descriptor).ok()? {
            Descriptor::File(file) => &file.file,
            Descriptor::Dir(dir) => &dir.dir,
        };
        Some(Held {
            quota: quota.clone(),
            file: file.clone(),
        })
    }

    /// The guest opened something from a directory, which `from` is if it is under a quota.
    pub(crate) fn opened_from(&mut self, from: Option<Held>, opened: &Resource<Descriptor>) -> io::Result<()> {
        if let Some(from) = from {
            self.quotas.opened(opened.rep(), from.quota);
            if let Some(held) = self.held(opened) {
                held.quota.opened(&held.file)?;
            }
        }
        Ok(())
    }

    /// The guest closes a descriptor.
    pub(crate) fn closing(&mut self, descriptor: &Resource<Descriptor>) {
        if let Some(quota) = self.quotas.of(descriptor.rep()) {
            match self.inner.table.get(descriptor) {
                Ok(Descriptor::File(file)) => quota.closing(&file.file),
                Ok(Descriptor::Dir(dir)) => quota.closing(&dir.dir),
                Err(_) => {}
            }
            self.quotas.closed(descriptor.rep());
        }
        self.denials.closed(descriptor.rep());
        self.watched.closed(descriptor.rep());
        self.files.closed(descriptor.rep());
    }

    /// Makes a stream that writes to a file, from an offset or at its end.
    pub(crate) fn writer(
        &mut self,
        file: Resource<Descriptor>,
        at: Option<Filesize>,
    ) -> FsResult<Resource<DynOutputStream>> {
        let held = self.held(&file);
        self.stream(|files| {
            let stream = match at {
                Some(offset) => files.write_via_stream(file, offset)?,
                None => files.append_via_stream(file)?,
            };
            let Some(held) = held else {
                return Ok(stream);
            };
            let counted = QuotaStream::new(files.table.delete(stream)?, held, at);
            Ok(files.table.push(Box::new(counted) as DynOutputStream)?)
        })
    }

    /// Makes a stream of a file, which holds the file open by itself.
    pub(crate) fn stream<S: 'static>(
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

/// The guest's calls. [`crate::filesystem_calls`] reports those that are denied.
impl FsView<'_> {
    pub(crate) async fn open_at(
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
        let held = self.held(&directory);
        let plan = match &held {
            Some(held) => held.open(
                &path,
                path_flags.contains(types::PathFlags::SYMLINK_FOLLOW),
                open_flags.contains(types::OpenFlags::CREATE),
                open_flags.contains(types::OpenFlags::TRUNCATE),
            )?,
            None => None,
        };
        let opened = self
            .inner
            .open_at(directory, path_flags, path, open_flags, flags)
            .await?;
        done(plan);
        self.opened_from(held, &opened)?;
        self.files.opened(opened.rep());
        if let Some(place) = place {
            self.watched.opened(place, opened.rep());
        }
        Ok(opened)
    }

    pub(crate) async fn stat_at(
        &mut self,
        directory: Resource<Descriptor>,
        path_flags: types::PathFlags,
        path: String,
    ) -> FsResult<types::DescriptorStat> {
        self.check(&directory, &path, Intent::Stat)?;
        self.inner.stat_at(directory, path_flags, path).await
    }

    pub(crate) async fn set_size(&mut self, file: Resource<Descriptor>, size: Filesize) -> FsResult<()> {
        let plan = self.held(&file).map(|held| held.resize(size)).transpose()?;
        self.inner.set_size(file, size).await?;
        done(plan);
        Ok(())
    }

    pub(crate) async fn write(
        &mut self,
        file: Resource<Descriptor>,
        buffer: Vec<u8>,
        offset: Filesize,
    ) -> FsResult<Filesize> {
        let length = buffer.len() as u64;
        let plan = self.held(&file).map(|held| held.write(Some(offset), length));
        let plan = plan.transpose()?.flatten();
        let written = self.inner.write(file, buffer, offset).await?;
        done(plan);
        Ok(written)
    }

    pub(crate) async fn create_directory_at(&mut self, directory: Resource<Descriptor>, path: String) -> FsResult<()> {
        let place = self.check(&directory, &path, Intent::Create)?;
        let plan = self.held(&directory).map(|held| held.make_directory()).transpose()?;
        self.inner.create_directory_at(directory, path).await?;
        done(plan);
        self.watched.made_directory(place);
        Ok(())
    }

    pub(crate) async fn set_times_at(
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

    pub(crate) async fn link_at(
        &mut self,
        old_directory: Resource<Descriptor>,
        old_path_flags: types::PathFlags,
        old_path: String,
        new_directory: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        self.check(&old_directory, &old_path, Intent::Read)?;
        self.check(&new_directory, &new_path, Intent::Create)?;
        let (from, to) = (self.held(&old_directory), self.held(&new_directory));
        if !Held::are_together(from.as_ref(), to.as_ref()) {
            return Err(ErrorCode::Io.into());
        }
        let plan = to.map(|held| held.add_name()).transpose()?;
        self.inner
            .link_at(old_directory, old_path_flags, old_path, new_directory, new_path)
            .await?;
        done(plan);
        Ok(())
    }

    pub(crate) async fn readlink_at(&mut self, directory: Resource<Descriptor>, path: String) -> FsResult<String> {
        self.check(&directory, &path, Intent::Stat)?;
        self.inner.readlink_at(directory, path).await
    }

    pub(crate) async fn remove_directory_at(&mut self, directory: Resource<Descriptor>, path: String) -> FsResult<()> {
        let place = self.check(&directory, &path, Intent::Remove)?;
        let plan = self.held(&directory).map(|held| held.remove(&path));
        self.inner.remove_directory_at(directory, path).await?;
        done(plan);
        self.watched.removed(place);
        Ok(())
    }

    pub(crate) async fn rename_at(
        &mut self,
        old_directory: Resource<Descriptor>,
        old_path: String,
        new_directory: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        let from = self.check(&old_directory, &old_path, Intent::Rename)?;
        let to = self.check(&new_directory, &new_path, Intent::Create)?;
        let held = (self.held(&old_directory), self.held(&new_directory));
        if !Held::are_together(held.0.as_ref(), held.1.as_ref()) {
            return Err(ErrorCode::Io.into());
        }
        let plan = held
            .1
            .zip(held.0)
            .map(|(there, from)| there.rename_from(&from, &old_path, &new_path));
        self.inner
            .rename_at(old_directory, old_path, new_directory, new_path)
            .await?;
        done(plan);
        self.watched.renamed(from, to);
        Ok(())
    }

    pub(crate) async fn symlink_at(
        &mut self,
        directory: Resource<Descriptor>,
        target: String,
        path: String,
    ) -> FsResult<()> {
        self.watched.refuse_link(directory.rep())?;
        let plan = self.held(&directory).map(|held| held.make_link(target.len()));
        let plan = plan.transpose()?;
        self.inner.symlink_at(directory, target, path).await?;
        done(plan);
        Ok(())
    }

    pub(crate) async fn unlink_file_at(&mut self, directory: Resource<Descriptor>, path: String) -> FsResult<()> {
        let place = self.check(&directory, &path, Intent::Remove)?;
        let plan = self.held(&directory).map(|held| held.remove(&path));
        self.inner.unlink_file_at(directory, path).await?;
        done(plan);
        self.watched.removed(place);
        Ok(())
    }

    pub(crate) async fn metadata_hash_at(
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
