//! Attestations: signed statements about an image that are no signatures of it.

use std::fs;

use qyvol::types::Digest;
use serde_json::{Value, json};

use crate::cosign;
use crate::needs::lacks;
use crate::registry::Server;
use crate::support::User;

const SBOM: &str = r#"{"bomFormat":"CycloneDX","specVersion":"1.5","version":1,"components":[]}"#;
const SBOM_TYPE: &str = "https://cyclonedx.org/bom";
const GITHUB: &[(&str, &str)] = &[
    ("GITHUB_ACTIONS", "true"),
    ("GITHUB_SERVER_URL", "https://github.com"),
    ("GITHUB_REPOSITORY", "acme/app"),
    ("GITHUB_REF", "refs/tags/v1.0.0"),
    ("GITHUB_SHA", "0123456789012345678901234567890123456789"),
    (
        "GITHUB_WORKFLOW_REF",
        "acme/app/.github/workflows/release.yml@refs/tags/v1.0.0",
    ),
    ("GITHUB_RUN_ID", "7"),
    ("GITHUB_RUN_ATTEMPT", "1"),
    ("GITHUB_EVENT_NAME", "push"),
];

/// The report of an image that is accepted.
fn report(user: &User, target: &str) -> Value {
    let found = user.qyv(&["verify", target, "--format", "json"]).expect(0).json();
    found["results"][0]["report"].clone()
}

