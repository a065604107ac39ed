//! The calls of `wasi:filesystem` from components of WASI 0.2. They are passed on to
//! [`FsView`], and reported to the observer if they are denied.

use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    self, Descriptor, DirectoryEntryStream, ErrorCode, Filesize, HostDescriptor,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsResult};

use crate::backing::Intent;
use crate::denials::Asked;
use crate::filesystem::FsView;

/// Reports a call to the observer, if it was denied.
fn reported<R>(asked: Option<Asked>, result: FsResult<R>) -> FsResult<R> {
    if let (Some(asked), Err(error)) = (asked, &result)
        && let Some(ErrorCode::NotPermitted | ErrorCode::ReadOnly) = error.downcast_ref()
    {
        asked.denied();
    }
    result
}

/// The action that opening something with these flags is reported as.
fn open_action(open: types::OpenFlags, flags: types::DescriptorFlags) -> &'static str {
    if open.contains(types::OpenFlags::CREATE) {
        "create"
    } else if open.contains(types::OpenFlags::TRUNCATE) || flags.contains(types::DescriptorFlags::WRITE) {
        "write"
    } else {
        "read"
    }
}

impl FsView<'_> {
    /// As [`crate::denials::Denials::asked`].
    fn asked(&self, action: &'static str, descriptor: &Resource<Descriptor>, path: &str) -> Option<Asked> {
        self.denials.asked(action, descriptor.rep(), path)
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
        let asked = self.asked(open_action(open_flags, flags), &directory, &path);
        match FsView::open_at(self, directory, path_flags, path, open_flags, flags).await {
            Ok(opened) => {
                self.denials.opened(asked, opened.rep());
                Ok(opened)
            }
            failed => reported(asked, failed),
        }
    }

    async fn stat_at(
        &mut self,
        directory: Resource<Descriptor>,
        path_flags: types::PathFlags,
        path: String,
    ) -> FsResult<types::DescriptorStat> {
        let asked = self.asked("read", &directory, &path);
        let done = FsView::stat_at(self, directory, path_flags, path).await;
        reported(asked, done)
    }

    async fn metadata_hash_at(
        &mut self,
        directory: Resource<Descriptor>,
        path_flags: types::PathFlags,
        path: String,
    ) -> FsResult<types::MetadataHashValue> {
        let asked = self.asked("read", &directory, &path);
        let done = FsView::metadata_hash_at(self, directory, path_flags, path).await;
        reported(asked, done)
    }

    async fn readlink_at(&mut self, directory: Resource<Descriptor>, path: String) -> FsResult<String> {
        let asked = self.asked("read", &directory, &path);
        let done = FsView::readlink_at(self, directory, path).await;
        reported(asked, done)
    }

    async fn set_size(&mut self, file: Resource<Descriptor>, size: Filesize) -> FsResult<()> {
        let asked = self.asked("write", &file, "");
        let done = FsView::set_size(self, file, size).await;
        reported(asked, done)
    }

    async fn set_times(
        &mut self,
        descriptor: Resource<Descriptor>,
        accessed: types::NewTimestamp,
        modified: types::NewTimestamp,
    ) -> FsResult<()> {
        let asked = self.asked("write", &descriptor, "");
        let done = self.inner.set_times(descriptor, accessed, modified).await;
        reported(asked, done)
    }

    async fn set_times_at(
        &mut self,
        directory: Resource<Descriptor>,
        path_flags: types::PathFlags,
        path: String,
        accessed: types::NewTimestamp,
        modified: types::NewTimestamp,
    ) -> FsResult<()> {
        let asked = self.asked("write", &directory, &path);
        let done = FsView::set_times_at(self, directory, path_flags, path, accessed, modified).await;
        reported(asked, done)
    }

    async fn write(&mut self, file: Resource<Descriptor>, buffer: Vec<u8>, offset: Filesize) -> FsResult<Filesize> {
        let asked = self.asked("write", &file, "");
        let done = FsView::write(self, file, buffer, offset).await;
        reported(asked, done)
    }

    async fn create_directory_at(&mut self, directory: Resource<Descriptor>, path: String) -> FsResult<()> {
        let asked = self.asked("create", &directory, &path);
        let done = FsView::create_directory_at(self, directory, path).await;
        reported(asked, done)
    }

    async fn remove_directory_at(&mut self, directory: Resource<Descriptor>, path: String) -> FsResult<()> {
        let asked = self.asked("remove", &directory, &path);
        let done = FsView::remove_directory_at(self, directory, path).await;
        reported(asked, done)
    }

    async fn unlink_file_at(&mut self, directory: Resource<Descriptor>, path: String) -> FsResult<()> {
        let asked = self.asked("remove", &directory, &path);
        let done = FsView::unlink_file_at(self, directory, path).await;
        reported(asked, done)
    }

    async fn symlink_at(&mut self, directory: Resource<Descriptor>, target: String, path: String) -> FsResult<()> {
        let asked = self.asked("link", &directory, &path);
        let done = FsView::symlink_at(self, directory, target, path).await;
        reported(asked, done)
    }

    async fn link_at(
        &mut self,
        old_directory: Resource<Descriptor>,
        old_path_flags: types::PathFlags,
        old_path: String,
        new_directory: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        let asked = self.asked("link", &old_directory, &old_path);
        let done = FsView::link_at(self, old_directory, old_path_flags, old_path, new_directory, new_path).await;
        reported(asked, done)
    }

    async fn rename_at(
        &mut self,
        old_directory: Resource<Descriptor>,
        old_path: String,
        new_directory: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        let asked = self.asked("rename", &old_directory, &old_path);
        let done = FsView::rename_at(self, old_directory, old_path, new_directory, new_path).await;
        reported(asked, done)
    }

    fn write_via_stream(
        &mut self,
        file: Resource<Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        let asked = self.asked("write", &file, "");
        let done = self.writer(file, Some(offset));
        reported(asked, done)
    }

    fn append_via_stream(&mut self, file: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        let asked = self.asked("write", &file, "");
        let done = self.writer(file, None);
        reported(asked, done)
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

    async fn stat(&mut self, descriptor: Resource<Descriptor>) -> FsResult<types::DescriptorStat> {
        self.inner.stat(descriptor).await
    }

    async fn read(
        &mut self,
        file: Resource<Descriptor>,
        length: Filesize,
        offset: Filesize,
    ) -> FsResult<(Vec<u8>, bool)> {
        self.inner.read(file, length, offset).await
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

    async fn is_same_object(&mut self, a: Resource<Descriptor>, b: Resource<Descriptor>) -> wasmtime::Result<bool> {
        self.inner.is_same_object(a, b).await
    }

    async fn metadata_hash(&mut self, descriptor: Resource<Descriptor>) -> FsResult<types::MetadataHashValue> {
        self.inner.metadata_hash(descriptor).await
    }

    fn drop(&mut self, descriptor: Resource<Descriptor>) -> wasmtime::Result<()> {
        self.closing(&descriptor);
        HostDescriptor::drop(&mut self.inner, descriptor)
    }

    fn read_via_stream(&mut self, file: Resource<Descriptor>, offset: Filesize) -> FsResult<Resource<DynInputStream>> {
        self.stream(|files| files.read_via_stream(file, offset))
    }
}
