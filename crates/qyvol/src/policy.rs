//! The host's trust policy.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use qyvol_trust::{PublicKey, TrustPolicy};

use crate::output::write_new;
use crate::validate::read_text;
use crate::{Context, Error};

/// Where the policy is.
pub fn policy_path(ctx: &Context<'_>) -> PathBuf {
    ctx.policy.clone().unwrap_or_else(|| ctx.home.config.join("trust.yaml"))
}

/// Reads the policy. One that others could have written is refused.
pub fn load_policy(ctx: &Context<'_>) -> Result<TrustPolicy, Error> {
    let path = policy_path(ctx);
    let meta = match fs::metadata(&path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && ctx.policy.is_none() => {
            return Ok(TrustPolicy::reject_all());
        }
        Err(error) => {
            return Err(Error::Policy {
                path,
                why: error.to_string(),
            });
        }
    };
    let user = rustix::process::geteuid().as_raw();
    if meta.mode() & 0o022 != 0 {
        let why = format!(
            "others can write it (mode {:04o}): run `chmod go-w {}`",
            meta.mode() & 0o7777,
            path.display()
        );
        return Err(Error::Policy { path, why });
    }
    if meta.uid() != user && meta.uid() != 0 {
        let why = format!("it belongs to user {}, neither to you ({user}) nor to root", meta.uid());
        return Err(Error::Policy { path, why });
    }
    let text = read_text(&path).map_err(|e| Error::Policy {
        path: path.clone(),
        why: e.to_string(),
    })?;
    TrustPolicy::parse(&text).map_err(|problems| Error::PolicyYaml { path, problems })
}

/// Writes the first policy of a machine, which trusts `key` for local files,
/// unless there is a policy already. Returns whether it wrote.
pub(crate) fn trust_first_key(ctx: &Context<'_>, name: &str, key: &PublicKey) -> Result<bool, Error> {
    let path = policy_path(ctx);
    if path.exists() {
        return Ok(false);
    }
    write_new(&path, TrustPolicy::first_use(name, key).as_bytes(), 0o600)?;
    Ok(true)
}
