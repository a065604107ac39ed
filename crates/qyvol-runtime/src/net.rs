//! The network of a guest: wasmtime-wasi's own sockets, behind a
//! [`NetGuard`] that checks each address and each name.
//!
//! Preview 1 has no call that opens a socket: this is for components.

use std::collections::HashMap;
use std::future::ready;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use qyvol_sandbox::{Event, Net, NetGuard, NetUse, Observer};
use wasmtime::component::{HasData, Resource};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::{Host, HostResolveAddressStream, ResolveAddressStream};
use wasmtime_wasi::p2::bindings::sockets::network::{
    self, ErrorCode, IpAddress, IpAddressFamily, Network as NetworkHandle,
};
use wasmtime_wasi::p2::bindings::sockets::{tcp_create_socket, udp_create_socket};
use wasmtime_wasi::p2::{DynPollable, SocketError, SocketResult, TcpSocket, UdpSocket};
use wasmtime_wasi::sockets::{SocketAddrUse, WasiSocketsCtxView};

use crate::limits::{Count, Places};

/// Maximum number of answers of one lookup that a guest gets.
pub(crate) const MAX_ANSWERS: usize = 64;
/// Longest name that is looked up (RFC 1035, 2.3.4, and a dot at its end).
const MAX_NAME: usize = 254;
/// Maximum length of a name or address in an event, in characters.
const MAX_REPORTED: usize = 256;
/// Maximum number of lookups at once.
const MAX_LOOKUPS: usize = 64;

/// Decides each use of the network, and reports it to the observer.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    guard: Arc<Mutex<NetGuard>>,
    observer: Option<Arc<dyn Observer>>,
}

impl Network {
    pub(crate) fn new(layers: &[Net], observer: Option<Arc<dyn Observer>>) -> Network {
        Network {
            guard: Arc::new(Mutex::new(NetGuard::new(layers.to_vec()))),
            observer,
        }
    }

    /// Whether every use is denied.
    pub(crate) fn is_off(&self) -> bool {
        self.guard().denies_all()
    }

    /// Reports a socket that was denied because there is no network.
    pub(crate) fn report_socket(&self, kind: &'static str) {
        if self.is_off() {
            self.report("socket", &kind, false);
        }
    }

    /// Gives a guest its sockets.
    pub(crate) fn grant(&self, builder: &mut WasiCtxBuilder) {
        if self.is_off() {
            return;
        }
        let network = self.clone();
        builder
            .allow_tcp(true)
            .allow_udp(true)
            .allow_ip_name_lookup(true)
            .socket_addr_check(move |address, of| Box::pin(ready(network.allows(address, of))));
    }

    fn guard(&self) -> MutexGuard<'_, NetGuard> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn allows(&self, address: SocketAddr, of: SocketAddrUse) -> bool {
        let (action, use_) = match of {
            SocketAddrUse::TcpBind => ("bind", NetUse::TcpBind),
            SocketAddrUse::TcpListen => ("listen", NetUse::TcpListen),
            SocketAddrUse::TcpAccept => ("accept", NetUse::TcpAccept),
            SocketAddrUse::TcpConnect => ("connect", NetUse::TcpConnect),
            SocketAddrUse::UdpBind => ("bind", NetUse::UdpBind),
            SocketAddrUse::UdpSend => ("send", NetUse::UdpSend),
            SocketAddrUse::UdpReceive => ("receive", NetUse::UdpReceive),
        };
        let allowed = self.guard().allows(address, use_);
        self.report(action, &address, allowed);
        allowed
    }

    pub(crate) fn allows_lookup(&self, name: &str) -> bool {
        let allowed = name.len() <= MAX_NAME && self.guard().allows_lookup(name);
        // Nothing is sent for an address.
        if !allowed || name.parse::<IpAddr>().is_err() {
            self.report("look-up", &name, allowed);
        }
        allowed
    }

    /// Whether a request may go to a host, given by name or address. `what` describes the
    /// request in events.
    pub(crate) fn allows_request(&self, host: &str, port: u16, what: &str) -> Result<(), Refused> {
        let checked = match host.parse::<IpAddr>() {
            Ok(ip) if self.guard().allows(SocketAddr::new(ip, port), NetUse::TcpConnect) => Ok(()),
            Ok(_) if !self.is_off() => Err(Refused::Address),
            Err(_) if host.len() <= MAX_NAME && self.guard().allows_lookup(host) => Ok(()),
            _ => Err(Refused::Host),
        };
        self.report("request", &what, checked.is_ok());
        checked
    }

    pub(crate) fn allows_connection(&self, address: SocketAddr) -> bool {
        self.allows(address, SocketAddrUse::TcpConnect)
    }

    pub(crate) fn accepts_answer(&self, name: &str, answer: IpAddr) -> bool {
        let accepted = self.guard().accept_answer(name, answer);
        if !accepted {
            self.report("answer", &format_args!("{name}: {answer}"), false);
        }
        accepted
    }

    fn report(&self, action: &'static str, object: &dyn std::fmt::Display, allowed: bool) {
        if let Some(observer) = &self.observer {
            observer.observed(Event {
                permission: "net",
                action,
                object: object.to_string().chars().take(MAX_REPORTED).collect(),
                allowed,
            });
        }
    }
}

/// Why a request is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The guest may not send requests to the host.
    Host,
    /// It may not connect to the address.
    Address,
}

/// The running lookups of a guest. A cancelled lookup still runs until the system has answered,
/// and counts until then.
#[derive(Debug)]
pub(crate) struct Lookups {
    held: HashMap<u32, Lookup>,
    given_up: Vec<u32>,
    /// Those of WASI 0.3 and of requests, which free their place themselves.
    places: Places,
}

