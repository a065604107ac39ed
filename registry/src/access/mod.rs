//! Who may do what.
//!
//! A request is first identified ([`Authorizer::identify`]), then every repository
//! it touches is checked ([`Authorizer::check`]); nothing is read or written before.
//! Wrong credentials are always 401, even where no credentials are needed. A right that
//! the caller lacks is 401 with a challenge where better credentials or a wider
//! token could help, and 403 where they could not.
//!
//! Passwords are argon2 hashes. Only a few are computed at once, each off the event loop, and
//! clients wait in a queue that is fair by address. A success is cached for a few minutes under
//! a keyed hash of the credentials, so that not every request costs as much as a login.

mod file;
mod token;
mod users;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hyper::HeaderMap;
use hyper::header;
use ring::rand::{SecureRandom, SystemRandom};

pub use self::users::{AccessControl, Action, Scope, User, Users, hash_password};

pub(crate) use self::token::LIFETIME as TOKEN_LIFETIME;

use self::token::{Claims, Grant, Signer};
use crate::Clock;
use crate::cache::Cache;
use crate::error::{ApiError, Code, HubError};
use crate::fair_queue::FairQueue;
use crate::front::Origin;
use crate::peer::Peer;
use crate::query::Query;
use crate::reload::Reloadable;

/// Passwords computed at once: each takes a core and tens of megabytes.
const CONCURRENCY: usize = 2;
/// How long a success is cached.
const LOGIN_TTL: Duration = Duration::from_secs(300);
/// Scopes read from one token request. A push that mounts blobs names each source repository in
/// a scope of its own.
const SCOPES: usize = 64;
const BASIC: &str = "Basic realm=\"qyvol-hub\"";

/// Who sent a request.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    Anonymous,
    /// By name and password.
    User(Arc<User>),
    /// By a token; an anonymous token has no user.
    Token(Option<Arc<User>>, Arc<Claims>),
}

impl Caller {
    pub(crate) fn user(&self) -> Option<&str> {
        self.account().map(|user| user.name.as_str())
    }

    fn account(&self) -> Option<&User> {
        match self {
            Caller::User(user) | Caller::Token(Some(user), _) => Some(user),
            Caller::Anonymous | Caller::Token(None, _) => None,
        }
    }
}

/// A right, as a challenge names it.
#[derive(Clone, Copy)]
enum Right<'a> {
    Catalog,
    Repository(&'a str, Action),
}

impl Right<'_> {
    fn scope(&self) -> String {
        match self {
            Right::Catalog => "registry:catalog:*".to_string(),
            Right::Repository(name, Action::Read) => format!("repository:{name}:pull"),
            Right::Repository(name, Action::Write) => format!("repository:{name}:pull,push"),
            Right::Repository(name, Action::Delete) => format!("repository:{name}:delete"),
        }
    }
}

pub(crate) struct Authorizer {
    /// None if everyone may do everything.
    users: Option<Reloadable<Users>>,
    clock: Clock,
    signer: Signer,
    remembered: Cache<[u8; 32], (Arc<User>, SystemTime)>,
    logins: Arc<FairQueue>,
    random: SystemRandom,
}

impl Authorizer {
    pub(crate) fn new(access: AccessControl, clock: Clock) -> Result<Authorizer, HubError> {
        let random = SystemRandom::new();
        Ok(Authorizer {
            signer: Signer::new(&random)?,
            users: access.users()?,
            clock,
            remembered: Cache::new(16 * 256),
            logins: FairQueue::new(CONCURRENCY),
            random,
        })
    }

    /// A fresh name for an upload or a token: 32 hexadecimal digits.
    pub(crate) fn random_id(&self) -> Result<String, ApiError> {
        let mut bytes = [0_u8; 16];
        self.random
            .fill(&mut bytes)
            .map_err(|_| ApiError::internal("no random numbers"))?;
        Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
    }

    pub(crate) fn is_open(&self) -> bool {
        self.users.is_none()
    }

    fn users(&self) -> Option<Arc<Users>> {
        self.users.as_ref().map(Reloadable::current)
    }

    /// Reads the file of users again if it has changed. True if it has.
    pub(crate) fn refresh(&self) -> Result<bool, HubError> {
        self.users.as_ref().map_or(Ok(false), Reloadable::refresh)
    }

