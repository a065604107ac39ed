//! Whose signatures count: hints, thresholds, roles, junk.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{Case, Row, bundle, keys, payload, policy, row};
use crate::make;

/// Key `by`'s signature under the name of key `named`.
fn named(named: u8, by: u8) -> Case {
    let text = make::statement();
    bundle(make::bundle(
        &make::hint(named),
        text.as_bytes(),
        &make::sign(by, &text),
    ))
}

fn hinted(hint: &str) -> Case {
    let text = make::statement();
    bundle(make::bundle(hint, text.as_bytes(), &make::sign(1, &text)))
}

/// A stranger's signature with something in its bundle.
fn carried(from: &str, to: &str) -> Case {
    let text = make::signed(2, &make::statement());
    assert!(text.contains(from), "{from}");
    bundle(text.replacen(from, to, 1))
}

/// Two of three keys are due; these sign.
fn three(signers: &[u8]) -> Case {
    let signed = |n: &u8| make::signed(*n, &make::statement()).into();
    Case {
        policy: policy(&[1, 2, 3], 2),
        bundles: signers.iter().map(signed).collect(),
        ..Case::default()
    }
}

fn approve() -> String {
    make::changed(&[("\"role\":\"release\"", "\"role\":\"approve\"")])
}

/// A release and an approval are due, by these keys; these sign, and `true`
/// is an approval.
fn roles(release: &[&str], approval: &[&str], signers: &[(u8, bool)]) -> Case {
    let rule = format!(
        "rules:\n  - scope: \"file:\"\n    require:\n      - {{ role: release, keys: [{}] }}\n      - {{ role: approve, keys: [{}] }}\n",
        release.join(", "),
        approval.join(", ")
    );
    let text = |approves| if approves { approve() } else { make::statement() };
    let signed = |(n, approves): &(u8, bool)| make::signed(*n, &text(*approves)).into();
    Case {
        policy: keys(&[1, 2]) + &rule,
        bundles: signers.iter().map(signed).collect(),
        ..Case::default()
    }
}

/// Junk, then a good signature.
fn junk(junk: Vec<String>) -> Case {
    let good = make::signed(1, &make::statement());
    Case {
        bundles: junk.into_iter().chain([good]).map(Into::into).collect(),
        ..Case::default()
    }
}

/// A stranger's signature, each another one.
fn stranger(n: u64) -> String {
    make::signed(2, &make::changed(&[("\"sequence\":1", &format!("\"sequence\":{n}"))]))
}

/// Junk that names key 1, each another one.
fn lie(n: u64) -> String {
    let mut signature = [0; 64];
    signature[..8].copy_from_slice(&n.to_be_bytes());
    make::bundle(&make::hint(1), make::statement().as_bytes(), &signature)
}

