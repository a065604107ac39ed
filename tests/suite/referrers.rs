//! Many referrers beside an image, and a tag that never stands still: which signatures are found,
//! and that each verdict is about the image that it was asked for.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;

use qyvol::remote_store::{Anonymous, Client, Options};
use qyvol::trust::Refusal;
use qyvol::types::{Digest, Reference, Timestamp, limits, media_type};
use qyvol::{Context, ErrorClass, Home, PullRequest, TempFiles};
use serde_json::{Value, json};

use crate::cosign::{MANIFEST, push_blob, send, subject};
use crate::registry::Server;
use crate::support::User;

/// Manifests that refer to an image as signatures do, and whose bundle is none.
struct Junk {
    subject: Value,
    layer: Value,
    made: u64,
}

impl Junk {
    fn new(server: &Server, subject: &Value) -> Junk {
        push_blob(server, "app", b"{}");
        let mut layer = push_blob(server, "app", b"{\"no\": \"bundle\"}");
        layer["mediaType"] = media_type::SIGSTORE_BUNDLE.into();
        Junk {
            subject: subject.clone(),
            layer,
            made: 0,
        }
    }

    /// The next ones whose digests are chosen: referrers are looked at in the order of these.
    fn next(&mut self, count: usize, choose: impl Fn(&Digest) -> bool) -> Vec<(Digest, Vec<u8>)> {
        let mut subject = self.subject.clone();
        subject["mediaType"] = MANIFEST.into();
        let mut found = Vec::new();
        while found.len() < count {
            self.made += 1;
            let manifest = json!({
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "artifactType": media_type::SIGSTORE_BUNDLE,
                "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::of(b"{}"), "size": 2 },
                "layers": [self.layer],
                "subject": subject,
                "annotations": { "number": self.made.to_string() },
            });
            let bytes = manifest.to_string().into_bytes();
            let digest = Digest::of(&bytes);
            if choose(&digest) {
                found.push((digest, bytes));
            }
        }
        found
    }
}

/// Pushes manifests by their digests, over a few connections at a time.
fn push_all(server: &Server, manifests: &[(Digest, Vec<u8>)]) {
    thread::scope(|scope| {
        for part in manifests.chunks(manifests.len().div_ceil(8).max(1)) {
            scope.spawn(move || {
                let mut stream = BufReader::new(TcpStream::connect(&server.address).unwrap());
                for (digest, bytes) in part {
                    let head = format!(
                        "PUT /v2/app/manifests/{digest} HTTP/1.1\r\nHost: {}\r\nContent-Type: {MANIFEST}\r\n\
                         Content-Length: {}\r\n\r\n",
                        server.address,
                        bytes.len()
                    );
                    stream.get_mut().write_all(&[head.as_bytes(), bytes].concat()).unwrap();
                    answered(&mut stream);
                }
            });
        }
    });
}

