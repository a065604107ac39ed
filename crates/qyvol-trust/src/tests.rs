//! Hostile envelopes, statements and policies.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use qyvol_types::{Descriptor, Reference, Timestamp};
use serde_json::{Value, json};

use crate::statement::pae;
use crate::{
    Envelope, KeyError, KeyType, PrivateKey, Refusal, Report, Statement, Subject, TrustPolicy, Verdict, verify,
};

mod attest;
mod changes;
mod conditions;
mod cosign;
mod emptied;
mod identities;
#[path = "../../qyvol-keyless/tests/instance/mod.rs"]
#[allow(dead_code, missing_docs)]
mod instance;
#[path = "../../../tests/needs.rs"]
#[allow(dead_code, clippy::disallowed_methods, reason = "a test; other suites use the rest")]
mod needs;
mod parsed;
mod published;
mod revoked;
mod secrets;
mod swapped;
mod updates;

const NOW: u64 = 1_800_000_000;

fn key() -> PrivateKey {
    PrivateKey::generate(KeyType::Ed25519).unwrap()
}

fn image() -> Descriptor {
    Descriptor::of("application/vnd.oci.image.manifest.v1+json", b"an image")
}

fn statement() -> Statement {
    Statement {
        subject: image().digest,
        name: "acme/app".to_string(),
        version: "1.0.0".to_string(),
        role: "release".to_string(),
        sequence: 7,
        created: Timestamp::from_unix(NOW - 1000).unwrap(),
        expires: None,
        critical: Vec::new(),
    }
}

/// A policy that asks `keys` (named k0, k1 …) for a release of a file.
fn policy(keys: &[&PrivateKey], threshold: usize) -> TrustPolicy {
    TrustPolicy::parse(&policy_text(keys, threshold)).unwrap()
}

fn policy_text(keys: &[&PrivateKey], threshold: usize) -> String {
    let mut text = "version: 1\nkeys:\n".to_string();
    let mut names = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        let pem: String = key.public().to_pem().lines().map(|l| format!("      {l}\n")).collect();
        text += &format!("  k{index}:\n    pem: |\n{pem}");
        names.push(format!("k{index}"));
    }
    let names = names.join(", ");
    text + &format!(
        "rules:\n  - scope: \"file:\"\n    require: [{{ role: release, keys: [{names}], threshold: {threshold} }}]\n"
    )
}

/// The image as a file, or as what was asked for.
fn subject<'a>(image: &'a Descriptor, asked: Option<&'a Reference>) -> Subject<'a> {
    Subject {
        descriptor: image,
        name: "acme/app",
        version: "1.0.0",
        asked,
        pinned: false,
    }
}

fn judge_at(policy: &TrustPolicy, envelopes: &[Vec<u8>], now: u64) -> Result<Report, (Refusal, Report)> {
    let image = image();
    let now = Timestamp::from_unix(now).unwrap();
    match verify(policy, &subject(&image, None), envelopes, now, None) {
        Ok(accepted) => {
            assert_eq!(*accepted.image, image);
            Ok(accepted.report)
        }
        Err(error) => Err((error.refusal(), error.report().clone())),
    }
}

fn judge(policy: &TrustPolicy, envelopes: &[Vec<u8>]) -> Result<Report, (Refusal, Report)> {
    judge_at(policy, envelopes, NOW)
}

/// The exit code for one good signature, by what was asked for.
fn asked_for(text: &str, key: &PrivateKey, name: &str) -> Result<Report, (u8, String)> {
    let reference: Reference = name.parse().unwrap();
    let image = image();
    let policy = TrustPolicy::parse(text).unwrap();
    let now = Timestamp::from_unix(NOW).unwrap();
    verify(
        &policy,
        &subject(&image, Some(&reference)),
        &[signed(key, &statement())],
        now,
        None,
    )
    .map(|accepted| accepted.report)
    .map_err(|e| (e.refusal().exit_code(), e.to_string()))
}

fn refusal(policy: &TrustPolicy, envelope: &[u8]) -> Refusal {
    judge(policy, &[envelope.to_vec()]).unwrap_err().0
}

fn signed(key: &PrivateKey, statement: &Statement) -> Vec<u8> {
    Envelope::sign(key, statement).unwrap().bytes().to_vec()
}

