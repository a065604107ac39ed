//! The file of applications of one server. It belongs to the host and says what each
//! application is granted. It grants directories, so it is read only where nobody but its owner
//! and root could have written it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use qyvol_sandbox::Endpoint;
use qyvol_serve::Route;
use qyvol_types::yaml::{self, Fields, Node, Problems, Reader};
use qyvol_types::{Resources, escape, parse_duration};

use crate::secure_file::{self, SecureFileError};
use crate::text_file::read_open_file;
use crate::{Error, Target};

/// Most applications of one server.
const APPS: usize = 4096;
/// Longest name of an application.
const NAME: usize = 255;
/// Most requests of one application at once.
const REQUESTS: u64 = 65_536;

const KEYS: &[&str] = &[
    "target",
    "name",
    "host",
    "path",
    "env",
    "secrets",
    "dirs",
    "allow_net",
    "limits",
    "max_requests",
    "request_timeout",
];

/// An application in the file. Paths are absolute or those of this process; relative ones
/// in the file begin at its directory.
#[derive(Debug)]
pub struct AppEntry {
    /// The target.
    pub target: Target,
    /// Its name, if it is not the image's.
    pub name: Option<String>,
    /// The requests that it answers.
    pub route: Route,
    /// Variables of its environment.
    pub env: Vec<(String, String)>,
    /// Variables whose values are in files.
    pub secrets: Vec<(String, PathBuf)>,
    /// Directories that it is granted, as with `run --dir`.
    pub dirs: Vec<String>,
    /// Where it may connect to, beyond its manifest.
    pub net: Vec<Endpoint>,
    /// Limits in place of its manifest's.
    pub limits: Resources,
    /// Requests that it answers at once.
    pub requests: Option<usize>,
    /// How long a request may take.
    pub time: Option<Duration>,
}

/// Reads the file of a server's applications.
pub fn read_apps(path: &Path) -> Result<Vec<AppEntry>, Error> {
    let refused = |why: String| Error::Apps {
        path: path.to_path_buf(),
        why,
    };
    let file = secure_file::open(path).map_err(|error| match error {
        SecureFileError::Absent => refused("there is no such file".to_string()),
        SecureFileError::Refused(why) => refused(why),
    })?;
    let text = read_open_file(file, path)?;
    let base = path.parent().unwrap_or(Path::new(""));
    parse(&text, base).map_err(|problems| Error::AppsYaml {
        path: path.to_path_buf(),
        problems,
    })
}

fn parse(text: &str, base: &Path) -> Result<Vec<AppEntry>, Problems> {
    let root = yaml::parse(text)?;
    let mut reader = Reader::new(text);
    let apps = apps(&mut reader, &root, base);
    reader.finish(apps)
}

fn apps(r: &mut Reader<'_>, root: &Node, base: &Path) -> Option<Vec<AppEntry>> {
    let fields = r.fields(root, "the file", &["apps"])?;
    let node = r.required(&fields, "apps", "the file")?;
    let items = r.items(node, "apps");
    if items.is_empty() || items.len() > APPS {
        r.problem(node.place, format!("expected a list of 1 to {APPS} applications"));
        return None;
    }
    let mut routes = HashSet::new();
    let mut names = HashSet::new();
    let mut all = Vec::with_capacity(items.len());
    for item in items {
        let Some(entry) = entry(r, item, base) else {
            continue;
        };
        if !routes.insert(entry.route.clone()) {
            r.problem(item.place, "an application above answers the same host and path");
        }
        if let Some(name) = &entry.name
            && !names.insert(name.clone())
        {
            r.problem(item.place, "an application above has the same name");
        }
        all.push(entry);
    }
    Some(all)
}

