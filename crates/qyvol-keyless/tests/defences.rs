//! Each defence, seen to hold: a bundle of a private instance that is right but for one thing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod instance;

use instance::{CODE_SIGNING, Instance, Kind, Plan, START, TIME_STAMPING, b64, der};
use qyvol_keyless::{Bundle, Identity, Refusal, TrustedRoot, Vouched, claimed, verify};
use serde_json::{Value, json};

const KINDS: [Kind; 4] = [Kind::Dsse, Kind::Intoto, Kind::HashedRekordV2, Kind::DsseV2];

fn plan() -> Plan {
    Plan::new(br#"{"statement":1}"#)
}

fn judge(bundle: &Value, root: &Value) -> Result<Vouched, Refusal> {
    let bundle = Bundle::parse(bundle.to_string().as_bytes()).expect("a bundle");
    let root = TrustedRoot::parse(root.to_string().as_bytes()).expect("a trusted root");
    verify(&bundle, &root, None)
}

/// The refusal of a plan that does one thing wrong, in words.
fn refusal(change: impl Fn(&mut Plan)) -> String {
    let instance = Instance::new();
    let mut plan = plan();
    change(&mut plan);
    judge(&instance.sign(&plan), &instance.root()).unwrap_err().to_string()
}

/// The refusal of a bundle or trusted root that was changed afterwards.
fn changed(stamp: bool, change: impl Fn(&mut Value, &mut Value)) -> String {
    let instance = Instance::new();
    let plan = Plan {
        stamp,
        promise: !stamp,
        ..plan()
    };
    let (mut bundle, mut root) = (instance.sign(&plan), instance.root());
    judge(&bundle, &root).expect("good before the change");
    change(&mut bundle, &mut root);
    judge(&bundle, &root).unwrap_err().to_string()
}

#[track_caller]
fn says(refusal: &str, part: &str) {
    assert!(refusal.contains(part), "{refusal}");
}

fn flip(value: &mut Value) {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD;
    let mut bytes = engine.decode(value.as_str().unwrap()).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    *value = json!(b64(&bytes));
}

// [SIGN-050]
#[test]
fn bundle_of_each_kind_of_entry_and_of_each_source_of_time_says_who_signed() {
    let instance = Instance::new();
    for kind in KINDS {
        for (promise, stamp) in [(true, false), (false, true), (true, true)] {
            let plan = Plan {
                kind,
                promise,
                stamp,
                ..plan()
            };
            let bundle = instance.sign(&plan);
            let found = judge(&bundle, &instance.root()).unwrap();
            let identity = Identity {
                issuer: plan.issuer.clone(),
                subject: plan.subject.clone(),
                repository_id: Some("1001".to_string()),
                owner_id: Some("42".to_string()),
            };
            let bundle = Bundle::parse(bundle.to_string().as_bytes()).unwrap();
            assert_eq!(claimed(&bundle).unwrap().as_ref(), Some(&identity));
            assert_eq!(
                found,
                Vouched {
                    identity,
                    time: plan.time
                }
            );
        }
    }
    let person = Plan {
        subject: "ana@acme.example".to_string(),
        repository_id: None,
        owner_id: None,
        ..plan()
    };
    let found = judge(&instance.sign(&person), &instance.root()).unwrap();
    assert_eq!(
        (found.identity.subject.as_str(), found.identity.repository_id),
        ("ana@acme.example", None)
    );
}

// [SIGN-050]
#[test]
fn signature_must_be_the_certified_keys_over_the_payload() {
    let refused = refusal(|plan| plan.signed = |pae| pae.push(b' '));
    says(&refused, "not its key's over this content");
    let refused = changed(false, |bundle, _| bundle["dsseEnvelope"]["payload"] = json!(b64(b"{}")));
    says(&refused, "not its key's over this content");
}

// [SIGN-051]
#[test]
fn time_must_be_vouched_for() {
    says(&refusal(|plan| plan.promise = false), "nothing in the bundle says when");
    // The entry's own time is not signed without a promise.
    let refused = changed(true, |bundle, _| {
        let material = &mut bundle["verificationMaterial"];
        material["timestampVerificationData"] = json!({});
        material["tlogEntries"][0]["integratedTime"] = json!("1767226600");
    });
    says(&refused, "nothing in the bundle says when");
    let set = |bundle: &mut Value| bundle["verificationMaterial"]["tlogEntries"][0].take();
    let refused = changed(false, |bundle, _| {
        let mut entry = set(bundle);
        entry["integratedTime"] = json!("1767226601");
        bundle["verificationMaterial"]["tlogEntries"][0] = entry;
    });
    says(&refused, "a promise that its log has not signed");
}

// [SIGN-051]
#[test]
fn time_stamp_must_be_the_authoritys_over_this_signature() {
    let stamped = |change: fn(&mut Plan)| {
        refusal(move |plan| {
            (plan.promise, plan.stamp) = (false, true);
            change(plan);
        })
    };
    says(
        &stamped(|plan| plan.stamp_over = |over| over.push(0)),
        "over another signature",
    );
    says(
        &stamped(|plan| plan.stamp_purpose = CODE_SIGNING),
        "for another purpose",
    );
    let path = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp";
    says(
        &changed(true, |bundle, _| flip(bundle.pointer_mut(path).unwrap())),
        "not its authority's",
    );
    says(
        &changed(true, |_, root| {
            root["timestampAuthorities"] = Instance::new().root()["timestampAuthorities"].clone()
        }),
        "nothing in the bundle says when",
    );
    // Every byte of the answer is either covered or makes no difference to the time.
    let instance = Instance::new();
    let good = instance.sign(&Plan {
        promise: false,
        stamp: true,
        ..plan()
    });
    let answer = good.pointer(path).unwrap().as_str().unwrap();
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(answer).unwrap();
    for index in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[index] ^= 1;
        let mut bundle = good.clone();
        *bundle.pointer_mut(path).unwrap() = json!(b64(&bytes));
        if let Ok(found) = judge(&bundle, &instance.root()) {
            assert_eq!(found.time, START + 1000, "byte {index}");
        }
    }
}

