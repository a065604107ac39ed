//! Envelopes: the JSON around a signature.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{Case, Row, bundle, row};
use crate::make;

pub fn good() -> String {
    make::signed(1, &make::statement())
}

/// The right signature's bytes.
pub fn right() -> Vec<u8> {
    make::sign(1, &make::statement())
}

/// The good bundle with some text changed.
fn edited(from: &str, to: &str) -> Case {
    assert!(good().contains(from), "{from}");
    bundle(good().replacen(from, to, 1))
}

fn one_signature() -> String {
    format!("{{\"sig\":\"{}\"}}", STANDARD.encode(right()))
}

/// The image of `archive/good-component.txt`, signed as a build signs it.
fn archive() -> Case {
    let mut subject = make::subject();
    let digest = "ff2848df0c1fb7349625db81717a734d942dd5c8c36f7d2da5bf805982ab954b";
    subject.digest = format!("sha256:{digest}").parse().unwrap();
    subject.size = 367;
    let statement = make::changed(&[
        ("\"acme/app\"", "\"a\""),
        ("\"acme/app\"", "\"a\""),
        (&make::subject().digest.hex(), digest),
        ("2027-01-15T07:43:20Z", "1970-01-01T00:00:00Z"),
    ]);
    Case {
        subject,
        image: ("a", "1.0.0"),
        ..bundle(make::signed(1, &statement))
    }
}