fn entry(r: &mut Reader<'_>, node: &Node, base: &Path) -> Option<AppEntry> {
    let fields = r.fields(node, "an application", KEYS)?;
    let target = r
        .required(&fields, "target", "an application")
        .and_then(|node| target(r, node, base));
    let name = text(r, &fields, "name");
    if let Some((node, name)) = &name
        && (name.is_empty() || name.len() > NAME || name.chars().any(char::is_control))
    {
        r.problem(node.place, format!("expected 1 to {NAME} bytes of text"));
    }
    let route = route(r, node, &fields);
    let pairs = |r: &mut Reader<'_>, key: &str| fields.get(key).map(|node| variables(r, node, key)).unwrap_or_default();
    let env = pairs(r, "env");
    let secrets = pairs(r, "secrets");
    let dirs = fields
        .get("dirs")
        .map(|node| texts(r, node, "dirs"))
        .unwrap_or_default();
    let net = fields
        .get("allow_net")
        .map(|node| endpoints(r, node))
        .unwrap_or_default();
    let limits = fields.get("limits").map_or(Some(Resources::default()), |node| {
        Resources::from_yaml(r, node, "limits")
    });
    let requests = fields.get("max_requests").and_then(|node| {
        let number = r.integer(node, "max_requests", REQUESTS)?;
        if number == 0 {
            r.problem(node.place, format!("max_requests must be 1 to {REQUESTS}"));
        }
        usize::try_from(number).ok()
    });
    let time = text(r, &fields, "request_timeout").and_then(|(node, text)| {
        let time = parse_duration(text).map(Duration::from_millis);
        if time.is_none_or(|time| time.is_zero()) {
            r.problem(node.place, "request_timeout must be a duration such as 500ms or 30s");
        }
        time
    });
    Some(AppEntry {
        target: target?,
        name: name.map(|(_, name)| name.to_string()),
        route: route?,
        env,
        secrets: secrets
            .into_iter()
            .map(|(name, path)| (name, base.join(path)))
            .collect(),
        dirs: dirs.into_iter().map(|(_, dir)| dir).collect(),
        net,
        limits: limits?,
        requests,
        time,
    })
}

fn text<'n>(r: &mut Reader<'_>, fields: &Fields<'n>, key: &str) -> Option<(&'n Node, &'n str)> {
    let node = fields.get(key)?;
    Some((node, r.text(node, key)?))
}

fn target(r: &mut Reader<'_>, node: &Node, base: &Path) -> Option<Target> {
    let text = r.text(node, "target")?;
    match Target::parse(text) {
        Ok(Target::Archive(path)) => Some(Target::Archive(base.join(path))),
        Ok(Target::Manifest(path)) => Some(Target::Manifest(base.join(path))),
        Ok(Target::Wasm(path)) => Some(Target::Wasm(base.join(path))),
        Ok(image) => Some(image),
        Err(error) => {
            r.problem(node.place, error.to_string());
            None
        }
    }
}

fn route(r: &mut Reader<'_>, node: &Node, fields: &Fields<'_>) -> Option<Route> {
    let host = text(r, fields, "host");
    let path = text(r, fields, "path");
    let route = Route::new(host.map(|(_, host)| host), path.map_or("/", |(_, path)| path));
    match route {
        Ok(route) => Some(route),
        Err(error) => {
            let at = match error {
                qyvol_serve::RouteError::Host => host,
                qyvol_serve::RouteError::Path => path,
            };
            r.problem(at.map_or(node, |(node, _)| node).place, error.to_string());
            None
        }
    }
}

fn texts<'n>(r: &mut Reader<'_>, node: &'n Node, what: &str) -> Vec<(&'n Node, String)> {
    let items = r.items(node, what);
    let texts = items
        .iter()
        .filter_map(|item| Some((item, r.text(item, what)?.to_string())));
    texts.collect()
}

fn endpoints(r: &mut Reader<'_>, node: &Node) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    for (node, text) in texts(r, node, "allow_net") {
        match Endpoint::parse(&text) {
            Ok(endpoint) => endpoints.push(endpoint),
            Err(why) => r.problem(node.place, why.to_string()),
        }
    }
    endpoints
}

fn variables(r: &mut Reader<'_>, node: &Node, what: &str) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for (key, value) in r.entries(node, what) {
        let name = key.text.as_str();
        if name.is_empty() || name.contains(['=', '\0']) {
            r.problem(key.place, format!("`{}` can't be the name of a variable", escape(name)));
        }
        match r.text(value, what) {
            Some(text) if text.contains('\0') => r.problem(value.place, "a variable can't hold a NUL character"),
            Some(text) => variables.push((name.to_string(), text.to_string())),
            None => {}
        }
    }
    variables
}
