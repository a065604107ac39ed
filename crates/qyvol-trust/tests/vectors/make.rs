//! Keys, signatures and bundles by hand: Ed25519 as RFC 8032 writes it down,
//! so that what no library would sign can be signed too.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::scalar::Scalar;
use qyvol_types::{Descriptor, Digest};
use ring::digest::{SHA512, digest};

/// 2027-01-15T08:00:00Z.
pub const NOW: u64 = 1_800_000_000;
const TYPE: &str = "application/vnd.in-toto+json";

/// The image that all statements are about, unless they say otherwise.
pub fn subject() -> Descriptor {
    Descriptor::of("application/vnd.oci.image.manifest.v1+json", b"an image")
}

/// The statement that is right.
pub fn statement() -> String {
    let digest = subject().digest.hex();
    [
        r#"{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"acme/app","digest":{"sha256":""#,
        &digest,
        r#""}}],"predicateType":"https://qyvol.dev/release/v1","predicate":{"name":"acme/app","version":"1.0.0","#,
        r#""role":"release","sequence":1000000000000,"created":"2027-01-15T07:43:20Z","critical":[]}}"#,
    ]
    .concat()
}

/// It with some text changed.
pub fn changed(edits: &[(&str, &str)]) -> String {
    edits.iter().fold(statement(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    })
}

