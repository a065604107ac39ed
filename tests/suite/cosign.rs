//! Images that cosign signed with a key. What its versions 3 push is written here by hand, as
//! its sources have it: Debian has no cosign. Where one is in `PATH`, it reads what we sign.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qyvol::trust::PublicKey;
use qyvol::types::{Digest, media_type};
use serde_json::{Value, json};

use crate::needs::lacks;
use crate::registry::Server;
use crate::support::{User, third_party};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Status, `Location` and body of an answer.
type Answer = (u16, String, Vec<u8>);

pub fn send(server: &Server, method: &str, path: &str, kind: &str, body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(&server.address).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nAccept: {kind}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        server.address,
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = BufReader::new(stream);
    let mut line = String::new();
    answer.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap().parse().unwrap();
    let mut location = String::new();
    loop {
        line.clear();
        answer.read_line(&mut line).unwrap();
        match line.trim().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("location") => location = value.to_string(),
            Some(_) => {}
            None => break,
        }
    }
    let mut content = Vec::new();
    answer.read_to_end(&mut content).unwrap();
    (status, location, content)
}

pub fn push_blob(server: &Server, repository: &str, bytes: &[u8]) -> Value {
    let path = format!("/v2/{repository}/blobs/uploads/");
    let (status, location, _) = send(server, "POST", &path, "application/octet-stream", b"");
    assert_eq!(status, 202);
    let path = location.trim_start_matches(&format!("http://{}", server.address));
    let digest = Digest::of(bytes).to_string();
    let join = if path.contains('?') { '&' } else { '?' };
    let path = format!("{path}{join}digest={digest}");
    assert_eq!(send(server, "PUT", &path, "application/octet-stream", bytes).0, 201);
    json!({ "digest": digest, "size": bytes.len() })
}

fn openssl(user: &User, args: &[&str]) {
    third_party("openssl", Command::new("openssl").args(args).current_dir(user.path(""))).expect(0);
}

/// A key as `cosign generate-key-pair` makes them: ECDSA on P-256.
pub fn key_pair(user: &User) -> PublicKey {
    let curve = "ec_paramgen_curve:P-256";
    openssl(
        user,
        &["genpkey", "-algorithm", "EC", "-pkeyopt", curve, "-out", "cosign.key"],
    );
    openssl(user, &["pkey", "-in", "cosign.key", "-pubout", "-out", "cosign.pub"]);
    PublicKey::from_pem(&fs::read_to_string(user.path("cosign.pub")).unwrap()).unwrap()
}

/// What `cosign sign --key` adds to an image; `user` has the key.
fn push_signature(server: &Server, subject: &Value, user: &User, key: &PublicKey) {
    let digest = subject["digest"].as_str().unwrap();
    let payload = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "digest": { "sha256": digest.trim_start_matches("sha256:") } }],
        "predicateType": "https://sigstore.dev/cosign/sign/v1",
        "predicate": {},
    });
    push_statement(server, subject, user, key, &payload);
}

/// The digest and size of a pushed file's manifest, as a registry has it.
pub fn subject(user: &User, server: &Server, repository: &str, file: &str) -> Value {
    let inspected = user.qyv(&["inspect", file, "--format", "json"]).expect(0).json();
    let digest = inspected["digest"].as_str().unwrap();
    let (_, _, manifest) = send(
        server,
        "GET",
        &format!("/v2/{repository}/manifests/{digest}"),
        MANIFEST,
        b"",
    );
    assert_eq!(Digest::of(&manifest).to_string(), digest);
    json!({ "digest": digest, "size": manifest.len() })
}

/// The same for any statement: what `cosign attest --key` adds.
pub fn push_statement(server: &Server, subject: &Value, user: &User, key: &PublicKey, statement: &Value) {
    let payload = statement.to_string();
    let kind = "application/vnd.in-toto+json";
    let signed = format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len());
    user.write("signed", signed);
    openssl(
        user,
        &["dgst", "-sha256", "-sign", "cosign.key", "-out", "signature", "signed"],
    );
    let signature = fs::read(user.path("signature")).unwrap();
    let bundle = json!({
        "mediaType": media_type::SIGSTORE_BUNDLE,
        "verificationMaterial": {
            "publicKey": { "hint": key.hint() },
            "tlogEntries": [],
            "timestampVerificationData": { "rfc3161Timestamps": [] },
        },
        "dsseEnvelope": {
            "payload": STANDARD.encode(&payload),
            "payloadType": kind,
            "signatures": [{ "sig": STANDARD.encode(signature), "keyid": "" }],
        },
    })
    .to_string();
    let kind = statement["predicateType"].as_str().unwrap();
    attach(server, "app", subject, &bundle, kind);
}

