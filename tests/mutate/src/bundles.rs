//! Bundles: what counts is over a payload that its key signed for the image, in the role and
//! form that the rule asks for.

use std::collections::{BTreeSet, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qyvol_trust::{Accepted, Subject, TrustPolicy, Verdict, verify};
use qyvol_types::Timestamp;
use serde_json::Value;

use crate::Outcome;
use crate::corpus::{Corpus, Image, NOW};
use crate::facts::{Seen, decode, see};
use crate::mutation::{bytes, tree, written};
use crate::policies::Required;
use crate::random::Random;

pub fn case(corpus: &Corpus, random: &mut Random) -> Outcome {
    let text = random.pick(&corpus.policies);
    let at = random.below(corpus.images.len());
    let image = &corpus.images[at];
    let given: Vec<Vec<u8>> = (0..1 + random.below(6)).map(|_| some(corpus, at, random)).collect();
    let shown = given
        .iter()
        .map(|bytes| String::from_utf8_lossy(bytes))
        .collect::<Vec<_>>()
        .join("\n");
    Outcome {
        input: format!("{text}\n{} {}\n{shown}", image.name, image.descriptor.digest),
        accepted: judge(corpus, text, image, &given),
    }
}

/// A bundle of the corpus, as it is or altered.
pub fn some(corpus: &Corpus, image: usize, random: &mut Random) -> Vec<u8> {
    let mut bundle = corpus.bundle(image, random).clone();
    let donor = random.pick(&corpus.bundles);
    let mut plain = false;
    match random.below(10) {
        0..=2 => plain = true,
        3 => payload(&mut bundle, donor, corpus, random),
        4 => signature(&mut bundle, random),
        5 => {
            // Parts of two.
            let from = donor["dsseEnvelope"].clone();
            let part = *random.pick(&["payload", "signatures", "payloadType"]);
            bundle["dsseEnvelope"][part] = from[part].clone();
        }
        6 => bundle["verificationMaterial"] = donor["verificationMaterial"].clone(),
        _ => (0..1 + random.below(3)).for_each(|_| tree(&mut bundle, donor, random)),
    }
    if plain && !random.once_in(4) {
        return bundle.to_string().into_bytes();
    }
    let mut out = written(&bundle, random);
    if random.once_in(4) {
        bytes(&mut out, donor.to_string().as_bytes(), random);
    }
    out
}

/// Another payload under the same signature, or signed by the attacker's own key.
fn payload(bundle: &mut Value, donor: &Value, corpus: &Corpus, random: &mut Random) {
    let read = |bundle: &Value| {
        let text = bundle["dsseEnvelope"]["payload"].as_str().unwrap_or_default();
        decode(text).and_then(|payload| serde_json::from_slice::<Value>(&payload).ok())
    };
    let (Some(mut statement), Some(other)) = (read(bundle), read(donor)) else {
        return;
    };
    for _ in 0..random.below(3) {
        tree(&mut statement, &other, random);
    }
    let payload = written(&statement, random);
    if random.once_in(2) {
        let hint = bundle["verificationMaterial"].clone();
        *bundle = corpus.thief().seal(&payload);
        if random.once_in(2) {
            bundle["verificationMaterial"] = hint;
        }
        return;
    }
    bundle["dsseEnvelope"]["payload"] = Value::String(STANDARD.encode(payload));
}

/// Another spelling of a signature, or another number in it.
fn signature(bundle: &mut Value, random: &mut Random) {
    let text = bundle["dsseEnvelope"]["signatures"][0]["sig"]
        .as_str()
        .unwrap_or_default();
    let mut signature = decode(text).unwrap_or_default();
    match random.below(4) {
        0 if signature.len() == 64 => add_order(&mut signature[32..]),
        1 if signature.len() == 64 => signature[32..].fill(0),
        2 => signature.push(0),
        _ => bytes(&mut signature, &[0, 1, 2, 0x30, 0x80, 0xff], random),
    }
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = Value::String(STANDARD.encode(signature));
}

/// S + L, little-endian: the same S to whoever does not check its range.
fn add_order(s: &mut [u8]) {
    let mut order = [0; 32];
    order[..16].copy_from_slice(&0x14de_f9de_a2f7_9cd6_5812_631a_5cf5_d3ed_u128.to_le_bytes());
    order[31] = 0x10;
    let mut carry = 0;
    for (byte, add) in s.iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
}

/// Judges an image by a policy, and checks the outcome against the corpus.
pub fn judge(corpus: &Corpus, text: &str, image: &Image, given: &[Vec<u8>]) -> Result<bool, String> {
    let Ok(policy) = TrustPolicy::parse(text) else {
        return Ok(false);
    };
    let subject = Subject {
        descriptor: &image.descriptor,
        name: image.name,
        version: "1.0.0",
        asked: None,
        pinned: false,
    };
    let now = Timestamp::from_unix(NOW).unwrap();
    let Ok(accepted) = verify(&policy, &subject, given, now, None) else {
        return Ok(false);
    };
    if *accepted.image != image.descriptor {
        return Err("another image was accepted than the one judged".to_string());
    }
    let seen: Vec<Seen> = given.iter().filter_map(|bytes| see(bytes)).collect();
    good(corpus, image, &accepted, &seen)?;
    let signers: HashSet<(String, Option<String>)> = seen
        .iter()
        .filter(|seen| seen.typed)
        .filter_map(|seen| {
            let fact = corpus.facts.of(seen)?;
            let here = fact.counts && fact.image == image.descriptor.digest.to_string();
            here.then(|| (seen.fingerprint.clone(), fact.role.clone()))
        })
        .collect();
    let rule = accepted.report.rule.as_ref().ok_or("it was accepted by no rule")?;
    let required = Required::read(text, &rule.scope, &image.descriptor.digest.to_string())?;
    for (role, keys, threshold) in required.0 {
        let have: BTreeSet<&String> = keys
            .iter()
            .filter(|key| signers.contains(&((*key).clone(), role.clone())))
            .collect();
        if have.len() < threshold {
            return Err(format!("{} of {threshold} keys have signed as {role:?}", have.len()));
        }
    }
    Ok(true)
}

/// Each signature that counts must be of a bundle given, over what its key signed.
fn good(corpus: &Corpus, image: &Image, accepted: &Accepted, seen: &[Seen]) -> Result<(), String> {
    for entry in accepted
        .report
        .signatures
        .iter()
        .filter(|entry| entry.verdict == Verdict::Good)
    {
        let fingerprint = entry
            .fingerprint
            .as_deref()
            .ok_or("a key without a fingerprint counts")?;
        let role = entry.statement.as_ref().map(|statement| statement.role.clone());
        let found = seen
            .iter()
            .filter(|seen| seen.fingerprint == fingerprint && seen.typed)
            .any(|seen| {
                corpus.facts.of(seen).is_some_and(|fact| {
                    fact.counts && fact.role == role && fact.image == image.descriptor.digest.to_string()
                })
            });
        if !found {
            return Err(format!("{fingerprint} counts as {role:?} over what it has not signed"));
        }
    }
    Ok(())
}
