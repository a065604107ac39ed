//! `import`: what other tools have published becomes a signed image of ours.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use qyvol::types::Digest;
use serde_json::{Value, json};

use crate::registry::Server;
use crate::support::{Done, PROBE, PROBE_MODULE, User, third_party};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.wasm.config.v0+json";
const WASM: &str = "application/wasm";
const OLD_WASM: &str = "application/vnd.wasm.content.layer.v1+wasm";

/// Another tool that publishes to a registry, by plain HTTP.
struct Publisher<'a> {
    server: &'a Server,
    /// An `Authorization` field.
    shown: &'a str,
}

impl Publisher<'_> {
    fn ask(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, String) {
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
    fn blob(&self, repository: &str, kind: &str, bytes: &[u8]) -> Value {
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
    fn manifest(&self, name: &str, kind: &str, manifest: &Value) -> Value {
        let (repository, tag) = name.split_once(':').unwrap();
        let bytes = serde_json::to_vec(manifest).unwrap();
        let path = format!("/v2/{repository}/manifests/{tag}");
        let (status, answer) = self.ask("PUT", &path, kind, &bytes);
        assert_eq!(status, 201, "{answer}");
        json!({"mediaType": kind, "digest": Digest::of(&bytes).to_string(), "size": bytes.len()})
    }

    /// An artifact: its config and layers with their types and titles.
    fn artifact(&self, name: &str, config: (&str, &[u8]), layers: &[(&str, &str, &[u8])]) -> Value {
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
    fn wkg(&self, name: &str, wasm: &[u8]) -> Value {
        let config = br#"{"created":"2026-01-31T10:29:44Z","architecture":"wasm","os":"wasip2","layerDigests":[]}"#;
        self.artifact(name, (CONFIG, config), &[(WASM, "", wasm)])
    }
}

fn publisher(server: &Server) -> Publisher<'_> {
    Publisher { server, shown: "" }
}

/// The files of a container image, packed by `tar`.
fn files(user: &User, folder: &str, files: &[(&str, &[u8])], gzip: bool) -> Vec<u8> {
    for (path, bytes) in files {
        user.write(&format!("{folder}/{path}"), bytes);
    }
    let mut tar = Command::new("tar");
    tar.arg(if gzip { "-czf" } else { "-cf" })
        .arg(user.path(&format!("{folder}.tar")))
        .arg("-C")
        .arg(user.path(folder))
        .arg(".");
    third_party("tar", &mut tar).expect(0);
    fs::read(user.path(&format!("{folder}.tar"))).unwrap()
}

/// Nothing came of it: neither a file nor anything in the store.
#[track_caller]
fn nothing(user: &User, file: &str) {
    assert!(!user.path(file).exists());
    assert!(user.stored().is_empty(), "{:?}", user.stored());
}

// [REG-027] [REG-030] [REG-031]
#[test]
fn artifact_of_each_shape_becomes_a_signed_image_that_runs() {
    for server in Server::both() {
        let other = publisher(&server);
        let spin = json!({"components": [{"id": "web", "source": {"digest": Digest::of(PROBE_MODULE).to_string()}}]});
        let spin = spin.to_string();
        let empty = ("application/vnd.oci.empty.v1+json", &b"{}"[..]);
        let shapes: [(&str, (&str, &[u8]), &str, &str); 6] = [
            ("wkg", (CONFIG, b"{\"os\":\"wasip1\"}"), WASM, ""),
            ("old", ("application/vnd.wasm.config.v1+json", b"{}"), OLD_WASM, ""),
            (
                "spin",
                ("application/vnd.fermyon.spin.application.v1+config", spin.as_bytes()),
                OLD_WASM,
                "",
            ),
            ("oras", empty, "application/vnd.oci.image.layer.v1.tar", "probe.wasm"),
            ("untyped", empty, "application/octet-stream", ""),
            ("titled", empty, "application/octet-stream", "dir/probe.wasm"),
        ];
        for (name, config, kind, title) in shapes {
            let user = User::new();
            let there = other.artifact(&format!("team/{name}:1.2.0"), config, &[(kind, title, PROBE_MODULE)]);
            let source = server.name(&format!("team/{name}:1.2.0"));
            let done = user.qyv(&["import", &source, "--format", "json"]).expect(0).json();
            assert_eq!(done["name"], format!("{name}:1.2.0"));
            assert_eq!(done["source"]["digest"], there["digest"], "{name}");
            assert_eq!(done["source"]["leftOut"], json!([]));
            let file = format!("{name}.qyvbin");
            user.qyv(&["verify", &file]).expect(0);
            user.qyv(&["run", &file, "exit", "7"]).expect(7);
            // The component as it was, nothing allowed, and where it came from.
            let view = user.qyv(&["inspect", &file, "--format", "json"]).expect(0).json();
            assert_eq!(view["componentDigest"], Digest::of(PROBE_MODULE).to_string());
            assert_eq!(
                view["app"]["permissions"],
                json!({"fs": "none", "net": false, "exec": false, "gfx": false})
            );
            assert_eq!(view["source"], json!({"name": source, "digest": there["digest"]}));
            let text = user.qyv(&["inspect", &format!("{name}:1.2.0")]).expect(0).out;
            assert!(text.contains(&format!("from {source}, ")), "{text}");
            user.qyv(&["check"]).expect(0);
        }
    }
}

// [REG-031]
#[test]
fn same_source_and_key_make_the_same_bytes() {
    let server = Server::hub(&[]);
    publisher(&server).wkg("hello:1.0.0", PROBE);
    let user = User::new();
    let name = server.name("hello:1.0.0");
    user.qyv(&["import", &name, "-o", "a.qyvbin"]).expect(0);
    user.qyv(&["import", &name, "-o", "b.qyvbin"]).expect(0);
    assert_eq!(
        fs::read(user.path("a.qyvbin")).unwrap(),
        fs::read(user.path("b.qyvbin")).unwrap()
    );
    // It goes on as any image does.
    let there = server.name("ours/hello:1.0.0");
    user.qyv(&["push", "a.qyvbin", &there]).expect(0);
    let done = user.qyv(&["import", &there]).expect(2);
    assert!(done.err.contains(&format!("qyv pull {there}")), "{}", done.err);
    user.qyv(&["pull", &there]).expect(0);
}

// [REG-029]
#[test]
fn container_image_is_taken_by_its_platform_and_entrypoint() {
    for (server, gzip) in Server::both().into_iter().zip([true, false]) {
        let user = User::new();
        let other = publisher(&server);
        let kind = match gzip {
            true => "application/vnd.oci.image.layer.v1.tar+gzip",
            false => "application/vnd.oci.image.layer.v1.tar",
        };
        let layer = files(
            &user,
            "root",
            &[("app/probe.wasm", PROBE_MODULE), ("app/data.txt", b"1")],
            gzip,
        );
        let config = json!({
            "architecture": "wasm", "os": "wasi", "rootfs": {"type": "layers", "diff_ids": []},
            "config": {"Entrypoint": ["/app/probe.wasm", "--serve"], "Env": ["HOME=/"]},
        });
        let config = config.to_string();
        let kinds = ("application/vnd.oci.image.config.v1+json", config.as_bytes());
        let mut wasm = other.artifact("shop:wasm", kinds, &[(kind, "", &layer)]);
        wasm["platform"] = json!({"os": "wasi", "architecture": "wasm"});
        let native = br#"{"architecture":"amd64","os":"linux","config":{"Cmd":["/bin/sh"]}}"#;
        let kinds = ("application/vnd.oci.image.config.v1+json", &native[..]);
        let mut linux = other.artifact("shop:linux", kinds, &[(kind, "", &layer)]);
        linux["platform"] = json!({"os": "linux", "architecture": "amd64"});
        let index = |entries: &[&Value]| json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
        other.manifest("shop:2.0.0", INDEX, &index(&[&linux, &wasm]));
        let done = user.qyv(&["import", &server.name("shop:2.0.0"), "-v"]).expect(0);
        for told in [
            "its arguments: --serve",
            "its environment: HOME",
            "the file app/data.txt",
        ] {
            assert!(done.err.contains(told), "{told}: {}", done.err);
        }
        user.qyv(&["run", "shop.qyvbin", "exit", "5"]).expect(5);
        let view = user
            .qyv(&["inspect", "shop.qyvbin", "--format", "json"])
            .expect(0)
            .json();
        assert_eq!(view["source"]["digest"], wasm["digest"]);
        // None of them is WebAssembly, or the one that was asked for.
        let user = User::new();
        other.manifest("shop:native", INDEX, &index(&[&linux]));
        let done = user.qyv(&["import", &server.name("shop:native")]).expect(16);
        assert!(done.err.contains("linux/amd64"), "{}", done.err);
        let done = user.qyv(&["import", &server.name("shop:linux")]).expect(16);
        assert!(done.err.contains("container image for linux/amd64"), "{}", done.err);
        nothing(&user, "shop.qyvbin");
    }
}

// [REG-030]
#[test]
fn several_components_are_listed_and_one_is_chosen() {
    let server = Server::hub(&[]);
    let other = publisher(&server);
    let id = |bytes: &[u8]| Digest::of(bytes).to_string();
    let spin = json!({"components": [
        {"id": "web", "source": {"digest": id(PROBE)}},
        {"id": "worker", "source": {"digest": id(PROBE_MODULE)}},
    ]});
    let layers = [
        (OLD_WASM, "", PROBE),
        (OLD_WASM, "", PROBE_MODULE),
        ("application/vnd.wasm.content.layer.v1+data", "index.html", &b"<p>"[..]),
    ];
    let config = ("application/vnd.fermyon.spin.application.v1+config", spin.to_string());
    other.artifact("app:1.0.0", (config.0, config.1.as_bytes()), &layers);
    let name = server.name("app:1.0.0");
    let user = User::new();
    let done = user.qyv(&["import", &name]).expect(2);
    for told in ["web ", "worker ", "index.html ", &id(PROBE_MODULE), "--layer"] {
        assert!(done.err.contains(told), "{told}: {}", done.err);
    }
    user.qyv(&["import", &name, "--layer", "other"]).expect(2);
    nothing(&user, "app.qyvbin");
    for layer in ["worker", &id(PROBE_MODULE)] {
        let done = user.qyv(&["import", &name, "--layer", layer, "-v"]).expect(0);
        assert!(done.err.contains("2 parts of the source left out"), "{}", done.err);
        user.qyv(&["run", "app.qyvbin", "exit", "3"]).expect(3);
    }
}

// [REG-031]
#[test]
fn version_is_said_by_the_user_the_tag_or_the_source() {
    let server = Server::hub(&[]);
    let other = publisher(&server);
    let there = other.wkg("team/hello:latest", PROBE);
    let user = User::new();
    let latest = server.name("team/hello");
    let pinned = format!("{latest}@{}", there["digest"].as_str().unwrap());
    for source in [&latest, &pinned] {
        let done = user.qyv(&["import", source]).expect(2);
        assert!(done.err.contains("--name hello:1.0.0"), "{}", done.err);
    }
    for bad in [
        "hello",
        "r.example/hello:1",
        "Hello:1",
        &format!("hello:1@{}", there["digest"].as_str().unwrap()),
    ] {
        user.qyv(&["import", &latest, "--name", bad]).expect(2);
    }
    nothing(&user, "hello.qyvbin");
    user.qyv(&["import", &pinned, "--name", "acme/greet:3.1.4", "-t", "mine:1"])
        .expect(0);
    user.qyv(&["run", "acme/greet:3.1.4", "env"]).expect(0);
    user.qyv(&["inspect", "mine:1"]).expect(0);
    assert!(user.path("greet.qyvbin").exists());
    // A version that the source states, or not: a bad one is none.
    let config = other.blob("team/hello", CONFIG, b"{}");
    let layer = other.blob("team/hello", WASM, PROBE);
    for (version, code) in [("2.5.0", 0), ("a b", 2)] {
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer],
            "annotations": {"org.opencontainers.image.version": version},
        });
        other.manifest("team/hello:latest", MANIFEST, &manifest);
        let done = user.qyv(&["import", &latest, "--format", "json"]).expect(code);
        assert!(code != 0 || done.json()["name"] == "hello:2.5.0");
    }
}

