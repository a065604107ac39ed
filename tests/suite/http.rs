//! Requests by `wasi:http`: where they may go, and what is sent.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::{fs, thread};

use serde_json::Value;

use crate::needs::lacks;
use crate::registry;
use crate::support::{CommandOutput, User, certificate};

/// A server on the loopback that keeps its connections open and answers what `answer`
/// makes of a request.
struct Server {
    port: u16,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    connections: usize,
    /// Head and body of each.
    requests: Vec<String>,
}

impl Server {
    fn start(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (shared, answer) = (Arc::clone(&seen), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                shared.lock().unwrap().connections += 1;
                let (shared, answer) = (Arc::clone(&shared), Arc::clone(&answer));
                thread::spawn(move || {
                    let mut requests = BufReader::new(stream);
                    while let Some(request) = read_request(&mut requests) {
                        let text = answer(&request);
                        shared.lock().unwrap().requests.push(request);
                        if requests.get_mut().write_all(text.as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Server { port, seen }
    }

    fn ok() -> Server {
        Server::start(|_| response("200 OK", "", "well"))
    }

    fn url(&self, host: &str) -> String {
        format!("http://{host}:{}/", self.port)
    }

    fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().requests.clone()
    }

    fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }
}

fn response(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn read_request(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut text = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        text.push_str(&line);
        if line == "\r\n" {
            break;
        }
    }
    let lower = text.to_lowercase();
    if lower.contains("transfer-encoding: chunked") {
        while !text.ends_with("0\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).ok()?;
            text.push(char::from(byte[0]));
        }
    }
    Some(text)
}

/// A component that sends a request to each URL of its arguments.
fn client(user: &User, name: &str, more: &str) -> String {
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/guests/http/http.component.wasm");
    user.write(&format!("{name}/app.wasm"), fs::read(guest).unwrap());
    let manifest = format!("name: {name}\nversion: 1.0.0\nentrypoint: app.wasm\n{more}");
    user.write(&format!("{name}/app.qyv"), manifest);
    let archive = format!("{name}.qyvbin");
    user.qyv(&["build", name, "-o", &archive, "-q"]).expect(0);
    archive
}

fn connect(endpoint: &str) -> String {
    format!("permissions: {{ net: {{ connect: [\"{endpoint}\"] }} }}\n")
}

/// What became of each URL.
fn sent(user: &User, options: &[&str], app: &str, urls: &[&str]) -> Vec<String> {
    let args = [&["run", "-q"], options, &[app], urls].concat();
    results(&user.qyv(&args).expect(0))
}

fn results(done: &CommandOutput) -> Vec<String> {
    let result = |line: &str| line.split_once(": ").unwrap().1.to_string();
    done.out.lines().map(result).collect()
}

// [RUN-057]
#[test]
fn request_goes_where_the_manifest_lets_it_and_nowhere_else() {
    let (user, listed, other) = (User::new(), Server::ok(), Server::ok());
    let by_number = client(&user, "number", &connect(&format!("127.0.0.1:{}", listed.port)));
    let urls = [
        listed.url("127.0.0.1"),
        other.url("127.0.0.1"),
        listed.url("[::1]"),
        listed.url("localhost"),
        listed.url("2130706433"),
    ];
    assert_eq!(
        sent(&user, &[], &by_number, &urls.each_ref().map(String::as_str)),
        [
            "200 well",
            "DestinationIpProhibited",
            "DestinationIpProhibited",
            "HttpRequestDenied",
            "HttpRequestDenied"
        ]
    );
    let by_name = client(&user, "name", &connect(&format!("localhost:{}", listed.port)));
    let urls = [
        listed.url("localhost"),
        other.url("localhost"),
        listed.url("localhost.example"),
    ];
    assert_eq!(
        sent(&user, &[], &by_name, &urls.each_ref().map(String::as_str)),
        ["200 well", "DestinationIpProhibited", "HttpRequestDenied"]
    );
    assert_eq!(other.connections(), 0);
}

// [RUN-056] [RUN-057]
#[test]
fn request_without_a_network_is_denied_and_reported_without_its_path() {
    let (user, server) = (User::new(), Server::ok());
    let app = client(&user, "none", "");
    let url = format!("{}secret?token=1", server.url("127.0.0.1"));
    assert_eq!(
        sent(&user, &["--audit", "audit.json"], &app, &[&url]),
        ["HttpRequestDenied"]
    );
    let audit = fs::read_to_string(user.path("audit.json")).unwrap();
    let events = audit.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let told: Vec<Value> = events.filter(|event| event["action"] == "request").collect();
    assert_eq!(told.len(), 1, "{audit}");
    assert_eq!(told[0]["object"], format!("GET http://127.0.0.1:{}", server.port));
    assert_eq!(told[0]["event"], "denied");
    assert!(!audit.contains("token"), "{audit}");
    assert_eq!(server.connections(), 0);
}

// [RUN-057]
#[test]
fn redirect_is_the_guests_to_follow_and_a_tunnel_is_refused() {
    let (user, other) = (User::new(), Server::ok());
    let location = format!("Location: {}\r\n", other.url("127.0.0.1"));
    let server = Server::start(move |_| response("302 Found", &location, "there"));
    let app = client(&user, "app", &connect(&format!("127.0.0.1:{}", server.port)));
    let url = server.url("127.0.0.1");
    assert_eq!(
        sent(&user, &[], &app, &[&url, "METHOD=CONNECT", &url]),
        ["302 there", "HttpRequestMethodInvalid"]
    );
    assert_eq!((server.requests().len(), other.connections()), (1, 0));
}

#[test]
fn one_connection_serves_requests_to_one_origin() {
    let (user, server) = (User::new(), Server::ok());
    let endpoint = format!("127.0.0.1:{}", server.port);
    let app = client(&user, "app", &connect(&endpoint));
    let url = server.url("127.0.0.1");
    sent(&user, &[], &app, &[&url, &url, "METHOD=POST", &url]);
    let requests = server.requests();
    assert_eq!((server.connections(), requests.len()), (1, 3));
    for request in &requests {
        let lower = request.to_lowercase();
        assert_eq!(lower.matches("\r\nhost: ").count(), 1, "{request}");
        assert!(lower.contains(&format!("\r\nhost: {endpoint}\r\n")), "{request}");
    }
    assert!(requests[2].starts_with("POST / HTTP/1.1\r\n") && requests[2].contains("what was posted"));
}

// [RUN-057]
#[test]
fn connection_counts_as_a_socket() {
    let user = User::new();
    // More than waits in buffers.
    let server = Server::start(|_| response("200 OK", "", &"x".repeat(16 << 20)));
    let app = client(&user, "app", &connect(&format!("127.0.0.1:{}", server.port)));
    let url = server.url("127.0.0.1");
    let sent = |urls: &[&str]| sent(&user, &["--limit", "sockets=1"], &app, urls);
    let read = format!("200 {}", "x".repeat(256));
    assert_eq!(sent(&[&url, &url]), [&read[..], &read]);
    assert_eq!(sent(&["KEEP", &url, &url]), ["200", "ConnectionLimitReached"]);
}

#[test]
fn answer_that_breaks_off_or_has_no_end_of_its_head_is_an_error() {
    let user = User::new();
    let server = Server::start(|request| match request.split(' ').nth(1).unwrap() {
        "/head" => format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(1 << 20)),
        _ => "SSH-2.0-OpenSSH_9.6\r\n\r\n".to_string(),
    });
    let app = client(&user, "app", &connect(&format!("127.0.0.1:{}", server.port)));
    let url = server.url("127.0.0.1");
    assert_eq!(
        sent(&user, &[], &app, &[&format!("{url}head"), &url]),
        ["HttpResponseHeaderSectionSize(None)", "HttpProtocolError"]
    );
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    let app = client(&user, "refused", &connect(&closed.to_string()));
    assert_eq!(
        sent(&user, &[], &app, &[&format!("http://{closed}/")]),
        ["ConnectionRefused"]
    );
}

// [RUN-057]
#[test]
fn certificate_is_checked_against_the_hosts_authorities() {
    if lacks(&["openssl"]) {
        return;
    }
    let user = User::new();
    let (cert, key) = certificate(&user);
    let server = registry::Server::hub(&["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()]);
    let app = client(&user, "app", &connect(&server.address));
    let url = format!("https://{}/v2/", server.address);
    let run = |authorities: &Path| {
        let mut command = user.command();
        command
            .env("SSL_CERT_FILE", authorities)
            .args(["run", "-q", &app, &url]);
        results(&CommandOutput::from(&command.output().unwrap()).expect(0))
    };
    assert_eq!(run(&cert), ["200 {}"]);
    let stranger = User::new();
    let (other, _) = certificate(&stranger);
    assert_eq!(run(&other), ["TlsCertificateError"]);
}
