//! Reading a `.qyv`: YAML to [`AppManifest`], every problem with its place.
//! The grammar is `spec/manifest.md`; `formats/qyv.schema.json` says the same
//! to editors.

use std::collections::BTreeMap;

use crate::app::{check_argv0, check_assets_at_root, check_assets_root, check_env_name, check_language, check_no_nul};
use crate::dependencies_yaml::dependencies;
use crate::functions;
use crate::reference::{is_repository, is_tag};
use crate::yaml::{self, Fields, Node, Problems, Reader, Value};
use crate::{
    AppManifest, AppType, AssetPath, AssetRule, AssetTarget, BuildCommand, FileSystem, FsKind, Permissions, Resources,
    Runtime, Serving, escape,
};

/// The version of a manifest that names none.
const DEFAULT_VERSION: &str = "0.0.0";
/// Where assets are seen unless the manifest says otherwise.
const DEFAULT_ASSETS_ROOT: &str = "/assets";
/// Words of `build`: the program and its arguments.
const BUILD_WORDS: usize = 64;
/// Bytes of each of them.
const BUILD_BYTES: usize = 4096;

const KEYS: &[&str] = &[
    "name",
    "version",
    "entrypoint",
    "runtime",
    "language",
    "type",
    "permissions",
    "fs",
    "dependencies",
    "assets",
    "assets_root",
    "env",
    "argv0",
    "args",
    "resources",
    "functions",
    "processes",
    "serve",
    "build",
];

