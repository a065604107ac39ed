//! The hub's pages of images that want to be more than text.

use std::fs::File;

use serde_json::{Value, json};

use crate::cosign::{MANIFEST, push_blob, send};
use crate::page::{check, page, request, weight};
use crate::registry::Server;
use crate::support::User;

const SIGSTORE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// What is put wherever text may stand.
const HOSTILE: [&str; 10] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "</code></pre></main><h1>Official</h1>",
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% include \"/etc/passwd\" %}",
    "\u{202e}detsurt yb dengis\u{202c}\u{2066}",
    "a\u{200b}b\u{feff}c\u{ad}d\u{1b}[2J\u{0}",
    "&lt;b&gt;&amp;#60;",
    "]]><!--<style>*{display:none}</style>",
];

/// What no page may hold as it stands.
const NEVER: [&str; 8] = [
    "<script",
    "<img src=x",
    "<style",
    "<h1>Official",
    "\u{202e}",
    "\u{200b}",
    "\u{1b}",
    "\u{0}",
];

#[track_caller]
fn inert(server: &Server, path: &str) -> String {
    let html = page(server, path);
    for text in NEVER {
        assert!(!html.contains(text), "{text:?} in {path}: {html}");
    }
    assert!(
        weight(server, &html) < 60_000,
        "{path}: {} bytes",
        weight(server, &html)
    );
    let spanish = request(server, "GET", &format!("{path}?lang=es"), &[]).body;
    check(&spanish);
    assert!(
        weight(server, &spanish) < 60_000,
        "{path}: {} bytes",
        weight(server, &spanish)
    );
    html
}

/// An application in a registry: its manifest and its config.
struct Pushed {
    server: Server,
    user: User,
    manifest: Value,
    config: Value,
}

impl Pushed {
    fn new(more: &str) -> Pushed {
        let (server, user) = (Server::hub(&[]), User::new());
        user.component_app("app", more);
        user.qyv(&["build", "app", "-o", "app.qyvbin"]).expect(0);
        user.qyv(&["push", "app.qyvbin", &server.name("app:1.0.0")]).expect(0);
        let get = |path: &str| serde_json::from_slice(&send(&server, "GET", path, MANIFEST, b"").2).unwrap();
        let manifest: Value = get("/v2/app/manifests/1.0.0");
        let config = get(&format!(
            "/v2/app/blobs/{}",
            manifest["config"]["digest"].as_str().unwrap()
        ));
        Pushed {
            server,
            user,
            manifest,
            config,
        }
    }

    /// Pushes the image with other bytes as its config; gives its path.
    fn push(&self, tag: &str, config: &[u8], change: impl FnOnce(&mut Value)) -> String {
        let mut manifest = self.manifest.clone();
        let blob = push_blob(&self.server, "app", config);
        manifest["config"]["digest"] = blob["digest"].clone();
        manifest["config"]["size"] = blob["size"].clone();
        change(&mut manifest);
        self.put(tag, &manifest);
        format!("/app:{tag}")
    }

    fn put(&self, tag: &str, manifest: &Value) {
        let path = format!("/v2/app/manifests/{tag}");
        let (status, _, text) = send(&self.server, "PUT", &path, MANIFEST, manifest.to_string().as_bytes());
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&text));
    }
}

// [HUB-045]
#[test]
fn hostile_text_of_an_image_is_shown_as_text() {
    let app = Pushed::new("");
    for (number, text) in HOSTILE.iter().enumerate() {
        let mut config = app.config.clone();
        config["component"]["imports"] = json!([text, format!("wasi:cli/{text}"), format!("{text}/x")]);
        config["component"]["exports"] = json!([text]);
        config["qyv"]["app"]["entrypoint"] = text.replace(['/', '\0'], "").into();
        config["qyv"]["app"]["permissions"] = json!({ "exec": [format!("/bin/{text}")], (*text): text });
        let path = app.push(&format!("h{number}"), config.to_string().as_bytes(), |manifest| {
            manifest["annotations"] = json!({ "org.opencontainers.image.base.name": text });
        });
        inert(&app.server, &path);
        // With permissions that are understood.
        config["qyv"]["app"]["permissions"] = json!({ "exec": [format!("/bin/{}", text.replace('\0', ""))] });
        config["qyv"]["app"]["entrypoint"] = "app.wasm".into();
        let path = app.push(&format!("p{number}"), config.to_string().as_bytes(), |manifest| {
            manifest["annotations"] = json!({ "org.opencontainers.image.base.name": text });
        });
        let html = inert(&app.server, &path);
        assert!(html.contains("class=\"verdict none\""), "{html}");
    }
}

