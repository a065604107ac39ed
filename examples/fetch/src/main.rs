//! Fetches pages over HTTP, and says of each what came of it.
//!
//! `fetch http://localhost:8080/ http://192.0.2.1/`: a page's first line, or why
//! it could not be had. Sockets are those of WASI 0.2; the manifest says where
//! they may lead.

use std::process::ExitCode;

use wasip2::io::streams::{InputStream, OutputStream, StreamError};
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::resolve_addresses;
use wasip2::sockets::network::{ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress};
use wasip2::sockets::network::{Ipv4SocketAddress, Ipv6SocketAddress, Network};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;

/// Bytes of an answer that are read.
const MAX_ANSWER: usize = 64 * 1024;

fn main() -> ExitCode {
    let network = instance_network();
    let mut code = ExitCode::SUCCESS;
    for url in std::env::args().skip(1) {
        match fetch(&network, &url) {
            Ok(status) => println!("{url}: {status}"),
            Err(why) => {
                println!("{url}: {why}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

/// The first line of what answers at a URL.
fn fetch(network: &Network, url: &str) -> Result<String, String> {
    let rest = url.strip_prefix("http://").ok_or("not an http:// URL")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| "not a port")?),
        _ => (authority, 80),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut last = Err(format!("{host} has no address"));
    for address in look_up(network, host)? {
        let answer = connect(network, address, port).and_then(|(input, output)| {
            let request = format!("GET /{path} HTTP/1.0\r\nHost: {authority}\r\n\r\n");
            send(&output, request.as_bytes()).map_err(|e| format!("sending: {e}"))?;
            let answer = receive(&input).map_err(|e| format!("receiving: {e}"))?;
            let answer = String::from_utf8_lossy(&answer).into_owned();
            Ok(answer.lines().next().unwrap_or_default().to_string())
        });
        match answer {
            Ok(status) => return Ok(status),
            Err(why) => last = Err(why),
        }
    }
    last
}

fn look_up(network: &Network, host: &str) -> Result<Vec<IpAddress>, String> {
    let said = |code: ErrorCode| format!("looking {host} up: {}", name(code));
    let stream = resolve_addresses(network, host).map_err(said)?;
    let ready = stream.subscribe();
    let mut addresses = Vec::new();
    loop {
        match stream.resolve_next_address() {
            Ok(Some(address)) => addresses.push(address),
            Ok(None) => return Ok(addresses),
            Err(ErrorCode::WouldBlock) => ready.block(),
            Err(code) => return Err(said(code)),
        }
    }
}

fn connect(network: &Network, address: IpAddress, port: u16) -> Result<(InputStream, OutputStream), String> {
    let (family, remote) = match address {
        IpAddress::Ipv4(address) => (IpAddressFamily::Ipv4, IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address })),
        IpAddress::Ipv6(address) => (
            IpAddressFamily::Ipv6,
            IpSocketAddress::Ipv6(Ipv6SocketAddress { port, address, flow_info: 0, scope_id: 0 }),
        ),
    };
    let said = |code: ErrorCode| format!("connecting: {}", name(code));
    let socket = create_tcp_socket(family).map_err(said)?;
    socket.start_connect(network, remote).map_err(said)?;
    let ready = socket.subscribe();
    let streams = loop {
        match socket.finish_connect() {
            Err(ErrorCode::WouldBlock) => ready.block(),
            connected => break connected.map_err(said)?,
        }
    };
    drop(ready);
    // The streams are the socket's: it stays open with them until the end.
    std::mem::forget(socket);
    Ok(streams)
}

fn send(output: &OutputStream, bytes: &[u8]) -> Result<(), StreamError> {
    for part in bytes.chunks(4096) {
        output.blocking_write_and_flush(part)?;
    }
    Ok(())
}

fn receive(input: &InputStream) -> Result<Vec<u8>, StreamError> {
    let mut answer = Vec::new();
    while answer.len() < MAX_ANSWER {
        match input.blocking_read(4096) {
            Ok(bytes) => answer.extend(bytes),
            Err(StreamError::Closed) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}

/// A code as WIT writes it.
fn name(code: ErrorCode) -> &'static str {
    code.name()
}
