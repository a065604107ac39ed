//! Reading and writing `qyv.lock`: YAML by the same strict rules as a `.qyv`.

use std::fmt::Write;

use crate::dependencies::{DependencyImage, Lock, LockedDependency};
use crate::reference::is_tag;
use crate::yaml::{self, Fields, Node, Problems, Reader};
use crate::{Digest, Reference, WitName, escape, limits};

const KEYS: &[&str] = &["for", "image", "version", "name", "manifest", "component", "signers"];

impl Lock {
    /// Reads the text of a `qyv.lock`.
    pub fn parse_yaml(text: &str) -> Result<Lock, Problems> {
        let root = yaml::parse(text)?;
        let mut reader = Reader::new(text);
        let lock = lock(&mut reader, &root);
        reader.finish(lock)
    }

    /// The text of a `qyv.lock`: the same for the same lock. What the dependencies were built with
    /// themselves is not in it: their digests bind that.
    pub fn to_yaml(&self) -> String {
        let mut text = "# What `dependencies` were resolved to. Written by `qyv build` and `qyv update`.\n".to_string();
        let _ = writeln!(text, "version: {}\ndependencies:", self.version);
        for one in &self.dependencies {
            // Every value is of characters that need no escape.
            let lines = [
                ("for", one.key.to_string()),
                ("image", one.image.to_string()),
                ("version", one.version.clone()),
                ("name", one.name.to_string()),
                ("manifest", one.manifest.to_string()),
                ("component", one.component.to_string()),
            ];
            for (number, (key, value)) in lines.iter().enumerate() {
                let start = if number == 0 { "  - " } else { "    " };
                let _ = writeln!(text, "{start}{key}: {}", yaml::scalar(value));
            }
            if one.signers.is_empty() {
                text.push_str("    signers: []\n");
                continue;
            }
            text.push_str("    signers:\n");
            for signer in &one.signers {
                let _ = writeln!(text, "      - {}", yaml::scalar(signer));
            }
        }
        text
    }
}

fn lock(r: &mut Reader<'_>, root: &Node) -> Option<Lock> {
    let fields = r.fields(root, "the lock", &["version", "dependencies"])?;
    let version = r.required(&fields, "version", "the lock");
    let version = version.and_then(|node| r.integer(node, "version", u64::MAX));
    let list = r.required(&fields, "dependencies", "the lock")?;
    let items = r.items(list, "dependencies");
    if items.len() > limits::DEPENDENCIES {
        r.problem(
            list.place,
            format!("it has more than {} dependencies", limits::DEPENDENCIES),
        );
        return None;
    }
    let dependencies: Vec<_> = items.iter().map(|item| dependency(r, item)).collect();
    let lock = Lock {
        version: version?,
        dependencies: dependencies.into_iter().collect::<Option<_>>()?,
    };
    if let Err(why) = lock.check() {
        r.problem(root.place, why);
        return None;
    }
    Some(lock)
}

fn dependency(r: &mut Reader<'_>, item: &Node) -> Option<LockedDependency> {
    let what = "an entry of dependencies";
    let fields = r.fields(item, what, KEYS)?;
    let key = value(r, &fields, "for", |text| {
        text.parse::<WitName>().map_err(|e| format!("is {e}"))
    });
    let image = value(r, &fields, "image", DependencyImage::parse);
    let version = value(r, &fields, "version", |text| match is_tag(text) {
        true => Ok(text.to_string()),
        false => Err("can't be a version".to_string()),
    });
    let name = value(r, &fields, "name", |text| {
        text.parse::<Reference>().map_err(|e| format!("is {e}"))
    });
    let digest = |text: &str| text.parse::<Digest>().map_err(|e| format!("is no digest: {e}"));
    let manifest = value(r, &fields, "manifest", digest);
    let component = value(r, &fields, "component", digest);
    let mut signers = Vec::new();
    if let Some(node) = r.required(&fields, "signers", what) {
        for item in r.items(node, "signers") {
            signers.push(r.text(item, "a signer")?.to_string());
        }
    }
    Some(LockedDependency {
        key: key?,
        image: image?,
        version: version?,
        name: name?,
        manifest: manifest?,
        component: component?,
        signers,
        dependencies: Vec::new(),
    })
}

