//! `functions` and `processes` of a manifest: what an application's component is called
//! by, with which limits.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::yaml::{Fields, Node, Reader};
use crate::{AssetPath, Pool, Resources, escape};

/// Most functions of a manifest.
const FUNCTIONS: usize = 256;
/// Most processes of a manifest.
const PROCESSES: usize = 64;
/// Length of a name, in bytes.
const NAME: usize = 64;
/// Length of a method's name, in bytes.
const METHOD: usize = 256;
/// Length of a signature, in bytes.
const SIGNATURE: usize = 1024;
/// Most entries of `imports`.
const IMPORTS: usize = 64;
/// The component that is made of functions, which no file has a name for.
const MADE: &str = "functions.wasm";

/// A function that a manifest names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppFunction {
    /// The component's function, where that has another name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// All that its WebAssembly may import: packages or interfaces of WIT. Absent: what
    /// the permissions allow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imports: Option<Vec<String>>,
    /// Its instances.
    pub pool: Pool,
    /// Limits of each call, beside those of the application.
    pub limits: Resources,
    /// What it is made of; only in the `.qyv`, never in an image.
    #[serde(skip)]
    pub code: Option<FunctionCode>,
}

/// A core module, and what it exports as a function with types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionCode {
    /// Where the module comes from.
    pub module: ModuleSource,
    /// The function's name and types in WIT, such as `add: func(a: s32, b: s32) -> s32`.
    pub signature: String,
}

/// Where a core module comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ModuleSource {
    /// The text format of WebAssembly, in the manifest.
    Wat(String),
    /// A file, relative to the manifest's directory.
    File(String),
}

/// A process that a manifest names: a function that is called once, and again when it has
/// ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppProcess {
    /// The component's function, which has no parameters.
    pub method: String,
    /// When it is called again.
    pub restart: Restart,
    /// Limits of each call, beside those of the application.
    pub limits: Resources,
}

/// When a process is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never.
    #[default]
    No,
    /// When it did not return, or returned an error.
    OnFailure,
    /// Always.
    Always,
}

impl AppFunction {
    pub(crate) fn check(&self, name: &str) -> Result<(), String> {
        check_name(name)?;
        if let Some(method) = &self.method {
            check_method(method)?;
        }
        let imports = self.imports.as_deref().unwrap_or_default();
        if imports.len() > IMPORTS {
            return Err(format!("more than {IMPORTS} imports"));
        }
        imports.iter().try_for_each(|import| check_import(import))?;
        check_limits(&self.limits)?;
        self.pool.check()
    }
}

impl AppProcess {
    pub(crate) fn check(&self, name: &str) -> Result<(), String> {
        check_name(name)?;
        check_method(&self.method)?;
        check_limits(&self.limits)
    }
}

/// Checks those of a config; returns what is wrong.
pub(crate) fn check(
    functions: &BTreeMap<String, AppFunction>,
    processes: &BTreeMap<String, AppProcess>,
) -> Result<(), String> {
    if functions.len() > FUNCTIONS || processes.len() > PROCESSES {
        return Err(format!("more than {FUNCTIONS} functions or {PROCESSES} processes"));
    }
    functions.iter().try_for_each(|(name, function)| function.check(name))?;
    processes.iter().try_for_each(|(name, process)| process.check(name))
}

fn check_name(name: &str) -> Result<(), String> {
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    // WIT wants a letter at the beginning of each word.
    let letters = name
        .split('-')
        .all(|word| word.starts_with(|c: char| c.is_ascii_lowercase()));
    if name.len() > NAME || !letters || !name.split('-').all(is_word) {
        return Err(format!(
            "a name must be lower-case letters and digits, in words that begin with a letter and are joined by `-`, and at most {NAME} bytes"
        ));
    }
    Ok(())
}

fn check_method(method: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":/@.#-+[]".contains(c);
    if method.is_empty() || method.len() > METHOD || !method.chars().all(allowed) {
        return Err("method must be the name of a function in WIT, such as acme:calc/ops.add".to_string());
    }
    Ok(())
}

fn check_import(import: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":/@.-+".contains(c);
    let has_package = import
        .split_once(':')
        .is_some_and(|(namespace, rest)| !namespace.is_empty() && !rest.is_empty());
    if import.len() > METHOD || !has_package || !import.chars().all(allowed) {
        return Err("an import must be a package or an interface of WIT, such as wasi:clocks".to_string());
    }
    Ok(())
}

