//! A component or core module, looked into.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = qyvol_image::Payload::read(bytes);
});
