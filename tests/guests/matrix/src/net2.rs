//! The network by WASI 0.2.

use std::net::{IpAddr, SocketAddr};

use wasip2::io::streams::{InputStream, OutputStream};
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::{resolve_addresses, ResolveAddressStream};
use wasip2::sockets::network::{
    ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress, Network,
};
use wasip2::sockets::tcp_create_socket::{create_tcp_socket, TcpSocket};
use wasip2::sockets::udp::{IncomingDatagramStream, OutgoingDatagram, OutgoingDatagramStream, UdpSocket};
use wasip2::sockets::udp_create_socket::create_udp_socket;

use crate::driver::{address, list, ok, Outcome, Step};

/// The network and the sockets that stay open.
pub struct Sockets {
    network: Network,
    connected: Vec<(InputStream, OutputStream, TcpSocket)>,
    tcp: Vec<TcpSocket>,
    udp: Vec<UdpSocket>,
}

fn error(code: ErrorCode) -> String {
    code.name().to_string()
}

fn at(stage: &str) -> impl Fn(ErrorCode) -> String + '_ {
    move |code| format!("{stage}{}", code.name())
}

fn family(address: SocketAddr) -> IpAddressFamily {
    if address.is_ipv4() { IpAddressFamily::Ipv4 } else { IpAddressFamily::Ipv6 }
}

fn remote(address: SocketAddr) -> IpSocketAddress {
    let port = address.port();
    match address.ip() {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: (a, b, c, d) })
        }
        IpAddr::V6(v6) => {
            let [a, b, c, d, e, f, g, h] = v6.segments();
            let address = (a, b, c, d, e, f, g, h);
            IpSocketAddress::Ipv6(Ipv6SocketAddress { port, flow_info: 0, address, scope_id: 0 })
        }
    }
}

fn plain(address: IpAddress) -> IpAddr {
    match address {
        IpAddress::Ipv4((a, b, c, d)) => IpAddr::from([a, b, c, d]),
        IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => IpAddr::from([a, b, c, d, e, f, g, h]),
    }
}

impl Sockets {
    pub fn new() -> Sockets {
        Sockets { network: instance_network(), connected: Vec::new(), tcp: Vec::new(), udp: Vec::new() }
    }

    /// Takes a step, if it is one of the network's.
    pub fn perform(&mut self, step: &Step) -> Option<Outcome> {
        Some(match step.op.as_str() {
            "socket" => self.socket(step.text(0)),
            "sockets-many" => self.many(step.number(0)),
            "lookups-many" => Ok(look_up_many(&self.network, step.text(0), step.number(1))),
            "connect" => address(step.text(0)).and_then(|to| self.connect(to)).map(ok),
            "connect-early" => address(step.text(0)).and_then(|to| self.connect_early(to)),
            "lookup" => self.look_up(step.text(0)).map(|found| {
                if found.is_empty() { "none".to_string() } else { "ok".to_string() }
            }),
            "answers" => self.look_up(step.text(0)).map(|found| list(found.iter().map(|a| a.to_string()).collect())),
            "dial" => self.dial(step.text(0), step.number(1) as u16),
            "bind" => address(step.text(0)).and_then(|local| bind(&self.network, local, "").map(ok)),
            "listen" => address(step.text(0)).and_then(|local| listen(&self.network, local)).map(|socket| {
                self.tcp.push(socket);
                "ok".to_string()
            }),
            "accept" => address(step.text(0)).and_then(|local| self.accept(local)),
            "udp-bind" => address(step.text(0)).and_then(|local| udp(&self.network, local)).map(|socket| {
                self.udp.push(socket);
                "ok".to_string()
            }),
            "send" | "send-connected" | "send-many" => self.send(step),
            "echo" | "send-from" => self.echo(step),
            _ => return None,
        })
    }

    fn socket(&mut self, kind: &str) -> Outcome {
        if kind == "udp" {
            self.udp.push(create_udp_socket(IpAddressFamily::Ipv4).map_err(error)?);
        } else {
            self.tcp.push(create_tcp_socket(IpAddressFamily::Ipv4).map_err(error)?);
        }
        Ok("ok".to_string())
    }

    fn many(&mut self, count: u64) -> Outcome {
        for opened in 0..count {
            if let Err(why) = self.socket("tcp") {
                return Ok(format!("{opened}:{why}"));
            }
        }
        Ok(format!("{count}:ok"))
    }

    fn connect(&mut self, to: SocketAddr) -> Result<(), String> {
        let socket = create_tcp_socket(family(to)).map_err(at("socket:"))?;
        self.connect_with(socket, to)
    }

    /// By a socket that an earlier step made.
    fn connect_early(&mut self, to: SocketAddr) -> Outcome {
        let socket = self.tcp.pop().ok_or("no-socket")?;
        self.connect_with(socket, to).map(ok)
    }

    fn connect_with(&mut self, socket: TcpSocket, to: SocketAddr) -> Result<(), String> {
        socket.start_connect(&self.network, remote(to)).map_err(error)?;
        let ready = socket.subscribe();
        let (input, output) = loop {
            match socket.finish_connect() {
                Err(ErrorCode::WouldBlock) => ready.block(),
                connected => break connected.map_err(error)?,
            }
        };
        drop(ready);
        self.connected.push((input, output, socket));
        Ok(())
    }

