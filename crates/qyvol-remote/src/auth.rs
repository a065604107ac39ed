//! Access tokens (the distribution project's token authentication, RFC 6750,
//! RFC 7617; identity tokens as in its OAuth2 page).
//!
//! A registry says in its `401` where tokens are to be had. Credentials go
//! there and to the registry itself, nowhere else, and over an encrypted
//! connection unless the registry is spoken to in the clear anyway.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::RemoteError;
use crate::credentials::Credential;

/// Bytes of a token.
pub(crate) const TOKEN_BYTES: u64 = 64 << 10;

/// What a registry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

impl Challenge {
    /// Reads `WWW-Authenticate` fields (RFC 9110 section 11.6.1). The first
    /// scheme that can be answered counts, tokens before passwords.
    pub(crate) fn parse<'a>(fields: impl Iterator<Item = &'a str>) -> Option<Challenge> {
        let mut basic = None;
        for field in fields {
            for (scheme, params) in challenges(field) {
                if scheme.eq_ignore_ascii_case("basic") {
                    basic = Some(Challenge::Basic);
                }
                if scheme.eq_ignore_ascii_case("bearer") {
                    let get = |name: &str| params.iter().find(|(key, _)| key == name).map(|(_, v)| v.clone());
                    if let Some(realm) = get("realm") {
                        let service = get("service");
                        return Some(Challenge::Bearer { realm, service });
                    }
                }
            }
        }
        basic
    }
}

type Params = Vec<(String, String)>;

/// Splits a field into its schemes with their parameters.
fn challenges(field: &str) -> Vec<(String, Params)> {
    let mut found: Vec<(String, Params)> = Vec::new();
    let mut rest = field.trim_start_matches([' ', ',', '\t']);
    while !rest.is_empty() {
        let end = rest.find([' ', '=', ',', '\t']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let after = after.trim_start_matches([' ', '\t']);
        match after.strip_prefix('=') {
            Some(value) if !word.is_empty() => {
                let (value, after) = value_of(value.trim_start_matches([' ', '\t']));
                if let Some((_, params)) = found.last_mut() {
                    params.push((word.to_ascii_lowercase(), value));
                }
                rest = after;
            }
            Some(after) => rest = after,
            None => {
                if !word.is_empty() {
                    found.push((word.to_string(), Vec::new()));
                }
                rest = after;
            }
        }
        rest = rest.trim_start_matches([' ', ',', '\t']);
    }
    found
}

/// A token or a quoted string, and what follows it.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.to_string(), rest);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

/// The answer of a token server.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

/// Reads a token server's answer.
pub(crate) fn token(bytes: &[u8]) -> Result<String, RemoteError> {
    let bad = |what: &str| RemoteError::Protocol {
        what: format!("a token that can't be used: {what}"),
    };
    // What comes beside the token is of no use here and not looked at.
    let answer: Answer = serde_json::from_slice(bytes).map_err(|_| bad("it is not the JSON that is due"))?;
    let token = if answer.token.is_empty() {
        answer.access_token
    } else {
        answer.token
    };
    if token.is_empty() {
        return Err(bad("it is empty"));
    }
    if !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(bad("it has characters that no token has"));
    }
    Ok(token)
}

/// The value of an `Authorization` field with name and password.
pub(crate) fn basic(credential: &Credential) -> Option<String> {
    match credential {
        Credential::Password { user, password } => {
            let pair = format!("{user}:{}", password.expose());
            Some(format!("Basic {}", STANDARD.encode(pair)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::url::Url;

    proptest! {
        #[test]
        fn challenge_makes_the_reader_panic_or_split_a_request(
            fields in proptest::collection::vec(
                prop_oneof![
                    any::<String>(),
                    "(Bearer|basic|,|=| |\"|\\\\|realm|service|[a-zé]){0,24}",
                    "[Bb]earer realm=\"(https?://)?[ -~\r\n]{0,20}\"?,service=\"[ -~\r\n]{0,20}\"?",
                ],
                0..3,
            )
        ) {
            if let Some(Challenge::Bearer { realm, service }) = Challenge::parse(fields.iter().map(String::as_str))
                && let Ok(url) = Url::parse(&realm)
            {
                let asked = url.clone().with_query("service", &service.unwrap_or_default());
                prop_assert!(asked.same_origin(&url));
                prop_assert!(!asked.to_string().contains(['\r', '\n', ' ', '#']));
            }
        }

        #[test]
        fn token_breaks_a_header(bytes in proptest::collection::vec(any::<u8>(), 0..64), text: String) {
            let answer = serde_json::json!({ "token": text }).to_string();
            for bytes in [bytes.as_slice(), answer.as_bytes()] {
                if let Ok(token) = token(bytes) {
                    prop_assert!(!token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()));
                }
            }
        }
    }

    #[test]
    fn challenge_is_read_whatever_its_order_case_and_company() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.to_string(),
                service: service.map(str::to_string),
            })
        };
        for (field, due) in [
            (
                r#"Bearer realm="https://a/t",service="r",scope="repository:x:pull,push""#,
                bearer("https://a/t", Some("r")),
            ),
            (
                r#"bearer Service=r , REALM = "https://a/\"t""#,
                bearer("https://a/\"t", Some("r")),
            ),
            (
                r#"Basic realm="x, Bearer realm=y", Bearer realm="https://a""#,
                bearer("https://a", None),
            ),
            (r#"Basic realm="registry""#, Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            ("Bearer", None),
            ("Negotiate", None),
            ("", None),
            ("=,=,\"", None),
            ("Bearer realm=\"unclosed", bearer("unclosed", None)),
        ] {
            assert_eq!(Challenge::parse([field].into_iter()), due, "{field}");
        }
        let both = ["Basic realm=x", "Bearer realm=\"y\""];
        assert_eq!(Challenge::parse(both.into_iter()), bearer("y", None));
    }

    #[test]
    fn token_that_would_break_the_header_is_refused() {
        assert_eq!(token(br#"{"token":"a","access_token":"b"}"#).unwrap(), "a");
        assert_eq!(token(br#"{"access_token":"b","expires_in":60}"#).unwrap(), "b");
        for bad in [
            "",
            "{}",
            r#"{"token":""}"#,
            r#"{"token":"a\r\nb"}"#,
            r#"{"token":7}"#,
            "[]",
        ] {
            assert!(token(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
