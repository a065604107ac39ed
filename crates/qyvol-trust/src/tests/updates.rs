//! Chains of policies: who replaces which.

use super::*;
use crate::{FRESH_PREDICATE, POLICY_PREDICATE, PolicyDocument, SignedPolicy};

fn document(keys: &[&PrivateKey], more: &str, serial: u64) -> PolicyDocument {
    PolicyDocument::parse(&document_text(keys, more, serial)).unwrap()
}

fn document_text(keys: &[&PrivateKey], more: &str, serial: u64) -> String {
    let policy = policy_text(keys, 1).replacen("version: 1\n", "", 1);
    let names: Vec<String> = (0..keys.len()).map(|index| format!("k{index}")).collect();
    let names = names.join(", ");
    format!("version: 1\nname: fleet\nserial: {serial}\n{policy}update: {{ keys: [{names}], {more} }}\n")
}

fn signed(document: PolicyDocument, keys: &[&PrivateKey]) -> SignedPolicy {
    let now = Timestamp::from_unix(NOW).unwrap();
    let signatures = keys.iter().map(|key| document.sign(*key, now).unwrap()).collect();
    SignedPolicy {
        signatures,
        ..SignedPolicy::new(document)
    }
}

fn refusal(next: &SignedPolicy, current: &PolicyDocument) -> Option<Refusal> {
    next.check_follows(current.policy()).err().map(|error| error.refusal)
}

// [SIGN-042]
#[test]
fn document_is_replaced_by_the_keys_of_both_alone() {
    let [a, b, c] = [key(), key(), key()];
    let current = document(&[&a, &b], "threshold: 2", 4);
    let next = || document(&[&b, &c], "threshold: 2", 5);
    assert_eq!(refusal(&signed(next(), &[&a, &b, &c]), &current), None);
    // Enough of the old, too few of the new; and the reverse.
    assert_eq!(refusal(&signed(next(), &[&a, &b]), &current), Some(Refusal::Threshold));
    assert_eq!(refusal(&signed(next(), &[&b, &c]), &current), Some(Refusal::Threshold));
    assert_eq!(refusal(&signed(next(), &[]), &current), Some(Refusal::NoTrustedKey));
    assert_eq!(
        refusal(&signed(next(), &[&key()]), &current),
        Some(Refusal::NoTrustedKey)
    );
    // One key is one signer, however often it signs.
    assert_eq!(
        refusal(&signed(next(), &[&b, &b, &c]), &current),
        Some(Refusal::Threshold)
    );
}

// [SIGN-042]
#[test]
fn key_that_a_document_revokes_replaces_nothing() {
    let [a, b] = [key(), key()];
    let text = document_text(&[&a, &b], "threshold: 1", 4) + "revoked: { keys: [k0] }\n";
    let current = PolicyDocument::parse(&text).unwrap();
    let next = || document(&[&a, &b], "threshold: 1", 5);
    assert_eq!(refusal(&signed(next(), &[&a]), &current), Some(Refusal::NoTrustedKey));
    assert_eq!(refusal(&signed(next(), &[&b]), &current), None);
}

// [SIGN-042]
#[test]
fn document_of_another_serial_or_name_follows_nothing() {
    let a = key();
    let current = document(&[&a], "threshold: 1", 4);
    for serial in [1, 3, 4, 6] {
        let next = signed(document(&[&a], "threshold: 1", serial), &[&a]);
        assert_eq!(refusal(&next, &current), Some(Refusal::Rollback), "{serial}");
    }
    let other = document_text(&[&a], "threshold: 1", 5).replace("name: fleet", "name: other");
    let next = signed(PolicyDocument::parse(&other).unwrap(), &[&a]);
    assert_eq!(refusal(&next, &current), Some(Refusal::Identity));
}

