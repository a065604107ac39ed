//! Signatures by certificates: counted by the identity that the policy names.

use qyvol_types::{Digest, Timestamp};
use serde_json::{Value, json};

use super::instance::{Instance, Plan, START};
use super::{NOW, image, judge, key, key_of, policy, policy_text, signed, statement, subject};
use crate::{Form, KeyType, PolicyEdit, Refusal, Scope, TrustPolicy, Verdict, change, verify};

const ISSUER: &str = "https://token.git.example";
const SUBJECT: &str = "https://git.example/acme/app/.ci/release.yml@refs/heads/main";

fn plan() -> Plan {
    Plan::new(&statement().to_json().unwrap())
}

fn bundle(instance: &Instance, plan: &Plan) -> Vec<u8> {
    instance.sign(plan).to_string().into_bytes()
}

fn root(instance: &Instance) -> Vec<u8> {
    instance.root().to_string().into_bytes()
}

/// A policy that names one identity, `rel`, where `identity` adds to what it must be.
fn text(instance: &Instance, identity: &str, require: &str) -> String {
    format!(
        "version: 1\nroots:\n  own: {{ file: root.json, digest: \"{}\" }}\nidentities:\n  rel: {{ root: own, {identity} }}\n\
         rules:\n  - scope: \"file:\"\n    require: [{require}]\n",
        Digest::of(&root(instance))
    )
}

fn load(text: &str, instance: &Instance) -> TrustPolicy {
    let mut policy = TrustPolicy::parse(text).unwrap();
    policy.load_roots(|_| Ok(root(instance))).unwrap();
    policy
}

fn named(subject: &str) -> String {
    format!("issuer: \"{ISSUER}\", subject: \"{subject}\"")
}

const RELEASE: &str = "{ role: release, keys: [rel] }";

// [SIGN-056]
#[test]
fn signature_counts_by_the_identity_of_its_certificate() {
    let instance = Instance::new();
    let signature = bundle(&instance, &plan());
    for identity in [
        named(SUBJECT),
        named("https://git.example/acme/app/.ci/release.yml@refs/heads/*"),
        format!("{}, repository_id: 1001, owner_id: \"42\"", named(SUBJECT)),
    ] {
        let report = judge(
            &load(&text(&instance, &identity, RELEASE), &instance),
            std::slice::from_ref(&signature),
        )
        .unwrap();
        let found = &report.signatures[0];
        assert_eq!((found.verdict, found.key.as_deref()), (Verdict::Good, Some("rel")));
        let by = found.identity.as_ref().unwrap();
        assert_eq!((by.subject.as_str(), by.issuer.as_str()), (SUBJECT, ISSUER));
        assert_eq!(by.signed, Timestamp::from_unix(START + 1000).unwrap());
        assert!(report.lines()[0].contains(SUBJECT), "{:?}", report.lines());
    }
    for identity in [
        named("https://git.example/acme/app/.ci/release.yml"),
        named("https://git.example/acme/app/.ci/release.yml@refs/tags/*"),
        named(SUBJECT).replace(ISSUER, "https://token.other.example"),
        format!("{}, repository_id: 1002", named(SUBJECT)),
        format!("{}, owner_id: 4", named(SUBJECT)),
    ] {
        let policy = load(&text(&instance, &identity, RELEASE), &instance);
        let (refusal, report) = judge(&policy, std::slice::from_ref(&signature)).unwrap_err();
        assert_eq!(refusal, Refusal::NoTrustedKey, "{identity}");
        // Said of whom it claims to be.
        assert!(report.signatures[0].reason.as_ref().unwrap().contains(SUBJECT));
    }
}

// [SIGN-062]
#[test]
fn attestation_counts_by_the_identity_of_its_certificate() {
    let instance = Instance::new();
    let release = key();
    let statement_of = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "name": "acme/app", "digest": { "sha256": image().digest.hex() } }],
        "predicateType": "https://cyclonedx.org/bom",
        "predicate": {},
    });
    let plan = Plan::new(statement_of.to_string().as_bytes());
    let release_of = signed(&release, &statement());
    let judged = |identity: &str, by: &Instance| {
        let roots = format!(
            "version: 1\nroots:\n  own: {{ file: root.json, digest: \"{}\" }}\nidentities:\n  rel: {{ root: own, {identity} }}\n",
            Digest::of(&root(&instance))
        );
        let text = policy_text(&[&release], 1).replacen("version: 1\n", &roots, 1)
            + "    attest: [{ type: \"https://cyclonedx.org/bom\", keys: [rel] }]\n";
        let found = judge(&load(&text, &instance), &[release_of.clone(), bundle(by, &plan)]);
        match found {
            Ok(report) => (None, report.attestations[0].verdict),
            Err((refusal, report)) => (Some(refusal), report.attestations[0].verdict),
        }
    };
    assert_eq!(judged(&named(SUBJECT), &instance), (None, Verdict::Good));
    let other = "https://git.example/acme/app/.ci/other.yml@refs/heads/main";
    let refused = Some(Refusal::Attestation);
    assert_eq!(judged(&named(other), &instance), (refused, Verdict::UnknownKey));
    assert_eq!(
        judged(&named(SUBJECT), &Instance::new()),
        (refused, Verdict::BadSignature)
    );
}

