//! Where the secret half of a key does not stay, and does not show.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;

use super::*;

/// What this process has in memory at an address, which it may have given back.
fn memory(file: &File, at: usize, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, at as u64).unwrap();
    bytes
}

/// Whether a part of a secret is among some bytes: the allocator writes over the first ones of
/// what it is given back.
fn shows(bytes: &[u8], secret: &[u8]) -> bool {
    secret
        .windows(12)
        .any(|part| bytes.windows(12).any(|window| window == part))
}

// [CMD-004]
#[test]
fn memory_that_held_a_private_key_is_wiped_when_it_is_given_back() {
    let file = File::open("/proc/self/mem").unwrap();
    for kind in [KeyType::Ed25519, KeyType::EcdsaP256] {
        let key = key_of(kind);
        let (pem, encrypted) = (key.to_pem(), key.to_encrypted_pem("passphrase").unwrap());
        let text = pem.to_string().into_bytes();
        let body = &text[28..text.len() - 28];
        let at = pem.as_ptr() as usize;
        assert!(shows(&memory(&file, at, text.len()), body));
        drop(pem);
        assert!(!shows(&memory(&file, at, text.len()), body), "{kind:?}: PEM");
        let read = PrivateKey::from_encrypted_pem(&encrypted, "passphrase").unwrap();
        for key in [key, read] {
            let (at, secret) = key.secret_at();
            assert!(shows(&memory(&file, at, secret.len()), &secret));
            drop(key);
            assert!(!shows(&memory(&file, at, secret.len()), &secret), "{kind:?}: DER");
        }
        // What is not wiped would have been seen.
        let plain = body.to_vec();
        let at = plain.as_ptr() as usize;
        drop(plain);
        assert!(shows(&memory(&file, at, body.len()), body), "{kind:?}");
    }
}

const KEY: &str = "QYVOL_TEST_PANICS_WITH";

#[test]
#[allow(clippy::disallowed_methods, reason = "a test")]
#[ignore = "run by panic_with_a_key_loaded_prints_no_part_of_it"]
fn child_panics_with_a_key() {
    let Ok(pem) = std::env::var(KEY) else { return };
    let key = PrivateKey::from_pem(&pem).unwrap();
    // What a Result holds is what `unwrap` prints.
    let refuse = |key| -> Result<(), Box<PrivateKey>> { Err(Box::new(key)) };
    refuse(key).unwrap();
}

// [CMD-004]
#[test]
fn panic_with_a_key_loaded_prints_no_part_of_it() {
    for kind in [KeyType::Ed25519, KeyType::EcdsaP256] {
        let key = key_of(kind);
        let pem = key.to_pem();
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args([
            "--exact",
            "tests::secrets::child_panics_with_a_key",
            "--ignored",
            "--nocapture",
        ]);
        let done = child
            .env(KEY, pem.as_str())
            .env("RUST_BACKTRACE", "full")
            .output()
            .unwrap();
        assert!(!done.status.success());
        let told = [done.stdout, done.stderr].concat();
        let text = String::from_utf8_lossy(&told).into_owned();
        assert!(
            text.contains("panicked") && text.contains(&key.public().fingerprint()),
            "{text}"
        );
        // As text, as bytes, and as the numbers that `Debug` prints of bytes.
        let (_, secret) = key.secret_at();
        let numbers = format!("{:?}", &secret[secret.len() - 8..]);
        assert!(
            !shows(&told, &pem.as_bytes()[28..pem.len() - 28]) && !shows(&told, &secret),
            "{text}"
        );
        assert!(!text.contains(numbers.trim_matches(['[', ']'])), "{text}");
    }
}