// [HUB-045]
#[test]
fn hostile_readme_is_shown_as_text() {
    let app = Pushed::new("");
    let user = &app.user;
    let text = HOSTILE.join("\n");
    for (number, readme) in [
        text.clone().into_bytes(),
        "x".repeat(10 << 20).into_bytes(),
        "<".repeat(10 << 20).into_bytes(),
        "\u{202e}".repeat(1 << 20).into_bytes(),
        "\n".repeat(1 << 20).into_bytes(),
        (0..=255).collect(),
        "a\u{301}\u{302}\u{303}\u{304}".repeat(1 << 18).into_bytes(),
        b"[click](javascript:alert(1)) ![](https://tracker.example/x.png) <a href=//x>".to_vec(),
    ]
    .iter()
    .enumerate()
    {
        let name = format!("readme{number}");
        user.write(&format!("{name}/README.md"), readme);
        user.component_app(&name, "assets: [README.md]\n");
        user.qyv(&["build", &name, "-o", "readme.qyvbin", "-q"]).expect(0);
        user.qyv(&["push", "readme.qyvbin", &app.server.name(&format!("{name}:1"))])
            .expect(0);
        let html = inert(&app.server, &format!("/{name}:1"));
        assert!(html.contains("<pre class=\"readme\""), "{html}");
    }
}

// [HUB-047]
#[test]
fn readme_behind_a_bomb_is_not_looked_for() {
    let app = Pushed::new("");
    let user = &app.user;
    user.component_app("bomb", "assets: [AAA, README.md]\n");
    // It takes no room here, and some kilobytes in the image.
    File::create(user.path("bomb/AAA")).unwrap().set_len(256 << 20).unwrap();
    user.write("bomb/README.md", "never read");
    user.qyv(&["build", "bomb", "-o", "bomb.qyvbin", "-q"]).expect(0);
    user.qyv(&["push", "bomb.qyvbin", &app.server.name("bomb:1")]).expect(0);
    let html = inert(&app.server, "/bomb:1");
    assert!(!html.contains("never read"), "{html}");
    // Assets that are no archive at all.
    let mut config = app.config.clone();
    let digest = app.manifest["config"]["digest"].clone();
    config["qyv"]["assets"] = json!({ "diffID": digest, "files": 1, "bytes": 1 });
    for (tag, bytes) in [("junk", &b"junk"[..]), ("empty", b""), ("magic", b"\x28\xb5\x2f\xfd")] {
        let mut layer = push_blob(&app.server, "app", bytes);
        layer["mediaType"] = "application/vnd.qyvol.assets.v1.tar+zstd".into();
        let path = app.push(tag, config.to_string().as_bytes(), |manifest| {
            manifest["layers"].as_array_mut().unwrap().push(layer);
        });
        inert(&app.server, &path);
    }
}

// [HUB-047]
#[test]
fn page_of_a_huge_image_is_small_and_says_what_it_leaves_out() {
    let app = Pushed::new("");
    let many = |make: &dyn Fn(usize) -> String| (0..4000).map(make).collect::<Vec<_>>();
    let mut config = app.config.clone();
    config["component"]["imports"] = json!(many(&|n| format!("a{n}:<<<<<<<<<<<<<<<<<<<</&&&&&&&&&&&&&&&&&&&&")));
    config["component"]["exports"] = json!(many(&|n| format!("\u{202e}{n}")));
    let endpoint = |number| format!("a{number}.{}.example:443", "x".repeat(60));
    let endpoints: Vec<_> = (0..256).map(endpoint).collect();
    config["qyv"]["app"]["permissions"] = json!({ "net": { "connect": endpoints } });
    let text = config.to_string();
    assert!(text.len() < 512 << 10, "{}", text.len());
    let path = app.push("huge", text.as_bytes(), |manifest| {
        manifest["annotations"] = json!({ "org.opencontainers.image.base.name": "<".repeat(100_000) });
    });
    // What refers to it: signatures that are none, and attachments of every name.
    let manifest = send(&app.server, "GET", "/v2/app/manifests/huge", MANIFEST, b"").2;
    let subject = json!({
        "mediaType": MANIFEST,
        "digest": qyvol::types::Digest::of(&manifest).to_string(),
        "size": manifest.len(),
    });
    let empty = push_blob(&app.server, "app", b"{}");
    for number in 0..120 {
        let mut layer = push_blob(&app.server, "app", format!("{{\"n\":{number}}}").as_bytes());
        layer["mediaType"] = SIGSTORE.into();
        let kind = if number % 2 == 0 {
            SIGSTORE.to_string()
        } else {
            format!("{}{number}", "<".repeat(1000))
        };
        let mut config = empty.clone();
        config["mediaType"] = "application/vnd.oci.empty.v1+json".into();
        let referrer = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": kind,
            "config": config,
            "layers": [layer],
            "subject": subject,
            "annotations": { "dev.qyvol.signer": "<".repeat(1000) },
        });
        app.put(&format!("r{number}"), &referrer);
    }
    let html = inert(&app.server, &path);
    assert!(html.contains("This is not all of it"), "{html}");
    assert!(
        html.contains("more, not shown") && html.contains("56 more referrers were not looked at"),
        "{html}"
    );
    assert!(
        html.contains("No valid signature") && html.contains("can&#39;t be read"),
        "{html}"
    );
}

