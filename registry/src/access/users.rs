//! Users, their rights, and the users file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use qyvol_types::json;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::error::HubError;
use crate::reload::{self, Reloadable};

/// Higher costs would let a single login exhaust the machine.
const MEMORY_KIB: u32 = 1 << 20;
const ITERATIONS: u32 = 64;

/// What may be done with a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Pull, and look at tags and referrers.
    Read,
    /// Push.
    Write,
    /// Delete tags, manifests and blobs.
    Delete,
}

impl Action {
    /// As written in files and arguments.
    pub fn name(self) -> &'static str {
        match self {
            Action::Read => "read",
            Action::Write => "write",
            Action::Delete => "delete",
        }
    }
}

/// Actions on the repositories that match a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// `*` for all, `team/*` for all below `team/`, else one name.
    pub repository: String,
    /// What may be done with them.
    pub actions: Vec<Action>,
}

impl FromStr for Scope {
    type Err = String;

    /// `team/*=read,write`.
    fn from_str(text: &str) -> Result<Scope, String> {
        let (repository, actions) = text
            .split_once('=')
            .ok_or("expected REPOSITORY=ACTIONS, such as 'team/*=read,write'")?;
        let actions = actions.split(',').map(|action| match action {
            "read" => Ok(Action::Read),
            "write" => Ok(Action::Write),
            "delete" => Ok(Action::Delete),
            _ => Err("expected the actions read, write or delete, with commas between".to_string()),
        });
        Ok(Scope {
            repository: repository.to_string(),
            actions: actions.collect::<Result<_, _>>()?,
        })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let actions: Vec<_> = self.actions.iter().map(|action| action.name()).collect();
        write!(f, "{}={}", self.repository, actions.join(","))
    }
}

impl Scope {
    fn matches(&self, name: &str) -> bool {
        match self.repository.strip_suffix('*') {
            Some(prefix) => name.len() > prefix.len() && name.starts_with(prefix),
            None => self.repository == name,
        }
    }
}

/// One user.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The name, without a colon.
    pub name: String,
    /// The argon2 hash of the password, as a PHC string.
    pub password: String,
    /// What the user may do.
    pub scopes: Vec<Scope>,
}

impl User {
    pub(super) fn may(&self, name: &str, action: Action) -> bool {
        self.scopes
            .iter()
            .any(|scope| scope.matches(name) && scope.actions.contains(&action))
    }
}

/// Users, and what anonymous clients may do.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Users {
    /// The users.
    pub users: Vec<Arc<User>>,
    /// Whether everyone may read everything.
    #[serde(default)]
    pub anonymous_read: bool,
    /// Whether challenges send clients to `/token`; otherwise they ask for name and password.
    /// The server accepts both in either case. It is always so if everyone may read, because
    /// clients without a password have no other way.
    #[serde(default)]
    pub token: bool,
}

impl Users {
    /// The content of a new file.
    pub(super) fn none() -> Users {
        Users {
            users: Vec::new(),
            anonymous_read: false,
            token: true,
        }
    }

    pub(super) fn tokens(&self) -> bool {
        self.token || self.anonymous_read
    }

    pub(super) fn find(&self, name: &str) -> Option<Arc<User>> {
        self.users.iter().find(|user| user.name == name).cloned()
    }

    pub(super) fn anonymous(&self, action: Action) -> bool {
        self.anonymous_read && action == Action::Read
    }

    /// The hash that is computed for an unknown user, so that timing doesn't reveal names.
    pub(super) fn nobody(&self) -> String {
        self.users
            .first()
            .map_or_else(String::new, |user| user.password.clone())
    }

