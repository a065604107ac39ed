//! TLS. The certificate and key in `tls/` are for this test and nothing else.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use qyvol_hub::{HubError, Tls};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::support::{Response, Server};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hub/tls").join(name)
}

fn tls() -> Tls {
    Tls {
        certificate: file("certificate.pem"),
        key: file("key.pem"),
    }
}

fn client(server: &Server, protocols: &[&[u8]]) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(file("certificate.pem")).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
    let connection = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    StreamOwned::new(connection, server.connect())
}

fn converse(server: &Server, protocols: &[&[u8]], request: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    let mut stream = client(server, protocols);
    stream.write_all(request).unwrap();
    let mut bytes = vec![0; 9];
    stream.read_exact(&mut bytes).unwrap();
    if protocols.first() != Some(&&b"h2"[..]) {
        let _ = stream.read_to_end(&mut bytes);
    }
    (bytes, stream.conn.alpn_protocol().map(<[u8]>::to_vec))
}

#[test]
fn speaks_both_versions_of_http_over_tls() {
    let server = Server::with(|config| config.tls = Some(tls()));
    let request = b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    for protocols in [&[][..], &[&b"http/1.1"[..]]] {
        let (bytes, _) = converse(&server, protocols, request);
        Response::parse(&bytes).expect(200);
    }
    let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let (bytes, chosen) = converse(&server, &[b"h2"], hello);
    // A frame of settings.
    assert_eq!((bytes[3], chosen), (4, Some(b"h2".to_vec())));
    // A client that doesn't speak TLS is refused, and others are still served.
    assert_eq!(server.get("/v2/").status, 0);
    Response::parse(&converse(&server, &[], request).0).expect(200);
}

// [HUB-033]
#[test]
fn client_that_is_silent_before_or_after_the_handshake_is_disconnected() {
    let server = Server::with(|config| {
        config.tls = Some(tls());
        config.limits.idle = Duration::from_secs(2);
    });
    let mut silent = server.connect();
    let closed = |read: std::io::Result<usize>| match read {
        Ok(_) => true,
        Err(error) => matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof),
    };
    assert!(closed(silent.read(&mut [0])));
    let mut after = client(&server, &[b"h2"]);
    while after.conn.is_handshaking() {
        after.conn.complete_io(&mut after.sock).unwrap();
    }
    assert!(closed(after.read(&mut [0])));
}

#[test]
fn certificate_that_can_not_be_used_is_named() {
    let swapped = Tls {
        certificate: file("key.pem"),
        key: file("certificate.pem"),
    };
    let absent = Tls {
        certificate: file("absent.pem"),
        key: file("key.pem"),
    };
    for tls in [swapped, absent] {
        let directory = tempfile::TempDir::new().unwrap();
        let mut config = qyvol_hub::Config::new(
            "127.0.0.1:0".parse().unwrap(),
            directory.path(),
            std::time::SystemTime::now,
        );
        config.tls = Some(tls.clone());
        let hub = qyvol_hub::Hub::open(config).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        match runtime.block_on(hub.bind()) {
            Err(error @ (HubError::Tls(_) | HubError::Storage { .. })) => {
                assert!(error.to_string().contains(".pem"), "{error}");
            }
            other => panic!("{:?}", other.err()),
        }
    }
}

// [HUB-026]
#[test]
fn certificate_changes_without_a_restart() {
    let directory = tempfile::TempDir::new().unwrap();
    let (certificate, key) = (
        directory.path().join("certificate.pem"),
        directory.path().join("key.pem"),
    );
    let text = std::fs::read_to_string(file("certificate.pem")).unwrap();
    std::fs::write(&certificate, &text).unwrap();
    std::fs::copy(file("key.pem"), &key).unwrap();
    let server = Server::with(|config| {
        config.tls = Some(Tls {
            certificate: certificate.clone(),
            key: key.clone(),
        });
    });
    let presented = || {
        let mut client = client(&server, &[]);
        while client.conn.is_handshaking() {
            client.conn.complete_io(&mut client.sock).unwrap();
        }
        client.conn.peer_certificates().unwrap().len()
    };
    assert_eq!(presented(), 1);
    // Half a change has no effect: the key doesn't match the certificate.
    std::fs::write(&certificate, "").unwrap();
    assert_eq!(presented(), 1);
    // A chain of two distinguishes the new file from the old.
    std::fs::write(&certificate, text.repeat(2)).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while presented() != 2 {
        assert!(std::time::Instant::now() < deadline);
    }
}
