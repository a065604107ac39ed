//! WASI 0.3: wasmtime-wasi's own, with the same checks as for 0.2 in front of the few
//! calls that need them.

use std::io;
use std::net::IpAddr;

use wasmtime::component::{Accessor, Linker, LinkerInstance, Resource, ResourceType};
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p3::bindings::filesystem::types::{
    DescriptorFlags, DescriptorStat, ErrorCode, HostDescriptorWithStore as _, MetadataHashValue, OpenFlags, PathFlags,
};
use wasmtime_wasi::p3::bindings::sockets::types::{HostTcpSocket, HostUdpSocket};
use wasmtime_wasi::p3::bindings::sockets::{ip_name_lookup, types as socket_types};
use wasmtime_wasi::p3::bindings::{cli, clocks, filesystem, random, sockets};
use wasmtime_wasi::p3::filesystem::FilesystemError;
use wasmtime_wasi::p3::sockets::SocketError;
use wasmtime_wasi::random::{WasiRandom, WasiRandomView};
use wasmtime_wasi::sockets::{TcpSocket, UdpSocket, WasiSockets, WasiSocketsView};
use wasmtime_wasi_http::p3::bindings::http;
use wasmtime_wasi_http::{WasiHttp, WasiHttpView};

use super::{count_closed, shadow};
use crate::backing::Intent;
use crate::component::ComponentState;
use crate::denials::Asked;
use crate::filesystem::{Filesystem, FsView};
use crate::limits::{self, Count};
use crate::net::MAX_ANSWERS;
use crate::quota::{Held, Plan, done};
use crate::sealed::IntegrityError;
use crate::watched::Place;

type T = ComponentState;

