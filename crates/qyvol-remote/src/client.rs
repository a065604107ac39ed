//! Requests: addresses, authorisation, patience, and trying again.
//!
//! Invariants: an `Authorization` field goes to the registry's own origin and
//! nowhere else; a redirect never leads from HTTPS to HTTP; every answer that
//! is held in memory is bounded.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use ureq::http::{Method, Request, Response, header};
use ureq::{Agent, Body, SendBody};

use crate::auth::{self, Challenge, TOKEN_BYTES};
use crate::credentials::{Credential, Credentials};
use crate::error::is_temporary_status;
use crate::transport::{agent, broken, transport};
use crate::url::Url;
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
    secure: OnceLock<Result<Agent, String>>,
    plain: OnceLock<Result<Agent, String>>,
    /// `Authorization` by registry and scope.
    granted: Mutex<HashMap<(String, String), String>>,
    /// Whether a registry has the referrers API.
    referrers: Mutex<HashMap<String, bool>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// One request but for its body.
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
            secure: OnceLock::new(),
            plain: OnceLock::new(),
            granted: Mutex::default(),
            referrers: Mutex::default(),
        })
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    fn agent(&self, secure: bool) -> Result<&Agent, RemoteError> {
        let slot = if secure { &self.secure } else { &self.plain };
        slot.get_or_init(|| agent(&self.options, secure))
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
            && let Some(value) = self.granted().get(&ask.home.key())
        {
            request = request.header(header::AUTHORIZATION, value);
        }
        let bad = |e: ureq::http::Error| RemoteError::Protocol {
            what: format!("an address that can't be asked: {e}"),
        };
        let agent = self.agent(ask.url.is_secure())?;
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
    /// for it. A stream can't be sent twice: there the `401` is returned.
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
        let had = self.granted().get(&ask.home.key()).cloned();
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

    /// The same for a reading request, following redirects (blobs often lie
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
            let next = ask.url.join(location)?;
            if ask.url.is_secure() && !next.is_secure() {
                return Err(RemoteError::Unsafe {
                    why: format!("{} redirects from HTTPS to HTTP", ask.url.authority()),
                });
            }
            ask.url = next;
        }
        Err(RemoteError::Protocol {
            what: format!("more than {REDIRECTS} redirects for {}", ask.what),
        })
    }

    fn granted(&self) -> MutexGuard<'_, HashMap<(String, String), String>> {
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
        // Another thread may have got one while this one was refused.
        if self.granted().get(&key).map(String::as_str) != had {
            return Ok(());
        }
        let credential = self.credentials.find(host, &home.repository)?;
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
                let token = self.token(home, realm, service.as_deref(), credential.as_ref(), what, tries)?;
                format!("Bearer {token}")
            }
        };
        if had == Some(value.as_str()) {
            return Err(denied(true, "the credentials were not accepted"));
        }
        self.granted().insert(key, value);
        Ok(())
    }

    fn token(
        &self,
        home: &Home,
        realm: &str,
        service: Option<&str>,
        credential: Option<&Credential>,
        what: &str,
        tries: &mut Tries,
    ) -> Result<String, RemoteError> {
        let mut url = Url::parse(realm)?;
        if home.url.is_secure() && !url.is_secure() && credential.is_some() {
            return Err(RemoteError::Unsafe {
                why: format!(
                    "{} wants them sent to {} without encryption",
                    home.url.authority(),
                    url.authority()
                ),
            });
        }
        let mut headers = Vec::new();
        let mut form = None;
        if let Some(Credential::Identity(token)) = credential {
            let mut body = Url::new(true, "", "").with_query("grant_type", "refresh_token");
            for (key, value) in [
                ("client_id", "qyv"),
                ("service", service.unwrap_or_default()),
                ("scope", &home.scope),
                ("refresh_token", token.expose()),
            ] {
                body = body.with_query(key, value);
            }
            let text = body.to_string();
            form = Some(text.split_once('?').map_or("", |(_, query)| query).to_string());
            headers.push(("content-type", "application/x-www-form-urlencoded".to_string()));
        } else {
            if let Some(service) = service {
                url = url.with_query("service", service);
            }
            for scope in home.scope.split(' ').filter(|s| !s.is_empty()) {
                url = url.with_query("scope", scope);
            }
            url = url.with_query("client_id", "qyv");
            if let Some(value) = credential.and_then(auth::basic) {
                headers.push(("authorization", value));
            }
        }
        // A home of its own, with no scope: nothing granted goes along.
        let there = Home {
            url: Url::new(url.is_secure(), "token.invalid", "/"),
            scope: String::new(),
            repository: String::new(),
        };
        let ask = Ask {
            method: if form.is_some() { Method::POST } else { Method::GET },
            url,
            headers,
            home: &there,
            what: format!("an access token for {what}"),
        };
        let response = self.send_within(&ask, form.as_deref().map(str::as_bytes), tries)?;
        match response.status().as_u16() {
            200 => auth::token(&self.small(&ask, response, TOKEN_BYTES)?),
            400 | 401 | 403 => Err(RemoteError::Denied {
                host: home.url.authority().to_string(),
                what: what.to_string(),
                why: format!("{} gave no token", ask.url.authority()),
                known: credential.is_some(),
            }),
            _ => Err(failure(&ask, response, &self.options)),
        }
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
        failure(ask, response, &self.options)
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
    fn key(&self) -> (String, String) {
        (self.url.authority().to_string(), self.scope.clone())
    }
}

/// Counts what was tried.
pub(crate) struct Tries {
    left: u32,
    wait: Duration,
}

impl Tries {
    pub(crate) fn new(client: &Client) -> Tries {
        Tries {
            left: client.options.retries,
            wait: client.options.backoff,
        }
    }

    /// Waits for the next try, or gives the error back if there is to be none.
    pub(crate) fn again(
        &mut self,
        client: &Client,
        error: RemoteError,
        asked: Option<Duration>,
    ) -> Result<(), RemoteError> {
        // Who asks for more patience than there is gets none from an outer
        // loop either.
        if !error.is_temporary() || self.left == 0 || matches!(error, RemoteError::Busy { .. }) {
            return Err(error);
        }
        if let Some(asked) = asked.filter(|asked| *asked > client.options.longest_wait) {
            return Err(match error {
                RemoteError::Status { host, what, .. } => RemoteError::Busy {
                    host,
                    what,
                    seconds: asked.as_secs(),
                },
                other => other,
            });
        }
        self.left -= 1;
        // Apart from one another, so that many hosts don't come back at once.
        let spread = RandomState::new().hash_one(self.left) % 512;
        let wait = asked.unwrap_or_else(|| self.wait.mul_f64(0.75 + spread as f64 / 1024.0));
        self.wait = (self.wait * 2).min(client.options.longest_wait);
        (client.tell)(&format!("{error}: trying again in {:.1} s", wait.as_secs_f64()));
        thread::sleep(wait);
        Ok(())
    }

    /// Something was achieved: patience begins anew.
    pub(crate) fn progressed(&mut self, client: &Client) {
        *self = Tries::new(client);
    }
}

/// `Retry-After` in seconds (RFC 9110 section 10.2.3). The form with a date
/// needs a clock that agrees with the server's, and is not used.
pub(crate) fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let text = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // More than can be counted is long, and not no wait.
    digits.then(|| Duration::from_secs(text.parse().unwrap_or(u64::MAX)))
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
