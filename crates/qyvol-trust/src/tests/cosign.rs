//! Signatures of cosign's form: taken where the rule says so, and nowhere else.

use qyvol_types::{Reference, Timestamp};
use serde_json::{Value, json};

use super::{NOW, image, judge, key, key_of, policy, policy_text, refusal, signed, signed_raw, statement, subject};
use crate::{Form, KeyType, PrivateKey, Refusal, RollbackState, TrustPolicy, Verdict, verify};

fn payload() -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "digest": { "sha256": image().digest.hex() }, "annotations": { "by": "me" } }],
        "predicateType": "https://sigstore.dev/cosign/sign/v1",
        "predicate": {},
    })
}

fn by_cosign(key: &PrivateKey) -> Vec<u8> {
    signed_raw(key, payload().to_string().as_bytes())
}

/// Asks `keys` for a release in cosign's form.
fn cosign_policy(keys: &[&PrivateKey], more: &str) -> TrustPolicy {
    let text = policy_text(keys, 1).replace("{ role", "{ form: cosign, role");
    TrustPolicy::parse(&format!("{text}{more}")).unwrap()
}

// [SIGN-038]
#[test]
fn cosigns_signature_counts_where_the_rule_asks_for_it_alone() {
    let key = key_of(KeyType::EcdsaP256);
    let asked = cosign_policy(&[&key], "");
    let report = judge(&asked, &[by_cosign(&key)]).unwrap();
    let found = &report.signatures[0];
    assert_eq!((found.verdict, found.form), (Verdict::Good, Some(Form::Cosign)));
    assert!(found.statement.is_none(), "it states nothing");
    let (refusal, report) = judge(&policy(&[&key], 1), &[by_cosign(&key)]).unwrap_err();
    assert_eq!(refusal, Refusal::NoTrustedKey);
    assert_eq!(report.signatures[0].verdict, Verdict::OtherForm);
    // Nor does one of ours where cosign's is asked for.
    let (refusal, report) = judge(&asked, &[signed(&key, &statement())]).unwrap_err();
    assert_eq!(refusal, Refusal::NoTrustedKey);
    assert_eq!(report.signatures[0].verdict, Verdict::OtherForm);
}

// [SIGN-038]
#[test]
fn key_given_by_the_user_is_taken_in_either_form() {
    let key = key_of(KeyType::EcdsaP256);
    let given = TrustPolicy::single_key(key.public().clone(), TrustPolicy::reject_all().revoked().clone());
    judge(&given, &[by_cosign(&key)]).unwrap();
    judge(&given, &[signed(&key, &statement())]).unwrap();
    // cosign prehashes for Ed25519, which is another algorithm.
    let edwards = super::key();
    let given = TrustPolicy::single_key(edwards.public().clone(), TrustPolicy::reject_all().revoked().clone());
    let (refusal, report) = judge(&given, &[by_cosign(&edwards)]).unwrap_err();
    assert_eq!(refusal, Refusal::NoTrustedKey);
    assert_eq!(report.signatures[0].verdict, Verdict::OtherForm);
}

// [SIGN-038]
#[test]
fn cosigns_statement_has_one_digest_and_an_empty_predicate() {
    let key = key_of(KeyType::EcdsaP256);
    let asked = cosign_policy(&[&key], "");
    let hex = image().digest.hex();
    let with = |field: &str, value: Value| {
        let mut payload = payload();
        payload[field] = value;
        signed_raw(&key, payload.to_string().as_bytes())
    };
    // Before 3.0.5 there is no predicate.
    let mut without = payload();
    without.as_object_mut().unwrap().remove("predicate");
    judge(&asked, &[signed_raw(&key, without.to_string().as_bytes())]).unwrap();
    for bad in [
        with("_type", json!("https://in-toto.io/Statement/v0.1")),
        with("predicate", json!({ "role": "release" })),
        with("predicate", json!([])),
        with("predicateType", json!("https://sigstore.dev/cosign/sign/v1 ")),
        with("subject", json!([])),
        with(
            "subject",
            json!([{ "digest": { "sha256": hex } }, { "digest": { "sha256": hex } }]),
        ),
        with("subject", json!([{ "digest": { "sha256": hex, "sha512": "0" } }])),
        with("subject", json!([{ "digest": { "sha1": hex } }])),
    ] {
        assert_eq!(
            refusal(&asked, &bad),
            Refusal::Malformed,
            "{}",
            String::from_utf8_lossy(&bad)
        );
    }
    let other = with("subject", json!([{ "digest": { "sha256": "0".repeat(64) } }]));
    assert_eq!(refusal(&asked, &other), Refusal::BadSignature);
}

