//! `import` where the source is not right, does not come, or is closed.

use std::fs;
use std::io::{Read, Write};

use qyvol::types::Digest;
use serde_json::json;

use crate::needs::lacks;
use crate::publisher::{CONFIG, MANIFEST, Publisher, WASM, assert_nothing_written, publisher};
use crate::registry::Server;
use crate::support::{CommandOutput, PROBE, PROBE_MODULE, User};

// [REG-034]
#[test]
fn source_that_is_no_program_or_not_there_changes_nothing() {
    let server = Server::hub(&[]);
    let other = publisher(&server);
    let user = User::new();
    let import = |name: &str| user.qyv(&["import", &server.name(name), "--retries", "0"]);
    other.artifact("text:1.0.0", (CONFIG, b"{}"), &[(WASM, "", b"hello")]);
    import("text:1.0.0").expect(1);
    // A module that no command can be made of.
    other.wkg("library:1.0.0", b"\0asm\x01\0\0\0");
    import("library:1.0.0").expect(1);
    other.artifact("empty:1.0.0", (CONFIG, b"{}"), &[]);
    import("empty:1.0.0").expect(16);
    let two = [("text/plain", "", &b"a"[..]), ("text/plain", "", b"b")];
    other.artifact("other:1.0.0", (CONFIG, b"{}"), &two);
    let done = import("other:1.0.0").expect(2);
    assert!(done.err.contains("text/plain"), "{}", done.err);
    import("absent:1.0.0").expect(69);
    let done = user.qyv(&["import", "acme/hello:1.0.0"]).expect(2);
    assert!(done.err.contains("docker.io/acme/hello:1.0.0"), "{}", done.err);
    user.qyv(&["import", "127.0.0.1:1/hello:1.0.0", "--retries", "0"])
        .expect(75);
    // Larger than any component, by what it says of itself.
    let config = other.blob("huge", CONFIG, b"{}");
    let mut layer = other.blob("huge", WASM, PROBE);
    layer["size"] = json!(300 << 20);
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
    let bytes = serde_json::to_vec(&manifest).unwrap();
    if other.ask("PUT", "/v2/huge/manifests/1.0.0", MANIFEST, &bytes).0 == 201 {
        import("huge:1.0.0").expect(17);
    }
    assert!(user.stored().is_empty(), "{:?}", user.stored());
    let made = fs::read_dir(user.path("")).unwrap().flatten();
    let made: Vec<_> = made
        .filter(|e| e.path().extension().is_some_and(|e| e == "qyvbin"))
        .collect();
    assert!(made.is_empty(), "{made:?}");
    // What stands at the output stays too.
    user.write("text.qyvbin", "mine");
    import("text:1.0.0").expect(1);
    assert_eq!(fs::read(user.path("text.qyvbin")).unwrap(), b"mine");
}

// [REG-028]
#[test]
fn import_uses_the_users_credentials() {
    if lacks(&["docker-registry"]) {
        return;
    }
    let user = User::new();
    // `ana` and `s3cret`.
    let htpasswd = user.write(
        "htpasswd",
        "ana:$2a$05$JQrQrjK93Bi1qA3Z5bxkHu/MTatNDWvJ1LBIHPT/ujhz8wq7jEpVC\n",
    );
    let auth = format!("auth: {{ htpasswd: {{ realm: r, path: {} }} }}\n", htpasswd.display());
    let server = Server::docker(&auth);
    let other = Publisher {
        server: &server,
        shown: "Basic YW5hOnMzY3JldA==",
    };
    other.wkg("hello:1.0.0", PROBE);
    let name = server.name("hello:1.0.0");
    let done = user.qyv(&["import", &name]).expect(69);
    assert!(done.err.contains("qyv login"), "{}", done.err);
    assert_nothing_written(&user, "hello.qyvbin");
    let mut command = user.command();
    command
        .env("QYVOL_REGISTRY", &server.address)
        .env("QYVOL_REGISTRY_USER", "ana")
        .env("QYVOL_REGISTRY_PASSWORD", "s3cret")
        // Of no use to what is reached on this host.
        .env("HTTP_PROXY", "http://127.0.0.1:1")
        .env("http_proxy", "http://127.0.0.1:1")
        .env("HTTPS_PROXY", "http://127.0.0.1:1")
        .args(["import", &name, "-v"]);
    let done = CommandOutput::from(&command.output().unwrap()).expect(0);
    assert!(!format!("{done:?}").contains("s3cret"));
    user.qyv(&["run", "hello.qyvbin", "env"]).expect(0);
}

/// A registry that has one artifact and answers for its layer with these bytes,
/// then closes the connection.
fn broken_registry(layer: &'static [u8], answer: Vec<u8>) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let digest = |bytes: &[u8]| Digest::of(bytes).to_string();
    let manifest = json!({
        "schemaVersion": 2,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest(b"{}"), "size": 2},
        "layers": [{"mediaType": WASM, "digest": digest(layer), "size": layer.len()}],
    });
    let manifest = manifest.to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let sent = match head.split(' ').nth(1).unwrap_or_default() {
                path if path.ends_with("/manifests/1.0.0") => {
                    format!("HTTP/1.1 200 X\r\ncontent-type: {MANIFEST}\r\nconnection: close\r\n\r\n{manifest}")
                        .into_bytes()
                }
                path if path.contains("/blobs/") && head.starts_with("HEAD ") => {
                    b"HTTP/1.1 200 X\r\nconnection: close\r\n\r\n".to_vec()
                }
                path if path.contains("/blobs/") => answer.clone(),
                _ => b"HTTP/1.1 404 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec(),
            };
            let _ = stream.write_all(&sent);
        }
    });
    format!("{address}/hello:1.0.0")
}

// [REG-034]
#[test]
fn corrupt_layer_fails_like_a_pull() {
    let answer = |length: usize, body: &[u8]| {
        let head = format!("HTTP/1.1 200 X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
        [head.as_bytes(), body].concat()
    };
    let size = PROBE_MODULE.len();
    let mut altered = PROBE_MODULE.to_vec();
    altered[size / 2] ^= 1;
    let error = b"HTTP/1.1 500 X\r\nconnection: close\r\n\r\n".to_vec();
    for (answer, code, told) in [
        (answer(size, PROBE_MODULE), 0, ""),
        (answer(size, &altered), 69, "digest"),
        (answer(size + 1, PROBE_MODULE), 69, "bytes"),
        (answer(size, &PROBE_MODULE[..size / 2]), 75, "can't reach"),
        (error, 75, "answered 500"),
    ] {
        let user = User::new();
        let name = broken_registry(PROBE_MODULE, answer);
        let done = user.qyv(&["import", &name, "--retries", "0"]).expect(code);
        assert!(done.err.contains(told), "{told}: {}", done.err);
        if code != 0 {
            assert_nothing_written(&user, "hello.qyvbin");
        }
    }
}

// [REG-028]
#[test]
fn host_without_certificates_reports_what_the_other_client_lacks() {
    let server = Server::hub(&[]);
    publisher(&server).wkg("hello:1.0.0", PROBE);
    let user = User::new();
    let name = server.name("hello:1.0.0");
    user.write("none/none.pem", "");
    let mut command = user.command();
    command
        .env("SSL_CERT_FILE", user.path("none/none.pem"))
        .env("SSL_CERT_DIR", user.path("none"));
    let done = CommandOutput::from(&command.args(["import", &name]).output().unwrap()).expect(2);
    assert!(done.err.contains("no CA certificates"), "{}", done.err);
    assert_nothing_written(&user, "hello.qyvbin");
}
