//! What a large trust policy adds to a warm run.

use std::fs;
use std::time::Duration;

use super::measure::{Side, Times, interleaved};
use super::rows::{Example, nothing, reached, shown, utf8};
use super::{Bench, Row};

/// Rules and keys of the large policy.
const MANY: usize = 1000;
/// Keys that have signed, all of which its rule asks for.
const SIGNERS: [&str; 3] = ["policy-a", "policy-b", "policy-c"];
/// Milliseconds that it may add.
const LIMIT: f64 = 1.0;

/// A key as it stands in a policy.
pub(super) fn entry(name: &str, pem: &str) -> String {
    let pem: String = pem.lines().map(|line| format!("      {line}\n")).collect();
    format!("  {name}:\n    pem: |\n{pem}")
}

/// An Ed25519 public key without a private key: RFC 8410's, with a number in its point.
fn made_up(number: usize) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits: String = [12, 6, 0]
        .map(|shift| char::from(DIGITS[number >> shift & 63]))
        .into_iter()
        .collect();
    format!(
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA{digits}j3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w=\n-----END PUBLIC KEY-----\n"
    )
}

pub(super) fn warm(bench: &Bench) -> Result<Vec<Row>, String> {
    let file = bench.pack(&Example::hello()?.directory, "policy.qyvbin")?;
    let file = utf8(&file)?;
    let mut keys = Vec::new();
    for name in SIGNERS {
        if bench.qyv(&["keys", "export", name]).check().is_err() {
            bench.qyv(&["keys", "generate", name]).check()?;
        }
        bench.qyv(&["sign", file, "--key", name]).check()?;
        keys.push((name, bench.qyv(&["keys", "export", name]).check()?));
    }
    let mut one = "version: 1\nserial: 1\nkeys:\n".to_string();
    one += &entry(keys[0].0, &keys[0].1);
    one += &format!(
        "rules:\n  - scope: \"file:\"\n    require: [{{ role: release, keys: [{}] }}]\n",
        SIGNERS[0]
    );
    let mut many = "version: 1\nserial: 1\nkeys:\n".to_string();
    for (name, pem) in &keys {
        many += &entry(name, pem);
    }
    for number in keys.len()..MANY {
        many += &entry(&format!("team-{number}"), &made_up(number));
    }
    many += "rules:\n";
    for number in 1..MANY {
        let key = keys.len() + number % (MANY - keys.len());
        many += &format!(
            "  - scope: registry.example/team-{number}/**\n    require: [{{ role: release, keys: [team-{key}], threshold: 1 }}]\n"
        );
    }
    many += &format!(
        "  - scope: \"file:\"\n    require: [{{ role: release, keys: [{}], threshold: 3 }}]\n",
        SIGNERS.join(", ")
    );
    let write = |name: &str, text: &str| {
        let path = bench.home().join(name);
        let written = fs::write(&path, text);
        written.map_err(|e| format!("writing {}: {e}", path.display()))?;
        Ok::<_, String>(path)
    };
    let bytes = many.len() / 1000;
    let (one, many) = (write("policy-one.yaml", &one)?, write("policy-many.yaml", &many)?);
    let run = |policy: &str| bench.qyv(&["run", "--policy", policy, file]);
    let (ours, peer) = (run(utf8(&many)?), run(utf8(&one)?));
    let side = |run| Side {
        before: &nothing,
        runs: std::slice::from_ref(run),
    };
    let [ours, peer] = interleaved(bench.runs, [side(&ours), side(&peer)])?;
    let more = |of: fn(&Times) -> Duration| (of(&ours).as_secs_f64() - of(&peer).as_secs_f64()) * 1e3;
    let (median, least) = (more(Times::median), more(Times::min));
    Ok(vec![Row {
        what: format!("warm run of hello by a policy of {MANY} rules, {MANY} keys ({bytes} kB) and 3 signatures"),
        ours: shown(&ours),
        peer: format!("{} by one rule and one signature", shown(&peer)),
        ratio: format!("+{median:.2} ms (+{least:.2})"),
        to_reach: format!("+{LIMIT} ms"),
        verdict: reached(median <= LIMIT),
    }])
}
