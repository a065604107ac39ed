//! What a policy never accepts: revoked keys, but for what they keep, and versions below a
//! floor.

use qyvol_types::Digest;

use super::*;
use crate::{Cause, PolicyEdit, PolicyEditError, Revocations, change, sequence_of};

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

// [SIGN-034]
#[test]
fn what_is_revoked_no_longer_leaves_the_rest_as_it_stands() {
    let (key, other) = (key(), key());
    let envelope = signed(&key, &statement());
    let own = image().digest;
    let fingerprint = other.public().fingerprint();
    for (revoked, left) in [
        (
            format!("keys: [k0, \"{fingerprint}\"], images: [\"{own}\"]"),
            format!("keys: [\"{fingerprint}\"]"),
        ),
        ("keys: [k0]".to_string(), "keys: []".to_string()),
        (
            format!("keys: [{{ key: k0, keep: [\"{own}\"] }}, k0], images: []"),
            "images: []".to_string(),
        ),
    ] {
        for text in [
            format!("revoked: {{ {revoked} }}\n"),
            format!("revoked:\n  # why\n  {}\n", revoked.replace("], images", "]\n  images")),
        ] {
            let text = format!("{}{text}", policy_text(&[&key], 1));
            let one = change(Some(&text), &PolicyEdit::ReinstateKey(key.public().id())).unwrap();
            assert!(one.text.contains(&left), "{}", one.text);
            let two = change(Some(&one.text), &PolicyEdit::ReinstateImage(own)).unwrap();
            assert_eq!(two.text.contains("# why"), text.contains("# why"));
            judge(&two.policy, std::slice::from_ref(&envelope)).unwrap();
            let again = change(Some(&two.text), &PolicyEdit::ReinstateImage(own)).unwrap();
            assert!(again.notes.is_empty() && again.text == two.text);
        }
    }
    let block = format!("{}revoked:\n  images:\n    - \"{own}\"\n", policy_text(&[&key], 1));
    let done = change(Some(&block), &PolicyEdit::ReinstateImage(own)).unwrap();
    judge(&done.policy, std::slice::from_ref(&envelope)).unwrap();
}

// [SIGN-072]
#[test]
fn what_a_host_revokes_reads_back_as_written_and_holds_beside_any_policy() {
    let (key, other) = (key(), key());
    let policy = policy(&[&key], 1);
    let envelope = signed(&key, &statement());
    let (own, id) = (image().digest, key.public().id());
    let revoke = |keep: &[Digest]| PolicyEdit::RevokeKey {
        id,
        keep: keep.to_vec(),
    };
    for (edit, undo, refuses) in [
        (PolicyEdit::RevokeImage(own), PolicyEdit::ReinstateImage(own), true),
        (revoke(&[]), PolicyEdit::ReinstateKey(id), true),
        (revoke(&[Digest::of(b"another")]), PolicyEdit::ReinstateKey(id), true),
        (revoke(&[own]), PolicyEdit::ReinstateKey(id), false),
    ] {
        let mut host = Revocations::default();
        assert!(!host.apply(&edit, &policy).unwrap().is_empty());
        assert!(host.apply(&edit, &policy).unwrap().is_empty(), "{host:?}");
        let unknown = PolicyEdit::RevokeKey {
            id: other.public().id(),
            keep: Vec::new(),
        };
        host.apply(&unknown, &policy).unwrap();
        assert_eq!(Revocations::parse(&host.to_text()).unwrap(), host, "{}", host.to_text());
        let here = policy.clone().revoking(&host);
        assert!(!policy.revokes(&edit) && !here.revokes(&edit));
        let judged = judge(&here, std::slice::from_ref(&envelope));
        assert_eq!(
            judged.err().map(|(why, _)| why),
            refuses.then_some(Refusal::Revoked),
            "{host:?}"
        );
        // What both keep is kept: neither takes back what the other revokes.
        let text = format!("{}revoked: {{ keys: [k0] }}\n", policy_text(&[&key], 1));
        let both = TrustPolicy::parse(&text).unwrap().revoking(&host);
        assert_eq!(refusal(&both, &envelope), Refusal::Revoked);
        // It is no part of what is kept of a policy.
        assert_eq!(TrustPolicy::from_parsed_form(&here.to_parsed_form()).unwrap(), policy);
        host.apply(&undo, &policy).unwrap();
        judge(&policy.clone().revoking(&host), std::slice::from_ref(&envelope)).unwrap();
        host.apply(&PolicyEdit::ReinstateKey(other.public().id()), &policy)
            .unwrap();
        assert!(host.is_empty());
    }
}

// [SIGN-072]
#[test]
fn identity_that_a_host_revokes_stays_revoked_when_the_policy_calls_it_otherwise() {
    let text = |name: &str, more: &str| {
        format!(
            "version: 1\nroots:\n  own: {{ file: r, digest: \"sha256:{}\" }}\nidentities:\n  {name}: {{ root: own, \
             issuer: https://i.example, subject: \"https://git.example/w.yml@refs/tags/{more} }}\n",
            "0".repeat(64)
        )
    };
    let policy = TrustPolicy::parse(&text("ci", "*\"")).unwrap();
    let id = policy.signer_by_name("ci").unwrap().id();
    let mut host = Revocations::default();
    let edit = PolicyEdit::RevokeKey { id, keep: Vec::new() };
    assert_eq!(host.apply(&edit, &policy).unwrap(), ["identity ci revoked"]);
    assert_eq!(Revocations::parse(&host.to_text()).unwrap(), host, "{}", host.to_text());
    for (name, more) in [("ci", "*\""), ("release", "*\", repository_id: 7"), ("release", "v1\"")] {
        let next = TrustPolicy::parse(&text(name, more)).unwrap().revoking(&host);
        let id = next.signer_by_name(name).unwrap().id();
        assert!(next.is_revoked(id), "{name} {more}");
    }
    let elsewhere = TrustPolicy::parse(&text("ci", "*\"").replace("tags", "heads")).unwrap();
    let elsewhere = elsewhere.revoking(&host);
    assert!(!elsewhere.is_revoked(elsewhere.signer_by_name("ci").unwrap().id()));
    assert_eq!(host.apply(&PolicyEdit::ReinstateKey(id), &policy).unwrap().len(), 1);
    assert!(host.is_empty());
}

