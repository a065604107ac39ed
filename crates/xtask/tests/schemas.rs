//! Holds `formats/*.schema.json` against the readers in qyvol-types: what one
//! takes the other must take, and both must know the same keys.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "schemas/checker.rs"]
mod checker;

use std::path::{Path, PathBuf};

use qyvol_sandbox::parse_app_manifest;
use qyvol_types::yaml::{self, Node, Value as Yaml};
use qyvol_types::{Lock, json};
use serde_json::{Value, json};

use self::checker::valid;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn schema(name: &str) -> Value {
    let text = std::fs::read(root().join("formats").join(name)).unwrap();
    json::decode(&text).unwrap()
}

/// The document as an editor sees it: YAML 1.2 with the core schema.
fn as_editors_do(node: &Node) -> Value {
    match &node.value {
        Yaml::Sequence(items) => items.iter().map(as_editors_do).collect(),
        Yaml::Mapping(entries) => {
            let pairs = entries
                .iter()
                .map(|(key, value)| (key.text.clone(), as_editors_do(value)));
            Value::Object(pairs.collect())
        }
        Yaml::Scalar { text, plain: false } => json!(text),
        Yaml::Scalar { text, plain: true } => match text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => Value::Null,
            "true" | "True" | "TRUE" => json!(true),
            "false" | "False" | "FALSE" => json!(false),
            _ => number(text).unwrap_or_else(|| json!(text)),
        },
    }
}

fn number(text: &str) -> Option<Value> {
    if yaml::bare(text) != yaml::Bare::Number {
        return None;
    }
    let hex = text
        .strip_prefix("0x")
        .and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let whole = hex.or_else(|| text.parse::<u64>().ok());
    Some(match whole {
        Some(whole) => json!(whole),
        None => json!(text.parse::<f64>().ok()?),
    })
}

fn header<'a>(head: &'a str, key: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
}

