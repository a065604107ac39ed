//! What an application may do: its permissions, one file each.
//!
//! The file of a permission has everything about it: the name under `permissions`, how
//! its value is read in a `.qyv` and in an image, which imports are useless without
//! it, and how it is shown. A new permission is a new file here, a row of `KNOWN` and
//! a field of [`Capabilities`].
//!
//! ```text
//!   manifest  --Capabilities--+
//!   operator  --options-------+--> Grant --> runtime, NetGuard
//!   policy    --ceiling-------+
//! ```
//!
//! Invariants: [`Capabilities`] is read once from a manifest and passed down
//! from there. A permission, or a form of one, that this version does not know
//! is an error for whoever wants to run the image, and for nobody else.
//!
//! Deliberately absent: enforcement. The runtime gives a guest what a [`Grant`]
//! says, and asks a [`NetGuard`] about each use of the network.

mod audit;
mod capability;
mod exec;
mod fs;
mod gfx;
mod grant;
mod net;
mod operator;
mod preset;
mod streams;
mod within;
mod words;

use std::fmt;

use qyvol_types::yaml::{self, Node, Problems, Reader};
use qyvol_types::{AppManifest, Permissions, escape};
use thiserror::Error;

pub use crate::audit::{Event, Observer};
use crate::capability::{Capability, FromYaml, Program};
pub use crate::exec::Exec;
pub use crate::fs::{FsAccess, FsPath, FsPaths};
pub use crate::gfx::Gfx;
pub use crate::grant::Grant;
pub use crate::net::{Endpoint, Net, NetGuard, NetRules, NetUse};
pub use crate::operator::{Args, Env};
pub use crate::streams::Stdio;
pub use crate::within::Given;
use crate::words::Words;
pub use crate::words::{Language, in_words, in_words_of};

/// Maximum length of an unknown permission in messages, in characters.
const MAX_SHOWN: usize = 60;

/// Every permission, and how it is read in a `.qyv`.
const KNOWN: [(&str, FromYaml); 7] = [
    (FsAccess::NAME, FsAccess::from_yaml),
    (Net::NAME, Net::from_yaml),
    (Env::NAME, Env::from_yaml),
    (Args::NAME, Args::from_yaml),
    (Stdio::NAME, Stdio::from_yaml),
    (Exec::NAME, Exec::from_yaml),
    (Gfx::NAME, Gfx::from_yaml),
];

/// What a manifest asks for, understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Access to the file system.
    pub fs: FsAccess,
    /// Sockets, name lookup and requests over HTTP.
    pub net: Net,
    /// Variables that the operator sets.
    pub env: Env,
    /// Arguments that the operator adds.
    pub args: Args,
    /// The process's streams.
    pub stdio: Stdio,
    /// Programs of the host.
    pub exec: Exec,
    /// Graphics.
    pub gfx: Gfx,
}

/// A manifest asks for something that this version doesn't know, and so would not
/// enforce.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("its manifest asks for the permission `{}`, which this version does not know", escape(&self.permission))]
pub struct UnknownPermission {
    /// The permission, with its value where only that is unknown.
    pub permission: String,
}

/// Imports that a program has but may not use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// What the manifest says: `net: false`.
    pub permission: &'static str,
    /// What that means for the program.
    pub effect: &'static str,
    /// What the manifest would have to say.
    pub grant: &'static str,
    /// The imports.
    pub imports: Vec<String>,
}

impl Capabilities {
    /// Understands what a manifest asks for.
    pub fn read(asked: &Permissions) -> Result<Capabilities, UnknownPermission> {
        let known = KNOWN.map(|(name, _)| name);
        if let Some((name, _)) = asked.iter().find(|(name, _)| !known.contains(name)) {
            let permission = cut(name);
            return Err(UnknownPermission { permission });
        }
        // The default of these allows everything, so a denial must not be read as it.
        let open = [Env::NAME, Args::NAME, Stdio::NAME];
        if let Some(name) = open.into_iter().find(|name| asked.is_written_denial(name)) {
            let permission = format!("{name}: a denial that can't be written this way");
            return Err(UnknownPermission { permission });
        }
        Ok(Capabilities {
            fs: understand(asked)?,
            net: understand(asked)?,
            env: understand(asked)?,
            args: understand(asked)?,
            stdio: understand(asked)?,
            exec: understand(asked)?,
            gfx: understand(asked)?,
        })
    }

    /// The permissions of an image that asks for this: what [`Capabilities::read`] understands
    /// as the same.
    pub fn to_permissions(&self) -> Permissions {
        let mut asked = Permissions::default();
        for (name, value) in [
            (FsAccess::NAME, self.fs.to_json()),
            (Net::NAME, self.net.to_json()),
            (Env::NAME, self.env.to_json()),
            (Args::NAME, self.args.to_json()),
            (Stdio::NAME, self.stdio.to_json()),
            (Exec::NAME, self.exec.to_json()),
            (Gfx::NAME, self.gfx.to_json()),
        ] {
            asked.request(name, value);
        }
        asked
    }

