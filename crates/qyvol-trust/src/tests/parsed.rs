//! The parsed form of policies, and policies as large as they may be.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::key;
use crate::{KeyType, PrivateKey, TrustPolicy};

/// What is chosen next, of so many.
struct Choices(std::vec::IntoIter<u8>);

impl Choices {
    fn of(&mut self, count: usize) -> usize {
        usize::from(self.0.next().unwrap_or(0)) % count
    }

    /// One of some lines, or none.
    fn line<'t>(&mut self, lines: &[&'t str]) -> &'t str {
        lines.get(self.of(lines.len() + 1)).copied().unwrap_or("")
    }
}

fn pem(key: &PrivateKey) -> String {
    key.public().to_pem().lines().map(|l| format!("      {l}\n")).collect()
}

/// A policy of every kind of key and condition, as the choices have it.
fn policy(choices: &mut Choices) -> String {
    let mut text = format!("version: 1\nserial: {}\n", 1 + choices.of(5));
    text += choices.line(&["development: deny\n", "default: reject\n"]);
    text += choices.line(&["expires: 2030-01-01\n"]);
    text += "roots:\n  public: { file: root.json, digest: \"sha256:";
    text += &"0".repeat(64);
    text += "\" }\nidentities:\n  ci:\n    root: public\n    issuer: https://issuer.example\n";
    text += choices.line(&[
        "    subject: ana@example.com\n",
        "    subject: https://github.com/acme/app/w.yml@refs/tags/*\n    repository_id: 7\n    owner_id: \"42\"\n",
    ]);
    if !text.ends_with("subject: ana@example.com\n") && !text.contains("owner_id") {
        text += "    subject: eva@example.com\n";
    }
    text += "keys:\n";
    let keys = 1 + choices.of(4);
    for index in 0..keys {
        let kind = [KeyType::Ed25519, KeyType::EcdsaP256][choices.of(2)];
        let key = PrivateKey::generate(kind).unwrap();
        write!(text, "  k{index}:\n    pem: |\n{}", pem(&key)).unwrap();
        if index > 0 {
            text += choices.line(&["    from: 2026-01-01\n", "    until: 2027-01-01T12:00:00Z\n"]);
            text += choices.line(&["    unchecked: true\n"]);
        }
    }
    let zeros = format!("sha256:{}", "0".repeat(64));
    let keep = format!("revoked: {{ keys: [{{ key: k0, keep: [\"{zeros}\"] }}, ci], images: [\"{zeros}\"] }}\n");
    text += choices.line(&["revoked: { keys: [k0] }\n", &keep]);
    text += choices.line(&["floors: { acme/app: 1.4.2, tool: \"2.0\" }\n"]);
    text += choices.line(&[
        "name: fleet\nupdate: { keys: [k0] }\n",
        "name: fleet\nupdate: { keys: [k0], threshold: 1, from: r.example/policy, freshness: [k0], max_lag: 3d }\n",
    ]);
    text += "rules:\n";
    for index in 0..1 + choices.of(4) {
        let registry = choices.of(3) > 0;
        let scope = match registry {
            true => format!("r.example/t{index}/**"),
            false => format!("\"file:t{index}\""),
        };
        let key = choices.of(keys);
        writeln!(text, "  - scope: {scope}\n    require:").unwrap();
        writeln!(
            text,
            "      - {{ role: release, keys: [k{key}, ci], threshold: {} }}",
            1 + choices.of(2)
        )
        .unwrap();
        text += choices.line(&["      - { form: cosign, role: x, keys: [ci] }\n"]);
        text += choices.line(&[
            "    identity: any\n",
            "    identity: repository\n",
            "    identity: exact\n",
        ]);
        if registry {
            text += choices.line(&["    names: full\n"]);
            text += choices.line(&[
                "    remap: { prefix: r.example/hub }\n",
                "    remap: { prefix: r.example, signed: acme }\n",
            ]);
        }
        text += choices.line(&["    max_age: 90d\n"]);
        text += choices.line(&["    rollback: deny\n"]);
        text += choices.line(&[
            "    attest: [{ type: https://cyclonedx.org/bom, keys: [k0] }]\n",
            "    attest: [{ type: \"https://slsa.dev/*\", keys: [ci, k0], builder: b, source: s, ref: refs/* }]\n",
        ]);
        text += choices.line(&[
            "    allow: sandbox\n",
            "    allow: full\n",
            "    allow: { fs: { read: [/a], write: [/b, /c] }, env: [A, \"B*\"], stdio: [stdout], args: fixed }\n",
            "    allow: { fs: read, net: { connect: [\"a.example:443\", \"[::1]:*\"], listen: [\"0.0.0.0:80\"] } }\n",
            "    allow: { net: { connect: [\"*.b.example:*\", \"10.0.0.0/8:1\"] }, exec: [/bin/x], env: fixed, stdio: none }\n",
        ]);
        text += choices.line(&["    limits: { memory: 64MiB, timeout: 1m, cpu: 2s, fuel: 7, files: 3 }\n"]);
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    // [SIGN-049]
    #[test]
    fn parsed_form_of_any_policy_is_read_back_as_the_same_policy(choices in prop::collection::vec(any::<u8>(), 120)) {
        let text = policy(&mut Choices(choices.into_iter()));
        let policy = TrustPolicy::parse(&text).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        let form = policy.to_parsed_form();
        prop_assert_eq!(TrustPolicy::from_parsed_form(&form).unwrap(), policy);
        prop_assert!(TrustPolicy::from_parsed_form(&form[..form.len() - 1]).is_none());
        prop_assert!(TrustPolicy::from_parsed_form(&[&form[..], &[0]].concat()).is_none());
    }

    // [SIGN-049]
    #[test]
    fn altered_or_arbitrary_form_is_read_within_its_bounds(
        choices in prop::collection::vec(any::<u8>(), 120),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        other in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let text = policy(&mut Choices(choices.into_iter()));
        let mut form = TrustPolicy::parse(&text).unwrap().to_parsed_form();
        for (at, byte) in edits {
            let at = at.index(form.len());
            form[at] = byte;
        }
        // Some are policies: what vouches for them is the store's key.
        let _ = TrustPolicy::from_parsed_form(&form);
        let _ = TrustPolicy::from_parsed_form(&other);
    }
}

/// A policy of so many P-256 keys and rules with every condition.
fn large(count: usize) -> String {
    let mut text = "version: 1\nserial: 1\nkeys:\n".to_string();
    for index in 0..count {
        let key = PrivateKey::generate(KeyType::EcdsaP256).unwrap();
        write!(text, "  team-{index}-release:\n    pem: |\n{}", pem(&key)).unwrap();
        text += "    from: 2026-01-01\n    until: 2027-01-01\n";
    }
    text += "rules:\n";
    for index in 0..count {
        let name = |offset: usize| format!("team-{}-release", (index + offset) % count);
        let [a, b, c] = [name(0), name(1), name(2)];
        write!(
            text,
            "  - scope: registry.example/department/team-{index}/**
    require:
      - {{ role: release, keys: [{a}, {b}, {c}], threshold: 2 }}
      - {{ role: approve, keys: [{b}, {c}], threshold: 1 }}
    identity: repository
    rollback: deny
    names: full
    remap: {{ prefix: registry.example/department, signed: team }}
    max_age: 90d
    attest:
      - type: https://slsa.dev/provenance/v1
        keys: [{a}]
        builder: https://qyvol.dev/builder/ci-env/v1
        source: https://github.com/acme/*
        ref: refs/tags/v*
      - {{ type: https://cyclonedx.org/bom, keys: [{a}, {b}] }}
    allow:
      fs: {{ read: [/data], write: [/tmp] }}
      net: {{ connect: [\"api.example.com:443\", \"db-{index}.example.com:5432\", \"10.0.0.0/8:*\"] }}
      env: [LOG_LEVEL, \"APP_*\"]
    limits: {{ memory: 256MiB, timeout: 1m, cpu: 30s, fuel: 1000000, storage: 1GiB, output: 1MiB, files: 100, sockets: 10 }}
"
        )
        .unwrap();
    }
    text
}

// [SIGN-049] [SIGN-059]
#[test]
fn thousand_keys_and_rules_with_every_condition_fit_into_a_policy() {
    let text = large(1000);
    let policy = TrustPolicy::parse(&text).unwrap();
    let form = policy.to_parsed_form();
    assert!(form.len() as u64 <= qyvol_types::limits::PARSED_POLICY_BYTES);
    assert_eq!(TrustPolicy::from_parsed_form(&form), Some(policy));
    println!("{} bytes of text, {} of the parsed form", text.len(), form.len());
}

fn refused(text: &str) -> Vec<String> {
    let problems = TrustPolicy::parse(text).unwrap_err();
    problems.0.iter().map(ToString::to_string).collect()
}

// [SIGN-059]
#[test]
fn hostile_policy_is_refused_within_its_bounds() {
    const BYTES: usize = 2 << 20;
    let pem = pem(&key());
    let head = format!("version: 1\nkeys:\n  a:\n    pem: |\n{pem}");
    let mut past = "#".repeat(BYTES);
    past.push('\n');
    for (text, why) in [
        (past, "at most 2097152 are read"),
        ("[".repeat(BYTES), ""),
        ("- ".repeat(BYTES / 2), ""),
        (format!("a: [{}]\n", "x,".repeat(BYTES / 2 - 8)), "more than 262144"),
        (format!("{head}rules: &a [*a, *a]\n"), "anchors are not allowed"),
        // Each name is looked for among the known ones, and each problem's line in the text.
        (
            format!(
                "{head}rules:\n- scope: r.x/a\n  require:\n  - role: r\n    keys:\n{}",
                "    - b\n".repeat(200_000)
            ),
            "there is no key `b`",
        ),
        (
            format!("{head}revoked:\n  keys:\n{}", "  - b\n".repeat(200_000)),
            "neither a key of this policy nor a fingerprint",
        ),
        (
            format!(
                "version: 1\nroots: {{ r: {{ file: f, digest: \"sha256:{}\" }} }}\nidentities:\n{}",
                "0".repeat(64),
                (0..15_000)
                    .map(|n| format!(" i{n}: {{root: r, issuer: \"a://\", subject: s{n}}}\n"))
                    .collect::<String>()
            ),
            "more than 1000",
        ),
        (
            format!(
                "{head}rules:\n- scope: r.x/a\n  require: [{{ role: r, keys: [{}] }}]\n",
                "a".repeat(1 << 20)
            ),
            "there is no key",
        ),
    ] {
        assert!(text.len() <= BYTES + 1);
        let told = refused(&text);
        // The last one says how many more there are.
        assert!(told.len() <= 101, "{} problems", told.len());
        let start: String = text.chars().take(20).collect();
        assert!(told.iter().any(|told| told.contains(why)), "{start}: {}", told[0]);
    }
}
