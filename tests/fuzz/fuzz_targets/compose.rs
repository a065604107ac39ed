//! A component: its WIT and functions, and as the part of a composition whose imports stay.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // As a build does it: what is not valid never gets there.
    if qyvol_image::Payload::read(bytes).is_err() {
        return;
    }
    let _ = (qyvol_compose::wit(bytes), qyvol_image::functions(bytes));
    let mut composition = qyvol_compose::Composition::default();
    if let Ok(part) = composition.add("part", bytes) {
        let _ = composition.add("again", bytes);
        let _ = composition.export_all(part);
        let _ = composition.encode();
    }
});
