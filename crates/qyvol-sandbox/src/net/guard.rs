//! Decides each use of the network of one run.
//!
//! There can be several layers (the manifest, the host's policy), and each must allow
//! a use. The addresses of a rule with a name are known only after the guest has
//! looked the name up: the answers that may be used are then remembered, and
//! connections are checked against them. What the name resolves to later doesn't
//! matter.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use super::endpoint::{LOCALHOST, Port, parse_name};
use super::special::is_special;
use super::{Endpoint, Net, NetRules};

/// Maximum number of addresses known by name; the oldest are forgotten.
const MAX_PINNED: usize = 1024;
/// Maximum number of remembered senders of datagrams, to whom datagrams may be sent.
const MAX_PEERS: usize = 1024;

/// What a socket is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetUse {
    /// Binding a TCP socket to an address; before it connects, to any that is free.
    TcpBind,
    /// Listening for connections at an address.
    TcpListen,
    /// Accepting a connection from an address.
    TcpAccept,
    /// Connecting to an address.
    TcpConnect,
    /// Binding a UDP socket to an address; before it sends, to any that is free.
    UdpBind,
    /// Sending a datagram to an address.
    UdpSend,
    /// Receiving a datagram from an address.
    UdpReceive,
}

/// What one run may reach.
#[derive(Debug)]
pub struct NetGuard {
    layers: Vec<Net>,
    /// An address that a name resolved to, the layer whose rule has the name, and the
    /// rule's port.
    pinned: VecDeque<(IpAddr, usize, Port)>,
    /// The senders of datagrams that were received because the guest may listen.
    peers: VecDeque<SocketAddr>,
}

impl NetGuard {
    /// A guard that allows what all of `layers` allow.
    pub fn new(layers: Vec<Net>) -> NetGuard {
        NetGuard {
            layers,
            pinned: VecDeque::new(),
            peers: VecDeque::new(),
        }
    }

    /// Whether every use is denied.
    pub fn denies_all(&self) -> bool {
        self.layers.is_empty() || self.layers.contains(&Net::None)
    }

    /// Whether every use is allowed.
    pub fn allows_all(&self) -> bool {
        !self.layers.is_empty() && self.layers.iter().all(|layer| *layer == Net::All)
    }

    /// Whether a name may be looked up. For an address, no query is sent.
    pub fn allows_lookup(&self, name: &str) -> bool {
        if name.parse::<IpAddr>().is_ok() {
            return !self.denies_all();
        }
        let name = normal(name);
        let is_listed = |rules: &NetRules| {
            let includes = |endpoint: &Endpoint| name.as_ref().is_some_and(|name| endpoint.includes_name(name));
            rules.connect().iter().any(includes)
        };
        !self.layers.is_empty()
            && self.layers.iter().all(|layer| match layer {
                Net::None => false,
                Net::All => true,
                Net::Only(rules) => is_listed(rules),
            })
    }

    /// Whether an answer to the lookup of a name may be given to the guest. If so, the
    /// guest can connect to it from now on, at the ports of the name's rules.
    pub fn accept_answer(&mut self, name: &str, answer: IpAddr) -> bool {
        let is_address = name.parse::<IpAddr>().is_ok();
        let address = answer.to_canonical();
        let name = normal(name).unwrap_or_default();
        let accepts = |layer: &Net| match layer {
            Net::None => false,
            Net::All => true,
            Net::Only(_) if is_address => true,
            Net::Only(rules) => {
                let by_number = rules
                    .connect()
                    .iter()
                    .any(|endpoint| endpoint.includes_address(address));
                by_number || may_be_named(&name, address)
            }
        };
        let accepted = self.layers.iter().all(accepts);
        if accepted && !is_address {
            self.pin(&name, address);
        }
        accepted
    }

    /// Whether an address may be used.
    pub fn allows(&mut self, address: SocketAddr, of: NetUse) -> bool {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        if self.layers.is_empty() {
            return false;
        }
        // Any that is free: the wildcard address with port 0.
        let is_free = address.ip().is_unspecified() && address.port() == 0;
        match of {
            NetUse::TcpBind if is_free => !self.denies_all(),
            // A UDP socket receives datagrams as soon as it is bound. So a guest with a
            // `listen` list may bind each one only to an entry of that list.
            NetUse::UdpBind if is_free && !self.has_listen_list() => !self.denies_all(),
            NetUse::TcpBind | NetUse::UdpBind | NetUse::TcpListen => self.may_listen(address),
            NetUse::TcpAccept => self.listens(),
            NetUse::TcpConnect => self.may_connect(address),
            NetUse::UdpSend => self.may_connect(address) || self.peers.contains(&address),
            NetUse::UdpReceive if self.may_connect(address) => true,
            NetUse::UdpReceive => {
                let accepted = self.listens();
                if accepted && !self.peers.contains(&address) {
                    push_bounded(&mut self.peers, address, MAX_PEERS);
                }
                accepted
            }
        }
    }

    /// Whether a layer has a `listen` list.
    fn has_listen_list(&self) -> bool {
        let has_list = |layer: &Net| matches!(layer, Net::Only(rules) if !rules.listen().is_empty());
        self.layers.iter().any(has_list)
    }

    /// Whether the guest may listen anywhere.
    fn listens(&self) -> bool {
        self.layers.iter().all(|layer| match layer {
            Net::None => false,
            Net::All => true,
            Net::Only(rules) => !rules.listen().is_empty(),
        })
    }

    fn may_connect(&self, address: SocketAddr) -> bool {
        self.layers.iter().enumerate().all(|(layer, net)| match net {
            Net::None => false,
            Net::All => true,
            Net::Only(rules) => {
                let is_pinned = |(ip, of, port): &(IpAddr, usize, Port)| {
                    *of == layer && *ip == address.ip() && port.includes(address.port())
                };
                rules.connect().iter().any(|endpoint| endpoint.includes(address)) || self.pinned.iter().any(is_pinned)
            }
        })
    }

    fn may_listen(&self, address: SocketAddr) -> bool {
        self.layers.iter().all(|layer| match layer {
            Net::None => false,
            Net::All => true,
            Net::Only(rules) => rules.listen().iter().any(|endpoint| endpoint.includes(address)),
        })
    }

    /// Remembers that a name resolved to an address.
    fn pin(&mut self, name: &str, address: IpAddr) {
        for (layer, net) in self.layers.iter().enumerate() {
            let Net::Only(rules) = net else { continue };
            for endpoint in rules.connect().iter().filter(|endpoint| endpoint.includes_name(name)) {
                let pin = (address, layer, endpoint.port);
                if may_be_named(name, address) && !self.pinned.contains(&pin) {
                    push_bounded(&mut self.pinned, pin, MAX_PINNED);
                }
            }
        }
    }
}

/// Whether a rule for a name also covers this address.
fn may_be_named(name: &str, address: IpAddr) -> bool {
    !is_special(address) || (name == LOCALHOST && address.is_loopback())
}

/// A name in the form that rules have. Text that is not a name in that form matches no
/// rule, whatever a resolver would make of it.
fn normal(name: &str) -> Option<String> {
    parse_name(name.strip_suffix('.').unwrap_or(name)).ok()
}

fn push_bounded<T>(queue: &mut VecDeque<T>, item: T, limit: usize) {
    if queue.len() >= limit {
        queue.pop_front();
    }
    queue.push_back(item);
}
