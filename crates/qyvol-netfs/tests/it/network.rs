//! Where connections go, and what they carry.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::{fs, io, thread};

use qyvol_netfs::{Config, Credentials, Error, ErrorKind, NetFs, Protocol, ResolveError, Secret};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::needs::lacks;
use crate::server::{Reaction, Response, Server};
use crate::site::Site;
use crate::support::{Setup, basic, kind};

fn server() -> Server {
    Server::new(Site::of(&[("/data/f", "hello")]))
}

#[test]
fn every_connection_goes_to_an_address_that_was_given() {
    let server = server();
    // A name that no resolver has.
    let setup = Setup::new(
        Protocol::Http,
        &format!("http://files.invalid:{}/data", server.address().port()),
    );
    let guest = setup.mount();
    *guest.host.answer.lock().unwrap() = Some(Ok(vec![server.address()]));
    assert_eq!(guest.read("f").unwrap(), "hello");
    assert_eq!(
        *guest.host.asked.lock().unwrap(),
        [format!("files.invalid:{}", server.address().port())]
    );
    assert_eq!(
        server.seen()[0].header("host"),
        Some(format!("files.invalid:{}", server.address().port()).as_str())
    );

    // An address in the URL is asked about too, and another one may be given for it.
    let guest = Setup::new(Protocol::Http, "http://192.0.2.1/data").mount();
    *guest.host.answer.lock().unwrap() = Some(Ok(vec![server.address()]));
    assert_eq!(guest.read("f").unwrap(), "hello");
    assert_eq!(*guest.host.asked.lock().unwrap(), ["192.0.2.1:80"]);
}

#[test]
fn denied_connection_is_not_made_and_not_retried() {
    let server = server();
    let cache = tempfile::tempdir().unwrap();
    let setup = Setup::http(&server).cache(cache.path());
    assert_eq!(setup.mount().read("f").unwrap(), "hello");
    server.log();
    let guest = setup.mount();
    *guest.host.answer.lock().unwrap() = Some(Err(ResolveError::Denied));
    // Not even the copy that is here.
    assert_eq!(kind(guest.read("f")), ErrorKind::Access);
    assert_eq!(guest.host.asked.lock().unwrap().len(), 1);
    assert!(server.log().is_empty());
}

#[test]
fn unknown_name_is_an_unreachable_server() {
    let server = server();
    for answer in [
        Err(ResolveError::NotFound),
        Err(ResolveError::Unavailable),
        Ok(Vec::new()),
    ] {
        let guest = Setup::http(&server).mount();
        *guest.host.answer.lock().unwrap() = Some(answer);
        assert_eq!(kind(guest.read("f")), ErrorKind::Unreachable);
    }
}

#[test]
fn redirect_is_followed_to_the_same_path_alone() {
    let server = server();
    server.site(|site| site.put("/data/login", b"<html>log in</html>"));
    server.fault(|request, _| match request.path() {
        "/data/f" => Reaction::Answer(Response::new(302).with("location", "/data/login?token=hunter2")),
        "/data/loop" => Reaction::Answer(Response::new(302).with("location", "/data/loop")),
        _ => Reaction::Serve,
    });
    let guest = Setup::http(&server).mount();
    let error = guest.read("f").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    let message = error.to_string();
    assert!(
        message.contains("/data/login") && !message.contains("hunter2"),
        "{message}"
    );
    server.log();
    assert_eq!(kind(guest.read("loop")), ErrorKind::Io);
    assert!(server.log().len() < 8);
}

#[test]
fn redirect_to_another_origin_is_not_followed() {
    let (server, other) = (server(), server());
    let setup = Setup {
        credentials: basic(),
        ..Setup::http(&server)
    };
    let host = |server: &Server| server.url("").trim_start_matches("http:").to_string();
    for location in [
        other.url("/data/f"),
        host(&other),
        server.url("/data/f").replace("http:", "https:"),
        String::new(),
    ] {
        let to = location.clone();
        server.fault(move |_, _| Reaction::Answer(Response::new(302).with("location", to.as_str())));
        let error = setup.mount().read("f").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{location}");
        assert!(error.to_string().contains(&location), "{error}");
    }
    assert!(other.seen().is_empty());
}

#[test]
fn redirect_of_a_write_is_not_followed() {
    let server = server();
    server.fault(|request, _| match (request.method.as_str(), request.path()) {
        ("PUT", "/data/new") => Reaction::Answer(Response::new(307).with("location", "/data/elsewhere")),
        _ => Reaction::Serve,
    });
    let guest = Setup::http(&server).mount();
    guest.write("new", "x").unwrap();
    assert_eq!(guest.fs.flush().unwrap_err().failures.len(), 1);
    assert_eq!(server.site(|site| site.get("/data/elsewhere")), None);
}

fn config(url: &str) -> Config {
    Setup::new(Protocol::Http, url).config
}