// [SIGN-038]
#[test]
fn two_forms_of_one_key_are_one_key() {
    let key = key_of(KeyType::EcdsaP256);
    let other = key_of(KeyType::EcdsaP256);
    let text = policy_text(&[&key, &other], 2).replace("{ role", "{ form: cosign, role");
    let asked = TrustPolicy::parse(&text).unwrap();
    let both = [by_cosign(&key), signed(&key, &statement())];
    assert_eq!(judge(&asked, &both).unwrap_err().0, Refusal::Threshold);
    judge(&asked, &[by_cosign(&key), by_cosign(&other)]).unwrap();
}

// [SIGN-038] [SIGN-032]
#[test]
fn cosigns_signature_has_the_sequence_of_the_version_and_no_date() {
    let key = key_of(KeyType::EcdsaP256);
    let now = Timestamp::from_unix(NOW).unwrap();
    let image = image();
    let asked = cosign_policy(&[&key], "    rollback: deny\n");
    let envelopes = [by_cosign(&key)];
    let seen = verify(&asked, &subject(&image, None), &envelopes, now, None)
        .unwrap()
        .seen;
    let seen = seen.unwrap();
    assert_eq!(seen.sequence, crate::sequence_of("1.0.0"));
    let newer = RollbackState {
        sequence: crate::sequence_of("1.0.1"),
        digest: qyvol_types::Digest::of(b"another"),
        ..seen
    };
    let refused = verify(&asked, &subject(&image, None), &envelopes, now, Some(&newer)).unwrap_err();
    assert_eq!(refused.refusal(), Refusal::Rollback);
    let aged = cosign_policy(&[&key], "    max_age: 90d\n");
    let (refusal, report) = judge(&aged, &envelopes).unwrap_err();
    assert_eq!(refusal, Refusal::Expired);
    let reason = report.signatures[0].reason.clone().unwrap();
    assert!(reason.contains("cosign's signatures have no date"), "{reason}");
}

// [SIGN-026] [SIGN-038]
#[test]
fn images_own_name_must_be_the_asked_one_though_cosign_signed_none() {
    let key = key_of(KeyType::EcdsaP256);
    let text = policy_text(&[&key], 1)
        .replace("{ role", "{ form: cosign, role")
        .replace("\"file:\"", "r.example/**");
    let asked = TrustPolicy::parse(&text).unwrap();
    let (image, now) = (image(), Timestamp::from_unix(NOW).unwrap());
    for (name, fits) in [
        ("r.example/acme/app:1.0.0", true),
        ("r.example/acme/app:2.0.0", false),
        ("r.example/other:1.0.0", false),
    ] {
        let reference: Reference = name.parse().unwrap();
        let judged = verify(
            &asked,
            &subject(&image, Some(&reference)),
            &[by_cosign(&key)],
            now,
            None,
        );
        assert_eq!(judged.is_ok(), fits, "{name}");
    }
}

// [SIGN-038]
#[test]
fn ed25519_key_is_refused_where_cosigns_form_is_asked_for() {
    let text = policy_text(&[&key()], 1).replace("{ role", "{ form: cosign, role");
    let problems = TrustPolicy::parse(&text).unwrap_err();
    assert!(problems.to_string().contains("no ECDSA P-256 key"), "{problems}");
}