/// Links an interface; false if it is not known.
pub(super) fn provide(l: &mut Linker<T>, interface: &str) -> wasmtime::Result<bool> {
    match interface {
        "wasi:cli/environment" => cli::environment::add_to_linker::<T, WasiCli>(l, T::cli)?,
        "wasi:cli/exit" => cli::exit::add_to_linker::<T, WasiCli>(l, T::cli)?,
        "wasi:cli/stdin" => cli::stdin::add_to_linker::<T, WasiCli>(l, T::cli)?,
        "wasi:cli/stdout" => cli::stdout::add_to_linker::<T, WasiCli>(l, T::cli)?,
        "wasi:cli/stderr" => cli::stderr::add_to_linker::<T, WasiCli>(l, T::cli)?,
        "wasi:cli/terminal-input" => cli::terminal_input::add_to_linker::<T, WasiCli>(l, T::cli)?,
        "wasi:cli/terminal-output" => cli::terminal_output::add_to_linker::<T, WasiCli>(l, T::cli)?,
        "wasi:cli/terminal-stdin" => cli::terminal_stdin::add_to_linker::<T, WasiCli>(l, T::cli)?,
        "wasi:cli/terminal-stdout" => cli::terminal_stdout::add_to_linker::<T, WasiCli>(l, T::cli)?,
        "wasi:cli/terminal-stderr" => cli::terminal_stderr::add_to_linker::<T, WasiCli>(l, T::cli)?,
        "wasi:clocks/monotonic-clock" => clocks::monotonic_clock::add_to_linker::<T, WasiClocks>(l, T::clocks)?,
        "wasi:clocks/system-clock" => clocks::system_clock::add_to_linker::<T, WasiClocks>(l, T::clocks)?,
        "wasi:filesystem/types" => {
            filesystem::types::add_to_linker::<T, WasiFilesystem>(l, T::filesystem)?;
            shadow(l, interface, WASI_0_3, check_entries)?;
        }
        "wasi:filesystem/preopens" => filesystem::preopens::add_to_linker::<T, Filesystem>(l, T::files)?,
        "wasi:random/random" => random::random::add_to_linker::<T, WasiRandom>(l, T::random)?,
        "wasi:random/insecure" => random::insecure::add_to_linker::<T, WasiRandom>(l, T::random)?,
        "wasi:random/insecure-seed" => random::insecure_seed::add_to_linker::<T, WasiRandom>(l, T::random)?,
        "wasi:sockets/types" => {
            sockets::types::add_to_linker::<T, WasiSockets>(l, T::sockets)?;
            shadow(l, interface, WASI_0_3, count_sockets)?;
        }
        "wasi:sockets/ip-name-lookup" => {
            ip_name_lookup::add_to_linker::<T, WasiSockets>(l, T::sockets)?;
            shadow(l, interface, WASI_0_3, check_names)?;
        }
        "wasi:http/client" => http::client::add_to_linker::<T, WasiHttp>(l, T::http)?,
        "wasi:http/types" => http::types::add_to_linker::<T, WasiHttp>(l, T::http)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// The version of WASI 0.3 that wasmtime-wasi describes to the linker.
pub(super) const WASI_0_3: &str = "0.3.0";

/// Checks the entries of sealed mounts before the guest sees them, and tracks what is
/// open.
fn check_entries(instance: &mut LinkerInstance<'_, T>) -> wasmtime::Result<()> {
    type Open = (Resource<Descriptor>, PathFlags, String, OpenFlags, DescriptorFlags);
    instance.func_wrap_concurrent(
        "[method]descriptor.open-at",
        |accessor: &Accessor<T>, (directory, path_flags, path, open, flags): Open| {
            Box::pin(async move {
                let action = open_action(open, flags);
                let asked = ask(accessor, |files| files.denials.asked(action, directory.rep(), &path));
                let place = accessor.with(|mut store| {
                    let files = store.get().files();
                    let intent = open_intent(open, flags);
                    let place = files.watched.check(directory.rep(), &path, intent)?;
                    wasmtime::error::Ok(files.files.is_free().then_some(place))
                })?;
                let place = match place {
                    Some(Ok(place)) => place,
                    Some(Err(error)) => return Ok((reported(asked, Err(error.into())),)),
                    None => return Ok((Err(ErrorCode::InsufficientMemory),)),
                };
                let (held, plan) =
                    match accessor.with(|mut store| plan(store.get(), &directory, path_flags, &path, open)) {
                        Ok(planned) => planned,
                        Err(error) => return Ok((Err(error.into()),)),
                    };
                let inner = accessor.with_getter::<WasiFilesystem>(T::filesystem);
                let opened = WasiFilesystem::open_at(&inner, directory, path_flags, path, open, flags).await;
                let opened = untrapped(opened)?;
                if let Ok(descriptor) = &opened {
                    done(plan);
                    accessor.with(|mut store| {
                        let mut files = store.get().files();
                        files.opened_from(held, descriptor)?;
                        files.files.opened(descriptor.rep());
                        if let Some(place) = place {
                            files.watched.opened(place, descriptor.rep());
                        }
                        files.denials.opened(asked, descriptor.rep());
                        wasmtime::error::Ok(())
                    })?;
                    return Ok((opened,));
                }
                Ok((reported(asked, opened),))
            })
        },
    )?;
    type Look = (Resource<Descriptor>, PathFlags, String);
    instance.func_wrap_concurrent(
        "[method]descriptor.stat-at",
        |accessor: &Accessor<T>, (directory, path_flags, path): Look| {
            Box::pin(async move {
                let asked = ask(accessor, |files| files.denials.asked("read", directory.rep(), &path));
                if let Err(error) = check(accessor, &directory, &path, Intent::Stat)? {
                    return Ok((reported(asked, Err(error.into())),));
                }
                let inner = accessor.with_getter::<WasiFilesystem>(T::filesystem);
                let stat: Result<DescriptorStat, ErrorCode> =
                    untrapped(WasiFilesystem::stat_at(&inner, directory, path_flags, path).await)?;
                Ok((reported(asked, stat),))
            })
        },
    )?;
    instance.func_wrap_concurrent(
        "[method]descriptor.metadata-hash-at",
        |accessor: &Accessor<T>, (directory, path_flags, path): Look| {
            Box::pin(async move {
                let asked = ask(accessor, |files| files.denials.asked("read", directory.rep(), &path));
                if let Err(error) = check(accessor, &directory, &path, Intent::Stat)? {
                    return Ok((reported(asked, Err(error.into())),));
                }
                let inner = accessor.with_getter::<WasiFilesystem>(T::filesystem);
                let hash: Result<MetadataHashValue, ErrorCode> =
                    untrapped(WasiFilesystem::metadata_hash_at(&inner, directory, path_flags, path).await)?;
                Ok((reported(asked, hash),))
            })
        },
    )?;
    instance.resource("descriptor", ResourceType::host::<Descriptor>(), |mut store, handle| {
        let state: &mut T = store.data_mut();
        let mut files = state.files();
        files.closing(&Resource::new_borrow(handle));
        files.inner.table.delete(Resource::<Descriptor>::new_own(handle))?;
        Ok(())
    })?;
    Ok(())
}

/// Calls `question` with the guest's file system.
pub(super) fn ask<R>(accessor: &Accessor<T>, question: impl FnOnce(&mut FsView<'_>) -> R) -> R {
    accessor.with(|mut store| question(&mut store.get().files()))
}

/// As [`Watched::check`](crate::watched::Watched::check).
pub(super) fn check(
    accessor: &Accessor<T>,
    directory: &Resource<Descriptor>,
    path: &str,
    intent: Intent,
) -> Result<io::Result<Option<Place>>, IntegrityError> {
    ask(accessor, |files| files.watched.check(directory.rep(), path, intent))
}

/// Reports a call to the observer, if it was denied.
pub(super) fn reported<R>(asked: Option<Asked>, result: Result<R, ErrorCode>) -> Result<R, ErrorCode> {
    if let (Some(asked), Err(ErrorCode::NotPermitted | ErrorCode::ReadOnly)) = (asked, &result) {
        asked.denied();
    }
    result
}

/// The action that opening something with these flags is reported as.
fn open_action(open: OpenFlags, flags: DescriptorFlags) -> &'static str {
    if open.contains(OpenFlags::CREATE) {
        "create"
    } else if open.contains(OpenFlags::TRUNCATE) || flags.contains(DescriptorFlags::WRITE) {
        "write"
    } else {
        "read"
    }
}

/// What opening something takes of its quota.
fn plan(
    state: &mut T,
    directory: &Resource<Descriptor>,
    path_flags: PathFlags,
    path: &str,
    open: OpenFlags,
) -> io::Result<(Option<Held>, Option<Plan>)> {
    let Some(held) = state.files().held(directory) else {
        return Ok((None, None));
    };
    let follow = path_flags.contains(PathFlags::SYMLINK_FOLLOW);
    let create = open.contains(OpenFlags::CREATE);
    let plan = held.open(path, follow, create, open.contains(OpenFlags::TRUNCATE))?;
    Ok((Some(held), plan))
}

/// What the guest is about to do when it opens something with these flags.
fn open_intent(open: OpenFlags, flags: DescriptorFlags) -> Intent {
    // Without CREATE nothing is exclusive.
    if open.contains(OpenFlags::CREATE | OpenFlags::EXCLUSIVE) {
        Intent::Create
    } else if open.contains(OpenFlags::TRUNCATE) {
        Intent::Truncate
    } else if open.contains(OpenFlags::DIRECTORY) {
        Intent::Directory
    } else if open.contains(OpenFlags::CREATE) || flags.contains(DescriptorFlags::WRITE) {
        Intent::Write
    } else {
        Intent::Read
    }
}

/// The error of a call that goes to the guest, or the one that ends it.
pub(super) fn untrapped<R>(result: Result<R, FilesystemError>) -> wasmtime::Result<Result<R, ErrorCode>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) => error.downcast().map(Err),
    }
}

