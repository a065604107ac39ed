//! A proxy between a client and a registry that counts bytes, and can cut every connection
//! after a number of bytes.
//!
//! Upwards it reads heads, to count requests and the bytes of uploads;
//! downwards it counts all bytes as they are, heads and manifests included. It
//! changes nothing of either. It can be as slow as a line is.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::http::Head;

/// A proxy before one registry, for as long as this value lives.
pub(super) struct Proxy {
    pub(super) address: String,
    shared: Arc<Shared>,
}

/// The transferred bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) requests: u64,
    /// Bytes of blobs that were sent to the registry.
    pub(super) sent: u64,
    /// Bytes that came from the registry.
    pub(super) received: u64,
}

/// What connections find after a cut.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    TheRegistry,
    /// Connections that end at once, until `reopen`.
    Nothing,
}

/// How slow the proxy is, in each direction.
#[derive(Clone, Copy)]
pub(super) struct Line {
    pub(super) bytes_per_second: u32,
    /// A request waits for this long: the way there and back.
    pub(super) round_trip: Duration,
}

/// One direction of a line, shared by all connections.
struct Pace {
    line: Option<Line>,
    /// When it has passed on everything so far.
    free: Mutex<Instant>,
}

impl Pace {
    fn new(line: Option<Line>) -> Pace {
        Pace {
            line,
            free: Mutex::new(Instant::now()),
        }
    }

    fn round_trip(&self) {
        if let Some(line) = self.line {
            thread::sleep(line.round_trip);
        }
    }

    /// Waits as long as these bytes take.
    fn pass(&self, bytes: usize) {
        let Some(line) = self.line else { return };
        let end = {
            let mut free = locked(&self.free);
            let takes = Duration::from_secs_f64(bytes as f64 / f64::from(line.bytes_per_second));
            *free = Instant::now().max(*free) + takes;
            *free
        };
        thread::sleep(end.saturating_duration_since(Instant::now()));
    }
}

struct Shared {
    target: String,
    up: Pace,
    down: Pace,
    requests: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    /// Count of received bytes at which everything is cut.
    cut: AtomicU64,
    close_after_cut: AtomicBool,
    closed: AtomicBool,
    stopped: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
    /// The first thing that could not be counted.
    problem: Mutex<Option<String>>,
}

impl Proxy {
    pub(super) fn start(target: &str) -> Result<Proxy, String> {
        Proxy::with_line(target, None)
    }

    /// A proxy that is as slow as this line.
    pub(super) fn with_line(target: &str, line: Option<Line>) -> Result<Proxy, String> {
        let failed = |e: io::Error| format!("starting a proxy: {e}");
        let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?.to_string();
        let shared = Arc::new(Shared {
            target: target.to_string(),
            up: Pace::new(line),
            down: Pace::new(line),
            requests: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            cut: AtomicU64::new(u64::MAX),
            close_after_cut: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            open: Mutex::default(),
            problem: Mutex::default(),
        });
        let ours = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if ours.stopped.load(SeqCst) {
                    return;
                }
                if !ours.closed.load(SeqCst) {
                    // The client notices a failed connection.
                    let _ = connect(&ours, client);
                }
            }
        });
        Ok(Proxy { address, shared })
    }

    /// The transferred bytes since the last call.
    pub(super) fn take(&self) -> Result<Counts, String> {
        if let Some(problem) = locked(&self.shared.problem).take() {
            return Err(problem);
        }
        Ok(Counts {
            requests: self.shared.requests.swap(0, SeqCst),
            sent: self.shared.sent.swap(0, SeqCst),
            received: self.shared.received.swap(0, SeqCst),
        })
    }

    /// Cuts all connections, once, as soon as this many bytes were received since the last
    /// `take`.
    pub(super) fn cut_after(&self, bytes: u64, then: After) {
        self.shared.close_after_cut.store(then == After::Nothing, SeqCst);
        self.shared.cut.store(bytes, SeqCst);
    }

    /// Whether a cut that was asked for has happened.
    pub(super) fn has_cut(&self) -> bool {
        self.shared.cut.load(SeqCst) == u64::MAX
    }

    pub(super) fn reopen(&self) {
        self.shared.closed.store(false, SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, SeqCst);
        self.shared.hang_up();
        // Wakes the listener, which then ends.
        let _ = TcpStream::connect(&self.address);
    }
}

fn locked<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn hang_up(&self) {
        for stream in locked(&self.open).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Counts bytes from the registry; how many of them still go through, and
    /// whether it ends there.
    fn receive(&self, n: u64) -> (u64, bool) {
        let before = self.received.fetch_add(n, SeqCst);
        let cut = self.cut.load(SeqCst);
        if before + n < cut || self.cut.swap(u64::MAX, SeqCst) == u64::MAX {
            return (n, false);
        }
        let through = cut.saturating_sub(before).min(n);
        // The rest was never delivered.
        self.received.fetch_sub(n - through, SeqCst);
        (through, true)
    }
}

fn connect(shared: &Arc<Shared>, client: TcpStream) -> io::Result<()> {
    let registry = TcpStream::connect(&shared.target)?;
    client.set_nodelay(true)?;
    registry.set_nodelay(true)?;
    locked(&shared.open).extend([client.try_clone()?, registry.try_clone()?]);
    let (from_client, from_registry) = (client.try_clone()?, registry.try_clone()?);
    let ours = shared.clone();
    thread::spawn(move || {
        if let Err(error) = upwards(&ours, from_client, &registry)
            && error.kind() == io::ErrorKind::InvalidData
        {
            locked(&ours.problem).get_or_insert(error.to_string());
        }
        let _ = registry.shutdown(Shutdown::Write);
    });
    let ours = shared.clone();
    thread::spawn(move || {
        let _ = downwards(&ours, from_registry, &client);
        let _ = client.shutdown(Shutdown::Both);
    });
    Ok(())
}