/// A bundle whose signature is right over any payload at all.
fn signed_raw(key: &PrivateKey, payload: &[u8]) -> Vec<u8> {
    let signature = key.sign(&pae(payload).unwrap()).unwrap();
    bundle(&key.public().hint(), payload, &signature)
        .to_string()
        .into_bytes()
}

fn bundle(hint: &str, payload: &[u8], signature: &[u8]) -> Value {
    json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": { "publicKey": { "hint": hint } },
        "dsseEnvelope": {
            "payload": STANDARD.encode(payload),
            "payloadType": "application/vnd.in-toto+json",
            "signatures": [{ "sig": STANDARD.encode(signature) }],
        },
    })
}

// [SIGN-010] [SIGN-011]
#[test]
fn ambiguous_or_malformed_statement_is_refused() {
    let key = key();
    let policy = policy(&[&key], 1);
    let good: Value = serde_json::from_slice(&statement().to_json().unwrap()).unwrap();
    judge(&policy, &[signed_raw(&key, good.to_string().as_bytes())]).unwrap();
    let change = |act: &dyn Fn(&mut Value)| {
        let mut value = good.clone();
        act(&mut value);
        signed_raw(&key, value.to_string().as_bytes())
    };
    let digest = image().digest.hex();
    let malformed: Vec<Vec<u8>> = vec![
        change(&|v| v["subject"] = json!([])),
        change(&|v| v["subject"] = Value::Null),
        change(&|v| v["subject"] = json!([v["subject"][0], v["subject"][0]])),
        change(&|v| v["subject"][0]["digest"] = json!({})),
        change(&|v| v["subject"][0]["digest"]["sha512"] = json!("00")),
        change(&|v| v["subject"][0]["digest"] = json!({ "sha512": "0".repeat(128) })),
        change(&|v| v["subject"][0]["digest"]["sha256"] = json!(digest.to_uppercase())),
        change(&|v| v["predicateType"] = json!("https://qyvol.dev/release/v2")),
        change(&|v| v["_type"] = json!("https://in-toto.io/Statement/v0.1")),
        change(&|v| v["predicate"]["critical"] = json!(["unheard-of"])),
        change(&|v| v["predicate"]["sequence"] = json!(u64::MAX)),
        change(&|v| v["predicate"]["sequence"] = json!(-1)),
        change(&|v| v["predicate"]["role"] = json!("Release")),
        change(&|v| v["predicate"]["created"] = json!("yesterday")),
        change(&|v| drop(v["predicate"].as_object_mut().unwrap().remove("name"))),
        signed_raw(
            &key,
            good.to_string()
                .replacen("\"sequence\":7", "\"sequence\":7,\"sequence\":7", 1)
                .as_bytes(),
        ),
        signed_raw(&key, &[&b"["[..], &[b'['; 3000]].concat()),
        signed_raw(&key, b"{}"),
        signed_raw(&key, b""),
    ];
    for (index, envelope) in malformed.iter().enumerate() {
        assert_eq!(refusal(&policy, envelope), Refusal::Malformed, "case {index}");
    }
    // Unknown keys that are not critical are none of our business.
    judge(&policy, &[change(&|v| v["predicate"]["note"] = json!("x"))]).unwrap();
    // About another image: a right signature in the wrong place.
    let other = change(&|v| v["subject"][0]["digest"]["sha256"] = json!("0".repeat(64)));
    assert_eq!(refusal(&policy, &other), Refusal::BadSignature);
}

