//! `import`: what other tools have published becomes a signed image of ours.

use std::fs;
use std::process::Command;

use qyvol::types::Digest;
use serde_json::{Value, json};

use crate::needs::lacks;
use crate::publisher::{CONFIG, INDEX, MANIFEST, OLD_WASM, WASM, assert_nothing_written, files, publisher};
use crate::registry::Server;
use crate::support::{PROBE, PROBE_MODULE, User};

// [REG-027] [REG-030] [REG-031]
#[test]
fn artifact_of_each_shape_becomes_a_signed_image_that_runs() {
    for server in Server::both() {
        let other = publisher(&server);
        let spin = json!({"components": [{"id": "web", "source": {"digest": Digest::of(PROBE_MODULE).to_string()}}]});
        let spin = spin.to_string();
        let empty = ("application/vnd.oci.empty.v1+json", &b"{}"[..]);
        let shapes: [(_, (_, &[u8]), _, _); 6] = [
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
            assert_eq!(view["app"]["permissions"], json!({}));
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
    // Whoever pulls it is told.
    let done = user.qyv(&["pull", &name]).expect(16);
    assert!(done.err.contains(&format!("`qyv import {name}`")), "{}", done.err);
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
        assert_nothing_written(&user, "shop.qyvbin");
    }
}

// [REG-027] [REG-029]
#[test]
fn layers_of_dockers_form_are_searched_from_the_top() {
    const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
    const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    for server in Server::both() {
        let user = User::new();
        let other = publisher(&server);
        let layers = [
            files(&user, "old", &[("app.wasm", b"\0asm, and of no use")], true),
            files(&user, "app", &[("app.wasm", PROBE_MODULE)], true),
            files(&user, "top", &[("readme", b"1")], true),
            files(&user, "gone", &[(".wh.app.wasm", b"")], true),
        ];
        let layers: Vec<Value> = layers.iter().map(|bytes| other.blob("shop", LAYER, bytes)).collect();
        // Before there was a platform for it: the entrypoint says what it is.
        let config = br#"{"architecture":"amd64","os":"linux","config":{"Cmd":["app.wasm"],"WorkingDir":"/"}}"#;
        let config = other.blob("shop", "application/vnd.docker.container.image.v1+json", config);
        for (version, count) in [("1.0.0", 3), ("2.0.0", 4)] {
            let manifest =
                json!({"schemaVersion": 2, "mediaType": DOCKER, "config": config, "layers": layers[..count]});
            other.manifest(&format!("shop:{version}"), DOCKER, &manifest);
        }
        let done = user.qyv(&["import", &server.name("shop:1.0.0"), "-v"]).expect(0);
        let below = format!("the files of layer {}", layers[0]["digest"].as_str().unwrap());
        assert!(
            done.err.contains("the file readme") && done.err.contains(&below),
            "{}",
            done.err
        );
        user.qyv(&["run", "shop.qyvbin", "exit", "9"]).expect(9);
        let user = User::new();
        let done = user.qyv(&["import", &server.name("shop:2.0.0")]).expect(16);
        assert!(done.err.contains("`app.wasm` is removed or replaced"), "{}", done.err);
        assert_nothing_written(&user, "shop.qyvbin");
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
    assert_nothing_written(&user, "app.qyvbin");
    for layer in ["worker", &id(PROBE_MODULE)] {
        let done = user
            .qyv(&["import", &name, "--layer", layer, "--replace", "-v"])
            .expect(0);
        assert!(done.err.contains("2 parts of the source left out"), "{}", done.err);
        user.qyv(&["run", "app.qyvbin", "exit", "3"]).expect(3);
    }
}

// [REG-031]
#[test]
fn version_comes_from_the_user_the_tag_or_the_source() {
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
    assert_nothing_written(&user, "hello.qyvbin");
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
        let done = user
            .qyv(&["import", &latest, "--replace", "--format", "json"])
            .expect(code);
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
    let manifest = lines
        .iter()
        .take_while(|line| !line.starts_with("signatures on"))
        .copied();
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
fn signatures_of_the_source_are_reported_and_do_not_count() {
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
            done.err
                .contains("signatures on the source, neither checked nor inherited: 2 cosign, 1 sigstore bundle\n"),
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
    if lacks(&["namespaces"]) {
        return;
    }
    let user = User::new();
    user.write("probe.wasm", PROBE_MODULE);
    user.qyv(&["import", "probe.wasm"]).expect(2);
    assert_nothing_written(&user, "probe.qyvbin");
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
