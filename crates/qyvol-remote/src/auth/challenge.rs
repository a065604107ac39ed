//! `WWW-Authenticate` fields: how a registry wants to be authenticated to.

use ureq::http::{HeaderMap, header};

/// What a registry asks for (RFC 7617; the distribution project's token
/// authentication).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

impl Challenge {
    /// Reads the challenge of an answer.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Challenge> {
        let fields = headers.get_all(header::WWW_AUTHENTICATE).iter();
        Challenge::parse(fields.filter_map(|value| value.to_str().ok()))
    }

    /// Reads `WWW-Authenticate` fields (RFC 9110 section 11.6.1). The first
    /// scheme that can be answered counts, tokens before passwords.
    fn parse<'a>(fields: impl Iterator<Item = &'a str>) -> Option<Challenge> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::url::Url;

    proptest! {
        #[test]
        fn any_challenge_is_read_without_panic_and_keeps_the_request_intact(
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
                let asked = url.clone().with_query([("service", service.unwrap_or_default().as_str())]);
                prop_assert!(asked.same_origin(&url));
                prop_assert!(!asked.to_string().contains(['\r', '\n', ' ', '#']));
            }
        }
    }

    #[test]
    fn challenge_is_parsed_regardless_of_order_case_and_other_schemes() {
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
}
