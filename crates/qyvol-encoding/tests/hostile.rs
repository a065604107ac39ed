//! Representations that an attacker made, or that were damaged: each is refused within bounds,
//! and no other bytes than the target's are ever finished.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use proptest::prelude::*;
use qyvol_encoding::{
    Base, Blob, DecodeError, Effort, EncodeError, Encoding, FRAME_BYTES, Representation, Sink, decode, encode,
};

const MIB: usize = 1 << 20;

fn effort() -> Effort<'static> {
    Effort {
        level: 3,
        largest: u64::MAX,
        memory: u64::MAX,
        proceed: &|| true,
    }
}

fn base_of(bytes: &[u8]) -> Base {
    Base::read(bytes, Blob::of(bytes)).unwrap()
}

fn made(target: &[u8], base: Option<&Base>) -> (Representation, Vec<u8>) {
    let mut out = Vec::new();
    let representation = encode(target, Blob::of(target), base, &effort(), &mut out).unwrap();
    assert_eq!(representation.blob, Blob::of(&out));
    (representation, out)
}

/// The representation that `bytes` claim to be of `target`.
fn claim(bytes: &[u8], target: Blob) -> Representation {
    Representation {
        target,
        encoding: Encoding::Zstd,
        blob: Blob::of(bytes),
    }
}

/// Bytes that don't compress.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut out = Vec::with_capacity(length + 8);
    while out.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend(state.to_le_bytes());
    }
    out.truncate(length);
    out
}

/// A single-segment frame with a content size of four bytes; `blocks` as they stand.
fn frame(content: u32, blocks: &[u8]) -> Vec<u8> {
    [&[0x28, 0xb5, 0x2f, 0xfd, 0xa0], &content.to_le_bytes()[..], blocks].concat()
}

fn block(last: bool, kind: u32, size: u32, content: &[u8]) -> Vec<u8> {
    let head = u32::from(last) | kind << 1 | size << 3;
    [&head.to_le_bytes()[..3], content].concat()
}

/// Notes whether it was finished, and how much it was given.
#[derive(Clone, Default)]
struct Watched {
    finished: Rc<Cell<bool>>,
    written: Rc<Cell<u64>>,
}

impl Sink for Watched {
    type Finished = ();

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written.set(self.written.get() + bytes.len() as u64);
        Ok(())
    }

    fn finish(self) -> io::Result<()> {
        self.finished.set(true);
        Ok(())
    }
}

