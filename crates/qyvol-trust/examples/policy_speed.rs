//! How long a policy takes to read and to judge by, and a chain of policies to follow.
//!
//! Arguments: how often each is done (20).
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a measurement"
)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Duration;

use qyvol_trust::{
    Envelope, KeyType, PolicyDocument, PrivateKey, SignedPolicy, Statement, Subject, TrustPolicy, verify,
};
use qyvol_types::{Descriptor, Digest, Timestamp, limits, yaml};
use rustix::time::{ClockId, clock_gettime};

const NOW: u64 = 1_800_000_000;

fn keys(count: usize, kind: KeyType) -> Vec<PrivateKey> {
    (0..count).map(|_| PrivateKey::generate(kind).unwrap()).collect()
}

/// A policy of these keys and so many rules, one of them for the file `app`.
fn policy(keys: &[PrivateKey], rules: usize, more: &str) -> String {
    let mut text = format!("version: 1\n{more}keys:\n");
    for (index, key) in keys.iter().enumerate() {
        let pem: String = key
            .public()
            .to_pem()
            .lines()
            .map(|line| format!("   {line}\n"))
            .collect();
        write!(text, " k{index}:\n  pem: |\n{pem}").unwrap();
    }
    text += "rules:\n";
    for index in 1..rules {
        let key = index % keys.len();
        writeln!(
            text,
            "- {{scope: r.x/t{index}, require: [{{role: rel, keys: [k{key}]}}]}}"
        )
        .unwrap();
    }
    let names: Vec<String> = (keys.len().saturating_sub(3)..keys.len())
        .map(|key| format!("k{key}"))
        .collect();
    let (names, threshold) = (names.join(", "), names.len());
    text + &format!("- {{scope: file:app, require: [{{role: rel, keys: [{names}], threshold: {threshold}}}]}}\n")
}

/// The least time of several.
fn least<T>(what: &str, times: usize, mut act: impl FnMut() -> T) -> Duration {
    // The thread's own time: others may use the machine.
    let now = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default();
    let time = |_| {
        let start = now();
        black_box(act());
        now() - start
    };
    let least = (0..times).map(time).min().unwrap_or_default();
    println!("{what:<44} {:>9.1} µs", least.as_secs_f64() * 1e6);
    least
}

fn main() {
    let times = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(20);
    let now = Timestamp::from_unix(NOW).unwrap();
    for kind in [KeyType::Ed25519, KeyType::EcdsaP256] {
        let keys = keys(1000, kind);
        let text = policy(&keys, 1000, "");
        println!("{kind}: 1,000 keys, 1,000 rules, {} bytes", text.len());
        least("  YAML", times, || {
            yaml::parse_within(&text, limits::POLICY_BYTES).unwrap()
        });
        least("  policy", times, || TrustPolicy::parse(&text).unwrap());
        let read = TrustPolicy::parse(&text).unwrap();
        let form = read.to_parsed_form();
        println!("  parsed form: {} bytes", form.len());
        least("  digest of the text", times, || Digest::of(text.as_bytes()));
        least("  digest of the form", times, || Digest::of(&form));
        // Kept, so that giving it back is not part of it.
        let mut kept = Vec::new();
        least("  policy from its form", times, || {
            kept.push(TrustPolicy::from_parsed_form(&form).unwrap());
        });
        least("  the same given back", times.min(kept.len()), || kept.pop());
        let image = Descriptor::of("application/vnd.oci.image.manifest.v1+json", b"an image");
        let statement = Statement {
            subject: image.digest,
            name: "app".to_string(),
            version: "1.0.0".to_string(),
            role: "rel".to_string(),
            sequence: 1,
            created: now,
            expires: None,
            critical: Vec::new(),
        };
        let signers = [997, 998, 999].map(|index| &keys[index]);
        let signatures = signers.map(|key| Envelope::sign(key, &statement).unwrap().bytes().to_vec());
        let subject = Subject {
            descriptor: &image,
            name: "app",
            version: "1.0.0",
            asked: None,
            pinned: false,
        };
        least("  verdict on 3 signatures", times, || {
            verify(&read, &subject, &signatures, now, None).unwrap()
        });
    }
    for kind in [KeyType::Ed25519, KeyType::EcdsaP256] {
        let update = "update: { keys: [k0, k1], threshold: 2 }\n";
        let keys = keys(2, kind);
        let mut lines = Vec::new();
        for serial in 1..=1024 {
            let text = policy(&keys, 80, &format!("name: fleet\nserial: {serial}\n{update}"));
            let document = PolicyDocument::parse(&text).unwrap();
            let signatures = keys.iter().map(|key| document.sign(key, now).unwrap()).collect();
            lines.push((
                text.len(),
                SignedPolicy {
                    signatures,
                    ..SignedPolicy::new(document)
                }
                .to_line()
                .unwrap(),
            ));
        }
        println!(
            "{kind}: a chain of {} policies of {} bytes, two signatures each",
            lines.len(),
            lines[1023].0
        );
        least("  read and followed", times.min(3), || {
            let mut current: Option<SignedPolicy> = None;
            for (_, line) in &lines {
                let next = SignedPolicy::parse_line(line).unwrap();
                if let Some(current) = &current {
                    next.check_follows(current.document.policy()).unwrap();
                }
                current = Some(next);
            }
        });
    }
}
