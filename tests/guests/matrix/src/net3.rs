//! The network by WASI 0.3.

use std::net::{IpAddr, SocketAddr};

use wasip3::sockets::ip_name_lookup::resolve_addresses;
use wasip3::sockets::types::{
    ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress, TcpSocket, UdpSocket,
};

use crate::driver::{address, kebab, list, ok, Outcome, Step};

/// Sockets that stay open.
#[derive(Default)]
pub struct Sockets {
    tcp: Vec<TcpSocket>,
    udp: Vec<UdpSocket>,
}

fn error(code: ErrorCode) -> String {
    kebab(&format!("{code:?}"))
}

fn at(stage: &str) -> impl Fn(ErrorCode) -> String + '_ {
    move |code| format!("{stage}{}", error(code))
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

/// The addresses of a name.
pub async fn look_up(name: &str) -> Result<Vec<IpAddr>, String> {
    match resolve_addresses(name.to_string()).await {
        Ok(found) => Ok(found.into_iter().map(plain).collect()),
        Err(code) => Err(kebab(&format!("{code:?}"))),
    }
}

impl Sockets {
    /// Takes a step, if it is one of the network's.
    pub async fn perform(&mut self, step: &Step) -> Option<Outcome> {
        Some(match step.op.as_str() {
            "socket" => self.socket(step.text(0)),
            "sockets-many" => self.many(step.number(0)),
            "connect" => self.connect(step.text(0)).await.map(ok),
            "connect-early" => self.connect_early(step.text(0)).await,
            "lookup" => look_up(step.text(0)).await.map(|found| {
                if found.is_empty() { "none".to_string() } else { "ok".to_string() }
            }),
            "answers" => look_up(step.text(0)).await.map(|found| list(found.iter().map(|a| a.to_string()).collect())),
            "dial" => self.dial(step.text(0), step.number(1) as u16).await,
            "bind" => bind(step.text(0), "").map(ok),
            "listen" => self.listen(step.text(0)),
            "accept" => self.accept(step.text(0)).await,
            "udp-bind" => udp(step.text(0)).map(|socket| {
                self.udp.push(socket);
                "ok".to_string()
            }),
            "send" | "send-connected" | "send-many" => send(step).await,
            "echo" | "send-from" => echo(step).await,
            _ => return None,
        })
    }

    fn socket(&mut self, kind: &str) -> Outcome {
        if kind == "udp" {
            self.udp.push(UdpSocket::create(IpAddressFamily::Ipv4).map_err(error)?);
        } else {
            self.tcp.push(TcpSocket::create(IpAddressFamily::Ipv4).map_err(error)?);
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

    async fn connect(&mut self, to: &str) -> Result<(), String> {
        let to = address(to)?;
        let socket = TcpSocket::create(family(to)).map_err(at("socket:"))?;
        socket.connect(remote(to)).await.map_err(error)?;
        self.tcp.push(socket);
        Ok(())
    }

    /// By a socket that an earlier step made.
    async fn connect_early(&mut self, to: &str) -> Outcome {
        let socket = self.tcp.pop().ok_or("no-socket")?;
        socket.connect(remote(address(to)?)).await.map(ok).map_err(error)
    }

    async fn dial(&mut self, name: &str, port: u16) -> Outcome {
        let found = look_up(name).await.map_err(|why| format!("lookup:{why}"))?;
        let mut last = Err("none".to_string());
        for address in found {
            last = self.connect(&SocketAddr::new(address, port).to_string()).await.map(ok);
            if last.is_ok() {
                break;
            }
        }
        last
    }

    fn listen(&mut self, local: &str) -> Outcome {
        let socket = bind(local, "bind:")?;
        // Dropped, the stream of connections would end the listening.
        std::mem::forget(socket.listen().map_err(error)?);
        self.tcp.push(socket);
        Ok("ok".to_string())
    }

    /// Listens, connects to it, and takes the connection.
    async fn accept(&mut self, local: &str) -> Outcome {
        let socket = bind(local, "bind:")?;
        let mut connections = socket.listen().map_err(at("listen:"))?;
        self.connect(local).await.map_err(|why| format!("connect:{why}"))?;
        let accepted = connections.next().await;
        Ok(if accepted.is_some() { "ok" } else { "accept:end" }.to_string())
    }
}

/// Binds a socket; `stage` stands before what fails of that.
fn bind(local: &str, stage: &str) -> Result<TcpSocket, String> {
    let local = address(local)?;
    let socket = TcpSocket::create(family(local)).map_err(at("socket:"))?;
    socket.bind(remote(local)).map_err(at(stage))?;
    Ok(socket)
}

fn udp(local: &str) -> Result<UdpSocket, String> {
    let local = address(local)?;
    let socket = UdpSocket::create(family(local)).map_err(at("socket:"))?;
    socket.bind(remote(local)).map_err(at("bind:"))?;
    Ok(socket)
}

/// Sends a datagram to each of some addresses, from a socket that is bound to
/// nothing in particular.
async fn send(step: &Step) -> Outcome {
    let any = if step.text(0).starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = udp(any)?;
    let connected = step.op == "send-connected";
    if connected {
        socket.connect(remote(address(step.text(0))?)).map_err(at("connect:"))?;
    }
    for n in 0..step.args.len() {
        let to = remote(address(step.text(n))?);
        let sent = socket.send(b"x".to_vec(), (!connected).then_some(to)).await;
        match sent {
            Ok(()) => {}
            Err(_) if n > 0 => return Ok(format!("{n}-sent")),
            Err(code) => return Err(error(code)),
        }
    }
    Ok("ok".to_string())
}

/// Sends a datagram, and waits for one in answer; `send-from` is bound to its
/// second address before, and waits for nothing.
async fn echo(step: &Step) -> Outcome {
    let local = if step.op == "echo" { "0.0.0.0:0" } else { step.text(1) };
    let socket = udp(local)?;
    let to = remote(address(step.text(0))?);
    socket.send(b"x".to_vec(), Some(to)).await.map_err(error)?;
    if step.op == "echo" {
        socket.receive().await.map_err(at("receive:"))?;
    }
    Ok("ok".to_string())
}
