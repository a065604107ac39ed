//! Fetching an access token from the server that the registry names.

use ureq::http::Method;

use crate::RemoteError;
use crate::auth::{self, TOKEN_BYTES};
use crate::client::{Ask, Client, Home};
use crate::credentials::Credential;
use crate::tries::Tries;
use crate::url::Url;

impl Client {
    /// A token for what is to be done at `home`.
    pub(crate) fn token(
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
        // A home that no address has: nothing granted goes along, and nothing is
        // asked for on its behalf.
        let there = Home {
            url: Url::new(url.is_secure(), " ", "/"),
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
                why: match credential {
                    Some(_) => format!("{} did not accept name and password for it", ask.url.authority()),
                    None => format!("{} gave no token", ask.url.authority()),
                },
                known: credential.is_some(),
            }),
            _ => Err(self.failure(&ask, response)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Anonymous, Options, Secret};

    #[test]
    fn credentials_for_a_registry_in_https_go_to_a_token_server_in_http() {
        let options = Options {
            retries: 0,
            patience: Duration::from_millis(100),
            ..Options::default()
        };
        let client = Client::new(options, Box::new(Anonymous), Box::new(|_| {}));
        let home = |secure| Home {
            url: Url::new(secure, "127.0.0.1:1", "/"),
            scope: "repository:x:pull".to_string(),
            repository: "x".to_string(),
        };
        let ask = |secure, credential: &Credential| {
            let realm = "http://127.0.0.1:1/token";
            let mut tries = Tries::new(&client);
            client.token(&home(secure), realm, None, Some(credential), "x", &mut tries)
        };
        let password = Credential::Password {
            user: "ana".to_string(),
            password: Secret::new("s3cret"),
        };
        for credential in [password, Credential::Identity(Secret::new("s3cret"))] {
            let error = ask(true, &credential).unwrap_err();
            assert!(matches!(error, RemoteError::Unsafe { .. }), "{error:?}");
            assert!(!error.is_temporary() && !format!("{error:?}").contains("s3cret"));
            // From the clear into the clear, as the operator wants it: nobody
            // listens there.
            let error = ask(false, &credential).unwrap_err();
            assert!(matches!(error, RemoteError::Unreachable { .. }), "{error:?}");
        }
    }
}