// [SIGN-013]
#[test]
fn bundle_that_is_not_one_signature_in_canonical_form_is_refused() {
    let key = key();
    let policy = policy(&[&key], 1);
    let payload = statement().to_json().unwrap();
    let signature = key.sign(&pae(&payload).unwrap()).unwrap();
    let good = bundle(&key.public().hint(), &payload, &signature);
    let change = |act: &dyn Fn(&mut Value)| {
        let mut value = good.clone();
        act(&mut value);
        value.to_string().into_bytes()
    };
    judge(&policy, &[change(&|_| {})]).unwrap();
    let dsse = "dsseEnvelope";
    for (index, bad) in [
        change(&|v| v[dsse]["signatures"] = json!([])),
        change(&|v| v[dsse]["signatures"] = json!([v[dsse]["signatures"][0], v[dsse]["signatures"][0]])),
        change(&|v| v[dsse]["payloadType"] = json!("text/plain")),
        change(&|v| v["mediaType"] = json!("application/vnd.dev.sigstore.bundle+json;version=0.1")),
        change(&|v| v[dsse]["payload"] = json!("e30")),
        change(&|v| v[dsse]["signatures"][0]["sig"] = json!("AB==")),
        change(&|v| v[dsse]["signatures"][0]["sig"] = json!("!!!!")),
        b"null".to_vec(),
        b"".to_vec(),
        vec![b'['; 60_000],
        vec![b' '; 70_000],
        good.to_string()
            .replacen("\"payloadType\"", "\"payloadType\":\"x\",\"payloadType\"", 1)
            .into_bytes(),
    ]
    .iter()
    .enumerate()
    {
        let refusal = refusal(&policy, bad);
        assert!(
            matches!(refusal, Refusal::Malformed | Refusal::BadSignature),
            "case {index}: {refusal:?}"
        );
    }
    // A signature of another length, and one that is not over these bytes.
    for bytes in [&signature[..63], &[&signature[..], &[0]].concat(), &[0; 64]] {
        let bad = change(&|v| v[dsse]["signatures"][0]["sig"] = json!(STANDARD.encode(bytes)));
        assert_eq!(refusal(&policy, &bad), Refusal::BadSignature);
    }
    // The same S written as S + L.
    let mut malleated = signature.clone();
    let order = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut carry = 0u16;
    for (byte, add) in malleated[32..].iter_mut().zip(order) {
        carry += u16::from(*byte) + add;
        *byte = carry as u8;
        carry >>= 8;
    }
    let bad = change(&|v| v[dsse]["signatures"][0]["sig"] = json!(STANDARD.encode(&malleated)));
    assert_eq!(refusal(&policy, &bad), Refusal::BadSignature);
    // Either alphabet, padded or not, is the same signature.
    let fine = change(&|v| v[dsse]["signatures"][0]["sig"] = json!(URL_SAFE_NO_PAD.encode(&signature)));
    judge(&policy, &[fine]).unwrap();
    let fine = change(&|v| v[dsse]["signatures"][0]["keyid"] = json!("whatever"));
    judge(&policy, &[fine]).unwrap();
}

// [SIGN-024]
#[test]
fn hint_selects_a_policy_key_and_never_supplies_one() {
    let (trusted, stranger) = (key(), key());
    let policy = policy(&[&trusted], 1);
    let payload = statement().to_json().unwrap();
    let sign = |key: &PrivateKey| key.sign(&pae(&payload).unwrap()).unwrap();
    // The stranger's signature under the trusted key's name, and the reverse.
    let lying = bundle(&trusted.public().hint(), &payload, &sign(&stranger));
    assert_eq!(refusal(&policy, lying.to_string().as_bytes()), Refusal::BadSignature);
    let lost = bundle(&stranger.public().hint(), &payload, &sign(&trusted));
    assert_eq!(refusal(&policy, lost.to_string().as_bytes()), Refusal::NoTrustedKey);
    // A key, or a certificate, that comes along is not looked at.
    let mut carried = bundle(&stranger.public().hint(), &payload, &sign(&stranger));
    carried["verificationMaterial"]["publicKey"]["rawBytes"] = json!(stranger.public().to_pem());
    carried["verificationMaterial"]["certificate"] = json!({ "rawBytes": "AAAA" });
    assert_eq!(refusal(&policy, carried.to_string().as_bytes()), Refusal::NoTrustedKey);
    let mut none = bundle("", &payload, &sign(&trusted));
    none["verificationMaterial"] = json!({});
    assert_eq!(refusal(&policy, none.to_string().as_bytes()), Refusal::NoTrustedKey);
}

// [SIGN-025]
#[test]
fn signature_is_good_up_to_the_second_it_expires() {
    let key = key();
    let policy = policy(&[&key], 1);
    let expires = Timestamp::from_unix(NOW).ok();
    let envelope = signed(&key, &Statement { expires, ..statement() });
    judge_at(&policy, std::slice::from_ref(&envelope), NOW - 1).unwrap();
    assert_eq!(judge_at(&policy, &[envelope], NOW).unwrap_err().0, Refusal::Expired);
    // A signer's clock may be five minutes ahead.
    let created = Timestamp::from_unix(NOW + 300).unwrap();
    let envelope = signed(&key, &Statement { created, ..statement() });
    judge_at(&policy, std::slice::from_ref(&envelope), NOW).unwrap();
    assert_eq!(
        judge_at(&policy, std::slice::from_ref(&envelope), NOW - 1)
            .unwrap_err()
            .0,
        Refusal::Expired
    );
    // The clock at both ends.
    assert_eq!(
        judge_at(&policy, std::slice::from_ref(&envelope), 0).unwrap_err().0,
        Refusal::Expired
    );
    judge_at(&policy, &[envelope], 4_294_967_296).unwrap();
}

