//! What kind of failure an error is. Each class has one exit code, which the
//! command assigns; each error has one class, which this file assigns.

use std::io;

use qyvol_image::ImageError;
use qyvol_remote::Class;
use qyvol_store::{CopyError, StoreError};
use qyvol_trust::Refusal;

use crate::Error;

/// What kind of failure an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorClass {
    /// Something on this host failed, or an input is at fault in itself.
    Failed,
    /// The command or its configuration must change.
    Usage,
    /// Trust refused the image; damaged content, content over a limit and a
    /// remembered state that can't be used are refusals too.
    Refused(Refusal),
    /// The trust policy can't be used.
    BadPolicy,
    /// A registry failed, and the same request may succeed at another time.
    Temporary,
    /// A registry failed, and the same request will fail again.
    Unavailable,
}

impl Error {
    /// What kind of failure this is.
    pub fn class(&self) -> ErrorClass {
        if let Some(remote) = self.remote() {
            return match remote.class() {
                Class::Usage => ErrorClass::Usage,
                Class::Local => ErrorClass::Failed,
                Class::Temporary => ErrorClass::Temporary,
                Class::Permanent => ErrorClass::Unavailable,
            };
        }
        match self {
            Error::Trust { source, .. } => ErrorClass::Refused(source.refusal()),
            Error::PolicyUpdate { refusal, .. } => ErrorClass::Refused(*refusal),
            Error::State { .. } => ErrorClass::Refused(Refusal::Rollback),
            Error::PolicyYaml { .. } | Error::Policy { .. } => ErrorClass::BadPolicy,
            Error::HostsYaml { .. }
            | Error::Hosts { .. }
            | Error::AppsYaml { .. }
            | Error::Apps { .. }
            | Error::SameName { .. }
            | Error::InvalidTarget { .. }
            | Error::Ambiguous { .. }
            | Error::AlreadyImage { .. }
            | Error::Layers { .. }
            | Error::Platforms { is_several: true, .. }
            | Error::NoFunctions { .. }
            | Error::Function { .. }
            | Error::Argument(_)
            | Error::Followed { .. }
            | Error::Usage(_) => ErrorClass::Usage,
            Error::NotArchive { .. } | Error::Malformed { .. } | Error::Foreign { .. } | Error::Platforms { .. } => {
                ErrorClass::Refused(Refusal::Malformed)
            }
            Error::Image { source, .. } => of_image(source),
            Error::Stored { source: store, .. } | Error::Store(store) => of_store(store),
            Error::Copy(CopyError::Source { source, .. } | CopyError::Target { source, .. }) => of_store(source),
            _ => ErrorClass::Failed,
        }
    }
}

fn of_image(error: &ImageError) -> ErrorClass {
    match error {
        ImageError::Limit { .. } => ErrorClass::Refused(Refusal::Limit),
        ImageError::Format(_)
        | ImageError::Layout(_)
        | ImageError::Layer(_)
        | ImageError::Digest { .. }
        | ImageError::Manifest(_) => ErrorClass::Refused(Refusal::Malformed),
        ImageError::Read(source) => of_read(source),
        ImageError::Store(store) => of_store(store),
        _ => ErrorClass::Failed,
    }
}

fn of_store(error: &StoreError) -> ErrorClass {
    match error {
        StoreError::TooLarge { .. } => ErrorClass::Refused(Refusal::Limit),
        StoreError::Read { source, .. } => of_read(source),
        error if error.is_content_error() => ErrorClass::Refused(Refusal::Malformed),
        _ => ErrorClass::Failed,
    }
}

/// Readers that check content fail with invalid data.
fn of_read(error: &io::Error) -> ErrorClass {
    match error.kind() {
        io::ErrorKind::InvalidData => ErrorClass::Refused(Refusal::Malformed),
        _ => ErrorClass::Failed,
    }
}
