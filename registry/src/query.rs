//! Query strings: percent-decoding, once, into UTF-8 or not at all.

/// The parameters of a query, in order.
#[derive(Clone)]
pub(crate) struct Query(Vec<(String, String)>);

const MAX_PARAMETERS: usize = 64;

fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digit = |b: Option<u8>| char::from(b?).to_digit(16).and_then(|d| u8::try_from(d).ok());
                out.push(digit(bytes.next())? << 4 | digit(bytes.next())?);
            }
            b'+' => out.push(b' '),
            other => out.push(other),
        }
    }
    String::from_utf8(out).ok()
}

impl Query {
    /// No parameters.
    pub(crate) fn none() -> Query {
        Query(Vec::new())
    }

    /// None if it is malformed or has too many parameters.
    pub(crate) fn parse(text: Option<&str>) -> Option<Query> {
        let mut pairs = Vec::new();
        for pair in text.unwrap_or_default().split('&').filter(|p| !p.is_empty()) {
            if pairs.len() == MAX_PARAMETERS {
                return None;
            }
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.push((decode(key)?, decode(value)?));
        }
        Some(Query(pairs))
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        let pair = self.0.iter().find(|(k, _)| k == key)?;
        Some(&pair.1)
    }

    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }
}

/// Encodes a value for a query.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_once_and_refuses_half_an_escape() {
        let query = Query::parse(Some("a=sha256%3Ax&b=%2525&a=2&c")).unwrap();
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["sha256:x", "2"]);
        assert_eq!(query.get("b"), Some("%25"));
        assert_eq!(query.get("c"), Some(""));
        for bad in ["a=%", "a=%4", "a=%zz", "a=%ff"] {
            assert!(Query::parse(Some(bad)).is_none(), "{bad}");
        }
        assert!(Query::parse(Some(&"a&".repeat(65))).is_none());
        assert_eq!(encode("a/b:c d"), "a%2Fb%3Ac%20d");
    }
}
