//! The hub's pages for people, over HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quick_xml::Reader;
use quick_xml::events::Event;

use crate::registry::Server;
use crate::support::User;

/// A permission, limits and a README.
pub const MANIFEST: &str = "language: rust\npermissions: { net: { connect: [\"api.example.com:443\"] } }\nresources: { memory: 64MiB, timeout: 30s }\nassets: [README.md]\n";

/// An answer, with its headers in lower case.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }
}

pub fn request(server: &Server, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut stream = TcpStream::connect(&server.address).unwrap();
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
        server.address
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    let mut text = Vec::new();
    stream.read_to_end(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_ascii_lowercase(), value.to_string())
    };
    Answer {
        status,
        headers: lines.map(header).collect(),
        body: body.to_string(),
    }
}

/// A page in English, which must be there and well formed.
#[track_caller]
pub fn page(server: &Server, path: &str) -> String {
    let found = request(server, "GET", path, &[]);
    assert_eq!(found.status, 200, "{path}: {}", found.body);
    check(&found.body);
    found.body
}

/// The elements that pages are made of.
const ELEMENTS: &str = "html head meta title link body a header img span nav main footer p h1 h2 h3 small section ul ol \
                        li pre code bdi dl div dt dd time br wbr em table caption thead tbody tr th td";
const ATTRIBUTES: &str = "lang charset name content rel type href class aria-label aria-labelledby aria-current hreflang \
                          src width height alt id scope datetime tabindex";

/// Checks a page as a strict parser of XML sees it: every element is closed and known, ids are
/// unique and those that labels name are there, headings skip no level, and there is one `h1`
/// and one `main`.
#[track_caller]
pub fn check(html: &str) {
    let mut reader = Reader::from_str(html);
    reader.config_mut().check_end_names = true;
    let (mut ids, mut labels, mut headings, mut open) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut mains = 0;
    loop {
        let event = reader.read_event().unwrap_or_else(|why| panic!("{why}: {html}"));
        let (element, is_empty) = match &event {
            Event::Start(element) => (element, false),
            Event::Empty(element) => (element, true),
            Event::End(_) => {
                open.pop();
                continue;
            }
            Event::Text(_) | Event::DocType(_) | Event::GeneralRef(_) => continue,
            Event::Eof => break,
            other => panic!("{other:?}: {html}"),
        };
        let name = element.name().into_inner().to_string();
        assert!(
            ELEMENTS.split_whitespace().any(|known| known == name),
            "<{name}>: {html}"
        );
        let mut own = Vec::new();
        for attribute in element.attributes() {
            let attribute = attribute.unwrap();
            let key = attribute.key.into_inner().to_string();
            let value = attribute.value.to_string();
            assert!(
                ATTRIBUTES.split_whitespace().any(|known| known == key),
                "{key} of <{name}>"
            );
            match key.as_str() {
                "id" => ids.push(value.clone()),
                "aria-labelledby" => labels.push(value.clone()),
                "href" | "src" => assert!(value.starts_with(['/', '#']) && !value.starts_with("//"), "{value}"),
                _ => {}
            }
            own.push(key);
        }
        match name.as_str() {
            "img" => assert!(
                ["alt", "width", "height"]
                    .iter()
                    .all(|key| own.iter().any(|own| own == key))
            ),
            "section" => assert!(
                own.iter().any(|key| key == "aria-labelledby"),
                "a section without a name: {html}"
            ),
            "main" => mains += 1,
            _ => {}
        }
        if let Some(level) = name.strip_prefix('h').and_then(|level| level.parse::<u32>().ok()) {
            headings.push(level);
        }
        if !is_empty {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "not closed: {open:?}");
    assert_eq!(mains, 1);
    assert_eq!(headings.iter().filter(|level| **level == 1).count(), 1, "{headings:?}");
    assert!(headings.windows(2).all(|pair| pair[1] <= pair[0] + 1), "{headings:?}");
    let unique: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len(), "{ids:?}");
    assert!(labels.iter().all(|label| ids.contains(label)), "{labels:?} {ids:?}");
}

