//! A private sigstore instance that lives in memory: certificate authority, certificate log,
//! transparency logs of both versions, time-stamping authority. What it signs is good; a plan
//! makes it do one thing wrong.

pub mod der;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use der::{
    EC_SHA256, authority, bits, context, digits, extension, int, name, octets, oid, purpose, seq, set, tlv, usage, utc,
    utf8,
};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

pub const CODE_SIGNING: &str = "1.3.6.1.5.5.7.3.3";
pub const TIME_STAMPING: &str = "1.3.6.1.5.5.7.3.8";
/// When everything of the instance starts to be valid: 2026-01-01.
pub const START: u64 = 1_767_225_600;
/// When it ends: 2027-01-01.
pub const END: u64 = 1_798_761_600;

/// The key usage of an authority, and of whoever signs anything else.
const SIGNS_CERTIFICATES: u8 = 0x06;
const SIGNS: u8 = 0x80;

const TYPE: &str = "application/vnd.in-toto+json";
const SCT_LIST: &str = "1.3.6.1.4.1.11129.2.4.2";

pub fn b64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = b64(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| str::from_utf8(line).unwrap())
        .collect();
    b64(format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n")).as_bytes())
}

/// What is signed, as a DSSE envelope.
fn envelope(payload: &[u8], signature: &[u8]) -> Value {
    json!({"payload": b64(payload), "payloadType": TYPE, "signatures": [{"sig": b64(signature)}]})
}

/// An ECDSA key on P-256.
pub struct Key(EcdsaKeyPair);

impl Key {
    pub fn new() -> Key {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Key(EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap())
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }

    pub fn spki(&self) -> Vec<u8> {
        let algorithm = seq(&[oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7")]);
        seq(&[algorithm, bits(self.0.public_key().as_ref())])
    }

    fn id(&self) -> Vec<u8> {
        sha256(&self.spki())
    }
}

/// How an entry is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Dsse,
    Intoto,
    HashedRekordV2,
    DsseV2,
}

/// What to sign, and what to do wrong.
#[derive(Clone)]
pub struct Plan {
    pub subject: String,
    pub issuer: String,
    pub repository_id: Option<String>,
    pub owner_id: Option<String>,
    pub payload: Vec<u8>,
    /// When it is signed, logged and stamped.
    pub time: u64,
    pub leaf: [u64; 2],
    pub leaf_purpose: Option<&'static str>,
    /// More extensions of the certificate.
    pub extensions: Vec<Vec<u8>>,
    pub sct: bool,
    /// Changes what the certificate log signs.
    pub sct_over: fn(&mut Vec<u8>),
    pub sct_time: u64,
    pub kind: Kind,
    pub promise: bool,
    pub stamp: bool,
    pub stamp_purpose: &'static str,
    /// Changes what is stamped.
    pub stamp_over: fn(&mut Vec<u8>),
    /// Changes the entry before it is logged.
    pub body: fn(&mut Value),
    /// Changes the pre-authentication encoding before it is signed.
    pub signed: fn(&mut Vec<u8>),
}

impl Plan {
    pub fn new(payload: &[u8]) -> Plan {
        Plan {
            subject: "https://git.example/acme/app/.ci/release.yml@refs/heads/main".to_string(),
            issuer: "https://token.git.example".to_string(),
            repository_id: Some("1001".to_string()),
            owner_id: Some("42".to_string()),
            payload: payload.to_vec(),
            time: START + 1000,
            leaf: [START + 900, START + 1500],
            leaf_purpose: Some(CODE_SIGNING),
            extensions: Vec::new(),
            sct: true,
            sct_over: |_| {},
            sct_time: START + 901,
            kind: Kind::Dsse,
            promise: true,
            stamp: false,
            stamp_purpose: TIME_STAMPING,
            stamp_over: |_| {},
            body: |_| {},
            signed: |_| {},
        }
    }
}

pub struct Instance {
    authority: Key,
    intermediate: Key,
    certificate_log: Key,
    log: Key,
    stamper: Key,
    stamper_root: Key,
    /// The `trusted_root.json`: signatures differ each time they are made.
    root: Value,
}

struct Certificate<'a> {
    serial: u8,
    issuer: (&'a str, &'a Key),
    subject: &'a str,
    key: &'a Key,
    valid: [u64; 2],
    extensions: Vec<Vec<u8>>,
}

