//! Smaller representations of a component: what a pull fetches, and that it gets the component
//! itself whatever is wrong with them.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use qyvol::types::{Digest, media_type};
use qyvol_encoding::{Base, Blob, Effort, Representation, encode};
use serde_json::{Value, json};

use crate::cosign::{MANIFEST, push_blob, send, subject};
use crate::needs::lacks;
use crate::registry::Server;
use crate::resume::{ThrottlingProxy, partial};
use crate::support::{PROBE, Prng, User, third_party};

/// The probe with a custom section of `bytes` bytes, of which zstd saves about a half, and of
/// whose end each version has its own.
pub fn component(bytes: usize, version: &str) -> Vec<u8> {
    let mut noise = Prng(11);
    let mut payload: Vec<u8> = (0..bytes).map(|_| noise.next() as u8 & 0x0f).collect();
    payload.extend(version.bytes());
    let mut section = vec![1, b'x'];
    section.extend(payload);
    let mut component = PROBE.to_vec();
    component.push(0);
    let mut length = section.len();
    while length > 0x7f {
        component.push(length as u8 | 0x80);
        length >>= 7;
    }
    component.push(length as u8);
    component.extend(section);
    component
}

/// A release of `app`, built and in the user's store; returns its file and its component.
pub fn release(user: &User, bytes: usize, version: &str) -> (String, Vec<u8>) {
    let component = component(bytes, version);
    user.write("app/probe.wasm", &component);
    user.write(
        "app/app.qyv",
        format!("name: app\nversion: {version}\nentrypoint: probe.wasm\n"),
    );
    let file = format!("app-{version}.qyvbin");
    user.qyv(&["build", "app", "-o", &file]).expect(0);
    (file, component)
}

/// What a pull says of the component.
pub fn component_part(report: &Value) -> Value {
    let parts = report["parts"].as_array().unwrap().iter();
    let mut components = parts.filter(|part| part["mediaType"] == media_type::WASM);
    components.next().unwrap().clone()
}

/// Pulls, and holds the store against what should be in it.
pub fn pulled(host: &User, name: &str, component: &[u8]) -> (Value, String) {
    let done = host.qyv(&["pull", name, "--format", "json", "--verbose"]).expect(0);
    host.qyv(&["check"]).expect(0);
    assert_eq!(partial(host), 0);
    let digest = Digest::of(component).to_string();
    let part = component_part(&done.json());
    assert_eq!(part["digest"], digest.as_str());
    let stored = host.stored();
    let hex = digest.trim_start_matches("sha256:");
    let blob = stored.iter().find(|path| path.ends_with(hex)).unwrap();
    assert!(fs::read(blob).unwrap() == component);
    // A representation doesn't stay.
    let sizes = stored
        .iter()
        .filter(|path| fs::metadata(path).unwrap().len() > 16 << 10);
    assert!(sizes.count() <= 2, "{stored:?}");
    (part, done.err)
}

// [REG-040] [REG-041] [REG-042]
#[test]
fn first_pull_fetches_the_compressed_component_and_an_update_the_patch() {
    for server in Server::both() {
        let user = User::new();
        let mut releases = Vec::new();
        for version in ["1.0.0", "1.0.1"] {
            let (file, component) = release(&user, 1 << 20, version);
            user.qyv(&["push", &file, &server.name(&format!("app:{version}"))])
                .expect(0);
            releases.push(component);
        }
        let proxy = ThrottlingProxy::new(&server, false);
        proxy.left.store(u64::MAX, SeqCst);
        let name = |version: &str| format!("{}/app:{version}", proxy.address);
        let fetched = || proxy.passed.swap(0, SeqCst);
        let raw = releases[0].len() as u64;

        let host = User::new();
        let (part, _) = pulled(&host, &name("1.0.0"), &releases[0]);
        assert_eq!(part["encoding"], "zstd");
        let bytes = part["fetched"].as_u64().unwrap();
        assert!(bytes < raw * 2 / 3, "{bytes} of {raw}");
        let all = fetched();
        assert!(bytes < all && all < bytes + (64 << 10), "{bytes} of {all}");

        let (part, _) = pulled(&host, &name("1.0.1"), &releases[1]);
        assert_eq!(part["encoding"], "zstd-patch");
        assert_eq!(part["base"], Digest::of(&releases[0]).to_string());
        assert!(part["fetched"].as_u64().unwrap() < 4 << 10, "{part}");
        let all = fetched();
        assert!(all < 24 << 10, "{all}");

        // Nothing is fetched for what is there.
        let again = host.qyv(&["pull", &name("1.0.1"), "--format", "json"]).expect(0);
        assert_eq!(component_part(&again.json())["fetched"], 0);
        fetched();

        // A host without the base, and one whose pull a run begins.
        let (part, _) = pulled(&User::new(), &name("1.0.1"), &releases[1]);
        assert_eq!(part["encoding"], "zstd");
        fetched();
        let pem = user.qyv(&["keys", "export", "default"]).expect(0).out;
        let host = User::new();
        host.write("key.pem", pem);
        let run = [
            "run",
            "--key",
            "key.pem",
            "--pull",
            "always",
            &name("1.0.1"),
            "exit",
            "0",
        ];
        host.qyv(&run).expect(0);
        let all = fetched();
        assert!(all < raw * 2 / 3 + (64 << 10), "{all} of {raw}");
    }
}

