//! Many users, changes to users, and quotas per user.

use qyvol_hub::AccessControl;

use crate::access::{basic, bearer, hash, push_blob, send, server, token};
use crate::support::Server;

// [HUB-024]
#[test]
fn valid_user_gets_in_while_many_send_wrong_passwords() {
    use argon2::password_hash::PasswordHasher as _;
    use std::sync::atomic::{AtomicBool, Ordering};
    // Slow enough to keep all of them waiting.
    let params = argon2::Params::new(4096, 3, 1, None).unwrap();
    let argon = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let hash = argon.hash_password_with_salt(b"right", b"0123456789abcdef").unwrap();
    let file = format!(r#"{{"users":[{{"name":"ana","password":"{hash}","scopes":[]}}]}}"#);
    let server = Server::with(|config| {
        config.access = AccessControl::parse(file.as_bytes()).unwrap();
        config.proxies = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let done = AtomicBool::new(false);
    let login = |password: &str, from: &str| {
        let headers = [("Authorization", &*basic("ana", password)), ("X-Forwarded-For", from)];
        server.send("GET", "/v2/", &headers, b"")
    };
    std::thread::scope(|scope| {
        for _ in 0..80 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    login("wrong", "203.0.113.1");
                }
            });
        }
        // From another address, and from that of the others.
        for from in ["203.0.113.2", "203.0.113.2", "203.0.113.1", "203.0.113.1"] {
            assert_eq!(login("right", from).status, 200, "{from}");
            server.advance(301);
        }
        done.store(true, Ordering::Relaxed);
    });
}

// [HUB-025]
#[test]
fn challenge_names_the_scheme_that_clients_use_or_none() {
    let challenge = |server: &Server, headers: &[(&str, &str)]| {
        let refused = server.send("GET", "/v2/", headers, b"").refused(401, "UNAUTHORIZED");
        refused.header("www-authenticate").unwrap().to_string()
    };
    let https = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "hub.example")];
    // The password would be sent to that URL, so the scheme is not guessed.
    let plain = server(false, true);
    assert_eq!(challenge(&plain, &https), "Basic realm=\"qyvol-hub\"");
    let text = r#"{"token":true,"users":[]}"#;
    let proxied = Server::with(|config| {
        config.access = AccessControl::parse(text.as_bytes()).unwrap();
        config.proxies = vec!["127.0.0.1".parse().unwrap()];
    });
    let expected = "Bearer realm=\"https://hub.example/token\",service=\"hub.example\"";
    assert_eq!(challenge(&proxied, &https), expected);
    assert!(challenge(&proxied, &[]).starts_with("Basic "));
    let public = Server::with(|config| {
        config.access = AccessControl::parse(text.as_bytes()).unwrap();
        config.public_url = Some("https://hub.example".to_string());
    });
    assert_eq!(challenge(&public, &[]), expected);
}

// [HUB-026]
#[test]
fn users_change_without_a_restart() {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("users.json");
    let write = |name: &str, password: &str, actions: &str| {
        let text = format!(
            r#"{{"token":true,"users":[{{"name":"{name}","password":"{}","scopes":[{{"repository":"*","actions":[{actions}]}}]}}]}}"#,
            hash(password)
        );
        std::fs::write(&path, text).unwrap();
    };
    write("ana", "one", r#""read","write""#);
    let server = Server::with(|config| config.access = AccessControl::load(&path).unwrap());
    let until = |auth: &str, method: &str, path: &str, status: u16| {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while send(&server, auth, method, path, b"").status != status {
            assert!(std::time::Instant::now() < deadline, "{method} {path}: never {status}");
        }
    };
    let one = basic("ana", "one");
    let bought = bearer(token(&server, Some(&one), &["repository:a:pull,push"]));
    push_blob(&server, &one, "a", b"x").expect(201);
    push_blob(&server, &bought, "a", b"x").expect(201);
    // A right of a user whose password is cached.
    write("ana", "one", r#""read""#);
    let upload = "/v2/a/blobs/uploads/";
    until(&one, "POST", upload, 403);
    until(&bought, "POST", upload, 403);
    // An invalid file changes nothing.
    std::fs::write(&path, "{").unwrap();
    send(&server, &one, "GET", "/v2/", b"").expect(200);
    // A password, and the tokens that were issued for it.
    write("ana", "two", r#""read","write""#);
    until(&basic("ana", "two"), "GET", "/v2/", 200);
    send(&server, &one, "GET", "/v2/", b"").refused(401, "UNAUTHORIZED");
    send(&server, &bought, "GET", "/v2/", b"").refused(401, "UNAUTHORIZED");
    write("bo", "three", r#""read""#);
    until(&basic("bo", "three"), "GET", "/v2/", 200);
    send(&server, &basic("ana", "two"), "GET", "/v2/", b"").refused(401, "UNAUTHORIZED");
}

// [HUB-035]
#[test]
fn user_with_many_uploads_leaves_room_for_others() {
    let file = format!(
        r#"{{"users":[{}]}}"#,
        ["ana", "bo"]
            .map(|name| format!(
                r#"{{"name":"{name}","password":"{}","scopes":[{{"repository":"*","actions":["read","write"]}}]}}"#,
                hash(name)
            ))
            .join(",")
    );
    let server = Server::with(|config| {
        config.access = AccessControl::parse(file.as_bytes()).unwrap();
        config.limits.uploads = 10;
        config.limits.uploads_each = 3;
    });
    let (ana, bo) = (basic("ana", "ana"), basic("bo", "bo"));
    let start = |auth: &str| send(&server, auth, "POST", "/v2/a/blobs/uploads/", b"");
    let mine: Vec<_> = (0..3).map(|_| start(&ana).expect(202)).collect();
    start(&ana).refused(429, "TOOMANYREQUESTS");
    start(&bo).expect(202);
    // One that ends makes room.
    send(&server, &ana, "DELETE", mine[0].header("location").unwrap(), b"").expect(204);
    start(&ana).expect(202);
}
