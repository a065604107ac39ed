//! Gives a component the host's interfaces that it imports, and only those:
//! describing all of WASI to the linker takes longer than a small guest runs.
//!
//! An import that is none of these is handed back by name. It need not be a
//! fault, for an interface of types alone has nothing to provide.

use std::collections::BTreeSet;

use wasmtime::component::{Component, HasData, Linker};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::{cli, filesystem, random, sockets};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView};

/// Links what `component` imports, and returns the names of what isn't known.
pub(crate) fn link<T: WasiView + 'static>(
    linker: &mut Linker<T>,
    component: &Component,
) -> wasmtime::Result<Vec<String>>
where
    WasiSockets: HasData,
{
    let engine = linker.engine().clone();
    let kind = component.component_type();
    // Streams, polls, clocks, random and stdio: what every command has.
    wasmtime_wasi::p2::add_to_linker_proxy_interfaces_async(linker)?;
    let l = linker;
    let mut unknown = Vec::new();
    let mut linked = BTreeSet::new();
    for (name, _) in kind.imports(&engine) {
        // Versions apart: the linker matches compatible ones by itself.
        let import = name.split('@').next().unwrap_or(name);
        if !linked.insert(import) {
            continue;
        }
        match import {
            // Linked above.
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
            "wasi:filesystem/types" => filesystem::types::add_to_linker::<T, WasiFilesystem>(l, T::filesystem)?,
            "wasi:filesystem/preopens" => filesystem::preopens::add_to_linker::<T, WasiFilesystem>(l, T::filesystem)?,
            "wasi:random/insecure" => {
                random::insecure::add_to_linker::<T, WasiRandom>(l, |t| t.ctx().ctx.random())?;
            }
            "wasi:random/insecure-seed" => {
                random::insecure_seed::add_to_linker::<T, WasiRandom>(l, |t| t.ctx().ctx.random())?;
            }
            "wasi:sockets/tcp" => sockets::tcp::add_to_linker::<T, WasiSockets>(l, T::sockets)?,
            "wasi:sockets/tcp-create-socket" => {
                sockets::tcp_create_socket::add_to_linker::<T, WasiSockets>(l, T::sockets)?;
            }
            "wasi:sockets/udp" => sockets::udp::add_to_linker::<T, WasiSockets>(l, T::sockets)?,
            "wasi:sockets/udp-create-socket" => {
                sockets::udp_create_socket::add_to_linker::<T, WasiSockets>(l, T::sockets)?;
            }
            "wasi:sockets/instance-network" => {
                sockets::instance_network::add_to_linker::<T, WasiSockets>(l, T::sockets)?;
            }
            "wasi:sockets/network" => {
                let options = sockets::network::LinkOptions::default();
                sockets::network::add_to_linker::<T, WasiSockets>(l, &options, T::sockets)?;
            }
            "wasi:sockets/ip-name-lookup" => {
                sockets::ip_name_lookup::add_to_linker::<T, WasiSockets>(l, T::sockets)?;
            }
            _ => unknown.push(name.to_string()),
        }
    }
    Ok(unknown)
}
