//! `qyv serve` by HTTP/2 and by TLS.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::needs::lacks;
use crate::service::{Server, service};
use crate::support::{CommandOutput, User, certificate, third_party};

#[track_caller]
fn curl(server: &Server, args: &[&str], path: &str) -> CommandOutput {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "60"]).args(args);
    curl.arg(format!("{}://{}{path}", server.scheme, server.address));
    third_party("curl", &mut curl)
}

const TELL: [&str; 2] = ["-w", "%{http_version} %{http_code}"];

// [SERVE-014] [SERVE-001] [SERVE-006] [SERVE-008]
#[test]
fn http2_without_tls_answers_as_http1_does() {
    if lacks(&["curl"]) {
        return;
    }
    let user = User::new();
    let app = service(&user, "app", "");
    let server = Server::start(&user, &["--max-body", "8MiB", "--access-log", "log"], &app);
    user.write("big", vec![b'x'; 4 << 20]);
    let big = format!("@{}", user.path("big").display());
    let versions = [("--http1.1", "1.1"), ("--http2-prior-knowledge", "2")];
    for (version, number) in versions {
        let with = |args: &[&str], path: &str| curl(&server, &[&[version], args].concat(), path);
        assert_eq!(with(&TELL, "/hello").expect(0).out, format!("hello\n{number} 200"));
        assert_eq!(with(&["-d", "12345"], "/length").expect(0).out, "5\n");
        assert_eq!(
            with(&["--data-binary", &big], "/length").expect(0).out,
            format!("{}\n", 4 << 20)
        );
        let echoed = with(&["--data-binary", &big, "-H", "Expect:"], "/echo").expect(0);
        assert_eq!(echoed.out.len(), 4 << 20);
        let head = with(&["-I"], "/hello").expect(0).out.to_lowercase();
        assert!(
            head.contains("content-length: 6") && !head.contains("connection"),
            "{head}"
        );
        // Nothing of a body comes after it.
        for path in ["/hello", "/trap"] {
            assert!(
                with(&[&TELL[..], &["-I"]].concat(), path)
                    .expect(0)
                    .out
                    .contains(number)
            );
        }
        let seen = with(&["-H", "X-Own: 1"], "/head?a=b").expect(0).out;
        let line = format!(
            "Method::Get Some(Scheme::Http) Some(\"{}\") Some(\"/head?a=b\")\n",
            server.address
        );
        assert!(seen.starts_with(&line) && seen.contains("x-own: 1\n"), "{seen}");
        for (path, status) in [("/trap", 500), ("/nothing", 502), ("/exit", 502)] {
            let answer = with(&TELL, path).expect(0).out;
            assert!(answer.ends_with(&format!("\n{number} {status}")), "{path}: {answer}");
        }
        let long = vec![b'x'; 9 << 20];
        user.write("long", long);
        let long = format!("@{}", user.path("long").display());
        let refused = with(&["--data-binary", &long], "/length").out;
        // With HTTP/2 a stream is reset of which more is not wanted. That curl takes for an
        // error.
        assert!(number == "2" || refused.contains("413 Payload Too Large"), "{refused}");
        // What is cut off does not look complete: a stream that is reset, or a body that
        // is too short. It may trap before anything is on its way.
        let late = with(&[], "/trap-late");
        assert_ne!(late.code, 0, "{}", late.out);
    }
    assert_eq!(server.get("/hello").body, "hello\n");
    server.end();
    let log = fs::read_to_string(user.path("log")).unwrap();
    for version in ["1.1", "2.0"] {
        let protocol = format!("\"protocol\":\"HTTP/{version}\"");
        let refused = log
            .lines()
            .filter(|line| line.contains(&protocol) && line.contains("\"status\":413"));
        assert_eq!(refused.count(), 1, "{log}");
    }
}

