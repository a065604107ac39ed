//! What other tools have published: a manifest or index, and a layer of files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qyvol_image::{Wanted, find_wasm};
use qyvol_types::foreign::{Compression, ForeignManifest, MANIFEST_TYPES};

fuzz_target!(|bytes: &[u8]| {
    for kind in MANIFEST_TYPES {
        let _ = ForeignManifest::parse(bytes, kind);
    }
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let _ = find_wasm(bytes, compression, &Wanted::Any(&["a.wasm".to_string()]), 9);
        let _ = find_wasm(bytes, compression, &Wanted::Path("app.wasm"), 9);
    }
});
