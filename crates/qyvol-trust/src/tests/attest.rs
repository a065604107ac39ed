//! Attestations are signed, and are no signatures.

use serde_json::json;

use super::*;
use crate::{Attestation, verify_attested};

fn attestation(kind: &str, predicate: &str) -> Attestation {
    Attestation {
        subject: image().digest,
        name: "acme/app".to_string(),
        predicate_type: kind.to_string(),
        predicate: predicate.as_bytes().to_vec(),
    }
}

fn attested(key: &PrivateKey, kind: &str, predicate: &str) -> Vec<u8> {
    Envelope::attest(key, &attestation(kind, predicate))
        .unwrap()
        .bytes()
        .to_vec()
}

const SBOM: &str = "https://cyclonedx.org/bom";

// [SIGN-060]
#[test]
fn predicate_is_signed_with_the_bytes_that_it_has() {
    let key = key();
    let predicate = "{ \"n\": 1.50, \"big\": 12345678901234567890123 }\n";
    let bundle: Value = serde_json::from_slice(&attested(&key, SBOM, predicate)).unwrap();
    let payload = STANDARD
        .decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap())
        .unwrap();
    let text = String::from_utf8(payload).unwrap();
    assert!(
        text.ends_with(&format!("\"predicateType\":\"{SBOM}\",\"predicate\":{predicate}}}")),
        "{text}"
    );
    let statement: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["subject"][0]["digest"]["sha256"], json!(image().digest.hex()));
    for (kind, predicate) in [
        ("https://qyvol.dev/release/v1", "{}"),
        ("https://sigstore.dev/cosign/sign/v1", "{}"),
        ("sbom", "{}"),
        ("https://a b", "{}"),
        (SBOM, "{} {}"),
        (SBOM, "{\"a\":1,\"a\":2}"),
        (SBOM, "},\"predicate\":{"),
        (SBOM, ""),
    ] {
        assert!(
            Envelope::attest(&key, &attestation(kind, predicate)).is_err(),
            "{kind} {predicate}"
        );
    }
}

// [SIGN-061]
#[test]
fn attestation_counts_as_no_signature_in_either_place() {
    let key = key();
    let policy = policy(&[&key], 1);
    let bundle = attested(&key, SBOM, "{}");
    let (refusal, report) = judge(&policy, &[bundle]).unwrap_err();
    assert_eq!(refusal, Refusal::Unsigned);
    assert!(report.signatures.is_empty());
    assert_eq!(report.attestations[0].verdict, Verdict::Good);
    assert_eq!(report.attestations[0].key.as_deref(), Some("k0"));
    // A release among the attestations counts as neither.
    let image = image();
    let now = Timestamp::from_unix(NOW).unwrap();
    let release = signed(&key, &statement());
    let error = verify_attested(&policy, &subject(&image, None), &[], &[release], now, None).unwrap_err();
    assert_eq!(error.refusal(), Refusal::Unsigned);
    assert_eq!(error.report().attestations[0].verdict, Verdict::Malformed);
}

// [SIGN-061]
#[test]
fn attestation_larger_than_a_signature_is_read_where_attestations_are() {
    let key = key();
    let policy = policy(&[&key], 1);
    let predicate = format!("{{\"text\":\"{}\"}}", "x".repeat(1 << 20));
    let bundle = attested(&key, SBOM, &predicate);
    let image = image();
    let now = Timestamp::from_unix(NOW).unwrap();
    let release = signed(&key, &statement());
    let found = verify_attested(&policy, &subject(&image, None), &[release], &[bundle], now, None).unwrap();
    assert_eq!(found.report.attestations[0].verdict, Verdict::Good);
    let huge = format!("\"{}\"", "x".repeat(13 << 20));
    let error = Envelope::attest(&key, &attestation(SBOM, &huge)).unwrap_err();
    assert!(error.to_string().contains("at most"), "{error}");
}

// [SIGN-062]
#[test]
fn attestation_by_a_revoked_or_expired_key_does_not_count() {
    let (release, lab) = (key(), key());
    let text = policy_text(&[&release, &lab], 1).replace("[k0, k1]", "[k0]")
        + &format!("    attest: [{{ type: {SBOM}, keys: [k1] }}]\n");
    let bundles = [signed(&release, &statement()), attested(&lab, SBOM, "{}")];
    judge(&TrustPolicy::parse(&text).unwrap(), &bundles).unwrap();
    let revoked = text.replace("rules:", "revoked: { keys: [k1] }\nrules:");
    let (refusal, report) = judge(&TrustPolicy::parse(&revoked).unwrap(), &bundles).unwrap_err();
    assert_eq!((refusal, refusal.exit_code()), (Refusal::Attestation, 13));
    assert_eq!(report.attestations[0].verdict, Verdict::Revoked);
    let until = text.replacen("  k1:\n", "  k1:\n    until: 2026-01-01\n", 1);
    let (refusal, report) = judge(&TrustPolicy::parse(&until).unwrap(), &bundles).unwrap_err();
    assert_eq!(refusal, Refusal::Attestation);
    assert_eq!(report.attestations[0].verdict, Verdict::Expired);
}

// [SIGN-062] [SIGN-020]
#[test]
fn condition_that_is_not_understood_refuses_the_policy() {
    let key = key();
    let with = |attest: &str| TrustPolicy::parse(&(policy_text(&[&key], 1) + "    attest: " + attest + "\n"));
    with("[{ type: t, keys: [k0], source: \"https://host/acme/*\" }]").unwrap();
    for bad in [
        "",
        "{}",
        "[{}]",
        "[{ type: t }]",
        "[{ keys: [k0] }]",
        "[{ type: t, keys: [] }]",
        "[{ type: t, keys: [k1] }]",
        "[{ type: t, keys: [k0, k0] }]",
        "[{ type: t, keys: [k0], builder: }]",
        "[{ type: t, keys: [k0], builder: \"a*b\" }]",
        "[{ type: t, keys: [k0], ref: \"**\" }]",
        "[{ type: t, keys: [k0], source: \"https://host/acme*\" }]",
        "[{ type: t, keys: [k0], level: 3 }]",
    ] {
        assert!(with(bad).is_err(), "{bad}");
    }
}
