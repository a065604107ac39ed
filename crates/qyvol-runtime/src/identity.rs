//! `qyvol:call/context`: who has called a guest, as the host knows it.
//!
//! It is decided before the guest starts, and never from what a request says.

use std::sync::Arc;

use wasmtime::component::{ComponentType, Linker, Lower};

use crate::component::ComponentState;

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
    /// A client that has proved by TLS who it is.
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

pub(crate) fn add_to_linker(linker: &mut Linker<ComponentState>) -> wasmtime::Result<()> {
    let mut instance = linker.instance(VERSIONED)?;
    instance.func_wrap("actor", |store, ()| {
        let identity: &Arc<Identity> = &store.data().identity;
        Ok((identity.actor.clone(),))
    })?;
    instance.func_wrap("scope", |store, ()| {
        let identity: &Arc<Identity> = &store.data().identity;
        Ok((identity.scope.clone(),))
    })?;
    Ok(())
}
