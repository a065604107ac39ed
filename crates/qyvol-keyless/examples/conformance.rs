//! Runs sigstore-conformance's bundles through the crate: each directory whose name ends in
//! `_fail` must be refused, each other one accepted. `tests/oracles/sigstore-conformance` says
//! where to get them, and what came out.
//!
//! Arguments: the suite's `test/assets/bundle-verify`, and the public good instance's
//! `trusted_root.json`, which stands in where a directory has none of its own.
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

use qyvol_keyless::{Bundle, Content, PublicKey, TrustedRoot, verify, verify_with_key};
use qyvol_types::Digest;
use serde_json::Value;

const SUBJECT: &str = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main";
const ISSUER: &str = "https://token.actions.githubusercontent.com";

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [assets, root] = arguments.as_slice() else {
        return Err("expected the directory bundle-verify and a trusted_root.json".into());
    };
    let public_good = fs::read(root)?;
    let mut cases: Vec<_> = fs::read_dir(assets)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    cases.retain(|path| path.join("bundle.sigstore.json").exists());
    cases.sort();
    let mut wrong = 0;
    for case in &cases {
        let name = case.file_name().unwrap_or_default().to_string_lossy();
        let outcome = run(case, Path::new(assets), &public_good);
        let as_expected = outcome.is_err() == name.ends_with("_fail");
        wrong += usize::from(!as_expected);
        let mark = if as_expected { "ok   " } else { "WRONG" };
        match outcome {
            Ok(()) => println!("{mark} {name}: accepted"),
            Err(why) => println!("{mark} {name}: {why}"),
        }
    }
    println!("{} of {} as expected", cases.len() - wrong, cases.len());
    Ok(ExitCode::from(u8::from(wrong > 0)))
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
