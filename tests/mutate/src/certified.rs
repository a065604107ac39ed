//! Bundles with a certificate: what counts is over a payload that the identity of the rule
//! signed for the image, in the role that the rule asks for, with the very certificate.

use std::collections::HashMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qyvol_trust::{Accepted, Subject, TrustPolicy, Verdict, verify};
use qyvol_types::{Digest, Timestamp};
use serde_json::{Value, json};

use crate::Outcome;
use crate::corpus::{Image, NOW, cosign, images, statement};
use crate::facts::decode;
use crate::mutation::{bytes, tree, written};
use crate::random::Random;

#[path = "../../../crates/qyvol-keyless/tests/instance/mod.rs"]
#[allow(dead_code, reason = "the tests of qyvol-keyless use the rest")]
mod instance;

use instance::{Instance, Kind, Plan};

/// Their signatures are randomised, so they are stored here.
const KEPT: &str = include_str!("certified.json");
const FILE: &str = "src/certified.json";

/// Parts of a bundle's material.
const MATERIAL: [&str; 3] = ["certificate", "tlogEntries", "timestampVerificationData"];
/// DER within a bundle.
const DER: [&str; 3] = [
    "/verificationMaterial/certificate/rawBytes",
    "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp",
    "/verificationMaterial/tlogEntries/0/inclusionPromise/signedEntryTimestamp",
];
const BODY: &str = "/verificationMaterial/tlogEntries/0/canonicalizedBody";

/// A certificate and the payload signed with its key.
type Signed = (Vec<u8>, Vec<u8>);

pub struct Certified {
    policies: [TrustPolicy; 2],
    bundles: Vec<Value>,
    /// The image that each counts for, by its place in the corpus.
    counts: HashMap<Signed, usize>,
}

/// What the identity of the rule signs, and what others sign or sign wrongly.
fn plans(images: &[Image]) -> Vec<(Plan, Option<usize>)> {
    let mut plans = Vec::new();
    for (at, image) in images.iter().enumerate() {
        let release = || Plan::new(&statement(image, "release", None));
        for kind in [Kind::Dsse, Kind::Intoto, Kind::HashedRekordV2, Kind::DsseV2] {
            let stamp = kind != Kind::Intoto;
            plans.push((
                Plan {
                    kind,
                    stamp,
                    ..release()
                },
                Some(at),
            ));
        }
        let stranger = "https://git.example/thief/app/.ci/release.yml@refs/heads/main".to_string();
        let others = [
            Plan {
                subject: stranger,
                ..release()
            },
            Plan {
                repository_id: Some("6".to_string()),
                ..release()
            },
            Plan {
                issuer: "https://token.thief.example".to_string(),
                ..release()
            },
            Plan::new(&statement(image, "approve", None)),
            Plan::new(&statement(image, "release", Some(NOW - 10))),
            Plan::new(&cosign(image)),
        ];
        plans.extend(others.map(|plan| (plan, None)));
    }
    plans
}

/// Signs everything anew, as it must be when the images have changed.
pub fn renew() {
    let instance = Instance::new();
    let signed = plans(&images());
    let mut lines = vec![instance.root().to_string()];
    lines.extend(signed.iter().map(|(plan, _)| instance.sign(plan).to_string()));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    std::fs::write(file, lines.join("\n") + "\n").unwrap();
}

impl Certified {
    pub fn new(images: &[Image]) -> Certified {
        let mut lines = KEPT.lines();
        let root = lines.next().unwrap_or_default();
        let mut made = Certified {
            policies: ["file:", "file:*"].map(|scope| policy(scope, root)),
            bundles: lines.map(|line| serde_json::from_str(line).unwrap()).collect(),
            counts: HashMap::new(),
        };
        let plans = plans(images);
        assert_eq!(plans.len(), made.bundles.len(), "run `cargo xtask mutate --renew`");
        for ((plan, image), bundle) in plans.into_iter().zip(&made.bundles) {
            let signed = see(bundle).unwrap();
            assert_eq!(signed.1, plan.payload, "run `cargo xtask mutate --renew`");
            if let Some(image) = image {
                made.counts.insert(signed, image);
            }
        }
        made
    }
}

fn policy(scope: &str, root: &str) -> TrustPolicy {
    let plan = Plan::new(b"");
    let text = format!(
        "version: 1\nserial: 3\nroots:\n  own: {{ file: root.json, digest: \"{}\" }}\nidentities:\n  rel: {{ root: own, \
         issuer: \"{}\", subject: \"{}\", repository_id: 1001 }}\nrules:\n  - scope: \"{scope}\"\n    require: [{{ role: \
         release, keys: [rel] }}]\n",
        Digest::of(root.as_bytes()),
        plan.issuer,
        plan.subject,
    );
    let mut policy = TrustPolicy::parse(&text).unwrap();
    policy.load_roots(|_| Ok(root.as_bytes().to_vec())).unwrap();
    policy
}