    /// Reads the text of a file of users.
    pub fn parse(bytes: &[u8]) -> Result<Users, HubError> {
        let users: Users = json::decode(bytes).map_err(|e| HubError::Access(e.to_string()))?;
        users.check().map_err(HubError::Access)?;
        Ok(users)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        for (index, user) in self.users.iter().enumerate() {
            let name = &user.name;
            if name.is_empty() || name.len() > 255 || name.contains(|c: char| c == ':' || c.is_control()) {
                return Err(format!("user {index}: a name is 1 to 255 characters without a colon"));
            }
            if self.users[..index].iter().any(|other| other.name == *name) {
                return Err(format!("user {name:?} is listed twice"));
            }
            let hash = PasswordHash::new(&user.password)
                .map_err(|_| format!("user {name:?}: the password is not a PHC string"))?;
            if !hash.algorithm.as_str().starts_with("argon2") {
                return Err(format!("user {name:?}: the password is not hashed with argon2"));
            }
            let params = Params::try_from(&hash).map_err(|e| format!("user {name:?}: {e}"))?;
            if params.m_cost() > MEMORY_KIB || params.t_cost() > ITERATIONS {
                return Err(format!("user {name:?}: the password's hash costs too much"));
            }
            for scope in &user.scopes {
                let pattern = &scope.repository;
                let stem = pattern.strip_suffix('*').unwrap_or(pattern);
                let all = pattern == "*";
                let below = stem.strip_suffix('/').filter(|_| pattern.ends_with('*'));
                let name_of_one = below.unwrap_or(stem);
                if !all
                    && (pattern.ends_with('*') != below.is_some() || crate::names::Name::parse(name_of_one).is_none())
                {
                    return Err(format!(
                        "user {name:?}: {pattern:?} is not `*`, `name/*` or the name of a repository"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Who may use a registry.
#[derive(Clone, Debug)]
pub enum AccessControl {
    /// Everyone may do everything: for an address that only this machine
    /// reaches.
    Open,
    /// Users with passwords.
    Users(Users),
    /// A users file: strict JSON of the form of [`Users`]. It is reloaded when it changes.
    File(PathBuf),
}

impl AccessControl {
    /// Loads a users file, which is checked now and reloaded when it changes.
    pub fn load(path: &Path) -> Result<AccessControl, HubError> {
        Users::parse(&reload::read(path)?)?;
        Ok(AccessControl::File(path.to_path_buf()))
    }

    /// Reads the text of an access file.
    pub fn parse(bytes: &[u8]) -> Result<AccessControl, HubError> {
        Users::parse(bytes).map(AccessControl::Users)
    }

    /// The users, or none if everyone may do everything.
    pub(super) fn users(self) -> Result<Option<Reloadable<Users>>, HubError> {
        match self {
            AccessControl::Open => Ok(None),
            AccessControl::Users(users) => {
                users.check().map_err(HubError::Access)?;
                Ok(Some(Reloadable::fixed(users)))
            }
            AccessControl::File(path) => {
                let make = |contents: &[Vec<u8>]| Users::parse(&contents.concat());
                Reloadable::open(vec![path], Box::new(make)).map(Some)
            }
        }
    }
}

/// Hashes a password for an access file: argon2id with the parameters that
/// OWASP recommends.
pub fn hash_password(password: &[u8]) -> Result<String, HubError> {
    let mut salt = [0; 16];
    SystemRandom::new().fill(&mut salt).map_err(|_| HubError::Random)?;
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::default());
    let hash = argon
        .hash_password_with_salt(password, &salt)
        .map_err(|e| HubError::Access(e.to_string()))?;
    Ok(hash.to_string())
}

pub(super) fn verify(hash: &str, password: &[u8]) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scope_matches_only_its_pattern() {
        let scope = |pattern: &str| Scope {
            repository: pattern.to_string(),
            actions: vec![Action::Read],
        };
        for (pattern, name, matches) in [
            ("*", "a/b", true),
            ("team/*", "team/a", true),
            ("team/*", "team/a/b", true),
            ("team/*", "team", false),
            ("team/*", "teams/a", false),
            ("team", "team/a", false),
            ("team/a", "team/a", true),
        ] {
            assert_eq!(scope(pattern).matches(name), matches, "{pattern} {name}");
        }
    }

    #[test]
    fn ambiguous_access_file_is_refused() {
        let hash = hash_password(b"secret").unwrap();
        let user = |name: &str, password: &str, repository: &str| {
            format!(
                r#"{{"name":"{name}","password":"{password}","scopes":[{{"repository":"{repository}","actions":["read"]}}]}}"#
            )
        };
        let good = user("a", &hash, "team/*");
        assert!(AccessControl::parse(format!(r#"{{"users":[{good}]}}"#).as_bytes()).is_ok());
        for bad in [
            format!(r#"{{"users":[{good}],"anonymous":true}}"#),
            format!(r#"{{"users":[{good},{good}]}}"#),
            format!(r#"{{"users":[{}]}}"#, user("a:b", &hash, "*")),
            format!(r#"{{"users":[{}]}}"#, user("a", "secret", "*")),
            format!(r#"{{"users":[{}]}}"#, user("a", &hash, "team*")),
            format!(r#"{{"users":[{}]}}"#, user("a", &hash, "te*am")),
            format!(r#"{{"users":[{}]}}"#, user("a", &hash, "Team")),
            format!(r#"{{"users":[{}]}}"#, user("a", &hash, "/*")),
            format!(r#"{{"users":[{}]}}"#, good.replace("[\"read\"]", "[\"admin\"]")),
            format!(r#"{{"users":[{}]}}"#, good.replace("m=19456", "m=99999999")),
            format!(r#"{{"users":[{good}],"users":[]}}"#),
        ] {
            assert!(AccessControl::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(verify(&hash, b"secret") && !verify(&hash, b"Secret") && !verify("", b""));
    }
}
