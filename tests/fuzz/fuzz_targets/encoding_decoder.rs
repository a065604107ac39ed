//! The decoder of representations: the first byte chooses whether there is a base, the second
//! the target's size, and what remains is the representation. What decodes is re-hashed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qyvol_encoding::{Base, Blob, DecodeError, Encoding, Representation, decode};

fuzz_target!(|bytes: &[u8]| {
    let [base, size, bytes @ ..] = bytes else { return };
    let content: Vec<u8> = (0..2048_u32).map(|n| (n * n >> 3) as u8).collect();
    let Ok(base_bytes) = Base::read(&content[..], Blob::of(&content)) else { return };
    let with = base & 1 == 1;
    let encoding = if with { Encoding::ZstdPatch { base: base_bytes.blob() } } else { Encoding::Zstd };
    let size = u64::from(*size) * 16;
    let mut representation = Representation { target: Blob { size, ..Blob::of(b"") }, encoding, blob: Blob::of(bytes) };
    let base = with.then_some(&base_bytes);
    match decode(&representation, bytes, base, Vec::new()) {
        Ok(decoded) => assert_eq!(Blob::of(&decoded), representation.target),
        // The bytes are a representation, of this target.
        Err(DecodeError::OtherTarget { got, .. }) => {
            representation.target.digest = got;
            let decoded = decode(&representation, bytes, base, Vec::new());
            assert!(decoded.is_ok_and(|decoded| Blob::of(&decoded) == representation.target));
        }
        Err(_) => {}
    }
});
