//! A client for sigstore-conformance: `conformance verify-bundle …` exits with 0 if the bundle is
//! accepted, and with 1 otherwise. `tests/oracles/sigstore-conformance` says how it is run.
#![allow(clippy::print_stderr, clippy::disallowed_methods)]

#[path = "../tests/protocol/mod.rs"]
mod protocol;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match args.split_first() {
        Some((verb, rest)) if verb == "verify-bundle" => protocol::verify_bundle(rest),
        _ => Err("verify-bundle is the only verb: nothing is signed here".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}