// [REG-032]
#[test]
fn manifest_that_is_made_grants_nothing_and_says_what_would() {
    let server = Server::hub(&[]);
    publisher(&server).wkg("hello:1.0.0", PROBE);
    let user = User::new();
    let name = server.name("hello:1.0.0");
    let done = user.qyv(&["import", &name]).expect(0);
    assert!(done.err.contains("`fs: none`"), "{}", done.err);
    // The lines that are printed are a manifest.
    let lines: Vec<&str> = done.err.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    let manifest = lines.iter().take_while(|line| !line.starts_with("the source")).copied();
    let manifest: Vec<&str> = manifest.collect();
    user.write("own/hello.qyv", manifest.join("\n") + "\n");
    user.qyv(&["import", &name, "--manifest", "own/hello.qyv"]).expect(0);
    let view = user
        .qyv(&["inspect", "hello:1.0.0", "--format", "json"])
        .expect(0)
        .json();
    assert_eq!(view["app"]["permissions"]["fs"], "read");
}

// [REG-032]
#[test]
fn manifest_of_ones_own_brings_its_assets_and_not_its_entrypoint() {
    let server = Server::hub(&[]);
    publisher(&server).wkg("hello:1.0.0", PROBE_MODULE);
    let user = User::new();
    user.write("own/a.txt", "asset");
    user.write(
        "own/app.qyv",
        "name: acme/app\nversion: 2.0.0\nentrypoint: not-there.wasm\nassets: [a.txt]\nenv: {A: b}\n",
    );
    let name = server.name("hello:1.0.0");
    let own = ["import", &name, "--manifest", "own/app.qyv"];
    user.qyv(&own).expect(0);
    let done = user.qyv(&["run", "app.qyvbin", "cat", "/assets/a.txt"]).expect(0);
    assert_eq!(done.out, "asset");
    let view = user
        .qyv(&["inspect", "acme/app:2.0.0", "--format", "json"])
        .expect(0)
        .json();
    assert_eq!(view["app"]["entrypoint"], "not-there.wasm");
    assert_eq!(view["source"]["name"], name);
    // What the command reads is never its output.
    user.qyv(&[&own[..], &["-o", "own/app.qyv", "--force"]].concat())
        .expect(1);
    user.qyv(&[&own[..], &["--name", "a:1"]].concat()).expect(2);
}