/// DSSE's pre-authentication encoding.
pub fn pae(kind: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// The key `n` has the seed of thirty-two bytes `n`.
fn secret(n: u8) -> (Scalar, [u8; 32]) {
    let hash = digest(&SHA512, &[n; 32]);
    let (low, high) = hash.as_ref().split_at(32);
    let mut low: [u8; 32] = low.try_into().unwrap();
    low[0] &= 248;
    low[31] = low[31] & 127 | 64;
    (Scalar::from_bytes_mod_order(low), high.try_into().unwrap())
}

fn point(scalar: &Scalar) -> [u8; 32] {
    (ED25519_BASEPOINT_POINT * scalar).compress().to_bytes()
}

fn reduced(parts: &[&[u8]]) -> Scalar {
    let hash = digest(&SHA512, &parts.concat());
    Scalar::from_bytes_mod_order_wide(hash.as_ref().try_into().unwrap())
}

/// RFC 8032, 5.1.6; `dom` is empty for plain Ed25519.
fn sign_in(n: u8, dom: &[u8], message: &[u8]) -> Vec<u8> {
    let (scalar, prefix) = secret(n);
    let r = reduced(&[dom, &prefix, message]);
    let public = point(&scalar);
    let nonce = point(&r);
    let k = reduced(&[dom, &nonce, &public, message]);
    [nonce, (r + k * scalar).to_bytes()].concat()
}

/// Ed25519 over a payload of our type.
pub fn sign(n: u8, payload: &str) -> Vec<u8> {
    sign_in(n, b"", &pae(TYPE, payload.as_bytes()))
}

/// Ed25519 over these very bytes.
pub fn sign_bytes(n: u8, message: &[u8]) -> Vec<u8> {
    sign_in(n, b"", message)
}

/// Ed25519ph: the message hashed first, under a prefix of its own.
pub fn sign_prehashed(n: u8, payload: &str) -> Vec<u8> {
    let hash = digest(&SHA512, &pae(TYPE, payload.as_bytes()));
    sign_in(n, b"SigEd25519 no Ed25519 collisions\x01\x00", hash.as_ref())
}

/// Ed25519ctx with a context of ours.
pub fn sign_context(n: u8, payload: &str) -> Vec<u8> {
    let message = pae(TYPE, payload.as_bytes());
    sign_in(n, b"SigEd25519 no Ed25519 collisions\x00\x05qyvol", &message)
}

/// The same S, written as S + L.
pub fn malleated(mut signature: Vec<u8>) -> Vec<u8> {
    let mut order = [0; 32];
    order.copy_from_slice(&(Scalar::ZERO - Scalar::ONE).to_bytes());
    order[0] += 1;
    let mut carry = 0;
    for (byte, add) in signature[32..].iter_mut().zip(order) {
        carry += u16::from(*byte) + u16::from(add);
        *byte = carry as u8;
        carry >>= 8;
    }
    signature
}

/// The key's `SubjectPublicKeyInfo`.
pub fn spki(n: u8) -> Vec<u8> {
    let head = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
    [&head[..], &point(&secret(n).0)].concat()
}

pub fn private_pem(n: u8) -> String {
    let head = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    pem("PRIVATE KEY", &[&head[..], &[n; 32]].concat())
}

pub fn public_pem(n: u8) -> String {
    match n {
        P256 => P256_PEM.to_string(),
        n => pem("PUBLIC KEY", &spki(n)),
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<&str> = body
        .as_bytes()
        .chunks(64)
        .map(|l| std::str::from_utf8(l).unwrap())
        .collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// How a signature names the key.
pub fn hint(n: u8) -> String {
    let der = match n {
        P256 => {
            let body: String = P256_PEM.lines().filter(|l| !l.starts_with('-')).collect();
            STANDARD.decode(body).unwrap()
        }
        n => spki(n),
    };
    STANDARD.encode(Digest::of(&der).bytes())
}

/// `SHA256:` and the hint without padding.
pub fn fingerprint(n: u8) -> String {
    format!("SHA256:{}", hint(n).trim_end_matches('='))
}

/// A bundle of these three.
pub fn bundle(hint: &str, payload: &[u8], signature: &[u8]) -> String {
    format!(
        concat!(
            r#"{{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":"#,
            r#"{{"publicKey":{{"hint":"{}"}}}},"dsseEnvelope":{{"payload":"{}","payloadType":"{}","#,
            r#""signatures":[{{"sig":"{}"}}]}}}}"#
        ),
        hint,
        STANDARD.encode(payload),
        TYPE,
        STANDARD.encode(signature)
    )
}

/// The bundle of a payload that the key has signed.
pub fn signed(n: u8, payload: &str) -> String {
    bundle(&hint(n), payload.as_bytes(), &sign(n, payload))
}

/// The one key on P-256, and its signatures over [`statement`], made by
/// another library: ECDSA needs no more of this file.
pub const P256: u8 = 200;
const P256_PEM: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEHhhTL9R1TALzBB2cdc6zO4P/2BrH
zk/ogsyxyYvFiW6kbDEcTi/0DdlqNlPm5FRF0y3+SG7O11x6kMahiIHAow==
-----END PUBLIC KEY-----
";
const P256_R: &str = "8be7c6890d82151b63e7e1e8fe06519240dce9bb60086319ce676f2fc3614a29";
const P256_S: &str = "08b8f05589f4a7722ed8e148d4e1e1abc28870c0d55c8bcb67b07953aa35a342";
/// The group's order less S.
const P256_HIGH_S: &str = "f7470fa9760b588ed1271eb72b1e1e53fa5e89ecd1bb12b98c09516f522d820f";

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2).map(|d| std::str::from_utf8(d).unwrap());
    digits.map(|d| u8::from_str_radix(d, 16).unwrap()).collect()
}

/// The signature in DER: `SEQUENCE { R, S }`.
pub fn p256_signature() -> Vec<u8> {
    p256_der(P256_S)
}

/// The same with the other S that verifies.
pub fn p256_high_s() -> Vec<u8> {
    p256_der(P256_HIGH_S)
}

fn p256_der(s: &str) -> Vec<u8> {
    let number = |hex: &str| {
        let bytes = unhex(hex);
        let sign = if bytes[0] < 128 { &[][..] } else { &[0] };
        [&[2, (sign.len() + bytes.len()) as u8], sign, &bytes].concat()
    };
    let both = [number(P256_R), number(s)].concat();
    [vec![0x30, both.len() as u8], both].concat()
}

/// R and S side by side, as other systems write them.
pub fn p256_raw() -> Vec<u8> {
    [unhex(P256_R), unhex(P256_S)].concat()
}

/// Another library's signatures by key 1 over [`statement`].
// [SIGN-001]
#[test]
fn signatures_by_hand_are_those_of_another_library() {
    let plain = "0a949b4e8225f3f83acc371d871d8974edb24da8f5f40d99bb0fe525746a0ed11b7a12fc8462d6851eff041d5da2fca4d11cc89a2eed026517bc669faaaefe01";
    let prehashed = "a40f90a2de3ac9641656b1db4ea6a1b774baf7abfad3254b66694a75d3dc1133c6d50c3786b7b569126581c3861c298ba7a4346ea0ad5325e109459e0cbd850c";
    let context = "96f30f6d4b3ed164f5707f778fa7e8e1887629d89e8a06aeb420271d0a215fec3dc83920380457009c22cdc69395388e3deb49c41f4480b6b791e54ee7b2eb00";
    assert_eq!(sign(1, &statement()), unhex(plain));
    assert_eq!(sign_prehashed(1, &statement()), unhex(prehashed));
    assert_eq!(sign_context(1, &statement()), unhex(context));
}
