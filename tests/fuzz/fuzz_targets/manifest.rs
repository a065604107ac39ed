//! A `.qyv`: read, and its problems shown.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match qyvol_sandbox::parse_app_manifest(text) {
        Ok(app) => {
            // What was read goes into a config and comes back.
            let bytes = qyvol_types::json::encode(&app).unwrap_or_default();
            let again: Result<qyvol_types::AppManifest, _> = qyvol_types::json::decode(&bytes);
            assert!(again.is_ok_and(|again| again.name == app.name && again.env == app.env));
        }
        Err(problems) => {
            for problem in problems.0 {
                let _ = (problem.snippet(), problem.to_string());
            }
        }
    }
});