pub fn rows() -> Vec<Row> {
    vec![
        row(
            "hint-lies",
            "a stranger's signature that names the policy's key",
            "SIGN-024",
            12,
            "1 bad-signature",
            named(1, 2),
        ),
        row(
            "hint-names-a-stranger",
            "the policy's key's signature that names a stranger",
            "SIGN-024",
            11,
            "1 unknown-key",
            named(2, 1),
        ),
        row(
            "hint-missing",
            "a signature that names no key",
            "SIGN-024",
            11,
            "1 unknown-key",
            bundle(make::signed(1, &make::statement()).replace("\"hint\"", "\"x\"")),
        ),
        row(
            "hint-empty",
            "a signature that names nothing",
            "SIGN-024",
            11,
            "1 unknown-key",
            hinted(""),
        ),
        row(
            "hint-unpadded",
            "a hint without padding",
            "SIGN-024",
            11,
            "1 unknown-key",
            hinted(make::hint(1).trim_end_matches('=')),
        ),
        row(
            "hint-is-a-fingerprint",
            "a fingerprint in the hint's place",
            "SIGN-024",
            11,
            "1 unknown-key",
            hinted(&make::fingerprint(1)),
        ),
        row(
            "hint-is-a-name",
            "the key's name in the policy as hint",
            "SIGN-024",
            11,
            "1 unknown-key",
            hinted("k1"),
        ),
        row(
            "hint-control-characters",
            "a hint that moves the cursor",
            "SIGN-024",
            11,
            "1 unknown-key",
            hinted("\\u001b[2J\\u202e"),
        ),
        row(
            "key-carried",
            "a stranger's signature with the key to check it by",
            "SIGN-013 SIGN-024",
            11,
            "1 unknown-key",
            carried(
                "\"hint\":",
                &format!("\"rawBytes\":\"{}\",\"hint\":", STANDARD.encode(make::spki(2))),
            ),
        ),
        row(
            "certificate-carried",
            "a stranger's signature with a certificate",
            "SIGN-013 SIGN-024",
            11,
            "1 unknown-key",
            carried(
                "{\"publicKey\"",
                "{\"certificate\":{\"rawBytes\":\"AAAA\"},\"publicKey\"",
            ),
        ),
        row(
            "log-entry-carried",
            "a stranger's signature with an entry of a log",
            "SIGN-013 SIGN-024",
            11,
            "1 unknown-key",
            carried(
                "{\"publicKey\"",
                "{\"tlogEntries\":[{\"logIndex\":\"1\"}],\"publicKey\"",
            ),
        ),
        row(
            "key-not-of-the-rule",
            "a key of the policy that the rule doesn't name",
            "SIGN-024",
            11,
            "1 unknown-key",
            Case {
                policy: policy(&[1, 2], 1).replace("[k1, k2]", "[k1]"),
                ..bundle(make::signed(2, &make::statement()))
            },
        ),
        row(
            "two-of-three",
            "two of three keys",
            "SIGN-023",
            0,
            "2 good",
            three(&[1, 3]),
        ),
        row(
            "one-of-three",
            "one of three keys where two are due",
            "SIGN-023",
            13,
            "1 good",
            three(&[2]),
        ),
        row(
            "one-key-twice",
            "one key's signature twice where two keys are due",
            "SIGN-023",
            13,
            "1 good",
            three(&[1, 1]),
        ),
        row(
            "one-key-two-statements",
            "one key's two statements where two keys are due",
            "SIGN-023",
            13,
            "2 good",
            Case {
                bundles: vec![
                    make::signed(1, &make::statement()).into(),
                    make::signed(1, &make::changed(&[("\"sequence\":1", "\"sequence\":2")])).into(),
                ],
                ..three(&[])
            },
        ),
        row(
            "all-of-three",
            "three keys where two are due",
            "SIGN-023",
            0,
            "3 good",
            three(&[3, 2, 1]),
        ),
        row(
            "role-other",
            "a signature in another role",
            "SIGN-023",
            13,
            "1 good",
            payload(&approve()),
        ),
        row(
            "roles-by-two-keys",
            "two roles, a key each",
            "SIGN-023",
            0,
            "2 good",
            roles(&["k1"], &["k2"], &[(1, false), (2, true)]),
        ),
        row(
            "role-not-signed",
            "two roles, one of them signed",
            "SIGN-023",
            13,
            "1 good",
            roles(&["k1"], &["k2"], &[(1, false)]),
        ),
        row(
            "one-key-in-two-roles",
            "one key for both roles, signing in one",
            "SIGN-023",
            13,
            "1 good",
            roles(&["k1"], &["k1"], &[(1, false)]),
        ),
        row(
            "one-key-in-two-roles-twice",
            "one key for both roles, signing in both",
            "SIGN-023",
            0,
            "2 good",
            roles(&["k1"], &["k1"], &[(1, false), (1, true)]),
        ),
        row(
            "role-of-another-key",
            "a key that signs in the role of another",
            "SIGN-023",
            13,
            "2 good",
            roles(&["k1"], &["k2"], &[(1, false), (1, true)]),
        ),
        row(
            "junk",
            "one good signature behind a thousand that can't be read",
            "SIGN-027",
            0,
            "1000 malformed, 1 good",
            junk((0..1000).map(|n| format!("junk {n}")).collect()),
        ),
        row(
            "junk-of-strangers",
            "one good signature behind seventy of a stranger's",
            "SIGN-027",
            0,
            "70 unknown-key, 1 good",
            junk((0..70).map(stranger).collect()),
        ),
        row(
            "junk-of-liars",
            "one good signature behind seventy that name its key",
            "SIGN-027",
            0,
            "70 bad-signature, 1 good",
            junk((0..70).map(lie).collect()),
        ),
        row(
            "junk-behind",
            "one good signature before a thousand of junk",
            "SIGN-027",
            0,
            "1 good, 1000 malformed",
            {
                let mut case = junk((0..1000).map(|n| format!("junk {n}")).collect());
                case.bundles.reverse();
                case
            },
        ),
        row(
            "junk-repeated",
            "one good signature behind 5,000 copies of junk that names its key",
            "SIGN-027",
            0,
            "1 bad-signature, 1 good",
            Case {
                bundles: vec![
                    json!({ "text": lie(0), "copies": 5000 }),
                    make::signed(1, &make::statement()).into(),
                ],
                ..Case::default()
            },
        ),
        row(
            "junk-of-a-mebibyte",
            "one good signature behind more than a mebibyte of junk",
            "SIGN-027",
            0,
            "32 malformed, 1 good",
            Case {
                bundles: (0..32)
                    .map(|n| json!({ "text": format!("{n}x"), "repeat": 20_000 }))
                    .chain([make::signed(1, &make::statement()).into()])
                    .collect(),
                ..Case::default()
            },
        ),
        row(
            "nearest-reason",
            "the reason that stands nearest to acceptance",
            "SIGN-030",
            12,
            "1 malformed, 1 unknown-key, 1 bad-signature",
            Case {
                bundles: vec![
                    "junk".into(),
                    make::signed(2, &make::statement()).into(),
                    make::bundle(&make::hint(1), make::statement().as_bytes(), &[0; 64]).into(),
                ],
                ..Case::default()
            },
        ),
        row(
            "nearest-reason-time",
            "a signature that is over beside one that is not the key's",
            "SIGN-030",
            14,
            "1 bad-signature, 1 not-yet-valid",
            Case {
                bundles: vec![
                    make::bundle(&make::hint(1), make::statement().as_bytes(), &[0; 64]).into(),
                    make::signed(1, &make::changed(&[("2027-01-15T07:43:20Z", "2028-01-01T00:00:00Z")])).into(),
                ],
                ..Case::default()
            },
        ),
    ]
}
