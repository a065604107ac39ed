//! `qyvol:call/context`: who has called a guest, as the host knows it.
//!
//! It is decided before the guest starts, and never from what a request says.

use std::sync::Arc;

use qyvol_types::Digest;
use wasmtime::component::{ComponentType, Linker, Lower};

/// The interface, without its version.
pub(crate) const INTERFACE: &str = "qyvol:call/context";
/// The interface, with its version.
const VERSIONED: &str = "qyvol:call/context@0.1.0";

/// Who has called.
#[derive(Clone, Debug, Default, PartialEq, Eq, ComponentType, Lower)]
#[component(variant)]
pub enum Actor {
    /// Nobody that the host knows.
    #[default]
    #[component(name = "anonymous")]
    Anonymous,
    /// The user of the host that runs `qyv`, by number.
    #[component(name = "user")]
    User(u32),
    /// A client that has proved by TLS who it is: `sha256:` and 64 hexadecimal digits of
    /// its public key.
    #[component(name = "peer")]
    Peer(String),
}

/// What a guest is told of its caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Who has called.
    pub actor: Actor,
    /// What the operator says that the call is for.
    pub scope: Vec<String>,
}

/// A client that has proved by TLS that it has the private key of a certificate, as one of
/// the extensions of its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    name: Arc<str>,
}

impl Peer {
    /// The client with this public key: a `SubjectPublicKeyInfo` in DER (RFC 5280, 4.1.2.7).
    ///
    /// Its name is `sha256:` and 64 hexadecimal digits. Names and numbers in a certificate
    /// are as its issuer likes; a key is one client's, and stays when its certificate is
    /// renewed for it.
    pub fn of_key(public_key: &[u8]) -> Peer {
        Peer {
            name: Digest::of(public_key).to_string().into(),
        }
    }

    pub(crate) fn actor(&self) -> Actor {
        Actor::Peer(self.name.to_string())
    }
}

/// Links the interface. `identity` is what a guest of `T` is told.
pub(crate) fn add_to_linker<T: 'static>(
    linker: &mut Linker<T>,
    identity: fn(&T) -> &Arc<Identity>,
) -> wasmtime::Result<()> {
    let mut instance = linker.instance(VERSIONED)?;
    instance.func_wrap("actor", move |store, ()| Ok((identity(store.data()).actor.clone(),)))?;
    instance.func_wrap("scope", move |store, ()| Ok((identity(store.data()).scope.clone(),)))?;
    Ok(())
}
