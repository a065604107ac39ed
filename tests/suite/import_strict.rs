//! `import` of sources that want to be taken for something else.

use std::fs;

use qyvol::types::Digest;
use serde_json::{Value, json};

use crate::publisher::{CONFIG, INDEX, MANIFEST, OLD_WASM, Publisher, WASM, assert_nothing_written, files, publisher};
use crate::registry::Server;
use crate::support::{CommandOutput, PROBE, PROBE_MODULE, User};

const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

fn id(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}

/// A container image of these layers, with an entrypoint or without.
fn container(other: &Publisher<'_>, name: &str, entrypoint: &[&str], layers: &[(&str, &[u8])]) {
    let config = json!({"architecture": "wasm", "os": "wasi", "config": {"Entrypoint": entrypoint}}).to_string();
    let layers: Vec<_> = layers.iter().map(|(kind, bytes)| (*kind, "", *bytes)).collect();
    other.artifact(
        name,
        ("application/vnd.oci.image.config.v1+json", config.as_bytes()),
        &layers,
    );
}

// [REG-030]
#[test]
fn layer_digest_never_matches_a_title() {
    let server = Server::hub(&[]);
    let other = publisher(&server);
    let user = User::new();
    let layers = [(WASM, id(PROBE), PROBE_MODULE), (WASM, String::new(), PROBE)];
    let layers: Vec<_> = layers
        .iter()
        .map(|(kind, title, bytes)| (*kind, title.as_str(), *bytes))
        .collect();
    other.artifact("app:1.0.0", (CONFIG, b"{}"), &layers);
    other.artifact("app:2.0.0", (CONFIG, b"{}"), &layers[..1]);
    user.qyv(&["import", &server.name("app:2.0.0"), "--layer", &id(PROBE)])
        .expect(2);
    assert_nothing_written(&user, "app.qyvbin");
    let name = server.name("app:1.0.0");
    let done = user
        .qyv(&["import", &name, "--layer", &id(PROBE), "--format", "json"])
        .expect(0);
    assert_eq!(done.json()["source"]["layer"], id(PROBE));
}

// [REG-030]
#[test]
fn same_component_under_two_names_is_one() {
    let server = Server::hub(&[]);
    let other = publisher(&server);
    let spin = json!({"components": [
        {"id": "web", "source": {"digest": id(PROBE)}},
        {"id": "worker", "source": {"digest": id(PROBE)}},
    ]});
    let config = ("application/vnd.fermyon.spin.application.v1+config", spin.to_string());
    let layers = [
        (OLD_WASM, "", PROBE),
        (OLD_WASM, "", PROBE),
        ("text/plain", "", &b"x"[..]),
    ];
    other.artifact("app:1.0.0", (config.0, config.1.as_bytes()), &layers);
    let name = server.name("app:1.0.0");
    for layer in ["web", "worker", &id(PROBE)] {
        let user = User::new();
        let done = user
            .qyv(&["import", &name, "--layer", layer, "--format", "json"])
            .expect(0)
            .json();
        assert_eq!(done["source"]["leftOut"].as_array().unwrap().len(), 1);
    }
    // What it says of itself is told in words that are true.
    let bad = (
        "application/vnd.fermyon.spin.application.v1+config",
        &br#"{"components":[{"id":"x"}]}"#[..],
    );
    other.artifact("app:2.0.0", bad, &layers);
    let done = User::new().qyv(&["import", &server.name("app:2.0.0")]).expect(16);
    assert!(
        done.err.contains("its Spin application is not as expected"),
        "{}",
        done.err
    );
}