pub fn rows() -> Vec<Row> {
    vec![
        row(
            "good",
            "one signature",
            "SIGN-012 SIGN-013",
            0,
            "1 good",
            Case::default(),
        ),
        row(
            "good-archive",
            "the signature in archive/good-signed-release.txt",
            "SIGN-012 SIGN-013",
            0,
            "1 good",
            archive(),
        ),
        row(
            "unsigned",
            "no bundles",
            "SIGN-030",
            10,
            "",
            Case {
                bundles: Vec::new(),
                ..Case::default()
            },
        ),
        row(
            "signatures-none",
            "an envelope without signatures",
            "SIGN-013",
            16,
            "1 malformed",
            bundle(good().replace(&one_signature(), "")),
        ),
        row(
            "signatures-two",
            "an envelope with its signature twice",
            "SIGN-013",
            16,
            "1 malformed",
            bundle(good().replace(&one_signature(), &[one_signature(), one_signature()].join(","))),
        ),
        row(
            "signatures-null",
            "an envelope whose signatures are null",
            "SIGN-013",
            16,
            "1 malformed",
            edited("\"signatures\":[", "\"signatures\":null,\"x\":["),
        ),
        row(
            "payload-type-other",
            "payloadType of something else",
            "SIGN-013",
            16,
            "1 malformed",
            edited("vnd.in-toto+json", "octet-stream"),
        ),
        row(
            "payload-type-parameter",
            "payloadType with a parameter",
            "SIGN-013",
            16,
            "1 malformed",
            edited("in-toto+json\"", "in-toto+json; charset=utf-8\""),
        ),
        row(
            "payload-type-missing",
            "no payloadType",
            "SIGN-013",
            16,
            "1 malformed",
            edited("\"payloadType\"", "\"type\""),
        ),
        row(
            "media-type-old",
            "a bundle of version 0.1",
            "SIGN-013",
            16,
            "1 malformed",
            edited("bundle.v0.3+json", "bundle+json;version=0.1"),
        ),
        row(
            "media-type-missing",
            "a bundle without its media type",
            "SIGN-013",
            16,
            "1 malformed",
            edited("\"mediaType\"", "\"type\""),
        ),
        row(
            "duplicate-key",
            "payloadType twice",
            "SIGN-013",
            16,
            "1 malformed",
            edited("\"payloadType\"", "\"payloadType\":\"x\",\"payloadType\""),
        ),
        row(
            "duplicate-key-escaped",
            "payloadType twice, once in escapes",
            "SIGN-013",
            16,
            "1 malformed",
            edited("\"payloadType\"", "\"payload\\u0054ype\":\"x\",\"payloadType\""),
        ),
        row(
            "duplicate-key-unknown",
            "an unknown key twice",
            "SIGN-013",
            16,
            "1 malformed",
            edited("{\"mediaType\"", "{\"x\":1,\"x\":1,\"mediaType\""),
        ),
        row(
            "duplicate-signature",
            "sig twice",
            "SIGN-013",
            16,
            "1 malformed",
            edited("\"sig\"", "\"sig\":\"AA==\",\"sig\""),
        ),
        row(
            "unknown-keys",
            "keys that nobody knows",
            "SIGN-013",
            0,
            "1 good",
            edited("{\"mediaType\"", "{\"x\":[{}],\"mediaType\""),
        ),
        row(
            "keyid",
            "a signature with a keyid",
            "SIGN-013",
            0,
            "1 good",
            edited("\"sig\"", "\"keyid\":\"k9\",\"sig\""),
        ),
        row(
            "white-space",
            "a bundle over several lines",
            "SIGN-013",
            0,
            "1 good",
            bundle(good().replace(",", ",\n  ")),
        ),
        row(
            "not-json",
            "a bundle that is no JSON",
            "SIGN-013",
            16,
            "1 malformed",
            bundle("junk"),
        ),
        row(
            "nothing",
            "a bundle of no bytes",
            "SIGN-013",
            16,
            "1 malformed",
            bundle(""),
        ),
        row(
            "null",
            "a bundle that is null",
            "SIGN-013",
            16,
            "1 malformed",
            bundle("null"),
        ),
        row(
            "not-utf8",
            "a bundle that is no UTF-8",
            "SIGN-013",
            16,
            "1 malformed",
            bundle(json!({ "base64": STANDARD.encode([b"{\"x\":\"\xff\",", &good().as_bytes()[1..]].concat()) })),
        ),
        row(
            "byte-order-mark",
            "a bundle behind a byte order mark",
            "SIGN-013",
            16,
            "1 malformed",
            bundle(format!("\u{feff}{}", good())),
        ),
        row(
            "trailing",
            "a bundle with a second one behind it",
            "SIGN-013",
            16,
            "1 malformed",
            bundle(good() + &good()),
        ),
        row(
            "cut",
            "half a bundle",
            "SIGN-013",
            16,
            "1 malformed",
            bundle(&good()[..good().len() / 2]),
        ),
        row(
            "deep",
            "a bundle nested 30,000 deep",
            "SIGN-013",
            16,
            "1 malformed",
            bundle(json!({ "text": "[", "repeat": 30_000 })),
        ),
        row(
            "deep-objects",
            "a bundle of objects nested 10,000 deep",
            "SIGN-013",
            16,
            "1 malformed",
            bundle(json!({ "text": "{\"a\":", "repeat": 10_000 })),
        ),
        row(
            "deep-too-large",
            "a bundle nested 100,000 deep",
            "SIGN-013 SIGN-027",
            16,
            "1 malformed",
            bundle(json!({ "text": "[", "repeat": 100_000 })),
        ),
        row(
            "deep-within",
            "an unknown key nested to the thirty-second level",
            "SIGN-013",
            0,
            "1 good",
            bundle(good().replacen('{', &format!("{{\"x\":{}{},", "[".repeat(31), "]".repeat(31)), 1)),
        ),
        row(
            "deep-past",
            "an unknown key nested to the thirty-third level",
            "SIGN-013",
            16,
            "1 malformed",
            bundle(good().replacen('{', &format!("{{\"x\":{}{},", "[".repeat(32), "]".repeat(32)), 1)),
        ),
        row(
            "large",
            "a bundle of 65,537 bytes",
            "SIGN-013 SIGN-027",
            16,
            "1 malformed",
            bundle(json!({ "text": " ", "repeat": 65_537 })),
        ),
        row(
            "control-characters",
            "a media type that moves the cursor",
            "SIGN-013",
            16,
            "1 malformed",
            edited("application/vnd.dev", "\\u001b[2J\\u202e"),
        ),
        row(
            "envelope-missing",
            "a bundle without an envelope",
            "SIGN-013",
            16,
            "1 malformed",
            edited("\"dsseEnvelope\"", "\"messageSignature\""),
        ),
        row(
            "material-missing",
            "a bundle without verificationMaterial",
            "SIGN-013",
            16,
            "1 malformed",
            edited("\"verificationMaterial\"", "\"x\""),
        ),
    ]
}
