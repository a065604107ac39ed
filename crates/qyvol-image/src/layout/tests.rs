//! Hostile layouts: bounds, and what is skipped.

use std::fs;

use qyvol_types::json;
use tempfile::TempDir;

use super::*;

struct Directory(TempDir);

impl Directory {
    fn new() -> Directory {
        let directory = Directory(TempDir::new().unwrap());
        fs::create_dir_all(directory.0.path().join("blobs/sha256")).unwrap();
        directory.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        directory
    }

    fn file(&self, name: &str, bytes: &[u8]) {
        fs::write(self.0.path().join(name), bytes).unwrap();
    }

    fn blob(&self, media_type: &str, bytes: &[u8]) -> Descriptor {
        let descriptor = Descriptor::of(media_type, bytes);
        self.file(&blob_path(&descriptor.digest), bytes);
        descriptor
    }

    fn index(&self, manifests: &[Descriptor]) -> Vec<u8> {
        let manifests = json::encode(&manifests).unwrap();
        format!(
            r#"{{"schemaVersion":2,"manifests":{}}}"#,
            String::from_utf8(manifests).unwrap()
        )
        .into_bytes()
    }

    fn open(&self) -> ImageError {
        Layout::open(self.0.path()).unwrap_err()
    }
}

// [BIN-060]
#[test]
fn index_that_is_named_many_times_is_read_once() {
    let directory = Directory::new();
    let manifest = directory.blob(media_type::IMAGE_MANIFEST, b"{}");
    let large = directory.index(&vec![manifest; 2000]);
    let nested = directory.blob(media_type::IMAGE_INDEX, &large);
    directory.file("index.json", &directory.index(&vec![nested; 20_000]));
    assert!(matches!(directory.open(), ImageError::Layout(why) if why.contains("no Qyvol image")));
}

// [BIN-060]
#[test]
fn manifests_are_bounded_in_number_and_size() {
    let directory = Directory::new();
    let many: Vec<_> = (0..=MANIFESTS)
        .map(|i| Descriptor::of(media_type::IMAGE_MANIFEST, i.to_string().as_bytes()))
        .collect();
    directory.file("index.json", &directory.index(&many));
    assert!(matches!(directory.open(), ImageError::Limit { limit: 4096, .. }));
    // Absent ones cost no memory, but their descriptors claim large sizes.
    let large: Vec<_> = (0..300)
        .map(|i: u32| Descriptor {
            size: limits::MANIFEST_BYTES,
            ..Descriptor::of(media_type::IMAGE_MANIFEST, i.to_string().as_bytes())
        })
        .collect();
    directory.file("index.json", &directory.index(&large));
    assert!(matches!(
        directory.open(),
        ImageError::Limit {
            limit: MANIFESTS_BYTES,
            ..
        }
    ));
}

// [BIN-060]
#[test]
fn unusable_index_entries_are_skipped() {
    let directory = Directory::new();
    let absent = Descriptor::of(media_type::IMAGE_INDEX, b"absent");
    let broken = directory.blob(media_type::IMAGE_INDEX, b"[");
    let index = String::from_utf8(directory.index(&[absent, broken])).unwrap();
    let foreign = r#"{"mediaType":"x","digest":"md5:00","size":1},{"manifests":"#;
    let index = index.replace("\"manifests\":[", &format!("\"manifests\":[{foreign}1}},"));
    directory.file("index.json", index.as_bytes());
    let error = directory.open();
    assert!(
        matches!(&error, ImageError::Layout(why) if why.contains("no Qyvol image")),
        "{error}"
    );
}

// [BIN-060]
#[test]
fn long_names_of_a_tar_are_not_read() {
    let mut header = tar::Header::new_gnu();
    header.set_path("././@LongLink").unwrap();
    header.set_entry_type(tar::EntryType::GNULongName);
    // A sparse file of this length.
    header.set_size(64 << 30);
    header.set_cksum();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), header.as_bytes()).unwrap();
    file.as_file().set_len((64 << 30) + 512).unwrap();
    assert!(Layout::is_layout(file.path()).unwrap());
    let error = Layout::open(file.path()).unwrap_err();
    assert!(
        matches!(&error, ImageError::Layout(why) if why.contains("no oci-layout")),
        "{error}"
    );
}
