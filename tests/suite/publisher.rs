//! Another tool that publishes artifacts, and what a failed import leaves.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use qyvol::types::Digest;
use serde_json::{Value, json};

use crate::registry::Server;
use crate::support::{User, third_party};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const CONFIG: &str = "application/vnd.wasm.config.v0+json";
pub const WASM: &str = "application/wasm";
pub const OLD_WASM: &str = "application/vnd.wasm.content.layer.v1+wasm";

/// Another tool that publishes to a registry, by plain HTTP.
pub struct Publisher<'a> {
    pub server: &'a Server,
    /// An `Authorization` field.
    pub shown: &'a str,
}

impl Publisher<'_> {
    pub fn ask(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.server.address).unwrap();
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n",
            self.server.address,
            body.len()
        );
        if !self.shown.is_empty() {
            head.push_str(&format!("authorization: {}\r\n", self.shown));
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer)
    }

    /// Puts a blob; its descriptor.
    pub fn blob(&self, repository: &str, kind: &str, bytes: &[u8]) -> Value {
        let (status, answer) = self.ask("POST", &format!("/v2/{repository}/blobs/uploads/"), "x/y", b"");
        assert_eq!(status, 202, "{answer}");
        let location = answer.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("location").then_some(value.trim())
        });
        let location = location.unwrap();
        let path = location
            .strip_prefix("http://")
            .map_or(location, |rest| &rest[rest.find('/').unwrap()..]);
        let digest = Digest::of(bytes).to_string();
        let sign = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{sign}digest={digest}");
        let (status, answer) = self.ask("PUT", &path, "application/octet-stream", bytes);
        assert_eq!(status, 201, "{answer}");
        json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
    }

    /// Puts a manifest under a tag; its descriptor.
    pub fn manifest(&self, name: &str, kind: &str, manifest: &Value) -> Value {
        let (repository, tag) = name.split_once(':').unwrap();
        let bytes = serde_json::to_vec(manifest).unwrap();
        let path = format!("/v2/{repository}/manifests/{tag}");
        let (status, answer) = self.ask("PUT", &path, kind, &bytes);
        assert_eq!(status, 201, "{answer}");
        json!({"mediaType": kind, "digest": Digest::of(&bytes).to_string(), "size": bytes.len()})
    }

    /// An artifact: its config and layers with their types and titles.
    pub fn artifact(&self, name: &str, config: (&str, &[u8]), layers: &[(&str, &str, &[u8])]) -> Value {
        let (repository, _) = name.split_once(':').unwrap();
        let layers: Vec<Value> = layers
            .iter()
            .map(|(kind, title, bytes)| {
                let mut layer = self.blob(repository, kind, bytes);
                if !title.is_empty() {
                    layer["annotations"] = json!({"org.opencontainers.image.title": title});
                }
                layer
            })
            .collect();
        let config = self.blob(repository, config.0, config.1);
        self.manifest(
            name,
            MANIFEST,
            &json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}),
        )
    }

    /// What `wkg` publishes.
    pub fn wkg(&self, name: &str, wasm: &[u8]) -> Value {
        let config = br#"{"created":"2026-01-31T10:29:44Z","architecture":"wasm","os":"wasip2","layerDigests":[]}"#;
        self.artifact(name, (CONFIG, config), &[(WASM, "", wasm)])
    }
}

pub fn publisher(server: &Server) -> Publisher<'_> {
    Publisher { server, shown: "" }
}

/// The files of a container image, packed by `tar`.
pub fn files(user: &User, directory: &str, files: &[(&str, &[u8])], gzip: bool) -> Vec<u8> {
    for (path, bytes) in files {
        user.write(&format!("{directory}/{path}"), bytes);
    }
    let mut tar = Command::new("tar");
    tar.arg(if gzip { "-czf" } else { "-cf" })
        .arg(user.path(&format!("{directory}.tar")))
        .arg("-C")
        .arg(user.path(directory))
        .arg(".");
    third_party("tar", &mut tar).expect(0);
    fs::read(user.path(&format!("{directory}.tar"))).unwrap()
}

/// Asserts that neither a file nor anything in the store was written.
#[track_caller]
pub fn assert_nothing_written(user: &User, file: &str) {
    assert!(!user.path(file).exists());
    assert!(user.stored().is_empty(), "{:?}", user.stored());
}
