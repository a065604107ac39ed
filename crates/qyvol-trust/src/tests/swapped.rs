//! Each kind of statement counts where it is meant to, and nowhere else.

use serde_json::json;

use super::*;
use crate::{Attestation, PolicyDocument, SignedPolicy, verify_attested};

const SBOM: &str = "https://cyclonedx.org/bom";

/// Where a statement may count, and the kind that counts there.
const PLACES: [&str; 5] = ["release", "cosign", "attestation", "policy", "freshness"];

/// One key signs a statement of each kind over one digest, which is that of an image and of a
/// policy document alike: nothing but the kind tells them apart.
struct Swapped {
    key: PrivateKey,
    current: PolicyDocument,
    next: PolicyDocument,
    image: Descriptor,
}

impl Swapped {
    fn new() -> Swapped {
        let key = PrivateKey::generate(KeyType::EcdsaP256).unwrap();
        let document = |serial: u64| {
            let policy = policy_text(&[&key], 1).replacen("version: 1\n", "", 1);
            let update = "update: { keys: [k0], threshold: 1, freshness: [k0], max_lag: 7d }\n";
            PolicyDocument::parse(&format!(
                "version: 1\nname: acme/app\nserial: {serial}\n{policy}{update}"
            ))
            .unwrap()
        };
        let next = document(5);
        let image = Descriptor {
            digest: next.digest(),
            ..image()
        };
        Swapped {
            current: document(4),
            next,
            image,
            key,
        }
    }

    fn statement_of(&self, kind: &str) -> Envelope {
        let now = Timestamp::from_unix(NOW).unwrap();
        match kind {
            "release" => {
                let statement = Statement {
                    subject: self.image.digest,
                    ..statement()
                };
                Envelope::sign(&self.key, &statement).unwrap()
            }
            "cosign" => {
                let payload = json!({
                    "_type": "https://in-toto.io/Statement/v1",
                    "subject": [{ "digest": { "sha256": self.image.digest.hex() } }],
                    "predicateType": "https://sigstore.dev/cosign/sign/v1",
                    "predicate": {},
                });
                Envelope::seal(&self.key, payload.to_string().into_bytes()).unwrap()
            }
            "attestation" => {
                let attestation = Attestation {
                    subject: self.image.digest,
                    name: "acme/app".to_string(),
                    predicate_type: SBOM.to_string(),
                    predicate: b"{}".to_vec(),
                };
                Envelope::attest(&self.key, &attestation).unwrap()
            }
            "policy" => self.next.sign(&self.key, now).unwrap(),
            _ => self.next.sign_fresh(&self.key, now).unwrap(),
        }
    }

    fn counts(&self, statement: &Envelope, place: &str) -> bool {
        let now = Timestamp::from_unix(NOW).unwrap();
        let bundle = statement.bytes().to_vec();
        let text = policy_text(&[&self.key], 1);
        let judged = |text: &str, signatures: &[Vec<u8>], attestations: &[Vec<u8>]| {
            let policy = TrustPolicy::parse(text).unwrap();
            verify_attested(
                &policy,
                &subject(&self.image, None),
                signatures,
                attestations,
                now,
                None,
            )
            .is_ok()
        };
        match place {
            "release" => judged(&text, std::slice::from_ref(&bundle), std::slice::from_ref(&bundle)),
            "cosign" => judged(
                &text.replace("{ role", "{ form: cosign, role"),
                std::slice::from_ref(&bundle),
                std::slice::from_ref(&bundle),
            ),
            "attestation" => {
                let asked = format!("{text}    attest: [{{ type: {SBOM}, keys: [k0] }}]\n");
                let release = self.statement_of("release").bytes().to_vec();
                judged(&asked, &[release, bundle.clone()], &[bundle])
            }
            "policy" => {
                let signed = SignedPolicy {
                    signatures: vec![statement.clone()],
                    ..SignedPolicy::new(self.next.clone())
                };
                signed.check_follows(self.current.policy()).is_ok()
            }
            _ => {
                let signed = SignedPolicy {
                    fresh: Some(statement.clone()),
                    ..SignedPolicy::new(self.next.clone())
                };
                signed.fresh_at(now).is_some()
            }
        }
    }
}

// [SIGN-012] [SIGN-038] [SIGN-041] [SIGN-061]
#[test]
fn statement_counts_in_its_own_place_alone() {
    let swapped = Swapped::new();
    for kind in PLACES {
        let statement = swapped.statement_of(kind);
        for place in PLACES {
            assert_eq!(swapped.counts(&statement, place), kind == place, "{kind} as {place}");
        }
    }
}