// [SIGN-052]
#[test]
fn certificate_must_be_for_signing_code_and_valid_when_it_was_used() {
    says(&refusal(|plan| plan.leaf_purpose = None), "for another purpose");
    says(
        &refusal(|plan| plan.leaf_purpose = Some(TIME_STAMPING)),
        "for another purpose",
    );
    says(
        &refusal(|plan| plan.leaf = [START + 900, START + 999]),
        "vouches for the certificate at 2026-01-01T00:16:40Z",
    );
    says(
        &refusal(|plan| plan.leaf = [START + 1001, START + 1500]),
        "vouches for the certificate",
    );
    let refused = changed(false, |_, root| {
        root["certificateAuthorities"] = Instance::new().root()["certificateAuthorities"].clone();
    });
    says(&refused, "vouches for the certificate");
    let twice = refusal(|plan| {
        let issuer = der::utf8("https://token.other.example");
        plan.extensions = vec![der::extension("1.3.6.1.4.1.57264.1.8", false, &issuer)];
    });
    says(&twice, "an extension twice");
}

// [SIGN-052]
#[test]
fn certificate_log_must_have_signed_the_rebuilt_precertificate() {
    says(&refusal(|plan| plan.sct = false), "it has no certificate timestamp");
    says(
        &refusal(|plan| plan.sct_over = |bytes| *bytes.last_mut().unwrap() = 1),
        "not its log's over this certificate",
    );
    // The issuer's key is in it too.
    says(
        &refusal(|plan| plan.sct_over = |bytes| bytes[12] ^= 1),
        "not its log's over this certificate",
    );
    let other = |_: &mut Value, root: &mut Value| root["ctlogs"] = Instance::new().root()["ctlogs"].clone();
    says(&changed(false, other), "its timestamps are by other logs");
}

