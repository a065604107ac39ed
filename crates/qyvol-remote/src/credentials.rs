//! Stored credentials, where Docker, ORAS and Podman keep them: a JSON file
//! with `auths`, and programs named `docker-credential-…`.
//!
//! Invariants: a secret never stands in an argument, a message or a debug
//! print; the file is written with mode 0600 and replaced in one step; what
//! else stands in it stays.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::RemoteError;
use crate::helper::{Helper, password_of};

/// Bytes of a file or of a helper's answer.
pub(crate) const LIMIT: u64 = 1 << 20;

/// A word that is not to be seen.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The secret itself, to be sent to where it belongs.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What a registry may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// Name and password.
    Password {
        /// The name.
        user: String,
        /// The password, or a personal access token.
        password: Secret,
    },
    /// An identity token, which a token server exchanges.
    Identity(Secret),
    /// An access token that the registry itself takes.
    Token(Secret),
}

/// Knows credentials.
pub trait Credentials: Send + Sync {
    /// The credentials for a registry (`host` or `host:port`) and repository.
    fn find(&self, registry: &str, repository: &str) -> Result<Option<Credential>, RemoteError>;
}

/// No credentials: everything anonymously.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anonymous;

impl Credentials for Anonymous {
    fn find(&self, _: &str, _: &str) -> Result<Option<Credential>, RemoteError> {
        Ok(None)
    }
}

/// One credential for one registry, whoever else is asked for.
#[derive(Clone, Debug)]
pub struct Fixed {
    /// The registry it is for.
    pub registry: String,
    /// The credential.
    pub credential: Credential,
}

impl Credentials for Fixed {
    fn find(&self, registry: &str, _: &str) -> Result<Option<Credential>, RemoteError> {
        Ok((registry == self.registry).then(|| self.credential.clone()))
    }
}

/// The files in which credentials are looked for, and what goes before them.
#[derive(Debug, Default)]
pub struct CredentialFiles {
    /// From the environment: for one registry, or for the only one asked.
    pub given: Option<Fixed>,
    /// The files, the first that knows the registry counts. Those that are not
    /// there are passed over.
    pub files: Vec<PathBuf>,
}