fn upwards(shared: &Shared, client: TcpStream, mut registry: &TcpStream) -> io::Result<()> {
    let mut client = BufReader::with_capacity(128 << 10, client);
    // A client that first tries TLS: the registry answers it.
    if !client.fill_buf()?.first().is_some_and(u8::is_ascii_uppercase) {
        return io::copy(&mut client, &mut registry).map(drop);
    }
    let uncounted = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    while let Some(head) = Head::read(&mut client)? {
        let body = head.body().map_err(uncounted)?;
        shared.requests.fetch_add(1, SeqCst);
        shared.up.round_trip();
        registry.write_all(head.text().as_bytes())?;
        let went = paced(&shared.up, &mut (&mut client).take(body), registry)?;
        if is_upload(&head) {
            shared.sent.fetch_add(went, SeqCst);
        }
    }
    Ok(())
}

/// Copies a body as fast as the line is.
fn paced(pace: &Pace, from: &mut impl Read, mut to: &TcpStream) -> io::Result<u64> {
    if pace.line.is_none() {
        return io::copy(from, &mut to);
    }
    let mut buffer = vec![0; 16 << 10];
    let mut went = 0;
    loop {
        let n = from.read(&mut buffer)?;
        if n == 0 {
            return Ok(went);
        }
        pace.pass(n);
        to.write_all(buffer.get(..n).unwrap_or_default())?;
        went += n as u64;
    }
}

/// Whether the request's body is of a blob.
fn is_upload(head: &Head) -> bool {
    matches!(head.method(), "POST" | "PUT" | "PATCH") && head.path().contains("/blobs/uploads")
}

fn downwards(shared: &Shared, mut registry: TcpStream, mut client: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        let n = registry.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        let (through, cut) = shared.receive(n as u64);
        let through = usize::try_from(through).unwrap_or(n);
        shared.down.pass(through);
        client.write_all(buffer.get(..through).unwrap_or_default())?;
        if cut {
            let close = shared.close_after_cut.load(SeqCst);
            shared.closed.store(close, SeqCst);
            shared.hang_up();
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::http::{Connection, request};
    use super::*;

    const BODY: usize = 1000;

    /// Answers every request with a body of `BODY` bytes.
    fn registry() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    let mut from = BufReader::new(stream);
                    while let Ok(Some(head)) = Head::read(&mut from) {
                        let body = head.body().unwrap();
                        io::copy(&mut (&mut from).take(body), &mut io::sink()).unwrap();
                        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n{}", "x".repeat(BODY));
                        from.get_mut().write_all(answer.as_bytes()).unwrap();
                    }
                });
            }
        });
        address
    }

    fn ask(connection: &mut Connection, method: &str, path: &str, body: &[u8]) -> Result<u64, String> {
        let answer = connection.ask(&request(method, "h", path, ""), body, 1)?;
        Ok(answer.bytes)
    }

    #[test]
    fn requests_and_bytes_of_uploads_are_counted() {
        let proxy = Proxy::start(&registry()).unwrap();
        let mut connection = Connection::open(&proxy.address).unwrap();
        for (method, path) in [
            ("GET", "/v2/a/blobs/sha256:0"),
            ("POST", "/v2/a/blobs/uploads/"),
            ("PATCH", "/v2/a/blobs/uploads/1"),
            ("PUT", "/v2/a/manifests/1"),
        ] {
            let body: &[u8] = if method == "GET" { b"" } else { b"12345" };
            assert_eq!(ask(&mut connection, method, path, body), Ok(BODY as u64));
        }
        let counts = proxy.take().unwrap();
        assert_eq!((counts.requests, counts.sent), (4, 10));
        assert!(counts.received > 4 * BODY as u64);
        assert_eq!(proxy.take().unwrap(), Counts::default());
    }

    #[test]
    fn body_without_a_length_is_an_error() {
        let proxy = Proxy::start(&registry()).unwrap();
        let mut stream = TcpStream::connect(&proxy.address).unwrap();
        stream
            .write_all(b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
            .unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
        assert!(proxy.take().unwrap_err().contains("chunked"));
    }

    #[test]
    fn connection_is_cut_once_at_the_exact_byte() {
        let proxy = Proxy::start(&registry()).unwrap();
        proxy.cut_after(500, After::TheRegistry);
        let mut stream = TcpStream::connect(&proxy.address).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let mut came = Vec::new();
        let _ = stream.read_to_end(&mut came);
        assert_eq!((came.len(), proxy.has_cut()), (500, true));
        assert_eq!(proxy.take().unwrap().received, 500);
        let mut connection = Connection::open(&proxy.address).unwrap();
        assert_eq!(ask(&mut connection, "GET", "/", b""), Ok(BODY as u64));
    }

    #[test]
    fn nothing_answers_after_a_cut_until_reopened() {
        let proxy = Proxy::start(&registry()).unwrap();
        proxy.cut_after(500, After::Nothing);
        let get = || ask(&mut Connection::open(&proxy.address)?, "GET", "/", b"");
        get().unwrap_err();
        get().unwrap_err();
        proxy.reopen();
        assert_eq!(get(), Ok(BODY as u64));
    }
}
