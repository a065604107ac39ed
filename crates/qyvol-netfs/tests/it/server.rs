//! A small HTTP/1.1 server whose answers can be spoilt one by one.
//!
//! Every request is noted before it is answered. A fault sees it and says what becomes
//! of it; without one the site answers.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::site::Site;

/// A request with its body.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query, as they were sent.
    pub(crate) target: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// How many requests of this method and path came by now, with this one.
    pub(crate) nth: usize,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    pub(crate) fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// Whether it has this method and path.
    pub(crate) fn is(&self, method: &str, path: &str) -> bool {
        self.method == method && self.path() == path
    }
}

/// How an answer's body is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Framing {
    /// With its length.
    Length,
    /// In chunks.
    Chunked,
    /// Neither: the connection ends with it.
    Bare,
    /// With another length than it has; closed after the body.
    Claim(u64),
    /// So many bytes of it, then closed.
    Cut(usize),
    /// Not at all: the connection ends.
    Lost,
    /// In chunks, over and over.
    Endless,
    /// Byte by byte, with this wait between them.
    Drip(Duration),
    /// Nothing after the head.
    Silent,
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

    pub(crate) fn without(mut self, name: &str) -> Response {
        self.headers.retain(|(have, _)| !have.eq_ignore_ascii_case(name));
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

/// What becomes of a request.
pub(crate) enum Reaction {
    /// The site answers.
    Serve,
    /// This is the answer.
    Answer(Response),
    /// The site answers, and this is done to the answer.
    Edit(Box<dyn FnOnce(Response) -> Response>),
    /// Just these bytes are sent.
    Raw(Vec<u8>),
}

impl Reaction {
    pub(crate) fn edit(change: impl FnOnce(Response) -> Response + 'static) -> Reaction {
        Reaction::Edit(Box::new(change))
    }

    pub(crate) fn status(status: u16) -> Reaction {
        Reaction::Answer(Response::new(status))
    }
}

type Fault = dyn Fn(&Request, &mut Site) -> Reaction + Send + Sync;

/// A server with its site. When it is dropped, connections are refused.
pub(crate) struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
}

struct Shared {
    site: Mutex<Site>,
    fault: Mutex<Arc<Fault>>,
    seen: Mutex<Vec<Request>>,
    stop: AtomicBool,
}

impl Server {
    /// A site without faults.
    pub(crate) fn new(site: Site) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            site: Mutex::new(site),
            fault: Mutex::new(Arc::new(|_, _| Reaction::Serve)),
            seen: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let of_thread = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = of_thread.clone();
                if shared.stop.load(Ordering::SeqCst) {
                    return;
                }
                // A client that is gone is no concern of the server's.
                thread::spawn(move || shared.talk(stream.unwrap()));
            }
        });
        Server { shared, address }
    }

    /// From now on, this happens to requests.
    pub(crate) fn fault(&self, fault: impl Fn(&Request, &mut Site) -> Reaction + Send + Sync + 'static) {
        *self.shared.fault.lock().unwrap() = Arc::new(fault);
    }

    /// No more faults.
    pub(crate) fn heal(&self) {
        self.fault(|_, _| Reaction::Serve);
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn site<T>(&self, work: impl FnOnce(&mut Site) -> T) -> T {
        work(&mut self.shared.site.lock().unwrap())
    }

    /// Every request so far.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// `METHOD path` of every request so far, which is forgotten.
    pub(crate) fn log(&self) -> Vec<String> {
        let seen = std::mem::take(&mut *self.shared.seen.lock().unwrap());
        seen.iter()
            .map(|request| format!("{} {}", request.method, request.path()))
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for connections, which then closes its socket.
        drop(TcpStream::connect(self.address));
        while TcpStream::connect(self.address).is_ok() {
            thread::yield_now();
        }
    }
}

impl Shared {
    /// One connection; none when it is over.
    fn talk(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut out = stream;
        out.set_nodelay(true).ok()?;
        loop {
            let mut request = read_head(&mut reader)?;
            let length: u64 = request.header("content-length").map_or(0, |v| v.parse().unwrap());
            (&mut reader).take(length).read_to_end(&mut request.body).ok()?;
            if self.stop.load(Ordering::SeqCst) {
                return None;
            }
            {
                let mut seen = self.seen.lock().unwrap();
                let same = |s: &&Request| s.method == request.method && s.path() == request.path();
                request.nth = seen.iter().filter(same).count() + 1;
                seen.push(request.clone());
            }
            let fault = self.fault.lock().unwrap().clone();
            let response = {
                let mut site = self.site.lock().unwrap();
                match fault(&request, &mut site) {
                    Reaction::Serve => site.answer(&request),
                    Reaction::Answer(response) => response,
                    Reaction::Edit(change) => change(site.answer(&request)),
                    Reaction::Raw(bytes) => {
                        out.write_all(&bytes).ok()?;
                        return out.shutdown(Shutdown::Both).ok();
                    }
                }
            };
            send(&mut out, &mut reader, &request, &response)?;
        }
    }
}

fn read_head(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let mut request = Request {
        method: words.next()?.to_string(),
        target: words.next()?.to_string(),
        ..Request::default()
    };
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Some(request);
        }
        let (name, value) = line.split_once(':')?;
        request
            .headers
            .insert(name.to_ascii_lowercase(), value.trim().to_string());
    }
}

/// Sends an answer; none when the connection is not to be used any more.
fn send(out: &mut TcpStream, reader: &mut BufReader<TcpStream>, asked: &Request, answer: &Response) -> Option<()> {
    if answer.framing == Framing::Lost {
        out.shutdown(Shutdown::Both).ok()?;
        return None;
    }
    let mut head = format!("HTTP/1.1 {} X\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let is_chunked = matches!(answer.framing, Framing::Chunked | Framing::Endless);
    if is_chunked {
        head.push_str("transfer-encoding: chunked\r\n");
    } else if answer.framing == Framing::Bare {
        head.push_str("connection: close\r\n");
    } else if !answer.headers.iter().any(|(name, _)| name == "content-length") && answer.status != 304 {
        let length = match answer.framing {
            Framing::Claim(length) => length,
            _ => answer.body.len() as u64,
        };
        head.push_str(&format!("content-length: {length}\r\n"));
    }
    head.push_str("\r\n");
    out.write_all(head.as_bytes()).ok()?;
    let is_empty = asked.method == "HEAD" || answer.status == 304;
    let body: &[u8] = if is_empty { b"" } else { &answer.body };
    let chunk = |out: &mut TcpStream| {
        write!(out, "{:x}\r\n", body.len()).ok()?;
        out.write_all(body).ok()?;
        out.write_all(b"\r\n").ok()
    };
    match answer.framing {
        _ if is_empty => Some(()),
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
        Framing::Claim(_) | Framing::Bare => {
            out.write_all(body).ok()?;
            out.shutdown(Shutdown::Both).ok()?;
            None
        }
        Framing::Drip(wait) => {
            for byte in body {
                out.write_all(&[*byte]).ok()?;
                thread::sleep(wait);
            }
            Some(())
        }
        Framing::Silent => {
            // Until the other side has had enough.
            let _ = reader.read_to_end(&mut Vec::new());
            None
        }
        _ => out.write_all(body).ok(),
    }
}
