//! A small HTTP/1.1 server that can inject a fault into each answer.
//!
//! Every request is recorded before it is answered. A fault gets the head of a request and
//! decides the reaction; without one, the registry answers.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::registry::{self, Registry};

/// The head of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    pub(crate) method: String,
    /// As it was sent: path and query, or the absolute form for a proxy.
    pub(crate) target: String,
    pub(crate) headers: HashMap<String, String>,
    /// How many requests with this method and path were received, including this one.
    pub(crate) nth: usize,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Whether it has this method and a part of its target is this.
    pub(crate) fn is(&self, method: &str, part: &str) -> bool {
        self.method == method && self.target.contains(part)
    }
}

/// A request that was received.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) head: Head,
    /// Bytes of its body.
    pub(crate) body: usize,
    /// The first of these bytes.
    pub(crate) start: Vec<u8>,
}

/// How an answer's body is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Framing {
    /// With its length.
    Length,
    /// In chunks.
    Chunked,
    /// With another length than it has; closed after the body.
    Claim(u64),
    /// This many bytes of it, then closed.
    Cut(usize),
    /// Not at all: the connection ends.
    Lost,
    /// In chunks, over and over.
    Endless,
    /// Byte by byte, with this wait between them.
    Drip(Duration),
    /// The same from the first byte of the head on.
    DripHead(Duration),
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) framing: Framing,
}

impl Response {
    pub(crate) fn new(status: u16) -> Response {
        Response {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            framing: Framing::Length,
        }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Response {
        self.headers.retain(|(have, _)| !have.eq_ignore_ascii_case(name));
        self.headers.push((name.to_string(), value.into()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Response {
        self.body = body.into();
        self
    }

    pub(crate) fn framed(mut self, framing: Framing) -> Response {
        self.framing = framing;
        self
    }
}

/// The reaction to a request.
pub(crate) enum Reaction {
    /// The registry answers.
    Serve,
    /// This is the answer.
    Response(Response),
    /// The registry answers, and this edits the answer.
    Edit(Box<dyn FnOnce(Response) -> Response>),
    /// This much of the body is read and passed to the registry, then the connection ends.
    Break(usize),
    /// The connection ends without an answer.
    Close,
    /// This is the answer, and the body stays unread: the connection is reset.
    Reject(Response),
    /// Nothing more is ever sent.
    Silent,
    /// Nothing of the body is read for this long.
    Deaf(Duration),
    /// A proxy's `200`, after which the same connection is the registry's.
    Tunnel,
    /// Just these bytes are sent.
    Raw(Vec<u8>),
}

impl Reaction {
    pub(crate) fn edit(change: impl FnOnce(Response) -> Response + 'static) -> Reaction {
        Reaction::Edit(Box::new(change))
    }
}

type Fault = dyn Fn(&Head) -> Reaction + Send + Sync;

/// A server with its registry.
pub(crate) struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
}

struct Shared {
    registry: Mutex<Registry>,
    fault: Box<Fault>,
    seen: Mutex<Vec<Seen>>,
    connections: Mutex<usize>,
    stop: AtomicBool,
}

impl Server {
    /// A registry without faults.
    pub(crate) fn new(registry: Registry) -> Server {
        Server::faulty(registry, |_| Reaction::Serve)
    }

    pub(crate) fn faulty(registry: Registry, fault: impl Fn(&Head) -> Reaction + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            registry: Mutex::new(registry),
            fault: Box::new(fault),
            seen: Mutex::default(),
            connections: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        shared.registry.lock().unwrap().address = address.to_string();
        let of_thread = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                if of_thread.stop.load(Ordering::SeqCst) {
                    return;
                }
                let shared = of_thread.clone();
                *shared.connections.lock().unwrap() += 1;
                // A client that disconnected is no error.
                thread::spawn(move || shared.talk(stream.unwrap()));
            }
        });
        Server { shared, address }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn registry<T>(&self, work: impl FnOnce(&mut Registry) -> T) -> T {
        work(&mut self.shared.registry.lock().unwrap())
    }

    /// Every request so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// How many requests of this method have this in their target.
    pub(crate) fn count(&self, method: &str, part: &str) -> usize {
        self.seen().iter().filter(|s| s.head.is(method, part)).count()
    }

    pub(crate) fn connections(&self) -> usize {
        *self.shared.connections.lock().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for connections.
        drop(TcpStream::connect(self.address));
    }
}

impl Shared {
    /// The registry's answer; none to a body that broke off.
    fn answer(&self, head: &Head, body: &[u8], length: u64) -> Option<Response> {
        let mut registry = self.registry.lock().unwrap();
        if (body.len() as u64) < length {
            registry::part(&mut registry, head, body);
            return None;
        }
        Some(registry.answer(head, body))
    }