/// Reads what stands under `permissions`: `qyvol-sandbox` knows how.
pub type ReadPermissions = fn(&mut Reader<'_>, &Node) -> Option<Permissions>;

/// Reads a manifest from the text of a `.qyv`.
pub fn parse_app_manifest(text: &str, read_permissions: ReadPermissions) -> Result<AppManifest, Problems> {
    let root = yaml::parse(text)?;
    let mut reader = Reader::new(text);
    let manifest = manifest(&mut reader, &root, read_permissions);
    reader.finish(manifest)
}

fn manifest(r: &mut Reader<'_>, root: &Node, read_permissions: ReadPermissions) -> Option<AppManifest> {
    let fields = r.fields(root, "the manifest", KEYS)?;
    let name = name(r, &fields);
    let version = version(r, &fields);
    let entries = functions::from_yaml(r, &fields);
    let runtime = match fields.get("runtime") {
        Some(node) => r.word(node, "runtime", &[("wasi", Runtime::Wasi)]),
        None => Some(Runtime::Wasi),
    };
    let language = fields.get("language").and_then(|node| {
        let text = r.text(node, "language")?;
        match check_language(text) {
            Ok(()) => Some(text.to_string()),
            Err(why) => {
                r.problem(node.place, why);
                None
            }
        }
    });
    let app_type = match fields.get("type") {
        Some(node) => r.word(
            node,
            "type",
            &[
                ("cli", AppType::Cli),
                ("service", AppType::Service),
                ("function", AppType::Function),
                ("gui", AppType::Gui),
            ],
        ),
        None => Some(AppType::Cli),
    };
    let permissions = fields
        .get("permissions")
        .map_or(Some(Permissions::default()), |node| read_permissions(r, node));
    let fs = file_system(r, fields.get("fs"));
    let assets = fields.get("assets").map(|n| assets(r, n)).unwrap_or_default();
    let dependencies = fields
        .get("dependencies")
        .map_or(Some(Vec::new()), |n| dependencies(r, n));
    let kind = fs.as_ref().map(|fs| fs.kind);
    let assets_root = assets_root(r, &fields, permissions.as_ref().zip(kind));
    let env = fields.get("env").map(|n| env(r, n)).unwrap_or_default();
    let argv0 = fields.get("argv0").and_then(|node| argv0(r, node));
    let args = fields.get("args").map(|n| args(r, n)).unwrap_or_default();
    let resources = fields
        .get("resources")
        .map_or(Some(Resources::default()), |n| Resources::from_yaml(r, n, "resources"));
    let serve = fields
        .get("serve")
        .map_or(Some(Serving::default()), |n| Serving::from_yaml(r, n));
    let build = fields.get("build").and_then(|node| build(r, node));
    Some(AppManifest {
        name: name?,
        version: version?,
        entrypoint: entries.entrypoint?,
        runtime: runtime?,
        language,
        app_type: app_type?,
        permissions: permissions?,
        fs: fs?,
        assets_root: assets_root?,
        env,
        argv0,
        args,
        resources: resources?,
        functions: entries.functions,
        processes: entries.processes,
        serve: serve?,
        assets,
        dependencies: dependencies?,
        build,
    })
}

fn name(r: &mut Reader<'_>, fields: &Fields<'_>) -> Option<String> {
    let node = r.required(fields, "name", "the manifest")?;
    let text = r.text(node, "name")?;
    if is_repository(text) {
        return Some(text.to_string());
    }
    let lower = text.to_lowercase().replace(' ', "-");
    let message = format!("`{}` can't be a name", escape(text));
    let rule = "lower-case letters and digits, separated by `.`, `_`, `-` or `/`";
    if is_repository(&lower) {
        r.problem_with_help(node.place, message, format!("{rule}: for instance {lower}"));
    } else {
        r.problem_with_help(node.place, message, rule);
    }
    None
}

fn version(r: &mut Reader<'_>, fields: &Fields<'_>) -> Option<String> {
    let Some(node) = fields.get("version") else {
        return Some(DEFAULT_VERSION.to_string());
    };
    let text = r.text(node, "version")?;
    if !is_tag(text) {
        r.problem_with_help(
            node.place,
            format!("`{}` can't be a version", escape(text)),
            "up to 128 letters, digits, `.`, `-` and `_`, such as 1.0.0 or 1.0.0-rc.1: it becomes a tag, where `+` is not allowed",
        );
        return None;
    }
    Some(text.to_string())
}

fn file_system(r: &mut Reader<'_>, node: Option<&Node>) -> Option<FileSystem> {
    let default = FileSystem {
        kind: FsKind::Memfs,
        source: None,
        cache: false,
    };
    let Some(node) = node else { return Some(default) };
    let fields = r.fields(node, "fs", &["type", "source", "cache"])?;
    let kind = match fields.get("type") {
        Some(node) => r.word(
            node,
            "fs.type",
            &[
                ("memfs", FsKind::Memfs),
                ("diskfs", FsKind::Diskfs),
                ("netfs", FsKind::Netfs),
            ],
        ),
        None => Some(FsKind::Memfs),
    };
    let source = match fields.get("source") {
        Some(node) => {
            if kind.is_some_and(|k| k != FsKind::Netfs) {
                r.problem_with_help(
                    node.place,
                    "fs.source has no meaning with this fs.type",
                    "only netfs has a source; the operator grants directories of the host with `qyv run --dir`",
                );
            }
            Some(r.text(node, "fs.source")?.to_string())
        }
        None => None,
    };
    let cache = fields.get("cache").map_or(Some(false), |node| {
        let cache = r.boolean(node, "fs.cache")?;
        if cache && kind.is_some_and(|k| k != FsKind::Netfs) {
            r.problem(
                node.place,
                "fs.cache has no meaning with this fs.type: only netfs has a cache",
            );
        }
        Some(cache)
    });
    Some(FileSystem {
        kind: kind?,
        source,
        cache: cache?,
    })
}

fn assets(r: &mut Reader<'_>, node: &Node) -> Vec<AssetRule> {
    let mut rules = Vec::new();
    for item in r.items(node, "assets") {
        let rule = match &item.value {
            Value::Mapping(_) => asset_mapping(r, item),
            _ => asset_from(r, item).map(|from| AssetRule {
                from,
                to: AssetTarget::Own,
            }),
        };
        rules.extend(rule);
    }
    rules
}

fn asset_mapping(r: &mut Reader<'_>, item: &Node) -> Option<AssetRule> {
    let fields = r.fields(item, "an entry of assets", &["from", "to"])?;
    let from = r
        .required(&fields, "from", "an entry of assets")
        .and_then(|n| asset_from(r, n));
    let to = match fields.get("to") {
        Some(node) if matches!(r.text(node, "to")?, "." | "./") => AssetTarget::Root,
        Some(node) => AssetTarget::Path(AssetPath::from_yaml(r, node, "to")?),
        None => AssetTarget::Own,
    };
    Some(AssetRule { from: from?, to })
}

/// A path or glob inside the directory. Its own characters are looser than a
/// path's (`*`, `?`, `[…]`); what it finds is checked when it is packed.
fn asset_from(r: &mut Reader<'_>, node: &Node) -> Option<String> {
    let text = r.text(node, "an entry of assets")?;
    let path = text.strip_prefix("./").unwrap_or(text);
    let leaves = path.is_empty()
        || path.starts_with('/')
        || path.contains(['\\', '\0'])
        || path.split('/').any(|component| component == "..");
    if leaves {
        r.problem_with_help(
            node.place,
            format!("`{}` can't be an entry of assets", escape(text)),
            "a relative path or glob inside the manifest's directory, with `/` and without `..`",
        );
        return None;
    }
    Some(path.trim_end_matches('/').to_string())
}

fn assets_root(r: &mut Reader<'_>, fields: &Fields<'_>, beside: Option<(&Permissions, FsKind)>) -> Option<String> {
    let Some(node) = fields.get("assets_root") else {
        return Some(DEFAULT_ASSETS_ROOT.to_string());
    };
    let text = r.text(node, "assets_root")?;
    let beside = |()| beside.map_or(Ok(()), |(asked, kind)| check_assets_at_root(text, asked, kind));
    if let Err(why) = check_assets_root(text).and_then(beside) {
        r.problem(node.place, why);
        return None;
    }
    Some(text.to_string())
}

fn argv0(r: &mut Reader<'_>, node: &Node) -> Option<String> {
    let text = r.text(node, "argv0")?;
    if let Err(why) = check_argv0(text) {
        r.problem(node.place, why);
        return None;
    }
    Some(text.to_string())
}

fn env(r: &mut Reader<'_>, node: &Node) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for (key, value) in r.entries(node, "env") {
        if let Err(why) = check_env_name(&key.text) {
            r.problem(key.place, why);
        }
        if let Some(text) = r.text_or_number(value, "an environment value") {
            if let Err(why) = check_no_nul("an environment value", text) {
                r.problem(value.place, why);
            }
            env.insert(key.text.clone(), text.to_string());
        }
    }
    env
}

