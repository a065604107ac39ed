//! What a component imports or exports, by packages, with what each is for.

use crate::shown::Inert;

/// Bytes of HTML for a package or an interface, and for all of a list.
const EACH: usize = 200;
const ALL: usize = 5000;
/// HTML around a name.
const MARKUP: usize = 60;

/// Interfaces by their packages.
#[derive(Debug, Default)]
pub(crate) struct Interfaces {
    pub(crate) packages: Vec<Package>,
    /// How many there are in all.
    pub(crate) number: usize,
    /// How many are not shown.
    pub(crate) left_out: usize,
}

#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: Inert,
    pub(crate) purpose: Option<Purpose>,
    pub(crate) interfaces: Vec<Interface>,
}

#[derive(Debug)]
pub(crate) struct Interface {
    pub(crate) name: Inert,
    /// Whether the permissions deny every use of it.
    pub(crate) is_denied: bool,
}

/// What a known package is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    CommandLine,
    Files,
    Network,
    Http,
    Clocks,
    Random,
    Streams,
    Inference,
    Preview1,
    Caller,
}

/// Packages that are known by name.
const KNOWN: [(&str, Purpose); 10] = [
    ("wasi:cli", Purpose::CommandLine),
    ("wasi:filesystem", Purpose::Files),
    ("wasi:sockets", Purpose::Network),
    ("wasi:http", Purpose::Http),
    ("wasi:clocks", Purpose::Clocks),
    ("wasi:random", Purpose::Random),
    ("wasi:io", Purpose::Streams),
    ("wasi:nn", Purpose::Inference),
    ("wasi_snapshot_preview1", Purpose::Preview1),
    ("qyvol:call", Purpose::Caller),
];

impl Interfaces {
    /// Bytes in memory.
    pub(crate) fn len(&self) -> usize {
        let interfaces = |package: &Package| package.interfaces.iter().map(|one| one.name.len() + 64).sum::<usize>();
        self.packages
            .iter()
            .map(|package| package.name.len() + 64 + interfaces(package))
            .sum()
    }
}

/// Groups names by their packages, in the order in which they come.
pub(crate) fn interfaces(names: &[String], denied: &[String]) -> Interfaces {
    let mut out = Interfaces {
        number: names.len(),
        ..Interfaces::default()
    };
    let mut bytes = 0;
    let mut current: Option<(&str, usize)> = None;
    for (index, name) in names.iter().enumerate() {
        if bytes >= ALL {
            out.left_out = names.len() - index;
            break;
        }
        let package = package(name);
        let place = match current {
            Some((same, place)) if same == package => place,
            _ => {
                let purpose = KNOWN
                    .iter()
                    .find(|(known, _)| *known == package)
                    .map(|(_, purpose)| *purpose);
                let name = Inert::line(package, EACH);
                bytes += name.html() + 2 * MARKUP;
                let interfaces = Vec::new();
                out.packages.push(Package {
                    name,
                    purpose,
                    interfaces,
                });
                out.packages.len() - 1
            }
        };
        current = Some((package, place));
        let shown = Inert::line(name, EACH);
        bytes += shown.html() + MARKUP;
        if let Some(package) = out.packages.get_mut(place) {
            package.interfaces.push(Interface {
                name: shown,
                is_denied: denied.contains(name),
            });
        }
    }
    out
}

/// `wasi:cli` of `wasi:cli/run@0.2.6`; the whole of a name without a package.
fn package(name: &str) -> &str {
    match name.split_once('/') {
        Some((package, _)) if package.contains(':') => package,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // [HUB-043]
    #[test]
    fn imports_are_grouped_by_package_and_bounded() {
        let names: Vec<String> = ["acme:a/b@1.0.0", "run", "wasi:cli/exit@0.2.6", "wasi:cli/stdin@0.2.6"]
            .map(String::from)
            .to_vec();
        let found = interfaces(&names, &names[2..3]);
        let shown: Vec<_> = found
            .packages
            .iter()
            .map(|package| (package.name.to_string(), package.purpose, package.interfaces.len()))
            .collect();
        let expected = [
            ("acme:a".to_string(), None, 1),
            ("run".to_string(), None, 1),
            ("wasi:cli".to_string(), Some(Purpose::CommandLine), 2),
        ];
        assert_eq!(shown, expected);
        assert!(found.packages[2].interfaces[0].is_denied && !found.packages[2].interfaces[1].is_denied);
        let many: Vec<String> = (0..10_000).map(|n| format!("a{n}:<>&/x")).collect();
        let found = interfaces(&many, &[]);
        let shown: usize = found.packages.iter().map(|package| package.interfaces.len()).sum();
        assert_eq!(shown + found.left_out, 10_000);
        assert!(shown < 50, "{shown}");
    }
}
