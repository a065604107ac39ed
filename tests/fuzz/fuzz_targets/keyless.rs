//! A trusted root and a bundle, with a zero byte between them: read, and judged.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qyvol_keyless::{Bundle, TrustedRoot, claimed, verify};

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let (Some(root), Some(bundle)) = (parts.next(), parts.next()) else {
        return;
    };
    let Ok(bundle) = Bundle::parse(bundle) else { return };
    let _ = claimed(&bundle);
    if let Ok(root) = TrustedRoot::parse(root) {
        let _ = verify(&bundle, &root, None);
        let _ = verify(&bundle, &root, Some(b"a file"));
    }
});