// [REG-033]
#[test]
fn signatures_of_the_source_are_told_and_count_for_nothing() {
    for server in Server::both() {
        let other = publisher(&server);
        let there = other.wkg("hello:1.0.0", PROBE);
        let digest = there["digest"].as_str().unwrap();
        let signed = "application/vnd.dev.cosign.simplesigning.v1+json";
        other.artifact(
            &format!("hello:{}.sig", digest.replace(':', "-")),
            ("application/vnd.oci.image.config.v1+json", b"{}"),
            &[(signed, "", b"one"), (signed, "", b"two")],
        );
        let bundle = "application/vnd.dev.sigstore.bundle.v0.3+json";
        let layer = other.blob("hello", bundle, b"{}");
        let empty = other.blob("hello", "application/vnd.oci.empty.v1+json", b"{}");
        let referrer = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": bundle, "config": empty,
            "layers": [layer], "subject": there,
        });
        let mut referrer = other.manifest("hello:referrer", MANIFEST, &referrer);
        referrer["artifactType"] = json!(bundle);
        // A registry without the API has a list instead.
        let list = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [referrer]});
        other.manifest(&format!("hello:{}", digest.replace(':', "-")), INDEX, &list);
        let user = User::new();
        let name = server.name("hello:1.0.0");
        let done = user.qyv(&["import", &name, "--no-sign"]).expect(0);
        assert!(
            done.err.contains("3 signatures (2 cosign, 1 sigstore bundle)"),
            "{}",
            done.err
        );
        user.qyv(&["verify", "hello.qyvbin"]).expect(10);
        user.qyv(&["run", "hello.qyvbin"]).expect(126);
    }
}