// [REG-029]
#[test]
fn file_that_a_higher_layer_hides_is_not_taken() {
    let server = Server::hub(&[]);
    let other = publisher(&server);
    let user = User::new();
    let below = files(&user, "below", &[("srv/app.wasm", PROBE_MODULE)], false);
    let mut version = 0;
    let mut import = |entrypoint: &str, kind: &str, top: &[u8]| -> CommandOutput {
        version += 1;
        let name = format!("shop:{version}.0.0");
        container(&other, &name, &[entrypoint], &[(TAR, &below), (kind, top)]);
        user.qyv(&["import", &server.name(&name)])
    };
    let upper = |name: &str, path: &str| files(&user, name, &[(path, b"x")], false);
    for (n, path) in ["srv/.wh.app.wasm", ".wh.srv", "srv/.wh..wh..opq", ".wh..wh..opq", "srv"]
        .iter()
        .enumerate()
    {
        let done = import("/srv/app.wasm", TAR, &upper(&format!("top{n}"), path)).expect(16);
        assert!(done.err.contains("removed or replaced"), "{path}: {}", done.err);
    }
    let directory = upper("directory", "srv/app.wasm/x");
    import("/srv/app.wasm", TAR, &directory).expect(16);
    import("/x/../srv/app.wasm", TAR, &upper("a", "readme")).expect(16);
    let unread = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
    let done = import("/srv/app.wasm", unread, b"x").expect(16);
    assert!(done.err.contains(unread), "{}", done.err);
    assert_nothing_written(&user, "shop.qyvbin");
    import("/srv/app.wasm", TAR, &upper("b", "readme")).expect(0);
}

// [REG-030]
#[test]
fn container_without_an_entrypoint_has_one_component_or_none() {
    let server = Server::hub(&[]);
    let other = publisher(&server);
    let user = User::new();
    let one = files(&user, "one", &[("a.wasm", PROBE_MODULE)], false);
    let again = files(&user, "again", &[("a.wasm", PROBE_MODULE), ("readme", b"1")], false);
    let other_one = files(&user, "other", &[("b.wasm", PROBE)], false);
    let both = files(&user, "both", &[("a.wasm", PROBE_MODULE), ("b.wasm", PROBE)], false);
    let gone = files(&user, "gone", &[(".wh.a.wasm", b"")], false);
    let all_gone = files(&user, "all", &[(".wh..wh..opq", b"")], false);
    let cases: [(&[&[u8]], i32, &str); 6] = [
        (&[&one, &other_one], 2, "b.wasm"),
        (&[&both], 2, "b.wasm"),
        (&[&one, &gone], 16, "removed"),
        (&[&one, &all_gone], 16, "removed"),
        (&[&gone], 16, "no file whose name ends in .wasm"),
        (&[&one, &again], 0, ""),
    ];
    for (n, (layers, code, told)) in cases.into_iter().enumerate() {
        let layers: Vec<_> = layers.iter().map(|bytes| (TAR, *bytes)).collect();
        container(&other, &format!("shop:{n}.0.0"), &[], &layers);
        let done = user
            .qyv(&["import", &server.name(&format!("shop:{n}.0.0"))])
            .expect(code);
        assert!(done.err.contains(told), "{n}: {}", done.err);
        // What can't be done is not advised.
        assert!(!done.err.contains("--layer"), "{n}: {}", done.err);
        if code != 0 {
            assert_nothing_written(&user, "shop.qyvbin");
        }
    }
}