    /// One connection; none when it is over.
    fn talk(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut out = stream;
        // Head and body are sent one by one: the second must not wait.
        out.set_nodelay(true).ok()?;
        loop {
            let Some(mut head) = read_head(&mut reader) else {
                // For example, a server that receives TLS.
                return out.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").ok();
            };
            let place = {
                let mut seen = self.seen.lock().unwrap();
                let same = |s: &&Seen| s.head.method == head.method && s.head.path() == head.path();
                head.nth = seen.iter().filter(same).count() + 1;
                seen.push(Seen {
                    head: head.clone(),
                    body: 0,
                    start: Vec::new(),
                });
                seen.len() - 1
            };
            let length = head.header("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
            let mut body = Vec::new();
            let mut take = |reader: &mut BufReader<TcpStream>, n: u64| {
                let got = reader.take(n).read_to_end(&mut body);
                let seen = &mut self.seen.lock().unwrap()[place];
                seen.body = body.len();
                seen.start = body.iter().take(1024).copied().collect();
                got.ok()?;
                Some(body.clone())
            };
            match (self.fault)(&head) {
                Reaction::Serve => {
                    let body = take(&mut reader, length)?;
                    let answer = self.answer(&head, &body, length)?;
                    send(&mut out, &head, &answer)?;
                }
                Reaction::Reject(answer) => {
                    // Only the start of the body is taken.
                    take(&mut reader, length.min(1 << 16))?;
                    send(&mut out, &head, &answer)?;
                    return None;
                }
                Reaction::Edit(change) => {
                    let body = take(&mut reader, length)?;
                    let answer = self.answer(&head, &body, length)?;
                    send(&mut out, &head, &change(answer))?;
                }
                Reaction::Response(answer) => {
                    take(&mut reader, length)?;
                    send(&mut out, &head, &answer)?;
                }
                Reaction::Break(n) => {
                    let body = take(&mut reader, n as u64)?;
                    registry::part(&mut self.registry.lock().unwrap(), &head, &body);
                    return out.shutdown(Shutdown::Both).ok();
                }
                Reaction::Close => {
                    take(&mut reader, length)?;
                    return out.shutdown(Shutdown::Both).ok();
                }
                Reaction::Silent => {
                    // Until the other side closes.
                    let mut rest = Vec::new();
                    return reader.read_to_end(&mut rest).ok().map(|_| ());
                }
                Reaction::Deaf(wait) => {
                    thread::sleep(wait);
                    return None;
                }
                Reaction::Tunnel => out.write_all(b"HTTP/1.1 200 X\r\n\r\n").ok()?,
                Reaction::Raw(bytes) => {
                    take(&mut reader, length)?;
                    out.write_all(&bytes).ok()?;
                    return out.shutdown(Shutdown::Both).ok();
                }
            }
        }
    }
}

fn read_head(reader: &mut BufReader<TcpStream>) -> Option<Head> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let mut head = Head {
        method: words.next()?.to_string(),
        target: words.next()?.to_string(),
        ..Head::default()
    };
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Some(head);
        }
        let (name, value) = line.split_once(':')?;
        head.headers.insert(name.to_ascii_lowercase(), value.trim().to_string());
    }
}

/// Sends an answer; none when the connection is not to be used any more.
fn send(out: &mut TcpStream, asked: &Head, answer: &Response) -> Option<()> {
    if answer.framing == Framing::Lost {
        out.shutdown(Shutdown::Both).ok()?;
        return None;
    }
    let mut head = format!("HTTP/1.1 {} X\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let chunked = matches!(answer.framing, Framing::Chunked | Framing::Endless);
    if chunked {
        head.push_str("transfer-encoding: chunked\r\n");
    } else if !answer.headers.iter().any(|(name, _)| name == "content-length") {
        let length = match answer.framing {
            Framing::Claim(length) => length,
            _ => answer.body.len() as u64,
        };
        head.push_str(&format!("content-length: {length}\r\n"));
    }
    head.push_str("\r\n");
    let body: &[u8] = if asked.method == "HEAD" { b"" } else { &answer.body };
    let chunk = |out: &mut TcpStream| {
        write!(out, "{:x}\r\n", body.len()).ok()?;
        out.write_all(body).ok()?;
        out.write_all(b"\r\n").ok()
    };
    let drip = |out: &mut TcpStream, bytes: &[u8], wait: Duration| {
        for byte in bytes {
            out.write_all(&[*byte]).ok()?;
            thread::sleep(wait);
        }
        Some(())
    };
    if let Framing::DripHead(wait) = answer.framing {
        drip(out, head.as_bytes(), wait)?;
        return drip(out, body, wait);
    }
    out.write_all(head.as_bytes()).ok()?;
    match answer.framing {
        Framing::Chunked => {
            if !body.is_empty() {
                chunk(out)?;
            }
            out.write_all(b"0\r\n\r\n").ok()
        }
        Framing::Endless => loop {
            chunk(out)?;
        },
        Framing::Cut(n) => {
            out.write_all(body.get(..n).unwrap_or(body)).ok()?;
            out.shutdown(Shutdown::Both).ok()?;
            None
        }
        Framing::Claim(_) => {
            out.write_all(body).ok()?;
            out.shutdown(Shutdown::Both).ok()?;
            None
        }
        Framing::Drip(wait) => drip(out, body, wait),
        _ => out.write_all(body).ok(),
    }
}
