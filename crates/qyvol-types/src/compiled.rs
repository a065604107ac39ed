//! Compiled code and the component that it was compiled from.

use std::fs::File;

use crate::Digest;

/// An open file of compiled code, bound to the digest of its component.
///
/// Only a store that has authenticated the file makes one, and a runtime
/// compares the digest with the component that trust has accepted: code of one
/// component can't be run in the name of another.
#[derive(Debug)]
pub struct CompiledCode {
    component: Digest,
    file: File,
}

impl CompiledCode {
    /// Code that was authenticated, or compiled just now, for `component`.
    pub fn of(component: Digest, file: File) -> CompiledCode {
        CompiledCode { component, file }
    }

    /// The component that it was compiled from.
    pub fn component(&self) -> &Digest {
        &self.component
    }

    /// The file, opened for reading.
    pub fn file(&self) -> &File {
        &self.file
    }
}
