//! Gives a component the host's interfaces that it imports, and only those:
//! describing all of WASI to the linker takes longer than a small guest runs.
//!
//! An import that is none of these need not be a fault, for an interface of
//! types alone has nothing to provide; [`crate::check`] tells them apart.

use std::collections::BTreeSet;

use wasmtime::component::{Component, Linker, Resource, ResourceType};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::p2::bindings::sockets::{tcp::TcpSocket, udp::UdpSocket};
use wasmtime_wasi::p2::bindings::{cli, filesystem, random, sockets};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView};

use crate::filesystem::Filesystem;
use crate::net::NetInterfaces;
use crate::program::ComponentState;

type T = ComponentState;

/// Links what `component` imports.
pub(crate) fn link(linker: &mut Linker<T>, component: &Component) -> wasmtime::Result<()> {
    let engine = linker.engine().clone();
    let kind = component.component_type();
    // Streams, polls, clocks, random and stdio: what every command has.
    wasmtime_wasi::p2::add_to_linker_proxy_interfaces_async(linker)?;
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
    Ok(())
}

/// Whether a component is given the interface that it imports by this name.
pub(crate) fn provides(engine: &wasmtime::Engine, name: &str) -> wasmtime::Result<bool> {
    match interface(name) {
        Some(interface) => provide(&mut Linker::new(engine), interface),
        None => Ok(false),
    }
}

/// The interface of a name such as `wasi:cli/run@0.2.6`, if it is of WASI 0.2.
pub(crate) fn interface(name: &str) -> Option<&str> {
    let (interface, version) = name.split_once('@')?;
    version.starts_with("0.2.").then_some(interface)
}

/// Links an interface; false if it is not known.
fn provide(l: &mut Linker<T>, interface: &str) -> wasmtime::Result<bool> {
    match interface {
        // Linked for every command.
        "wasi:io/error"
        | "wasi:io/poll"
        | "wasi:io/streams"
        | "wasi:clocks/monotonic-clock"
        | "wasi:clocks/wall-clock"
        | "wasi:random/random"
        | "wasi:cli/stdin"
        | "wasi:cli/stdout"
        | "wasi:cli/stderr" => {}
        "wasi:cli/environment" => cli::environment::add_to_linker::<T, WasiCli>(l, T::cli)?,
        "wasi:cli/exit" => cli::exit::add_to_linker::<T, WasiCli>(l, T::cli)?,
        "wasi:cli/terminal-input" => cli::terminal_input::add_to_linker::<T, WasiCli>(l, T::cli)?,
        "wasi:cli/terminal-output" => cli::terminal_output::add_to_linker::<T, WasiCli>(l, T::cli)?,
        "wasi:cli/terminal-stdin" => cli::terminal_stdin::add_to_linker::<T, WasiCli>(l, T::cli)?,
        "wasi:cli/terminal-stdout" => cli::terminal_stdout::add_to_linker::<T, WasiCli>(l, T::cli)?,
        "wasi:cli/terminal-stderr" => cli::terminal_stderr::add_to_linker::<T, WasiCli>(l, T::cli)?,
        "wasi:filesystem/types" => filesystem::types::add_to_linker::<T, Filesystem>(l, T::files)?,
        "wasi:filesystem/preopens" => filesystem::preopens::add_to_linker::<T, Filesystem>(l, T::files)?,
        "wasi:random/insecure" => {
            random::insecure::add_to_linker::<T, WasiRandom>(l, |t| t.ctx().ctx.random())?;
        }
        "wasi:random/insecure-seed" => {
            random::insecure_seed::add_to_linker::<T, WasiRandom>(l, |t| t.ctx().ctx.random())?;
        }
        "wasi:sockets/tcp" => {
            sockets::tcp::add_to_linker::<T, WasiSockets>(l, T::sockets)?;
            count_closed::<TcpSocket>(l, interface, "tcp-socket")?;
        }
        "wasi:sockets/tcp-create-socket" => {
            sockets::tcp_create_socket::add_to_linker::<T, NetInterfaces>(l, T::network)?;
        }
        "wasi:sockets/udp" => {
            sockets::udp::add_to_linker::<T, WasiSockets>(l, T::sockets)?;
            count_closed::<UdpSocket>(l, interface, "udp-socket")?;
        }
        "wasi:sockets/udp-create-socket" => {
            sockets::udp_create_socket::add_to_linker::<T, NetInterfaces>(l, T::network)?;
        }
        "wasi:sockets/instance-network" => {
            sockets::instance_network::add_to_linker::<T, WasiSockets>(l, T::sockets)?;
        }
        "wasi:sockets/network" => {
            let options = sockets::network::LinkOptions::default();
            sockets::network::add_to_linker::<T, WasiSockets>(l, &options, T::sockets)?;
        }
        "wasi:sockets/ip-name-lookup" => {
            sockets::ip_name_lookup::add_to_linker::<T, NetInterfaces>(l, T::network)?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// The version of WASI 0.2 that wasmtime-wasi describes to the linker.
const WASI_0_2: &str = "0.2.12";

/// Counts a socket as closed when the guest drops it, in place of the destructor
/// that is linked.
fn count_closed<R: Send + 'static>(l: &mut Linker<T>, interface: &str, resource: &str) -> wasmtime::Result<()> {
    l.allow_shadowing(true);
    let mut instance = l.instance(&format!("{interface}@{WASI_0_2}"))?;
    instance.resource(resource, ResourceType::host::<R>(), |mut store, handle| {
        let state: &mut T = store.data_mut();
        let network = state.network();
        network.inner.table.delete(Resource::<R>::new_own(handle))?;
        network.sockets.closed();
        Ok(())
    })?;
    l.allow_shadowing(false);
    Ok(())
}
