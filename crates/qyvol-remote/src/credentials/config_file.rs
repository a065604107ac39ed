//! `config.json` of Docker and ORAS, `auth.json` of Podman.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::helper::{Helper, Lookup, password_of};
use super::{Credential, HELPER_TIMEOUT, Secret, credentials_error};
use crate::RemoteError;
use crate::endpoint::credentials_key;

/// Largest file, in bytes.
const FILE_BYTES: u64 = 1 << 20;

/// A `config.json` of Docker's or `auth.json` of Podman's.
#[derive(Debug, Default)]
pub(super) struct ConfigFile {
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
struct RawConfigFile {
    auths: BTreeMap<String, Auth>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

fn read_bounded(path: &Path, host: &str) -> Result<Option<Vec<u8>>, RemoteError> {
    let shown = qyvol_types::escape(&path.to_string_lossy()).to_string();
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(credentials_error("read", host, format!("{shown}: {error}"))),
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| credentials_error("read", host, format!("{shown}: {e}")))?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(credentials_error(
            "read",
            host,
            format!("{shown} is larger than {FILE_BYTES} bytes"),
        ));
    }
    Ok(Some(bytes))
}

impl ConfigFile {
    pub(super) fn read(path: &Path, host: &str) -> Result<Option<ConfigFile>, RemoteError> {
        let Some(bytes) = read_bounded(path, host)? else {
            return Ok(None);
        };
        // The parser's message could quote a secret: only the position is reported.
        let known: RawConfigFile = serde_json::from_slice(&bytes).map_err(|e| {
            let shown = qyvol_types::escape(&path.to_string_lossy()).to_string();
            credentials_error(
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

    /// The credentials for a registry and repository. `missing` is called with a helper that
    /// the file names and that is not installed.
    pub(super) fn find(
        &self,
        registry: &str,
        repository: &str,
        deadline: Duration,
        missing: &dyn Fn(&str),
    ) -> Result<Option<Credential>, RemoteError> {
        if let Some(helper) = self.helper(registry, deadline)? {
            match helper.get(credentials_key(registry))? {
                Lookup::Found(credential) => return Ok(Some(credential)),
                Lookup::NotFound => {}
                Lookup::NotInstalled => missing(&helper.program),
            }
        }
        // Podman's keys may go down to a repository: the longest counts.
        let full = format!("{registry}/{repository}");
        let mut key = full.as_str();
        loop {
            if let Some(auth) = self.auths.get(key) {
                return auth.credential(registry);
            }
            match key.rsplit_once('/') {
                Some((shorter, _)) => key = shorter,
                None => break,
            }
        }
        // Docker Hub has a key of its own; old files have URLs.
        if let Some(auth) = self.auths.get(credentials_key(registry)) {
            return auth.credential(registry);
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

    /// The helper that the file names for a registry.
    fn helper(&self, registry: &str, deadline: Duration) -> Result<Option<Helper>, RemoteError> {
        let key = credentials_key(registry);
        let named = self.helpers.get(registry).or_else(|| self.helpers.get(key));
        let named = named.or(self.store.as_ref());
        named.map(|name| Helper::new(name, registry, deadline)).transpose()
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
            let bad = || credentials_error("read", host, "its `auth` is not base64 of `name:password`");
            let bytes = STANDARD.decode(self.auth.trim()).map_err(|_| bad())?;
            let text = String::from_utf8(bytes).map_err(|_| bad())?;
            let (user, password) = text.trim_end_matches('\0').split_once(':').ok_or_else(bad)?;
            return Ok(Some(password_of(user, password)));
        }
        if !self.username.is_empty() {
            return Ok(Some(password_of(&self.username, &self.password)));
        }
        // Helpers leave an empty entry.
        Ok(None)
    }
}

/// Stores name and password for a registry in the file, or in the helper that
/// the file names. Returns where.
pub fn store_credentials(path: &Path, registry: &str, user: &str, password: &Secret) -> Result<String, RemoteError> {
    let file = ConfigFile::read(path, registry)?.unwrap_or_default();
    let key = credentials_key(registry);
    if let Some(helper) = file.helper(registry, HELPER_TIMEOUT)? {
        helper.store(key, user, password.expose())?;
        return Ok(helper.program);
    }
    let auth = STANDARD.encode(format!("{user}:{}", password.expose()));
    edit(path, registry, |auths| {
        auths.insert(key.to_string(), serde_json::json!({ "auth": auth }));
        true
    })?;
    Ok(path.to_string_lossy().into_owned())
}

/// Removes the credentials for a registry; false where there were none.
pub fn erase_credentials(path: &Path, registry: &str) -> Result<bool, RemoteError> {
    let Some(file) = ConfigFile::read(path, registry)? else {
        return Ok(false);
    };
    let key = credentials_key(registry);
    let mut is_erased = false;
    if let Some(helper) = file.helper(registry, HELPER_TIMEOUT)? {
        match helper.get(key)? {
            Lookup::Found(_) => {
                helper.erase(key)?;
                is_erased = true;
            }
            Lookup::NotFound => {}
            Lookup::NotInstalled => return Err(helper.not_installed()),
        }
    }
    let in_file = edit(path, registry, |auths| {
        let by_name = auths.remove(registry).is_some();
        auths.remove(key).is_some() || by_name
    })?;
    Ok(is_erased || in_file)
}

/// Changes the `auths` of the file and replaces it in one step, if `change` says
/// that there is something to write.
fn edit(path: &Path, host: &str, change: impl FnOnce(&mut Map<String, Value>) -> bool) -> Result<bool, RemoteError> {
    let write = |e: std::io::Error| {
        let shown = qyvol_types::escape(&path.to_string_lossy()).to_string();
        credentials_error("write", host, format!("{shown}: {e}"))
    };
    let mut root: Value = match read_bounded(path, host)? {
        Some(bytes) => {
            serde_json::from_slice(&bytes).map_err(|_| credentials_error("write", host, "the file is not JSON"))?
        }
        None => Value::Object(Map::new()),
    };
    let auths = root
        .as_object_mut()
        .map(|root| root.entry("auths").or_insert_with(|| Value::Object(Map::new())))
        .and_then(Value::as_object_mut)
        .ok_or_else(|| credentials_error("write", host, "the file is not a JSON object with `auths`"))?;
    if !change(auths) {
        return Ok(false);
    }
    let directory = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::create_dir_all(directory).map_err(write)?;
    // A symbolic link stays: its target is replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let directory = target.parent().unwrap_or(directory);
    let mut staged = tempfile::Builder::new()
        .prefix(".config-")
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(directory)
        .map_err(write)?;
    let text = serde_json::to_vec_pretty(&root).map_err(|e| credentials_error("write", host, e))?;
    staged
        .write_all(&text)
        .and_then(|()| staged.as_file().sync_all())
        .map_err(write)?;
    staged.persist(&target).map_err(|e| write(e.error))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::{CredentialFiles, Credentials, StaticCredential};

    fn find(config: &ConfigFile, registry: &str, repository: &str) -> Result<Option<Credential>, RemoteError> {
        config.find(registry, repository, HELPER_TIMEOUT, &|program| {
            panic!("{program} is missing")
        })
    }

    fn file(text: &str) -> ConfigFile {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
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
                user(find(&config, registry, repository).unwrap()),
                due,
                "{registry}/{repository}"
            );
        }
    }

    #[test]
    fn login_keeps_the_rest_of_the_file_and_closes_it_to_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("docker/config.json");
        let secret = Secret::new("s3cret");
        store_credentials(&path, "a.example", "ana", &secret).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut root: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        root["currentContext"] = "x".into();
        fs::write(&path, root.to_string()).unwrap();
        store_credentials(&path, "b.example", "bea", &secret).unwrap();
        let files = CredentialFiles::new(
            None,
            vec![directory.path().join("absent"), path.clone()],
            Box::new(|_| {}),
        );
        assert_eq!(user(files.find("b.example", "x").unwrap()), "bea:s3cret");
        assert!(erase_credentials(&path, "b.example").unwrap());
        assert!(!erase_credentials(&path, "b.example").unwrap());
        let root: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(root["currentContext"], "x");
        assert!(root["auths"]["a.example"].is_object() && root["auths"]["b.example"].is_null());
    }

    // [REG-020]
    #[test]
    fn credentials_of_docker_hub_are_found_under_the_key_that_docker_writes() {
        let auth = STANDARD.encode("ana:pw");
        let config = file(&format!(
            r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{auth}"}}}}}}"#
        ));
        assert_eq!(user(find(&config, "docker.io", "library/hello").unwrap()), "ana:pw");
        assert_eq!(user(find(&config, "r.example", "hello").unwrap()), "");
        // And are written under it.
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        store_credentials(&path, "docker.io", "bea", &Secret::new("pw")).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("https://index.docker.io/v1/"), "{text}");
        assert!(erase_credentials(&path, "docker.io").unwrap());
    }

    // [REG-024]
    #[test]
    fn missing_helper_is_warned_about_once_and_skipped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        fs::write(&path, r#"{"credsStore":"qyvol-test-absent"}"#).unwrap();
        let notes = Arc::new(Mutex::new(Vec::new()));
        let sink = notes.clone();
        let notify = move |text: &str| sink.lock().unwrap().push(text.to_string());
        let files = CredentialFiles::new(None, vec![path.clone()], Box::new(notify));
        for _ in 0..2 {
            assert!(files.find("r.example", "x").unwrap().is_none());
        }
        let notes = notes.lock().unwrap();
        assert!(
            notes.len() == 1 && notes[0].contains("docker-credential-qyvol-test-absent"),
            "{notes:?}"
        );
        // To store a secret, the helper is indispensable.
        store_credentials(&path, "r.example", "ana", &Secret::new("pw")).unwrap_err();
        erase_credentials(&path, "r.example").unwrap_err();
    }

    #[test]
    fn errors_never_contain_the_secret() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        for text in [
            r#"{"auths":{"r":{"auth":"s3cret!"}}}"#,
            r#"{"auths":{"r":{"auth":["s3cret"]}}}"#,
            r#"{"auths":{"r":{"auth":"czNjcmV0"}}}"#,
            r#"{"auths": s3cret"#,
        ] {
            fs::write(&path, text).unwrap();
            let files = CredentialFiles::new(None, vec![path.clone()], Box::new(|_| {}));
            let error = files.find("r", "x").unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
        }
        let fixed = StaticCredential {
            registry: "r".to_string(),
            credential: password_of("ana", "s3cret"),
        };
        assert!(!format!("{fixed:?}").contains("s3cret"));
    }

    #[test]
    fn helper_whose_name_is_a_path_is_not_run() {
        let config = file(r#"{"credsStore":"../../evil"}"#);
        assert!(find(&config, "r", "x").is_err());
        let config = file(r#"{"credHelpers":{"r":"a b"}}"#);
        assert!(find(&config, "r", "x").is_err());
    }
}