fn made(config: &Config, credentials: Credentials) -> Result<NetFs, Error> {
    let directory = tempfile::tempdir().unwrap();
    let open = || fs::File::open(directory.path()).unwrap().into();
    let directories = qyvol_netfs::Directories {
        root: open(),
        staging: open(),
        cache: None,
    };
    NetFs::new(
        config,
        credentials,
        Arc::new(crate::support::TestHost::default()),
        directories,
    )
}

#[test]
fn credentials_are_not_sent_unencrypted_unless_that_is_allowed() {
    for credentials in [basic(), Credentials::Bearer(Secret::new("t0ken"))] {
        let mut config = config("http://files.example/data");
        assert!(matches!(made(&config, credentials.clone()), Err(Error::Credentials(_))));
        config.allow_plain_credentials = true;
        made(&config, credentials.clone()).unwrap();
        for url in [
            "https://files.example/data",
            "http://127.0.0.1/data",
            "http://localhost:1/data",
        ] {
            made(&self::config(url), credentials.clone()).unwrap();
        }
    }
    made(&config("http://files.example/data"), Credentials::None).unwrap();
}

#[test]
fn endpoint_is_known_before_anything_is_dialled() {
    for (url, protocol, due) in [
        ("https://Files.example/data", Protocol::Http, ("files.example", 443)),
        ("http://[::1]:8080", Protocol::WebDav, ("::1", 8080)),
        (
            "s3://b/x",
            Protocol::S3 {
                region: "eu-west-1".to_string(),
            },
            ("b.s3.eu-west-1.amazonaws.com", 443),
        ),
    ] {
        let config = Config {
            protocol,
            ..config(url)
        };
        let (host, port) = config.endpoint().unwrap();
        assert_eq!((host.as_str(), port), due);
    }
    assert!(matches!(config("gopher://x/").endpoint(), Err(Error::Url { .. })));
    let shown = format!("{:?}", config("https://ana:hunter2@files.example/?sig=hunter2"));
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn what_is_no_directory_or_certificate_is_refused() {
    let file: std::os::fd::OwnedFd = tempfile::tempfile().unwrap().into();
    let directories = qyvol_netfs::Directories {
        root: file.try_clone().unwrap(),
        staging: file,
        cache: None,
    };
    let host = Arc::new(crate::support::TestHost::default());
    let made_of_files = NetFs::new(&config("http://localhost/"), Credentials::None, host, directories);
    assert!(matches!(made_of_files, Err(Error::Directory { .. })));
    let mut config = config("https://files.example/");
    for bad in [
        "",
        "no certificate",
        "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
    ] {
        config.certificates = vec![bad.as_bytes().to_vec()];
        assert!(
            matches!(made(&config, Credentials::None), Err(Error::Certificates(_))),
            "{bad}"
        );
    }
}

/// A certificate for loopback and its key, PEM.
fn certificate() -> (Vec<u8>, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    let (key, certificate) = (directory.path().join("key"), directory.path().join("crt"));
    let made = Command::new("openssl")
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2".split(' '))
        .args("-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1".split(' '))
        .args("-addext basicConstraints=critical,CA:FALSE -keyout".split(' '))
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(made.success());
    (fs::read(certificate).unwrap(), fs::read(key).unwrap())
}

/// Speaks TLS in front of a server; the URL of its `/data`.
fn behind_tls(server: &Server, certificate: &[u8], key: &[u8]) -> String {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate).unwrap()],
            PrivateKeyDer::from_pem_slice(key).unwrap(),
        )
        .unwrap();
    let config = Arc::new(config);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/data", listener.local_addr().unwrap());
    let address = server.address();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let config = config.clone();
            thread::spawn(move || -> io::Result<()> {
                let connection = rustls::ServerConnection::new(config).map_err(io::Error::other)?;
                let mut tls = rustls::StreamOwned::new(connection, stream?);
                // One request after the other: its head, and the whole answer to it.
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") {
                    io::Read::read_exact(&mut tls, &mut byte)?;
                    request.push(byte[0]);
                }
                let mut plain = std::net::TcpStream::connect(address)?;
                io::Write::write_all(&mut plain, &request)?;
                plain.shutdown(std::net::Shutdown::Write)?;
                io::copy(&mut plain, &mut tls)?;
                tls.conn.send_close_notify();
                io::Write::flush(&mut tls)
            });
        }
    });
    url
}

#[test]
fn encrypted_server_is_read_if_its_certificate_is_trusted() {
    if lacks(&["openssl"]) {
        return;
    }
    let server = server();
    let (certificate, key) = certificate();
    let url = behind_tls(&server, &certificate, &key);
    let cache = tempfile::tempdir().unwrap();
    let mut setup = Setup {
        credentials: basic(),
        ..Setup::new(Protocol::Http, &url)
    }
    .cache(cache.path());
    setup.config.certificates = vec![certificate];
    assert_eq!(setup.mount().read("f").unwrap(), "hello");
    server.log();
    // Somebody else's server: a copy that is here must not hide that.
    setup.config.certificates.clear();
    let error = setup.mount().read("f").unwrap_err();
    assert!(error.to_string().contains("TLS"), "{error}");
    assert!(server.log().is_empty());
}
