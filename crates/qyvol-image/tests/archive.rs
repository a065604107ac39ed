//! Archives: what is written can be read back, and nothing else can. Clippy recognises tests by
//! their attribute, not their helpers.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Read;
use std::path::Path;

use qyvol_image::{
    Archive, BuildOptions, Head, ImageBuilder, ImageError, ImageSignature, SignedImage, unpack_assets, write_archive,
};
use qyvol_sandbox::parse_app_manifest;
use qyvol_store::{Fetch, LocalStore, NoopReporter};
use qyvol_types::{ImageConfig, Timestamp};

/// An empty component: magic, version 13, layer 1.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

struct Fixture {
    directory: tempfile::TempDir,
}

impl Fixture {
    fn new(files: &[(&str, &[u8])]) -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let app = directory.path().join("app");
        fs::create_dir(&app).unwrap();
        fs::write(app.join("a.wasm"), COMPONENT).unwrap();
        for (name, bytes) in files {
            let path = app.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        Fixture { directory }
    }

    fn build(&self, name: &str, assets: &str) -> Result<(SignedImage, qyvol_store::Ingest), ImageError> {
        let text = format!("name: {name}\nversion: 1.0.0\nentrypoint: a.wasm\nassets: {assets}\n");
        let app = parse_app_manifest(&text).unwrap();
        let options = BuildOptions {
            created: Timestamp::EPOCH,
            join: |_| Err("it has no functions".to_string()),
            componentize: None,
            skip: Default::default(),
        };
        let builder = ImageBuilder::read(app, &self.directory.path().join("app"), &options)?;
        let store = LocalStore::open(&self.directory.path().join("store")).unwrap();
        let mut stage = store.begin().unwrap();
        let mut built = builder.write(&mut stage, &NoopReporter)?;
        let signature = ImageSignature::new(&built.descriptor, "test", b"not looked into".to_vec()).unwrap();
        built.image.signatures.push(signature);
        Ok((built.image, stage))
    }

    fn archive(&self, assets: &str) -> Vec<u8> {
        let (image, stage) = self.build("a", assets).unwrap();
        let mut out = Vec::new();
        write_archive(&Head::new(vec![image]).unwrap(), &stage, &mut out, &NoopReporter).unwrap();
        out
    }
}

/// Reads a whole archive: every blob, checked.
fn read(bytes: &[u8], directory: &Path) -> Result<Vec<Vec<u8>>, ImageError> {
    let path = directory.join("test.qyvbin");
    fs::write(&path, bytes).unwrap();
    let archive = Archive::open(&path)?;
    archive.check_content(&NoopReporter)?;
    let mut blobs = Vec::new();
    for blob in archive.head().content() {
        let mut bytes = Vec::new();
        archive.fetch(&blob)?.read_to_end(&mut bytes)?;
        blobs.push(bytes);
    }
    Ok(blobs)
}

// [BIN-001] [BIN-030]
#[test]
fn every_flipped_bit_is_refused_or_changes_nothing_decoded() {
    let fixture = Fixture::new(&[("x.txt", b"some words and some more words"), ("d/y", b"")]);
    let good = fixture.archive("[x.txt, d]");
    let directory = fixture.directory.path();
    let blobs = read(&good, directory).unwrap();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        if let Ok(decoded) = read(&bad, directory) {
            assert_eq!(decoded, blobs, "bit {bit}");
        }
    }
}

// [BIN-023] [BIN-024]
#[test]
fn every_truncation_and_extension_is_refused_on_opening() {
    let fixture = Fixture::new(&[("x.txt", b"some words")]);
    let good = fixture.archive("[x.txt]");
    let path = fixture.directory.path().join("cut.qyvbin");
    for len in 0..good.len() {
        fs::write(&path, &good[..len]).unwrap();
        assert!(Archive::open(&path).is_err(), "cut to {len}");
    }
    for more in [1, 8, 511, 512, 4096] {
        fs::write(&path, [&good[..], &vec![0; more]].concat()).unwrap();
        assert!(Archive::open(&path).is_err(), "{more} bytes more");
        fs::write(&path, [&good[..], &good[..more.min(good.len())]].concat()).unwrap();
        assert!(Archive::open(&path).is_err(), "{more} more bytes of itself");
    }
    fs::write(&path, [&good[..], &good[..]].concat()).unwrap();
    assert!(Archive::open(&path).is_err(), "a second archive behind it");
}

