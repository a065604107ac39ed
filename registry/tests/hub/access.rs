//! Users, scopes, tokens.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qyvol_hub::{AccessControl, Hub};
use qyvol_types::Digest;

use crate::support::{IMAGE, Response, Server};

// argon2id of the name of each user, with the least cost there is.
pub fn hash(password: &str) -> String {
    use argon2::password_hash::PasswordHasher as _;
    let params = argon2::Params::new(8, 1, 1, None).unwrap();
    let argon = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    argon
        .hash_password_with_salt(password.as_bytes(), b"0123456789abcdef")
        .unwrap()
        .to_string()
}

pub fn server(anonymous_read: bool, token: bool) -> Server {
    let user =
        |name: &str, scopes: &str| format!(r#"{{"name":"{name}","password":"{}","scopes":[{scopes}]}}"#, hash(name));
    let file = format!(
        r#"{{"anonymous_read":{anonymous_read},"token":{token},"users":[{},{},{}]}}"#,
        user("root", r#"{"repository":"*","actions":["read","write","delete"]}"#),
        user(
            "team",
            r#"{"repository":"team/*","actions":["read","write"]},{"repository":"base","actions":["read"]}"#
        ),
        user("none", ""),
    );
    Server::with(|config| config.access = AccessControl::parse(file.as_bytes()).unwrap())
}

pub fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

pub fn send(server: &Server, auth: &str, method: &str, path: &str, body: &[u8]) -> Response {
    server.send(method, path, &[("Authorization", auth), ("Content-Type", IMAGE)], body)
}

pub fn push_blob(server: &Server, auth: &str, name: &str, bytes: &[u8]) -> Response {
    let path = format!("/v2/{name}/blobs/uploads/?digest={}", Digest::of(bytes));
    send(server, auth, "POST", &path, bytes)
}

pub fn token(server: &Server, auth: Option<&str>, scopes: &[&str]) -> Response {
    let mut path = "/token?service=x".to_string();
    for scope in scopes {
        path.push_str(&format!("&scope={scope}"));
    }
    match auth {
        Some(auth) => server.send("GET", &path, &[("Authorization", auth)], b""),
        None => server.get(&path),
    }
}

pub fn bearer(answer: Response) -> String {
    format!("Bearer {}", answer.expect(200).json()["token"].as_str().unwrap())
}

#[test]
fn without_credentials_nothing_is_answered_but_health() {
    let server = server(false, false);
    let digest = Digest::of(b"x");
    server.get("/healthz").expect(200);
    for (method, path) in [
        ("GET", "/v2/".to_string()),
        ("GET", "/v2/_catalog".to_string()),
        ("GET", "/metrics".to_string()),
        ("GET", "/v2/a/tags/list".to_string()),
        ("GET", "/v2/a/manifests/v1".to_string()),
        ("PUT", "/v2/a/manifests/v1".to_string()),
        ("DELETE", "/v2/a/manifests/v1".to_string()),
        ("GET", format!("/v2/a/blobs/{digest}")),
        ("DELETE", format!("/v2/a/blobs/{digest}")),
        ("POST", "/v2/a/blobs/uploads/".to_string()),
        ("PATCH", "/v2/a/blobs/uploads/x".to_string()),
        ("GET", format!("/v2/a/referrers/{digest}")),
    ] {
        let refused = server.send(method, &path, &[], b"").refused(401, "UNAUTHORIZED");
        assert_eq!(
            refused.header("www-authenticate"),
            Some("Basic realm=\"qyvol-hub\""),
            "{method} {path}"
        );
    }
    assert!(!server.data().join("repositories/a").exists());
}

#[test]
fn wrong_credentials_are_refused_even_where_none_are_needed() {
    let server = server(true, true);
    for bad in [
        basic("root", "wrong"),
        basic("nobody", "root"),
        basic("root", ""),
        "Basic %%%".to_string(),
        "Basic cm9vdA==".to_string(),
        "Bearer x.y.z".to_string(),
        "Negotiate x".to_string(),
        "Basic".to_string(),
    ] {
        for _ in 0..2 {
            send(&server, &bad, "GET", "/v2/a/tags/list", b"").refused(401, "UNAUTHORIZED");
        }
    }
    send(&server, &basic("root", "root"), "GET", "/v2/", b"").expect(200);
    // The password is cached, not the user.
    send(&server, &basic("root", "wrong"), "GET", "/v2/", b"").refused(401, "UNAUTHORIZED");
}

#[test]
fn scopes_bound_what_a_user_may_do() {
    let server = server(false, false);
    let (root, team, none) = (basic("root", "root"), basic("team", "team"), basic("none", "none"));
    push_blob(&server, &team, "team/a", b"x").expect(201);
    push_blob(&server, &team, "base", b"x").refused(403, "DENIED");
    push_blob(&server, &team, "teams", b"x").refused(403, "DENIED");
    push_blob(&server, &root, "base", b"base").expect(201);
    push_blob(&server, &root, "secret", b"secret").expect(201);
    let blob = |name: &str, bytes: &[u8]| format!("/v2/{name}/blobs/{}", Digest::of(bytes));
    send(&server, &team, "GET", &blob("base", b"base"), b"").expect(200);
    send(&server, &team, "GET", &blob("secret", b"secret"), b"").refused(403, "DENIED");
    // The answer doesn't reveal that a repository doesn't exist, either.
    send(&server, &team, "GET", "/v2/absent/tags/list", b"").refused(403, "DENIED");
    send(&server, &team, "DELETE", &blob("team/a", b"x"), b"").refused(403, "DENIED");
    send(&server, &none, "GET", &blob("base", b"base"), b"").refused(403, "DENIED");
    send(&server, &root, "DELETE", &blob("team/a", b"x"), b"").expect(202);
}

#[test]
fn mount_needs_the_right_to_read_the_source() {
    let server = server(false, false);
    let (root, team) = (basic("root", "root"), basic("team", "team"));
    for name in ["base", "secret"] {
        push_blob(&server, &root, name, name.as_bytes()).expect(201);
    }
    let mount = |query: String| {
        send(
            &server,
            &team,
            "POST",
            &format!("/v2/team/x/blobs/uploads/?{query}"),
            b"",
        )
    };
    mount(format!("mount={}&from=secret", Digest::of(b"secret"))).expect(202);
    mount(format!("mount={}", Digest::of(b"secret"))).expect(202);
    mount(format!("mount={}&from=base", Digest::of(b"base"))).expect(201);
    let stolen = format!("/v2/team/x/blobs/{}", Digest::of(b"secret"));
    send(&server, &team, "GET", &stolen, b"").refused(404, "BLOB_UNKNOWN");
}

#[test]
fn token_too_narrow_for_a_mount_is_sent_back_for_a_wider_one() {
    let server = server(false, true);
    let (root, team) = (basic("root", "root"), basic("team", "team"));
    for name in ["base", "secret"] {
        push_blob(&server, &root, name, name.as_bytes()).expect(201);
    }
    let mount = |auth: Option<&str>, from: &str| {
        let digest = Digest::of(from.as_bytes());
        let path = format!("/v2/team/x/blobs/uploads/?mount={digest}&from={from}");
        let headers: Vec<_> = auth.map(|auth| ("Authorization", auth)).into_iter().collect();
        server.send("POST", &path, &headers, b"")
    };
    let challenge = |answer: Response| {
        let refused = answer.refused(401, "UNAUTHORIZED");
        refused.header("www-authenticate").unwrap().to_string()
    };
    let both = |from: &str| format!(",scope=\"repository:team/x:pull,push repository:{from}:pull\"");
    // Without a token, the challenge names the scopes that the mount needs.
    for from in ["base", "secret", "absent"] {
        assert!(challenge(mount(None, from)).ends_with(&both(from)), "{from}");
    }
    let narrow = bearer(token(&server, Some(&team), &["repository:team/x:pull,push"]));
    let wanted = challenge(mount(Some(&narrow), "base"));
    assert!(
        wanted.ends_with(&format!("{},error=\"insufficient_scope\"", both("base"))),
        "{wanted}"
    );
    let scopes = ["repository:team/x:pull,push%20repository:base:pull"];
    mount(Some(&bearer(token(&server, Some(&team), &scopes))), "base").expect(201);
    // What the user may not read is answered as if it didn't exist.
    let scopes = ["repository:team/x:pull,push%20repository:secret:pull"];
    let greedy = bearer(token(&server, Some(&team), &scopes));
    for auth in [&narrow, &greedy] {
        mount(Some(auth), "secret").expect(202);
        mount(Some(auth), "absent").expect(202);
    }
    // The right to read the source alone starts nothing either.
    let reader = bearer(token(&server, Some(&team), &["repository:base:pull"]));
    assert!(challenge(mount(Some(&reader), "base")).contains(&both("base")));
}

#[test]
fn mount_without_a_source_takes_only_from_what_the_caller_may_read() {
    let server = server(false, true);
    let (root, team) = (basic("root", "root"), basic("team", "team"));
    for name in ["base", "secret"] {
        push_blob(&server, &root, name, name.as_bytes()).expect(201);
    }
    let mount = |auth: &str, to: &str, bytes: &[u8]| {
        let path = format!("/v2/{to}/blobs/uploads/?mount={}", Digest::of(bytes));
        send(&server, auth, "POST", &path, b"")
    };
    mount(&team, "team/x", b"secret").expect(202);
    mount(&team, "team/x", b"absent").expect(202);
    mount(&team, "base", b"base").refused(403, "DENIED");
    let narrow = bearer(token(&server, Some(&team), &["repository:team/x:pull,push"]));
    mount(&narrow, "team/x", b"base").expect(202);
    let wide = ["repository:team/x:pull,push", "repository:base:pull"];
    let wide = bearer(token(&server, Some(&team), &wide));
    mount(&wide, "team/x", b"base").expect(201);
    let done = mount(&team, "team/y", b"base").expect(201);
    let got = send(&server, &team, "GET", done.header("location").unwrap(), b"");
    assert_eq!(got.expect(200).body, b"base");
    // Two repositories have the second blob now, and only one of them may be read.
    mount(&root, "secret", b"base").expect(201);
    mount(&root, "base", b"secret").expect(201);
    mount(&team, "team/x", b"secret").expect(201);
}

#[test]
fn token_without_what_anyone_may_read_is_sent_back_for_a_wider_one() {
    let server = server(true, true);
    push_blob(&server, &basic("root", "root"), "a", b"x").expect(201);
    let path = format!("/v2/a/blobs/{}", Digest::of(b"x"));
    let none = basic("none", "none");
    let empty = bearer(token(&server, Some(&none), &[]));
    let refused = send(&server, &empty, "GET", &path, b"").refused(401, "UNAUTHORIZED");
    assert!(
        refused
            .header("www-authenticate")
            .unwrap()
            .contains("scope=\"repository:a:pull\"")
    );
    let wider = bearer(token(&server, Some(&none), &["repository:a:pull"]));
    send(&server, &wider, "GET", &path, b"").expect(200);
}

#[test]
fn push_that_mounts_from_many_repositories_gets_one_token_for_all() {
    let server = server(false, true);
    let team = basic("team", "team");
    let name = |i: usize| format!("team/{i}{}", "-long".repeat(49));
    let scopes: Vec<_> = (0..60).map(|i| format!("repository:{}:pull,push", name(i))).collect();
    let scopes: Vec<_> = scopes.iter().map(String::as_str).collect();
    let all = bearer(token(&server, Some(&team), &scopes));
    for i in 0..60 {
        push_blob(&server, &all, &name(i), b"x").expect(201);
    }
}

#[test]
fn catalog_holds_what_the_caller_may_read() {
    let server = server(false, true);
    let (root, team) = (basic("root", "root"), basic("team", "team"));
    let index = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    for name in ["base", "secret", "team/a"] {
        let headers = [("Authorization", root.as_str())];
        server
            .send("PUT", &format!("/v2/{name}/manifests/v1"), &headers, index)
            .expect(201);
    }
    let list = |auth: &str| send(&server, auth, "GET", "/v2/_catalog", b"").expect(200).json()["repositories"].clone();
    assert_eq!(list(&root), serde_json::json!(["base", "secret", "team/a"]));
    assert_eq!(list(&team), serde_json::json!(["base", "team/a"]));
    let bound = bearer(token(&server, Some(&team), &["repository:base:pull"]));
    let refused = send(&server, &bound, "GET", "/v2/_catalog", b"").refused(401, "UNAUTHORIZED");
    assert!(
        refused
            .header("www-authenticate")
            .unwrap()
            .contains("scope=\"registry:catalog:*\"")
    );
    let wide = bearer(token(&server, Some(&team), &["registry:catalog:*"]));
    assert_eq!(list(&wide), serde_json::json!(["base", "team/a"]));
}

#[test]
fn challenge_leads_to_a_valid_token() {
    let server = server(false, true);
    let refused = server.get("/v2/team/a/manifests/v1").refused(401, "UNAUTHORIZED");
    let expected = format!(
        "Bearer realm=\"http://{0}/token\",service=\"{0}\",scope=\"repository:team/a:pull\"",
        server.address
    );
    assert_eq!(refused.header("www-authenticate"), Some(expected.as_str()));
    token(&server, None, &["repository:team/a:pull"]).refused(401, "UNAUTHORIZED");
    token(&server, Some(&basic("team", "wrong")), &[]).refused(401, "UNAUTHORIZED");
    let team = basic("team", "team");
    let answer = token(&server, Some(&team), &["repository:team/a:pull,push"]).expect(200);
    assert_eq!(answer.json()["expires_in"], 300);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let good = bearer(answer);
    push_blob(&server, &good, "team/a", b"x").expect(201);
    // Another repository of the same user: a wider token would do.
    let refused = push_blob(&server, &good, "team/b", b"x").refused(401, "UNAUTHORIZED");
    assert!(
        refused
            .header("www-authenticate")
            .unwrap()
            .contains("error=\"insufficient_scope\"")
    );
    // One that the user can't have.
    push_blob(&server, &good, "base", b"x").refused(403, "DENIED");
    let both = bearer(token(
        &server,
        Some(&team),
        &[
            "repository:team/b:push%20repository:base:pull",
            "repository:team/a:pull",
        ],
    ));
    push_blob(&server, &both, "team/b", b"x").expect(201);
    // A token has no more scopes than were requested, and never more than the user has.
    push_blob(&server, &both, "team/a", b"x").refused(401, "UNAUTHORIZED");
    let greedy = bearer(token(
        &server,
        Some(&team),
        &["repository:base:*", "repository:secret:pull"],
    ));
    push_blob(&server, &greedy, "base", b"x").refused(403, "DENIED");
    send(&server, &greedy, "GET", "/v2/secret/tags/list", b"").refused(403, "DENIED");
    // It expires.
    server.advance(301);
    send(&server, &good, "GET", "/v2/", b"").refused(401, "UNAUTHORIZED");
    // And can't be used to get another.
    let fresh = bearer(token(&server, Some(&team), &["repository:team/a:pull"]));
    token(&server, Some(&fresh), &["repository:team/a:push"]).refused(401, "UNAUTHORIZED");
}

#[test]
fn anonymous_clients_can_only_read() {
    for with_token in [false, true] {
        let server = server(true, with_token);
        let root = basic("root", "root");
        push_blob(&server, &root, "a", b"x").expect(201);
        let path = format!("/v2/a/blobs/{}", Digest::of(b"x"));
        assert_eq!(server.get(&path).expect(200).body, b"x");
        server.delete(&path).refused(401, "UNAUTHORIZED");
        server
            .send("POST", "/v2/a/blobs/uploads/", &[], b"")
            .refused(401, "UNAUTHORIZED");
        // This is where clients learn how to log in, even those without a password.
        let refused = server.get("/v2/").refused(401, "UNAUTHORIZED");
        assert!(refused.header("www-authenticate").unwrap().starts_with("Bearer "));
        {
            let anonymous = bearer(token(&server, None, &["repository:a:pull,push"]));
            assert_eq!(send(&server, &anonymous, "GET", &path, b"").expect(200).body, b"x");
            push_blob(&server, &anonymous, "a", b"y").refused(401, "UNAUTHORIZED");
            send(&server, &anonymous, "GET", "/v2/", b"").expect(200);
        }
    }
}

#[test]
fn host_header_cannot_inject_into_the_challenge() {
    let server = server(false, true);
    use std::io::Write as _;
    let mut stream = server.connect();
    stream
        .write_all(b"GET /v2/ HTTP/1.1\r\nHost: evil\",scope=\"x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let answer = Response::read(&mut stream);
    assert!(!answer.header("www-authenticate").unwrap_or_default().contains("evil"));
}

#[test]
fn invalid_access_configuration_is_refused() {
    let mut users = match AccessControl::parse(br#"{"users":[]}"#).unwrap() {
        AccessControl::Users(users) => users,
        _ => unreachable!(),
    };
    users.users.push(std::sync::Arc::new(qyvol_hub::User {
        name: "a".to_string(),
        password: "plain".to_string(),
        scopes: Vec::new(),
    }));
    let directory = tempfile::TempDir::new().unwrap();
    let mut config = qyvol_hub::Config::new(
        "127.0.0.1:0".parse().unwrap(),
        directory.path(),
        std::time::SystemTime::now,
    );
    config.access = AccessControl::Users(users);
    assert!(Hub::open(config).is_err());
}
