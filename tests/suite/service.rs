//! A server of `qyv serve` with the suite's service, and clients that say exactly what is
//! sent when.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, Once};
use std::time::{Duration, Instant};
use std::{fs, thread};

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT};

use crate::support::User;

/// Ends a test whose server does not answer.
const TIMEOUT: Duration = Duration::from_secs(300);

/// A server that runs.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Where it tells of itself, if it does.
    pub admin: Option<SocketAddr>,
    /// What it has written there, and a signal for each line.
    stderr: Arc<(Mutex<String>, Condvar)>,
    /// Receives when stderr is closed.
    ended: Mutex<Receiver<()>>,
    /// Receives where it listens.
    listening: Mutex<Receiver<(&'static str, SocketAddr)>>,
}

impl Server {
    /// Starts one of this target, and waits until it listens.
    #[track_caller]
    pub fn start(user: &User, options: &[&str], target: &str) -> Server {
        Server::launch(user, &[options, &[target]].concat())
    }

    /// Starts one, and waits until it listens.
    #[track_caller]
    pub fn launch(user: &User, args: &[&str]) -> Server {
        let mut server = Server::spawn(user, &["serve", "--listen", "127.0.0.1:0"], args);
        server.listens();
        server
    }

    /// Starts `qyv dev` of a service, and waits until it listens.
    #[track_caller]
    pub fn dev(user: &User, args: &[&str]) -> Server {
        let mut server = Server::dev_without_service(user, args);
        server.listens();
        server
    }

    /// Starts `qyv dev` of what does not listen, or not yet.
    pub fn dev_without_service(user: &User, args: &[&str]) -> Server {
        Server::spawn(user, &["dev", "--listen", "127.0.0.1:0"], args)
    }

