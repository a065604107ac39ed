//! Images that a certified identity signed: from `qyv sign --print-predicate` through a signer
//! that isn't `qyv` to a run on a host that names the identity.

use qyvol::types::Digest;
use serde_json::{Value, json};

use crate::cosign::{attach, subject};
use crate::registry::Server;
use crate::support::User;

#[path = "../../crates/qyvol-keyless/tests/instance/mod.rs"]
#[allow(dead_code)]
pub mod instance;

use instance::{Instance, Plan};

const RELEASE: &str = "https://qyvol.dev/release/v1";

/// Writes a policy that names the plan's identity, and the trusted root beside it.
fn trust(host: &User, server: &Server, instance: &Instance, plan: &Plan, form: &str) {
    let root = instance.root().to_string();
    host.write("root.json", &root);
    host.write(
        "trust.yaml",
        format!(
            "version: 1\nroots:\n  own: {{ file: root.json, digest: \"{}\" }}\nidentities:\n  \
             rel: {{ root: own, issuer: \"{}\", subject: \"{}\", repository_id: 1001 }}\nrules:\n  \
             - scope: \"{}\"\n    require: [{{ form: {form}, role: release, keys: [rel] }}]\n",
            Digest::of(root.as_bytes()),
            plan.issuer,
            plan.subject,
            server.name("*"),
        ),
    );
}

// [SIGN-056] [SIGN-057] [SIGN-058]
#[test]
fn image_that_a_certified_identity_signed_runs_where_the_policy_names_it() {
    let server = Server::hub(&[]);
    let publisher = User::new();
    let file = publisher.built("app", "");
    let name = server.name("app:1.0.0");
    publisher.qyv(&["push", &file, &name]).expect(0);
    let inspected = publisher.qyv(&["inspect", &file, "--format", "json"]).expect(0).json();
    let digest = inspected["digest"].as_str().unwrap();
    let image = subject(&publisher, &server, "app", &file);
    let printed = publisher.qyv(&["sign", &file, "--print-predicate"]).expect(0).out;
    let predicate: Value = serde_json::from_str(&printed).unwrap();
    // As `actions/attest` makes it: the subject's name is the repository.
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "name": server.name("app"), "digest": { "sha256": digest.trim_start_matches("sha256:") } }],
        "predicateType": RELEASE,
        "predicate": predicate,
    });
    let instance = Instance::new();
    let plan = Plan::new(statement.to_string().as_bytes());

    let host = User::new();
    trust(&host, &server, &instance, &plan, "qyvol");
    // Signed by a key so far, which this host does not know.
    host.qyv(&["--policy", "trust.yaml", "pull", "--verify", &name])
        .expect(11);
    // Somebody else's instance certifies the same name to anyone.
    attach(
        &server,
        "app",
        &image,
        &Instance::new().sign(&plan).to_string(),
        RELEASE,
    );
    let refused = host
        .qyv(&["--policy", "trust.yaml", "pull", "--verify", &name])
        .expect(12);
    assert!(
        refused.err.contains("no certificate authority") || refused.err.contains("log"),
        "{}",
        refused.err
    );
    attach(&server, "app", &image, &instance.sign(&plan).to_string(), RELEASE);
    host.qyv(&["--policy", "trust.yaml", "run", "--pull", "always", &name, "exit", "5"])
        .expect(5);
    let report = host
        .qyv(&["--policy", "trust.yaml", "verify", &name, "--format", "json"])
        .expect(0)
        .json();
    let signatures = report["results"][0]["report"]["signatures"].as_array().unwrap();
    let good: Vec<&Value> = signatures.iter().filter(|s| s["verdict"] == "good").collect();
    assert_eq!(good.len(), 1, "{report}");
    assert_eq!(good[0]["key"], "rel");
    assert_eq!(good[0]["identity"]["subject"], plan.subject);
    // A trusted root that was exchanged takes the policy out of use.
    host.write("root.json", Instance::new().root().to_string());
    let refused = host.qyv(&["--policy", "trust.yaml", "verify", &name]).expect(19);
    assert!(refused.err.contains("another digest"), "{}", refused.err);
}

// [SIGN-056]
#[test]
fn image_that_cosign_signed_by_identity_runs_under_a_rule_that_says_so() {
    let server = Server::hub(&[]);
    let publisher = User::new();
    let file = publisher.built("app", "");
    let name = server.name("app:1.0.0");
    publisher.qyv(&["push", &file, &name]).expect(0);
    let inspected = publisher.qyv(&["inspect", &file, "--format", "json"]).expect(0).json();
    let digest = inspected["digest"].as_str().unwrap();
    let kind = "https://sigstore.dev/cosign/sign/v1";
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "digest": { "sha256": digest.trim_start_matches("sha256:") } }],
        "predicateType": kind,
        "predicate": {},
    });
    let instance = Instance::new();
    let plan = Plan::new(statement.to_string().as_bytes());
    attach(
        &server,
        "app",
        &subject(&publisher, &server, "app", &file),
        &instance.sign(&plan).to_string(),
        kind,
    );
    let host = User::new();
    trust(&host, &server, &instance, &plan, "cosign");
    host.qyv(&["--policy", "trust.yaml", "run", "--pull", "always", &name, "exit", "5"])
        .expect(5);
    trust(&host, &server, &instance, &plan, "qyvol");
    let refused = host.qyv(&["--policy", "trust.yaml", "verify", &name]).expect(11);
    assert!(refused.err.contains("form: cosign"), "{}", refused.err);
}