/// Checks names against the list before they are looked up, and answers before the guest gets
/// them.
fn check_names(instance: &mut LinkerInstance<'_, T>) -> wasmtime::Result<()> {
    instance.func_wrap_concurrent("resolve-addresses", |accessor: &Accessor<T>, (name,): (String,)| {
        Box::pin(async move {
            if !accessor.with(|mut store| store.get().network().network.allows_lookup(&name)) {
                return Ok((Err(ip_name_lookup::ErrorCode::AccessDenied),));
            }
            let Some(place) = accessor.with(|mut store| store.get().network().lookups.places().take()) else {
                return Ok((Err(ip_name_lookup::ErrorCode::TemporaryResolverFailure),));
            };
            let answers = resolve(name.clone(), place).await;
            let answers = answers.and_then(|answers| {
                let accepted: Vec<_> = accessor.with(|mut store| {
                    let network = store.get().network();
                    let accepts = |answer: &IpAddr| network.network.accepts_answer(&name, *answer);
                    answers
                        .into_iter()
                        .filter(accepts)
                        .take(MAX_ANSWERS)
                        .map(address)
                        .collect()
                });
                // A successful answer has at least one address.
                match accepted.is_empty() {
                    true => Err(ip_name_lookup::ErrorCode::AccessDenied),
                    false => Ok(accepted),
                }
            });
            Ok((answers,))
        })
    })?;
    Ok(())
}