// [SIGN-056]
#[test]
fn certificate_of_an_identity_counts_only_if_its_root_vouches_for_it() {
    let instance = Instance::new();
    let stranger = bundle(&Instance::new(), &plan());
    let policy = load(&text(&instance, &named(SUBJECT), RELEASE), &instance);
    let (refusal, report) = judge(&policy, std::slice::from_ref(&stranger)).unwrap_err();
    assert_eq!(
        (refusal, report.signatures[0].verdict),
        (Refusal::BadSignature, Verdict::BadSignature)
    );
    assert!(report.signatures[0].identity.is_none());
    assert!(policy.signer_of(&image().digest, &stranger).is_none());
    let own = bundle(&instance, &plan());
    assert!(policy.signer_of(&image().digest, &own).is_some());
    // Junk beside it changes nothing.
    judge(&policy, &[stranger, own.clone()]).unwrap();
    // A root that was not loaded vouches for nobody.
    let bare = TrustPolicy::parse(&text(&instance, &named(SUBJECT), RELEASE)).unwrap();
    let (refusal, _) = judge(&bare, &[own]).unwrap_err();
    assert_eq!(refusal, Refusal::BadSignature);
}

// [SIGN-056]
#[test]
fn two_certificates_of_one_identity_count_once() {
    let instance = Instance::new();
    let other = key();
    let mut text = text(
        &instance,
        &named("https://git.example/acme/app/.ci/release.yml@refs/*"),
        "",
    );
    let pem: String = other
        .public()
        .to_pem()
        .lines()
        .map(|line| format!("      {line}\n"))
        .collect();
    text = text.replace(
        "require: []",
        "require: [{ role: release, keys: [rel, k], threshold: 2 }]",
    );
    text = text.replace("rules:", &format!("keys:\n  k:\n    pem: |\n{pem}rules:"));
    let policy = load(&text, &instance);
    let tag = Plan {
        subject: SUBJECT.replace("heads/main", "tags/v1"),
        ..plan()
    };
    let certified = [bundle(&instance, &plan()), bundle(&instance, &tag)];
    let (refusal, report) = judge(&policy, &certified).unwrap_err();
    assert_eq!(refusal, Refusal::Threshold);
    assert_eq!((report.requirements[0].have, report.requirements[0].threshold), (1, 2));
    let [first, _] = certified;
    judge(&policy, &[first, signed(&other, &statement())]).unwrap();
}

// [SIGN-056]
#[test]
fn bundle_that_names_a_key_is_never_judged_by_its_certificate() {
    let instance = Instance::new();
    let policy = load(&text(&instance, &named(SUBJECT), RELEASE), &instance);
    let mut both: Value = instance.sign(&plan());
    both["verificationMaterial"]["publicKey"] = json!({"hint": key().public().hint()});
    let (refusal, report) = judge(&policy, &[both.to_string().into_bytes()]).unwrap_err();
    assert_eq!(
        (refusal, report.signatures[0].verdict),
        (Refusal::NoTrustedKey, Verdict::UnknownKey)
    );
}