// [REG-031]
#[test]
fn bare_file_becomes_an_image_without_a_connection() {
    let user = User::new();
    user.write("probe.wasm", PROBE_MODULE);
    user.qyv(&["import", "probe.wasm"]).expect(2);
    nothing(&user, "probe.qyvbin");
    let mut command = Command::new("unshare");
    command.args([
        "-rn",
        env!("CARGO_BIN_EXE_qyv"),
        "import",
        "./probe.wasm",
        "--name",
        "probe:0.1.0",
    ]);
    user.inside("util-linux", &mut command).expect(0);
    user.qyv(&["run", "probe.qyvbin", "exit", "4"]).expect(4);
    let view = user
        .qyv(&["inspect", "probe.qyvbin", "--format", "json"])
        .expect(0)
        .json();
    assert_eq!(view["source"], Value::Null);
    // The same image as a build makes.
    user.app("probe", "");
    let text = "name: probe\nversion: 0.1.0\nentrypoint: probe.wasm\n";
    user.write("probe/probe.qyv", text);
    user.qyv(&["build", "probe", "-o", "built.qyvbin"]).expect(0);
    assert_eq!(
        fs::read(user.path("built.qyvbin")).unwrap(),
        fs::read(user.path("probe.qyvbin")).unwrap()
    );
    for bad in ["app.qyvbin", "app.qyv", ".", "sha256:0123456789ab"] {
        user.qyv(&["import", bad]).expect(2);
    }
}

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
    user.qyv(&["import", "hello:1.0.0"]).expect(2);
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
fn closed_registry_is_opened_by_the_users_credentials() {
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
    nothing(&user, "hello.qyvbin");
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
    let done = Done::from(&command.output().unwrap()).expect(0);
    assert!(!format!("{done:?}").contains("s3cret"));
    user.qyv(&["run", "hello.qyvbin", "env"]).expect(0);
}