/// Reads the answer to a push.
fn answered(stream: &mut BufReader<TcpStream>) {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    assert!(line.contains(" 201 "), "{line}");
    let mut length = 0;
    loop {
        line.clear();
        stream.read_line(&mut line).unwrap();
        match line.trim().to_ascii_lowercase().split_once(": ") {
            Some(("content-length", number)) => length = number.parse().unwrap(),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
}

/// The referrers of an image, in the order of the hub.
fn referrers(server: &Server, image: &str) -> BTreeSet<Digest> {
    let path = format!("/v2/app/referrers/{image}");
    let (status, _, body) = send(server, "GET", &path, "application/vnd.oci.image.index.v1+json", b"");
    assert_eq!(status, 200);
    let list: Value = serde_json::from_slice(&body).unwrap();
    let entries = list["manifests"].as_array().unwrap().iter();
    entries
        .map(|entry| entry["digest"].as_str().unwrap().parse().unwrap())
        .collect()
}

// [SIGN-027] [REG-002]
#[test]
fn signature_among_ten_thousand_referrers_is_found_up_to_the_bound_and_not_behind_it() {
    let server = Server::hub(&[]);
    let publisher = User::new();
    let file = publisher.built("app", "");
    let name = server.name("app:1.0.0");
    publisher.qyv(&["push", &file, &name, "--no-encodings"]).expect(0);
    publisher
        .qyv(&["trust", "add", &server.name("*"), "--key", "default"])
        .expect(0);
    let image = subject(&publisher, &server, "app", &file);
    let good = *referrers(&server, image["digest"].as_str().unwrap()).first().unwrap();
    let mut junk = Junk::new(&server, &image);
    let mut judge = |count: usize, before: bool, code: i32| {
        push_all(&server, &junk.next(count, |digest| (*digest < good) == before));
        for asked in [&["pull", "--verify", &name][..], &["verify", "--remote", &name]] {
            let done = publisher.qyv(asked).expect(code);
            assert!(done.err.contains("more than 1024 referrers"), "{:.2000}", done.err);
            // Whoever is refused is told that not all was looked at.
            let refused = done.err.contains("none of its signatures can be read");
            assert_eq!(refused, code == 16, "{:.2000}", done.err);
        }
    };
    // The signature is the first, then the last that is read, then the one behind it.
    judge(10_000 - limits::SIGNATURES, false, 0);
    judge(limits::SIGNATURES - 1, true, 0);
    judge(1, true, 16);
}

// [SIGN-025]
#[test]
fn tag_that_alternates_a_thousand_times_is_judged_by_what_it_leads_to_each_time() {
    let server = Server::hub(&[]);
    let user = User::new();
    let manifest = user.app("app", "");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let mut images = Vec::new();
    for (version, more) in [("1.0.0", None), ("1.0.1", None), ("1.0.2", Some("--no-sign"))] {
        std::fs::write(&manifest, text.replace("1.0.0", version)).unwrap();
        let file = format!("{version}.qyvbin");
        let build = [&["build", "app", "-o", &file][..], more.as_slice()].concat();
        user.qyv(&build).expect(0);
        user.qyv(&["push", &file, &server.name(&format!("app:{version}"))])
            .expect(0);
        let shown = user.qyv(&["inspect", &file, "--format", "json"]).expect(0).json();
        let digest: Digest = shown["digest"].as_str().unwrap().parse().unwrap();
        let path = format!("/v2/app/manifests/{digest}");
        images.push((digest, send(&server, "GET", &path, MANIFEST, b"").2));
    }
    let scope = server.name("*");
    user.qyv(&["trust", "add", &scope, "--key", "default", "--identity", "any"])
        .expect(0);
    user.qyv(&["trust", "revoke", &images[1].0.to_string()]).expect(0);
    let name: Reference = server.name("app:moving").parse().unwrap();
    let temporaries = TempFiles::default();
    let now = Timestamp::from_unix(1_790_000_000).unwrap();
    let ctx = Context::new(Home::in_directory(&user.home()), now, &temporaries);
    let client = Client::new(Options::default(), Box::new(Anonymous), Box::new(|_| {}));
    let policy = qyvol::policy_or_key(&ctx, None).unwrap();
    let request = PullRequest {
        name: &name,
        output: None,
        policy: Some(&policy),
        dry_run: false,
    };
    for round in 0..1_000 {
        // Good, revoked, good, unsigned.
        let which = [0, 1, 0, 2][round % 4];
        let (digest, bytes) = &images[which];
        assert_eq!(send(&server, "PUT", "/v2/app/manifests/moving", MANIFEST, bytes).0, 201);
        let pulled = qyvol::pull(&ctx, &client, &request);
        match (which, pulled) {
            (0, Ok(report)) => assert_eq!(report.digest, *digest),
            (1, Err(error)) => assert_eq!(error.class(), ErrorClass::Refused(Refusal::Revoked), "{round}"),
            (2, Err(error)) => assert_eq!(error.class(), ErrorClass::Refused(Refusal::Unsigned), "{round}"),
            (_, outcome) => panic!("round {round}: {outcome:?}"),
        }
        // What was refused never got the name.
        let stored = ctx.store().unwrap().resolve(&name).unwrap().unwrap();
        assert_eq!(stored.digest, images[0].0, "{round}");
    }
}