/// A signature is put into a world of WIT: it must be nothing more than a function.
fn check_signature(name: &str, signature: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || " -:,()<>_".contains(c);
    let expected = "wit must be the function's name and types, such as `add: func(a: s32, b: s32) -> s32`";
    if signature.len() > SIGNATURE || !signature.chars().all(allowed) {
        return Err(format!("{expected}, in at most {SIGNATURE} bytes on one line"));
    }
    match signature.split_once(':') {
        Some((own, types)) if own.trim() == name && types.trim_start().starts_with("func") => Ok(()),
        Some((own, types)) if types.trim_start().starts_with("func") => Err(format!(
            "wit names the function `{}`, and the manifest `{}`: they must be the same",
            escape(own.trim()),
            escape(name)
        )),
        _ => Err(expected.to_string()),
    }
}

fn check_limits(limits: &Resources) -> Result<(), String> {
    match limits.storage {
        Some(_) => {
            Err("storage can't be limited here: all calls share the files; write it under resources".to_string())
        }
        None => Ok(()),
    }
}

/// What the keys `entrypoint`, `functions` and `processes` of a manifest say together.
pub(crate) struct Entries {
    /// The file of the component; that of one that is made, if it is made of functions.
    pub(crate) entrypoint: Option<String>,
    pub(crate) functions: BTreeMap<String, AppFunction>,
    pub(crate) processes: BTreeMap<String, AppProcess>,
}

/// The component files that functions and processes name.
type Files = BTreeSet<String>;

/// Reads them in YAML.
pub(crate) fn from_yaml(r: &mut Reader<'_>, fields: &Fields<'_>) -> Entries {
    let mut files = Files::new();
    let mut functions = BTreeMap::new();
    let mut processes = BTreeMap::new();
    let mut wrong = false;
    if let Some(node) = fields.get("functions") {
        for (key, value) in r.entries(node, "functions") {
            let read = check_name(&key.text).map_err(|why| r.problem(key.place, why)).is_ok();
            match function(r, &key.text, value, &mut files) {
                Some(function) if read => drop(functions.insert(key.text.clone(), function)),
                _ => wrong = true,
            }
        }
        if functions.len() > FUNCTIONS {
            r.problem(node.place, format!("a manifest has at most {FUNCTIONS} functions"));
        }
    }
    if let Some(node) = fields.get("processes") {
        for (key, value) in r.entries(node, "processes") {
            let read = check_name(&key.text).map_err(|why| r.problem(key.place, why)).is_ok();
            match process(r, &key.text, value, &mut files) {
                Some(process) if read => drop(processes.insert(key.text.clone(), process)),
                _ => wrong = true,
            }
        }
        if processes.len() > PROCESSES {
            r.problem(node.place, format!("a manifest has at most {PROCESSES} processes"));
        }
    }
    let is_made = functions.values().any(|function: &AppFunction| function.code.is_some());
    let entrypoint = match fields.get("entrypoint") {
        Some(node) => {
            if is_made || !files.is_empty() {
                let what = "an image has one component: with an entrypoint, functions and processes are those of the entrypoint";
                let help = "leave out the entrypoint, or wat, wasm and wit of the functions and processes";
                r.problem_with_help(node.place, what, help);
            }
            AssetPath::from_yaml(r, node, "entrypoint").map(|path| path.to_string())
        }
        None => {
            let mut files = files.into_iter();
            match (files.next(), files.next(), is_made) {
                (Some(file), None, false) => Some(file),
                (None, _, true) => Some(MADE.to_string()),
                (None, _, false) if wrong => None,
                (None, _, false) => {
                    r.required(fields, "entrypoint", "the manifest");
                    None
                }
                (Some(one), other, _) => {
                    let other = other.unwrap_or_else(|| "modules with `wit`".to_string());
                    r.problem_with_help(
                        fields.place(),
                        format!(
                            "an image has one component, and this names {} and {}",
                            escape(&one),
                            escape(&other)
                        ),
                        "link them into one component first, or build two images",
                    );
                    None
                }
            }
        }
    };
    Entries {
        entrypoint,
        functions,
        processes,
    }
}

