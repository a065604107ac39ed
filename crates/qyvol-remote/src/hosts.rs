//! `hosts.yaml`: an operator's settings for single registries. Read strictly: an unknown field
//! refuses the file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use qyvol_types::yaml::{self, Node, Problems, Reader};
use qyvol_types::{RepositoryName, escape, parse_duration};

/// Most hosts in a file, and most mirrors of a host.
const MAX_ENTRIES: usize = 1000;
/// Most transfers at a time.
const MAX_CONCURRENCY: u64 = 64;
/// Longest timeout of a host.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);

/// The entry of one host. Files that it names have not been read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostEntry {
    /// A file of certificates to trust for this host beside the system's, PEM;
    /// a relative path is meant from the directory of `hosts.yaml`.
    pub ca: Option<PathBuf>,
    /// Plain HTTP; or, for a loopback host, HTTPS in place of plain HTTP.
    pub plain_http: Option<bool>,
    /// Tried first when something is read: `host[:port][/prefix]`.
    pub mirrors: Vec<String>,
    /// How long the host may send nothing.
    pub timeout: Option<Duration>,
    /// Transfers at a time.
    pub concurrency: Option<usize>,
}

/// Reads `hosts.yaml`: entries by `host` or `host:port`, in lower case.
pub fn parse_hosts(text: &str) -> Result<BTreeMap<String, HostEntry>, Problems> {
    let root = yaml::parse(text)?;
    let mut reader = Reader::new(text);
    let hosts = hosts(&mut reader, &root);
    reader.finish(hosts)
}

fn hosts(r: &mut Reader<'_>, root: &Node) -> Option<BTreeMap<String, HostEntry>> {
    let fields = r.fields(root, "the file", &["version", "hosts"])?;
    let version = r.required(&fields, "version", "the file")?;
    if r.integer(version, "version", 1) == Some(0) {
        r.problem(version.place, "version must be 1");
    }
    let mut hosts = BTreeMap::new();
    let entries = fields.get("hosts").map_or(&[][..], |node| r.entries(node, "hosts"));
    if entries.len() > MAX_ENTRIES {
        r.problem(root.place, format!("more than {MAX_ENTRIES} hosts"));
        return None;
    }
    for (key, node) in entries {
        let name: Option<RepositoryName> = format!("{}/x", key.text).parse().ok();
        let host = name.as_ref().and_then(RepositoryName::registry);
        let Some(host) = host.filter(|host| host.eq_ignore_ascii_case(&key.text)) else {
            let message = format!("`{}` is not a registry: expected HOST or HOST:PORT", escape(&key.text));
            r.problem(key.place, message);
            continue;
        };
        let entry = entry(r, node);
        if let Some(entry) = entry
            && hosts.insert(host.to_string(), entry).is_some()
        {
            r.problem(key.place, format!("a second entry for {host}"));
        }
    }
    Some(hosts)
}

fn entry(r: &mut Reader<'_>, node: &Node) -> Option<HostEntry> {
    let fields = r.fields(
        node,
        "a host",
        &["ca", "plain-http", "mirrors", "timeout", "concurrency"],
    )?;
    let mut entry = HostEntry::default();
    if let Some(node) = fields.get("ca") {
        entry.ca = r.text(node, "ca").filter(|path| !path.is_empty()).map(PathBuf::from);
    }
    if let Some(node) = fields.get("plain-http") {
        entry.plain_http = r.boolean(node, "plain-http");
    }
    if let Some(node) = fields.get("timeout")
        && let Some(text) = r.text(node, "timeout")
    {
        entry.timeout = parse_duration(text).map(Duration::from_millis);
        if entry.timeout.is_none_or(|timeout| timeout > MAX_TIMEOUT) {
            r.problem(
                node.place,
                "timeout must be a whole number with a unit of ms, s, m or h, such as 60s, at most 1h",
            );
        }
    }
    if let Some(node) = fields.get("concurrency") {
        let number = r.integer(node, "concurrency", MAX_CONCURRENCY);
        if number == Some(0) {
            r.problem(node.place, "concurrency must be at least 1");
        }
        entry.concurrency = number.and_then(|number| usize::try_from(number).ok());
    }
    let mirrors = fields.get("mirrors").map_or(&[][..], |node| r.items(node, "mirrors"));
    for node in mirrors.iter().take(MAX_ENTRIES) {
        let Some(text) = r.text(node, "a mirror") else { continue };
        match mirror(text) {
            Some(mirror) => entry.mirrors.push(mirror),
            None => r.problem(
                node.place,
                format!(
                    "`{}` is not a mirror: expected HOST[:PORT] or HOST[:PORT]/PREFIX",
                    escape(text)
                ),
            ),
        }
    }
    Some(entry)
}

/// `host[:port]` or `host[:port]/prefix`, the host in lower case.
fn mirror(text: &str) -> Option<String> {
    let (host, prefix) = text.split_once('/').unwrap_or((text, "x"));
    let name: RepositoryName = format!("{host}/{prefix}").parse().ok()?;
    let registry = name.registry().filter(|registry| registry.eq_ignore_ascii_case(host))?;
    Some(match text.contains('/') {
        true => format!("{registry}/{prefix}"),
        false => registry.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = "\
version: 1
hosts:
  Registry.Example:5000:
    ca: own.pem
    plain-http: false
    mirrors: [mirror.example, \"harbor.example:8443/hub\"]
    timeout: 90s
    concurrency: 2
  docker.io: {}
";

    // [REG-023]
    #[test]
    fn every_key_of_a_host_is_read() {
        let hosts = parse_hosts(FULL).unwrap();
        assert_eq!(hosts["docker.io"], HostEntry::default());
        let entry = &hosts["registry.example:5000"];
        assert_eq!(entry.ca.as_deref(), Some(std::path::Path::new("own.pem")));
        assert_eq!(entry.plain_http, Some(false));
        assert_eq!(entry.mirrors, ["mirror.example", "harbor.example:8443/hub"]);
        assert_eq!(entry.timeout, Some(Duration::from_secs(90)));
        assert_eq!(entry.concurrency, Some(2));
        assert!(parse_hosts("version: 1\n").unwrap().is_empty());
    }

    // [REG-023]
    #[test]
    fn invalid_entry_rejects_the_hosts_file() {
        for (from, to) in [
            ("version: 1", "version: 2"),
            ("version: 1\n", ""),
            ("plain-http", "plain_http"),
            ("plain-http: false", "plain-http: no"),
            ("plain-http: false", "insecure: true"),
            ("90s", "90"),
            ("90s", "2h"),
            ("concurrency: 2", "concurrency: 0"),
            ("concurrency: 2", "concurrency: 65"),
            ("docker.io", "https://docker.io"),
            ("docker.io", "docker.io/library"),
            ("docker.io", "registry.example:5000"),
            ("mirror.example", "https://mirror.example"),
            ("mirror.example", "mirror.example/a:1"),
            ("mirror.example", "mirror.example/../x"),
            ("hub\"", "hub@sha256:0\""),
        ] {
            let bad = FULL.replacen(from, to, 1);
            assert_ne!(bad, FULL, "{from}");
            assert!(parse_hosts(&bad).is_err(), "{bad}");
        }
    }
}
