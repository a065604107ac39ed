//! The network between: proxies and certificates.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use qyvol_remote::{Access, Anonymous, Client, Options, RemoteError, Repository};
use qyvol_types::Reference;

use crate::needs::lacks;
use crate::server::{Reaction, Response, Server};
use crate::support::*;

const LIMIT: Duration = Duration::from_secs(30);

fn with(change: impl FnOnce(&mut Options)) -> std::sync::Arc<Client> {
    let mut options = options();
    change(&mut options);
    Client::new(options, Box::new(Anonymous), Box::new(|_| {}))
}

fn proxied(proxy: &str, no_proxy: &[&str]) -> std::sync::Arc<Client> {
    with(|options| {
        options.plain_http = vec!["registry.invalid".to_string()];
        options.http_proxy = Some(proxy.to_string());
        options.no_proxy = no_proxy.iter().map(|host| host.to_string()).collect();
    })
}

#[test]
fn proxy_is_used() {
    let image = Image::new(1000);
    let proxy = Server::faulty(image.registry(), |head| match head.method.as_str() {
        // The connection is from here on the registry's.
        "CONNECT" => Reaction::Tunnel,
        _ => Reaction::Serve,
    });
    let client = proxied(&format!("http://{}", proxy.host()), &[]);
    let name: Reference = "registry.invalid/app:1".parse().unwrap();
    let repository = Repository::new(&client, &name, Access::Pull).unwrap();
    let found = within(LIMIT, || repository.resolve(&name).unwrap().unwrap());
    assert_eq!(found.digest, image.manifest.digest());
    assert!(proxy.seen().iter().any(|s| s.head.target.contains("registry.invalid")));
}

#[test]
fn no_proxy_is_honoured() {
    let proxy = Server::new(Default::default());
    // As curl and Go read `NO_PROXY`: a host, all below it, on any port.
    for entry in [
        "registry.invalid",
        ".invalid",
        "invalid",
        "*.invalid",
        "registry.invalid:80",
        "*",
    ] {
        let client = proxied(&format!("http://{}", proxy.host()), &["other.invalid", entry]);
        let error = within(LIMIT, || client.ping("registry.invalid").unwrap_err());
        assert!(
            matches!(error, RemoteError::Unreachable { .. } | RemoteError::TimedOut { .. }),
            "{entry} {error:?}"
        );
        assert_eq!(proxy.connections(), 0, "{entry}");
    }
}

#[test]
fn loopback_is_reached_without_the_proxy() {
    let server = Server::new(Image::new(10).registry());
    let proxy = Server::new(Default::default());
    let client = proxied(&format!("http://{}", proxy.host()), &[]);
    client.ping(&server.host()).unwrap();
    assert_eq!((server.connections(), proxy.connections()), (1, 0));
    // Under every name of this machine: traffic to it may be unencrypted.
    for name in ["127.0.0.2:1", "[::1]:1", "[0:0:0:0:0:0:0:1]:1", "localhost:1"] {
        within(LIMIT, || client.ping(name).unwrap_err());
        assert_eq!(proxy.connections(), 0, "{name}");
    }
}

#[test]
fn proxy_that_refuses_ends_the_operation() {
    let proxy = Server::faulty(Default::default(), |_| Reaction::Response(Response::new(407)));
    let client = proxied(&format!("http://ana:{PASSWORD}@{}", proxy.host()), &[]);
    let error = within(LIMIT, || client.ping("registry.invalid").unwrap_err());
    assert!(!error.is_temporary(), "{error:?}");
    assert!(!format!("{error} {error:?}").contains(PASSWORD));
    assert_eq!(proxy.connections(), 1);
}

#[test]
fn password_of_an_unusable_proxy_is_not_shown() {
    for proxy in [
        format!("gopher://ana:{PASSWORD}@proxy.invalid"),
        format!("http://ana:{PASSWORD}@ /"),
    ] {
        let error = proxied(&proxy, &[]).ping("registry.invalid").unwrap_err();
        assert!(matches!(error, RemoteError::Setup(_)), "{error:?}");
        assert!(!format!("{error} {error:?}").contains(PASSWORD), "{error}");
    }
}

fn missing(error: std::io::Error) -> ! {
    panic!("can't run openssl: {error}: install the Debian package openssl")
}

fn make_certificate(key: &std::path::Path, certificate: &std::path::Path) {
    let made = Command::new("openssl")
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2".split(' '))
        .args("-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1".split(' '))
        .args("-addext basicConstraints=critical,CA:FALSE".split(' '))
        .arg("-keyout")
        .arg(key)
        .arg("-out")
        .arg(certificate)
        .stderr(Stdio::null())
        .status()
        .unwrap_or_else(|e| missing(e));
    assert!(made.success());
}

/// A certificate for loopback and its key, PEM.
#[cfg(feature = "import")]
pub(crate) fn certificate() -> (Vec<u8>, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    let (key, certificate) = (directory.path().join("key"), directory.path().join("crt"));
    make_certificate(&key, &certificate);
    (std::fs::read(certificate).unwrap(), std::fs::read(key).unwrap())
}

/// A server in TLS with a certificate of its own making.
struct Secure {
    child: Child,
    host: String,
    ca: Vec<u8>,
    _directory: tempfile::TempDir,
}

impl Secure {
    fn new() -> Secure {
        let directory = tempfile::tempdir().unwrap();
        let (key, certificate) = (directory.path().join("key"), directory.path().join("crt"));
        make_certificate(&key, &certificate);
        let mut child = Command::new("openssl")
            .args(["s_server", "-www", "-accept", "127.0.0.1:0", "-key"])
            .arg(&key)
            .arg("-cert")
            .arg(&certificate)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| missing(e));
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("ACCEPT") {
            line.clear();
            assert!(out.read_line(&mut line).unwrap() > 0, "openssl ended");
        }
        // Its log of connections must not fill the pipe.
        std::thread::spawn(move || out.read_to_end(&mut Vec::new()));
        let host = line.trim().rsplit(' ').next().unwrap().to_string();
        Secure {
            child,
            host,
            ca: std::fs::read(&certificate).unwrap(),
            _directory: directory,
        }
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn custom_ca_is_trusted_only_when_configured() {
    if lacks(&["openssl"]) {
        return;
    }
    let server = Secure::new();
    let secure = |ca: Option<Vec<u8>>| {
        with(|options| {
            options.tls = vec![server.host.clone()];
            options.ca = ca;
            options.timeout = Some(Duration::from_secs(1));
        })
    };
    let error = within(LIMIT, || secure(None).ping(&server.host).unwrap_err());
    assert!(matches!(error, RemoteError::Tls { .. }), "{error:?}");
    assert!(!error.is_temporary());
    secure(Some(server.ca.clone())).ping(&server.host).unwrap();
}

#[test]
fn stalled_tls_handshake_times_out() {
    // The kernel accepts connections, and nothing is ever sent.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let client = with(|options| options.tls = vec![host.clone()]);
    let error = within(LIMIT, || client.ping(&host).unwrap_err());
    assert!(matches!(error, RemoteError::TimedOut { .. }), "{error:?}");
    assert!(error.is_temporary());
}
