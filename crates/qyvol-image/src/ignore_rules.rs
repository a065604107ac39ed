//! Rules for what a directory or glob among an application's assets does not pack: accidental
//! files, and what the author's `.qyvignore` names.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use qyvol_types::limits;

use crate::ImageError;

/// The author's rules, in the manifest's directory.
const IGNORE_FILE: &str = ".qyvignore";
/// Rules that precede the author's, who may undo one with `!`.
const BUILT_IN: [&str; 6] = [IGNORE_FILE, ".git", ".env*", "*.qyvbin", "*.key", "*.pem"];
/// Files up to this size are searched for a private key.
const KEY_BYTES: u64 = 16 << 10;

const TEMPORARY: (&str, &str) = (".qyv-", ".tmp");

/// The temporary name of a file that is being written, from a random number.
pub fn temporary_name(random: u64) -> String {
    let (prefix, suffix) = TEMPORARY;
    format!("{prefix}{random:016x}{suffix}")
}

/// Whether a file's name is one of [`temporary_name`].
pub fn is_temporary_name(name: &str) -> bool {
    let (prefix, suffix) = TEMPORARY;
    let random = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix));
    random.is_some_and(|random| {
        random.len() == 16 && random.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

/// The rules of a directory.
pub(crate) struct IgnoreRules(Gitignore);

impl IgnoreRules {
    /// Reads the rules of the manifest's directory.
    pub(crate) fn read(root: &Path) -> Result<IgnoreRules, ImageError> {
        let mut rules = GitignoreBuilder::new(".");
        for line in BUILT_IN {
            rules.add_line(None, line).map_err(|e| bad_rule(&e))?;
        }
        let path = root.join(IGNORE_FILE);
        let text = read_text(&path).map_err(|source| ImageError::File {
            action: "read",
            path,
            source,
        })?;
        for (index, line) in text.lines().enumerate() {
            rules.add_line(None, line).map_err(|error| {
                ImageError::asset(
                    IGNORE_FILE,
                    format_args!("line {} is not a pattern: {error}", index + 1),
                )
            })?;
        }
        Ok(IgnoreRules(rules.build().map_err(|e| bad_rule(&e))?))
    }

    /// Whether an entry at this path, relative to the root, is left out by its
    /// name. Paths below an ignored directory are never passed.
    pub(crate) fn is_ignored(&self, path: &str, is_dir: bool) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        self.0.matched(path, is_dir).is_ignore() || (!is_dir && is_temporary_name(name))
    }
}

fn bad_rule(error: &ignore::Error) -> ImageError {
    ImageError::asset(IGNORE_FILE, format_args!("its patterns can't be used: {error}"))
}

/// The file's text; nothing if there is none.
fn read_text(path: &Path) -> io::Result<String> {
    // Opening a pipe would wait for its writer.
    match path.metadata() {
        Ok(meta) if !meta.is_file() => return Err(io::Error::other("it is not a regular file")),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error),
    }
    let mut text = String::new();
    File::open(path)?
        .take(limits::YAML_BYTES + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > limits::YAML_BYTES {
        return Err(io::Error::other(format!(
            "it is larger than {} bytes",
            limits::YAML_BYTES
        )));
    }
    Ok(text)
}

/// Whether a file of `size` bytes is a private key in PEM (RFC 7468): a line
/// that begins one, and after it a line of Base64 or of a header.
pub(crate) fn contains_private_key(path: &Path, size: u64) -> io::Result<bool> {
    if size == 0 || size > KEY_BYTES {
        return Ok(false);
    }
    let mut bytes = Vec::with_capacity(size as usize);
    File::open(path)?.take(KEY_BYTES).read_to_end(&mut bytes)?;
    Ok(is_private_key(&bytes))
}

fn is_private_key(bytes: &[u8]) -> bool {
    let mut lines = bytes.split(|b| *b == b'\n').map(<[u8]>::trim_ascii_end);
    while let Some(line) = lines.next() {
        if !line.starts_with(b"-----BEGIN ") || !line.ends_with(b"PRIVATE KEY-----") {
            continue;
        }
        let body = lines.next().unwrap_or_default();
        let base64 = |b: &u8| b.is_ascii_alphanumeric() || b"+/=".contains(b);
        if body.starts_with(b"Proc-Type:") || (body.len() >= 16 && body.iter().all(base64)) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    // [PACK-002]
    #[test]
    fn private_key_is_recognised_by_its_content() {
        let body = "MC4CAQAwBQYDK2VwBCIEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        for label in [
            "PRIVATE KEY",
            "ENCRYPTED PRIVATE KEY",
            "RSA PRIVATE KEY",
            "OPENSSH PRIVATE KEY",
        ] {
            let pem = format!("Key Attributes: none\n-----BEGIN {label}-----\r\n{body}\r\n-----END {label}-----\n");
            assert!(is_private_key(pem.as_bytes()), "{label}");
        }
        let old = b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES\n\nAAAA\n";
        assert!(is_private_key(old));
        // Code that reads keys, and public ones, are no private keys.
        assert!(!is_private_key(
            b"const BEGIN = '-----BEGIN PRIVATE KEY-----';\nparse(BEGIN);\n"
        ));
        assert!(!is_private_key(
            format!("-----BEGIN PUBLIC KEY-----\n{body}\n").as_bytes()
        ));
        assert!(!is_private_key(b"-----BEGIN PRIVATE KEY-----\n"));
    }

    // [PACK-003]
    #[test]
    fn only_our_own_temporary_files_have_such_names() {
        assert!(is_temporary_name(&temporary_name(0)));
        assert!(is_temporary_name(&temporary_name(u64::MAX)));
        for other in [
            ".qyv-.tmp",
            ".qyv-0123456789abcdeF.tmp",
            "x.qyv-0123456789abcdef.tmp",
            ".qyvignore",
        ] {
            assert!(!is_temporary_name(other), "{other}");
        }
    }
}
