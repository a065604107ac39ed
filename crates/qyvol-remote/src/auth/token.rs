//! Fetching an access token from the server that the registry names (the
//! distribution project's token authentication, RFC 6750; identity tokens as in
//! its OAuth2 page).
//!
//! Credentials are sent to that server and to the registry itself, nowhere else, and encrypted
//! unless the registry uses plain HTTP anyway.

use serde::Deserialize;
use ureq::http::Method;

use super::basic;
use crate::RemoteError;
use crate::credentials::Credential;
use crate::endpoint::Endpoint;
use crate::error::Operation;
use crate::request::{BufferedResponse, Redirects, Request, RequestBody, retry_after};
use crate::retry::AttemptError;
use crate::transport::Transport;
use crate::url::Url;

/// Largest answer of a token server, in bytes.
const TOKEN_BYTES: u64 = 64 << 10;
/// How this client names itself to token servers.
const CLIENT_ID: &str = "qyv";

/// Fetches a token for what is to be done at `endpoint`. One attempt.
pub(super) fn fetch(
    transport: &Transport,
    endpoint: &Endpoint,
    realm: &str,
    service: Option<&str>,
    credential: Option<&Credential>,
    operation: &Operation,
) -> Result<String, AttemptError> {
    let url = Url::parse(realm)?;
    if endpoint.origin.is_secure() && !url.is_secure() && credential.is_some() {
        let why = format!(
            "{} wants them sent to {} without encryption",
            endpoint.host(),
            url.authority()
        );
        return Err(RemoteError::Unsafe { why }.into());
    }
    // The token server is another endpoint, with no scopes and no redirects.
    let server = Endpoint {
        registry: url.authority().to_string(),
        origin: url.with_path("/"),
        repository: String::new(),
        scope: String::new(),
        is_mirror: false,
        is_single_attempt: false,
    };
    let mut request = Request::new(Method::GET, url, &server, Operation::FetchToken);
    request.redirects = Redirects::Never;
    let mut form = None;
    let mut authorization = None;
    if let Some(Credential::Identity(token)) = credential {
        let mut fields = form_urlencoded::Serializer::new(String::new());
        fields
            .append_pair("grant_type", "refresh_token")
            .append_pair("client_id", CLIENT_ID)
            .append_pair("service", service.unwrap_or_default())
            .append_pair("scope", &endpoint.scope)
            .append_pair("refresh_token", token.expose());
        form = Some(fields.finish());
        request.method = Method::POST;
        request = request.with_header("content-type", "application/x-www-form-urlencoded");
    } else {
        let scopes = endpoint.scope.split(' ').filter(|scope| !scope.is_empty());
        let parameters = service.map(|service| ("service", service)).into_iter();
        let parameters = parameters.chain(scopes.map(|scope| ("scope", scope)));
        request.url = request.url.with_query(parameters.chain([("client_id", CLIENT_ID)]));
        authorization = credential.and_then(basic);
    }
    let payload = form
        .as_deref()
        .map_or(RequestBody::None, |form| RequestBody::Bytes(form.as_bytes()));
    let response = transport.send(&request, authorization.as_deref(), payload)?;
    let retry_after = retry_after(response.headers());
    let timeout = transport.timeout(server.host());
    let answer = BufferedResponse::read(&request, response, TOKEN_BYTES, timeout)?;
    match answer.status {
        200 => Ok(parse(&answer.bytes)?),
        400 | 401 | 403 => Err(AttemptError::from(RemoteError::Denied {
            host: endpoint.host().to_string(),
            operation: operation.clone(),
            why: match credential {
                Some(_) => format!("{} rejected the credentials", server.host()),
                None => format!("{} issued no token without credentials", server.host()),
            },
            authenticated: credential.is_some(),
        })),
        _ => Err(AttemptError {
            retry_after,
            error: answer.into_error(&request, credential.is_some()),
        }),
    }
}

/// Reads the answer of a token server.
fn parse(bytes: &[u8]) -> Result<String, RemoteError> {
    // Fields beside the token, such as its lifetime, are not used.
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        token: String,
        #[serde(default)]
        access_token: String,
    }
    let bad = |what: &str| RemoteError::Protocol {
        what: format!("a token that can't be used: {what}"),
    };
    let body: Body = serde_json::from_slice(bytes).map_err(|_| bad("it is not the expected JSON"))?;
    let token = if body.token.is_empty() {
        body.access_token
    } else {
        body.token
    };
    if token.is_empty() {
        return Err(bad("it is empty"));
    }
    if !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(bad("it has characters that no token has"));
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::{Options, Secret};

    proptest! {
        #[test]
        fn accepted_token_fits_a_header_field(bytes in proptest::collection::vec(any::<u8>(), 0..64), text: String) {
            let answer = serde_json::json!({ "token": text }).to_string();
            for bytes in [bytes.as_slice(), answer.as_bytes()] {
                if let Ok(token) = parse(bytes) {
                    prop_assert!(!token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()));
                }
            }
        }
    }

    #[test]
    fn token_that_does_not_fit_a_header_field_is_refused() {
        assert_eq!(parse(br#"{"token":"a","access_token":"b"}"#).unwrap(), "a");
        assert_eq!(parse(br#"{"access_token":"b","expires_in":60}"#).unwrap(), "b");
        for bad in [
            "",
            "{}",
            r#"{"token":""}"#,
            r#"{"token":"a\r\nb"}"#,
            r#"{"token":7}"#,
            "[]",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    // [REG-008]
    #[test]
    fn credentials_of_an_https_registry_are_not_sent_to_a_plain_http_token_server() {
        let options = Options {
            timeout: Some(Duration::from_millis(100)),
            ..Options::default()
        };
        let transport = Transport::new(Arc::new(options));
        let fetch = |secure, credential: &Credential| {
            let endpoint = Endpoint {
                registry: "127.0.0.1:1".to_string(),
                origin: Url::new(secure, "127.0.0.1:1", "/"),
                repository: "x".to_string(),
                scope: "repository:x:pull".to_string(),
                is_mirror: false,
                is_single_attempt: false,
            };
            let operation = Operation::ListTags("x".to_string());
            let realm = "http://127.0.0.1:1/token";
            fetch(&transport, &endpoint, realm, None, Some(credential), &operation)
                .unwrap_err()
                .error
        };
        let password = Credential::Password {
            user: "ana".to_string(),
            password: Secret::new("s3cret"),
        };
        for credential in [password, Credential::Identity(Secret::new("s3cret"))] {
            let error = fetch(true, &credential);
            assert!(matches!(error, RemoteError::Unsafe { .. }), "{error:?}");
            assert!(!error.is_temporary() && !format!("{error:?}").contains("s3cret"));
            // From plain HTTP to plain HTTP, as the operator configured it: nothing listens
            // there.
            let error = fetch(false, &credential);
            assert!(matches!(error, RemoteError::Unreachable { .. }), "{error:?}");
        }
    }
}