impl Certificate<'_> {
    fn body(&self, extensions: &[Vec<u8>]) -> Vec<u8> {
        seq(&[
            context(0, &int(2)),
            int(self.serial),
            seq(&[oid(EC_SHA256)]),
            name(self.issuer.0),
            seq(&[utc(self.valid[0]), utc(self.valid[1])]),
            name(self.subject),
            self.key.spki(),
            context(3, &seq(&[extensions, &self.key_ids()].concat())),
        ])
    }

    /// Whose key it is, and whose signed it: verifiers other than ours ask for both.
    fn key_ids(&self) -> [Vec<u8>; 2] {
        let own = extension("2.5.29.14", false, &octets(&self.key.id()[..20]));
        let issuer = seq(&[tlv(0x80, &self.issuer.1.id()[..20])]);
        [own, extension("2.5.29.35", false, &issuer)]
    }

    fn der(&self, extensions: &[Vec<u8>]) -> Vec<u8> {
        let body = self.body(extensions);
        let signature = self.issuer.1.sign(&body);
        seq(&[body, seq(&[oid(EC_SHA256)]), bits(&signature)])
    }
}

impl Instance {
    #[allow(clippy::new_without_default)]
    pub fn new() -> Instance {
        let mut made = Instance {
            authority: Key::new(),
            intermediate: Key::new(),
            certificate_log: Key::new(),
            log: Key::new(),
            stamper: Key::new(),
            stamper_root: Key::new(),
            root: Value::Null,
        };
        made.root = made.trusted_root();
        made
    }

    /// The `trusted_root.json`.
    pub fn root(&self) -> Value {
        self.root.clone()
    }