fn key_of(kind: KeyType) -> PrivateKey {
    PrivateKey::generate(kind).unwrap()
}

#[test]
fn verdict_does_not_depend_on_the_order_of_signatures() {
    let (a, b) = (key(), key());
    let two = policy(&[&a, &b], 2);
    let envelopes = [
        signed(&a, &statement()),
        b"junk".to_vec(),
        signed(&b, &statement()),
        signed(&key(), &statement()),
    ];
    for shift in 0..4 {
        let mut turned = envelopes.to_vec();
        turned.rotate_left(shift);
        judge(&two, &turned).unwrap();
        turned.retain(|e| *e != envelopes[2]);
        assert_eq!(judge(&two, &turned).unwrap_err().0, Refusal::Threshold);
    }
}

// [SIGN-026]
#[test]
fn signed_identity_must_match_the_requested_reference() {
    let key = key();
    let text = policy_text(&[&key], 1).replace("file:", "r.example/**");
    let check = |text: &str, name: &str| asked_for(text, &key, name).map(drop);
    let code = |text: &str, name: &str| check(text, name).map_err(|(code, _)| code);
    assert_eq!(check(&text, "r.example/acme/app:1.0.0"), Ok(()));
    assert_eq!(check(&text, "r.example/team/acme/app:1.0.0"), Ok(()));
    assert_eq!(code(&text, "r.example/acme/app:2.0.0"), Err(18));
    assert_eq!(code(&text, "r.example/acme/app:latest"), Err(18));
    assert_eq!(code(&text, "r.example/evil/app:1.0.0"), Err(18));
    assert_eq!(code(&text, "other.example/acme/app:1.0.0"), Err(11));
    assert_eq!(
        check(&text, "r.example/evil/app:latest").unwrap_err().1,
        "refused: signed as acme/app 1.0.0, requested as r.example/evil/app:latest"
    );
    let rule = |line: &str| text.replace("    require", &format!("    {line}\n    require"));
    assert_eq!(check(&rule("identity: any"), "r.example/evil/app:9"), Ok(()));
    assert_eq!(check(&rule("identity: repository"), "r.example/acme/app:9"), Ok(()));
    assert_eq!(code(&rule("identity: repository"), "r.example/evil/app:9"), Err(18));
    assert_eq!(code(&rule("names: full"), "r.example/team/acme/app:1.0.0"), Err(18));
    let remap = rule("remap: { prefix: r.example/hub, signed: acme }");
    assert_eq!(check(&remap, "r.example/hub/app:1.0.0"), Ok(()));
    let report = asked_for(&text, &key, "r.example/acme/app:1.0.0").unwrap();
    assert_eq!(report.asked.as_deref(), Some("r.example/acme/app:1.0.0"));
    assert_eq!(report.rule.unwrap().identity, crate::Identity::Exact);
}

// [SIGN-022]
#[test]
fn most_literal_rule_decides() {
    let (wide, narrow) = (key(), key());
    let text = policy_text(&[&wide, &narrow], 1);
    let rules = "rules:\n  - scope: \"r.example/**\"\n    identity: any\n    require: [{ role: release, keys: [k0] }]\n  - scope: r.example/acme/app\n    identity: any\n    require: [{ role: release, keys: [k1] }]\n";
    let text = format!("{}{rules}", text.split("rules:").next().unwrap());
    let check = |key: &PrivateKey, name: &str| asked_for(&text, key, name).is_ok();
    assert!(check(&wide, "r.example/other") && !check(&narrow, "r.example/other"));
    assert!(check(&narrow, "r.example/acme/app") && !check(&wide, "r.example/acme/app"));
}

