//! The responses of S3: pages of ListObjectsV2, and errors.

use crate::date;
use crate::meta::{Entry, Found, Listing, Meta, parse_etag, parse_length};
use crate::path::is_name;
use crate::url;
use crate::xml::{self, Element};

/// Longest continuation token, in bytes.
const TOKEN_BYTES: usize = 4 << 10;

/// One page.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) listing: Listing,
    /// Whether the directory is marked by an object of its own.
    pub(super) has_marker: bool,
    /// The token of the next page.
    pub(super) next: Option<String>,
}

/// Reads a page of the keys directly below `prefix`.
pub(super) fn read(text: &str, prefix: &str) -> Result<Page, String> {
    let mut page = Page::default();
    let mut keys: Vec<(String, Found)> = Vec::new();
    let (mut is_encoded, mut is_truncated) = (false, false);
    let root = |_: &str, name: &str| match name {
        "ListBucketResult" => Ok(()),
        _ => Err("the response is not an S3 listing".to_string()),
    };
    xml::read(text, root, |element| {
        match element.name() {
            "EncodingType" => is_encoded = element.text() == "url",
            "IsTruncated" => is_truncated = element.text() == "true",
            "NextContinuationToken" => page.next = Some(element.text().to_string()),
            "Contents" => keys.push(object(&element)),
            "CommonPrefixes" => {
                let prefix = element.named("Prefix").map_or("", Element::raw_text);
                keys.push((prefix.to_string(), Found::Directory));
            }
            _ => {}
        }
        Ok(())
    })?;
    for (key, found) in keys {
        let key = if is_encoded { decoded(&key) } else { Some(key) };
        let below = key.as_deref().and_then(|key| key.strip_prefix(prefix));
        let name = match (&found, below) {
            (Found::Directory, Some(below)) => below.strip_suffix('/'),
            (_, Some("")) => {
                page.has_marker = true;
                continue;
            }
            (_, below) => below,
        };
        match name.filter(|name| is_name(name)) {
            Some(name) => page.listing.entries.push(Entry {
                name: name.to_string(),
                found,
            }),
            None => page.listing.skipped += 1,
        }
    }
    page.next = page.next.filter(|_| is_truncated);
    match &page.next {
        Some(token) if token.is_empty() || token.len() > TOKEN_BYTES => {
            Err("the listing continues, with a continuation token that is empty or too long".to_string())
        }
        None if is_truncated => Err("the listing continues, but has no continuation token".to_string()),
        _ => Ok(page),
    }
}

fn object(element: &Element) -> (String, Found) {
    let text = |name| element.named(name).map(Element::text);
    let meta = Meta {
        length: text("Size").and_then(parse_length),
        etag: text("ETag").and_then(parse_etag),
        modified: text("LastModified").and_then(date::parse_iso),
    };
    let key = element.named("Key").map_or("", Element::raw_text);
    let found = if meta.length.is_some() {
        Found::File(meta)
    } else {
        Found::Unknown
    };
    (key.to_string(), found)
}

/// A key of `encoding-type=url`, where a plus sign is a space.
fn decoded(key: &str) -> Option<String> {
    url::decode(&key.replace('+', " "))
}

/// The code and message of an error.
pub(crate) fn error_text(text: &str) -> Option<String> {
    let (mut code, mut message) = (String::new(), String::new());
    let root = |_: &str, name: &str| (name == "Error").then_some(()).ok_or_else(String::new);
    xml::read(text, root, |element| {
        match element.name() {
            "Code" => code = element.text().to_string(),
            "Message" => message = element.text().to_string(),
            _ => {}
        }
        Ok(())
    })
    .ok()?;
    Some(format!("{code}: {message}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGE: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
        <ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name><Prefix>p/</Prefix>\
        <EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>\
        <NextContinuationToken>1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=</NextContinuationToken>\
        <Contents><Key>p/</Key><Size>0</Size></Contents>\
        <Contents><Key>p/a+b%2B%C3%B1.txt</Key><LastModified>2009-10-12T17:50:30.000Z</LastModified>\
        <ETag>&quot;fba9dede5f27731c9771645a39863328&quot;</ETag><Size>434234</Size></Contents>\
        <CommonPrefixes><Prefix>p/photos/</Prefix></CommonPrefixes></ListBucketResult>";

    #[test]
    fn page_has_objects_and_common_prefixes() {
        let page = read(PAGE, "p/").unwrap();
        assert!(page.has_marker && page.listing.skipped == 0);
        assert_eq!(
            page.next.as_deref(),
            Some("1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=")
        );
        let [file, directory] = &page.listing.entries[..] else {
            panic!("{page:?}")
        };
        assert_eq!((file.name.as_str(), directory.name.as_str()), ("a b+ñ.txt", "photos"));
        assert_eq!(directory.found, Found::Directory);
        let Found::File(meta) = &file.found else {
            panic!("{file:?}")
        };
        assert_eq!(meta.length, Some(434_234));
        assert_eq!(meta.etag.as_deref(), Some("\"fba9dede5f27731c9771645a39863328\""));
        assert_eq!(meta.modified.unwrap().to_string(), "2009-10-12T17:50:30Z");
    }

    #[test]
    fn key_that_is_no_name_here_is_left_out() {
        for key in ["p/..", "p/a%2Fb", "p/%00", "p//", "q/a", "p", "..", "p/%zz", ""] {
            let text = PAGE.replace("p/a+b%2B%C3%B1.txt", key);
            let page = read(&text, "p/").unwrap();
            assert_eq!((page.listing.entries.len(), page.listing.skipped), (1, 1), "{key}");
            let text = PAGE.replace("p/photos/", &format!("{key}/"));
            assert_eq!(read(&text, "p/").unwrap().listing.entries.len(), 1, "{key}");
        }
    }

    #[test]
    fn listing_that_can_not_go_on_is_refused() {
        for (from, to) in [
            ("<NextContinuationToken>", "<Other>"),
            ("1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=", ""),
            ("ListBucketResult", "Other"),
        ] {
            let text = PAGE
                .replace(from, to)
                .replace(&from.replace('<', "</"), &to.replace('<', "</"));
            assert!(read(&text, "p/").is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn keys_of_a_server_give_names(key in prop_oneof!["[ -%'-;=?-~]{0,30}", "p/[a-z%0-9./+]{0,12}"]) {
            let page = read(&PAGE.replace("p/a+b%2B%C3%B1.txt", &key), "p/").unwrap();
            for entry in &page.listing.entries {
                prop_assert!(is_name(&entry.name), "{}", entry.name);
            }
        }

        #[test]
        fn any_text_is_read_without_panic(text in any::<String>()) {
            let _ = (read(&text, ""), error_text(&text));
        }
    }
}
