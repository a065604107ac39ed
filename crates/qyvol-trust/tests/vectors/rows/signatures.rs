//! Base64, and the bytes of signatures.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};

use super::envelopes::{good, right};
use super::{Case, Row, bundle, payload, policy, row};
use crate::make::{self, P256};

fn with_signature(text: &str) -> String {
    good().replacen(&STANDARD.encode(right()), text, 1)
}

fn raw(signature: &[u8]) -> String {
    with_signature(&STANDARD.encode(signature))
}

/// Payload and signature in the other alphabet. The statement has a `?` and a
/// `~`, so that the alphabets differ.
fn url_safe(padded: bool) -> String {
    let statement = make::changed(&[("\"critical\":[]", "\"critical\":[],\"note\":\"~~~???>>>\"")]);
    let signature = make::sign(1, &statement);
    let plain = make::signed(1, &statement);
    let engine = if padded { &URL_SAFE } else { &URL_SAFE_NO_PAD };
    let (a, b) = (engine.encode(&statement), engine.encode(&signature));
    assert!(a.contains(['-', '_']) && b.contains(['-', '_']), "{a} {b}");
    plain
        .replacen(&STANDARD.encode(&statement), &a, 1)
        .replacen(&STANDARD.encode(&signature), &b, 1)
}

/// The same bytes to a reader that drops the bits that are left over.
fn loose_bits(text: &str) -> String {
    let (start, end) = text.split_at(text.len() - 3);
    assert!(matches!(&end[..1], "A" | "Q" | "g" | "w"), "{end}");
    let next = char::from(end.as_bytes()[0] + 1);
    format!("{start}{next}==")
}

/// A statement whose signed bytes are so many.
fn padded(len: usize) -> String {
    let with = |n: usize| {
        let note = format!("\"critical\":[],\"note\":\"{}\"", "x".repeat(n));
        make::changed(&[("\"critical\":[]", &note)])
    };
    let kind = "application/vnd.in-toto+json";
    let short = with(1000);
    let text = with(1000 + len - make::pae(kind, short.as_bytes()).len());
    assert_eq!(make::pae(kind, text.as_bytes()).len(), len);
    text
}

/// The key on P-256 is the policy's, and is named.
fn p256(signature: &[u8]) -> Case {
    let text = make::bundle(&make::hint(P256), make::statement().as_bytes(), signature);
    Case {
        policy: policy(&[P256], 1),
        ..bundle(text)
    }
}

