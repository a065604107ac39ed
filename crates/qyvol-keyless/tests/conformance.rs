//! sigstore-conformance's bundles, which are not copied here: each directory whose name ends in
//! `_fail` must be refused, each other one accepted. `tests/oracles/vectors` says where to get
//! them, and what came out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods, reason = "a test")]

#[path = "../../../tests/needs.rs"]
#[allow(dead_code, reason = "other suites use the rest")]
mod needs;

mod protocol;

use std::fs;
use std::path::Path;

use qyvol_types::Digest;

use needs::{installed, lacks};
use protocol::verify_bundle;

const SUBJECT: &str = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main";
const ISSUER: &str = "https://token.actions.githubusercontent.com";

#[test]
fn bundles_of_sigstores_suite_are_judged_as_it_says() {
    if lacks(&["sigstore-conformance", "root-signing"]) {
        return;
    }
    let assets = installed("sigstore-conformance").join("test/assets/bundle-verify");
    let public_good = installed("root-signing").join("targets/trusted_root.json");
    let cases = fs::read_dir(&assets).unwrap().map(|entry| entry.unwrap().path());
    let cases: Vec<_> = cases
        .filter(|path| path.join("bundle.sigstore.json").exists())
        .collect();
    assert!(cases.len() >= 70, "{}", cases.len());
    let mut wrong = Vec::new();
    for case in cases {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let mut args = args(&case, &assets, &public_good);
        let refused = name.ends_with("_fail");
        let outcome = verify_bundle(&args);
        if outcome.is_err() != refused {
            wrong.push((name.clone(), outcome.map_err(|why| why.to_string())));
        }
        // The digest in place of the file is enough where an envelope was signed.
        let artifact = args.pop().unwrap();
        args.push(Digest::of(&fs::read(artifact).unwrap()).to_string());
        match verify_bundle(&args).map_err(|why| why.to_string()) {
            Err(why) if !refused && why.contains("with the file") => {}
            outcome if outcome.is_err() == refused => {}
            outcome => wrong.push((name, outcome)),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What the suite gives a client for a directory, in its order.
fn args(case: &Path, assets: &Path, public_good: &Path) -> Vec<String> {
    let text = |name: &str, otherwise: &str| {
        fs::read_to_string(case.join(name)).map_or_else(|_| otherwise.to_string(), |text| text.trim().to_string())
    };
    let file = |name: &str, otherwise: &Path| {
        let own = case.join(name);
        let path = if own.exists() { &own } else { otherwise };
        path.to_str().unwrap().to_string()
    };
    let mut args = vec!["--bundle".to_string(), file("bundle.sigstore.json", case)];
    match case.join("key.pub").exists() {
        true => args.extend(["--key".to_string(), file("key.pub", case)]),
        false => args.extend([
            "--certificate-identity".to_string(),
            text("identity", SUBJECT),
            "--certificate-oidc-issuer".to_string(),
            text("issuer", ISSUER),
        ]),
    }
    args.extend(["--trusted-root".to_string(), file("trusted_root.json", public_good)]);
    args.push(file("artifact", &assets.join("a.txt")));
    args
}