impl Credentials for CredentialFiles {
    fn find(&self, registry: &str, repository: &str) -> Result<Option<Credential>, RemoteError> {
        if let Some(given) = &self.given
            && let Some(found) = given.find(registry, repository)?
        {
            return Ok(Some(found));
        }
        for path in &self.files {
            if let Some(file) = ConfigFile::read(path, registry)?
                && let Some(found) = file.find(registry, repository)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// A `config.json` of Docker's or `auth.json` of Podman's.
#[derive(Debug, Default)]
struct ConfigFile {
    auths: BTreeMap<String, Auth>,
    store: Option<String>,
    helpers: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Known {
    auths: BTreeMap<String, Auth>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

pub(crate) fn failed(action: &'static str, host: &str, why: impl fmt::Display) -> RemoteError {
    RemoteError::Credentials {
        action,
        host: host.to_string(),
        why: why.to_string(),
    }
}

fn read_bounded(path: &Path, host: &str) -> Result<Option<Vec<u8>>, RemoteError> {
    let shown = qyvol_types::escape(&path.to_string_lossy()).to_string();
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", host, format!("{shown}: {error}"))),
    };
    let mut bytes = Vec::new();
    file.take(LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| failed("read", host, format!("{shown}: {e}")))?;
    if bytes.len() as u64 > LIMIT {
        return Err(failed("read", host, format!("{shown} is larger than {LIMIT} bytes")));
    }
    Ok(Some(bytes))
}

impl ConfigFile {
    fn read(path: &Path, host: &str) -> Result<Option<ConfigFile>, RemoteError> {
        let Some(bytes) = read_bounded(path, host)? else {
            return Ok(None);
        };
        // The parser's words could quote a secret: only the place is told.
        let known: Known = serde_json::from_slice(&bytes).map_err(|e| {
            let shown = qyvol_types::escape(&path.to_string_lossy()).to_string();
            failed(
                "read",
                host,
                format!("{shown} is not valid at line {} column {}", e.line(), e.column()),
            )
        })?;
        Ok(Some(ConfigFile {
            auths: known.auths,
            store: known.creds_store.filter(|s| !s.is_empty()),
            helpers: known.cred_helpers,
        }))
    }

    fn find(&self, registry: &str, repository: &str) -> Result<Option<Credential>, RemoteError> {
        let helper = self.helpers.get(registry).or(self.store.as_ref());
        if let Some(helper) = helper
            && let Some(found) = Helper::new(helper, registry)?.get(registry)?
        {
            return Ok(Some(found));
        }
        // Podman's keys may go down to a repository: the longest counts.
        let whole = format!("{registry}/{repository}");
        let mut key = whole.as_str();
        loop {
            if let Some(auth) = self.auths.get(key) {
                return auth.credential(registry);
            }
            match key.rsplit_once('/') {
                Some((shorter, _)) => key = shorter,
                None => break,
            }
        }
        for prefix in ["https://", "http://"] {
            for suffix in ["", "/", "/v1/", "/v2/"] {
                if let Some(auth) = self.auths.get(&format!("{prefix}{registry}{suffix}")) {
                    return auth.credential(registry);
                }
            }
        }
        Ok(None)
    }
}

impl Auth {
    fn credential(&self, host: &str) -> Result<Option<Credential>, RemoteError> {
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credential::Identity(Secret::new(&self.identitytoken))));
        }
        if !self.registrytoken.is_empty() {
            return Ok(Some(Credential::Token(Secret::new(&self.registrytoken))));
        }
        if !self.auth.is_empty() {
            let bad = || failed("read", host, "its `auth` is not base64 of `name:password`");
            let bytes = STANDARD.decode(self.auth.trim()).map_err(|_| bad())?;
            let text = String::from_utf8(bytes).map_err(|_| bad())?;
            let (user, password) = text.trim_end_matches('\0').split_once(':').ok_or_else(bad)?;
            return Ok(Some(password_of(user, password)));
        }
        if !self.username.is_empty() {
            return Ok(Some(password_of(&self.username, &self.password)));
        }
        // An empty entry is what a helper leaves behind.
        Ok(None)
    }
}

/// Keeps name and password for a registry in the file, or in the helper that
/// the file names. Returns where.
pub fn store_credentials(path: &Path, registry: &str, user: &str, password: &Secret) -> Result<String, RemoteError> {
    let file = ConfigFile::read(path, registry)?.unwrap_or_default();
    if let Some(helper) = file.helpers.get(registry).or(file.store.as_ref()) {
        let helper = Helper::new(helper, registry)?;
        helper.store(registry, user, password.expose())?;
        return Ok(helper.program);
    }
    let auth = STANDARD.encode(format!("{user}:{}", password.expose()));
    edit(path, registry, |auths| {
        auths.insert(registry.to_string(), serde_json::json!({ "auth": auth }));
        true
    })?;
    Ok(path.to_string_lossy().into_owned())
}

/// Forgets the credentials for a registry; false where there were none.
pub fn erase_credentials(path: &Path, registry: &str) -> Result<bool, RemoteError> {
    let Some(file) = ConfigFile::read(path, registry)? else {
        return Ok(false);
    };
    let mut erased = false;
    if let Some(helper) = file.helpers.get(registry).or(file.store.as_ref()) {
        let helper = Helper::new(helper, registry)?;
        if helper.get(registry)?.is_some() {
            helper.erase(registry)?;
            erased = true;
        }
    }
    let in_file = edit(path, registry, |auths| auths.remove(registry).is_some())?;
    Ok(erased || in_file)
}

/// Changes the `auths` of the file and puts it in place whole, if `change` says
/// that there is something to write.
fn edit(path: &Path, host: &str, change: impl FnOnce(&mut Map<String, Value>) -> bool) -> Result<bool, RemoteError> {
    let write = |e: std::io::Error| {
        let shown = qyvol_types::escape(&path.to_string_lossy()).to_string();
        failed("write", host, format!("{shown}: {e}"))
    };
    let mut root: Value = match read_bounded(path, host)? {
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|_| failed("write", host, "the file is not JSON"))?,
        None => Value::Object(Map::new()),
    };
    let auths = root
        .as_object_mut()
        .map(|root| root.entry("auths").or_insert_with(|| Value::Object(Map::new())))
        .and_then(Value::as_object_mut)
        .ok_or_else(|| failed("write", host, "the file is not a JSON object with `auths`"))?;
    if !change(auths) {
        return Ok(false);
    }
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(write)?;
    // Behind a link, if it is one, so that the link stays.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let folder = target.parent().unwrap_or(folder);
    let mut staged = tempfile::Builder::new()
        .prefix(".config-")
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(folder)
        .map_err(write)?;
    let text = serde_json::to_vec_pretty(&root).map_err(|e| failed("write", host, e))?;
    staged
        .write_all(&text)
        .and_then(|()| staged.as_file().sync_all())
        .map_err(write)?;
    staged.persist(&target).map_err(|e| write(e.error))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> ConfigFile {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, text).unwrap();
        ConfigFile::read(&path, "r").unwrap().unwrap()
    }

    fn user(found: Option<Credential>) -> String {
        match found {
            Some(Credential::Password { user, password }) => format!("{user}:{}", password.expose()),
            Some(Credential::Identity(token)) => format!("identity {}", token.expose()),
            Some(Credential::Token(token)) => format!("token {}", token.expose()),
            None => String::new(),
        }
    }

    #[test]
    fn files_of_docker_oras_and_podman_are_read() {
        let b64 = |text: &str| STANDARD.encode(text);
        let config = file(&format!(
            r#"{{"auths":{{
                "r.example":{{"auth":"{}"}},
                "r.example/team":{{"auth":"{}"}},
                "https://old.example/v1/":{{"auth":"{}"}},
                "id.example":{{"auth":"{}","identitytoken":"idt"}},
                "reg.example":{{"registrytoken":"rt"}},
                "plain.example":{{"username":"p","password":"q"}},
                "empty.example":{{}}
            }},"detachKeys":"x","HttpHeaders":{{"a":"b"}}}}"#,
            b64("ana:se:cret"),
            b64("team:pw"),
            b64("old:pw"),
            b64("<token>:x"),
        ));
        for (registry, repository, due) in [
            ("r.example", "x", "ana:se:cret"),
            ("r.example", "team/app", "team:pw"),
            ("r.example", "teams", "ana:se:cret"),
            ("old.example", "x", "old:pw"),
            ("id.example", "x", "identity idt"),
            ("reg.example", "x", "token rt"),
            ("plain.example", "x", "p:q"),
            ("empty.example", "x", ""),
            ("r.example:5000", "x", ""),
            ("example", "x", ""),
        ] {
            assert_eq!(
                user(config.find(registry, repository).unwrap()),
                due,
                "{registry}/{repository}"
            );
        }
    }

    #[test]
    fn login_keeps_the_rest_of_the_file_and_closes_it_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker/config.json");
        let secret = Secret::new("s3cret");
        store_credentials(&path, "a.example", "ana", &secret).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut root: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        root["currentContext"] = "x".into();
        fs::write(&path, root.to_string()).unwrap();
        store_credentials(&path, "b.example", "bea", &secret).unwrap();
        let files = CredentialFiles {
            given: None,
            files: vec![folder.path().join("absent"), path.clone()],
        };
        assert_eq!(user(files.find("b.example", "x").unwrap()), "bea:s3cret");
        assert!(erase_credentials(&path, "b.example").unwrap());
        assert!(!erase_credentials(&path, "b.example").unwrap());
        let root: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(root["currentContext"], "x");
        assert!(root["auths"]["a.example"].is_object() && root["auths"]["b.example"].is_null());
    }

    #[test]
    fn secret_is_in_no_message() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        for text in [
            r#"{"auths":{"r":{"auth":"s3cret!"}}}"#,
            r#"{"auths":{"r":{"auth":["s3cret"]}}}"#,
            r#"{"auths":{"r":{"auth":"czNjcmV0"}}}"#,
            r#"{"auths": s3cret"#,
        ] {
            fs::write(&path, text).unwrap();
            let files = CredentialFiles {
                given: None,
                files: vec![path.clone()],
            };
            let error = files.find("r", "x").unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
        }
        let fixed = Fixed {
            registry: "r".to_string(),
            credential: password_of("ana", "s3cret"),
        };
        assert!(!format!("{fixed:?}").contains("s3cret"));
    }

    #[test]
    fn helper_whose_name_is_a_path_is_not_run() {
        let config = file(r#"{"credsStore":"../../evil"}"#);
        assert!(config.find("r", "x").is_err());
        let config = file(r#"{"credHelpers":{"r":"a b"}}"#);
        assert!(config.find("r", "x").is_err());
    }
}