#[test]
fn representations_come_back_at_each_size_of_a_frame() {
    let large = noise(FRAME_BYTES as usize + 1, 7);
    let base = base_of(&large[..MIB]);
    for size in [0, 1, 255, 256, 65_791, 65_792, FRAME_BYTES as usize, large.len()] {
        let target = &large[..size];
        for base in [None, Some(&base)] {
            let (representation, bytes) = made(target, base);
            assert!(
                decode(&representation, &bytes[..], base, Vec::new()).unwrap() == target,
                "{size}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn edited_content_comes_back_from_its_patch(
        base in proptest::collection::vec(0_u8..8, 1..5000),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
        level in 1_i32..20,
    ) {
        let mut target = base.clone();
        for (at, byte) in edits {
            let at = at.index(target.len());
            target.insert(at, byte);
        }
        let base = base_of(&base);
        let mut bytes = Vec::new();
        let effort = Effort { level, ..effort() };
        let representation = encode(&target[..], Blob::of(&target), Some(&base), &effort, &mut bytes).unwrap();
        prop_assert_eq!(decode(&representation, &bytes[..], Some(&base), Vec::new()).unwrap(), target);
    }

    #[test]
    fn arbitrary_bytes_are_never_finished(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let target = Blob { size: 100, ..Blob::of(b"something else") };
        let sink = Watched::default();
        let form = [&[0x28, 0xb5, 0x2f, 0xfd, 0x20, 100], &bytes[..]].concat();
        for bytes in [&bytes, &form] {
            prop_assert!(decode(&claim(bytes, target), &bytes[..], None, sink.clone()).is_err());
            prop_assert!(!sink.finished.get());
        }
    }
}

// [ENC-040]
#[test]
fn sink_is_finished_only_with_the_targets_bytes() {
    let (mut representation, bytes) = made(b"these are the bytes", None);
    let sink = Watched::default();
    decode(&representation, &bytes[..], None, sink.clone()).unwrap();
    assert!(sink.finished.get());
    representation.target.digest = Blob::of(b"those are the bytes").digest;
    let sink = Watched::default();
    let error = decode(&representation, &bytes[..], None, sink.clone()).unwrap_err();
    assert!(matches!(error, DecodeError::OtherTarget { .. }), "{error}");
    assert!(!sink.finished.get() && sink.written.get() == 19);
}

// [ENC-040]
#[test]
fn flipped_bit_is_refused_or_changes_nothing() {
    let old = noise(3000, 3);
    let target = [&old[..1500], b"a changed line", &old[1400..]].concat();
    let base = base_of(&old);
    let (representation, bytes) = made(&target, Some(&base));
    assert!(bytes.len() < 100, "{}", bytes.len());
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        match decode(&representation, &flipped[..], Some(&base), Vec::new()) {
            Ok(got) => assert_eq!(got, target, "{bit}"),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

// [ENC-024]
#[test]
fn truncated_or_longer_representation_is_refused() {
    let old = noise(3000, 5);
    let target = [&old[..700], b"a changed line", &old[700..]].concat();
    let base = base_of(&old);
    let (mut representation, bytes) = made(&target, Some(&base));
    for length in 0..bytes.len() {
        let error = decode(&representation, &bytes[..length], Some(&base), Vec::new()).unwrap_err();
        assert!(matches!(error, DecodeError::Cut { .. }), "{length}: {error}");
    }
    let longer = [&bytes[..], &[0]].concat();
    let refused = |r: &Representation, bytes: &[u8]| {
        let error = decode(r, bytes, Some(&base), Vec::new()).unwrap_err();
        assert!(matches!(error, DecodeError::Trailing { .. }), "{error}");
    };
    refused(&representation, &longer);
    representation.blob.size += 1;
    refused(&representation, &longer);
    refused(&representation, &bytes);
    representation.blob.size -= 2;
    assert!(decode(&representation, &bytes[..], Some(&base), Vec::new()).is_err());
}

// [ENC-021]
#[test]
fn frame_of_another_form_is_refused() {
    let target = b"content of the frame, content of the frame";
    let (representation, bytes) = made(target, None);
    let refused = |bytes: &[u8], reason: &str| {
        let representation = claim(bytes, representation.target);
        let error = decode(&representation, bytes, None, Vec::new()).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}: {reason}");
    };
    let flagged = |descriptor: u8| [&bytes[..4], &[descriptor], &bytes[5..], &[0; 16]].concat();
    refused(
        &[&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0], &bytes[..]].concat(),
        "is skippable",
    );
    refused(
        &[&[0x5f, 0x2a, 0x4d, 0x18, 0, 0, 0, 0], &bytes[..]].concat(),
        "is skippable",
    );
    refused(
        &[&bytes[..], &[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]].concat(),
        "last frame",
    );
    refused(&[&bytes[..], &bytes[..]].concat(), "last frame");
    refused(&flagged(0x21), "dictionary");
    refused(&flagged(0x24), "checksum");
    refused(&flagged(0x28), "reserved");
    refused(&flagged(0x30), "reserved");
    refused(&flagged(0x00), "single segment");
    refused(&flagged(0x80), "single segment");
    refused(&flagged(0xe0), "eight bytes");
    refused(b"PK\x03\x04 something else", "magic number");
    let reserved = frame(42, &block(true, 3, 1, b"x"));
    refused(&reserved, "reserved type");
}

// [ENC-020]
#[test]
fn frame_with_other_content_than_is_due_is_refused() {
    let size = FRAME_BYTES + 10;
    let target = Blob { size, ..Blob::of(b"") };
    for content in [0, 1, FRAME_BYTES - 1, FRAME_BYTES + 1, size, u64::from(u32::MAX)] {
        let bytes = frame(content as u32, &block(true, 1, 1, b"x"));
        let sink = Watched::default();
        let error = decode(&claim(&bytes, target), &bytes[..], None, sink.clone()).unwrap_err();
        assert!(matches!(error, DecodeError::FrameContent { .. }), "{content}: {error}");
        assert_eq!(sink.written.get(), 0);
    }
    // Blocks with less, or more, than the frame declares.
    for content in [9_u32, 11] {
        let bytes = frame(content, &block(true, 1, 10, b"x"));
        let target = Blob {
            size: u64::from(content),
            ..Blob::of(b"")
        };
        let error = decode(&claim(&bytes, target), &bytes[..], None, Vec::new()).unwrap_err();
        assert!(matches!(error, DecodeError::Damaged { .. }), "{error}");
    }
}

// [ENC-022]
#[test]
fn frame_larger_than_its_content_allows_is_refused() {
    let target = Blob {
        size: 1000,
        ..Blob::of(b"")
    };
    let refused = |blocks: &[u8]| {
        let bytes = frame(1000, blocks);
        let error = decode(&claim(&bytes, target), &bytes[..], None, Vec::new()).unwrap_err();
        assert!(error.to_string().contains("larger than its content"), "{error}");
    };
    // Empty blocks without end, a block that claims 2 MiB, one more than fits.
    refused(&block(false, 0, 0, b"").repeat(100_000));
    refused(&block(true, 0, (1 << 21) - 1, b"x"));
    refused(&block(true, 1, (128 << 10) + 1, b"x"));
    refused(&block(true, 2, 1600, &[0; 1600]));
}

// [ENC-023]
#[test]
fn frame_that_refers_beyond_its_base_is_refused() {
    // Made with a base of 4,000 bytes, whose first ones it needs; decoded with less.
    let old = noise(4000, 11);
    let target = old[..300].to_vec();
    let (mut representation, bytes) = made(&target, Some(&base_of(&old)));
    for kept in [1, 100, 299, 3999] {
        let less = base_of(&old[4000 - kept..]);
        representation.encoding = Encoding::ZstdPatch { base: less.blob() };
        assert!(
            decode(&representation, &bytes[..], Some(&less), Vec::new()).is_err(),
            "{kept}"
        );
    }
    representation.encoding = Encoding::Zstd;
    let error = decode(&representation, &bytes[..], None, Vec::new()).unwrap_err();
    assert!(matches!(error, DecodeError::Damaged { .. }), "{error}");
}

// [ENC-023]
#[test]
fn base_that_begins_like_a_dictionary_is_a_raw_prefix() {
    let old = [&[0x37, 0xa4, 0x30, 0xec, 1, 0, 0, 0], &noise(2000, 13)[..]].concat();
    let base = base_of(&old);
    let (representation, bytes) = made(&old, Some(&base));
    assert!(bytes.len() < 50);
    assert_eq!(
        decode(&representation, &bytes[..], Some(&base), Vec::new()).unwrap(),
        old
    );
}

// [ENC-041]
#[test]
fn base_that_changed_is_refused() {
    let old = noise(2000, 17);
    let expected = Blob::of(&old);
    let mut changed = old.clone();
    changed[1999] ^= 1;
    let longer = [&old[..], b"x"].concat();
    for bytes in [&changed[..], &old[..1999], &longer[..], b""] {
        assert!(matches!(
            Base::read(bytes, expected),
            Err(DecodeError::OtherBase { .. })
        ));
    }
    let huge = Blob {
        size: (256 << 20) + 1,
        ..expected
    };
    assert!(matches!(
        Base::read(io::repeat(0), huge),
        Err(DecodeError::Limit { .. })
    ));
    // Another base than the list names, or none.
    let (representation, bytes) = made(&old, Some(&base_of(&old)));
    for base in [None, Some(&base_of(&changed))] {
        let error = decode(&representation, &bytes[..], base, Vec::new()).unwrap_err();
        assert!(matches!(error, DecodeError::OtherBase { .. }), "{error}");
    }
}

#[test]
fn bomb_writes_no_more_than_the_target_has() {
    // 16 MiB of zeros in 600 bytes, and a target of 1 kB.
    let (_, bomb) = made(&vec![0; FRAME_BYTES as usize], None);
    assert!(bomb.len() < 2000, "{}", bomb.len());
    let sink = Watched::default();
    let target = Blob {
        size: 1000,
        ..Blob::of(b"")
    };
    assert!(decode(&claim(&bomb, target), &bomb[..], None, sink.clone()).is_err());
    assert_eq!(sink.written.get(), 0);
    // Endless frames after a first that is right.
    let endless = bomb.repeat(100);
    let target = Blob {
        size: FRAME_BYTES,
        ..Blob::of(b"")
    };
    assert!(decode(&claim(&endless, target), &endless[..], None, sink.clone()).is_err());
    assert_eq!(sink.written.get(), FRAME_BYTES);
    let limit = Blob {
        size: u64::MAX,
        ..Blob::of(b"")
    };
    assert!(matches!(
        decode(&claim(&bomb, limit), &bomb[..], None, sink),
        Err(DecodeError::Limit { .. })
    ));
}

#[test]
fn encoder_keeps_to_its_effort_and_notices_another_target() {
    let target = noise(5000, 19);
    let blob = Blob::of(&target);
    let with = |effort: Effort<'_>| encode(&target[..], blob, None, &effort, Vec::new()).unwrap_err();
    assert!(matches!(
        with(Effort {
            largest: 3000,
            ..effort()
        }),
        EncodeError::NotSmaller { .. }
    ));
    assert!(matches!(
        with(Effort {
            memory: 9999,
            ..effort()
        }),
        EncodeError::Memory { .. }
    ));
    assert!(matches!(
        with(Effort {
            proceed: &|| false,
            ..effort()
        }),
        EncodeError::OutOfTime { .. }
    ));
    let longer = [&target[..], b"x"].concat();
    for other in [&target[..4999], &longer[..]] {
        let error = encode(other, blob, None, &effort(), Vec::new()).unwrap_err();
        assert!(matches!(error, EncodeError::OtherTarget { .. }), "{error}");
    }
}