/// The file that a page names, by the beginning of its tag.
#[track_caller]
fn linked(html: &str, before: &str) -> String {
    let (_, rest) = html.split_once(before).unwrap();
    rest.split('"').next().unwrap().to_string()
}

/// A page with everything that it loads, in bytes.
#[track_caller]
pub fn weight(server: &Server, html: &str) -> usize {
    let style = linked(html, "rel=\"stylesheet\" href=\"");
    let icon = linked(html, "type=\"image/svg+xml\" href=\"");
    let file = |path: &str| request(server, "GET", path, &[]).body.len();
    html.len() + file(&style) + file(&icon)
}

pub fn commands(html: &str) -> Vec<String> {
    let starts = html.split("<pre class=\"command\"><code>").skip(1);
    starts.map(|rest| rest.split('<').next().unwrap().to_string()).collect()
}

fn pushed(user: &User, server: &Server, name: &str, more: &str) -> serde_json::Value {
    user.write("app/README.md", "# An example\n\nIt *greets*.\n");
    let file = user.built("app", more);
    user.qyv(&["push", &file, &server.name(name)]).expect(0);
    user.qyv(&["inspect", &file, "--format", "json"]).expect(0).json()
}

// [HUB-040] [HUB-041] [HUB-043] [HUB-044]
#[test]
fn page_of_an_image_says_what_it_may_do_and_who_signed_it() {
    let (server, user) = (Server::hub(&[]), User::new());
    let inspected = pushed(&user, &server, "team/app:1.0.0", MANIFEST);
    let start = page(&server, "/");
    assert!(start.contains("<a href=\"/team/app\">team/app</a>"), "{start}");
    let repository = page(&server, "/team/app");
    assert!(
        repository.contains("<a href=\"/team/app:1.0.0\">1.0.0</a>"),
        "{repository}"
    );
    let digest = inspected["digest"].as_str().unwrap();
    let by_tag = page(&server, "/team/app:1.0.0");
    let by_digest = page(&server, &format!("/team/app@{digest}"));
    for html in [&by_tag, &by_digest] {
        for sentence in inspected["permissionsInWords"].as_array().unwrap() {
            assert!(
                html.contains(&format!("<li>{}</li>", sentence.as_str().unwrap())),
                "{sentence}: {html}"
            );
        }
        let key = inspected["signatures"][0]["key"].as_str().unwrap();
        for text in [
            digest,
            key,
            inspected["componentDigest"].as_str().unwrap(),
            "<dd>release</dd>",
            "1 valid signature",
            "Checked by this hub; your host decides.",
            "The hub does not know whose keys these are.",
            "# An example\n\nIt *greets*.\n",
            "<dt>Memory</dt><dd>67 MB</dd>",
            "<dt>Time</dt><dd>30 s</dd>",
        ] {
            assert!(html.contains(text), "{text}: {html}");
        }
        for import in inspected["imports"].as_array().unwrap() {
            assert!(html.contains(import.as_str().unwrap()), "{import}");
        }
        assert!(weight(&server, html) < 60_000, "{}", weight(&server, html));
    }
}

