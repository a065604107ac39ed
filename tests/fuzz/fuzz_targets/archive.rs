//! A whole `.qyvbin`: opened, then all of its content read.
#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;
use qyvol_image::Archive;
use qyvol_store::NoopReporter;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut file) = tempfile::NamedTempFile::new() else { return };
    if file.write_all(bytes).is_err() {
        return;
    }
    if let Ok(archive) = Archive::open(file.path()) {
        let _ = archive.check_content(&NoopReporter);
    }
});