// [REG-040]
#[test]
fn representations_are_published_once_and_not_where_they_are_not_wanted() {
    let server = Server::hub(&[]);
    let user = User::new();
    let (old, _) = release(&user, 256 << 10, "1.0.0");
    let (new, component) = release(&user, 256 << 10, "1.0.1");
    let encodings = |repository: &str| {
        let image = subject_of(&user, &server, repository, &new);
        let path = format!("/v2/{repository}/referrers/{image}");
        let (_, _, list) = send(&server, "GET", &path, "application/vnd.oci.image.index.v1+json", b"");
        let list: Value = serde_json::from_slice(&list).unwrap();
        let list = list["manifests"].as_array().unwrap();
        let claims = list
            .iter()
            .filter(|entry| entry["artifactType"] == media_type::ENCODINGS);
        claims.count()
    };
    user.qyv(&["push", &new, &server.name("none:1"), "--no-encodings"])
        .expect(0);
    assert_eq!(encodings("none"), 0);
    let (part, _) = pulled(&User::new(), &server.name("none:1"), &component);
    assert_eq!(part["encoding"], Value::Null);
    assert_eq!(part["fetched"], component.len());
    // The same representations are the same artifact, whoever makes them.
    for _ in 0..2 {
        user.qyv(&["push", &new, &server.name("some:1")]).expect(0);
        user.qyv(&["push", &new, &server.name("some:1"), "--patch-from", &old])
            .expect(0);
        assert_eq!(encodings("some"), 1);
    }
    user.qyv(&["push", &new, &server.name("some:1"), "--patch-from", "absent:1"])
        .expect(1);
    user.qyv(&[
        "push",
        &new,
        &server.name("x:1"),
        "--no-encodings",
        "--patch-from",
        &old,
    ])
    .expect(2);
}

fn subject_of(user: &User, server: &Server, repository: &str, file: &str) -> String {
    subject(user, server, repository, file)["digest"]
        .as_str()
        .unwrap()
        .to_string()
}

/// What somebody who may push adds to an image.
struct Attacker<'a> {
    server: &'a Server,
    repository: &'a str,
    subject: Value,
}

impl Attacker<'_> {
    /// An artifact of this list, with these blobs.
    fn publish(&self, list: &[u8], blobs: &[&[u8]]) {
        let mut layer = push_blob(self.server, self.repository, list);
        layer["mediaType"] = media_type::ENCODINGS.into();
        let mut layers = vec![layer];
        for blob in blobs {
            let mut layer = push_blob(self.server, self.repository, blob);
            layer["mediaType"] = media_type::ENCODED.into();
            layers.push(layer);
        }
        push_blob(self.server, self.repository, b"{}");
        let mut subject = self.subject.clone();
        subject["mediaType"] = MANIFEST.into();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": media_type::ENCODINGS,
            "config": { "mediaType": media_type::EMPTY, "digest": Digest::of(b"{}"), "size": 2 },
            "layers": layers,
            "subject": subject,
        })
        .to_string();
        let path = format!("/v2/{}/manifests/{}", self.repository, Digest::of(manifest.as_bytes()));
        assert_eq!(send(self.server, "PUT", &path, MANIFEST, manifest.as_bytes()).0, 201);
    }
}