// [BIN-020] [BIN-050] [BIN-054]
#[test]
fn large_archive_round_trips_over_many_frames_and_is_reproducible() {
    let mut noise = 0x2545_f491_4f6c_dd1du64;
    let random: Vec<u8> = (0..5_000_003)
        .map(|_| {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            noise as u8
        })
        .collect();
    let text = "the same words again and again\n".repeat(200_000);
    let fixture = Fixture::new(&[
        ("r/random.bin", &random),
        ("t/text.txt", text.as_bytes()),
        ("empty", b""),
    ]);
    let good = fixture.archive("[r, t, empty]");
    assert_eq!(
        good,
        fixture.archive("[empty, \"t/**\", r/random.bin]"),
        "another order of the same files"
    );
    read(&good, fixture.directory.path()).unwrap();

    let path = fixture.directory.path().join("test.qyvbin");
    let archive = Archive::open(&path).unwrap();
    let image = &archive.images()[0];
    let config = ImageConfig::parse(&image.config).unwrap();
    let layer = &image.manifest.layers()[1];
    let out = fixture.directory.path().join("out");
    fs::create_dir(&out).unwrap();
    let expected = config.qyv.assets.unwrap();
    unpack_assets(archive.fetch(layer).unwrap(), &expected, &out, &NoopReporter).unwrap();
    assert_eq!(fs::read(out.join("r/random.bin")).unwrap(), random);
    assert_eq!(fs::read(out.join("t/text.txt")).unwrap(), text.as_bytes());
    assert_eq!(fs::read(out.join("empty")).unwrap(), b"");

    // A new signature leaves the content's frames alone.
    let mut signed = image.clone();
    signed
        .signatures
        .push(ImageSignature::new(&image.descriptor(), "test", b"another".to_vec()).unwrap());
    let mut rewritten = Vec::new();
    archive
        .rewrite(&Head::new(vec![signed.clone()]).unwrap(), &mut rewritten)
        .unwrap();
    let mut written = Vec::new();
    write_archive(&Head::new(vec![signed]).unwrap(), &archive, &mut written, &NoopReporter).unwrap();
    assert!(rewritten == written, "rewriting and writing agree");
}

// [BIN-032]
#[test]
fn random_edits_of_a_large_archive_are_refused_or_change_nothing() {
    let text: Vec<u8> = (0..600_000u32)
        .flat_map(|i| (i.wrapping_mul(2_654_435_761) >> 20).to_le_bytes())
        .collect();
    let fixture = Fixture::new(&[("t", &text)]);
    let good = fixture.archive("[t]");
    let blobs = read(&good, fixture.directory.path()).unwrap();
    let mut noise = 88_172_645_463_325_252u64;
    let mut next = || {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        noise as usize
    };
    for _ in 0..200 {
        let mut bad = good.clone();
        for _ in 0..1 + next() % 4 {
            let at = next() % bad.len();
            match next() % 3 {
                0 => bad[at] = next() as u8,
                1 => drop(bad.remove(at)),
                _ => bad.insert(at, next() as u8),
            }
        }
        if let Ok(decoded) = read(&bad, fixture.directory.path()) {
            assert!(decoded == blobs);
        }
    }
}