// [SIGN-053]
#[test]
fn entry_must_be_about_this_signature_certificate_and_content() {
    for kind in KINDS {
        let body = |change: fn(&mut Value)| refusal(move |plan| (plan.kind, plan.body) = (kind, change));
        let signature = body(|body| {
            let other = json!(b64(b"other"));
            for path in [
                "/spec/signatures/0/signature",
                "/spec/content/envelope/signatures/0/sig",
                "/spec/hashedRekordV002/signature/content",
                "/spec/dsseV002/signatures/0/content",
            ] {
                if let Some(place) = body.pointer_mut(path) {
                    *place = other.clone();
                }
            }
        });
        says(&signature, "about another signature or certificate");
        let certificate = body(|body| {
            for path in [
                "/spec/signatures/0/verifier",
                "/spec/content/envelope/signatures/0/publicKey",
                "/spec/hashedRekordV002/signature/verifier/x509Certificate/rawBytes",
                "/spec/dsseV002/signatures/0/verifier/x509Certificate/rawBytes",
            ] {
                if let Some(place) = body.pointer_mut(path) {
                    *place = json!(b64(b"other"));
                }
            }
        });
        says(&certificate, "about another signature or certificate");
        let content = body(|body| {
            for (path, value) in [
                ("/spec/payloadHash/value", json!("00")),
                ("/spec/content/payloadHash/value", json!("00")),
                ("/spec/hashedRekordV002/data/digest", json!("AAAA")),
                ("/spec/dsseV002/payloadHash/digest", json!("AAAA")),
            ] {
                if let Some(place) = body.pointer_mut(path) {
                    *place = value;
                }
            }
        });
        says(&content, "about other content");
        says(&body(|body| body["kind"] = json!("other")), "of another kind");
    }
    // A whole entry of somebody else's, good in itself.
    let instance = Instance::new();
    let other = instance.sign(&Plan::new(b"{}"));
    let mut bundle = instance.sign(&plan());
    bundle["verificationMaterial"]["tlogEntries"] = other["verificationMaterial"]["tlogEntries"].clone();
    says(
        &judge(&bundle, &instance.root()).unwrap_err().to_string(),
        "about other content",
    );
}

// [SIGN-053]
#[test]
fn entry_must_be_included_in_what_the_log_has_signed() {
    let proof = "/verificationMaterial/tlogEntries/0/inclusionProof";
    for (path, part) in [
        ("/hashes/0", "not in the tree"),
        ("/rootHash", "in another tree than the checkpoint's"),
    ] {
        let refused = changed(false, |bundle, _| {
            flip(bundle.pointer_mut(&format!("{proof}{path}")).unwrap())
        });
        says(&refused, part);
    }
    for (path, value, part) in [
        ("/logIndex", json!("0"), "not in the tree"),
        ("/treeSize", json!("4"), "in another tree than the checkpoint's"),
        ("/hashes", json!([]), "not in the tree"),
        ("/checkpoint", json!(null), "without a checkpoint"),
    ] {
        let refused = changed(false, |bundle, _| {
            *bundle.pointer_mut(&format!("{proof}{path}")).unwrap() = value.clone()
        });
        says(&refused, part);
    }
    let note = format!("{proof}/checkpoint/envelope");
    for (from, to) in [
        ("\n3\n", "\n4\n"),
        ("log.example - 7", "log.example - 8"),
        ("\u{2014} log.example", "\u{2014} log"),
    ] {
        let refused = changed(false, |bundle, _| {
            let place = bundle.pointer_mut(&note).unwrap();
            *place = json!(place.as_str().unwrap().replacen(from, to, 1));
        });
        says(&refused, "a checkpoint that its log has not signed");
    }
    let entry = "/verificationMaterial/tlogEntries/0";
    let gone = changed(false, |bundle, _| {
        bundle
            .pointer_mut(entry)
            .unwrap()
            .as_object_mut()
            .unwrap()
            .remove("inclusionProof");
    });
    says(&gone, "no proof of inclusion");
    let none = changed(true, |bundle, _| {
        bundle["verificationMaterial"]["tlogEntries"] = json!([])
    });
    says(&none, "is missing");
}

