//! Authorisation: which `Authorization` field is sent to an endpoint, and how it is obtained.

mod challenge;
mod token;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub(crate) use self::challenge::Challenge;
use crate::RemoteError;
use crate::credentials::{Credential, Credentials};
use crate::endpoint::Endpoint;
use crate::error::Operation;
use crate::request::Request;
use crate::retry::AttemptError;
use crate::transport::Transport;

/// Host and scopes.
type Key = (String, String);

struct Granted {
    /// The `Authorization` field.
    value: String,
    /// Whether it rests on credentials, not only on an anonymous token.
    authenticated: bool,
}

/// The authorisations obtained so far.
pub(crate) struct AuthCache {
    credentials: Box<dyn Credentials>,
    granted: Mutex<HashMap<Key, Granted>>,
    /// Held while an authorisation is obtained, so that concurrent requests
    /// obtain it once.
    pending: Mutex<HashMap<Key, Arc<Mutex<()>>>>,
}

fn key(endpoint: &Endpoint) -> Key {
    (endpoint.host().to_string(), endpoint.scope.clone())
}

/// The `Authorization` field of a name and password (RFC 7617).
fn basic(credential: &Credential) -> Option<String> {
    match credential {
        Credential::Password { user, password } => {
            let pair = format!("{user}:{}", password.expose());
            Some(format!("Basic {}", STANDARD.encode(pair)))
        }
        _ => None,
    }
}

impl AuthCache {
    pub(crate) fn new(credentials: Box<dyn Credentials>) -> AuthCache {
        AuthCache {
            credentials,
            granted: Mutex::default(),
            pending: Mutex::default(),
        }
    }

    fn granted(&self) -> MutexGuard<'_, HashMap<Key, Granted>> {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The field for a request; none where it leads to another origin.
    pub(crate) fn header(&self, request: &Request<'_>) -> Option<String> {
        if !request.is_on_endpoint() {
            return None;
        }
        let granted = self.granted();
        granted.get(&key(request.endpoint)).map(|granted| granted.value.clone())
    }

    /// Whether credentials were sent to the endpoint.
    pub(crate) fn is_authenticated(&self, endpoint: &Endpoint) -> bool {
        self.granted()
            .get(&key(endpoint))
            .is_some_and(|granted| granted.authenticated)
    }

    /// Sends the stored password to a registry that did not ask for one; true if there is one
    /// that was not sent before.
    pub(crate) fn authenticate_preemptively(&self, endpoint: &Endpoint) -> Result<bool, RemoteError> {
        if self.is_authenticated(endpoint) {
            return Ok(false);
        }
        let credential = self.credentials.find(&endpoint.registry, &endpoint.repository)?;
        let Some(value) = credential.as_ref().and_then(basic) else {
            return Ok(false);
        };
        self.granted().insert(
            key(endpoint),
            Granted {
                value,
                authenticated: true,
            },
        );
        Ok(true)
    }

    /// Obtains the authorisation that the challenge asks for. `refused` is the field that the
    /// registry has just refused.
    pub(crate) fn authorize(
        &self,
        transport: &Transport,
        endpoint: &Endpoint,
        challenge: &Challenge,
        operation: &Operation,
        refused: Option<&str>,
    ) -> Result<(), AttemptError> {
        let key = key(endpoint);
        let begin = Instant::now();
        let pending = {
            let mut all = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(key.clone()).or_default())
        };
        let _pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have obtained it meanwhile.
        if self.granted().get(&key).map(|granted| granted.value.as_str()) != refused {
            return Ok(());
        }
        // Or its wait failed: then this attempt fails too, so that the waits of many threads
        // don't add up.
        if begin.elapsed() > transport.timeout(endpoint.host()) {
            return Err(AttemptError::from(RemoteError::TimedOut {
                host: endpoint.host().to_string(),
                why: "no access token came in time".to_string(),
            }));
        }
        let credential = self.credentials.find(&endpoint.registry, &endpoint.repository)?;
        let authenticated = credential.is_some();
        let value = self.value(transport, endpoint, challenge, operation, credential)?;
        if refused == Some(value.as_str()) {
            return Err(denied(endpoint, operation, true, "the credentials were not accepted").into());
        }
        self.granted().insert(key, Granted { value, authenticated });
        Ok(())
    }

    fn value(
        &self,
        transport: &Transport,
        endpoint: &Endpoint,
        challenge: &Challenge,
        operation: &Operation,
        credential: Option<Credential>,
    ) -> Result<String, AttemptError> {
        match (challenge, credential) {
            (_, Some(Credential::Token(token))) => Ok(format!("Bearer {}", token.expose())),
            (Challenge::Basic, Some(credential)) => basic(&credential).ok_or_else(|| {
                let why = "it requires a user name and password, but an identity token is stored";
                denied(endpoint, operation, true, why).into()
            }),
            (Challenge::Basic, None) => {
                Err(denied(endpoint, operation, false, "it requires a user name and password").into())
            }
            (Challenge::Bearer { realm, service }, credential) => {
                let fetch = |endpoint: &Endpoint| {
                    token::fetch(
                        transport,
                        endpoint,
                        realm,
                        service.as_deref(),
                        credential.as_ref(),
                        operation,
                    )
                };
                let token = match (fetch(endpoint), endpoint.without_mounts()) {
                    // The scopes of other repositories may be the reason for the denial:
                    // without them, nothing can be mounted.
                    (
                        Err(AttemptError {
                            error: RemoteError::Denied { .. },
                            ..
                        }),
                        Some(narrow),
                    ) => fetch(&narrow),
                    (token, _) => token,
                };
                Ok(format!("Bearer {}", token?))
            }
        }
    }
}

fn denied(endpoint: &Endpoint, operation: &Operation, authenticated: bool, why: &str) -> RemoteError {
    RemoteError::Denied {
        host: endpoint.host().to_string(),
        operation: operation.clone(),
        why: why.to_string(),
        authenticated,
    }
}