// [HUB-045]
#[test]
fn artifact_that_is_no_application_has_a_page_that_says_so() {
    let app = Pushed::new("");
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (tag, config) in [
        ("empty", &b""[..]),
        ("object", b"{}"),
        ("nested", nested.as_bytes()),
        ("binary", b"\xff\x00"),
        ("large", &vec![b' '; 600 << 10]),
    ] {
        let path = app.push(tag, config, |_| {});
        let html = inert(&app.server, &path);
        assert!(html.contains("Not an application"), "{html}");
    }
    let index = "application/vnd.oci.image.index.v1+json";
    let text = json!({
        "schemaVersion": 2, "mediaType": index, "manifests": [], "artifactType": HOSTILE[0],
    });
    let pushed = send(
        &app.server,
        "PUT",
        "/v2/app/manifests/index",
        index,
        text.to_string().as_bytes(),
    );
    assert_eq!(pushed.0, 201);
    assert!(inert(&app.server, "/app:index").contains("Not an application"));
}

// [HUB-044]
#[test]
fn signature_that_does_not_hold_is_not_shown_as_valid() {
    let app = Pushed::new("");
    let digest = qyvol::types::Digest::of(&send(&app.server, "GET", "/v2/app/manifests/1.0.0", MANIFEST, b"").2);
    let list = send(
        &app.server,
        "GET",
        &format!("/v2/app/referrers/{digest}"),
        MANIFEST,
        b"",
    )
    .2;
    let list: Value = serde_json::from_slice(&list).unwrap();
    // Other referrers, as that of encodings, may come first.
    let listed = list["manifests"].as_array().unwrap();
    let signature = listed.iter().find(|one| one["artifactType"] == SIGSTORE).unwrap();
    let signature = signature["digest"].as_str().unwrap();
    let get =
        |path: &str| -> Value { serde_json::from_slice(&send(&app.server, "GET", path, MANIFEST, b"").2).unwrap() };
    let referrer = get(&format!("/v2/app/manifests/{signature}"));
    let bundle = get(&format!(
        "/v2/app/blobs/{}",
        referrer["layers"][0]["digest"].as_str().unwrap()
    ));
    // A twin of the image, under another digest.
    let twin = |tag: &str| {
        app.push(tag, app.config.to_string().as_bytes(), |manifest| {
            manifest["annotations"] = json!({ "twin": tag });
        })
    };
    let attach = |tag: &str, bundle: &Value, key: bool| {
        let manifest = send(&app.server, "GET", &format!("/v2/app/manifests/{tag}"), MANIFEST, b"").2;
        let mut layer = push_blob(&app.server, "app", bundle.to_string().as_bytes());
        layer["mediaType"] = SIGSTORE.into();
        let mut referrer = referrer.clone();
        referrer["layers"] = json!([layer]);
        referrer["subject"]["digest"] = qyvol::types::Digest::of(&manifest).to_string().into();
        referrer["subject"]["size"] = manifest.len().into();
        if !key {
            referrer["annotations"]
                .as_object_mut()
                .unwrap()
                .remove("dev.qyvol.signer");
        }
        app.put(&format!("{tag}.sig"), &referrer);
    };
    let mut damaged = bundle.clone();
    let sig = damaged["dsseEnvelope"]["signatures"][0]["sig"].as_str().unwrap();
    let first = if sig.starts_with('A') { "B" } else { "A" };
    let sig = format!("{first}{}", &sig[1..]);
    damaged["dsseEnvelope"]["signatures"][0]["sig"] = sig.into();
    for (tag, bundle, key, expected) in [
        ("other", &bundle, true, "about another image"),
        ("damaged", &damaged, true, "not made with the key that came with it"),
        ("keyless", &bundle, false, "not checked: it came without a key"),
        ("junk", &json!({}), true, "can&#39;t be read"),
    ] {
        let path = twin(tag);
        attach(tag, bundle, key);
        let html = inert(&app.server, &path);
        assert!(html.contains(expected), "{expected}: {html}");
        assert!(
            html.contains("No valid signature") && html.contains("class=\"verdict doubtful\""),
            "{html}"
        );
        assert!(!html.contains("<p class=\"finding\">valid"), "{html}");
    }
}