    pub fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        let stream = resolve_addresses(&self.network, name).map_err(error)?;
        let ready = stream.subscribe();
        let mut found = Vec::new();
        loop {
            match stream.resolve_next_address() {
                Ok(Some(answer)) => found.push(plain(answer)),
                Ok(None) => return Ok(found),
                Err(ErrorCode::WouldBlock) => ready.block(),
                Err(code) => return Err(error(code)),
            }
        }
    }

    fn dial(&mut self, name: &str, port: u16) -> Outcome {
        let found = self.look_up(name).map_err(|why| format!("lookup:{why}"))?;
        let mut last = Err("none".to_string());
        for address in found {
            last = self.connect(SocketAddr::new(address, port)).map(ok);
            if last.is_ok() {
                break;
            }
        }
        last
    }

    /// Listens, connects to it, and takes the connection.
    fn accept(&mut self, local: SocketAddr) -> Outcome {
        let listening = listen(&self.network, local)?;
        self.connect(local).map_err(|why| format!("connect:{why}"))?;
        let ready = listening.subscribe();
        let accepted = loop {
            match listening.accept() {
                Err(ErrorCode::WouldBlock) => ready.block(),
                accepted => break accepted.map_err(at("accept:"))?,
            }
        };
        std::mem::forget(accepted);
        Ok("ok".to_string())
    }

    /// Sends a datagram to each of some addresses, from a socket that is bound to
    /// nothing in particular.
    fn send(&mut self, step: &Step) -> Outcome {
        let to: Result<Vec<SocketAddr>, String> = (0..step.args.len()).map(|n| address(step.text(n))).collect();
        let to = to?;
        let first = *to.first().ok_or("no-address")?;
        let local = SocketAddr::new(if first.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() }, 0);
        let socket = udp(&self.network, local)?;
        let connected = step.op == "send-connected";
        let peer = connected.then(|| remote(first));
        let (_incoming, outgoing) = socket.stream(peer).map_err(at("connect:"))?;
        let datagrams: Vec<OutgoingDatagram> = to
            .iter()
            .map(|to| OutgoingDatagram { data: b"x".to_vec(), remote_address: (!connected).then(|| remote(*to)) })
            .collect();
        match send_all(&outgoing, &datagrams).map_err(error)? {
            sent if sent == datagrams.len() as u64 => Ok("ok".to_string()),
            sent => Ok(format!("{sent}-sent")),
        }
    }

    /// Sends a datagram, and waits for one in answer; `send-from` is bound to its
    /// second address before, and waits for nothing.
    fn echo(&mut self, step: &Step) -> Outcome {
        let to = address(step.text(0))?;
        let local = if step.op == "echo" { "0.0.0.0:0" } else { step.text(1) };
        let socket = udp(&self.network, address(local)?)?;
        let (incoming, outgoing): (IncomingDatagramStream, OutgoingDatagramStream) =
            socket.stream(None).map_err(at("stream:"))?;
        let datagram = OutgoingDatagram { data: b"x".to_vec(), remote_address: Some(remote(to)) };
        send_all(&outgoing, &[datagram]).map_err(error)?;
        if step.op == "send-from" {
            return Ok("ok".to_string());
        }
        let ready = incoming.subscribe();
        loop {
            let received = incoming.receive(1).map_err(at("receive:"))?;
            if !received.is_empty() {
                return Ok("ok".to_string());
            }
            ready.block();
        }
    }
}

fn look_up_many(network: &Network, name: &str, count: u64) -> String {
    let mut held: Vec<ResolveAddressStream> = Vec::new();
    while (held.len() as u64) < count {
        match resolve_addresses(network, name) {
            Ok(stream) => held.push(stream),
            Err(code) => return format!("{}:{}", held.len(), code.name()),
        }
    }
    format!("{}:ok", held.len())
}

/// Binds a socket; `stage` stands before what fails of that.
fn bind(network: &Network, local: SocketAddr, stage: &str) -> Result<TcpSocket, String> {
    let socket = create_tcp_socket(family(local)).map_err(at("socket:"))?;
    socket.start_bind(network, remote(local)).map_err(at(stage))?;
    let ready = socket.subscribe();
    loop {
        match socket.finish_bind() {
            Err(ErrorCode::WouldBlock) => ready.block(),
            bound => break bound.map_err(at(stage))?,
        }
    }
    drop(ready);
    Ok(socket)
}

fn listen(network: &Network, local: SocketAddr) -> Result<TcpSocket, String> {
    let socket = bind(network, local, "bind:")?;
    socket.start_listen().map_err(error)?;
    let ready = socket.subscribe();
    loop {
        match socket.finish_listen() {
            Err(ErrorCode::WouldBlock) => ready.block(),
            listening => break listening.map_err(error)?,
        }
    }
    drop(ready);
    Ok(socket)
}

fn udp(network: &Network, local: SocketAddr) -> Result<UdpSocket, String> {
    let socket = create_udp_socket(family(local)).map_err(at("socket:"))?;
    socket.start_bind(network, remote(local)).map_err(at("bind:"))?;
    let ready = socket.subscribe();
    loop {
        match socket.finish_bind() {
            Err(ErrorCode::WouldBlock) => ready.block(),
            bound => break bound.map_err(at("bind:"))?,
        }
    }
    drop(ready);
    Ok(socket)
}

fn send_all(outgoing: &OutgoingDatagramStream, datagrams: &[OutgoingDatagram]) -> Result<u64, ErrorCode> {
    let ready = outgoing.subscribe();
    while outgoing.check_send()? < datagrams.len() as u64 {
        ready.block();
    }
    outgoing.send(datagrams)
}