#[test]
fn schema_of_the_manifest_agrees_with_its_reader_on_every_vector() {
    let (manifest, config) = (schema("qyv.schema.json"), schema("config.schema.json"));
    let app_schema = config.pointer("/$defs/app").unwrap();
    let mut wrong = Vec::new();
    let mut tried = 0;
    for entry in std::fs::read_dir(root().join("formats/vectors/manifest")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let (head, body) = text.split_once("\n\n").unwrap();
        // `skip`: not valid YAML of the strict subset, so that there is nothing
        // to hold against the schema. `accept`: what the schema can't say.
        let expected = header(head, "schema").or(header(head, "expect")).unwrap();
        if expected != "skip"
            && let Ok(node) = yaml::parse(body)
        {
            tried += 1;
            let value = as_editors_do(&node);
            if valid(&manifest, &manifest, &value) != (expected == "accept") {
                wrong.push(format!("{}: expected {expected}: {value}", path.display()));
            }
        }
        if let Some(app) = header(head, "app") {
            let mut app: Value = serde_json::from_str(app).unwrap();
            // In an image it is the file's name alone (MAN-042).
            let file = app["entrypoint"]
                .as_str()
                .unwrap()
                .rsplit('/')
                .next()
                .unwrap()
                .to_string();
            app["entrypoint"] = json!(file);
            if !valid(&config, app_schema, &app) {
                wrong.push(format!("{}: not a normalised manifest: {app}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(tried > 100, "only {tried} vectors were tried");
}

#[test]
fn schema_knows_the_keys_that_the_reader_knows() {
    let manifest = schema("qyv.schema.json");
    let unlike = "0000";
    for (pointer, place) in [
        ("/properties", format!("{unlike}: 0\n")),
        (
            "/properties/permissions/anyOf/1/properties",
            format!("permissions: {{ {unlike}: 0 }}\n"),
        ),
        ("/properties/fs/properties", format!("fs: {{ {unlike}: 0 }}\n")),
        (
            "/properties/assets/items/anyOf/1/properties",
            format!("assets: [{{ from: a, {unlike}: 0 }}]\n"),
        ),
        (
            "/properties/dependencies/additionalProperties/properties",
            format!("dependencies: {{ \"a:b\": {{ image: a, version: \"1\", {unlike}: 0 }} }}\n"),
        ),
        (
            "/properties/resources/properties",
            format!("resources: {{ {unlike}: 0 }}\n"),
        ),
    ] {
        let problems = parse_app_manifest(&format!("name: a\nentrypoint: a.wasm\n{place}")).unwrap_err();
        let help = problems
            .0
            .iter()
            .find_map(|p| p.help.as_deref()?.strip_prefix("known keys: "))
            .unwrap();
        let mut reader: Vec<&str> = help.split(", ").collect();
        let mut schema: Vec<&str> = manifest
            .pointer(pointer)
            .unwrap()
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        reader.sort_unstable();
        schema.sort_unstable();
        assert_eq!(schema, reader, "{pointer}");
    }
}

#[test]
fn every_example_manifest_is_valid() {
    let manifest = schema("qyv.schema.json");
    let Ok(examples) = std::fs::read_dir(root().join("examples")) else {
        return;
    };
    for example in examples {
        let directory = example.unwrap().path();
        let Ok(files) = std::fs::read_dir(&directory) else {
            continue;
        };
        for file in files
            .map(|file| file.unwrap().path())
            .filter(|file| file.extension().is_some_and(|e| e == "qyv"))
        {
            let text = std::fs::read_to_string(&file).unwrap();
            if let Err(problems) = parse_app_manifest(&text) {
                panic!("{}: {problems}", file.display());
            }
            let value = as_editors_do(&yaml::parse(&text).unwrap());
            assert!(valid(&manifest, &manifest, &value), "{}: {value}", file.display());
        }
    }
}

#[test]
fn config_with_an_unknown_key_is_invalid() {
    let config = schema("config.schema.json");
    let app = json!({
        "name": "a", "version": "1", "entrypoint": "a.wasm", "runtime": "wasi", "type": "cli",
        "permissions": { "fs": "read" },
        "fs": { "type": "memfs", "cache": false }, "assets_root": "/assets",
        "env": {}, "args": [], "resources": {}
    });
    let good = json!({ "version": 1, "app": app });
    assert!(valid(&config, &config, &good));
    for (pointer, key, value) in [
        ("", "limit", json!(1)),
        ("", "version", json!(2)),
        ("", "assets", json!({ "diffID": "sha256:0", "files": 1, "bytes": 1 })),
        ("/app", "assets", json!([])),
        ("/app", "entrypoint", json!("bin/a.wasm")),
        ("/app/env", "A=B", json!("x")),
    ] {
        let mut bad = good.clone();
        bad.pointer_mut(pointer).unwrap()[key] = value;
        assert!(!valid(&config, &config, &bad), "{bad}");
    }
    // MAN-044
    let mut newer = good;
    newer["app"]["permissions"] = json!({ "clipboard": ["read"], "net": { "connect": [] }, "fs": "all" });
    assert!(valid(&config, &config, &newer), "{newer}");
}

/// Each of `changes`, a pointer with what to put there, makes `good` invalid.
fn each_is_refused(schema: &Value, good: &Value, changes: &[(&str, Value)]) {
    assert!(valid(schema, schema, good), "{good}");
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let mut bad = good.clone();
        match bad.pointer_mut(parent).unwrap() {
            Value::Object(object) => drop(object.insert(key.to_string(), value.clone())),
            other => other[key.parse::<usize>().unwrap()] = value.clone(),
        }
        assert!(!valid(schema, schema, &bad), "{pointer}: {bad}");
    }
}

// SIGN-048
#[test]
fn record_of_a_verification_that_says_too_little_is_not_valid() {
    let digest = format!("sha256:{}", "5b".repeat(32));
    let good = json!({
        "schema": 1, "time": "2026-01-31T00:00:00Z", "version": "0.1.0", "code": 10,
        "policy": { "path": "/etc/qyvol/trust.yaml", "digest": digest, "serial": 7 },
        "results": [
            { "target": "a.qyvbin", "verdict": "accepted", "code": 0, "report": {
                "name": "a.qyvbin", "image": "a:1.0.0", "digest": digest, "scope": "file:a", "rule": { "scope": "file:" },
                "signatures": [{ "verdict": "good", "key": "default", "fingerprint": "SHA256:x", "statement": {
                    "name": "a", "version": "1.0.0", "role": "release", "sequence": 3, "created": "2026-01-31T00:00:00Z"
                } }]
            } },
            { "target": "b.qyvbin", "verdict": "refused", "code": 10, "reason": "unsigned", "report": null }
        ]
    });
    let changes = [
        ("/schema", json!(2)),
        ("/time", json!("yesterday")),
        ("/policy", json!({ "path": "/etc/qyvol/trust.yaml" })),
        ("/policy/digest", json!("sha256:5b")),
        ("/code", json!(-1)),
        ("/results/0/verdict", json!("good")),
        ("/results/0/report/digest", json!("latest")),
        ("/results/0/report/signatures/0/statement", json!({ "name": "a" })),
        ("/results/1/target", Value::Null),
    ];
    each_is_refused(&schema("verify-record.schema.json"), &good, &changes);
}

// COMP-020
#[test]
fn lock_that_a_reader_refuses_is_not_valid() {
    let digest = format!("sha256:{}", "5b".repeat(32));
    let good = json!({ "version": 1, "dependencies": [{
        "for": "acme:calc/ops@1.0.0-rc.1", "image": "registry.example/acme/calc", "version": "1.0.0",
        "name": "acme/calc:1.0.0", "manifest": digest, "component": digest, "signers": ["SHA256:x"]
    }] });
    let changes = [
        ("/version", json!(2)),
        ("/extra", json!(1)),
        ("/dependencies", json!({})),
        ("/dependencies/0/for", json!("calc")),
        ("/dependencies/0/name", json!("registry.example:5000/calc:1.0.0")),
        ("/dependencies/0/manifest", json!("sha256:0")),
        ("/dependencies/0/component", json!(1)),
        ("/dependencies/0/signers", json!("SHA256:x")),
        ("/dependencies/0/extra", json!(1)),
    ];
    each_is_refused(&schema("lock.schema.json"), &good, &changes);
    let text = serde_json::to_string(&good).unwrap();
    assert_eq!(Lock::parse_yaml(&text).unwrap().dependencies.len(), 1);
    for (pointer, value) in changes {
        let mut bad = good.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        bad.pointer_mut(parent).unwrap()[key] = value;
        Lock::parse_yaml(&bad.to_string()).unwrap_err();
    }
}

// SIGN-010, SIGN-011
#[test]
fn statement_that_a_verifier_refuses_is_not_valid() {
    let hex = "5b".repeat(32);
    let good = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "name": "acme/hello", "digest": { "sha256": hex } }],
        "predicateType": "https://qyvol.dev/release/v1",
        "predicate": {
            "name": "acme/hello", "version": "1.0.0", "role": "release", "sequence": 1_000_000_000_000_u64,
            "created": "1970-01-01T00:00:00Z", "expires": "2027-01-01T00:00:00Z", "critical": []
        }
    });
    each_is_refused(
        &schema("statement.schema.json"),
        &good,
        &[
            ("/_type", json!("https://in-toto.io/Statement/v0.1")),
            ("/predicateType", json!("https://slsa.dev/provenance/v1")),
            ("/subject", json!([])),
            ("/subject", json!([good["subject"][0], good["subject"][0]])),
            ("/subject/0/digest", json!({})),
            ("/subject/0/digest/sha512", json!("00".repeat(64))),
            ("/subject/0/digest/sha256", json!("5B".repeat(32))),
            ("/predicate/role", json!("Release Manager")),
            ("/predicate/sequence", json!(-1)),
            ("/predicate/sequence", json!(1_u64 << 54)),
            ("/predicate/created", json!("yesterday")),
            ("/predicate/critical", json!(["unheard-of"])),
        ],
    );
}