/// Adds a bundle to an image, as cosign and GitHub's `actions/attest` do.
pub fn attach(server: &Server, repository: &str, subject: &Value, bundle: &str, predicate_type: &str) {
    let mut layer = push_blob(server, repository, bundle.as_bytes());
    layer["mediaType"] = json!(media_type::SIGSTORE_BUNDLE);
    let mut config = push_blob(server, repository, b"{}");
    config["mediaType"] = json!("application/vnd.oci.empty.v1+json");
    config["artifactType"] = json!(media_type::SIGSTORE_BUNDLE);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": media_type::SIGSTORE_BUNDLE,
        "config": config,
        "layers": [layer],
        "subject": { "mediaType": MANIFEST, "digest": subject["digest"], "size": subject["size"] },
        "annotations": {
            "dev.sigstore.bundle.content": "dsse-envelope",
            "dev.sigstore.bundle.predicateType": predicate_type,
            "org.opencontainers.image.created": "2026-11-22T10:00:00Z",
        },
    })
    .to_string();
    let path = format!("/v2/{repository}/manifests/{}", Digest::of(manifest.as_bytes()));
    assert_eq!(send(server, "PUT", &path, MANIFEST, manifest.as_bytes()).0, 201);
}

// [SIGN-038] [BIN-043]
#[test]
fn image_that_cosign_signed_runs_under_a_rule_that_says_so() {
    if lacks(&["openssl"]) {
        return;
    }
    let server = Server::hub(&[]);
    let publisher = User::new();
    let file = publisher.built("app", "");
    let name = server.name("app:1.0.0");
    publisher.qyv(&["push", &file, &name]).expect(0);
    let key = key_pair(&publisher);
    push_signature(&server, &subject(&publisher, &server, "app", &file), &publisher, &key);

    let host = User::new();
    host.write("cosign.pub", key.to_pem());
    let scope = server.name("*");
    // A rule for Qyvol's own signatures does not take it, and says what would.
    host.qyv(&["trust", "add", &scope, "--key", "cosign.pub"]).expect(0);
    let refused = host.qyv(&["pull", "--verify", &name]).expect(11);
    assert!(refused.err.contains("form: cosign"), "{}", refused.err);
    host.qyv(&["trust", "remove", &scope]).expect(0);
    host.qyv(&["trust", "add", &scope, "--key", "cosign.pub", "--form", "cosign"])
        .expect(0);
    host.qyv(&["run", "--pull", "always", &name, "exit", "5"]).expect(5);
    let report = host.qyv(&["verify", &name, "--format", "json"]).expect(0).json();
    let signatures = report["results"][0]["report"]["signatures"].as_array().unwrap();
    let good: Vec<&Value> = signatures.iter().filter(|s| s["verdict"] == "good").collect();
    assert_eq!(good.len(), 1, "{report}");
    assert_eq!(good[0]["form"], "cosign");
    // It travels on in a file, and is good there without a network.
    host.qyv(&["save", &name, "-o", "saved.qyvbin"]).expect(0);
    let auditor = User::new();
    auditor.write("cosign.pub", key.to_pem());
    let saved = host.path("saved.qyvbin");
    auditor
        .qyv(&["verify", saved.to_str().unwrap(), "--key", "cosign.pub"])
        .expect(0);
}

// [SIGN-013]
#[test]
fn cosign_itself_accepts_our_signature_by_its_key_and_by_no_other() {
    if lacks(&["cosign"]) {
        return;
    }
    let server = Server::hub(&[]);
    let user = User::new();
    let file = user.built("app", "");
    let name = server.name("app:1.0.0");
    user.qyv(&["push", &file, &name]).expect(0);
    user.qyv(&["keys", "generate", "other"]).expect(0);
    for (key, accepts) in [("default", true), ("other", false)] {
        user.write("key.pub", user.qyv(&["keys", "export", key]).expect(0).out);
        let mut cosign = Command::new("cosign");
        cosign.args(["verify", "--key", "key.pub", "--insecure-ignore-tlog=true"]);
        cosign
            .args(["--allow-http-registry=true", &name])
            .env("HOME", user.path(""))
            .current_dir(user.path(""));
        let done = third_party("cosign", &mut cosign);
        assert_eq!(done.code == 0, accepts, "{key}: {}", done.err);
    }
}
