//! What is mutated: keys, images, signatures over them, policies and chains of policies. The
//! same in every run.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qyvol_image::Archive;
use qyvol_trust::{Envelope, KeyType, PolicyDocument, PrivateKey, PublicKey, Sign, SignError, SignedPolicy, Statement};
use qyvol_types::{Descriptor, Timestamp};
use serde_json::{Value, json};

use crate::archive::{COMPONENT, Case};
use crate::certified::Certified;
use crate::facts::{Fact, Facts};
use crate::random::Random;

/// The time at which everything is judged.
pub const NOW: u64 = 1_800_000_000;
const COSIGN: &str = "https://sigstore.dev/cosign/sign/v1";
const PROVENANCE: &str = "https://slsa.dev/provenance/v1";

/// A P-256 key. Its signatures are randomised, so they are stored here.
const P256: &str = include_str!("p256.key");
const P256_SIGNATURES: &str = include_str!("p256.signatures");

/// A key and its name in policies.
pub struct Key {
    pub name: &'static str,
    pub private: PrivateKey,
}

/// An image that can be judged.
pub struct Image {
    pub name: &'static str,
    pub component: Vec<u8>,
    pub descriptor: Descriptor,
}

pub struct Corpus {
    pub keys: Vec<Key>,
    pub images: Vec<Image>,
    /// Bundles, each with facts about who signed it and over what.
    pub bundles: Vec<Value>,
    /// For each image, those of `bundles` that can count for it.
    pub counting: Vec<Vec<usize>>,
    pub facts: Facts,
    /// Texts of policies.
    pub policies: Vec<String>,
    /// Chains of lines, each with its policy's text.
    pub chains: Vec<Vec<(String, Value)>>,
    pub certified: Certified,
}

/// Signs P-256 payloads with the signatures that are kept.
struct Kept<'a>(&'a PrivateKey);

impl Sign for Kept<'_> {
    fn public(&self) -> &PublicKey {
        self.0.public()
    }

    fn sign_message(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        if self.public().algorithm() == KeyType::Ed25519 {
            return self.0.sign_message(message);
        }
        let mut kept = P256_SIGNATURES.lines().filter_map(|line| STANDARD.decode(line).ok());
        let found = kept.find(|signature| self.public().verify(message, signature));
        Ok(found.expect("a signature is kept for each payload of the P-256 key"))
    }
}

impl Key {
    fn ed25519(name: &'static str, seed: u8) -> Key {
        let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        der.extend([seed; 32]);
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            STANDARD.encode(der)
        );
        Key {
            name,
            private: PrivateKey::from_pem(&pem).unwrap(),
        }
    }

    pub fn fingerprint(&self) -> String {
        self.private.public().fingerprint()
    }

    /// As an entry of a policy's `keys`.
    pub fn entry(&self, more: &str) -> String {
        let pem = self.private.public().to_pem();
        let lines: String = pem.lines().map(|line| format!("      {line}\n")).collect();
        format!("  {}:\n    pem: |\n{lines}{more}", self.name)
    }

    /// A bundle over any payload.
    pub fn seal(&self, payload: &[u8]) -> Value {
        let kind = "application/vnd.in-toto+json";
        let message = [
            format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).as_bytes(),
            payload,
        ]
        .concat();
        let signature = Kept(&self.private).sign_message(&message).unwrap();
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": { "publicKey": { "hint": self.private.public().hint() } },
            "dsseEnvelope": {
                "payload": STANDARD.encode(payload),
                "payloadType": kind,
                "signatures": [{ "sig": STANDARD.encode(signature) }],
            },
        })
    }
}

fn image(name: &'static str, more: &[u8]) -> Image {
    let component = [COMPONENT, more].concat();
    let case = Case {
        name,
        component: component.clone(),
        ..Case::default()
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), case.build()).unwrap();
    let archive = Archive::open(file.path()).unwrap();
    Image {
        name,
        component,
        descriptor: archive.images()[0].descriptor(),
    }
}

/// Two of one name and version, as an attacker would want to exchange them, and another.
pub fn images() -> Vec<Image> {
    vec![image("a", b""), image("a", b"\0\x02\x01z"), image("b", b"")]
}

pub fn statement(image: &Image, role: &str, expires: Option<u64>) -> Vec<u8> {
    let statement = Statement {
        subject: image.descriptor.digest,
        name: image.name.to_string(),
        version: "1.0.0".to_string(),
        role: role.to_string(),
        sequence: 7,
        created: Timestamp::from_unix(NOW - 1000).unwrap(),
        expires: expires.map(|at| Timestamp::from_unix(at).unwrap()),
        critical: Vec::new(),
    };
    statement.to_json().unwrap()
}

/// What cosign signs.
pub fn cosign(image: &Image) -> Vec<u8> {
    other(image, COSIGN)
}

fn other(image: &Image, kind: &str) -> Vec<u8> {
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "digest": { "sha256": image.descriptor.digest.hex() } }],
        "predicateType": kind,
        "predicate": {},
    });
    statement.to_string().into_bytes()
}

