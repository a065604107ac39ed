//! Content that the server did not take. It is never evicted.

use std::fs;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use qyvol_types::{Algorithm, Digest, Hasher};

use super::{Cache, KEPT};
use crate::path;

/// Characters of the remote name that go into the file's name.
const NAME_CHARS: usize = 80;

impl Cache {
    /// Keeps content that could not be sent to a path, and returns where. Each content has
    /// a place of its own, so that nothing of an earlier run is overwritten. Content of
    /// more than `limit` bytes is not kept.
    pub(crate) fn keep(&self, path: &str, content: &mut impl Read, limit: u64) -> io::Result<PathBuf> {
        let mut temporary = self.temporary()?;
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut buffer = vec![0; 64 << 10];
        loop {
            let n = content.read(&mut buffer)?;
            let bytes = buffer.get(..n).unwrap_or_default();
            if n == 0 {
                break;
            }
            hasher.update(bytes);
            if hasher.length() > limit {
                let why = format!("it has more than {limit} bytes");
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
            }
            temporary.write_all(bytes)?;
        }
        let place = self.kept_place(path, &hasher.finish());
        if !place.exists() {
            temporary.as_file().sync_all()?;
            temporary.persist(&place).map_err(|error| error.error)?;
        }
        Ok(place)
    }

    /// The same content has been sent after all.
    pub(crate) fn unkeep(&self, path: &str, digest: &Digest) {
        let _ = fs::remove_file(self.kept_place(path, digest));
    }

    /// `PATH-CONTENT-NAME`; the first two are the start of a digest.
    fn kept_place(&self, path: &str, digest: &Digest) -> PathBuf {
        let of_path = Digest::of(format!("{}\0{path}", self.tree).as_bytes()).hex();
        let of_content = digest.hex();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let name: String = path::name(path)
            .chars()
            .take(NAME_CHARS)
            .map(|c| if is_plain(c) { c } else { '_' })
            .collect();
        let start = |hex: &str| hex.get(..12).unwrap_or_default().to_string();
        let place = format!("{}-{}-{name}", start(&of_path), start(&of_content));
        self.root.join(KEPT).join(place)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::tests::open;
    use super::*;

    #[test]
    fn each_content_that_was_not_sent_has_a_place_of_its_own() {
        let (directory, clock) = (tempfile::tempdir().unwrap(), Arc::default());
        let cache = open(directory.path(), 5, &clock);
        let keep = |path: &str, content: &str| cache.keep(path, &mut content.as_bytes(), 3).unwrap();
        let places = [
            keep("a/x.txt", "one"),
            keep("a/x.txt", "two"),
            keep("b/x.txt", "one"),
            keep("a/../\u{1b}/é", "x"),
        ];
        for (place, due) in places.iter().zip(["one", "two", "one", "x"]) {
            assert_eq!(fs::read_to_string(place).unwrap(), due);
            assert!(place.parent().unwrap().ends_with("v1/kept"), "{place:?}");
        }
        assert_eq!(keep("a/x.txt", "one"), places[0]);
        assert!(cache.keep("a", &mut &b"four"[..], 3).is_err());
        cache.unkeep("a/x.txt", &Digest::of(b"one"));
        assert!(!places[0].exists() && places[1].exists());
    }
}