// [HUB-043]
#[test]
fn commands_of_a_page_work_as_they_stand() {
    let (server, user) = (Server::hub(&[]), User::new());
    let hello = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/hello");
    user.qyv(&["build", hello, "-o", "hello.qyvbin"]).expect(0);
    let inspected = user.qyv(&["inspect", "hello.qyvbin", "--format", "json"]).expect(0);
    let inspected = inspected.json();
    let key = inspected["signatures"][0]["key"].as_str().unwrap();
    let (all, refused) = (&["trust pin", "pull", "verify", "run"][..], &["pull", "inspect"][..]);
    for (name, verbs) in [
        ("acme/hello-qyvol:1.0.0", all),
        ("acme/hello-qyvol:latest", all),
        // It is signed under another name, which no host takes there.
        ("acme/other:1.0.0", refused),
    ] {
        user.qyv(&["push", "hello.qyvbin", &server.name(name)]).expect(0);
        let commands = commands(&page(&server, &format!("/{name}")));
        assert_eq!(commands.len(), verbs.len(), "{commands:?}");
        let stranger = User::new();
        for (command, verb) in commands.iter().zip(verbs) {
            let args = command.strip_prefix("qyv ").unwrap();
            assert!(args.starts_with(verb), "{command}");
            let mut args: Vec<&str> = args.split(' ').collect();
            // There is no terminal to ask at.
            if *verb == "trust pin" {
                args.extend(["--fingerprint", key]);
            }
            let done = stranger.qyv(&args).expect(0);
            if *verb == "pull" {
                assert!(done.out.contains(inspected["digest"].as_str().unwrap()), "{}", done.out);
            }
        }
    }
}

// [HUB-042]
#[test]
fn page_is_in_the_language_that_is_asked_for() {
    let (server, user) = (Server::hub(&[]), User::new());
    pushed(&user, &server, "app:1.0.0", "");
    for path in ["/", "/app", "/app:1.0.0"] {
        let spanish = request(&server, "GET", path, &[("Accept-Language", "es-MX,es;q=0.9,en;q=0.5")]);
        check(&spanish.body);
        assert_eq!(spanish.header("content-language"), "es");
        assert!(spanish.header("vary").contains("Accept-Language"));
        assert!(spanish.body.contains("<html lang=\"es\">"), "{}", spanish.body);
        assert!(spanish.body.contains(&format!("href=\"{path}?lang=en\" lang=\"en\"")));
        let english = page(&server, path);
        assert!(english.contains("<html lang=\"en\">"), "{english}");
        // The language that was chosen wins over the one preferred, and stays in links.
        let chosen = request(&server, "GET", &format!("{path}?lang=es"), &[("Accept-Language", "en")]);
        assert!(chosen.body.contains("<html lang=\"es\">"));
        assert!(chosen.body.contains("href=\"/?lang=es\""), "{}", chosen.body);
        assert_ne!(spanish.body, english);
    }
    let image = page(&server, "/app:1.0.0?lang=es");
    assert!(
        image.contains("<li>nada: sin archivos, sin red, sin programas de la máquina</li>"),
        "{image}"
    );
    assert!(image.contains("Comprobado por este hub; decide tu máquina."), "{image}");
}

// [HUB-040]
#[test]
fn repository_that_the_caller_may_not_read_has_no_page_and_is_in_no_list() {
    let user = User::new();
    let users = user.path("users.json");
    let users = users.to_str().unwrap();
    let add = [
        "hub",
        "user",
        "add",
        "ana",
        "--users",
        users,
        "--allow",
        "secret/*=read,write",
    ];
    user.qyv_with_input(&add, "s3cret\n").expect(0);
    let other = ["hub", "user", "add", "eve", "--users", users, "--allow", "other=read"];
    user.qyv_with_input(&other, "s3cret\n").expect(0);
    let server = Server::hub(&["--users", users]);
    let login = ["login", &server.address, "-u", "ana", "--password-stdin"];
    user.qyv_with_input(&login, "s3cret\n").expect(0);
    let inspected = pushed(&user, &server, "secret/app:1.0.0", "");
    let digest = inspected["digest"].as_str().unwrap();
    let paths = [
        "/secret/app".to_string(),
        "/secret/app:1.0.0".to_string(),
        format!("/secret/app@{digest}"),
    ];
    let basic = |name: &str| format!("Basic {}", STANDARD.encode(format!("{name}:s3cret")));
    let (ana, eve) = (basic("ana"), basic("eve"));
    for headers in [&[][..], &[("Authorization", eve.as_str())]] {
        let start = request(&server, "GET", "/", headers);
        check(&start.body);
        assert!(start.status == 200 && !start.body.contains("secret"), "{}", start.body);
        let absent = request(&server, "GET", "/absent/app:1.0.0", headers);
        for path in &paths {
            let found = request(&server, "GET", path, headers);
            check(&found.body);
            assert_eq!((found.status, &found.body), (404, &absent.body), "{path}");
            let mut names: Vec<_> = found.headers.iter().filter(|(name, _)| name != "date").collect();
            let mut expected: Vec<_> = absent.headers.iter().filter(|(name, _)| name != "date").collect();
            names.sort();
            expected.sort();
            assert_eq!(names, expected, "{path}");
        }
    }
    let headers = [("Authorization", ana.as_str())];
    for path in paths.iter().map(String::as_str).chain(["/"]) {
        let found = request(&server, "GET", path, &headers);
        check(&found.body);
        assert!(found.status == 200 && found.body.contains("secret/app"), "{path}");
        assert!(found.header("cache-control").contains("private"), "{path}");
        assert!(found.header("vary").contains("Authorization"), "{path}");
    }
    // With a cached answer, too, nobody else reads what only she may.
    let etag = request(&server, "GET", "/secret/app:1.0.0", &headers)
        .header("etag")
        .to_string();
    let found = request(&server, "GET", "/secret/app:1.0.0", &[("If-None-Match", etag.as_str())]);
    assert_eq!(found.status, 404);
}

