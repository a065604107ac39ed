//! Rules of every text: no path of somebody's machine, no white space at the
//! end of a line, a line feed at the end of a file.

use super::Finding;
use crate::tree::Tree;

/// Directories at the root that only somebody's own machine has; each is looked for
/// as `/NAME/…` that nothing precedes.
const MACHINE_DIRECTORIES: &[&str] = &["home", "root", "Users", "work", "tmp"];
/// What a guest or a mount sees may well be called so.
const ALLOWED_AFTER: &[&str] = &["home/guest", "work/guest"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.iter() {
        // Vectors hold any bytes on purpose; the lock file is Cargo's.
        let data = path.starts_with("formats/vectors/") || path.ends_with("Cargo.lock");
        for (index, line) in text.split('\n').enumerate() {
            if let Some(place) = machine_path(line).filter(|_| !data) {
                let message = format!(
                    "`{place}`: a path of somebody's machine; write a relative one, or make a temporary directory"
                );
                findings.push(Finding::new(path, index + 1, message));
            }
            if line.ends_with([' ', '\t', '\r']) && !data {
                findings.push(Finding::new(path, index + 1, "white space at the end of the line"));
            }
        }
        if !text.is_empty() && !text.ends_with('\n') && !data {
            findings.push(Finding::new(path, 0, "no line feed at the end"));
        }
    }
    findings
}

fn machine_path(line: &str) -> Option<String> {
    MACHINE_DIRECTORIES.iter().find_map(|directory| {
        let needle = format!("/{directory}/");
        line.match_indices(&needle).find_map(|(at, _)| {
            let before = line.get(..at)?.chars().next_back();
            let joined = before.is_some_and(|c| c.is_alphanumeric() || "._-/>}*~$)".contains(c));
            let rest = line.get(at + 1..)?;
            let allowed = ALLOWED_AFTER.iter().any(|fine| rest.starts_with(fine));
            (!joined && !allowed).then(|| needle.clone())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_of_a_machine_is_found() {
        for directory in MACHINE_DIRECTORIES {
            let text = format!("see /{directory}/x/y\n");
            assert_eq!(check(&Tree::from([("README.md", text.as_str())])).len(), 1, "{text}");
        }
    }

    #[test]
    fn directory_of_that_name_inside_another_passes() {
        for text in [
            "store/v1/tmp/<txn>\n",
            "https://x.example/work/y\n",
            "$HOME/tmp/x\n",
            "<root>/tmp/x\n",
        ] {
            assert!(check(&Tree::from([("README.md", text)])).is_empty(), "{text}");
        }
    }

    #[test]
    fn loose_ends_are_found_outside_vectors() {
        for text in ["a \n", "a\t\n", "a\r\n", "a"] {
            assert!(!check(&Tree::from([("a.md", text)])).is_empty(), "{text:?}");
            assert!(
                check(&Tree::from([("formats/vectors/a.txt", text)])).is_empty(),
                "{text:?}"
            );
        }
    }
}