// [SIGN-020]
#[test]
fn invalid_policy_is_refused_with_line_and_column() {
    let (a, b) = (key(), key());
    let good = policy_text(&[&a, &b], 2);
    TrustPolicy::parse(&good).unwrap();
    let twin = policy_text(&[&a, &a], 1);
    for (from, to, part) in [
        ("version: 1", "version: 2", "at most 1"),
        ("version: 1", "version: 0", "version must be 1"),
        ("version: 1", "versoin: 1", "did you mean `version`?"),
        ("version: 1", "version: 1\ndefault: accept", "reject"),
        ("threshold: 2", "threshold: 0", "from 1 to"),
        ("threshold: 2", "threshold: 3", "from 1 to"),
        ("threshold: 2", "treshold: 2", "did you mean `threshold`?"),
        ("[k0, k1]", "[k0, k2]", "there is no key `k2`"),
        ("[k0, k1]", "[k0, k0]", "listed twice"),
        ("[k0, k1]", "[]", "needs a key"),
        ("role: release", "role: Release", "a-z"),
        ("\"file:\"", "\"r.example/a*\"", "can't be a scope"),
        ("\"file:\"", "\"**/a\"", "can't be a scope"),
        ("\"file:\"", "\"R.example/a\"", "lower case"),
        ("\"file:\"", "\"r.example/a:1\"", "no tag"),
        (
            "    require",
            "    names: full\n    require",
            "has no effect under file:",
        ),
        (
            "    require",
            "    remap: { prefix: a.example }\n    require",
            "has no effect under file:",
        ),
        ("    require", "    rollback: never\n    require", "allow, deny"),
        ("version: 1", "version: 1\ndevelopment: maybe", "allow, deny"),
        ("    require", "    max_age: soon\n    require", "90d"),
        ("BEGIN PUBLIC", "BEGIN SECRET", "can't be used"),
        ("rules:", "revoked: { keys: [nobody] }\nrules:", "neither a key"),
        ("rules:", "revoked: { images: [\"sha256:0\"] }\nrules:", "not a digest"),
        ("keys:", "keys: &a", "anchors"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from}");
        let problems = TrustPolicy::parse(&bad).expect_err(to);
        assert!(problems.to_string().contains(part), "{to}: {part} in {problems}");
        assert!(problems.0[0].place.line > 0);
    }
    assert!(
        TrustPolicy::parse(&twin)
            .unwrap_err()
            .to_string()
            .contains("`k1` is the key `k0` under another name")
    );
    let rule = good.split("rules:\n").nth(1).unwrap();
    assert!(
        TrustPolicy::parse(&format!("{good}{rule}"))
            .unwrap_err()
            .to_string()
            .contains("second rule")
    );
    TrustPolicy::parse(&TrustPolicy::first_use("default", a.public())).unwrap();
}

// [SIGN-003]
#[test]
fn encrypted_key_with_excessive_kdf_cost_is_refused_before_decryption() {
    // PBES2 with scrypt, N = 2^30: 1 TiB of memory, were it believed.
    let sealed = key().to_encrypted_pem("secret").unwrap();
    let body: String = sealed.lines().filter(|l| !l.starts_with('-')).collect();
    let der = STANDARD.decode(body).unwrap();
    // INTEGER 16384 (02 02 40 00) becomes INTEGER 2^30 (02 04 40 00 00 00),
    // and every length around it grows by two.
    let at = der.windows(4).position(|w| w == [2, 2, 0x40, 0]).unwrap();
    let mut grown = [&der[..at], &[2, 4, 0x40, 0, 0, 0], &der[at + 4..]].concat();
    let mut index = 0;
    while index < at {
        match grown[index] {
            0x30 => {
                let (len_at, header) = if grown[index + 1] == 0x81 {
                    (index + 2, 3)
                } else {
                    (index + 1, 2)
                };
                let end = index + header + usize::from(grown[len_at]);
                if end > at {
                    grown[len_at] += 2;
                }
                index += header;
                if end <= at {
                    index = end;
                }
            }
            _ => index += 2 + usize::from(grown[index + 1]),
        }
    }
    let pem = format!(
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\n{}\n-----END ENCRYPTED PRIVATE KEY-----\n",
        lines(&STANDARD.encode(grown))
    );
    match PrivateKey::from_encrypted_pem(&pem, "secret") {
        Err(KeyError::Cost { asked, .. }) => assert_eq!(asked, (128 * 8) << 30),
        other => panic!("{other:?}"),
    }
}

fn lines(text: &str) -> String {
    text.as_bytes()
        .chunks(64)
        .map(|c| String::from_utf8_lossy(c).into_owned())
        .collect::<Vec<_>>()
        .join("\n")
}
