//! Which names of interfaces mean the same interface.

use std::fmt;

use wit_parser::{InterfaceId, PackageName, Resolve};

/// An interface in all of its compatible versions: `wasi:io/streams` of 0.2.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Track {
    namespace: String,
    package: String,
    interface: String,
    /// The versions that are compatible; none for an interface without one.
    versions: Option<String>,
}

impl Track {
    /// The track of an interface that has a name.
    pub(crate) fn of(resolve: &Resolve, interface: InterfaceId) -> Option<Track> {
        let interface = resolve.interfaces.get(interface)?;
        let package = &resolve.packages.get(interface.package?)?.name;
        Some(Track {
            namespace: package.namespace.clone(),
            package: package.name.clone(),
            interface: interface.name.clone()?,
            versions: package.version.as_ref().map(PackageName::version_compat_track_string),
        })
    }
}

/// The name of an interface's package, with its version.
pub(crate) fn package_of(resolve: &Resolve, interface: InterfaceId) -> Option<&PackageName> {
    let package = resolve.interfaces.get(interface)?.package?;
    Some(&resolve.packages.get(package)?.name)
}

impl fmt::Display for Track {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Track {
            namespace,
            package,
            interface,
            versions,
        } = self;
        write!(f, "{namespace}:{package}/{interface}")?;
        match versions {
            Some(versions) => write!(f, "@{versions}"),
            None => Ok(()),
        }
    }
}