// [SERVE-013]
#[test]
fn tls_answers_curl_in_both_versions() {
    if lacks(&["curl", "openssl"]) {
        return;
    }
    let user = User::new();
    let app = service(&user, "app", "");
    let (cert, key) = certificate(&user);
    let server = Server::start(&user, &tls(&cert, &key), &app);
    let ca = ["--cacert", cert.to_str().unwrap()];
    for (version, number) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let args = [&ca[..], &TELL, &[version]].concat();
        assert_eq!(
            curl(&server, &args, "/hello").expect(0).out,
            format!("hello\n{number} 200")
        );
        let seen = curl(&server, &[&ca[..], &[version]].concat(), "/head").expect(0).out;
        assert!(seen.starts_with("Method::Get Some(Scheme::Https) "), "{seen}");
    }
    // Without TLS nothing is answered, and others are.
    let mut plain = server.connect();
    plain.send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut answer = Vec::new();
    let _ = plain.stream.get_mut().read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    assert_eq!(curl(&server, &ca, "/hello").expect(0).out, "hello\n");
    let (_, err) = server.end();
    assert!(err.contains("listening on https://"), "{err}");
}

fn tls<'p>(cert: &'p Path, key: &'p Path) -> [&'p str; 4] {
    ["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()]
}

// [SERVE-013]
#[test]
fn certificate_that_has_changed_is_used_from_the_next_handshake() {
    if lacks(&["curl", "openssl"]) {
        return;
    }
    let (user, other) = (User::new(), User::new());
    let app = service(&user, "app", "");
    let (cert, key) = certificate(&user);
    let (next, next_key) = certificate(&other);
    let server = Server::start(&user, &tls(&cert, &key), &app);
    let with = |ca: &Path| curl(&server, &["--cacert", ca.to_str().unwrap()], "/hello").code;
    assert_eq!((with(&cert), with(&next)), (0, 60));
    let old = user.write("old.pem", fs::read(&cert).unwrap());
    // The key is still that of the other.
    fs::copy(&next, &cert).unwrap();
    server.signal(Signal::HUP);
    server.says("the previous certificate stays in use: ");
    assert_eq!((with(&old), with(&next)), (0, 60));
    fs::copy(&next_key, &key).unwrap();
    server.signal(Signal::HUP);
    server.says("the certificate was read again");
    assert_eq!((with(&old), with(&next)), (60, 0));
    server.end();
}

// [SERVE-013]
#[test]
fn key_that_others_can_read_or_that_is_another_is_refused() {
    if lacks(&["openssl"]) {
        return;
    }
    let (user, other) = (User::new(), User::new());
    let app = service(&user, "app", "");
    let (cert, key) = certificate(&user);
    let (_, strange) = certificate(&other);
    let refused = |key: &Path, why: &str| {
        let args = [&["serve", "--listen", "127.0.0.1:0"], &tls(&cert, key)[..], &[&app]].concat();
        let done = user.qyv(&args).expect(125);
        assert!(
            done.err.contains(why) && !done.err.contains("listening"),
            "{}",
            done.err
        );
    };
    refused(&strange, "can't be used");
    fs::set_permissions(&cert, fs::Permissions::from_mode(0o600)).unwrap();
    refused(&cert, "the key is not PEM");
    let encrypted = user.path("encrypted.pem");
    for form in [&["pkcs8", "-topk8", "-v2", "aes-256-cbc"][..], &["ec", "-aes256"]] {
        let mut openssl = Command::new("openssl");
        openssl.args(form).args(["-passout", "pass:secret", "-in"]).arg(&key);
        third_party("openssl", openssl.arg("-out").arg(&encrypted)).expect(0);
        fs::set_permissions(&encrypted, fs::Permissions::from_mode(0o600)).unwrap();
        refused(&encrypted, "the key is encrypted");
        let hub = user.qyv(
            &[
                &["hub", "serve", "--listen", "127.0.0.1:0", "--data", "hub"][..],
                &tls(&cert, &encrypted),
            ]
            .concat(),
        );
        assert!(hub.code == 1 && hub.err.contains("the key is encrypted"), "{}", hub.err);
    }
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    refused(&key, "others can read its file (mode 0640)");
    user.qyv(&["serve", "--tls-cert", "cert.pem", &app]).expect(2);
}

/// A connection of HTTP/2 that says exactly what is sent.
struct Raw(TcpStream);

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

/// A frame: its type, flags, stream and content.
type Frame = (u8, u8, u32, Vec<u8>);

impl Raw {
    fn new(server: &Server) -> Raw {
        let stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut raw = Raw(stream);
        raw.0.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        raw.send(SETTINGS, 0, 0, &[]);
        raw
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, content: &[u8]) -> bool {
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(content);
        self.0.write_all(&frame).is_ok()
    }

    /// `GET` of a path, from `a`.
    fn get(&mut self, stream: u32, path: &str) -> bool {
        let mut head = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
        head.extend(path.as_bytes());
        head.extend([0x41, 1, b'a']);
        // END_STREAM and END_HEADERS.
        self.send(HEADERS, 0x5, stream, &head)
    }

    fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut content = vec![0; length];
        self.0.read_exact(&mut content).ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some((head[3], head[4], stream, content))
    }

    /// The frames until this stream's response has ended.
    fn answer(&mut self, stream: u32) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.frame() {
            // DATA with END_STREAM.
            let is_last = frame.0 == 0 && frame.1 & 1 != 0 && frame.2 == stream;
            frames.push(frame);
            if is_last {
                break;
            }
        }
        frames
    }

    /// The frames until the connection is closed or the last one is of this kind.
    fn until(&mut self, kind: u8) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.frame() {
            let is_last = frame.0 == kind;
            frames.push(frame);
            if is_last {
                break;
            }
        }
        frames
    }
}