// [SIGN-056]
#[test]
fn certified_signature_of_cosigns_has_the_date_that_is_vouched_for() {
    let instance = Instance::new();
    let payload = json!({
        "_type": "https://in-toto.io/Statement/v1", "subject": [{"digest": {"sha256": image().digest.hex()}}],
        "predicateType": "https://sigstore.dev/cosign/sign/v1", "predicate": {},
    });
    let signature = bundle(&instance, &Plan::new(payload.to_string().as_bytes()));
    let asked = text(
        &instance,
        &named(SUBJECT),
        "{ form: cosign, role: release, keys: [rel] }",
    ) + "    max_age: 10d\n";
    let policy = load(&asked, &instance);
    let at = |seconds: u64| {
        let image = image();
        let now = Timestamp::from_unix(START + seconds).unwrap();
        verify(
            &policy,
            &subject(&image, None),
            std::slice::from_ref(&signature),
            now,
            None,
        )
    };
    let accepted = at(86_400).unwrap();
    assert_eq!(accepted.report.signatures[0].form, Some(Form::Cosign));
    assert_eq!(at(11 * 86_400).unwrap_err().refusal(), Refusal::Expired);
    // Not where the rule asks for our own form.
    let own = load(&text(&instance, &named(SUBJECT), RELEASE), &instance);
    assert_eq!(judge(&own, &[signature]).unwrap_err().0, Refusal::NoTrustedKey);
}

// [SIGN-056]
#[test]
fn date_of_a_certified_statement_is_the_one_that_is_vouched_for() {
    let instance = Instance::new();
    let mut dated = statement();
    // What the signer says of the time counts for nothing.
    dated.created = Timestamp::from_unix(NOW).unwrap();
    let signature = bundle(&instance, &Plan::new(&dated.to_json().unwrap()));
    let asked = text(&instance, &named(SUBJECT), RELEASE) + "    max_age: 1d\n";
    let (refusal, report) = judge(&load(&asked, &instance), &[signature]).unwrap_err();
    assert_eq!(refusal, Refusal::Expired);
    let created = report.signatures[0].statement.as_ref().unwrap().created;
    assert_eq!(created, Timestamp::from_unix(START + 1000).unwrap());
}

// [SIGN-057]
#[test]
fn trusted_root_is_the_one_whose_digest_the_policy_names() {
    let instance = Instance::new();
    let text = text(&instance, &named(SUBJECT), RELEASE);
    let mut policy = TrustPolicy::parse(&text).unwrap();
    let why = policy.load_roots(|_| Ok(root(&Instance::new()))).unwrap_err();
    assert!(why.contains("another digest"), "{why}");
    let why = policy
        .load_roots(|file| Err(format!("{file} is not there")))
        .unwrap_err();
    assert!(why.contains("root.json is not there"), "{why}");
    let other = text.replace(
        &Digest::of(&root(&instance)).to_string(),
        &Digest::of(b"{}").to_string(),
    );
    let why = TrustPolicy::parse(&other)
        .unwrap()
        .load_roots(|_| Ok(b"{}".to_vec()))
        .unwrap_err();
    assert!(why.contains("missing field"), "{why}");
}

// [SIGN-056]
#[test]
fn identity_is_revoked_by_its_name_and_may_keep_images() {
    let instance = Instance::new();
    let signature = [bundle(&instance, &plan())];
    let text = text(&instance, &named(SUBJECT), RELEASE);
    let id = TrustPolicy::parse(&text).unwrap().signer_by_name("rel").unwrap().id();
    let edit = PolicyEdit::RevokeKey { id, keep: Vec::new() };
    let revoked = change(Some(&text), &edit).unwrap();
    assert!(
        revoked.notes.contains(&"identity rel revoked".to_string()),
        "{:?}",
        revoked.notes
    );
    let (refusal, _) = judge(&load(&revoked.text, &instance), &signature).unwrap_err();
    assert_eq!(refusal, Refusal::Revoked);
    let edit = PolicyEdit::RevokeKey {
        id,
        keep: vec![image().digest],
    };
    let kept = change(Some(&text), &edit).unwrap();
    judge(&load(&kept.text, &instance), &signature).unwrap();
}

// [SIGN-034]
#[test]
fn keys_are_added_beside_identities() {
    let instance = Instance::new();
    let text = text(&instance, &named(SUBJECT), RELEASE);
    let added = key_of(KeyType::EcdsaP256);
    let edit = PolicyEdit::Add {
        scope: Scope::files(),
        name: "k".to_string(),
        key: added.public().clone(),
        role: "release".to_string(),
        form: Form::Qyvol,
        threshold: None,
        identity: None,
    };
    let changed = change(Some(&text), &edit).unwrap();
    let policy = load(&changed.text, &instance);
    judge(&policy, &[signed(&added, &statement())]).unwrap();
    judge(&policy, &[bundle(&instance, &plan())]).unwrap();
    // A policy without identities is as it was.
    let plain = self::policy(&[&added], 1);
    assert_eq!(plain, TrustPolicy::parse(&policy_text(&[&added], 1)).unwrap());
}