// [REG-030]
#[test]
fn index_with_two_images_for_a_platform_is_not_decided_for_the_user() {
    let server = Server::hub(&[]);
    let other = publisher(&server);
    let user = User::new();
    let mut entries = [
        other.wkg("app:a", PROBE),
        other.wkg("app:b", PROBE_MODULE),
        other.wkg("app:c", b"\0asm"),
    ];
    for (entry, (os, architecture)) in
        entries
            .iter_mut()
            .zip([("wasip1", "wasm"), ("wasip1", "wasm"), ("linux", "amd64")])
    {
        entry["platform"] = json!({"os": os, "architecture": architecture});
    }
    let [a, b, c] = &entries;
    let index = |name: &str, entries: &[&Value]| {
        other.manifest(
            name,
            INDEX,
            &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}),
        )
    };
    index("app:1.0.0", &[a, b, c]);
    let done = user.qyv(&["import", &server.name("app:1.0.0")]).expect(2);
    let digest = b["digest"].as_str().unwrap();
    assert!(
        done.err.contains("several images") && done.err.contains(digest),
        "{}",
        done.err
    );
    assert_nothing_written(&user, "app.qyvbin");
    // What is left out is told.
    index("app:2.0.0", &[a, a, c]);
    let done = user.qyv(&["import", &server.name("app:2.0.0"), "-v"]).expect(0);
    assert!(done.err.contains("the platform linux/amd64"), "{}", done.err);
    // An index that says something else of it than what comes.
    let mut short = a.clone();
    short["size"] = json!(3);
    let wrong = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [short]});
    let wrong = serde_json::to_vec(&wrong).unwrap();
    if other.ask("PUT", "/v2/app/manifests/3.0.0", INDEX, &wrong).0 == 201 {
        let done = user.qyv(&["import", &server.name("app:3.0.0"), "--replace"]).expect(16);
        assert!(done.err.contains("its index says"), "{}", done.err);
    }
}

// [REG-030]
#[test]
fn image_of_ours_behind_an_index_is_named_so_that_it_can_be_pulled() {
    let server = Server::hub(&[]);
    let other = publisher(&server);
    let user = User::new();
    user.write("probe.wasm", PROBE_MODULE);
    user.qyv(&["import", "probe.wasm", "--name", "ours:1.0.0"]).expect(0);
    let ours = user
        .qyv(&["push", "ours.qyvbin", &server.name("ours:1.0.0"), "--format", "json"])
        .expect(0);
    let digest = ours.json()["digest"].as_str().unwrap().to_string();
    let (_, answer) = other.ask("HEAD", "/v2/ours/manifests/1.0.0", MANIFEST, b"");
    let size = answer
        .to_lowercase()
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
    let size: u64 = size.unwrap();
    let entry = json!({"mediaType": MANIFEST, "digest": digest, "size": size, "platform": {"os": "wasip1", "architecture": "wasm"}});
    other.manifest(
        "ours:all",
        INDEX,
        &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}),
    );
    let done = user.qyv(&["import", &server.name("ours:all"), "--replace"]).expect(2);
    let name = format!("{}@{digest}", server.name("ours"));
    assert!(done.err.contains(&format!("qyv pull {name}")), "{}", done.err);
    user.qyv(&["pull", &name]).expect(0);
}

// [REG-031]
#[test]
fn name_from_the_source_replaces_no_other_name_unless_asked() {
    let server = Server::hub(&[]);
    let other = publisher(&server);
    other.wkg("evil/hello:1.0.0", PROBE_MODULE);
    let name = server.name("evil/hello:1.0.0");
    let user = User::new();
    user.write("probe.wasm", PROBE);
    let mine = user.qyv(&[
        "import",
        "probe.wasm",
        "--name",
        "hello:1.0.0",
        "-o",
        "hello.qyvbin",
        "--format",
        "json",
    ]);
    let mine = mine.expect(0).json()["digest"].clone();
    let bytes = fs::read(user.path("hello.qyvbin")).unwrap();
    let stands = || {
        let there = user
            .qyv(&["inspect", "hello:1.0.0", "--format", "json"])
            .expect(0)
            .json()["digest"]
            .clone();
        assert_eq!(fs::read(user.path("hello.qyvbin")).unwrap() == bytes, there == mine);
        there == mine
    };
    let done = user.qyv(&["import", &name]).expect(1);
    assert!(done.err.contains("--replace"), "{}", done.err);
    let done = user.qyv(&["import", &name, "-o", "other.qyvbin"]).expect(1);
    assert!(
        done.err.contains("--replace moves it") && !done.err.contains("load"),
        "{}",
        done.err
    );
    assert!(!user.path("other.qyvbin").exists() && stands());
    user.qyv(&["import", &name, "--name", "theirs:1.0.0"]).expect(0);
    assert!(stands());
    user.qyv(&["import", &name, "--replace"]).expect(0);
    assert!(!stands());
    // The same image has its name already.
    user.qyv(&["import", &name, "-o", "again.qyvbin"]).expect(0);
}

