//! A `trust.yaml`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qyvol_trust::TrustPolicy;

fuzz_target!(|text: &str| {
    match TrustPolicy::parse(text) {
        Ok(policy) => drop(policy.describe()),
        Err(problems) => {
            for problem in problems.0 {
                let _ = problem.snippet();
            }
        }
    }
});