impl Default for Lookups {
    fn default() -> Lookups {
        Lookups {
            held: HashMap::new(),
            given_up: Vec::new(),
            places: Places::new(Some(MAX_LOOKUPS as u64)),
        }
    }
}

#[derive(Debug)]
struct Lookup {
    name: String,
    given: usize,
    denied: usize,
}

impl Lookups {
    /// Whether half of all lookups could begin now.
    pub(crate) fn has_room(&self) -> bool {
        self.places.has_room() && self.held.len() + self.given_up.len() <= MAX_LOOKUPS / 2
    }

    /// Places for lookups, each until it is dropped.
    pub(crate) fn places(&self) -> Places {
        self.places.clone()
    }
}

/// The state of a guest's network calls.
pub(crate) struct NetView<'a> {
    pub(crate) inner: WasiSocketsCtxView<'a>,
    pub(crate) network: &'a Network,
    pub(crate) lookups: &'a mut Lookups,
    pub(crate) sockets: &'a mut Count,
}

/// Connects the interfaces to [`NetView`] in the linker.
pub(crate) struct NetInterfaces;

impl HasData for NetInterfaces {
    type Data<'a> = NetView<'a>;
}

/// Errors are reported as wasmtime-wasi reports them.
impl network::Host for NetView<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        self.inner.convert_error_code(error)
    }

    fn network_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        self.inner.network_error_code(error)
    }
}

impl network::HostNetwork for NetView<'_> {
    fn drop(&mut self, network: Resource<NetworkHandle>) -> wasmtime::Result<()> {
        network::HostNetwork::drop(&mut self.inner, network)
    }
}

impl Host for NetView<'_> {
    fn resolve_addresses(
        &mut self,
        network: Resource<NetworkHandle>,
        name: String,
    ) -> SocketResult<Resource<ResolveAddressStream>> {
        if !self.network.allows_lookup(&name) {
            return Err(ErrorCode::AccessDenied.into());
        }
        self.forget_answered()?;
        if self.lookups.held.len() + self.lookups.given_up.len() >= MAX_LOOKUPS {
            return Err(ErrorCode::TemporaryResolverFailure.into());
        }
        let stream = self.inner.resolve_addresses(network, name.clone())?;
        let lookup = Lookup {
            name,
            given: 0,
            denied: 0,
        };
        self.lookups.held.insert(stream.rep(), lookup);
        Ok(stream)
    }
}

impl NetView<'_> {
    /// Whether a lookup has not been answered yet.
    fn is_pending(&mut self, handle: u32) -> wasmtime::Result<bool> {
        match self.inner.resolve_next_address(Resource::new_borrow(handle)) {
            Ok(_) => Ok(false),
            Err(error) => Ok(matches!(error.downcast()?, ErrorCode::WouldBlock)),
        }
    }

    /// Frees the places of cancelled lookups that have since been answered.
    fn forget_answered(&mut self) -> SocketResult<()> {
        for handle in std::mem::take(&mut self.lookups.given_up) {
            if self.is_pending(handle).map_err(SocketError::trap)? {
                self.lookups.given_up.push(handle);
            } else {
                let stream = Resource::new_own(handle);
                HostResolveAddressStream::drop(&mut self.inner, stream).map_err(SocketError::trap)?;
            }
        }
        Ok(())
    }

    pub(crate) fn check_count(&self) -> Result<(), ErrorCode> {
        match self.sockets.is_free() {
            true => Ok(()),
            false => Err(ErrorCode::NewSocketLimit),
        }
    }
}

impl tcp_create_socket::Host for NetView<'_> {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        self.check_count()?;
        self.network.report_socket("tcp");
        let socket = self.inner.create_tcp_socket(family)?;
        self.sockets.opened(socket.rep());
        Ok(socket)
    }
}

impl udp_create_socket::Host for NetView<'_> {
    async fn create_udp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<UdpSocket>> {
        self.check_count()?;
        self.network.report_socket("udp");
        let socket = self.inner.create_udp_socket(family).await?;
        self.sockets.opened(socket.rep());
        Ok(socket)
    }
}

impl HostResolveAddressStream for NetView<'_> {
    fn resolve_next_address(&mut self, stream: Resource<ResolveAddressStream>) -> SocketResult<Option<IpAddress>> {
        let handle = stream.rep();
        let Some(lookup) = self.lookups.held.get_mut(&handle) else {
            return Ok(None);
        };
        while lookup.given < MAX_ANSWERS {
            let Some(answer) = self.inner.resolve_next_address(Resource::new_borrow(handle))? else {
                break;
            };
            if self.network.accepts_answer(&lookup.name, address(answer)) {
                lookup.given += 1;
                return Ok(Some(answer));
            }
            lookup.denied += 1;
        }
        // As in WASI 0.3: there are addresses, but the guest may use none of them.
        if lookup.given == 0 && lookup.denied > 0 {
            return Err(ErrorCode::AccessDenied.into());
        }
        Ok(None)
    }

    fn subscribe(&mut self, stream: Resource<ResolveAddressStream>) -> wasmtime::Result<Resource<DynPollable>> {
        self.inner.subscribe(stream)
    }

    fn drop(&mut self, stream: Resource<ResolveAddressStream>) -> wasmtime::Result<()> {
        self.lookups.held.remove(&stream.rep());
        if self.is_pending(stream.rep())? {
            self.lookups.given_up.push(stream.rep());
            return Ok(());
        }
        HostResolveAddressStream::drop(&mut self.inner, stream)
    }
}

/// An address of the interface's.
fn address(address: IpAddress) -> IpAddr {
    match address {
        IpAddress::Ipv4((a, b, c, d)) => IpAddr::from([a, b, c, d]),
        IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => IpAddr::from([a, b, c, d, e, f, g, h]),
    }
}