impl Corpus {
    pub fn new() -> Corpus {
        let p256 = Key {
            name: "two",
            private: PrivateKey::from_pem(P256).unwrap(),
        };
        let keys = vec![
            Key::ed25519("one", 1),
            p256,
            Key::ed25519("approver", 3),
            Key::ed25519("stolen", 4),
            Key::ed25519("expired", 5),
            Key::ed25519("thief", 6),
        ];
        let images = images();
        let mut corpus = Corpus {
            policies: policies(&keys, &images),
            chains: vec![chain("fleet"), chain("other")],
            certified: Certified::new(&images),
            keys,
            images,
            bundles: Vec::new(),
            counting: vec![Vec::new(); 3],
            facts: Facts::default(),
        };
        for key in 0..corpus.keys.len() {
            for image in 0..corpus.images.len() {
                let of = &corpus.images[image];
                let payloads = [
                    (statement(of, "release", None), Some("release"), true),
                    (statement(of, "approve", None), Some("approve"), true),
                    (statement(of, "release", Some(NOW - 10)), Some("release"), false),
                    (cosign(of), None, true),
                    (other(of, PROVENANCE), None, false),
                ];
                let digest = of.descriptor.digest.to_string();
                for (payload, role, counts) in payloads {
                    if counts && key < 4 {
                        corpus.counting[image].push(corpus.bundles.len());
                    }
                    corpus.bundles.push(corpus.keys[key].seal(&payload));
                    let fact = Fact {
                        role: role.map(str::to_string),
                        image: digest.clone(),
                        counts,
                    };
                    corpus.facts.add(corpus.keys[key].fingerprint(), payload, fact);
                }
            }
        }
        corpus
    }

    /// A bundle, mostly one that can count for an image.
    pub fn bundle(&self, image: usize, random: &mut Random) -> &Value {
        match random.once_in(4) {
            true => random.pick(&self.bundles),
            false => &self.bundles[*random.pick(&self.counting[image])],
        }
    }

    /// The key that the attacker has: nothing asks for it.
    pub fn thief(&self) -> &Key {
        self.keys.last().unwrap()
    }
}

fn policies(keys: &[Key], images: &[Image]) -> Vec<String> {
    let mut known = "version: 1\nserial: 3\nkeys:\n".to_string();
    for key in &keys[..5] {
        let until = "    until: 2026-01-01T00:00:00Z\n";
        known += &key.entry(if key.name == "expired" { until } else { "" });
    }
    let kept = images[2].descriptor.digest;
    known += &format!("revoked:\n  keys:\n    - {{ key: stolen, keep: [\"{kept}\"] }}\n");
    [
        "  - scope: \"file:\"\n    require:\n      - { role: release, keys: [one, two, stolen, expired] }\n",
        "  - scope: \"file:a\"\n    require:\n      - { role: release, keys: [one, two, stolen], threshold: 2 }\n      - { \
         role: approve, keys: [approver] }\n  - scope: \"file:\"\n    require:\n      - { role: release, keys: [one] }\n",
        "  - scope: \"file:*\"\n    require:\n      - form: cosign\n        role: release\n        keys: [two]\n  - \
         scope: \"r.example/**\"\n    require: [{ role: release, keys: [one] }]\n",
    ]
    .map(|rules| format!("{known}rules:\n{rules}"))
    .to_vec()
}

/// A chain of six documents whose keys change, two of three sign each. The attacker has one
/// of the three at each step.
fn chain(name: &str) -> Vec<(String, Value)> {
    let keys: Vec<Key> = ["u0", "u1", "u2", "u3", "u4"]
        .into_iter()
        .zip(10..)
        .map(|(name, seed)| Key::ed25519(name, seed))
        .collect();
    let now = Timestamp::from_unix(NOW).unwrap();
    let mut lines = Vec::new();
    for serial in 1..=6_usize {
        let update = [0, 1 + serial / 3, 2 + serial / 3];
        let mut text = format!("version: 1\nname: {name}\nserial: {serial}\nkeys:\n");
        text.extend(update.iter().map(|index| keys[*index].entry("")));
        let names = update.map(|index| keys[index].name).join(", ");
        text += &format!("update: {{ keys: [{names}], threshold: 2, freshness: [u0] }}\n");
        if serial == 5 {
            text += &format!("revoked: {{ keys: [\"{}\"] }}\n", keys[1].fingerprint());
        }
        text += "rules:\n  - scope: \"file:\"\n    require: [{ role: release, keys: [u0] }]\n";
        let document = PolicyDocument::parse(&text).unwrap();
        let signatures: Vec<Envelope> = keys[1..]
            .iter()
            .map(|key| document.sign(&key.private, now).unwrap())
            .collect();
        let signed = SignedPolicy {
            signatures,
            fresh: Some(document.sign_fresh(&keys[0].private, now).unwrap()),
            ..SignedPolicy::new(document)
        };
        lines.push((text, serde_json::from_slice(&signed.to_line().unwrap()).unwrap()));
    }
    lines
}

/// The key of a chain that the attacker has.
pub fn stolen_update_key() -> Key {
    Key::ed25519("u0", 10)
}