    fn challenge(&self, origin: &Origin, wanted: &[Right<'_>], error: Option<&str>) -> String {
        let tokens = self.users().is_some_and(|users| users.tokens());
        // A wrong scheme would make clients send their password in the clear, so an unknown
        // scheme is not guessed: this challenge needs none.
        let Some(url) = origin.url.as_ref().filter(|_| tokens) else {
            return BASIC.to_string();
        };
        let mut out = format!("Bearer realm=\"{url}/token\",service=\"{}\"", origin.host);
        let scopes: Vec<_> = wanted.iter().map(Right::scope).collect();
        if !scopes.is_empty() {
            // A checked name has no character that needs quoting.
            out.push_str(&format!(",scope=\"{}\"", scopes.join(" ")));
        }
        if let Some(error) = error {
            out.push_str(&format!(",error=\"{error}\""));
        }
        out
    }

    fn unauthorized(&self, origin: &Origin, wanted: &[Right<'_>], error: Option<&str>) -> ApiError {
        ApiError::new(Code::Unauthorized, "authentication required")
            .header(header::WWW_AUTHENTICATE, &self.challenge(origin, wanted, error))
    }

    /// Finds out who sent a request.
    pub(crate) async fn identify(
        &self,
        headers: &HeaderMap,
        origin: &Origin,
        client: Peer,
    ) -> Result<Caller, ApiError> {
        let Some(users) = self.users() else {
            return Ok(Caller::Anonymous);
        };
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return Ok(Caller::Anonymous);
        };
        let refused = |error| self.unauthorized(origin, &[], error);
        let value = value.to_str().map_err(|_| refused(None))?;
        let (scheme, rest) = value.split_once(' ').ok_or_else(|| refused(None))?;
        if scheme.eq_ignore_ascii_case("basic") {
            let user = self.basic(&users, rest.trim(), client).await?;
            return user.map(Caller::User).ok_or_else(|| refused(None));
        }
        if users.tokens() && scheme.eq_ignore_ascii_case("bearer") {
            let claims = self.signer.read(rest.trim(), (self.clock)());
            let claims = claims.ok_or_else(|| refused(Some("invalid_token")))?;
            let user = match &claims.sub {
                None => None,
                // A token ends with its user, and with a change of the password.
                Some(name) => {
                    let user = users
                        .find(name)
                        .filter(|user| claims.password == self.password_tag(user));
                    Some(user.ok_or_else(|| refused(Some("invalid_token")))?)
                }
            };
            return Ok(Caller::Token(user, Arc::new(claims)));
        }
        Err(refused(None))
    }

    /// Names a user's password in a token, to void it when the password changes.
    fn password_tag(&self, user: &User) -> String {
        URL_SAFE_NO_PAD.encode(&self.signer.tag(user.password.as_bytes())[..12])
    }

    async fn basic(&self, users: &Users, encoded: &str, client: Peer) -> Result<Option<Arc<User>>, ApiError> {
        let Ok(decoded) = STANDARD.decode(encoded) else {
            return Ok(None);
        };
        let key = self.signer.tag(&decoded);
        let now = (self.clock)();
        if let Some((user, until)) = self.remembered.get(&key)
            && now < until
            && let Some(user) = users.find(&user.name).filter(|now| now.password == user.password)
        {
            return Ok(Some(user));
        }
        let Some((name, password)) = split(&decoded) else {
            return Ok(None);
        };
        let busy = || ApiError::new(Code::TooManyRequests, "too many logins at once").header(header::RETRY_AFTER, "1");
        let working = self.logins.acquire(client).await.ok_or_else(busy)?;
        let user = users.find(name);
        let hash = user
            .as_ref()
            .map_or_else(|| users.nobody(), |user| user.password.clone());
        let password = password.to_vec();
        // The task owns the permit: if the client disconnects, the core is still busy.
        let right = tokio::task::spawn_blocking(move || {
            let _working = working;
            users::verify(&hash, &password)
        });
        let right = right.await.map_err(ApiError::internal)?;
        let Some(user) = user.filter(|_| right) else {
            return Ok(None);
        };
        self.remembered.insert(key, (user.clone(), now + LOGIN_TTL), 1);
        Ok(Some(user))
    }

    /// Whether the caller has a right, without the reason if not.
    pub(crate) fn may(&self, caller: &Caller, name: &str, action: Action) -> bool {
        let granted = match caller {
            Caller::Anonymous | Caller::User(_) => true,
            Caller::Token(_, claims) => claims.grants(name, action),
        };
        self.is_open() || (granted && self.has(caller, name, action))
    }

    /// Whether the user has a right, whatever the token is for.
    fn has(&self, caller: &Caller, name: &str, action: Action) -> bool {
        self.users()
            .is_none_or(|users| caller.account().is_some_and(|user| user.may(name, action)) || users.anonymous(action))
    }

    /// Checks a right; the error is the response.
    pub(crate) fn check(&self, caller: &Caller, name: &str, action: Action, origin: &Origin) -> Result<(), ApiError> {
        match self.may(caller, name, action) {
            true => Ok(()),
            false => Err(self.refusal(caller, &[Right::Repository(name, action)], origin)),
        }
    }

    /// Whether a blob may be mounted into `to` from `from`; an error if the
    /// caller may not write to `to` at all.
    ///
    /// If only the token lacks the right to read the source, but its user has it, the client is
    /// sent back for a wider token: clients learn a scope from the challenge, and would
    /// otherwise upload what they could have mounted. If the user lacks the right too, the
    /// answer doesn't reveal whether the source exists.
    pub(crate) fn check_mount(&self, caller: &Caller, to: &str, from: &str, origin: &Origin) -> Result<bool, ApiError> {
        let rights = [
            Right::Repository(to, Action::Write),
            Right::Repository(from, Action::Read),
        ];
        let readable = self.may(caller, from, Action::Read);
        let narrow = !readable && matches!(caller, Caller::Token(..)) && self.has(caller, from, Action::Read);
        if narrow || !self.may(caller, to, Action::Write) {
            return Err(self.refusal(caller, &rights, origin));
        }
        Ok(readable)
    }

    /// Why a caller who lacks one of these rights is refused: 401 if other credentials or a
    /// wider token could help, else 403. The first right is the indispensable one.
    fn refusal(&self, caller: &Caller, rights: &[Right<'_>], origin: &Origin) -> ApiError {
        let first = rights.first().copied().unwrap_or(Right::Catalog);
        let could = match (caller, first) {
            (Caller::Anonymous | Caller::Token(None, _), _) => true,
            (Caller::User(_), _) => false,
            (Caller::Token(..), Right::Repository(name, action)) => self.has(caller, name, action),
            (Caller::Token(..), Right::Catalog) => true,
        };
        if could {
            let error = matches!(caller, Caller::Token(..)).then_some("insufficient_scope");
            return self.unauthorized(origin, rights, error);
        }
        let mut error = ApiError::new(Code::Denied, "access denied");
        if let Right::Repository(name, _) = first {
            error = error.detail(name);
        }
        error
    }

    /// Whether the caller is a user, where there are users.
    pub(crate) fn check_user(&self, caller: &Caller, origin: &Origin) -> Result<(), ApiError> {
        match caller.user() {
            None if !self.is_open() => Err(self.unauthorized(origin, &[], None)),
            _ => Ok(()),
        }
    }

    /// Whether the caller sent any credentials, even an anonymous token.
    pub(crate) fn check_known(&self, caller: &Caller, origin: &Origin) -> Result<(), ApiError> {
        match caller {
            Caller::Anonymous if !self.is_open() => Err(self.unauthorized(origin, &[], None)),
            _ => Ok(()),
        }
    }

    /// Whether the caller may ask for the list of repositories, which then
    /// holds those it may read.
    pub(crate) fn check_catalog(&self, caller: &Caller, origin: &Origin) -> Result<(), ApiError> {
        match caller {
            Caller::Anonymous if !self.is_open() => Err(self.refusal(caller, &[Right::Catalog], origin)),
            Caller::Token(_, claims) if !claims.catalog() => Err(self.refusal(caller, &[Right::Catalog], origin)),
            _ => Ok(()),
        }
    }

    /// Whether the caller may read `name`, for the list of repositories.
    pub(crate) fn may_list(&self, caller: &Caller, name: &str) -> bool {
        self.has(caller, name, Action::Read)
    }

    /// Makes a token for the scopes asked for: the part of them that the
    /// caller has. None if this registry gives no tokens.
    pub(crate) fn token(&self, caller: &Caller, query: &Query) -> Result<Option<String>, ApiError> {
        let Some(users) = self.users().filter(|users| users.tokens()) else {
            return Ok(None);
        };
        let user = match caller {
            Caller::User(user) => Some(user),
            Caller::Anonymous if users.anonymous_read => None,
            // A token can't be used to get a token.
            Caller::Anonymous | Caller::Token(..) => {
                return Err(ApiError::new(Code::Unauthorized, "authentication required")
                    .header(header::WWW_AUTHENTICATE, BASIC));
            }
        };
        let mut grants = Vec::new();
        let scopes = query.all("scope").flat_map(|scope| scope.split(' '));
        for scope in scopes.filter(|scope| !scope.is_empty()).take(SCOPES) {
            if scope.starts_with("registry:catalog:") {
                grants.push(Grant::catalog());
                continue;
            }
            let Some((name, actions)) = scope.strip_prefix("repository:").and_then(|rest| rest.rsplit_once(':')) else {
                continue;
            };
            let asked = |word: &str| actions.split(',').any(|a| a == word || a == "*");
            let granted = [
                ("pull", Action::Read),
                ("push", Action::Write),
                ("delete", Action::Delete),
            ]
            .into_iter()
            .filter(|(word, action)| asked(word) && self.has(caller, name, *action))
            .map(|(word, _)| word.to_string())
            .collect();
            grants.push(Grant::repository(name, granted));
        }
        let sub = user.map(|user| (user.name.clone(), self.password_tag(user)));
        self.signer.sign(sub, grants, (self.clock)()).map(Some)
    }
}

/// `name:password`; the name is UTF-8, the password any bytes.
fn split(decoded: &[u8]) -> Option<(&str, &[u8])> {
    let colon = decoded.iter().position(|b| *b == b':')?;
    let name = std::str::from_utf8(&decoded[..colon]).ok()?;
    Some((name, &decoded[colon + 1..]))
}