// [REG-034]
#[test]
fn output_is_never_a_file_that_reaching_a_registry_reads() {
    let server = Server::hub(&[]);
    publisher(&server).wkg("hello:1.0.0", PROBE);
    let user = User::new();
    let name = server.name("hello:1.0.0");
    let config = user.home().strip_prefix(user.path("")).unwrap().to_path_buf();
    let own = |file: &str| config.join(file).to_str().unwrap().to_string();
    user.qyv(&["import", &name, "--name", "ours:1.0.0"]).expect(0);
    let pushed = server.name("ours:1.0.0");
    user.qyv(&["push", "ours:1.0.0", &pushed]).expect(0);
    let hosts = user.write(&own("hosts.yaml"), "version: 1\nhosts:\n  r.example: { ca: own.pem }\n");
    let certificates = user.write(&own("own.pem"), "");
    let credentials = user.write("auth.json", "{}");
    for file in [&hosts, &certificates, &credentials] {
        let before = fs::read(file).unwrap();
        for words in [&["import", name.as_str()], &["pull", pushed.as_str()]] {
            let mut command = user.command();
            command
                .env("REGISTRY_AUTH_FILE", &credentials)
                .args(words)
                .arg("-o")
                .arg(file)
                .arg("--force");
            let done = CommandOutput::from(&command.output().unwrap()).expect(1);
            assert!(done.err.contains("this command reads that file"), "{}", done.err);
        }
        assert_eq!(fs::read(file).unwrap(), before);
    }
}

// [REG-034]
#[test]
fn note_on_an_import_that_fails_is_true() {
    let server = Server::hub(&[]);
    let other = publisher(&server);
    let user = User::new();
    user.write("probe.wasm", PROBE_MODULE);
    let done = user
        .qyv(&["import", "probe.wasm", "--name", "a:1", "--layer", "x"])
        .expect(2);
    assert!(done.err.contains("a file has no layers"), "{}", done.err);
    let layer = other.blob("hello", WASM, PROBE);
    let config = other.blob("hello", CONFIG, b"{}");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer],
        "annotations": {"org.opencontainers.image.version": "1.0.0+build5"},
    });
    other.manifest("hello:latest", MANIFEST, &manifest);
    let done = user.qyv(&["import", &server.name("hello")]).expect(2);
    assert!(done.err.contains("`1.0.0+build5` can't be a tag"), "{}", done.err);
    // A config past its limit is that, and no failure of the registry.
    let spin = format!("{{\"components\":[],\"x\":\"{}\"}}", "y".repeat(600_000));
    let spin = ("application/vnd.fermyon.spin.application.v1+config", spin.as_bytes());
    other.artifact("large:1.0.0", spin, &[(WASM, "", PROBE)]);
    user.qyv(&["import", &server.name("large:1.0.0")]).expect(17);
    assert_nothing_written(&user, "hello.qyvbin");
    // A name of digits is one in the manifest that is printed too.
    let done = user
        .qyv(&["import", &server.name("hello"), "--name", "123:1.0.0"])
        .expect(0);
    assert!(
        done.err.contains("name: \"123\"") && done.err.contains("entrypoint: \"123.wasm\""),
        "{}",
        done.err
    );
    // Dots in the name of a manifest are its name's.
    user.write("my.app.v2.qyv", "name: my\nversion: 1.0.0\nentrypoint: probe.wasm\n");
    user.qyv(&["import", "probe.wasm", "--manifest", "my.app.v2.qyv"])
        .expect(0);
    assert!(user.path("my.app.v2.qyvbin").exists());
    fs::remove_file(user.path("my.app.v2.qyvbin")).unwrap();
    user.qyv(&["build", "my.app.v2.qyv"]).expect(0);
    assert!(user.path("my.app.v2.qyvbin").exists());
}
