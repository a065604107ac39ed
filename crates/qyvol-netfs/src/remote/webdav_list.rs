//! The response to `PROPFIND` (RFC 4918, 13 and 14): a multistatus of members.
//!
//! The location of a member is accepted only if it is the requested place, or directly in
//! it; then only its last name is used. No URL from a response is ever requested as it is.

use crate::date;
use crate::meta::{Entry, Found, Listing, Meta, parse_etag, parse_length};
use crate::url;
use crate::xml::{self, Element};

const DAV: &str = "DAV:";
/// Longest reference, in bytes.
const HREF_BYTES: usize = 16 << 10;

/// The requested place.
pub(super) struct Place<'a> {
    /// The server, as a name or address without brackets.
    pub(super) host: &'a str,
    /// The decoded parts of the tree's root.
    pub(super) root: &'a [String],
    /// The path in the tree.
    pub(super) path: &'a str,
}

/// One member.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Member {
    /// The requested place itself.
    Own(Found),
    /// Something directly in it.
    Entry(Entry),
    /// Something elsewhere, or with a name that is not valid here, or whose metadata may
    /// not be read.
    Outside,
}

/// All members.
#[derive(Debug, Default)]
pub(super) struct Members {
    pub(super) own: Option<Found>,
    pub(super) listing: Listing,
}

/// Reads a multistatus. `each` returns whether to go on.
pub(super) fn read(text: &str, place: &Place<'_>, mut each: impl FnMut(Member) -> bool) -> Result<(), String> {
    let root = |namespace: &str, name: &str| match (namespace, name) {
        (DAV, "multistatus") => Ok(()),
        _ => Err("the response is not a WebDAV multistatus".to_string()),
    };
    xml::read(text, root, |element| {
        if !element.is(DAV, "response") {
            return Ok(());
        }
        let is_enough = member(&element, place).is_some_and(|member| !each(member));
        match is_enough {
            true => Err("more members than asked for".to_string()),
            false => Ok(()),
        }
    })
}

/// Reads one response; none if it says that nothing is there. A member whose metadata may
/// not be read exists all the same.
fn member(response: &Element, place: &Place<'_>) -> Option<Member> {
    if let Some(status) = response.child(DAV, "status").map(Element::text)
        && !is_ok(status)
    {
        let is_gone = matches!(status.split(' ').nth(1), Some("404" | "410"));
        return (!is_gone).then_some(Member::Outside);
    }
    let href = response.child(DAV, "href").map_or("", Element::text);
    let Some(below) = below(href, place) else {
        return Some(Member::Outside);
    };
    let found = found(response);
    Some(match below {
        None => Member::Own(found),
        Some(name) => Member::Entry(Entry { name, found }),
    })
}

/// The properties that were found.
fn found(response: &Element) -> Found {
    let mut meta = Meta::default();
    for propstat in response.all(DAV, "propstat") {
        // Missing properties come with 404.
        if !propstat.child(DAV, "status").is_none_or(|status| is_ok(status.text())) {
            continue;
        }
        let Some(prop) = propstat.child(DAV, "prop") else {
            continue;
        };
        let is_collection = |types: &Element| types.child(DAV, "collection").is_some();
        if prop.child(DAV, "resourcetype").is_some_and(is_collection) {
            return Found::Directory;
        }
        let text = |name| prop.child(DAV, name).map(Element::text);
        meta.length = meta.length.or_else(|| text("getcontentlength").and_then(parse_length));
        meta.etag = meta.etag.or_else(|| text("getetag").and_then(property_etag));
        meta.modified = meta
            .modified
            .or_else(|| text("getlastmodified").and_then(date::parse_http));
    }
    match meta.length {
        Some(_) => Found::File(meta),
        None => Found::Unknown,
    }
}

/// The entity tag in a property. Some servers leave out the quotation marks here, which
/// RFC 4918, 15.6, requires, but have them in the field of a response.
fn property_etag(text: &str) -> Option<String> {
    parse_etag(text).or_else(|| parse_etag(&format!("\"{text}\"")))
}

/// Whether a status line says 2xx: `HTTP/1.1 200 OK`.
fn is_ok(line: &str) -> bool {
    line.split(' ')
        .nth(1)
        .is_some_and(|status| status.len() == 3 && status.starts_with('2'))
}