fn attestations(user: &User, target: &str) -> Vec<(String, String)> {
    let report = report(user, target);
    let all = report["attestations"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let mut all: Vec<_> = all.iter().map(|a| (text(&a["verdict"]), text(&a["type"]))).collect();
    all.sort();
    all
}

/// A policy for every registry and file that trusts these keys' files for a release, and asks
/// for attestations.
fn trusting(user: &User, keys: &[(&str, &str)], attest: &str) {
    let mut text = "version: 1\nkeys:\n".to_string();
    for (name, pem) in keys {
        let lines: String = pem.lines().map(|line| format!("      {line}\n")).collect();
        text += &format!("  {name}:\n    pem: |\n{lines}");
    }
    text += "rules:\n";
    for scope in ["'**'", "'file:'"] {
        text += &format!("  - scope: {scope}\n    require: [{{ role: release, keys: [release] }}]\n");
        if !attest.is_empty() {
            text += &format!("    attest: [{attest}]\n");
        }
    }
    user.write("home/trust.yaml", text);
}

fn public(user: &User, name: &str) -> String {
    user.qyv(&["keys", "export", name]).expect(0).out
}

// [SIGN-060] [SIGN-061]
#[test]
fn attestation_travels_with_its_image_and_is_no_signature() {
    let server = Server::hub(&[]);
    let publisher = User::new();
    let file = publisher.built("app", "");
    publisher.write("sbom.json", SBOM);
    let before = publisher.qyv(&["inspect", &file, "--format", "json"]).expect(0).json();
    let attested = publisher.qyv(&["attest", &file, "--sbom", "sbom.json"]).expect(0);
    assert_eq!(attested.out.trim(), before["digest"]);
    let after = publisher.qyv(&["inspect", &file, "--format", "json"]).expect(0).json();
    assert_eq!(after["digest"], before["digest"]);
    assert_eq!(after["signatures"], before["signatures"]);
    assert_eq!(after["attestations"][0]["type"], SBOM_TYPE);
    assert_eq!(after["attestations"][0]["key"], before["signatures"][0]["key"]);
    let good = vec![("good".to_string(), SBOM_TYPE.to_string())];
    assert_eq!(attestations(&publisher, &file), good);
    assert_eq!(report(&publisher, &file)["signatures"].as_array().unwrap().len(), 1);
    // The image of the store has none yet: it was attested in the file.
    assert_eq!(attestations(&publisher, "app:1.0.0"), vec![]);

    // Through a registry, the store and a file, to a host that knows no key of it.
    let name = server.name("app:1.0.0");
    let pushed = publisher.qyv(&["push", &file, &name]).expect(0);
    assert!(pushed.err.contains("1 signature"), "{}", pushed.err);
    let host = User::new();
    host.qyv(&["pull", &name]).expect(0);
    host.qyv(&["save", &name, "-o", "saved.qyvbin"]).expect(0);
    let saved = host.path("saved.qyvbin");
    let saved = saved.to_str().unwrap();
    let key = public(&publisher, "default");
    trusting(&host, &[("release", &key)], "");
    assert_eq!(attestations(&host, &name), good);
    assert_eq!(attestations(&publisher, saved), good);
    let rows = host.qyv(&["images", "--format", "json"]).expect(0).json();
    let rows = rows.to_string();
    assert!(rows.contains("\"signatures\":1"), "{rows}");
    let shown = host.qyv(&["verify", &name]).expect(0);
    assert!(
        shown
            .err
            .contains(&format!("attestation: good, {SBOM_TYPE}, key release")),
        "{}",
        shown.err
    );
    host.qyv(&["run", &name, "exit", "4"]).expect(4);
    // Cleaning takes signatures away that no known key has made, and no attestation.
    host.qyv(&["clean", &name]).expect(0);
    assert_eq!(attestations(&host, &name), good);
}

// [SIGN-061]
#[test]
fn image_that_is_attested_and_not_signed_is_unsigned() {
    let user = User::new();
    user.built("first", "");
    user.app("app", "");
    user.qyv(&["build", "app", "-o", "app.qyvbin", "--no-sign"]).expect(0);
    user.write("sbom.json", SBOM);
    user.qyv(&["attest", "app.qyvbin", "--sbom", "sbom.json"]).expect(0);
    let refused = user.qyv(&["verify", "app.qyvbin"]).expect(10);
    assert!(refused.err.contains("attestation: good"), "{}", refused.err);
}

// [SIGN-061]
#[test]
fn large_attestation_is_kept_by_store_and_registry_and_left_out_of_files() {
    let server = Server::hub(&[]);
    let publisher = User::new();
    let file = publisher.built("app", "");
    let text = "x".repeat(200_000);
    publisher.write("large.json", json!({ "text": text }).to_string());
    let kind = "https://example.com/log/v1";
    let large = ["--type", kind, "--predicate", "large.json"];
    let bytes = fs::read(publisher.path(&file)).unwrap();
    let refused = publisher.qyv(&[&["attest", &file], &large[..]].concat()).expect(2);
    assert!(refused.err.contains("65536"), "{}", refused.err);
    assert_eq!(fs::read(publisher.path(&file)).unwrap(), bytes);
    publisher
        .qyv(&[&["attest", "app:1.0.0"], &large[..]].concat())
        .expect(0);
    let good = vec![("good".to_string(), kind.to_string())];
    assert_eq!(attestations(&publisher, "app:1.0.0"), good);

    let name = server.name("app:1.0.0");
    publisher.qyv(&["push", "app:1.0.0", &name]).expect(0);
    let host = User::new();
    let key = public(&publisher, "default");
    trusting(
        &host,
        &[("release", &key)],
        &format!("{{ type: {kind}, keys: [release] }}"),
    );
    host.qyv(&["pull", "--verify", &name]).expect(0);
    assert_eq!(attestations(&host, &name), good);
    host.qyv(&["run", &name, "exit", "4"]).expect(4);
    let remote = host
        .qyv(&["inspect", "--remote", &name, "--format", "json"])
        .expect(0)
        .json();
    assert_eq!(remote["attestations"][0]["type"], kind);
    // A file has no room for it, and what the rule asks for is then not there.
    let saved = host.qyv(&["save", &name, "-o", "saved.qyvbin"]).expect(0);
    assert!(saved.err.contains("1 of its attestations left out"), "{}", saved.err);
    host.qyv(&["verify", "saved.qyvbin"]).expect(13);
}

// [SIGN-062] [SIGN-063]
#[test]
fn rule_asks_for_provenance_of_a_source_and_runs_nothing_else() {
    let publisher = User::new();
    let file = publisher.built("app", "");
    publisher.qyv(&["keys", "generate", "builder"]).expect(0);
    let host = User::new();
    let keys = [public(&publisher, "default"), public(&publisher, "builder")];
    let keys = [("release", keys[0].as_str()), ("builder", keys[1].as_str())];
    let condition = |source: &str| {
        format!(
            "{{ type: 'https://slsa.dev/provenance/*', keys: [builder], builder: 'https://qyvol.dev/builder/ci-env/v1', source: '{source}', ref: 'refs/tags/*' }}"
        )
    };
    trusting(&host, &keys, &condition("https://github.com/acme/*"));
    let path = publisher.path(&file);
    let path = path.to_str().unwrap();
    host.qyv(&["run", path, "exit", "4"]).expect(126);
    let refused = host.qyv(&["verify", path]).expect(13);
    assert!(
        refused
            .err
            .contains("attested by builder as https://slsa.dev/provenance/*"),
        "{}",
        refused.err
    );

    let attest = |key: &str| {
        let mut command = publisher.command();
        command.envs(GITHUB.iter().copied());
        command.args(["attest", &file, "--provenance", "--key", key]);
        assert!(command.output().unwrap().status.success());
    };
    // By a key that signs releases, and no provenance.
    attest("default");
    host.qyv(&["verify", path]).expect(13);
    attest("builder");
    host.qyv(&["run", path, "exit", "4"]).expect(4);
    let found = report(&host, path);
    let sources: Vec<&Value> = found["attestations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| &a["source"])
        .collect();
    assert_eq!(sources, vec!["https://github.com/acme/app"; 2]);
    trusting(&host, &keys, &condition("https://github.com/other/*"));
    host.qyv(&["run", path, "exit", "4"]).expect(126);

    // Outside a pipeline there is nothing to state.
    let refused = publisher.qyv(&["attest", &file, "--provenance"]).expect(2);
    assert!(refused.err.contains("GITHUB_ACTIONS"), "{}", refused.err);
}

// [SIGN-064]
#[test]
fn sbom_of_a_component_is_the_same_wherever_it_is_printed() {
    let user = User::new();
    let file = user.built("app", "");
    let sbom = user.qyv(&["inspect", "--sbom", "cyclonedx", &file]).expect(0);
    let document = sbom.json();
    assert_eq!(document["bomFormat"], "CycloneDX");
    assert_eq!(document["metadata"]["component"]["name"], "app");
    assert_eq!(document["metadata"]["component"]["version"], "1.0.0");
    let inspected = user.qyv(&["inspect", &file, "--format", "json"]).expect(0).json();
    let hash = document["metadata"]["component"]["hashes"][0]["content"]
        .as_str()
        .unwrap();
    assert_eq!(inspected["componentDigest"], format!("sha256:{hash}"));
    let stored = user.qyv(&["inspect", "--sbom", "cyclonedx", "app:1.0.0"]).expect(0);
    assert_eq!(stored.out, sbom.out);
    // It is an SBOM that can be attested, though the signature covers it already.
    user.write("sbom.json", &sbom.out);
    user.qyv(&["attest", &file, "--sbom", "sbom.json"]).expect(0);
}

// [SIGN-060]
#[test]
fn document_that_cant_be_attested_leaves_the_file_as_it_was() {
    let user = User::new();
    let file = user.built("app", "");
    let bytes = fs::read(user.path(&file)).unwrap();
    user.write("text.json", "not json");
    user.write("other.json", "{}");
    for (args, why) in [
        (&["--sbom", "text.json"][..], "not valid JSON"),
        (&["--sbom", "other.json"], "neither CycloneDX nor SPDX"),
        (&["--sbom", "missing.json"], "missing.json"),
        (&["--type", "sbom", "--predicate", "other.json"], "URI"),
        (
            &["--type", "https://qyvol.dev/release/v1", "--predicate", "other.json"],
            "URI",
        ),
        (&["--type", "https://example.com/x"], "--predicate"),
        (&[], "--sbom"),
    ] {
        let refused = user.qyv(&[&["attest", &file], args].concat());
        assert!(matches!(refused.code, 1 | 2), "{args:?}: {refused:?}");
        assert!(refused.err.contains(why), "{args:?}: {}", refused.err);
    }
    assert_eq!(fs::read(user.path(&file)).unwrap(), bytes);
}

// [SIGN-060] [SIGN-062]
#[test]
fn attestation_of_cosigns_counts_where_a_rule_asks_for_it() {
    if lacks(&["openssl"]) {
        return;
    }
    let server = Server::hub(&[]);
    let publisher = User::new();
    let file = publisher.built("app", "");
    let name = server.name("app:1.0.0");
    publisher.qyv(&["push", &file, &name]).expect(0);
    let subject = cosign::subject(&publisher, &server, "app", &file);
    let key = cosign::key_pair(&publisher);
    let payload = json!({
        "_type": "https://in-toto.io/Statement/v0.1",
        "subject": [{
            "name": server.name("app"),
            "digest": { "sha256": subject["digest"].as_str().unwrap().trim_start_matches("sha256:") },
        }],
        "predicateType": SBOM_TYPE,
        "predicate": { "bomFormat": "CycloneDX" },
    });
    cosign::push_statement(&server, &subject, &publisher, &key, &payload);
    let host = User::new();
    let keys = [public(&publisher, "default"), key.to_pem()];
    let keys = [("release", keys[0].as_str()), ("cosign", keys[1].as_str())];
    trusting(&host, &keys, &format!("{{ type: {SBOM_TYPE}, keys: [cosign] }}"));
    host.qyv(&["run", "--pull", "always", &name, "exit", "4"]).expect(4);
    trusting(&host, &keys, &format!("{{ type: {SBOM_TYPE}, keys: [release] }}"));
    host.qyv(&["run", &name, "exit", "4"]).expect(126);
}

// [SIGN-061]
#[test]
fn manifest_that_calls_a_signature_an_attestation_hides_nothing() {
    let server = Server::hub(&[]);
    let publisher = User::new();
    let file = publisher.built("app", "");
    let name = server.name("app:1.0.0");
    publisher.qyv(&["push", &file, &name]).expect(0);
    let inspected = publisher.qyv(&["inspect", &file, "--format", "json"]).expect(0).json();
    let signature = inspected["signatures"][0]["digest"].as_str().unwrap();
    let path = format!("/v2/app/manifests/{signature}");
    let (_, _, manifest) = cosign::send(&server, "GET", &path, cosign::MANIFEST, b"");
    let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
    // Many, so that some come before the right one in the order of digests.
    for number in 0..16 {
        let kind = format!("https://slsa.dev/provenance/v{number}");
        manifest["annotations"]["dev.sigstore.bundle.predicateType"] = json!(kind);
        let bytes = manifest.to_string();
        let path = format!("/v2/app/manifests/{}", Digest::of(bytes.as_bytes()));
        assert_eq!(
            cosign::send(&server, "PUT", &path, cosign::MANIFEST, bytes.as_bytes()).0,
            201
        );
    }
    let host = User::new();
    let key = public(&publisher, "default");
    trusting(&host, &[("release", &key)], "");
    host.qyv(&["pull", "--verify", &name]).expect(0);
    host.qyv(&["run", &name, "exit", "4"]).expect(4);
    // It is one bundle, and no attestation under any manifest.
    trusting(
        &host,
        &[("release", &key)],
        "{ type: 'https://slsa.dev/provenance/*', keys: [release] }",
    );
    host.qyv(&["run", &name, "exit", "4"]).expect(126);
}
