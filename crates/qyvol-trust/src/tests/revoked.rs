//! What a policy never accepts: revoked keys, but for what they keep, and versions below a
//! floor.

use qyvol_types::Digest;

use super::*;
use crate::{Cause, PolicyEdit, PolicyEditError, change, sequence_of};

fn with(key: &PrivateKey, more: &str) -> TrustPolicy {
    TrustPolicy::parse(&format!("{}{more}", policy_text(&[key], 1))).unwrap()
}

// [SIGN-039]
#[test]
fn stolen_keys_signature_counts_for_the_images_that_are_kept_alone() {
    let key = key();
    let envelopes = [signed(&key, &statement())];
    let (own, other) = (image().digest, Digest::of(b"another"));
    for (keep, kept) in [
        (format!("{{ key: k0, keep: [\"{own}\"] }}"), true),
        (format!("{{ key: k0, keep: [\"{other}\", \"{own}\"] }}"), true),
        (format!("{{ key: k0, keep: [\"{other}\"] }}"), false),
        ("{ key: k0, keep: [] }".to_string(), false),
        ("{ key: k0 }".to_string(), false),
        // Listed twice, it keeps what both keep.
        (format!("{{ key: k0, keep: [\"{own}\"] }}, k0"), false),
        (
            format!(
                "{{ key: k0, keep: [\"{own}\"] }}, {{ key: \"{}\", keep: [\"{own}\"] }}",
                key.public().fingerprint()
            ),
            true,
        ),
    ] {
        let policy = with(&key, &format!("revoked: {{ keys: [{keep}] }}\n"));
        match judge(&policy, &envelopes) {
            Ok(report) => assert!(kept && report.requirements[0].keys == ["k0"], "{keep}"),
            Err((refusal, report)) => {
                assert_eq!((refusal, kept), (Refusal::Revoked, false), "{keep}");
                assert!(report.requirements[0].keys.is_empty(), "{keep}");
            }
        }
    }
}

// [SERVE-020]
#[test]
fn key_that_counted_when_an_image_was_accepted_is_revoked_whatever_the_rule_asks_for_now() {
    let (key, other) = (key(), key());
    let envelopes = [signed(&key, &statement()), signed(&other, &statement())];
    let digest = image().digest;
    let accepted = judge(&policy(&[&key, &other], 2), &envelopes).unwrap();
    // Without a threshold, the other's signature is not asked for.
    let alone = judge(&policy(&[&key], 1), &envelopes).unwrap();
    let fingerprint = other.public().fingerprint();
    for (more, is_revoked) in [
        (String::new(), [false, false]),
        (format!("revoked: {{ images: [\"{digest}\"] }}\n"), [true, true]),
        (format!("revoked: {{ keys: [\"{fingerprint}\"] }}\n"), [true, false]),
        (
            format!("revoked: {{ keys: [{{ key: \"{fingerprint}\", keep: [\"{digest}\"] }}] }}\n"),
            [false, false],
        ),
    ] {
        // It names neither key in a rule.
        let policy = TrustPolicy::parse(&format!("version: 1\n{more}")).unwrap();
        assert_eq!(
            [&accepted, &alone].map(|report| report.is_revoked_by(&policy, &digest)),
            is_revoked,
            "{more}"
        );
    }
    // Not one of both keys is enough, and the error's class says nothing of the revoked one.
    let two = format!("{}revoked: {{ keys: [k1] }}\n", policy_text(&[&key, &other], 2));
    let two = TrustPolicy::parse(&two).unwrap();
    assert_eq!(judge(&two, &envelopes).unwrap_err().0, Refusal::Threshold);
    assert!(accepted.is_revoked_by(&two, &digest));
}

// [SIGN-039]
#[test]
fn key_that_is_given_keeps_what_the_policy_keeps() {
    let key = key();
    let envelopes = [signed(&key, &statement())];
    let more = format!("revoked: {{ keys: [{{ key: k0, keep: [\"{}\"] }}] }}\n", image().digest);
    for (more, kept) in [(more.as_str(), true), ("revoked: { keys: [k0] }\n", false)] {
        let given = TrustPolicy::single_key(key.public().clone(), with(&key, more).revoked().clone());
        assert_eq!(judge(&given, &envelopes).is_ok(), kept, "{more}");
    }
}

// [SIGN-034] [SIGN-039]
#[test]
fn key_is_revoked_by_command_but_for_what_is_kept() {
    let key = key();
    let edit = |keep: &[Digest]| PolicyEdit::RevokeKey {
        id: key.public().id(),
        keep: keep.to_vec(),
    };
    let kept = [image().digest];
    let changed = change(Some(&policy_text(&[&key], 1)), &edit(&kept)).unwrap();
    judge(&changed.policy, &[signed(&key, &statement())]).unwrap();
    assert!(
        changed.notes.iter().any(|note| note.contains("still count")),
        "{:?}",
        changed.notes
    );
    // It is not widened, nor taken back, in silence.
    assert!(change(Some(&changed.text), &edit(&kept)).unwrap().notes.is_empty());
    let refused = change(Some(&changed.text), &edit(&[])).unwrap_err();
    assert!(matches!(refused, PolicyEditError::Refused(_)), "{refused}");
}

// [SIGN-040]
#[test]
fn version_below_the_floor_of_its_name_is_a_rollback() {
    let key = key();
    let at = |version: &str| Statement {
        version: version.to_string(),
        // Whatever the signer says of it.
        sequence: sequence_of("9.0.0"),
        ..statement()
    };
    let image = image();
    let judged = |floors: &str, version: &str, given: bool| {
        let mut policy = with(&key, &format!("floors: {floors}\n"));
        if given {
            policy = TrustPolicy::single_key(key.public().clone(), policy.revoked().clone());
        }
        let now = Timestamp::from_unix(NOW).unwrap();
        let subject = Subject {
            version,
            ..subject(&image, None)
        };
        verify(&policy, &subject, &[signed(&key, &at(version))], now, None)
    };
    for (floors, version, good) in [
        ("{ acme/app: 1.4.2 }", "1.4.2", true),
        ("{ acme/app: 1.4.2 }", "1.5.0-rc.1", true),
        ("{ acme/app: 1.4.2 }", "1.4.2-rc.1", false),
        ("{ acme/app: 1.4.2 }", "1.4.1", false),
        ("{ acme/app: 1.4.2 }", "latest", false),
        ("{ app: 1.4.2 }", "1.4.1", true),
        ("{ other/app: 1.4.2 }", "1.4.1", true),
    ] {
        for given in [false, true] {
            match judged(floors, version, given) {
                Ok(_) => assert!(good, "{floors} {version}"),
                Err(error) => {
                    assert_eq!(
                        (error.refusal(), good),
                        (Refusal::Rollback, false),
                        "{floors} {version}"
                    );
                    assert_eq!(error.report().signatures[0].cause, Some(Cause::Floor));
                }
            }
        }
    }
}
