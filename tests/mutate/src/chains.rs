//! Chains of policies: whoever follows one comes to its documents, in their order, whatever is
//! cut, repeated, mixed or forged with one of the keys that must sign.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qyvol_trust::{PolicyDocument, SignedPolicy};
use qyvol_types::Timestamp;
use serde_json::{Value, json};

use crate::Outcome;
use crate::corpus::{Corpus, Key, NOW, stolen_update_key};
use crate::facts::see;
use crate::mutation::{bytes, text, tree, written};
use crate::random::Random;

const WORDS: &[&str] = &[
    "fleet",
    "other",
    "u0",
    "u1",
    "u2",
    "u3",
    "u4",
    "threshold",
    "1",
    "2",
    "3",
    "4",
    "5",
    "6",
    "keys",
    "serial",
    "name",
    "update",
    "revoked",
];

pub fn case(corpus: &Corpus, random: &mut Random) -> Outcome {
    let at = random.below(corpus.chains.len());
    let (chain, foreign) = (&corpus.chains[at], &corpus.chains[1 - at]);
    let stolen = stolen_update_key();
    let start = random.below(3);
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for index in start + 1..chain.len() {
        let line = match random.below(10) {
            0 => foreign[index].1.clone(),
            1 => random.pick(chain).1.clone(),
            _ => chain[index].1.clone(),
        };
        match random.below(8) {
            0 => lines.push(altered(line, &random.pick(foreign).1, random)),
            1 => lines.push(forged(&line, corpus.thief(), &stolen, random)),
            // Cut, twice, or as it is.
            2 => {}
            3 => lines.extend([line.to_string().into_bytes(), line.to_string().into_bytes()]),
            _ => lines.push(line.to_string().into_bytes()),
        }
    }
    if random.once_in(6) && lines.len() > 1 {
        let (one, other) = (random.below(lines.len()), random.below(lines.len()));
        lines.swap(one, other);
    }
    let shown: Vec<_> = lines.iter().map(|line| String::from_utf8_lossy(line)).collect();
    Outcome {
        input: format!("from serial {}\n{}", start + 1, shown.join("\n")),
        accepted: follow(chain, start, &lines),
    }
}

fn altered(mut line: Value, donor: &Value, random: &mut Random) -> Vec<u8> {
    for _ in 0..1 + random.below(2) {
        if random.once_in(2) && line.is_object() {
            let policy = line["policy"].as_str().unwrap_or_default().to_string();
            line["policy"] = json!(text(
                &policy,
                donor["policy"].as_str().unwrap_or_default(),
                WORDS,
                random
            ));
        } else {
            tree(&mut line, donor, random);
        }
    }
    let mut out = written(&line, random);
    if random.once_in(4) {
        bytes(&mut out, donor.to_string().as_bytes(), random);
    }
    out
}

/// Another policy, which the attacker has signed with the one key of its update that was
/// stolen, and with another; some of the good signatures stay.
fn forged(line: &Value, thief: &Key, stolen: &Key, random: &mut Random) -> Vec<u8> {
    let mut policy = line["policy"].as_str().unwrap_or_default().to_string();
    for _ in 0..1 + random.below(3) {
        policy = text(&policy, &thief.entry(""), WORDS, random);
    }
    let Ok(document) = PolicyDocument::parse(&policy) else {
        return line.to_string().into_bytes();
    };
    let now = Timestamp::from_unix(NOW).unwrap();
    let mut signatures = line["signatures"].as_array().cloned().unwrap_or_default();
    signatures.truncate(random.below(signatures.len() + 1));
    for key in [thief, stolen] {
        for _ in 0..random.below(3) {
            let envelope = document.sign(&key.private, now).unwrap();
            signatures.push(json!(String::from_utf8_lossy(envelope.bytes())));
        }
    }
    let fresh = document.sign_fresh(&thief.private, now).unwrap();
    let fresh = String::from_utf8_lossy(fresh.bytes()).into_owned();
    let line = json!({ "policy": policy, "signatures": signatures, "fresh": fresh });
    line.to_string().into_bytes()
}

/// Follows the documents that continue the chain. Returns whether there were any.
fn follow(chain: &[(String, Value)], start: usize, lines: &[Vec<u8>]) -> Result<bool, String> {
    let now = Timestamp::from_unix(NOW).unwrap();
    let mut current = PolicyDocument::parse(&chain[start].0).unwrap();
    let mut place = start;
    for line in lines {
        let Ok(next) = SignedPolicy::parse_line(line) else {
            continue;
        };
        if next.check_follows(current.policy()).is_err() {
            continue;
        }
        place += 1;
        if chain.get(place).is_none_or(|(text, _)| text != next.document.text()) {
            return Err(format!("serial {} was followed to another document", place));
        }
        let fresh = next.fresh.as_ref().and_then(|fresh| see(fresh.bytes()));
        let own = chain[place].1["fresh"].as_str().and_then(|fresh| see(fresh.as_bytes()));
        if next.fresh_at(now).is_some() {
            let (fresh, own) = (fresh.ok_or("no statement")?, own.ok_or("no statement")?);
            if fresh.payload != own.payload || fresh.fingerprint != own.fingerprint || !fresh.typed {
                let payload = STANDARD.encode(&fresh.payload);
                return Err(format!(
                    "another statement that serial {} is the newest: {payload}",
                    place + 1
                ));
            }
        }
        current = next.document;
    }
    Ok(place > start)
}