fn function(r: &mut Reader<'_>, name: &str, node: &Node, files: &mut Files) -> Option<AppFunction> {
    let what = format!("functions.{}", escape(name));
    let fields = r.fields(
        node,
        &what,
        &["wat", "wasm", "wit", "method", "imports", "pool", "limits"],
    )?;
    let code = match (fields.get("wat"), fields.get("wasm"), fields.get("wit")) {
        (Some(wat), Some(_), _) => {
            r.problem(wat.place, format!("{what} has both wat and wasm"));
            None
        }
        (Some(wat), None, None) => {
            r.problem(wat.place, format!("{what} lacks the key `wit`: a module has no types"));
            None
        }
        (None, None, Some(wit)) => {
            r.problem(wit.place, format!("{what} has wit, and neither wat nor wasm"));
            None
        }
        (None, None, None) => Some(None),
        (None, Some(wasm), None) => {
            files.insert(wasm_file(r, wasm, &what)?.to_string());
            Some(None)
        }
        (Some(wat), None, Some(wit)) => {
            let module = r
                .text(wat, &format!("{what}.wat"))
                .map(|text| ModuleSource::Wat(text.to_string()));
            code(r, name, module, wit, &what).map(Some)
        }
        (None, Some(wasm), Some(wit)) => {
            let module = wasm_file(r, wasm, &what).map(|path| ModuleSource::File(path.to_string()));
            code(r, name, module, wit, &what).map(Some)
        }
    };
    let method = match fields.get("method") {
        Some(node) => {
            if fields.get("wit").is_some() {
                r.problem(
                    node.place,
                    format!("{what} has both wit and method: wit names the function"),
                );
            }
            let method = r.text(node, &format!("{what}.method"))?;
            checked(r, node, check_method(method))?;
            Some(method.to_string())
        }
        None => None,
    };
    let imports = match fields.get("imports") {
        Some(node) => Some(imports(r, node, &what)?),
        None => None,
    };
    let pool = fields.get("pool").map_or(Some(Pool::default()), |node| {
        Pool::from_yaml(r, node, &format!("{what}.pool"))
    });
    let limits = limits(r, fields.get("limits"), &what);
    Some(AppFunction {
        method,
        imports,
        pool: pool?,
        limits: limits?,
        code: code?,
    })
}

fn code(r: &mut Reader<'_>, name: &str, module: Option<ModuleSource>, wit: &Node, what: &str) -> Option<FunctionCode> {
    let signature = r.text(wit, &format!("{what}.wit"))?.trim();
    checked(r, wit, check_signature(name, signature))?;
    Some(FunctionCode {
        module: module?,
        signature: signature.to_string(),
    })
}

fn process(r: &mut Reader<'_>, name: &str, node: &Node, files: &mut Files) -> Option<AppProcess> {
    let what = format!("processes.{}", escape(name));
    let fields = r.fields(node, &what, &["wasm", "method", "restart", "limits"])?;
    if let Some(wasm) = fields.get("wasm") {
        files.insert(wasm_file(r, wasm, &what)?.to_string());
    }
    let method = r.required(&fields, "method", &what).and_then(|node| {
        let method = r.text(node, &format!("{what}.method"))?;
        checked(r, node, check_method(method))?;
        Some(method.to_string())
    });
    let restart = fields.get("restart").map_or(Some(Restart::No), |node| {
        let words = [
            ("no", Restart::No),
            ("on-failure", Restart::OnFailure),
            ("always", Restart::Always),
        ];
        r.word(node, &format!("{what}.restart"), &words)
    });
    let limits = limits(r, fields.get("limits"), &what);
    Some(AppProcess {
        method: method?,
        restart: restart?,
        limits: limits?,
    })
}

fn wasm_file(r: &mut Reader<'_>, node: &Node, what: &str) -> Option<AssetPath> {
    AssetPath::from_yaml(r, node, &format!("{what}.wasm"))
}

fn imports(r: &mut Reader<'_>, node: &Node, what: &str) -> Option<Vec<String>> {
    let what = format!("{what}.imports");
    let mut imports = Vec::new();
    for item in r.items(node, &what) {
        let import = r.text(item, &what)?;
        checked(r, item, check_import(import))?;
        imports.push(import.to_string());
    }
    if imports.len() > IMPORTS {
        r.problem(node.place, format!("{what} has more than {IMPORTS} entries"));
    }
    Some(imports)
}

fn limits(r: &mut Reader<'_>, node: Option<&Node>, what: &str) -> Option<Resources> {
    let Some(node) = node else {
        return Some(Resources::default());
    };
    let limits = Resources::from_yaml(r, node, &format!("{what}.limits"))?;
    checked(r, node, check_limits(&limits))?;
    Some(limits)
}

/// Records what is wrong with a node.
fn checked(r: &mut Reader<'_>, node: &Node, check: Result<(), String>) -> Option<()> {
    check.map_err(|why| r.problem(node.place, why)).ok()
}