/// Reads the certificate and the payload of a bundle, without any of the code under test.
fn see(bundle: &Value) -> Option<Signed> {
    let certificate = bundle.pointer(DER[0])?.as_str()?;
    let payload = bundle["dsseEnvelope"]["payload"].as_str()?;
    Some((decode(certificate)?, decode(payload)?))
}

pub fn case(corpus: &crate::corpus::Corpus, random: &mut Random) -> Outcome {
    let at = random.below(corpus.images.len());
    let given: Vec<Vec<u8>> = (0..1 + random.below(4))
        .map(|_| some(&corpus.certified, random))
        .collect();
    let shown: Vec<_> = given.iter().map(|bytes| String::from_utf8_lossy(bytes)).collect();
    let policy = random.pick(&corpus.certified.policies);
    let image = &corpus.images[at];
    Outcome {
        input: format!("{}\n{}", image.descriptor.digest, shown.join("\n")),
        accepted: judge(&corpus.certified, policy, image, at, &given),
    }
}

/// A bundle as it is or altered.
fn some(certified: &Certified, random: &mut Random) -> Vec<u8> {
    let mut bundle = random.pick(&certified.bundles).clone();
    let donor = random.pick(&certified.bundles);
    match random.below(10) {
        0..=3 => return bundle.to_string().into_bytes(),
        4 => {
            let part = *random.pick(&MATERIAL);
            bundle["verificationMaterial"][part] = donor["verificationMaterial"][part].clone();
        }
        5 => {
            let part = *random.pick(&["payload", "signatures", "payloadType"]);
            bundle["dsseEnvelope"][part] = donor["dsseEnvelope"][part].clone();
        }
        6 => der(&mut bundle, donor, random),
        7 => body(&mut bundle, donor, random),
        _ => (0..1 + random.below(3)).for_each(|_| tree(&mut bundle, donor, random)),
    }
    let mut out = written(&bundle, random);
    if random.once_in(8) {
        bytes(&mut out, donor.to_string().as_bytes(), random);
    }
    out
}

/// Other bytes in a certificate, a stamp or a promise.
fn der(bundle: &mut Value, donor: &Value, random: &mut Random) {
    let place = *random.pick(&DER);
    let read = |of: &Value| of.pointer(place).and_then(Value::as_str).and_then(decode);
    let (Some(mut der), Some(other)) = (read(bundle), read(donor)) else {
        return;
    };
    bytes(&mut der, &other, random);
    if let Some(value) = bundle.pointer_mut(place) {
        *value = json!(STANDARD.encode(der));
    }
}

/// Another entry of the log.
fn body(bundle: &mut Value, donor: &Value, random: &mut Random) {
    let read = |of: &Value| {
        let text = of.pointer(BODY)?.as_str()?;
        serde_json::from_slice::<Value>(&decode(text)?).ok()
    };
    let (Some(mut entry), Some(other)) = (read(bundle), read(donor)) else {
        return;
    };
    tree(&mut entry, &other, random);
    if let Some(value) = bundle.pointer_mut(BODY) {
        *value = json!(STANDARD.encode(written(&entry, random)));
    }
}

fn judge(
    certified: &Certified,
    policy: &TrustPolicy,
    image: &Image,
    at: usize,
    given: &[Vec<u8>],
) -> Result<bool, String> {
    let subject = Subject {
        descriptor: &image.descriptor,
        name: image.name,
        version: "1.0.0",
        asked: None,
        pinned: false,
    };
    let now = Timestamp::from_unix(NOW).unwrap();
    let Ok(accepted) = verify(policy, &subject, given, now, None) else {
        return Ok(false);
    };
    let accepted: Accepted = accepted;
    if *accepted.image != image.descriptor {
        return Err("another image was accepted than the one judged".to_string());
    }
    let good = accepted
        .report
        .signatures
        .iter()
        .filter(|one| one.verdict == Verdict::Good);
    let (good, plan) = (good.collect::<Vec<_>>(), Plan::new(b""));
    let is_named = |name: &qyvol_trust::IdentityReport| name.subject == plan.subject && name.issuer == plan.issuer;
    if !good.iter().any(|one| one.identity.as_ref().is_some_and(is_named)) {
        return Err("no signature of the identity counts".to_string());
    }
    let parsed = given.iter().filter_map(|bytes| serde_json::from_slice(bytes).ok());
    let mut signed = parsed.filter_map(|bundle: Value| see(&bundle));
    match signed.any(|signed| certified.counts.get(&signed) == Some(&at)) {
        true => Ok(true),
        false => Err("accepted without a bundle that counts for this image".to_string()),
    }
}
