//! Revocation, rollback, junk, time: what a good signature doesn't outweigh.

use qyvol_types::{Digest, limits};

use super::*;
use crate::{Cause, RollbackState};

/// `first` by its own key, behind copies of junk that names that key.
fn behind_junk(key: &PrivateKey, junk: usize) -> Vec<Vec<u8>> {
    let payload = statement().to_json().unwrap();
    let lie = |n: usize| {
        let mut signature = [0; 64];
        signature[..8].copy_from_slice(&(n as u64).to_be_bytes());
        bundle(&key.public().hint(), &payload, &signature)
            .to_string()
            .into_bytes()
    };
    let mut all: Vec<Vec<u8>> = (0..junk).map(lie).collect();
    all.push(signed(key, &statement()));
    all
}

// [SIGN-027]
#[test]
fn one_good_signature_among_junk_is_enough_and_junk_is_reported() {
    let (key, stranger) = (key(), key_of(KeyType::EcdsaP256));
    let policy = policy(&[&key], 1);
    let mut envelopes: Vec<Vec<u8>> = (0..5000).map(|n| format!("junk {n}").into_bytes()).collect();
    envelopes.push(signed(&stranger, &statement()));
    envelopes.push(signed(&key, &statement()));
    let report = judge(&policy, &envelopes).unwrap();
    let count = |verdict| report.signatures.iter().filter(|s| s.verdict == verdict).count();
    assert_eq!(
        (
            count(Verdict::Malformed),
            count(Verdict::UnknownKey),
            count(Verdict::Good)
        ),
        (5000, 1, 1)
    );
    // Equal ones are one.
    let often = vec![envelopes.last().unwrap().clone(); 5000];
    assert_eq!(judge(&policy, &often).unwrap().signatures.len(), 1);
    // One key often is one key.
    let two = super::policy(&[&key, &stranger], 2);
    let often: Vec<Vec<u8>> = (0..64)
        .map(|n| {
            let statement = Statement {
                sequence: n,
                ..statement()
            };
            signed(&key, &statement)
        })
        .collect();
    assert_eq!(judge(&two, &often).unwrap_err().0, Refusal::Threshold);
}

// [SIGN-027]
#[test]
fn junk_that_names_a_trusted_key_hides_no_good_signature_in_any_order() {
    let key = key();
    let policy = policy(&[&key], 1);
    let mut envelopes = behind_junk(&key, limits::SIGNATURE_CHECKS - 1);
    judge(&policy, &envelopes).unwrap();
    envelopes.reverse();
    judge(&policy, &envelopes).unwrap();
    // Past what is spent, the order still decides nothing, and the work is
    // bounded.
    let mut envelopes = behind_junk(&key, 2 * limits::SIGNATURE_CHECKS);
    let verdict = |envelopes: &[Vec<u8>]| judge(&policy, envelopes).map(drop).map_err(|(refusal, _)| refusal);
    let first = verdict(&envelopes);
    envelopes.reverse();
    assert_eq!(verdict(&envelopes), first);
    let looked_at = match judge(&policy, &envelopes) {
        Ok(report) | Err((_, report)) => report
            .signatures
            .iter()
            .filter(|s| s.verdict != Verdict::OverLimit)
            .count(),
    };
    assert_eq!(looked_at, limits::SIGNATURE_CHECKS);
}

// [SIGN-025]
#[test]
fn revoked_key_is_refused_under_any_name() {
    let key = key();
    let fingerprint = key.public().fingerprint();
    let text = policy_text(&[&key], 1);
    let envelope = signed(&key, &statement());
    for revoked in ["k0", &format!("\"{fingerprint}\"")] {
        let text = text.replace("rules:", &format!("revoked: {{ keys: [{revoked}] }}\nrules:"));
        let policy = TrustPolicy::parse(&text).unwrap();
        assert_eq!(refusal(&policy, &envelope), Refusal::Revoked);
        // The key is given by its file: the host's revocation stands.
        let given = TrustPolicy::single_key(key.public().clone(), policy.revoked().clone());
        assert_eq!(refusal(&given, &envelope), Refusal::Revoked);
    }
    let given = TrustPolicy::single_key(key.public().clone(), crate::Revoked::default());
    judge(&given, std::slice::from_ref(&envelope)).unwrap();
    let image = text.replace(
        "rules:",
        &format!("revoked: {{ images: [\"{}\"] }}\nrules:", image().digest),
    );
    let policy = TrustPolicy::parse(&image).unwrap();
    let given = TrustPolicy::single_key(key.public().clone(), policy.revoked().clone());
    assert_eq!(refusal(&given, &envelope), Refusal::Revoked);
}

