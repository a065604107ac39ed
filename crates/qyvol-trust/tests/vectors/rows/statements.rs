//! Statements that are rightly signed and say something else than they must.

use super::{Row, payload, row};
use crate::make;

fn digest() -> String {
    make::subject().digest.hex()
}

fn two_subjects() -> String {
    let other = format!(
        "[{{\"name\":\"b\",\"digest\":{{\"sha256\":\"{}\"}}}},{{\"name\"",
        "0".repeat(64)
    );
    make::changed(&[("[{\"name\"", &other)])
}

/// The image's SHA-512, with this SHA-256 beside it where there is one.
fn sha512(sha256: &str) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA512, b"an image");
    let hex: String = hash.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    let old = format!("\"sha256\":\"{}\"", digest());
    let new = match sha256 {
        "" => format!("\"sha512\":\"{hex}\""),
        sha256 => format!("\"sha256\":\"{sha256}\",\"sha512\":\"{hex}\""),
    };
    make::changed(&[(&old, &new)])
}

pub fn rows() -> Vec<Row> {
    vec![
        row(
            "statement-type",
            "another type of statement",
            "SIGN-010",
            16,
            "1 malformed",
            payload(&make::changed(&[("Statement/v1", "Statement/v0.1")])),
        ),
        row(
            "predicate-type-newer",
            "the next version's type of predicate",
            "SIGN-010",
            16,
            "1 malformed",
            payload(&make::changed(&[("release/v1", "release/v2")])),
        ),
        row(
            "statement-duplicate-key",
            "the sequence twice",
            "SIGN-011",
            16,
            "1 malformed",
            payload(&make::changed(&[("\"sequence\":", "\"sequence\":2,\"sequence\":")])),
        ),
        row(
            "statement-duplicate-subject",
            "two subjects under one key each",
            "SIGN-011",
            16,
            "1 malformed",
            payload(&make::changed(&[(
                "\"predicateType\"",
                "\"subject\":[],\"predicateType\"",
            )])),
        ),
        row(
            "statement-duplicate-escaped",
            "the role twice, once in escapes",
            "SIGN-011",
            16,
            "1 malformed",
            payload(&make::changed(&[("\"role\":", "\"r\\u006fle\":\"approve\",\"role\":")])),
        ),
        row(
            "statement-unknown-key",
            "a key that nobody knows",
            "SIGN-011",
            0,
            "1 good",
            payload(&make::changed(&[(
                "\"critical\":[]",
                "\"critical\":[],\"note\":{\"a\":[1]}",
            )])),
        ),
        row(
            "critical-unknown",
            "an unknown name in critical",
            "SIGN-011",
            16,
            "1 malformed",
            payload(&make::changed(&[("\"critical\":[]", "\"critical\":[\"embargo\"]")])),
        ),
        row(
            "critical-null",
            "critical that is null",
            "SIGN-011",
            16,
            "1 malformed",
            payload(&make::changed(&[("\"critical\":[]", "\"critical\":null")])),
        ),
        row(
            "critical-word",
            "critical that is a word",
            "SIGN-011",
            16,
            "1 malformed",
            payload(&make::changed(&[("\"critical\":[]", "\"critical\":\"embargo\"")])),
        ),
        row(
            "critical-missing",
            "no critical",
            "SIGN-011",
            0,
            "1 good",
            payload(&make::changed(&[("\"critical\":[]", "\"note\":[]")])),
        ),
        row(
            "subject-missing",
            "no subject",
            "SIGN-010",
            16,
            "1 malformed",
            payload(&make::changed(&[("\"subject\"", "\"subjects\"")])),
        ),
        row(
            "subject-null",
            "a subject that is null",
            "SIGN-010",
            16,
            "1 malformed",
            payload(&make::changed(&[("\"subject\":[", "\"subject\":null,\"x\":[")])),
        ),
        row(
            "subject-none",
            "no subjects",
            "SIGN-010",
            16,
            "1 malformed",
            payload(&make::changed(&[("\"subject\":[", "\"subject\":[],\"x\":[")])),
        ),
        row(
            "subject-twice",
            "two subjects, the image and another",
            "SIGN-010",
            16,
            "1 malformed",
            payload(&two_subjects()),
        ),
        row(
            "subject-object",
            "a subject that is not in a list",
            "SIGN-010",
            16,
            "1 malformed",
            payload(&make::changed(&[("\"subject\":[", "\"subject\":{},\"x\":[")])),
        ),
        row(
            "digest-none",
            "a subject without a digest",
            "SIGN-010",
            16,
            "1 malformed",
            payload(&make::changed(&[("\"digest\":{", "\"digest\":{},\"x\":{")])),
        ),
        row(
            "digest-sha512-too",
            "sha256 right and a sha512 beside it",
            "SIGN-010",
            16,
            "1 malformed",
            payload(&make::changed(&[("\"digest\":{", "\"digest\":{\"sha512\":\"00\",")])),
        ),
        row(
            "digest-sha512-right",
            "sha512 right and sha256 wrong",
            "SIGN-010",
            16,
            "1 malformed",
            payload(&sha512(&"0".repeat(64))),
        ),
        row(
            "digest-sha512-alone",
            "sha512 right and no sha256",
            "SIGN-010",
            16,
            "1 malformed",
            payload(&sha512("")),
        ),
        row(
            "digest-upper-case",
            "sha256 in upper case",
            "SIGN-010",
            16,
            "1 malformed",
            payload(&make::statement().replace(&digest(), &digest().to_uppercase())),
        ),
        row(
            "digest-short",
            "sha256 of 63 digits",
            "SIGN-010",
            16,
            "1 malformed",
            payload(&make::statement().replace(&digest(), &digest()[1..])),
        ),
        row(
            "digest-algorithm-inside",
            "sha256 with its algorithm before it",
            "SIGN-010",
            16,
            "1 malformed",
            payload(&make::statement().replace(&digest(), &format!("sha256:{}", digest()))),
        ),
        row(
            "other-image",
            "a right signature of another image",
            "SIGN-010",
            12,
            "1 other-image",
            payload(&make::statement().replace(&digest(), &"0".repeat(64))),
        ),
        row(
            "subject-name-other",
            "a subject of another name, which nobody reads",
            "SIGN-010",
            0,
            "1 good",
            payload(&make::changed(&[(
                "[{\"name\":\"acme/app\"",
                "[{\"name\":\"evil/app\"",
            )])),
        ),
        row(
            "name-missing",
            "no name",
            "SIGN-010",
            16,
            "1 malformed",
            payload(&make::changed(&[("\"predicate\":{\"name\"", "\"predicate\":{\"x\"")])),
        ),
        row(
            "version-missing",
            "no version",
            "SIGN-010",
            16,
            "1 malformed",
            payload(&make::changed(&[("\"version\":", "\"x\":")])),
        ),
        row(
            "role-missing",
            "no role",
            "SIGN-010",
            16,
            "1 malformed",
            payload(&make::changed(&[("\"role\":", "\"x\":")])),
        ),
        row(
            "sequence-missing",
            "no sequence",
            "SIGN-010",
            16,
            "1 malformed",
            payload(&make::changed(&[("\"sequence\":", "\"x\":")])),
        ),
        row(
            "created-missing",
            "no created",
            "SIGN-010",
            16,
            "1 malformed",
            payload(&make::changed(&[("\"created\":", "\"x\":")])),
        ),
        row(
            "statement-deep",
            "a statement nested 3,000 deep",
            "SIGN-010",
            16,
            "1 malformed",
            payload(&"[".repeat(3000)),
        ),
        row(
            "statement-nothing",
            "a statement of no bytes",
            "SIGN-010",
            16,
            "1 malformed",
            payload(""),
        ),
        row(
            "statement-object",
            "a statement of no keys",
            "SIGN-010",
            16,
            "1 malformed",
            payload("{}"),
        ),
        row(
            "statement-trailing",
            "a statement with more behind it",
            "SIGN-010",
            16,
            "1 malformed",
            payload(&(make::statement() + "{}")),
        ),
        row(
            "statement-byte-order-mark",
            "a statement behind a byte order mark",
            "SIGN-010",
            16,
            "1 malformed",
            payload(&format!("\u{feff}{}", make::statement())),
        ),
        row(
            "statement-spaced",
            "a statement with white space: what was signed is read",
            "SIGN-012",
            0,
            "1 good",
            payload(&make::statement().replace(",", ", \n")),
        ),
    ]
}
