//! What sigstore's own verifiers make of the instance that the other tests sign with: it is one
//! that they accept, and what they refuse is refused here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods, reason = "a test")]

#[path = "../../../tests/needs.rs"]
#[allow(dead_code, reason = "other suites use the rest")]
mod needs;

#[allow(dead_code, reason = "other suites use the rest")]
mod instance;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use qyvol_keyless::{Bundle, Content, TrustedRoot, verify};
use serde_json::Value;

use instance::{Instance, Kind, Plan, START, b64};
use needs::{installed, lacks};

const PAYLOAD: &[u8] = br#"{"_type":"https://in-toto.io/Statement/v1"}"#;

/// A bundle, who is expected to have signed it, and whether everybody accepts it.
struct Case {
    name: &'static str,
    root: Value,
    bundle: Value,
    subject: String,
    issuer: String,
    good: bool,
}

/// `second` is the kind of entry that the verifier reads of the second version of the log, whose
/// form for envelopes has changed.
fn cases(second: Kind) -> Vec<Case> {
    let instance = Instance::new();
    let plan = Plan::new(PAYLOAD);
    let stamped = Plan {
        stamp: true,
        ..plan.clone()
    };
    let case = |name, plan: &Plan, good| Case {
        name,
        root: instance.root(),
        bundle: instance.sign(plan),
        subject: plan.subject.clone(),
        issuer: plan.issuer.clone(),
        good,
    };
    let rekor_v2 = Plan {
        kind: second,
        promise: false,
        ..stamped.clone()
    };
    let late = Plan {
        time: START + 2000,
        ..plan.clone()
    };
    let other_payload = {
        let mut case = case("another payload", &plan, false);
        case.bundle["dsseEnvelope"]["payload"] = b64(&PAYLOAD.to_ascii_uppercase()).into();
        case
    };
    vec![
        case("an entry with a promise", &plan, true),
        case("with a time stamp", &stamped, true),
        case("an entry of the second version", &rekor_v2, true),
        case("after the certificate expired", &late, false),
        case(
            "without a time",
            &Plan {
                promise: false,
                ..plan.clone()
            },
            false,
        ),
        case(
            "a signature over something else",
            &Plan {
                signed: |pae| pae.push(b' '),
                ..plan.clone()
            },
            false,
        ),
        case(
            "not in the certificate log",
            &Plan {
                sct: false,
                ..plan.clone()
            },
            false,
        ),
        case(
            "a certificate for another purpose",
            &Plan {
                leaf_purpose: Some(instance::TIME_STAMPING),
                ..plan.clone()
            },
            false,
        ),
        Case {
            subject: plan.subject.replace("main", "other"),
            ..case("another subject", &plan, false)
        },
        Case {
            issuer: "https://token.other.example".to_string(),
            ..case("another issuer", &plan, false)
        },
        Case {
            root: Instance::new().root(),
            ..case("another instance", &plan, false)
        },
        other_payload,
    ]
}

/// Whether we accept it.
fn accepts(case: &Case) -> bool {
    let root = TrustedRoot::parse(case.root.to_string().as_bytes()).unwrap();
    let bundle = Bundle::parse(case.bundle.to_string().as_bytes()).unwrap();
    let Content::Envelope { payload, .. } = bundle.content() else {
        panic!()
    };
    verify(&bundle, &root, None).is_ok_and(|found| {
        let found = found.identity;
        found.subject == case.subject && found.issuer == case.issuer && payload == PAYLOAD
    })
}

/// Gives each case to a verifier: root, subject, issuer, bundle, payload. `unseen` are cases that
/// it accepts, and we do not.
fn each_is_judged_as_here(second: Kind, unseen: &[&str], verifier: impl Fn() -> Command) {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let payload = write("payload", PAYLOAD);
    for case in cases(second) {
        assert_eq!(accepts(&case), case.good, "{}", case.name);
        let mut command = verifier();
        command.arg(write("root.json", case.root.to_string().as_bytes()));
        command.args([&case.subject, &case.issuer]);
        command.arg(write("bundle.json", case.bundle.to_string().as_bytes()));
        let done = command.arg(&payload).output().unwrap();
        let why = String::from_utf8_lossy(&done.stderr);
        let code = done.status.code();
        let accepts = case.good || unseen.contains(&case.name);
        assert_eq!(code, Some(i32::from(!accepts)), "{}: {why}", case.name);
        // Refused for what it says, not for a form that it can't read or a missing module.
        let unread = [
            "Traceback",
            "validation error",
            "Cannot find",
            "TypeError",
            "SyntaxError",
        ];
        assert!(unread.iter().all(|word| !why.contains(word)), "{}: {why}", case.name);
    }
}

fn oracle(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/oracles")
        .join(path)
}

// [SIGN-050] [SIGN-051] [SIGN-052] [SIGN-053]
#[test]
fn pythons_sigstore_judges_certified_bundles_as_this_crate_does() {
    if lacks(&["sigstore-python"]) {
        return;
    }
    each_is_judged_as_here(Kind::HashedRekordV2, &[], || {
        let mut python = Command::new(installed("sigstore-python").join("bin/python"));
        python.arg(oracle("sigstore-python/verify.py"));
        python
    });
}

// [SIGN-050] [SIGN-051] [SIGN-052] [SIGN-053]
#[test]
fn sigstores_javascript_judges_certified_bundles_as_this_crate_does() {
    if lacks(&["node", "sigstore-verify"]) {
        return;
    }
    // It does not ask what a certificate is for.
    let unseen = ["a certificate for another purpose"];
    each_is_judged_as_here(Kind::DsseV2, &unseen, || {
        let mut node = Command::new("node");
        // From its input, so that it finds the modules of the directory that it runs in.
        node.args(["--input-type=module", "-"])
            .stdin(File::open(oracle("sigstore-verify/certified.mjs")).unwrap())
            .current_dir(installed("sigstore-verify"));
        node
    });
}
