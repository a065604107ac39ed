//! Requests: addresses, authorisation, patience, and trying again.
//!
//! Invariants: an `Authorization` field goes to the registry's own origin and
//! nowhere else; a redirect never leads from HTTPS to HTTP; every answer that
//! is held in memory is bounded.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use ureq::http::{HeaderMap, Method, Request, Response, header};
use ureq::{Agent, Body, SendBody};

use crate::auth::{self, Challenge};
use crate::credentials::{Credential, Credentials};
use crate::error::is_temporary_status;
use crate::transport::{agent, broken, transport};
use crate::tries::{Tries, retry_after};
use crate::url::{Url, is_loopback};
use crate::{Options, RemoteError};

/// Bytes of an error's body that are looked at.
const ERROR_BYTES: u64 = 8 << 10;
/// Redirects that are followed for one request.
const REDIRECTS: usize = 5;

/// Is told what a user should know while waiting.
pub type Tell = Box<dyn Fn(&str) + Send + Sync>;

/// Talks to registries. One is made for a command, and knows by its end which
/// tokens it has and what each registry can.
pub struct Client {
    options: Options,
    credentials: Box<dyn Credentials>,
    tell: Tell,
    /// By whether it encrypts, and whether it stays on this machine.
    agents: [OnceLock<Result<Agent, String>>; 4],
    /// By registry and scope.
    granted: Mutex<HashMap<Key, Granted>>,
    /// By registry and scope: held while asking for access, so that requests
    /// beside one another ask once.
    asking: Mutex<HashMap<Key, Arc<Mutex<()>>>>,
    /// Whether a registry has the referrers API.
    referrers: Mutex<HashMap<String, bool>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// A registry and what is to be done there: its authority and the scopes.
type Key = (String, String);

/// What a registry is shown.
struct Granted {
    /// The `Authorization` field.
    value: String,
    /// Whether credentials are behind it, and not just an access token that
    /// anyone gets.
    known: bool,
}

/// An answer that was read to its end.
pub(crate) struct Whole {
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

/// One request but for its body.
#[derive(Clone)]
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(&'static str, String)>,
    /// The registry that the request belongs to, wherever it leads.
    pub(crate) home: &'a Home,
    /// What it is for, in messages: "manifest hello:1.0.0".
    pub(crate) what: String,
}

/// A registry and what is to be done there.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    /// The origin.
    pub(crate) url: Url,
    /// Scopes of the access token, apart by a space.
    pub(crate) scope: String,
    /// For stored credentials that are bound to a repository.
    pub(crate) repository: String,
}

/// A body that is sent.
pub(crate) enum Payload<'a> {
    None,
    Bytes(&'a [u8]),
    Stream(u64, &'a mut dyn Read),
}

impl Client {
    /// A client that nothing has been asked of.
    pub fn new(options: Options, credentials: Box<dyn Credentials>, tell: Tell) -> Arc<Client> {
        Arc::new(Client {
            options,
            credentials,
            tell,
            agents: Default::default(),
            granted: Mutex::default(),
            asking: Mutex::default(),
            referrers: Mutex::default(),
        })
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// Tells the user why it takes longer.
    pub(crate) fn tell(&self, what: &str) {
        (self.tell)(what);
    }

    fn agent(&self, url: &Url) -> Result<&Agent, RemoteError> {
        let (secure, here) = (url.is_secure(), is_loopback(url.authority()));
        let [plain, plain_here, encrypted, encrypted_here] = &self.agents;
        let slot = match (secure, here) {
            (false, false) => plain,
            (false, true) => plain_here,
            (true, false) => encrypted,
            (true, true) => encrypted_here,
        };
        // What never leaves this machine may be in the clear: so no proxy, to
        // which this machine is another one, gets to see it.
        slot.get_or_init(|| agent(&self.options, secure, !here))
            .as_ref()
            .map_err(|why| RemoteError::Setup(why.clone()))
    }

    /// Sends a request once, with the authorisation there is.
    fn once(&self, ask: &Ask<'_>, payload: Payload<'_>) -> Result<Response<Body>, RemoteError> {
        let mut request = Request::builder().method(ask.method.clone()).uri(ask.url.to_string());
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        if ask.url.same_origin(&ask.home.url)
            && let Some(granted) = self.granted().get(&ask.home.key())
        {
            request = request.header(header::AUTHORIZATION, &granted.value);
        }
        let bad = |e: ureq::http::Error| RemoteError::Protocol {
            what: format!("an address that can't be asked: {e}"),
        };
        let agent = self.agent(&ask.url)?;
        let answer = match payload {
            Payload::None => agent.run(request.body(()).map_err(bad)?),
            Payload::Bytes(bytes) => agent.run(request.body(bytes).map_err(bad)?),
            Payload::Stream(length, body) => {
                let request = request.header(header::CONTENT_LENGTH, length);
                agent.run(request.body(SendBody::from_reader(body)).map_err(bad)?)
            }
        };
        answer.map_err(|error| transport(&ask.url, error))
    }

    /// Sends a request, and once more with authorisation if the registry asks
    /// for it. A stream can't be sent twice: there the attempt fails.
    pub(crate) fn ask(
        &self,
        ask: &Ask<'_>,
        payload: Payload<'_>,
        tries: &mut Tries,
    ) -> Result<Response<Body>, RemoteError> {
        let again = match &payload {
            Payload::None => Some(Payload::None),
            Payload::Bytes(bytes) => Some(Payload::Bytes(bytes)),
            Payload::Stream(..) => None,
        };
        let had = self.granted().get(&ask.home.key()).map(|granted| granted.value.clone());
        let response = self.once(ask, payload)?;
        let ours = ask.url.same_origin(&ask.home.url);
        if response.status() != 401 || !ours {
            return Ok(response);
        }
        let fields = response.headers().get_all(header::WWW_AUTHENTICATE);
        let Some(challenge) = Challenge::parse(fields.iter().filter_map(|v| v.to_str().ok())) else {
            return Ok(response);
        };
        drop(response);
        self.authorize(ask.home, &challenge, &ask.what, had.as_deref(), tries)?;
        match again {
            Some(payload) => self.once(ask, payload),
            None => Err(RemoteError::TimedOut {
                host: ask.home.url.authority().to_string(),
                why: "the access token ended while sending".to_string(),
            }),
        }
    }

    /// The same, tried again while the reason may pass.
    pub(crate) fn send(&self, ask: &Ask<'_>, bytes: Option<&[u8]>) -> Result<Response<Body>, RemoteError> {
        self.send_within(ask, bytes, &mut Tries::new(self))
    }

    /// The same as a part of something that is tried again as a whole: the
    /// tries are those of the whole, so that they don't multiply.
    pub(crate) fn send_within(
        &self,
        ask: &Ask<'_>,
        bytes: Option<&[u8]>,
        tries: &mut Tries,
    ) -> Result<Response<Body>, RemoteError> {
        loop {
            let payload = bytes.map_or(Payload::None, Payload::Bytes);
            let (error, wait) = match self.ask(ask, payload, tries) {
                Ok(response) if is_temporary_status(response.status().as_u16()) => {
                    let wait = retry_after(&response);
                    (failure(ask, response, &self.options), wait)
                }
                Ok(response) => return Ok(response),
                Err(error) => (error, None),
            };
            tries.again(self, error, wait)?;
        }
    }

    /// Reads an answer of `200` that is held in memory, again if it breaks off;
    /// any other answer is given back. Redirects are followed.
    pub(crate) fn whole(&self, ask: &Ask<'_>, limit: u64) -> Result<Result<Whole, Response<Body>>, RemoteError> {
        let mut tries = Tries::new(self);
        loop {
            let response = self.follow(ask.clone(), &mut tries)?;
            if response.status() != 200 {
                return Ok(Err(response));
            }
            let headers = response.headers().clone();
            match self.small(ask, response, limit) {
                Ok(bytes) => return Ok(Ok(Whole { headers, bytes })),
                Err(error) => tries.again(self, error, None)?,
            }
        }
    }

    /// Sends a reading request and follows redirects (blobs often lie
    /// elsewhere). Whoever is asked there gets no credentials.
    pub(crate) fn follow(&self, mut ask: Ask<'_>, tries: &mut Tries) -> Result<Response<Body>, RemoteError> {
        for _ in 0..=REDIRECTS {
            let response = self.send_within(&ask, None, tries)?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let location = response.headers().get(header::LOCATION).and_then(|v| v.to_str().ok());
            let Some(location) = location else {
                return Err(RemoteError::Protocol {
                    what: "a redirect that leads nowhere".to_string(),
                });
            };
            ask.url = ask.url.follow(location)?;
        }
        Err(RemoteError::Protocol {
            what: format!("more than {REDIRECTS} redirects for {}", ask.what),
        })
    }

    fn granted(&self) -> MutexGuard<'_, HashMap<Key, Granted>> {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gets what the registry wants to see. `had` is what it has just refused.
    fn authorize(
        &self,
        home: &Home,
        challenge: &Challenge,
        what: &str,
        had: Option<&str>,
        tries: &mut Tries,
    ) -> Result<(), RemoteError> {
        let host = home.url.authority();
        let key = home.key();
        let begin = Instant::now();
        let asking = {
            let mut all = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(key.clone()).or_default())
        };
        let _asking = asking.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have got one while this one was refused.
        if self.granted().get(&key).map(|granted| granted.value.as_str()) != had {
            return Ok(());
        }
        // Or have waited in vain: then not all of that once more, thread after
        // thread.
        if begin.elapsed() > self.options.patience {
            tries.last();
        }
        let credential = self.credentials.find(host, &home.repository)?;
        let known = credential.is_some();
        let denied = |known: bool, why: &str| RemoteError::Denied {
            host: host.to_string(),
            what: what.to_string(),
            why: why.to_string(),
            known,
        };
        let value = match (challenge, credential) {
            (_, Some(Credential::Token(token))) => format!("Bearer {}", token.expose()),
            (Challenge::Basic, Some(credential)) => auth::basic(&credential)
                .ok_or_else(|| denied(true, "it wants name and password, and an identity token is stored"))?,
            (Challenge::Basic, None) => return Err(denied(false, "it wants name and password")),
            (Challenge::Bearer { realm, service }, credential) => {
                let mut ask =
                    |home: &Home| self.token(home, realm, service.as_deref(), credential.as_ref(), what, tries);
                let token = match (ask(home), home.without_mounts()) {
                    // It may be what was wanted of other repositories: without
                    // that, nothing can be mounted from them.
                    (Err(RemoteError::Denied { .. }), Some(narrow)) => ask(&narrow),
                    (token, _) => token,
                };
                format!("Bearer {}", token?)
            }
        };
        if had == Some(value.as_str()) {
            return Err(denied(true, "the credentials were not accepted"));
        }
        self.granted().insert(key, Granted { value, known });
        Ok(())
    }

    /// Reads an answer that is held in memory.
    pub(crate) fn small(&self, ask: &Ask<'_>, response: Response<Body>, limit: u64) -> Result<Vec<u8>, RemoteError> {
        read_small(&ask.url, response, limit, self.options.patience).and_then(|bytes| {
            bytes.ok_or_else(|| RemoteError::Protocol {
                what: format!("more than {limit} bytes for {}", ask.what),
            })
        })
    }

    /// What an answer other than the ones expected means.
    pub(crate) fn failure(&self, ask: &Ask<'_>, response: Response<Body>) -> RemoteError {
        let mut error = failure(ask, response, &self.options);
        if let RemoteError::Denied { known, .. } = &mut error
            && self.granted().get(&ask.home.key()).is_some_and(|granted| granted.known)
        {
            *known = true;
        }
        error
    }

    /// Shows a registry that did not ask for one the password that there is for
    /// it; true if there is one that it has not seen.
    pub(crate) fn volunteer(&self, home: &Home) -> Result<bool, RemoteError> {
        if self.granted().get(&home.key()).is_some_and(|granted| granted.known) {
            return Ok(false);
        }
        let credential = self.credentials.find(home.url.authority(), &home.repository)?;
        let Some(value) = credential.as_ref().and_then(auth::basic) else {
            return Ok(false);
        };
        self.granted().insert(home.key(), Granted { value, known: true });
        Ok(true)
    }

    /// Whether the registry has the referrers API, where that is known.
    pub(crate) fn has_referrers(&self, registry: &str) -> Option<bool> {
        let known = self.referrers.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(registry).copied()
    }

    pub(crate) fn learn_referrers(&self, registry: &str, has: bool) {
        let mut known = self.referrers.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(registry.to_string(), has);
    }
}

impl Home {
    /// The same with the first scope alone; none where that is all.
    fn without_mounts(&self) -> Option<Home> {
        let (first, _) = self.scope.split_once(' ')?;
        Some(Home {
            scope: first.to_string(),
            ..self.clone()
        })
    }

    fn key(&self) -> Key {
        (self.url.authority().to_string(), self.scope.clone())
    }
}

/// Reads at most `limit` bytes; none where there are more.
fn read_small(
    url: &Url,
    response: Response<Body>,
    limit: u64,
    patience: Duration,
) -> Result<Option<Vec<u8>>, RemoteError> {
    let begin = Instant::now();
    let mut body = response.into_body().into_reader();
    let mut bytes = Vec::new();
    let mut chunk = [0; 8 << 10];
    loop {
        let n = body.read(&mut chunk).map_err(|e| broken(url, e))?;
        if n == 0 {
            return Ok(Some(bytes));
        }
        bytes.extend_from_slice(chunk.get(..n).unwrap_or_default());
        if bytes.len() as u64 > limit {
            return Ok(None);
        }
        if begin.elapsed() > patience * 2 {
            return Err(RemoteError::TimedOut {
                host: url.authority().to_string(),
                why: "its answer drips".to_string(),
            });
        }
    }
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<OneError>,
}

#[derive(Deserialize)]
struct OneError {
    code: String,
    #[serde(default)]
    message: String,
}

/// What an answer other than the ones expected means.
fn failure(ask: &Ask<'_>, response: Response<Body>, options: &Options) -> RemoteError {
    let status = response.status().as_u16();
    let host = ask.url.authority().to_string();
    let what = ask.what.clone();
    let body = read_small(&ask.url, response, ERROR_BYTES, options.patience);
    let body = body.ok().flatten().unwrap_or_default();
    let why = serde_json::from_slice::<Errors>(&body).map_or_else(
        |_| String::new(),
        |errors| {
            let words: Vec<String> = errors
                .errors
                .iter()
                .take(3)
                .map(|e| format!("{} {}", e.code, e.message).trim().to_string())
                .collect();
            qyvol_types::escape(&words.join(", ")).to_string()
        },
    );
    match status {
        401 | 403 => RemoteError::Denied {
            host,
            what,
            why: if why.is_empty() {
                format!("it answered {status}")
            } else {
                why
            },
            known: status == 403,
        },
        404 => RemoteError::NotFound { host, what },
        _ => RemoteError::Status {
            host,
            what,
            status,
            why,
        },
    }
}