// [SIGN-054]
#[test]
fn key_of_the_root_vouches_for_nothing_outside_its_validity() {
    // Signed at 00:16:40, the certificate logged at 00:15:01.
    for (list, path, stamp, part) in [
        ("tlogs", "/publicKey/validFor", false, "by a key that is not valid at"),
        ("tlogs", "/publicKey/validFor", true, "by a key that is not valid at"),
        ("ctlogs", "/publicKey/validFor", false, "the log's key is not valid at"),
        ("certificateAuthorities", "/validFor", false, "none is valid then"),
        ("timestampAuthorities", "/validFor", true, "was not valid then"),
    ] {
        for period in [
            json!({"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T00:15:00Z"}),
            json!({"start": "2026-01-01T00:16:41Z"}),
        ] {
            let refused = changed(stamp, |_, root| {
                *root[list][0].pointer_mut(path).unwrap() = period.clone();
            });
            says(&refused, part);
        }
    }
    // Both ends belong to it.
    let instance = Instance::new();
    let mut root = instance.root();
    root["tlogs"][0]["publicKey"]["validFor"] =
        json!({"start": "2026-01-01T00:16:40Z", "end": "2026-01-01T00:16:40.000Z"});
    judge(&instance.sign(&plan()), &root).unwrap();
}

// [SIGN-054]
#[test]
fn trusted_root_without_a_keys_start_is_refused() {
    for list in ["tlogs", "ctlogs", "certificateAuthorities", "timestampAuthorities"] {
        let mut root = Instance::new().root();
        let entry = &mut root[list][0];
        let holder = match entry.get("publicKey") {
            Some(_) => &mut entry["publicKey"],
            None => entry,
        };
        holder["validFor"] = json!({});
        assert!(TrustedRoot::parse(root.to_string().as_bytes()).is_err(), "{list}");
    }
}

// [SIGN-050]
#[test]
fn root_without_logs_asks_for_time_alone() {
    let instance = Instance::new();
    let mut root = instance.root();
    (root["tlogs"], root["ctlogs"]) = (json!([]), json!([]));
    let stamped = Plan {
        sct: false,
        promise: false,
        stamp: true,
        ..plan()
    };
    let mut bundle = instance.sign(&stamped);
    bundle["verificationMaterial"]["tlogEntries"] = json!([]);
    judge(&bundle, &root).unwrap();
    bundle["verificationMaterial"]["timestampVerificationData"] = json!({});
    says(
        &judge(&bundle, &root).unwrap_err().to_string(),
        "nothing in the bundle says when",
    );
}

// [SIGN-055]
#[test]
fn lists_past_their_bounds_are_refused_before_they_are_used() {
    let instance = Instance::new();
    let good = instance.sign(&Plan { stamp: true, ..plan() });
    let entry = &good["verificationMaterial"]["tlogEntries"][0];
    let stamp = &good["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"][0];
    for (path, value) in [
        ("/verificationMaterial/tlogEntries", json!(vec![entry; 9])),
        (
            "/verificationMaterial/timestampVerificationData/rfc3161Timestamps",
            json!(vec![stamp; 9]),
        ),
        (
            "/verificationMaterial/tlogEntries/0/inclusionProof/hashes",
            json!(vec!["AAAA"; 65]),
        ),
        (
            "/verificationMaterial/tlogEntries/0/inclusionProof/checkpoint/envelope",
            json!("x".repeat(20_000)),
        ),
        ("/verificationMaterial/certificate/rawBytes", json!(b64(&[0; 40_000]))),
        ("/dsseEnvelope/signatures/0/sig", json!(b64(&[0; 4000]))),
        ("/dsseEnvelope/signatures", json!([])),
    ] {
        let mut bundle = good.clone();
        *bundle.pointer_mut(path).unwrap() = value;
        assert!(Bundle::parse(bundle.to_string().as_bytes()).is_err(), "{path}");
    }
    for (list, count) in [
        ("tlogs", 65),
        ("ctlogs", 65),
        ("certificateAuthorities", 65),
        ("timestampAuthorities", 65),
    ] {
        let mut root = instance.root();
        root[list] = json!(vec![root[list][0].clone(); count]);
        assert!(TrustedRoot::parse(root.to_string().as_bytes()).is_err(), "{list}");
    }
}