pub fn rows() -> Vec<Row> {
    vec![
        row(
            "url-safe",
            "signature and payload in URL-safe base64",
            "SIGN-013",
            0,
            "1 good",
            bundle(url_safe(true)),
        ),
        row(
            "url-safe-unpadded",
            "signature and payload in URL-safe base64 without padding",
            "SIGN-013",
            0,
            "1 good",
            bundle(url_safe(false)),
        ),
        row(
            "unpadded",
            "a signature without padding",
            "SIGN-013",
            0,
            "1 good",
            bundle(with_signature(STANDARD.encode(right()).trim_end_matches('='))),
        ),
        row(
            "base64-both-alphabets",
            "a signature in both alphabets of base64",
            "SIGN-013",
            16,
            "1 malformed",
            bundle(with_signature(&format!("{}-/", &STANDARD.encode(right())[..84]))),
        ),
        row(
            "base64-loose-bits",
            "base64 with bits that don't count",
            "SIGN-013",
            16,
            "1 malformed",
            bundle(with_signature(&loose_bits(&STANDARD.encode(right())))),
        ),
        row(
            "base64-line-feed",
            "base64 over two lines",
            "SIGN-013",
            16,
            "1 malformed",
            bundle(with_signature(&STANDARD.encode(right()).replacen('A', "A\\n", 1))),
        ),
        row(
            "base64-padding-inside",
            "base64 with padding in its middle",
            "SIGN-013",
            16,
            "1 malformed",
            bundle(with_signature(&format!("AA==AA=={}", STANDARD.encode(right())))),
        ),
        row(
            "base64-padding-more",
            "base64 with too much padding",
            "SIGN-013",
            16,
            "1 malformed",
            bundle(with_signature(&(STANDARD.encode(right()) + "="))),
        ),
        row(
            "base64-not",
            "a signature that is no base64",
            "SIGN-013",
            16,
            "1 malformed",
            bundle(with_signature("!!!!")),
        ),
        row(
            "signature-empty",
            "a signature of no bytes",
            "SIGN-013",
            12,
            "1 bad-signature",
            bundle(with_signature("")),
        ),
        row(
            "signature-63",
            "a signature of 63 bytes",
            "SIGN-013",
            12,
            "1 bad-signature",
            bundle(raw(&right()[..63])),
        ),
        row(
            "signature-65",
            "a signature of 65 bytes",
            "SIGN-013",
            12,
            "1 bad-signature",
            bundle(raw(&[right(), vec![0]].concat())),
        ),
        row(
            "signature-zeros",
            "a signature of zeros",
            "SIGN-013",
            12,
            "1 bad-signature",
            bundle(raw(&[0; 64])),
        ),
        row(
            "signature-identity",
            "R the identity, S zero",
            "SIGN-013",
            12,
            "1 bad-signature",
            bundle(raw(&[&[1][..], &[0; 63]].concat())),
        ),
        row(
            "signature-altered",
            "a signature with one bit changed",
            "SIGN-013",
            12,
            "1 bad-signature",
            bundle(raw(&{
                let mut s = right();
                s[40] ^= 1;
                s
            })),
        ),
        row(
            "signature-malleated",
            "S + L in the place of S",
            "SIGN-013",
            12,
            "1 bad-signature",
            bundle(raw(&make::malleated(right()))),
        ),
        row(
            "signature-prehashed",
            "an Ed25519ph signature",
            "SIGN-013",
            12,
            "1 bad-signature",
            bundle(raw(&make::sign_prehashed(1, &make::statement()))),
        ),
        row(
            "signature-context",
            "an Ed25519ctx signature",
            "SIGN-013",
            12,
            "1 bad-signature",
            bundle(raw(&make::sign_context(1, &make::statement()))),
        ),
        row(
            "signature-of-the-payload",
            "a signature of the payload without its encoding",
            "SIGN-012",
            12,
            "1 bad-signature",
            bundle(raw(&make::sign_bytes(1, make::statement().as_bytes()))),
        ),
        row(
            "signature-of-another-type",
            "a signature of the payload as another type",
            "SIGN-012",
            12,
            "1 bad-signature",
            bundle(raw(&make::sign_bytes(
                1,
                &make::pae("application/json", make::statement().as_bytes()),
            ))),
        ),
        row(
            "signature-of-another-statement",
            "a signature of another statement",
            "SIGN-012",
            12,
            "1 bad-signature",
            bundle(raw(&make::sign(1, &make::changed(&[("1.0.0", "1.0.1")])))),
        ),
        row(
            "payload-longest",
            "signed bytes of 4,096",
            "SIGN-012",
            0,
            "1 good",
            payload(&padded(4096)),
        ),
        row(
            "payload-too-long",
            "signed bytes of 4,097",
            "SIGN-012",
            16,
            "1 malformed",
            payload(&padded(4097)),
        ),
        row(
            "p256",
            "a signature on P-256",
            "SIGN-001 SIGN-013",
            0,
            "1 good",
            p256(&make::p256_signature()),
        ),
        row(
            "p256-high-s",
            "a signature on P-256 with the larger S, which FIPS 186-5 allows",
            "SIGN-001 SIGN-013",
            0,
            "1 good",
            p256(&make::p256_high_s()),
        ),
        row(
            "p256-raw",
            "a signature on P-256 of R and S alone",
            "SIGN-001 SIGN-013",
            12,
            "1 bad-signature",
            p256(&make::p256_raw()),
        ),
        row(
            "p256-trailing",
            "a signature on P-256 with a byte behind it",
            "SIGN-001 SIGN-013",
            12,
            "1 bad-signature",
            p256(&[make::p256_signature(), vec![0]].concat()),
        ),
        row(
            "p256-long-length",
            "a signature on P-256 in BER",
            "SIGN-001 SIGN-013",
            12,
            "1 bad-signature",
            p256(&{
                let s = make::p256_signature();
                [&[0x30, 0x81], &s[1..]].concat()
            }),
        ),
        row(
            "p256-zero",
            "R and S zero",
            "SIGN-001 SIGN-013",
            12,
            "1 bad-signature",
            p256(&[0x30, 6, 2, 1, 0, 2, 1, 0]),
        ),
        row(
            "p256-named-ed25519-signed",
            "an Ed25519 signature that names the key on P-256",
            "SIGN-001 SIGN-013",
            12,
            "1 bad-signature",
            p256(&right()),
        ),
        row(
            "ed25519-named-p256-signed",
            "a signature on P-256 that names the Ed25519 key",
            "SIGN-001",
            12,
            "1 bad-signature",
            bundle(raw(&make::p256_signature())),
        ),
    ]
}