    fn spawn(user: &User, verb: &[&str], args: &[&str]) -> Server {
        // Whoever started the suite may have it ignore these signals, and what ignores them
        // passes that on. What handles them does not.
        static HANDLED: Once = Once::new();
        HANDLED.call_once(|| {
            signal_hook::flag::register(SIGHUP, Arc::default()).unwrap();
            signal_hook::flag::register_conditional_default(SIGINT, Arc::new(true.into())).unwrap();
        });
        let mut command = user.command();
        command.args(verb).args(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let stderr = Arc::new((Mutex::default(), Condvar::new()));
        let ((listens, address), (ends, ended)) = (channel(), channel());
        let said = Arc::clone(&stderr);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                for scheme in ["http", "https"] {
                    if let Some(address) = line.strip_prefix(&format!("listening on {scheme}://")) {
                        let _ = listens.send((scheme, address.parse::<SocketAddr>().unwrap()));
                    }
                }
                let (text, written): &(Mutex<String>, Condvar) = &said;
                let mut text = text.lock().unwrap();
                text.push_str(&line);
                text.push('\n');
                written.notify_all();
            }
            let _ = ends.send(());
        });
        Server {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            scheme: "http",
            admin: None,
            stderr,
            ended: Mutex::new(ended),
            listening: Mutex::new(address),
        }
    }

    /// Waits until it listens.
    #[track_caller]
    pub fn listens(&mut self) {
        let listening = self.listening.lock().unwrap().recv_timeout(TIMEOUT);
        let Ok((scheme, address)) = listening else {
            panic!("it does not listen: {}", self.stderr());
        };
        let told = self.stderr();
        let admin = told
            .lines()
            .find_map(|line| line.strip_prefix("health and metrics on http://"));
        self.admin = admin.map(|address| address.parse().unwrap());
        (self.scheme, self.address) = (scheme, address);
    }

    pub fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.address).unwrap())
    }

    /// One request on a connection of its own.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.get_of("a", path)
    }

    /// The same, as soon as a place among the requests is free for it.
    #[track_caller]
    pub fn get_in_turn(&self, path: &str) -> Answer {
        until(|| match self.get(path) {
            answer if answer.status == 503 => Err(format!("all places are taken: {answer:?}")),
            answer => Ok(answer),
        })
    }

    /// The same of this host.
    #[track_caller]
    pub fn get_of(&self, host: &str, path: &str) -> Answer {
        let mut client = self.connect();
        client.send(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        client.answer()
    }

    /// A page for the operator: its status and text.
    #[track_caller]
    pub fn told(&self, path: &str) -> (u16, String) {
        let mut client = Client::new(TcpStream::connect(self.admin.unwrap()).unwrap());
        client.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let answer = client.answer();
        (answer.status, answer.body)
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.0.lock().unwrap().clone()
    }

    /// Waits until stderr has this text.
    #[track_caller]
    pub fn says(&self, text: &str) {
        self.says_often(text, 1);
    }

    /// Waits until stderr has this text so often.
    #[track_caller]
    pub fn says_often(&self, text: &str, times: usize) {
        let (stderr, written) = &*self.stderr;
        let lacks = |stderr: &mut String| stderr.matches(text).count() < times;
        let (stderr, waited) = written
            .wait_timeout_while(stderr.lock().unwrap(), TIMEOUT, lacks)
            .unwrap();
        assert!(!waited.timed_out(), "no {text:?}: {stderr}");
    }

    /// From here on, nobody reads its stdout.
    pub fn close_stdout(&mut self) {
        drop(self.child.stdout.take());
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits until nothing listens any more.
    pub fn refuses(&self) {
        while TcpStream::connect(self.address).is_ok() {
            thread::yield_now();
        }
    }

    /// The end of the server: its status, stdout and stderr.
    pub fn wait(mut self) -> (ExitStatus, String, String) {
        self.ended.lock().unwrap().recv_timeout(TIMEOUT).unwrap();
        let mut out = String::new();
        if let Some(mut stdout) = self.child.stdout.take() {
            stdout.read_to_string(&mut out).unwrap();
        }
        let status = self.child.wait().unwrap();
        let err = self.stderr.0.lock().unwrap().clone();
        (status, out, err)
    }

    /// Ends the server gracefully.
    #[track_caller]
    pub fn end(self) -> (String, String) {
        self.signal(Signal::TERM);
        let (status, out, err) = self.wait();
        assert_eq!(status.code(), Some(0), "{err}");
        (out, err)
    }
}

/// What there is once it is there, where no event tells of it; until then, what there is
/// instead.
#[track_caller]
pub fn until<T>(get: impl Fn() -> Result<T, String>) -> T {
    let end = Instant::now() + TIMEOUT;
    loop {
        match get() {
            Ok(there) => return there,
            Err(instead) => assert!(Instant::now() < end, "{instead}"),
        }
        thread::yield_now();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection.
pub struct Client {
    pub stream: BufReader<TcpStream>,
}

/// A response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
    /// Whether the body has come to its end.
    pub whole: bool,
}

impl Client {
    pub fn new(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        Client {
            stream: BufReader::new(stream),
        }
    }

    #[track_caller]
    pub fn send(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).unwrap();
    }

    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line).ok()?;
        (read > 0).then(|| line.trim_end().to_string())
    }

    /// Status and head, if the connection is not closed.
    pub fn head(&mut self) -> Option<(u16, String)> {
        let status = self.line()?;
        let status = status.split(' ').nth(1).unwrap().parse().unwrap();
        let mut head = String::new();
        loop {
            match self.line()? {
                line if line.is_empty() => return Some((status, head)),
                line => {
                    head.push_str(&line.to_lowercase());
                    head.push('\n');
                }
            }
        }
    }

    /// The next chunk of a body; none if the connection is closed in it.
    pub fn chunk(&mut self) -> Option<String> {
        let length = usize::from_str_radix(&self.line()?, 16).ok()?;
        let mut chunk = vec![0; length];
        self.stream.read_exact(&mut chunk).ok()?;
        self.line()?;
        Some(String::from_utf8(chunk).unwrap())
    }

    pub fn try_answer(&mut self) -> Option<Answer> {
        let (status, head) = self.head()?;
        let (mut body, mut whole) = (String::new(), true);
        if head.contains("transfer-encoding: chunked") {
            loop {
                match self.chunk() {
                    Some(chunk) if chunk.is_empty() => break,
                    Some(chunk) => body.push_str(&chunk),
                    None => {
                        whole = false;
                        break;
                    }
                }
            }
        } else if let Some((_, rest)) = head.split_once("content-length: ") {
            let length = rest.lines().next().unwrap().parse().unwrap();
            let mut bytes = vec![0; length];
            whole = self.stream.read_exact(&mut bytes).is_ok();
            body = String::from_utf8(bytes).unwrap();
        }
        Some(Answer {
            status,
            head,
            body,
            whole,
        })
    }

    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        self.try_answer().expect("the connection was closed")
    }

    /// Begins a request that lasts until its body is ended, and waits until it is being
    /// answered.
    #[track_caller]
    pub fn hold(&mut self) {
        self.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(self.head().unwrap().0, 200);
    }

    /// Ends it.
    #[track_caller]
    pub fn release(&mut self) {
        self.send("0\r\n\r\n");
        assert_eq!(self.chunk().as_deref(), Some(""));
    }

    /// Whether nothing has been answered yet.
    pub fn waits(&mut self) -> bool {
        let stream = self.stream.get_mut();
        stream.set_nonblocking(true).unwrap();
        let waits = stream
            .peek(&mut [0])
            .is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        stream.set_nonblocking(false).unwrap();
        waits
    }
}

/// The suite's services do the same in WASI 0.2 and 0.3.
pub const VERSIONS: [u8; 2] = [2, 3];

/// The suite's service of WASI 0.2, built.
#[track_caller]
pub fn service(user: &User, name: &str, more: &str) -> String {
    service_of(user, 2, name, more)
}

/// The suite's service of a version of WASI, built.
#[track_caller]
pub fn service_of(user: &User, version: u8, name: &str, more: &str) -> String {
    let guest = match version {
        2 => "service/service.component.wasm",
        _ => "service-p3/service-p3.component.wasm",
    };
    let guest = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/guests")
        .join(guest);
    user.write(&format!("{name}/app.wasm"), fs::read(guest).unwrap());
    let manifest = format!("name: {name}\nversion: 1.0.0\ntype: service\nentrypoint: app.wasm\n{more}");
    user.write(&format!("{name}/app.qyv"), manifest);
    let archive = format!("{name}.qyvbin");
    user.qyv(&["build", name, "-o", &archive, "-q"]).expect(0);
    archive
}