/// Asks the system for a name's addresses. A guest that cancels doesn't end the lookup: its
/// place is free when it is done.
async fn resolve(name: String, place: limits::Place) -> Result<Vec<IpAddr>, ip_name_lookup::ErrorCode> {
    if let Ok(address) = name.parse() {
        return Ok(vec![address]);
    }
    let lookup = tokio::spawn(async move {
        let answers = tokio::net::lookup_host((name.as_str(), 0)).await;
        drop(place);
        answers.map(|answers| answers.map(|answer| answer.ip().to_canonical()).collect())
    });
    let answers: Result<std::io::Result<Vec<IpAddr>>, _> = lookup.await;
    answers
        .ok()
        .and_then(Result::ok)
        .ok_or(ip_name_lookup::ErrorCode::NameUnresolvable)
}

fn address(address: IpAddr) -> socket_types::IpAddress {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            socket_types::IpAddress::Ipv4((a, b, c, d))
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h] = address.segments();
            socket_types::IpAddress::Ipv6((a, b, c, d, e, f, g, h))
        }
    }
}

/// Counts the sockets that a guest makes. Accepted sockets are bounded only by the number of
/// handles.
fn count_sockets(instance: &mut LinkerInstance<'_, T>) -> wasmtime::Result<()> {
    use socket_types::{ErrorCode, IpAddressFamily};
    let full = || ErrorCode::Other(Some("too many sockets are open".to_string()));
    instance.func_wrap(
        "[static]tcp-socket.create",
        move |mut store, (family,): (IpAddressFamily,)| {
            let state: &mut T = store.data_mut();
            let mut network = state.network();
            if !network.sockets.is_free() {
                return Ok((Err(full()),));
            }
            network.network.report_socket("tcp");
            let created = HostTcpSocket::create(&mut network.inner, family);
            counted(created, network.sockets).map(|created| (created,))
        },
    )?;
    instance.func_wrap_async(
        "[static]udp-socket.create",
        move |mut store, (family,): (IpAddressFamily,)| {
            Box::new(async move {
                let state: &mut T = store.data_mut();
                let mut network = state.network();
                if !network.sockets.is_free() {
                    return Ok((Err(full()),));
                }
                network.network.report_socket("udp");
                let created = HostUdpSocket::create(&mut network.inner, family).await;
                counted(created, network.sockets).map(|created| (created,))
            })
        },
    )?;
    count_closed::<TcpSocket>(instance, "tcp-socket")?;
    count_closed::<UdpSocket>(instance, "udp-socket")
}

/// Counts a socket, if there is one.
fn counted<S>(
    created: Result<Resource<S>, SocketError>,
    sockets: &mut Count,
) -> wasmtime::Result<Result<Resource<S>, socket_types::ErrorCode>> {
    match created {
        Ok(socket) => {
            sockets.opened(socket.rep());
            Ok(Ok(socket))
        }
        Err(error) => error.downcast().map(Err),
    }
}
