//! What servers of remote files answer: a page of S3, its errors, a multistatus of WebDAV,
//! and the headers and dates that go with a file.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| qyvol_netfs::fuzzing::read_answer(text));
