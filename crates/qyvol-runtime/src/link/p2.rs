//! WASI 0.2.

use wasmtime::component::{Linker, LinkerInstance, Resource, ResourceType};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::p2::bindings::io::poll::HostPollable;
use wasmtime_wasi::p2::bindings::io::streams::{HostInputStream, HostOutputStream};
use wasmtime_wasi::p2::bindings::sockets::network::Host as _;
use wasmtime_wasi::p2::bindings::sockets::tcp::{HostTcpSocket as _, InputStream, OutputStream};
use wasmtime_wasi::p2::bindings::sockets::{tcp::TcpSocket, udp::UdpSocket};
use wasmtime_wasi::p2::bindings::{cli, filesystem, random, sockets};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, SocketResult};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView};
use wasmtime_wasi_http::p2::bindings::http::{self, outgoing_handler};
use wasmtime_wasi_http::{WasiHttp, WasiHttpView};

use super::{count_closed, shadow};
use crate::component::ComponentState;
use crate::filesystem::Filesystem;
use crate::net::NetInterfaces;
use crate::{deterministic, identity, process};

type T = ComponentState;

/// Streams, polls, clocks, random and stdio, which every command has.
pub(super) fn common(linker: &mut Linker<T>, is_deterministic: bool) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_proxy_interfaces_async(linker)?;
    // A guest may wait by polling. Nothing would become ready in a thread that does nothing
    // else.
    shadow(linker, "wasi:io/poll", WASI_0_2, |instance| {
        instance.func_wrap_async(
            "[method]pollable.ready",
            move |mut store, (pollable,): (Resource<DynPollable>,)| {
                Box::new(async move {
                    match is_deterministic {
                        true => deterministic::tick().await,
                        false => tokio::task::yield_now().await,
                    }
                    let state: &mut T = store.data_mut();
                    Ok((HostPollable::ready(state.ctx().table, pollable).await?,))
                })
            },
        )
    })
}

/// When the guest drops a stream, counts the file that it held open as closed. Replaces
/// the destructors that are linked.
pub(super) fn track_streams(l: &mut Linker<T>) -> wasmtime::Result<()> {
    shadow(l, "wasi:io/streams", WASI_0_2, |instance| {
        instance.resource_async(
            "input-stream",
            ResourceType::host::<DynInputStream>(),
            |mut store, handle| {
                Box::new(async move {
                    let state: &mut T = store.data_mut();
                    state.files().files.closed(handle);
                    let stream = Resource::<DynInputStream>::new_own(handle);
                    HostInputStream::drop(state.ctx().table, stream).await
                })
            },
        )?;
        instance.resource_async(
            "output-stream",
            ResourceType::host::<DynOutputStream>(),
            |mut store, handle| {
                Box::new(async move {
                    let state: &mut T = store.data_mut();
                    state.files().files.closed(handle);
                    let stream = Resource::<DynOutputStream>::new_own(handle);
                    HostOutputStream::drop(state.ctx().table, stream).await
                })
            },
        )?;
        Ok(())
    })
}

/// Links an interface; false if it is not known.
pub(super) fn provide(l: &mut Linker<T>, interface: &str) -> wasmtime::Result<bool> {
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
            shadow(l, interface, WASI_0_2, |instance| {
                count_accepted(instance)?;
                count_closed::<TcpSocket>(instance, "tcp-socket")
            })?;
        }
        "wasi:sockets/tcp-create-socket" => {
            sockets::tcp_create_socket::add_to_linker::<T, NetInterfaces>(l, T::network)?;
        }
        "wasi:sockets/udp" => {
            sockets::udp::add_to_linker::<T, WasiSockets>(l, T::sockets)?;
            shadow(l, interface, WASI_0_2, |instance| {
                count_closed::<UdpSocket>(instance, "udp-socket")
            })?;
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
        process::INTERFACE => process::add_to_linker(l, T::programs)?,
        identity::INTERFACE => identity::add_to_linker(l, |state| &state.identity)?,
        "wasi:http/outgoing-handler" => outgoing_handler::add_to_linker::<T, WasiHttp>(l, T::http)?,
        "wasi:http/types" => {
            let options = http::types::LinkOptions::default();
            http::types::add_to_linker::<T, WasiHttp>(l, &options, T::http)?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// The version of WASI 0.2 that wasmtime-wasi describes to the linker.
const WASI_0_2: &str = "0.2.12";

/// Counts the sockets that a guest accepts from a listening one.
fn count_accepted(instance: &mut LinkerInstance<'_, T>) -> wasmtime::Result<()> {
    type Accepted = (Resource<TcpSocket>, Resource<InputStream>, Resource<OutputStream>);
    instance.func_wrap(
        "[method]tcp-socket.accept",
        |mut store, (socket,): (Resource<TcpSocket>,)| {
            let state: &mut T = store.data_mut();
            let mut network = state.network();
            let accepted: SocketResult<Accepted> = match network.check_count() {
                Ok(()) => network.inner.accept(socket),
                Err(code) => Err(code.into()),
            };
            match accepted {
                Ok(accepted) => {
                    network.sockets.opened(accepted.0.rep());
                    Ok((Ok(accepted),))
                }
                Err(error) => Ok((Err(network.inner.convert_error_code(error)?),)),
            }
        },
    )
}
