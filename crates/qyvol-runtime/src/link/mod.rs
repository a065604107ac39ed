//! Gives a component the host's interfaces that it imports, and only those:
//! describing all of WASI to the linker takes longer than a small guest runs.
//!
//! An import of another interface is not always an error, because an interface that has
//! only types needs nothing provided; [`crate::check`] distinguishes them.

mod p2;
mod p3;
mod p3_backed;
mod p3_paths;
mod p3_quota;

use std::collections::BTreeSet;

use wasmtime::component::{Component, Linker, LinkerInstance, Resource, ResourceType};

use crate::component::ComponentState;
use crate::generation::{Generation, interface};
use crate::{Mount, RunSpec, process};

type T = ComponentState;

/// The interface of files.
const FILES: &str = "wasi:filesystem/types";

/// What was linked.
#[derive(Clone, Copy)]
pub(crate) struct Linked {
    /// Whether requests over HTTP were linked.
    pub(crate) http: bool,
}

/// Links what `component` imports, for a run of `spec`.
pub(crate) fn link(linker: &mut Linker<T>, component: &Component, spec: &RunSpec) -> wasmtime::Result<Linked> {
    let engine = linker.engine().clone();
    let kind = component.component_type();
    p2::common(linker, spec.deterministic.is_some())?;
    // Whether open files have to be tracked.
    if spec.limits.files.is_some() {
        p2::track_streams(linker)?;
    }
    let mut linked = BTreeSet::new();
    for (name, _) in kind.imports(&engine) {
        // Of two versions of one interface the linker takes the compatible one
        // by itself.
        if let Some(interface) = interface(name)
            && linked.insert(interface)
        {
            provide(linker, interface)?;
        }
    }
    if linked.contains(&(Generation::Concurrent, FILES)) {
        let is_watched = |mount: &Mount| mount.backing.is_some() || mount.seal.is_some();
        let is_watched = spec.mounts.iter().any(is_watched);
        let has_quota = spec.has_quota();
        if is_watched || has_quota || spec.observer.is_some() {
            p3_paths::link(linker)?;
        }
        if is_watched {
            p3_backed::link(linker)?;
        }
        if has_quota {
            p3_quota::link(linker)?;
        }
    }
    let http = linked.iter().any(|(_, interface)| interface.starts_with("wasi:http/"));
    Ok(Linked { http })
}

/// Whether a component imports interfaces that need sockets or pipes.
pub(crate) fn imports_io(component: &Component) -> bool {
    let kind = component.component_type();
    kind.imports(component.engine())
        .filter_map(|(name, _)| interface(name))
        .any(|(_, interface)| {
            interface == process::INTERFACE
                || ["wasi:sockets/", "wasi:http/"]
                    .iter()
                    .any(|package| interface.starts_with(package))
        })
}

/// Whether components are given an interface of this name.
pub(crate) fn provides(engine: &wasmtime::Engine, generation: Generation, name: &str) -> wasmtime::Result<bool> {
    match interface(name) {
        Some((Generation::Concurrent, _)) if generation == Generation::Blocking => Ok(false),
        Some(interface) => provide(&mut Linker::new(engine), interface),
        None => Ok(false),
    }
}

/// Links an interface; false if it is not known.
fn provide(linker: &mut Linker<T>, (generation, interface): (Generation, &str)) -> wasmtime::Result<bool> {
    match generation {
        Generation::Blocking => p2::provide(linker, interface),
        Generation::Concurrent => p3::provide(linker, interface),
    }
}

/// Links parts of an interface again, replacing what is linked.
fn shadow(
    l: &mut Linker<T>,
    interface: &str,
    version: &str,
    define: impl FnOnce(&mut LinkerInstance<'_, T>) -> wasmtime::Result<()>,
) -> wasmtime::Result<()> {
    l.allow_shadowing(true);
    define(&mut l.instance(&format!("{interface}@{version}"))?)?;
    l.allow_shadowing(false);
    Ok(())
}

/// Counts a socket as closed when the guest drops it.
fn count_closed<R: Send + 'static>(instance: &mut LinkerInstance<'_, T>, resource: &str) -> wasmtime::Result<()> {
    instance.resource(resource, ResourceType::host::<R>(), |mut store, handle| {
        let state: &mut T = store.data_mut();
        let network = state.network();
        network.inner.table.delete(Resource::<R>::new_own(handle))?;
        network.sockets.closed(handle);
        Ok(())
    })
}