// [SIGN-041] [SIGN-042]
#[test]
fn signature_over_another_statement_or_document_does_not_count() {
    let a = key();
    let current = document(&[&a], "threshold: 1", 4);
    let next = document(&[&a], "threshold: 1", 5);
    let now = Timestamp::from_unix(NOW).unwrap();
    let of = |envelope: Envelope| SignedPolicy {
        signatures: vec![envelope],
        ..SignedPolicy::new(next.clone())
    };
    let refused = Some(Refusal::NoTrustedKey);
    assert_eq!(refusal(&of(next.sign(&a, now).unwrap()), &current), None);
    // It says that it is the newest, and not that it is the one to follow.
    assert_eq!(refusal(&of(next.sign_fresh(&a, now).unwrap()), &current), refused);
    assert_eq!(refusal(&of(current.sign(&a, now).unwrap()), &current), refused);
    let release = Statement {
        subject: next.digest(),
        name: "fleet".to_string(),
        sequence: 5,
        ..statement()
    };
    assert_eq!(refusal(&of(Envelope::sign(&a, &release).unwrap()), &current), refused);
    for (from, to) in [
        (r#""serial":5"#, r#""serial":6"#),
        (r#""name":"fleet","serial""#, r#""name":"other","serial""#),
        (r#""critical":[]"#, r#""critical":["x"]"#),
        (POLICY_PREDICATE, FRESH_PREDICATE),
    ] {
        let good = next.sign(&a, now).unwrap();
        let payload = String::from_utf8(good.payload_unverified().to_vec()).unwrap();
        assert!(payload.contains(from), "{payload}");
        let altered = Envelope::seal(&a, payload.replacen(from, to, 1).into_bytes()).unwrap();
        assert_eq!(refusal(&of(altered), &current), refused, "{to}");
    }
}

// [SIGN-041]
#[test]
fn signature_of_a_document_is_none_of_a_release() {
    let a = key();
    let next = document(&[&a], "threshold: 1", 5);
    let envelope = next.sign(&a, Timestamp::from_unix(NOW).unwrap()).unwrap();
    let parsed = crate::signed::Signed::parse(envelope.payload_unverified());
    assert!(parsed.is_err());
}

// [SIGN-043]
#[test]
fn document_lapses_when_it_expires_or_nobody_says_that_it_is_the_newest() {
    let [a, online] = [key(), key()];
    let at = |seconds: u64| Timestamp::from_unix(seconds).unwrap();
    let text = document_text(&[&a, &online], "threshold: 1", 5);
    let text = text.replace(
        "update: { keys: [k0, k1], threshold",
        "update: { keys: [k0], freshness: [k1], max_lag: 1h, threshold",
    );
    let fresh_by = |key: &PrivateKey, time: u64| {
        let document = PolicyDocument::parse(&text).unwrap();
        SignedPolicy {
            fresh: Some(document.sign_fresh(key, at(time)).unwrap()),
            ..SignedPolicy::new(document)
        }
    };
    assert_eq!(fresh_by(&online, NOW).fresh_at(at(NOW)), Some(at(NOW)));
    // A key that replaces documents says nothing about what is the newest.
    assert_eq!(fresh_by(&a, NOW).fresh_at(at(NOW)), None);
    assert_eq!(fresh_by(&online, NOW + 300).fresh_at(at(NOW)), Some(at(NOW + 300)));
    assert_eq!(fresh_by(&online, NOW + 301).fresh_at(at(NOW)), None);
    let policy = TrustPolicy::parse(&text).unwrap();
    assert!(policy.lapsed(at(NOW), None).is_some());
    assert_eq!(policy.lapsed(at(NOW + 3600), Some(at(NOW))), None);
    assert!(policy.lapsed(at(NOW + 3601), Some(at(NOW))).is_some());
    let dated = TrustPolicy::parse(&text.replace("serial: 5", "serial: 5\nexpires: 2027-01-15T08:00:00Z")).unwrap();
    assert_eq!(at(NOW).to_string(), "2027-01-15T08:00:00Z");
    assert_eq!(dated.lapsed(at(NOW - 1), Some(at(NOW - 1))), None);
    assert!(dated.lapsed(at(NOW), Some(at(NOW))).is_some());
}

// [SIGN-041]
#[test]
fn policy_that_says_wrong_who_replaces_it_is_refused() {
    let [a, b] = [key(), key()];
    let good = document_text(&[&a, &b], "threshold: 2, from: registry.example/policy", 5);
    assert!(TrustPolicy::parse(&good).is_ok());
    for (from, to) in [
        ("name: fleet\n", ""),
        ("name: fleet\n", "name: Fleet*\n"),
        ("serial: 5\n", ""),
        ("threshold: 2, from", "threshold: 3, from"),
        ("threshold: 2, from", "threshold: 0, from"),
        ("update: { keys: [k0, k1]", "update: { keys: [k0, k0]"),
        ("update: { keys: [k0, k1]", "update: { keys: [k0, k2]"),
        ("update: { keys: [k0, k1]", "update: { keys: []"),
        ("from: registry.example/policy", "from: policy"),
        ("from: registry.example/policy", "from: registry.example/policy:7"),
        ("from: registry.example/policy", "max_lag: 1d"),
        ("from: registry.example/policy", "max_lag: , freshness: [k0]"),
        ("threshold: 2, from", "threshold: , from"),
        ("from: registry.example/policy", "from: "),
        ("threshold: 1 }]", "threshold: }]"),
        ("name: fleet\n", "name: fleet\nexpires:\n"),
        ("  k0:\n", "  k0:\n    until: 2030-01-01\n"),
    ] {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{from}");
        assert!(TrustPolicy::parse(&text).is_err(), "{to}");
    }
}

// [SIGN-044]
#[test]
fn line_of_a_chain_reads_back_as_written() {
    let a = key();
    let mut step = signed(document(&[&a], "threshold: 1", 5), &[&a]);
    step.fresh = Some(
        step.document
            .sign_fresh(&a, Timestamp::from_unix(NOW).unwrap())
            .unwrap(),
    );
    let line = step.to_line().unwrap();
    assert!(!line.contains(&b'\n'));
    let read = SignedPolicy::parse_line(&line).unwrap();
    assert_eq!(read.document.text(), step.document.text());
    assert_eq!(read.to_line().unwrap(), line);
    for bad in [&b"{}"[..], b"[]", b"", b"{\"policy\":\"version: 1\",\"signatures\":[]}"] {
        assert!(SignedPolicy::parse_line(bad).is_err());
    }
}
