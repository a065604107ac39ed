//! What a run is granted: what its manifest asks for and the operator adds, as far as
//! each ceiling allows.

use std::fmt;

use crate::{Args, Capabilities, Env, FsAccess, Net, Stdio};

/// What a run may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The file system.
    pub fs: FsAccess,
    /// The network: what every one of these allows.
    pub net: Vec<Net>,
    /// Variables of the operator: what every one of these allows.
    pub env: Vec<Env>,
    /// Arguments of the operator.
    pub args: Args,
    /// Streams.
    pub stdio: Stdio,
    /// Programs of the host, by absolute paths.
    pub exec: Vec<String>,
}

impl Grant {
    /// What a manifest asks for.
    pub fn new(asked: Capabilities) -> Grant {
        let Capabilities {
            fs,
            net,
            env,
            args,
            stdio,
            // The operator names each program.
            exec: _,
            gfx: _,
        } = asked;
        Grant {
            fs,
            net: vec![net],
            env: vec![env],
            args,
            stdio,
            exec: Vec::new(),
        }
    }

    /// Adds what the operator allows on the network beyond the manifest. Ceilings are
    /// set after this.
    pub fn add_net(&mut self, more: &Net) {
        for net in &mut self.net {
            *net = std::mem::take(net).or(more.clone());
        }
    }

    /// Reduces the file system to what `ceiling` also allows.
    pub fn limit_fs(&mut self, ceiling: &FsAccess) {
        self.fs = self.fs.within(ceiling);
    }

    /// Reduces the network to what `ceiling` also allows.
    pub fn limit_net(&mut self, ceiling: Net) {
        self.net.push(ceiling);
    }

    /// Reduces everything to what `ceiling` also allows.
    pub fn limit(&mut self, ceiling: &Capabilities) {
        self.limit_fs(&ceiling.fs);
        self.limit_net(ceiling.net.clone());
        self.env.push(ceiling.env.clone());
        if ceiling.args == Args::Fixed {
            self.args = Args::Fixed;
        }
        self.stdio = self.stdio.within(ceiling.stdio);
    }

    /// Whether the operator may set a variable.
    pub fn allows_env(&self, name: &str) -> bool {
        self.env.iter().all(|env| env.allows(name))
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A ceiling that allows everything is not shown.
        let net: Vec<String> = match self.net.iter().find(|net| **net == Net::None) {
            Some(none) => vec![none.to_string()],
            None => self
                .net
                .iter()
                .filter(|net| **net != Net::All)
                .map(Net::to_string)
                .collect(),
        };
        let env: Vec<String> = self
            .env
            .iter()
            .filter(|env| **env != Env::Any)
            .map(Env::to_string)
            .collect();
        let joined = |all: Vec<String>, any: &str| match all.is_empty() {
            true => any.to_string(),
            false => all.join(" and "),
        };
        write!(
            f,
            "fs:{}, net:{}, env:{}, args:{}, stdio:{}",
            self.fs,
            joined(net, "true"),
            joined(env, "any"),
            self.args,
            self.stdio
        )?;
        // Shown only if there are any.
        match self.exec.is_empty() {
            true => Ok(()),
            false => write!(f, ", exec:{}", self.exec.join(" ")),
        }
    }
}