// [HUB-046]
#[test]
fn page_allows_nothing_but_its_own_style_and_is_read_alone() {
    let (server, user) = (Server::hub(&[]), User::new());
    pushed(&user, &server, "app:1.0.0", "");
    for path in ["/", "/app", "/app:1.0.0", "/absent", "/-/absent", "/app:%3Cscript%3E"] {
        let found = request(&server, "GET", path, &[]);
        check(&found.body);
        let policy = found.header("content-security-policy");
        for part in [
            "default-src 'none'",
            "style-src 'self'",
            "img-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("script-src"), "{policy}");
        assert_eq!(found.header("content-type"), "text/html; charset=utf-8");
        assert_eq!(found.header("x-content-type-options"), "nosniff");
        assert_eq!(found.header("referrer-policy"), "no-referrer");
        assert_eq!(found.header("set-cookie"), "");
        // The path is nowhere in the page of what is missing.
        assert!(found.status == 200 || !found.body.contains("absent"), "{}", found.body);
        let head = request(&server, "HEAD", path, &[]);
        assert_eq!((head.status, head.body.as_str()), (found.status, ""));
        assert_eq!(head.header("content-length"), found.body.len().to_string());
        let etag = found.header("etag").to_string();
        let again = request(&server, "GET", path, &[("If-None-Match", etag.as_str())]);
        assert_eq!(again.status, if found.status == 200 { 304 } else { 404 }, "{path}");
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            let refused = request(&server, method, path, &[]);
            assert_eq!(
                (refused.status, refused.header("allow")),
                (405, "GET, HEAD"),
                "{method} {path}"
            );
        }
    }
    let html = page(&server, "/");
    for file in ["rel=\"stylesheet\" href=\"", "type=\"image/svg+xml\" href=\""] {
        let found = request(&server, "GET", &linked(&html, file), &[]);
        assert_eq!(found.status, 200);
        assert!(found.header("cache-control").contains("immutable"));
        assert!(found.header("content-security-policy").contains("sandbox"));
    }
}