fn args(r: &mut Reader<'_>, node: &Node) -> Vec<String> {
    let mut args = Vec::new();
    for item in r.items(node, "args") {
        if let Some(text) = r.text_or_number(item, "an argument") {
            if let Err(why) = check_no_nul("an argument", text) {
                r.problem(item.place, why);
            }
            args.push(text.to_string());
        }
    }
    args
}

fn build(r: &mut Reader<'_>, node: &Node) -> Option<BuildCommand> {
    let items = match &node.value {
        Value::Sequence(items) => items,
        _ => {
            r.problem_with_help(
                node.place,
                format!("build must be a list, not {}", node.kind()),
                "the program and each argument by itself: [cargo, build, --release]; no shell reads them",
            );
            return None;
        }
    };
    if items.is_empty() || items.len() > BUILD_WORDS {
        r.problem(
            node.place,
            format!("build must have a program, and at most {BUILD_WORDS} words"),
        );
        return None;
    }
    let mut words = Vec::new();
    for item in items {
        let text = r.text_or_number(item, "a word of build")?;
        if let Err(why) = check_no_nul("a word of build", text) {
            r.problem(item.place, why);
        }
        if text.len() > BUILD_BYTES {
            r.problem(item.place, format!("a word of build has at most {BUILD_BYTES} bytes"));
        }
        words.push(text.to_string());
    }
    let program = words.remove(0);
    if program.is_empty() {
        r.problem(node.place, "the program of build can't be empty");
    }
    Some(BuildCommand { program, args: words })
}
