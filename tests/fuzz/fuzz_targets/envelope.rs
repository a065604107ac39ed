//! A signature bundle, judged by a policy that knows no key and one that does.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qyvol_trust::{Envelope, Subject, TrustPolicy, verify};
use qyvol_types::{Descriptor, Timestamp};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(envelope) = Envelope::parse(bytes) {
        let _ = (envelope.pae(), envelope.hinted_fingerprint());
    }
    let descriptor = Descriptor::of("x", b"x");
    let subject = Subject { descriptor: &descriptor, name: "x", version: "1", asked: None, pinned: false };
    let refused = verify(&TrustPolicy::reject_all(), &subject, &[bytes.to_vec()], Timestamp::EPOCH, None);
    assert!(refused.is_err());
});
