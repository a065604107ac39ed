//! `qyvol:call/context`: the caller of a guest, as the host knows it.
//!
//! It is decided before the guest starts, and never from the content of a request.

use std::sync::Arc;

use qyvol_types::Digest;
use wasmtime::component::{ComponentType, Linker, Lower};

/// The interface, without its version.
pub(crate) const INTERFACE: &str = "qyvol:call/context";
/// The interface, with its version.
const VERSIONED: &str = "qyvol:call/context@0.1.0";

/// The caller.
#[derive(Clone, Debug, Default, PartialEq, Eq, ComponentType, Lower)]
#[component(variant)]
pub enum Actor {
    /// Unknown to the host.
    #[default]
    #[component(name = "anonymous")]
    Anonymous,
    /// The user of the host that runs `qyv`, by number.
    #[component(name = "user")]
    User(u32),
    /// A client that is authenticated by TLS: `sha256:` and 64 hexadecimal digits of the hash
    /// of its public key.
    #[component(name = "peer")]
    Peer(String),
}

/// What a guest learns about its caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The caller.
    pub actor: Actor,
    /// The purpose of the call, set by the operator.
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
    /// Its name is `sha256:` and 64 hexadecimal digits. The issuer chooses the names and
    /// numbers in a certificate; a key belongs to one client, and stays when its certificate is
    /// renewed.
    pub fn of_key(public_key: &[u8]) -> Peer {
        Peer {
            name: Digest::of(public_key).to_string().into(),
        }
    }

    pub(crate) fn actor(&self) -> Actor {
        Actor::Peer(self.name.to_string())
    }
}

/// Links the interface. `identity` is the caller of a guest of `T`.
pub(crate) fn add_to_linker<T: 'static>(
    linker: &mut Linker<T>,
    identity: fn(&T) -> &Arc<Identity>,
) -> wasmtime::Result<()> {
    let mut instance = linker.instance(VERSIONED)?;
    instance.func_wrap("actor", move |store, ()| Ok((identity(store.data()).actor.clone(),)))?;
    instance.func_wrap("scope", move |store, ()| Ok((identity(store.data()).scope.clone(),)))?;
    Ok(())
}