#[test]
fn input_that_cannot_be_packed_is_refused_with_its_path() {
    let fixture = Fixture::new(&[("a/CON", b""), ("b/A", b""), ("b/a", b""), ("c/ok", b"")]);
    let app = fixture.directory.path().join("app");
    std::os::unix::fs::symlink("/etc/passwd", app.join("c/link")).unwrap();
    for (assets, part) in [
        ("[a]", "CON"),
        ("[b]", "clashes"),
        ("[c]", "leaves"),
        ("[nothing]", "nothing"),
        ("[\"*.none\"]", "no file matches"),
        ("[{from: c/ok, to: x}, {from: b/a, to: x}]", "two files"),
    ] {
        let error = fixture.build("a", assets).map(drop).expect_err(assets).to_string();
        assert!(error.contains(part), "{assets}: {error}");
    }
}

// [BIN-004]
#[test]
fn two_images_of_one_name_and_signatures_of_another_image_are_refused() {
    let fixture = Fixture::new(&[("x", b"1")]);
    let (a, _stage) = fixture.build("a", "[x]").unwrap();
    let (b, _other) = fixture.build("b", "[]").unwrap();
    let mut same_name = b.clone();
    same_name.names = a.names.clone();
    assert!(Head::new(vec![a.clone(), same_name]).is_err());
    let mut foreign = b.clone();
    foreign.signatures = a.signatures.clone();
    assert!(Head::new(vec![foreign]).is_err());
    assert!(Head::new(vec![a, b]).is_ok());
}

/// Rewrites the seek table's last entry for a frame that has grown.
fn grow_last_frame(good: &[u8], more: &[u8]) -> Vec<u8> {
    let footer = good.len() - 9;
    let frames = u32::from_le_bytes(good[footer..footer + 4].try_into().unwrap()) as usize;
    let table = good.len() - (8 + frames * 8 + 9);
    let mut out = [&good[..table], more, &good[table..]].concat();
    let entry = out.len() - 9 - 8;
    let size = u32::from_le_bytes(out[entry..entry + 4].try_into().unwrap()) + more.len() as u32;
    out[entry..entry + 4].copy_from_slice(&size.to_le_bytes());
    out
}

// [BIN-024]
#[test]
fn frame_hidden_behind_a_frame_is_refused() {
    let fixture = Fixture::new(&[("x", b"1")]);
    let good = fixture.archive("[x]");
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0][..], b"hide"].concat();
    let empty = zstd::bulk::compress(b"", 1).unwrap();
    for more in [skippable, empty, vec![0; 3]] {
        let bad = grow_last_frame(&good, &more);
        let directory = fixture.directory.path();
        assert!(read(&bad, directory).is_err());
    }
}

// [BIN-024]
#[test]
fn pipe_is_refused_and_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pipe.qyvbin");
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    assert!(Archive::open(&path).unwrap_err().to_string().contains("regular file"));
}

// [BIN-040]
#[test]
fn images_that_disagree_on_a_blob_are_refused() {
    use qyvol_types::{Descriptor, ImageManifest, media_type};
    let fixture = Fixture::new(&[("x", b"1")]);
    let (a, _stage) = fixture.build("a", "[x]").unwrap();
    let (mut b, _other) = fixture.build("b", "[]").unwrap();
    b.signatures.clear();
    let layer = a.manifest.layers()[0].clone();
    let with = |image: &SignedImage, layers: Vec<Descriptor>| {
        let manifest = ImageManifest::image(image.manifest.config().clone(), layers).unwrap();
        SignedImage {
            manifest,
            ..image.clone()
        }
    };
    let longer = Descriptor {
        size: layer.size + 1,
        ..layer.clone()
    };
    assert!(
        Head::new(vec![a.clone(), with(&b, vec![longer])]).is_err(),
        "another size"
    );
    let config = Descriptor::new(media_type::WASM, b.manifest.config().digest, b.manifest.config().size);
    assert!(
        Head::new(vec![with(&b, vec![config])]).is_err(),
        "a layer that is the config"
    );
    let mut foreign = b.clone();
    foreign.config = a.config.clone();
    assert!(Head::new(vec![foreign]).is_err(), "another config");
    assert!(Head::new(vec![with(&b, vec![layer.clone()])]).is_ok());
    assert!(
        Head::new(vec![with(&b, vec![layer.clone(), layer])]).is_err(),
        "two components"
    );
}