// [SIGN-072]
#[test]
fn identity_is_revoked_as_a_whole_and_reinstated_alone() {
    let text = |identities: &[(&str, &str)]| {
        let identities = identities.iter().map(|(name, more)| {
            format!(
                "  {name}: {{ root: own, issuer: https://i.example, \
                 subject: \"https://git.example/w.yml@refs/tags/{more} }}\n"
            )
        });
        format!(
            "version: 1\nroots:\n  own: {{ file: r, digest: \"sha256:{}\" }}\nidentities:\n{}",
            "0".repeat(64),
            identities.collect::<String>()
        )
    };
    let policy = |identities: &[(&str, &str)]| TrustPolicy::parse(&text(identities)).unwrap();
    let id = |policy: &TrustPolicy, name: &str| policy.signer_by_name(name).unwrap().id();
    let revoke = |policy: &TrustPolicy, name: &str| PolicyEdit::RevokeKey {
        id: id(policy, name),
        keep: Vec::new(),
    };
    // One tag of it was revoked before: the others are not yet.
    let (narrow, wide) = (policy(&[("rel", "v1\"")]), policy(&[("rel", "*\"")]));
    let mut host = Revocations::default();
    host.apply(&revoke(&narrow, "rel"), &narrow).unwrap();
    assert_eq!(
        host.apply(&revoke(&wide, "rel"), &wide).unwrap(),
        ["identity rel revoked"]
    );
    let other = policy(&[("rel", "v2\"")]);
    assert!(other.clone().revoking(&host).is_revoked(id(&other, "rel")));
    assert!(host.apply(&revoke(&other, "rel"), &other).unwrap().is_empty());
    // What the wide entry revokes can't be reinstated by one of its parts.
    let before = host.clone();
    let reinstate = PolicyEdit::ReinstateKey(id(&other, "rel"));
    let refused = host.apply(&reinstate, &other).unwrap_err().to_string();
    assert!(refused.contains("refs/tags/*"), "{refused}");
    host = before;
    // Two that differ in a number of the repository are revoked one by one.
    let twins = policy(&[("old", "*\", repository_id: 1"), ("new", "*\", repository_id: 2")]);
    let mut twin = Revocations::default();
    for name in ["old", "new"] {
        assert_eq!(twin.apply(&revoke(&twins, name), &twins).unwrap().len(), 1);
    }
    assert_eq!(Revocations::parse(&twin.to_text()).unwrap(), twin, "{}", twin.to_text());
    twin.apply(&PolicyEdit::ReinstateKey(id(&twins, "new")), &twins)
        .unwrap();
    let here = twins.clone().revoking(&twin);
    let states = ["old", "new"].map(|name| here.is_revoked(id(&twins, name)));
    assert_eq!(states, [true, false]);
    // `trust show` has what the policy doesn't name.
    let elsewhere = policy(&[("rel", "*\"")]);
    let text = TrustPolicy::parse(&text(&[("rel", "*\"")]).replace("tags", "heads")).unwrap();
    assert!(
        text.revoking(&host)
            .describe()
            .contains("revoked identity https://git.example")
    );
    assert!(!elsewhere.revoking(&host).describe().contains("revoked identity"));
}

// [SIGN-072]
#[test]
fn revocations_that_are_not_understood_are_refused_with_their_place() {
    let digest = Digest::of(b"x").to_string();
    let many = format!(
        "version: 1\nimages: [{}]\n",
        vec![format!("\"{digest}\""); 1001].join(", ")
    );
    for (text, why) in [
        ("", "version"),
        ("keys: []\n", "version"),
        ("version: 2\n", "version"),
        ("version: 1\nkeys:\n", "keys"),
        ("version: 1\nkeys: [acme-ci]\n", "not a fingerprint"),
        ("version: 1\nkeys: [{ keep: [] }]\n", "key"),
        ("version: 1\nidentities: [{ issuer: i }]\n", "subject"),
        (
            "version: 1\nidentities: [{ issuer: i.example, subject: ana@example.com }]\n",
            "can't be an issuer",
        ),
        (
            "version: 1\nidentities: [{ issuer: \"https://i.example\", subject: \"https://git.example/*\" }]\n",
            "can't be a subject",
        ),
        ("version: 1\nimages: [sha256:00]\n", "digest"),
        ("version: 1\nfloors: {}\n", "floors"),
        ("version: 1\nrules: []\n", "rules"),
        ("version: 1\nimages: {}\n", "images must be a list"),
        (many.as_str(), "more than 1000 images"),
    ] {
        let problems = Revocations::parse(text).unwrap_err();
        let error = problems.to_string();
        assert!(problems.0.len() == 1 && error.contains(why), "{text:.60}: {error}");
    }
}