fn encoded(target: &[u8], base: Option<&[u8]>) -> (Representation, Vec<u8>) {
    let effort = Effort {
        level: 3,
        largest: u64::MAX,
        memory: 1 << 30,
        proceed: &|| true,
    };
    let base = base.map(|bytes| Base::read(bytes, Blob::of(bytes)).unwrap());
    let mut bytes = Vec::new();
    let made = encode(target, Blob::of(target), base.as_ref(), &effort, &mut bytes).unwrap();
    (made, bytes)
}

fn entry(target: Blob, base: Option<Blob>, blob: Blob) -> Value {
    let mut entry = json!({ "target": target, "encoding": "zstd", "blob": blob });
    if let Some(base) = base {
        entry["encoding"] = "zstd-patch".into();
        entry["base"] = json!(base);
    }
    entry
}

fn list(entries: &[Value]) -> Vec<u8> {
    json!({ "schema": 1, "encodings": entries }).to_string().into_bytes()
}

/// What a list claims, the list, its blobs, and what `--verbose` must say.
type Claim<'a> = (&'a str, Vec<u8>, Vec<&'a [u8]>, &'a str);

// [REG-043] [ENC-040]
#[test]
fn pull_succeeds_by_the_component_itself_whatever_a_list_claims() {
    let server = Server::hub(&[]);
    let user = User::new();
    let (old_file, old) = release(&user, 256 << 10, "1.0.0");
    let (file, component) = release(&user, 256 << 10, "1.0.1");
    user.qyv(&["push", &old_file, &server.name("old:1")]).expect(0);
    let target = Blob::of(&component);
    let zeros = vec![0; component.len()];
    let (_, bomb) = encoded(&zeros, None);
    let (_, other_patch) = encoded(&zeros, Some(&old));
    let (_, good) = encoded(&component, None);
    let (_, patch) = encoded(&component, Some(&old));
    let other_base = Blob {
        size: Blob::of(&old).size,
        digest: Digest::of(b"other"),
    };
    let flipped: Vec<u8> = patch
        .iter()
        .enumerate()
        .map(|(at, b)| if at == patch.len() / 2 { b ^ 1 } else { *b })
        .collect();
    let sized = |blob: Blob, size| Blob { size, ..blob };
    let garbage = vec![7; 4096];
    let absent = Blob::of(b"nobody has this");
    let old_blob = Blob::of(&old);
    let used = |entry: Value| list(&[entry]);
    let fails = "fetched itself";
    let refused = "is not used";
    let unnoticed = "";
    let thousand: Vec<Value> = (0..1000).map(|_| entry(target, None, Blob::of(&bomb))).collect();
    let cases: Vec<Claim<'_>> = vec![
        (
            "other content",
            used(entry(target, None, Blob::of(&bomb))),
            vec![&bomb],
            fails,
        ),
        (
            "other patch",
            used(entry(target, Some(old_blob), Blob::of(&other_patch))),
            vec![&other_patch],
            fails,
        ),
        (
            "flipped bit",
            used(entry(target, Some(old_blob), Blob::of(&flipped))),
            vec![&flipped],
            fails,
        ),
        (
            "garbage",
            used(entry(target, None, Blob::of(&garbage))),
            vec![&garbage],
            fails,
        ),
        ("absent blob", used(entry(target, None, absent)), vec![], fails),
        (
            "smaller than said",
            used(entry(target, None, sized(Blob::of(&good), 100_000))),
            vec![&good],
            fails,
        ),
        (
            "larger than said",
            used(entry(target, None, sized(Blob::of(&good), 10))),
            vec![&good],
            fails,
        ),
        (
            "other target size",
            used(entry(sized(target, target.size + 1), None, Blob::of(&bomb))),
            vec![&bomb],
            unnoticed,
        ),
        (
            "base that is absent",
            used(entry(target, Some(other_base), Blob::of(&patch))),
            vec![&patch],
            unnoticed,
        ),
        ("thousand entries", list(&thousand), vec![&bomb], refused),
        ("no list", garbage.clone(), vec![], refused),
        ("endless list", vec![b' '; 300 << 10], vec![], refused),
    ];
    for (number, (case, list, blobs, said)) in cases.into_iter().enumerate() {
        let repository = format!("hostile{number}");
        let name = server.name(&format!("{repository}:1"));
        user.qyv(&["push", &file, &name, "--no-encodings"]).expect(0);
        let attacker = Attacker {
            server: &server,
            repository: &repository,
            subject: subject(&user, &server, &repository, &file),
        };
        attacker.publish(&list, &blobs);
        let host = User::new();
        host.qyv(&["pull", &server.name("old:1")]).expect(0);
        let (part, err) = pulled(&host, &name, &component);
        assert_eq!(part["encoding"], Value::Null, "{case}");
        assert!(part["fetched"].as_u64().unwrap() >= target.size, "{case}: {part}");
        assert!(err.contains(said), "{case}: {err}");
        host.qyv(&["inspect", &name]).expect(0);
    }
}

