//! Policies: what is accepted under an altered policy has been signed by those whom another
//! YAML reader finds in it.

use qyvol_trust::PublicKey;
use qyvol_types::Timestamp;
use serde_yaml::Value;

use crate::Outcome;
use crate::bundles::judge;
use crate::corpus::{Corpus, NOW};
use crate::mutation::text;
use crate::random::Random;

const WORDS: &[&str] = &[
    "one",
    "two",
    "approver",
    "stolen",
    "expired",
    "thief",
    "release",
    "approve",
    "cosign",
    "qyvol",
    "form",
    "role",
    "keys",
    "threshold",
    "scope",
    "require",
    "revoked",
    "images",
    "rules",
    "identity",
    "until",
    "from",
    "pem",
    "file:",
    "file:a",
    "file:b",
    "file:*",
    "**",
    "exact",
    "any",
    "1",
    "2",
    "3",
    "0",
    "null",
    "yes",
];

pub fn case(corpus: &Corpus, random: &mut Random) -> Outcome {
    let mut policy = random.pick(&corpus.policies).clone();
    for _ in 0..1 + random.below(3) {
        let donor = match random.below(3) {
            0 => corpus.thief().entry(""),
            _ => random.pick(&corpus.policies).clone(),
        };
        policy = text(&policy, &donor, WORDS, random);
    }
    let at = random.below(corpus.images.len());
    let image = &corpus.images[at];
    let given: Vec<Vec<u8>> = (0..random.below(16))
        .map(|_| corpus.bundle(at, random).to_string().into_bytes())
        .collect();
    Outcome {
        input: format!(
            "{policy}\n{} {}\n{} bundles",
            image.name,
            image.descriptor.digest,
            given.len()
        ),
        accepted: judge(corpus, &policy, image, &given),
    }
}

/// What a rule asks for: a role (none in cosign's form), the fingerprints that count for the
/// image, and how many of them.
pub struct Required(pub Vec<(Option<String>, Vec<String>, usize)>);

impl Required {
    /// Reads the rule of a scope by another YAML reader.
    pub fn read(text: &str, scope: &str, image: &str) -> Result<Required, String> {
        let policy: Value = serde_yaml::from_str(text).map_err(|why| format!("another YAML reader: {why}"))?;
        let rules = policy["rules"]
            .as_sequence()
            .ok_or("another YAML reader finds no rules")?;
        let mut of_scope = rules.iter().filter(|rule| rule["scope"].as_str() == Some(scope));
        let rule = of_scope.next().ok_or("another YAML reader finds no such rule")?;
        let revoked = |list: &str, name: &str| {
            let mut items = policy["revoked"][list].as_sequence().into_iter().flatten();
            items.any(|item| match item.as_str() {
                Some(text) => text == name,
                None => {
                    let keep = item["keep"].as_sequence();
                    let kept = keep.is_some_and(|keep| keep.iter().any(|digest| digest.as_str() == Some(image)));
                    item["key"].as_str() == Some(name) && !kept
                }
            })
        };
        if revoked("images", image) {
            return Err("another YAML reader finds the image revoked".to_string());
        }
        let require = rule["require"]
            .as_sequence()
            .ok_or("another YAML reader finds nothing required")?;
        let requirement = |item: &Value| {
            let names = item["keys"]
                .as_sequence()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str);
            let counting = names.filter_map(|name| {
                let key = &policy["keys"][name];
                let public = PublicKey::from_pem(key["pem"].as_str()?).ok()?;
                let counts = in_time(key) && !revoked("keys", name) && !revoked("keys", &public.fingerprint());
                counts.then(|| public.fingerprint())
            });
            let role = match item["form"].as_str() {
                Some("cosign") => None,
                _ => item["role"].as_str().map(str::to_string),
            };
            (
                role,
                counting.collect(),
                item["threshold"].as_u64().unwrap_or(1) as usize,
            )
        };
        if require.is_empty() {
            return Err("another YAML reader finds an empty `require`".to_string());
        }
        Ok(Required(require.iter().map(requirement).collect()))
    }
}

fn in_time(key: &Value) -> bool {
    let now = Timestamp::from_unix(NOW).unwrap();
    let time = |name: &str| key[name].as_str().map(|text| text.parse::<Timestamp>());
    let from = time("from").is_none_or(|from| from.is_ok_and(|from| from <= now));
    from && time("until").is_none_or(|until| until.is_ok_and(|until| until > now))
}