// [HUB-041]
#[test]
fn paths_of_the_api_are_not_of_pages() {
    let (server, user) = (Server::hub(&[]), User::new());
    for name in ["token:1", "metrics:1", "healthz:1", "v2:1", "v2/app:1"] {
        pushed(&user, &server, name, "");
    }
    let start = page(&server, "/");
    for (path, status, kind) in [
        ("/v2", 200, "application/json"),
        ("/v2/", 200, "application/json"),
        ("/v2/app", 404, "application/json"),
        ("/v2/app:1", 404, "application/json"),
        ("/v2/app/tags/list", 404, "application/json"),
        ("/healthz", 200, "text/plain; charset=utf-8"),
        ("/metrics", 200, "text/plain; charset=utf-8"),
        ("/token", 404, "application/json"),
    ] {
        let found = request(&server, "GET", path, &[]);
        assert_eq!((found.status, found.header("content-type")), (status, kind), "{path}");
        assert!(!start.contains(&format!("href=\"{path}\"")), "{path}");
    }
    assert!(start.contains("<span>v2/app</span>"), "{start}");
    let without = Server::hub(&["--no-pages"]);
    assert!(request(&without, "GET", "/", &[]).body.starts_with("QyvolHub "));
    for path in ["/app", "/app:1", "/-/x"] {
        let found = request(&without, "GET", path, &[]);
        assert_eq!(
            (found.status, found.header("content-type")),
            (404, "application/json"),
            "{path}"
        );
    }
}

// [HUB-044]
#[test]
fn verdict_says_no_more_than_what_this_hub_found() {
    let (server, user) = (Server::hub(&[]), User::new());
    user.app("bare", "");
    user.qyv(&["build", "bare", "-o", "bare.qyvbin", "--no-sign"]).expect(0);
    user.qyv(&["push", "bare.qyvbin", &server.name("bare:1.0.0")]).expect(0);
    let bare = page(&server, "/bare:1.0.0");
    assert!(
        bare.contains("Not signed") && bare.contains("Checked by this hub; your host decides."),
        "{bare}"
    );
    assert!(!bare.contains("1 valid signature"), "{bare}");
    // The same signature under another name: it is of another version.
    let inspected = pushed(&user, &server, "app:1.0.0", "");
    let html = page(&server, "/app:1.0.0");
    assert!(html.contains("<section class=\"verdict valid\""), "{html}");
    // A second key signs too.
    user.qyv(&["keys", "generate", "second"]).expect(0);
    user.qyv(&["sign", "app.qyvbin", "--key", "second", "--role", "approve"])
        .expect(0);
    user.qyv(&["push", "app.qyvbin", &server.name("app:1.0.0")]).expect(0);
    let both = page(&server, "/app:1.0.0");
    assert!(both.contains("2 valid signatures"), "{both}");
    assert!(
        both.contains("<dd>approve</dd>") && both.contains("<dd>release</dd>"),
        "{both}"
    );
    for word in ["trusted", "safe", "secure", "verified"] {
        assert!(!both.to_lowercase().contains(word), "{word}: {both}");
    }
    assert!(inspected["digest"].is_string());
}

// [HUB-041]
#[test]
fn lists_come_in_pages_that_together_are_complete() {
    let (server, user) = (Server::hub(&[]), User::new());
    let file = user.built("app", "");
    user.qyv(&["push", &file, &server.name("many:v000")]).expect(0);
    let manifest = crate::cosign::send(&server, "GET", "/v2/many/manifests/v000", crate::cosign::MANIFEST, b"").2;
    for number in 1..120 {
        let path = format!("/v2/many/manifests/v{number:03}");
        let pushed = crate::cosign::send(&server, "PUT", &path, crate::cosign::MANIFEST, &manifest);
        assert_eq!(pushed.0, 201);
    }
    let mut next = Some("/many".to_string());
    let (mut tags, mut pages) = (Vec::new(), 0);
    while let Some(path) = next {
        let html = page(&server, &path);
        let links = html.split("href=\"/many:").skip(1);
        tags.extend(links.map(|rest| rest.split(['"', '?']).next().unwrap().to_string()));
        pages += 1;
        next = html.split_once("rel=\"next\"").map(|(before, _)| {
            let link = before.rsplit("href=\"").next().unwrap().split('"').next().unwrap();
            link.replace("&amp;", "&")
        });
    }
    let expected: Vec<String> = (0..120).rev().map(|number| format!("v{number:03}")).collect();
    assert_eq!((pages, tags), (3, expected));
}