// [REG-043]
#[test]
fn base_that_changed_on_disk_is_not_used() {
    let server = Server::hub(&[]);
    let user = User::new();
    let (old_file, old) = release(&user, 256 << 10, "1.0.0");
    let (file, component) = release(&user, 256 << 10, "1.0.1");
    let (old_name, name) = (server.name("app:1.0.0"), server.name("app:1.0.1"));
    user.qyv(&["push", &old_file, &old_name]).expect(0);
    user.qyv(&["push", &file, &name]).expect(0);
    let host = User::new();
    host.qyv(&["pull", &old_name]).expect(0);
    let digest = Digest::of(&old).to_string();
    let stored = host.stored();
    let hex = digest.trim_start_matches("sha256:");
    let blob = stored.iter().find(|path| path.ends_with(hex)).unwrap();
    let mut damaged = old;
    damaged[70_000] ^= 1;
    fs::remove_file(blob).unwrap();
    fs::write(blob, damaged).unwrap();
    let done = host.qyv(&["pull", &name, "--format", "json", "--verbose"]).expect(0);
    let part = component_part(&done.json());
    assert_eq!(part["encoding"], Value::Null);
    assert_eq!(part["digest"], Digest::of(&component).to_string());
    assert!(done.err.contains("base of a patch is"), "{}", done.err);
}

// [REG-044]
#[test]
fn pull_that_is_killed_resumes_the_representation() {
    let server = Server::hub(&[]);
    let user = User::new();
    let (file, component) = release(&user, 12 << 20, "1.0.0");
    user.qyv(&["push", &file, &server.name("app:1")]).expect(0);
    let proxy = ThrottlingProxy::new(&server, true);
    let name = format!("{}/app:1", proxy.address);
    let host = User::new();
    proxy.left.store(4 << 20, SeqCst);
    let mut command = host.command();
    let mut child = command.args(["pull", &name]).stderr(Stdio::null()).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(300);
    while partial(&host) < 7 << 19 {
        assert!(Instant::now() < end, "{} bytes came", partial(&host));
        thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    host.qyv(&["check"]).expect(0);
    proxy.left.store(u64::MAX, SeqCst);
    proxy.passed.store(0, SeqCst);
    let (part, _) = pulled(&host, &name, &component);
    assert_eq!(part["encoding"], "zstd");
    let again = proxy.passed.load(SeqCst);
    assert!(again < 4 << 20, "{again} bytes again");
}

// [REG-040] [REG-045]
#[test]
fn representations_go_along_with_a_copy_and_other_tools_see_an_ordinary_image() {
    for (from, to) in Server::both().into_iter().zip(Server::both().into_iter().rev()) {
        let user = User::new();
        let (file, component) = release(&user, 256 << 10, "1.0.0");
        user.qyv(&["push", &file, &from.name("app:1")]).expect(0);
        user.qyv(&["copy", &from.name("app:1"), &to.name("other/app:1")])
            .expect(0);
        let (part, _) = pulled(&User::new(), &to.name("other/app:1"), &component);
        assert_eq!(part["encoding"], "zstd");
        if lacks(&["skopeo"]) {
            continue;
        }
        let mut command = Command::new("skopeo");
        let layout = format!("oci:{}:x", user.path("layout").display());
        let there = format!("docker://{}", from.name("app:1"));
        let options = ["copy", "--quiet", "--insecure-policy", "--src-tls-verify=false"];
        command.args(options).args([&there, &layout]);
        command.env("TMPDIR", user.path("")).env("HOME", user.path(""));
        third_party("skopeo", &mut command).expect(0);
        let blob = format!("layout/blobs/sha256/{}", &Digest::of(&component).to_string()[7..]);
        assert!(fs::read(user.path(&blob)).unwrap() == component);
    }
}