// [SIGN-025]
#[test]
fn undated_signature_under_max_age_says_how_signatures_get_a_date() {
    let key = key();
    let text = policy_text(&[&key], 1).replace("    require", "    max_age: 90d\n    require");
    let policy = TrustPolicy::parse(&text).unwrap();
    let undated = Statement {
        created: Timestamp::EPOCH,
        ..statement()
    };
    let (refusal, report) = judge(&policy, &[signed(&key, &undated)]).unwrap_err();
    assert_eq!(
        (refusal, report.signatures[0].cause),
        (Refusal::Expired, Some(Cause::Undated))
    );
    let reason = report.signatures[0].reason.as_deref().unwrap();
    assert!(
        reason.contains("SOURCE_DATE_EPOCH") && reason.contains("90d"),
        "{reason}"
    );
    judge(&policy, &[signed(&key, &statement())]).unwrap();
}

/// A policy whose rule for files denies rollback.
fn denying(keys: &[&PrivateKey], threshold: usize) -> TrustPolicy {
    let text = policy_text(keys, threshold).replace("    require", "    rollback: deny\n    require");
    TrustPolicy::parse(&text).unwrap()
}

fn remembering(
    policy: &TrustPolicy,
    envelopes: &[Vec<u8>],
    seen: Option<&RollbackState>,
) -> Result<Option<RollbackState>, (Refusal, String)> {
    let image = image();
    let now = Timestamp::from_unix(NOW).unwrap();
    match verify(policy, &subject(&image, None), envelopes, now, seen) {
        Ok(accepted) => Ok(accepted.seen),
        Err(error) => Err((error.refusal(), error.to_string())),
    }
}

fn other_image() -> Digest {
    Digest::of(b"another image")
}

// [SIGN-032]
#[test]
fn older_image_than_one_accepted_before_is_refused() {
    let key = key();
    let policy = denying(&[&key], 1);
    let envelope = [signed(&key, &statement())];
    let seen = remembering(&policy, &envelope, None).unwrap().unwrap();
    assert_eq!((seen.sequence, seen.version.as_str()), (7, "1.0.0"));
    assert_eq!((seen.digest, seen.created), (image().digest, statement().created));
    assert_eq!(RollbackState::parse(&seen.to_json().unwrap()).unwrap(), seen);
    assert_eq!(remembering(&policy, &envelope, Some(&seen)).unwrap().unwrap(), seen);
    let before = |sequence, digest| RollbackState {
        sequence,
        digest,
        ..seen.clone()
    };
    // A newer one was accepted, and one that claims to be the same.
    let newer = before(8, other_image());
    let (refusal, text) = remembering(&policy, &envelope, Some(&newer)).unwrap_err();
    assert_eq!(refusal, Refusal::Rollback);
    assert!(text.contains("7 is lower than 8"), "{text}");
    let (refusal, text) = remembering(&policy, &envelope, Some(&before(7, other_image()))).unwrap_err();
    assert_eq!(refusal, Refusal::Rollback);
    let both = [other_image(), image().digest].map(|digest| text.contains(&digest.to_string()));
    assert_eq!(both, [true, true], "{text}");
    // An older one was accepted; and the same image, of which a higher
    // sequence was signed too.
    let now = remembering(&policy, &envelope, Some(&before(6, other_image())))
        .unwrap()
        .unwrap();
    assert_eq!((now.sequence, now.digest), (7, image().digest));
    let same = before(9, image().digest);
    assert_eq!(
        remembering(&policy, &envelope, Some(&same)).unwrap().unwrap().sequence,
        9
    );
    // Where the rule does not deny it, nothing is asked or remembered.
    let lax = super::policy(&[&key], 1);
    assert_eq!(remembering(&lax, &envelope, Some(&newer)), Ok(None));
}

// [SIGN-032]
#[test]
fn one_stolen_key_of_two_neither_rolls_back_nor_locks_out() {
    let (a, b) = (key(), key());
    let policy = denying(&[&a, &b], 2);
    let at = |key: &PrivateKey, sequence| {
        let statement = Statement {
            sequence,
            ..statement()
        };
        signed(key, &statement)
    };
    // What both have signed is the sequence.
    let seen = remembering(&policy, &[at(&a, 5), at(&b, 9)], None).unwrap().unwrap();
    assert_eq!(seen.sequence, 5);
    let newer = RollbackState {
        sequence: 6,
        digest: other_image(),
        ..seen
    };
    let rolled_back = remembering(&policy, &[at(&a, 5), at(&b, 9)], Some(&newer));
    assert_eq!(rolled_back.unwrap_err().0, Refusal::Threshold);
    // A low one beside good ones changes nothing.
    let good = [at(&a, 7), at(&b, 7), at(&b, 1)];
    assert_eq!(remembering(&policy, &good, Some(&newer)).unwrap().unwrap().sequence, 7);
}