/// A text of a form of its own.
fn value<T>(
    r: &mut Reader<'_>,
    fields: &Fields<'_>,
    key: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    let node = r.required(fields, key, "an entry of dependencies")?;
    let text = r.text(node, key)?;
    match parse(text) {
        Ok(value) => Some(value),
        Err(why) => {
            r.problem(node.place, format!("{key} `{}` {why}", escape(text)));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock() -> Lock {
        let digest = Digest::of(b"x");
        let one = |key: &str, image: &str| LockedDependency {
            key: key.parse().unwrap(),
            image: DependencyImage::parse(image).unwrap(),
            version: "1.10".to_string(),
            name: "acme/calc:1.10".parse().unwrap(),
            manifest: digest,
            component: digest,
            signers: vec!["SHA256:a".to_string(), "SHA256:b".to_string()],
            dependencies: Vec::new(),
        };
        Lock::new(vec![
            one("b:c/d@1.0.0", "registry.example:5000/acme/calc"),
            one("a:b", "./lib/calc.qyvbin"),
        ])
    }

    // [COMP-020]
    #[test]
    fn lock_is_read_back_as_it_was_written() {
        let lock = lock();
        let text = lock.to_yaml();
        assert_eq!(Lock::parse_yaml(&text).unwrap(), lock);
        assert_eq!(lock.to_yaml(), text);
        assert!(
            text.contains("image: lib/calc.qyvbin\n    version: \"1.10\"\n"),
            "{text}"
        );
    }

    // [COMP-020]
    #[test]
    fn lock_of_another_form_is_refused() {
        let good = lock().to_yaml();
        let entry = &good[good.find("  - for").unwrap()..];
        for (what, bad) in [
            ("empty", String::new()),
            ("no list", "version: 1\ndependencies: {}\n".to_string()),
            ("another version", good.replace("version: 1\n", "version: 2\n")),
            ("unsorted", good.replace("a:b\"", "x:b\"")),
            ("twice", format!("{good}{entry}")),
            ("signers unsorted", good.replace("SHA256:a", "SHA256:c")),
            ("signer twice", good.replace("SHA256:a", "SHA256:b")),
            ("no text", good.replace("\"1.10\"", "1.10")),
            (
                "a name with a registry",
                good.replace("name: \"acme", "name: \"registry.example/acme"),
            ),
            (
                "a tag in the image",
                good.replace("example:5000/acme/calc", "example:5000/acme/calc:1"),
            ),
            ("no digest", good.replace("sha256:", "sha256-")),
            ("an alias", good.replace("image: lib", "image: &a lib")),
            (
                "an unknown key",
                good.replace("    image: lib", "    more: x\n    image: lib"),
            ),
            (
                "nested",
                good.replace("    image: lib", "    dependencies: []\n    image: lib"),
            ),
            ("too many", format!("{good}{}", entry.repeat(40))),
            ("too long", format!("{good}#{}\n", "x".repeat(300_000))),
        ] {
            assert_ne!(bad, good, "{what}");
            Lock::parse_yaml(&bad).expect_err(what);
        }
    }

    // [COMP-025]
    #[test]
    fn nested_entries_are_bounded() {
        let mut lock = lock();
        let one = lock.dependencies[0].clone();
        for depth in 1..=limits::DEPENDENCY_DEPTH {
            assert_eq!(lock.check(), Ok(()), "{depth}");
            let inner = lock.dependencies.clone();
            lock.dependencies = vec![LockedDependency {
                dependencies: inner,
                ..one.clone()
            }];
        }
        lock.check().unwrap_err();
        let wide = (0..=limits::DEPENDENCIES_ALL).map(|n| LockedDependency {
            key: format!("a:b/c{n}").parse().unwrap(),
            ..one.clone()
        });
        Lock::new(wide.collect()).check().unwrap_err();
    }
}