// SIGN-020
#[test]
fn policy_that_is_refused_is_not_valid() {
    let text = "\
version: 1
serial: 7
default: reject
roots: { public: { file: root.json, digest: \"sha256:0000000000000000000000000000000000000000000000000000000000000000\" } }
identities:
  rel: { root: public, issuer: \"https://token.example\", subject: \"https://git.example/a@refs/tags/*\", owner_id: 42 }
keys:
  acme-ci: { pem: \"-----BEGIN PUBLIC KEY-----\\n\", from: 2026-01-01, until: 2027-01-01 }
revoked: { keys: [], images: [] }
rules:
  - scope: registry.example/acme/**
    require:
      - { role: release, keys: [acme-ci], threshold: 1 }
    identity: exact
    max_age: 90d
    names: full
    remap: { prefix: registry.example/acme/hub, signed: acme }
    rollback: deny
  - scope: \"file:\"
    require: [{ role: release, keys: [acme-ci] }]
";
    let good = as_editors_do(&yaml::parse(text).unwrap());
    let at = |key: &str| format!("/rules/0/{key}");
    let changes = [
        ("/version".to_string(), json!(2)),
        ("/extra".to_string(), json!(1)),
        ("/default".to_string(), json!("accept")),
        ("/keys/acme-ci/pem".to_string(), json!("acme.pub")),
        ("/keys/acme-ci/from".to_string(), json!("last year")),
        ("/roots/public/digest".to_string(), json!("sha256:00")),
        ("/identities/rel/issuer".to_string(), json!("token")),
        ("/identities/rel/subject".to_string(), json!("https://git.example/*")),
        ("/identities/rel/keys".to_string(), json!([])),
        ("/revoked/images".to_string(), json!(["latest"])),
        (at("scope"), json!("registry.example/ac*")),
        (at("scope"), json!("registry.example/**/a")),
        (at("scope"), json!("registry.example//a")),
        (at("require"), json!([])),
        (at("require/0/threshold"), json!(0)),
        (at("require/0/keys"), json!([])),
        (at("require/0/role"), json!("")),
        (at("identity"), json!("close")),
        (at("max_age"), json!("0d")),
        (at("rollback"), json!("never")),
        (at("scope"), json!("Registry.Example/acme/**")),
        (at("scope"), json!("registry.example/acme/app:1.0.0")),
        (at("scope"), json!("acme/**")),
        (at("scope"), json!("file:Acme")),
        (at("names"), json!("whole")),
        (at("attest"), Value::Null),
        (at("max_age"), Value::Null),
        (at("rollback"), Value::Null),
        (at("names"), Value::Null),
        (at("limits"), Value::Null),
        ("/revoked".to_string(), Value::Null),
        ("/revoked/keys".to_string(), Value::Null),
        ("/floors".to_string(), Value::Null),
        ("/development".to_string(), Value::Null),
        (at("attest"), json!([{ "type": "t" }])),
        (at("attest"), json!([{ "type": "a*b", "keys": ["acme-ci"] }])),
        (
            at("attest"),
            json!([{ "type": "t", "keys": ["acme-ci"], "source": "https://github.com/acme*" }]),
        ),
        (at("remap"), json!({ "signed": "acme" })),
        (at("remap/prefix"), json!("registry.example/*")),
        ("/development".to_string(), json!("never")),
    ];
    let changes: Vec<(&str, Value)> = changes.iter().map(|(at, value)| (at.as_str(), value.clone())).collect();
    each_is_refused(&schema("trust-policy.schema.json"), &good, &changes);
}

// ENC-011, ENC-013
#[test]
fn list_of_encodings_is_valid_where_its_reader_takes_it() {
    let blob = |size: u64| json!({ "digest": format!("sha256:{}", "5b".repeat(32)), "size": size });
    let other = json!({ "digest": format!("sha512:{}", "5b".repeat(64)), "size": 268_435_456_u64 });
    let good = json!({ "schema": 1, "later": 1, "encodings": [
        { "target": blob(8_589_934_591), "encoding": "zstd-patch", "base": other, "blob": blob(1), "later": [] },
        { "target": blob(9), "encoding": "zstd", "blob": blob(1) },
        { "encoding": "later", "target": 7 },
    ] });
    let schema = schema("encodings.schema.json");
    assert!(valid(&schema, &schema, &good));
    assert_eq!(
        qyvol_encoding::List::parse(good.to_string().as_bytes())
            .unwrap()
            .skipped(),
        1
    );
    let changes = [
        ("/schema", json!(2)),
        ("/encodings", json!({})),
        ("/encodings", json!(vec![good["encodings"][1].clone(); 257])),
        ("/encodings/0", json!({})),
        ("/encodings/0/encoding", json!(1)),
        ("/encodings/0/encoding", json!("zstd")),
        ("/encodings/1/encoding", json!("zstd-patch")),
        ("/encodings/0/base/size", json!(268_435_457_u64)),
        ("/encodings/0/base/size", json!(0)),
        ("/encodings/0/target/size", json!(8_589_934_592_u64)),
        ("/encodings/1/blob/size", json!(0)),
        ("/encodings/1/blob/size", json!("1")),
        ("/encodings/1/blob/digest", json!("sha256:../x")),
        ("/encodings/1/target", json!(null)),
    ];
    for (pointer, value) in changes {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        assert!(!valid(&schema, &schema, &bad), "{pointer}: {bad}");
        assert!(
            qyvol_encoding::List::parse(bad.to_string().as_bytes()).is_err(),
            "{pointer}"
        );
    }
}
