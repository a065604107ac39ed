//! sigstore-conformance's bundles, which are not copied here: each directory whose name ends in
//! `_fail` must be refused, each other one accepted. `tests/oracles/vectors` says where to get
//! them, and what came out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods, reason = "a test")]

#[path = "../../../tests/needs.rs"]
#[allow(dead_code, reason = "other suites use the rest")]
mod needs;

use std::error::Error;
use std::fs;
use std::path::Path;

use qyvol_keyless::{Bundle, Content, PublicKey, TrustedRoot, verify, verify_with_key};
use qyvol_types::Digest;
use serde_json::Value;

use needs::{installed, lacks};

const SUBJECT: &str = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main";
const ISSUER: &str = "https://token.actions.githubusercontent.com";

#[test]
fn bundles_of_sigstores_suite_are_judged_as_it_says() {
    if lacks(&["sigstore-conformance", "root-signing"]) {
        return;
    }
    let assets = installed("sigstore-conformance").join("test/assets/bundle-verify");
    let public_good = fs::read(installed("root-signing").join("targets/trusted_root.json")).unwrap();
    let cases = fs::read_dir(&assets).unwrap().map(|entry| entry.unwrap().path());
    let cases: Vec<_> = cases
        .filter(|path| path.join("bundle.sigstore.json").exists())
        .collect();
    assert!(cases.len() >= 70, "{}", cases.len());
    let mut wrong = Vec::new();
    for case in cases {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let outcome = run(&case, &assets, &public_good);
        if outcome.is_err() != name.ends_with("_fail") {
            wrong.push((name, outcome.map_err(|why| why.to_string())));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn run(case: &Path, assets: &Path, public_good: &[u8]) -> Result<(), Box<dyn Error>> {
    let text = |name: &str, otherwise: &str| {
        fs::read_to_string(case.join(name)).map_or_else(|_| otherwise.to_string(), |text| text.trim().to_string())
    };
    let own_root = fs::read(case.join("trusted_root.json"));
    let root = TrustedRoot::parse(own_root.as_deref().unwrap_or(public_good))?;
    let artifact = fs::read(case.join("artifact")).or_else(|_| fs::read(assets.join("a.txt")))?;
    let bundle = Bundle::parse(&fs::read(case.join("bundle.sigstore.json"))?)?;
    let file = match bundle.content() {
        Content::File { .. } => Some(artifact.as_slice()),
        Content::Envelope { .. } => None,
    };
    match fs::read_to_string(case.join("key.pub")) {
        Ok(pem) => {
            verify_with_key(&bundle, &root, &PublicKey::from_pem(&pem)?, file)?;
        }
        Err(_) => {
            let found = verify(&bundle, &root, file)?.identity;
            if found.subject != text("identity", SUBJECT) || found.issuer != text("issuer", ISSUER) {
                return Err(format!("signed by {} of {}", found.subject, found.issuer).into());
            }
        }
    }
    let Content::Envelope { payload, .. } = bundle.content() else {
        return Ok(());
    };
    let statement: Value = serde_json::from_slice(payload)?;
    let digest = Digest::of(&artifact).hex();
    let subjects = statement["subject"].as_array().ok_or("no subjects")?;
    match subjects.iter().any(|subject| subject["digest"]["sha256"] == digest) {
        true => Ok(()),
        false => Err("the statement is about other files".into()),
    }
}