// [SERVE-007]
#[test]
fn client_that_resets_its_requests_is_cut_off() {
    let user = User::new();
    let app = service(&user, "app", "");
    let server = Server::start(&user, &[], &app);
    let mut raw = Raw::new(&server);
    // All at once, so that they are reset before they have begun.
    let mut stream = 1;
    while stream < 200_000 && raw.get(stream, "/sleep") && raw.send(RST_STREAM, 0, stream, &[0, 0, 0, 8]) {
        stream += 2;
    }
    let end = raw.until(GOAWAY);
    // ENHANCE_YOUR_CALM, unless the connection was reset before that could be read.
    let calm = |frame: &Frame| frame.0 == GOAWAY && frame.3[4..8] == [0, 0, 0, 11];
    assert!(
        end.last().is_none_or(|frame| frame.0 != GOAWAY || calm(frame)),
        "{end:?}"
    );
    assert!(stream < 200_000 || end.last().is_some_and(calm));
    assert_eq!(server.get("/hello").body, "hello\n");
    server.end();
}

// [SERVE-006] [SERVE-009]
#[test]
fn end_of_http2_answers_what_has_arrived() {
    let user = User::new();
    let app = service(&user, "app", "");
    let server = Server::start(&user, &["--admin", "0"], &app);
    let mut raw = Raw::new(&server);
    raw.get(1, "/hello");
    // Its answer comes before the end begins.
    let answered = |frames: &[Frame], stream: u32| {
        let is_data = |frame: &Frame| frame.0 == 0 && frame.2 == stream && frame.3 == b"hello\n";
        frames.iter().any(is_data)
    };
    let first = raw.answer(1);
    assert!(answered(&first, 1), "{first:?}");
    server.signal(Signal::TERM);
    while server.told("/healthz").0 == 200 {}
    raw.get(3, "/hello");
    let second = raw.answer(3);
    assert!(answered(&second, 3), "{second:?}");
    let end = raw.until(GOAWAY);
    // NO_ERROR.
    assert!(end.last().is_some_and(|frame| frame.3[4..8] == [0; 4]), "{end:?}");
    drop(raw);
    let (status, _, err) = server.wait();
    assert_eq!(status.code(), Some(0), "{err}");
}
