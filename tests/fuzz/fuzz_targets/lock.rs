//! A `qyv.lock`: read, and written again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(lock) = qyvol_types::Lock::parse_yaml(text) {
        let again = qyvol_types::Lock::parse_yaml(&lock.to_yaml());
        assert!(again.is_ok_and(|again| again == lock));
    }
});