    fn trusted_root(&self) -> Value {
        let valid = json!({"start": "2026-01-01T00:00:00Z", "end": "2027-01-01T00:00:00.000Z"});
        let log = |key: &Key| {
            json!({
                "baseUrl": "https://log.example", "hashAlgorithm": "SHA2_256", "logId": {"keyId": b64(&key.id())},
                "publicKey": {
                    "rawBytes": b64(&key.spki()), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": valid,
                },
            })
        };
        let authority = |chain: &[Vec<u8>]| {
            let certificates: Vec<Value> = chain.iter().map(|der| json!({"rawBytes": b64(der)})).collect();
            let subject = json!({"organization": "example", "commonName": "authority"});
            json!({
                "subject": subject, "uri": "https://ca.example", "certChain": {"certificates": certificates},
                "validFor": valid,
            })
        };
        json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(&self.log)],
            "ctlogs": [log(&self.certificate_log)],
            "certificateAuthorities": [authority(&self.chain())],
            "timestampAuthorities": [authority(&[self.stamper(TIME_STAMPING), self.stamper_root()])],
        })
    }

    fn anchor(&self, name: &str, key: &Key) -> Vec<u8> {
        Certificate {
            serial: 1,
            issuer: (name, key),
            subject: name,
            key,
            valid: [START, END],
            extensions: Vec::new(),
        }
        .der(&[authority(), usage(SIGNS_CERTIFICATES)])
    }

    fn chain(&self) -> [Vec<u8>; 2] {
        let intermediate = Certificate {
            serial: 2,
            issuer: ("root", &self.authority),
            subject: "intermediate",
            key: &self.intermediate,
            valid: [START, END],
            extensions: Vec::new(),
        };
        [
            intermediate.der(&[authority(), usage(SIGNS_CERTIFICATES), purpose(CODE_SIGNING)]),
            self.anchor("root", &self.authority),
        ]
    }

    fn stamper_root(&self) -> Vec<u8> {
        self.anchor("stamps", &self.stamper_root)
    }

    fn stamper(&self, for_what: &str) -> Vec<u8> {
        Certificate {
            serial: 3,
            issuer: ("stamps", &self.stamper_root),
            subject: "stamper",
            key: &self.stamper,
            valid: [START, END],
            extensions: Vec::new(),
        }
        .der(&[usage(SIGNS), purpose(for_what)])
    }

    fn leaf(&self, key: &Key, plan: &Plan) -> Vec<u8> {
        let fulcio = |n: u8, text: &str| extension(&format!("1.3.6.1.4.1.57264.1.{n}"), false, &utf8(text));
        let subject = match plan.subject.contains("://") {
            true => tlv(0x86, plan.subject.as_bytes()),
            false => tlv(0x81, plan.subject.as_bytes()),
        };
        let mut extensions = vec![extension("2.5.29.17", true, &seq(&[subject])), fulcio(8, &plan.issuer)];
        extensions.push(usage(SIGNS));
        extensions.extend(plan.leaf_purpose.map(purpose));
        extensions.extend(plan.repository_id.as_ref().map(|id| fulcio(15, id)));
        extensions.extend(plan.owner_id.as_ref().map(|id| fulcio(17, id)));
        extensions.extend(plan.extensions.clone());
        let certificate = Certificate {
            serial: 9,
            issuer: ("intermediate", &self.intermediate),
            subject: "",
            key,
            valid: plan.leaf,
            extensions,
        };
        let mut extensions = certificate.extensions.clone();
        if plan.sct {
            let precertificate = certificate.body(&extensions);
            // In the middle: what stands behind it must be kept as well.
            extensions.insert(1, self.sct(&precertificate, plan));
        }
        certificate.der(&extensions)
    }

    fn sct(&self, precertificate: &[u8], plan: &Plan) -> Vec<u8> {
        let time = (plan.sct_time * 1000).to_be_bytes();
        let length = (precertificate.len() as u32).to_be_bytes();
        let issuer = sha256(&self.intermediate.spki());
        let mut signed = [
            &[0, 0],
            &time[..],
            &[0, 1],
            &issuer,
            &length[1..],
            precertificate,
            &[0, 0],
        ]
        .concat();
        (plan.sct_over)(&mut signed);
        let signature = self.certificate_log.sign(&signed);
        let vector = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes(), bytes].concat();
        let id = self.certificate_log.id();
        let sct = [&[0], &id[..], &time, &[0, 0, 4, 3], &vector(&signature)].concat();
        extension(SCT_LIST, false, &octets(&vector(&vector(&sct))))
    }

    fn entry(&self, plan: &Plan, certificate: &[u8], pae: &[u8], signature: &[u8]) -> Value {
        let raw = json!({
            "x509Certificate": {"rawBytes": b64(certificate)}, "keyDetails": "PKIX_ECDSA_P256_SHA_256",
        });
        let pem = pem("CERTIFICATE", certificate);
        let hash = json!({"algorithm": "sha256", "value": hex(&sha256(&plan.payload))});
        let (kind, version, spec) = match plan.kind {
            Kind::Dsse => {
                let envelope = envelope(&plan.payload, signature).to_string();
                let of_envelope = json!({"algorithm": "sha256", "value": hex(&sha256(envelope.as_bytes()))});
                let signature = json!({"signature": b64(signature), "verifier": pem});
                let spec = json!({"envelopeHash": of_envelope, "payloadHash": hash, "signatures": [signature]});
                ("dsse", "0.0.1", spec)
            }
            Kind::Intoto => {
                let signature = json!({"sig": b64(b64(signature).as_bytes()), "publicKey": pem});
                let envelope = json!({"signatures": [signature]});
                (
                    "intoto",
                    "0.0.2",
                    json!({"content": {"envelope": envelope, "payloadHash": hash}}),
                )
            }
            Kind::HashedRekordV2 => {
                let data = json!({"algorithm": "SHA2_256", "digest": b64(&sha256(pae))});
                let signature = json!({"content": b64(signature), "verifier": raw});
                let spec = json!({"hashedRekordV002": {"data": data, "signature": signature}});
                ("hashedrekord", "0.0.2", spec)
            }
            Kind::DsseV2 => {
                let hash = json!({"algorithm": "SHA2_256", "digest": b64(&sha256(&plan.payload))});
                let signature = json!({"content": b64(signature), "verifier": raw});
                (
                    "dsse",
                    "0.0.2",
                    json!({"dsseV002": {"payloadHash": hash, "signatures": [signature]}}),
                )
            }
        };
        let mut body = json!({"apiVersion": version, "kind": kind, "spec": spec});
        (plan.body)(&mut body);
        let bytes = body.to_string().into_bytes();
        // The second of three leaves.
        let leaf = |bytes: &[u8]| sha256(&[&[0], bytes].concat());
        let node = |left: &[u8], right: &[u8]| sha256(&[&[1], left, right].concat());
        let (first, third) = (leaf(b"first"), leaf(b"third"));
        let root = node(&node(&first, &leaf(&bytes)), &third);
        let note = format!("log.example - 7\n3\n{}\n", b64(&root));
        let id = self.log.id();
        let signature = [&id[..4], &self.log.sign(note.as_bytes())].concat();
        let mut entry = json!({
            "logIndex": "71",
            "logId": {"keyId": b64(&id)},
            "kindVersion": {"kind": kind, "version": version},
            "inclusionProof": {
                "logIndex": "1", "treeSize": "3", "rootHash": b64(&root), "hashes": [b64(&first), b64(&third)],
                "checkpoint": {"envelope": format!("{note}\n\u{2014} log.example {}\n", b64(&signature))},
            },
            "canonicalizedBody": b64(&bytes),
        });
        if plan.promise {
            let promised = json!({
                "body": b64(&bytes), "integratedTime": plan.time, "logID": hex(&id), "logIndex": 71,
            });
            let promise = self.log.sign(promised.to_string().as_bytes());
            entry["integratedTime"] = json!(plan.time.to_string());
            entry["inclusionPromise"] = json!({"signedEntryTimestamp": b64(&promise)});
        }
        entry
    }

    fn stamp(&self, plan: &Plan, signature: &[u8]) -> Vec<u8> {
        let mut over = signature.to_vec();
        (plan.stamp_over)(&mut over);
        let sha = seq(&[oid("2.16.840.1.101.3.4.2.1")]);
        let info = seq(&[
            int(1),
            oid("1.3.6.1.4.1.57264.2"),
            seq(&[sha.clone(), octets(&sha256(&over))]),
            int(5),
            tlv(0x18, digits(plan.time).as_bytes()),
        ]);
        let own = self
            .root
            .pointer("/timestampAuthorities/0/certChain/certificates/0/rawBytes");
        let certificate = match plan.stamp_purpose {
            TIME_STAMPING => STANDARD.decode(own.and_then(Value::as_str).unwrap()).unwrap(),
            other => self.stamper(other),
        };
        let attribute = |id: &str, value: Vec<u8>| seq(&[oid(id), set(&[value])]);
        let named = seq(&[seq(&[seq(&[octets(&sha256(&certificate))])])]);
        let attributes = [
            attribute("1.2.840.113549.1.9.3", oid("1.2.840.113549.1.9.16.1.4")),
            attribute("1.2.840.113549.1.9.4", octets(&sha256(&info))),
            attribute("1.2.840.113549.1.9.16.2.47", named),
        ];
        let signer = seq(&[
            int(1),
            seq(&[name("stamps"), int(3)]),
            sha.clone(),
            context(0, &attributes.concat()),
            seq(&[oid(EC_SHA256)]),
            octets(&self.stamper.sign(&set(&attributes))),
        ]);
        let data = seq(&[
            int(3),
            set(&[sha]),
            seq(&[oid("1.2.840.113549.1.9.16.1.4"), context(0, &octets(&info))]),
            context(0, &certificate),
            set(&[signer]),
        ]);
        let content_info = seq(&[oid("1.2.840.113549.1.7.2"), context(0, &data)]);
        seq(&[seq(&[int(0)]), content_info])
    }

    /// The bundle.
    pub fn sign(&self, plan: &Plan) -> Value {
        let key = Key::new();
        let certificate = self.leaf(&key, plan);
        let mut pae = format!("DSSEv1 {} {TYPE} {} ", TYPE.len(), plan.payload.len()).into_bytes();
        pae.extend_from_slice(&plan.payload);
        (plan.signed)(&mut pae);
        let signature = key.sign(&pae);
        let mut material = json!({
            "certificate": {"rawBytes": b64(&certificate)},
            "tlogEntries": [self.entry(plan, &certificate, &pae, &signature)],
        });
        if plan.stamp {
            let stamp = json!({"signedTimestamp": b64(&self.stamp(plan, &signature))});
            material["timestampVerificationData"] = json!({"rfc3161Timestamps": [stamp]});
        }
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": material,
            "dsseEnvelope": envelope(&plan.payload, &signature),
        })
    }
}
