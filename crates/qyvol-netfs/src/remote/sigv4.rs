//! Signature version 4 of AWS, as S3 takes it: in the `Authorization` field, over the
//! whole request with the digest of its body ("Authenticating Requests: Using the
//! Authorization Header" of the S3 API reference). Paths are encoded once, and not
//! normalised.

use qyvol_types::Digest;
use ring::hmac;
use zeroize::Zeroizing;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What is signed.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    /// Encoded.
    pub(crate) path: &'a str,
    /// Encoded, without question mark.
    pub(crate) query: &'a str,
    /// All that are signed, in lower case: with `host`, `x-amz-date` and
    /// `x-amz-content-sha256`.
    pub(crate) headers: &'a [(&'static str, String)],
}

/// Who signs.
pub(crate) struct Key<'a> {
    pub(crate) access_key: &'a str,
    pub(crate) secret_key: &'a str,
    pub(crate) region: &'a str,
}

/// The value of the `Authorization` field.
pub(crate) fn authorization(request: &Request<'_>, key: &Key<'_>) -> String {
    let header = |name: &str| {
        request
            .headers
            .iter()
            .find(|(have, _)| *have == name)
            .map_or("", |(_, value)| value)
    };
    let time = header("x-amz-date");
    let date = time.get(..8).unwrap_or_default();
    let scope = format!("{date}/{}/s3/aws4_request", key.region);
    let mut headers: Vec<(&str, String)> = request
        .headers
        .iter()
        .map(|(name, value)| (*name, value.split_whitespace().collect::<Vec<_>>().join(" ")))
        .collect();
    headers.sort();
    let signed: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let signed = signed.join(";");
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}:{value}\n"))
        .collect();
    let canonical = format!(
        "{}\n{}\n{}\n{lines}\n{signed}\n{}",
        request.method,
        request.path,
        canonical_query(request.query),
        header("x-amz-content-sha256")
    );
    let to_sign = format!(
        "{ALGORITHM}\n{time}\n{scope}\n{}",
        Digest::of(canonical.as_bytes()).hex()
    );
    let secret = Zeroizing::new(format!("AWS4{}", key.secret_key));
    let mut signing = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    for part in [date, key.region, "s3", "aws4_request"] {
        signing = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&signing, part.as_bytes()).as_ref());
    }
    let signature: String = hmac::sign(&signing, to_sign.as_bytes())
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!(
        "{ALGORITHM} Credential={}/{scope},SignedHeaders={signed},Signature={signature}",
        key.access_key
    )
}

/// Parameters in the order of their names, each with an equals sign.
fn canonical_query(query: &str) -> String {
    let mut pairs: Vec<String> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            if pair.contains('=') {
                pair.to_string()
            } else {
                format!("{pair}=")
            }
        })
        .collect();
    pairs.sort();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    /// The key of AWS's published examples, on 24 May 2013.
    fn sign(method: &str, path: &str, query: &str, sha256: &str, more: &[(&'static str, &str)]) -> String {
        let mut headers = vec![
            ("host", "examplebucket.s3.amazonaws.com".to_string()),
            ("x-amz-content-sha256", sha256.to_string()),
            ("x-amz-date", "20130524T000000Z".to_string()),
        ];
        headers.extend(more.iter().map(|(name, value)| (*name, (*value).to_string())));
        let request = Request {
            method,
            path,
            query,
            headers: &headers,
        };
        authorization(
            &request,
            &Key {
                access_key: "AKIAIOSFODNN7EXAMPLE",
                secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                region: "us-east-1",
            },
        )
    }

    // "Signature Calculations for the Authorization Header: Transferring Payload in a
    // Single Chunk", examples of the S3 API reference.
    #[test]
    fn published_examples_of_aws_are_signed_as_published() {
        let prefix =
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=";
        assert_eq!(
            sign("GET", "/test.txt", "", EMPTY, &[("range", "bytes=0-9")]),
            format!(
                "{prefix}host;range;x-amz-content-sha256;x-amz-date,\
                 Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
            )
        );
        assert_eq!(
            sign(
                "PUT",
                "/test%24file.text",
                "",
                "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
                &[
                    ("date", "Fri, 24 May 2013 00:00:00 GMT"),
                    ("x-amz-storage-class", "REDUCED_REDUNDANCY")
                ]
            ),
            format!(
                "{prefix}date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class,\
                 Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
            )
        );
        assert_eq!(
            sign("GET", "/", "lifecycle", EMPTY, &[]),
            format!(
                "{prefix}host;x-amz-content-sha256;x-amz-date,\
                 Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
            )
        );
        assert_eq!(
            sign("GET", "/", "prefix=J&max-keys=2", EMPTY, &[]),
            format!(
                "{prefix}host;x-amz-content-sha256;x-amz-date,\
                 Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
            )
        );
    }

    #[test]
    fn payload_of_the_published_upload_has_the_published_digest() {
        let digest = Digest::of(b"Welcome to Amazon S3.");
        assert_eq!(
            digest.hex(),
            "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"
        );
    }
}
