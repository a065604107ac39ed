//! Strict JSON, and the manifest and config decoded from it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qyvol_types::{ImageConfig, ImageManifest, json};

fuzz_target!(|bytes: &[u8]| {
    let _ = json::check(bytes);
    if let Ok(manifest) = ImageManifest::parse(bytes.to_vec()) {
        assert_eq!(manifest.raw(), bytes);
    }
    if let Ok(config) = ImageConfig::parse(bytes) {
        let encoded = config.encode().unwrap_or_default();
        assert!(ImageConfig::parse(&encoded).is_ok_and(|again| again == config));
    }
});