/// Where a reference (RFC 4918, 8.3) leads: to the place itself (`Some(None)`), to a
/// name directly in it, or elsewhere (`None`).
#[allow(clippy::option_option, reason = "elsewhere is no name")]
fn below(href: &str, place: &Place<'_>) -> Option<Option<String>> {
    if href.is_empty() || href.len() > HREF_BYTES || href.contains(['?', '#']) {
        return None;
    }
    let mut own: Vec<&str> = place.root.iter().map(String::as_str).collect();
    own.extend(place.path.split('/').filter(|part| !part.is_empty()));
    let path = match href.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            // Behind a proxy, a server often has a wrong idea of its own scheme and port;
            // only the path is used.
            let host = match authority.strip_prefix('[') {
                Some(rest) => rest.split(']').next().unwrap_or_default(),
                None => authority.split(':').next().unwrap_or_default(),
            };
            let is_web = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
            if !is_web || !host.eq_ignore_ascii_case(place.host) {
                return None;
            }
            path
        }
        _ if href.starts_with("//") => return None,
        _ => match href.strip_prefix('/') {
            Some(path) => path,
            // Relative to the collection: a name alone.
            None => {
                let parts = url::parts(href.strip_suffix('/').unwrap_or(href))?;
                return match <[String; 1]>::try_from(parts) {
                    Ok([name]) => Some(Some(name)),
                    Err(_) => None,
                };
            }
        },
    };
    let mut parts = url::parts(path.strip_suffix('/').unwrap_or(path))?;
    let last = if parts.len() == own.len() + 1 {
        parts.pop()
    } else {
        None
    };
    (parts.iter().map(String::as_str).eq(own)).then_some(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at<'a>(root: &'a [String], path: &'a str) -> Place<'a> {
        Place {
            host: "files.example",
            root,
            path,
        }
    }

    fn read_all(text: &str) -> Result<Vec<Member>, String> {
        let root = ["dav".to_string()];
        let mut all = Vec::new();
        read(text, &at(&root, "a b"), |member| {
            all.push(member);
            true
        })?;
        Ok(all)
    }

    #[test]
    fn members_are_read_with_their_properties() {
        let all = read_all(
            "<?xml version=\"1.0\"?><D:multistatus xmlns:D=\"DAV:\">\
             <D:response><D:href>/dav/a%20b/</D:href><D:propstat><D:prop><D:resourcetype><D:collection/>\
             </D:resourcetype></D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>\
             <D:response><D:href>/dav/a%20b/c%25.txt</D:href><D:propstat><D:prop><D:resourcetype/>\
             <D:getcontentlength>12</D:getcontentlength><D:getetag>\"x\"</D:getetag></D:prop>\
             <D:status>HTTP/1.1 200 OK</D:status></D:propstat><D:propstat><D:prop><D:getlastmodified/></D:prop>\
             <D:status>HTTP/1.1 404 Not Found</D:status></D:propstat></D:response>\
             <D:response><D:href>/dav/a%20b/gone</D:href><D:status>HTTP/1.1 404 Not Found</D:status></D:response>\
             <D:responsedescription>x</D:responsedescription></D:multistatus>",
        )
        .unwrap();
        let meta = Meta {
            length: Some(12),
            etag: Some("\"x\"".to_string()),
            modified: None,
        };
        let file = Entry {
            name: "c%.txt".to_string(),
            found: Found::File(meta),
        };
        assert_eq!(all, [Member::Own(Found::Directory), Member::Entry(file)]);
    }

    #[test]
    fn entity_tag_is_read_without_its_marks_too() {
        for (text, due) in [
            ("\"a-1\"", Some("\"a-1\"")),
            ("a-1", Some("\"a-1\"")),
            ("W/\"a\"", Some("W/\"a\"")),
            ("\"a", None),
            ("a b", None),
        ] {
            assert_eq!(property_etag(text).as_deref(), due, "{text}");
        }
    }

    #[test]
    fn answer_that_is_no_multistatus_is_refused() {
        for bad in ["<multistatus/>", "<D:x xmlns:D=\"DAV:\"/>", "<html>hello</html>", ""] {
            assert!(read_all(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn reference_leads_to_the_place_or_directly_into_it_or_is_refused() {
        let root = ["dav".to_string()];
        for (href, due) in [
            ("/dav/a%20b", Some(None)),
            ("/dav/a%20b/", Some(None)),
            ("http://FILES.example:8080/dav/a%20b/", Some(None)),
            ("/dav/a%20b/x", Some(Some("x"))),
            ("/dav/a b/x", Some(Some("x"))),
            ("https://files.example/dav/a%20b/x/", Some(Some("x"))),
            ("/dav/a%20b/%C3%B1", Some(Some("ñ"))),
            ("/dav/a%20b/%2541", Some(Some("%41"))),
            ("x", Some(Some("x"))),
            ("x/", Some(Some("x"))),
            ("", None),
            ("/", None),
            ("/dav", None),
            ("/dav/other/x", None),
            ("/dav/a%20b/x/y", None),
            ("/dav/a%20b/..", None),
            ("/dav/a%20b/%2e%2e", None),
            ("/dav/a%20b/%2E", None),
            ("/dav/a%20b/x%2Fy", None),
            ("/dav/a%20b/x%00", None),
            ("/dav/a%20b/%zz", None),
            ("/dav/a%20b/%ff", None),
            ("/dav//a%20b/x", None),
            ("..", None),
            ("x/y", None),
            ("//other.example/dav/a%20b/x", None),
            ("https://other.example/dav/a%20b/x", None),
            ("https://files.example@other.example/dav/a%20b/x", None),
            ("ftp://files.example/dav/a%20b/x", None),
            ("/dav/a%20b/x?y", None),
            ("/dav/a%20b/x#y", None),
        ] {
            let found = below(href, &at(&root, "a b"));
            assert_eq!(found, due.map(|name| name.map(str::to_string)), "{href}");
        }
    }

    proptest! {
        #[test]
        fn reference_of_a_server_gives_one_name_or_none(href in prop_oneof!["[ -~]{0,40}", "/dav/a%20b/[a-z%0-9./]{0,12}", any::<String>()]) {
            let root = ["dav".to_string()];
            if let Some(Some(name)) = below(&href, &at(&root, "a b")) {
                prop_assert!(crate::path::is_name(&name), "{}", name);
            }
        }

        #[test]
        fn every_name_reads_back_from_its_reference(name in "[^/\0]{1,20}") {
            prop_assume!(crate::path::is_name(&name));
            let root = ["dav".to_string()];
            let href = format!("/dav/a%20b/{}", url::encode(&name));
            prop_assert_eq!(below(&href, &at(&root, "a b")), Some(Some(name)));
        }

        #[test]
        fn any_multistatus_is_read_without_panic(body in "(<D:(response|href|propstat|prop|status|resourcetype)>|</D:(response|href)>|x|/dav/|&amp;){0,20}") {
            let _ = read_all(&format!("<D:multistatus xmlns:D=\"DAV:\">{body}</D:multistatus>"));
        }
    }
}