    /// Why this version can't grant what is asked for on any host, if that is so.
    pub fn unsupported(&self) -> Option<&'static str> {
        self.gfx.unsupported()
    }

    /// Whether an application with these is hardly bounded: the preset `full`.
    fn has_everything(&self) -> bool {
        self.fs == FsAccess::Full && self.net == Net::All && self.exec == Exec::Any
    }

    /// Says what each permission allows and what it withholds.
    fn describe(&self, words: &mut Words<'_>) {
        self.fs.describe(words);
        self.net.describe(words);
        self.exec.describe(words);
        self.gfx.describe(words);
        self.env.describe(words);
        self.args.describe(words);
        self.stdio.describe(words);
    }

    /// The imports whose every use is denied. A program may import functions that it
    /// never calls, so this is information for its author and no reason to refuse it.
    pub fn denied_imports(&self, imports: &[String], has_assets: bool) -> Vec<Denied> {
        let program = Program { imports, has_assets };
        let all = [
            self.net.denied(&program),
            self.fs.denied(&program),
            self.exec.denied(&program),
        ];
        let denied = all.into_iter().flatten();
        denied.filter(|denied| !denied.imports.is_empty()).collect()
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Capabilities {
            fs,
            net,
            env,
            args,
            stdio,
            exec,
            gfx,
        } = self;
        write!(f, "fs:{fs}, net:{net}, exec:{exec}, gfx:{gfx}")?;
        // Shown only if something is held back.
        if *env != Env::default() {
            write!(f, ", env:{env}")?;
        }
        if *args != Args::default() {
            write!(f, ", args:{args}")?;
        }
        if *stdio != Stdio::default() {
            write!(f, ", stdio:{stdio}")?;
        }
        Ok(())
    }
}

/// What a manifest asks for, for people; also if not all of it is known.
pub fn describe(asked: &Permissions) -> String {
    match Capabilities::read(asked) {
        Ok(capabilities) => capabilities.to_string(),
        Err(unknown) => {
            let all: Vec<String> = asked
                .iter()
                .map(|(name, value)| format!("{}:{}", cut(name), short(value)))
                .collect();
            let unknown = escape(&unknown.permission).to_string();
            format!("{} (`{unknown}` is not known to this version)", escape(&all.join(", ")))
        }
    }
}

/// A value from a newer version, as much of it as fits on a line.
fn short(value: &serde_json::Value) -> String {
    cut(&value.to_string())
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_string(),
    }
}

fn understand<C: Capability>(asked: &Permissions) -> Result<C, UnknownPermission> {
    let Some(value) = asked.get(C::NAME) else {
        return Ok(C::default());
    };
    C::from_json(value).ok_or_else(|| UnknownPermission {
        permission: format!("{}: {}", C::NAME, short(value)),
    })
}

/// Reads a manifest from the text of a `.qyv`.
pub fn parse_app_manifest(text: &str) -> Result<AppManifest, Problems> {
    qyvol_types::parse_app_manifest(text, read_permissions)
}

/// Reads what stands under `permissions` in a `.qyv`.
fn read_permissions(r: &mut Reader<'_>, node: &Node) -> Option<Permissions> {
    read_all(r, node, "permissions")
}

/// Reads what a policy allows, in the form of a manifest's `permissions`. `what` is the
/// key that has it.
pub fn read_ceiling(r: &mut Reader<'_>, node: &Node, what: &str) -> Option<Capabilities> {
    let asked = read_all(r, node, what)?;
    match Capabilities::read(&asked) {
        Ok(ceiling) => Some(ceiling),
        Err(unknown) => {
            r.problem(
                node.place,
                format!("{what}: `{}` is not understood", escape(&unknown.permission)),
            );
            None
        }
    }
}

fn read_all(r: &mut Reader<'_>, node: &Node, what: &str) -> Option<Permissions> {
    if let yaml::Value::Scalar { .. } = node.value {
        return preset::read(r, node, what);
    }
    let fields = r.fields(node, what, &KNOWN.map(|(name, _)| name))?;
    let mut permissions = Permissions::default();
    let mut complete = true;
    for (name, from_yaml) in KNOWN {
        if let Some(node) = fields.get(name) {
            match from_yaml(r, node, &format!("{what}.{name}")) {
                Some(value) => permissions.request(name, value),
                None => complete = false,
            }
        }
    }
    complete.then_some(permissions)
}

#[cfg(test)]
mod tests;