// [SIGN-033]
#[test]
fn clock_rollback_does_not_revive_an_expired_signature() {
    let key = key();
    let policy = denying(&[&key], 1);
    let expires = Timestamp::from_unix(NOW + 10).ok();
    let envelope = [signed(&key, &Statement { expires, ..statement() })];
    let seen = remembering(&policy, &envelope, None).unwrap().unwrap();
    let later = RollbackState {
        created: Timestamp::from_unix(NOW + 10).unwrap(),
        ..seen
    };
    assert_eq!(
        remembering(&policy, &envelope, Some(&later)).unwrap_err().0,
        Refusal::Expired
    );
}

// [SIGN-033]
#[test]
fn remembered_time_never_exceeds_the_clock() {
    let key = key();
    let policy = denying(&[&key], 1);
    let created = Timestamp::from_unix(NOW + 200).unwrap();
    let envelope = [signed(&key, &Statement { created, ..statement() })];
    let seen = remembering(&policy, &envelope, None).unwrap().unwrap();
    assert_eq!(seen.created, Timestamp::from_unix(NOW).unwrap());
}

// [SIGN-026]
#[test]
fn signature_for_another_name_than_the_images_own_does_not_count() {
    let key = key();
    let policy = policy(&[&key], 1);
    for other in [
        Statement {
            name: "bank".to_string(),
            ..statement()
        },
        Statement {
            version: "2.0.0".to_string(),
            ..statement()
        },
    ] {
        let other = signed(&key, &other);
        assert_eq!(refusal(&policy, &other), Refusal::Identity);
        judge(&policy, &[other, signed(&key, &statement())]).unwrap();
    }
}

// [SIGN-022]
#[test]
fn key_of_some_files_signs_no_other() {
    let (a, b) = (key(), key());
    let text = policy_text(&[&a, &b], 1).replace(
        "  - scope: \"file:\"\n    require: [{ role: release, keys: [k0, k1], threshold: 1 }]\n",
        "  - scope: \"file:\"\n    require: [{ role: release, keys: [k0] }]\n  - scope: \"file:other/**\"\n    \
         require: [{ role: release, keys: [k1] }]\n",
    );
    let policy = TrustPolicy::parse(&text).unwrap();
    judge(&policy, &[signed(&a, &statement())]).unwrap();
    assert_eq!(refusal(&policy, &signed(&b, &statement())), Refusal::NoTrustedKey);
    // Nor by claiming another name.
    let lie = Statement {
        name: "other/app".to_string(),
        ..statement()
    };
    assert_eq!(refusal(&policy, &signed(&b, &lie)), Refusal::NoTrustedKey);
}

// [STORE-027]
#[test]
fn signer_of_another_predicate_type_is_found() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let (key, stranger) = (key(), key());
    let policy = denying(&[&key], 1);
    let digest = image().digest;
    let attest = |key: &PrivateKey, subject: &str| {
        let payload = format!(
            r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"name":"x","digest":{{"sha256":"{subject}"}}}}],"predicateType":"https://slsa.dev/provenance/v1","predicate":"{}"}}"#,
            "x".repeat(5000)
        );
        let mut bundle: serde_json::Value = serde_json::from_slice(&signed(key, &statement())).unwrap();
        let sig = key.sign(&crate::statement::pae_of(payload.as_bytes())).unwrap();
        bundle["dsseEnvelope"]["payload"] = STANDARD.encode(&payload).into();
        bundle["dsseEnvelope"]["signatures"][0]["sig"] = STANDARD.encode(sig).into();
        serde_json::to_vec(&bundle).unwrap()
    };
    let hex = digest.to_string().split_once(':').unwrap().1.to_string();
    let bundle = attest(&key, &hex);
    let (by, said) = policy.signer_of(&digest, &bundle).unwrap();
    assert_eq!(by, key.public().id());
    assert!(policy.signer_of(&other_image(), &bundle).is_none());
    assert!(policy.signer_of(&digest, &attest(&stranger, &hex)).is_none());
    assert!(policy.signer_of(&digest, &attest(&key, &"0".repeat(64))).is_none());
    let own = policy.signer_of(&digest, &signed(&key, &statement())).unwrap();
    assert!(own.0 == by && own.1 != said);
    // Another form of one bundle says the same; a revoked key is not known.
    let mut other: serde_json::Value = serde_json::from_slice(&bundle).unwrap();
    other["more"] = 1.into();
    assert_eq!(
        policy.signer_of(&digest, &serde_json::to_vec(&other).unwrap()),
        Some((by, said))
    );
    let revoking = TrustPolicy::parse(&(policy_text(&[&key], 1) + "revoked: { keys: [k0] }\n")).unwrap();
    assert!(revoking.signer_of(&digest, &bundle).is_none());
}
