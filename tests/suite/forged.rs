//! Files that are whole and canonical, and yet lie: what only the policy, the
//! statement and the config checked against one another can find.

use std::fs;

use qyvol::image::{Archive, Head, ImageSignature, SignedImage, write_archive};
use qyvol::store::{Body, Fetch, NoopReporter, StoreError};
use qyvol::trust::{Envelope, PREDICATE_TYPE, PrivateKey, Statement};
use qyvol::types::{Descriptor, Digest, ImageConfig, ImageManifest, Timestamp, media_type};

use crate::support::User;

/// A user with an application that has an asset, and the key it is signed by.
struct Forger {
    user: User,
    archive: Archive,
    key: PrivateKey,
}

impl Forger {
    fn new() -> Forger {
        let user = User::new();
        user.write("app/a.txt", "asset");
        let app = user.built("app", "assets: [a.txt]\n");
        let archive = Archive::open(&user.path(&app)).unwrap();
        let pem = ["keys", "export", "default", "--private", "--unencrypted"];
        let key = PrivateKey::from_pem(&user.qyv(&pem).expect(0).out).unwrap();
        Forger { user, archive, key }
    }

    fn image(&self) -> SignedImage {
        self.archive.images()[0].clone()
    }

    fn statement(&self, image: &SignedImage) -> Statement {
        Statement {
            subject: image.manifest.digest(),
            name: "app".to_string(),
            version: "1.0.0".to_string(),
            role: "release".to_string(),
            sequence: 1,
            created: Timestamp::EPOCH,
            expires: None,
            critical: Vec::new(),
        }
    }

    /// The image with one signature over what `change` makes of the statement.
    fn signed(&self, mut image: SignedImage, change: impl FnOnce(&mut Statement)) -> SignedImage {
        let mut statement = self.statement(&image);
        change(&mut statement);
        let envelope = Envelope::sign(&self.key, &statement).unwrap();
        image.signatures = vec![self.wrap(&image, envelope.bytes().to_vec())];
        image
    }

    fn wrap(&self, image: &SignedImage, bundle: Vec<u8>) -> ImageSignature {
        ImageSignature::new(&image.descriptor(), PREDICATE_TYPE, bundle).unwrap()
    }

    /// The image with another config, under a manifest that names it.
    fn configured(&self, config: Vec<u8>) -> SignedImage {
        let mut image = self.image();
        let descriptor = Descriptor::of(media_type::WASM_CONFIG, &config);
        image.manifest = ImageManifest::image(descriptor, image.manifest.layers().to_vec()).unwrap();
        image.config = config;
        image.signatures.clear();
        image
    }

    fn config(&self, change: impl FnOnce(&mut ImageConfig)) -> SignedImage {
        let mut config = ImageConfig::parse(&self.image().config).unwrap();
        change(&mut config);
        self.configured(config.encode().unwrap())
    }

    /// Another user who trusts the key, has nothing else, and got the file.
    fn handed(&self, image: SignedImage) -> User {
        let other = User::new();
        fs::create_dir_all(other.home()).unwrap();
        fs::copy(self.user.home().join("trust.yaml"), other.home().join("trust.yaml")).unwrap();
        let mut file = Vec::new();
        let head = Head::new(vec![image]).unwrap();
        write_archive(&head, &Content(&self.archive), &mut file, &NoopReporter).unwrap();
        other.write("forged.qyvbin", file);
        other
    }

    /// Tries every verb on the file.
    #[track_caller]
    fn assert_verdicts(&self, image: SignedImage, verify: i32, run: i32) -> crate::support::CommandOutput {
        let other = self.handed(image);
        let done = other.qyv(&["run", "forged.qyvbin", "--", "exit", "0"]).expect(run);
        if run != 0 {
            other.qyv(&["load", "forged.qyvbin"]);
            assert!(other.stored().is_empty(), "{:?}\n{}", other.stored(), done.err);
        }
        other.qyv(&["verify", "forged.qyvbin"]).expect(verify)
    }
}

/// The archive's content, readable from several threads.
struct Content<'a>(&'a Archive);

impl Fetch for Content<'_> {
    fn fetch_unverified(&self, descriptor: &Descriptor) -> Result<Body, StoreError> {
        self.0.fetch_unverified(descriptor)
    }
}

fn edited(bundle: &[u8], change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let mut value = serde_json::from_slice(bundle).unwrap();
    change(&mut value);
    serde_json::to_vec(&value).unwrap()
}

fn junk(f: &Forger, image: &SignedImage, n: usize) -> Vec<ImageSignature> {
    let junk = |i: usize| f.wrap(image, format!(r#"{{"junk":{i}}}"#).into_bytes());
    (0..n).map(junk).collect()
}

// [SIGN-021]
#[test]
fn altered_signature_is_distinguished_from_a_missing_one() {
    let f = Forger::new();
    let mut image = f.image();
    let bundle = edited(&image.signatures[0].bundle, |bundle| {
        let sig = &mut bundle["dsseEnvelope"]["signatures"][0]["sig"];
        let text = sig.as_str().unwrap();
        let first = if text.starts_with('A') { "B" } else { "A" };
        *sig = format!("{first}{}", &text[1..]).into();
    });
    image.signatures = vec![f.wrap(&image, bundle)];
    f.assert_verdicts(image, 12, 126);
}

#[test]
fn signature_of_another_image_does_not_vouch_for_this_one() {
    let f = Forger::new();
    let other = f.config(|config| config.created = Timestamp::from_unix(1).unwrap());
    let theirs = f.image().signatures[0].bundle.clone();
    let mut image = other;
    image.signatures = vec![f.wrap(&image, theirs)];
    let done = f.assert_verdicts(image, 12, 126);
    assert!(done.err.contains("another image"), "{}", done.err);
}

#[test]
fn statement_for_another_name_or_version_is_an_identity_mismatch() {
    let f = Forger::new();
    f.assert_verdicts(f.signed(f.image(), |_| ()), 0, 0);
    f.assert_verdicts(f.signed(f.image(), |s| s.name = "other".into()), 18, 126);
    f.assert_verdicts(f.signed(f.image(), |s| s.version = "1.0.1".into()), 18, 126);
}

#[test]
fn one_good_signature_among_junk_is_found_and_the_junk_reported() {
    let f = Forger::new();
    let mut image = f.image();
    image.signatures.extend(junk(&f, &f.image(), 100));
    let done = f.assert_verdicts(image, 0, 0);
    assert_eq!(done.err.matches("signature: malformed").count(), 100, "{}", done.err);
    assert_eq!(done.err.matches("signature: good").count(), 1, "{}", done.err);
    let mut image = f.image();
    image.signatures = junk(&f, &f.image(), 65);
    f.assert_verdicts(image, 16, 126);
}

/// Signatures that name the key and were not made by it.
fn imitations(f: &Forger, from: usize, n: usize) -> Vec<ImageSignature> {
    let image = f.image();
    let bundle = &image.signatures[0].bundle;
    let imitate = |i: usize| {
        let sig = format!("{i:086}==").replace('0', "A");
        edited(bundle, |bundle| {
            bundle["dsseEnvelope"]["signatures"][0]["sig"] = sig.into()
        })
    };
    (from..from + n).map(|i| f.wrap(&image, imitate(i))).collect()
}

// [STORE-027]
#[test]
fn junk_of_many_loads_does_not_crowd_out_a_good_signature() {
    let f = Forger::new();
    let other = f.handed(f.image());
    fs::copy(other.path("forged.qyvbin"), other.path("good.qyvbin")).unwrap();
    let signatures = |target: &str| {
        let shown = other.qyv(&["inspect", target, "--format", "json"]).expect(0).json();
        shown["signatures"].as_array().unwrap().len()
    };
    for round in 1..=12 {
        let mut image = f.image();
        image.signatures = imitations(&f, round * 1000, 100);
        let mut file = Vec::new();
        let head = Head::new(vec![image]).unwrap();
        write_archive(&head, &Content(&f.archive), &mut file, &NoopReporter).unwrap();
        other.write("forged.qyvbin", file);
        other.qyv(&["load", "--no-verify", "forged.qyvbin"]).expect(0);
    }
    assert_eq!(signatures("app:1.0.0"), 128);
    other.qyv(&["verify", "app:1.0.0"]).expect(12);
    other.qyv(&["load", "good.qyvbin"]).expect(0);
    other.qyv(&["verify", "app:1.0.0"]).expect(0);

    let listed = other.qyv(&["clean", "--dry-run", "app:1.0.0"]).expect(0);
    assert_eq!(listed.out.lines().count(), 128);
    assert_eq!(signatures("app:1.0.0"), 129);
    assert_eq!(other.qyv(&["clean", "app:1.0.0"]).expect(0).out, listed.out);
    assert_eq!(signatures("app:1.0.0"), 1);
    other.qyv(&["verify", "app:1.0.0"]).expect(0);

    assert_eq!(signatures("./forged.qyvbin"), 100);
    let refused = other.qyv(&["clean", "./forged.qyvbin"]).expect(2);
    assert!(refused.err.contains("none would remain"), "{}", refused.err);
    assert_eq!(signatures("./forged.qyvbin"), 100);
    let stranger = User::new();
    stranger
        .qyv(&["clean", "--all", other.path("forged.qyvbin").to_str().unwrap()])
        .expect(2);
    other.qyv(&["clean", "--all", "./forged.qyvbin"]).expect(0);
    assert_eq!(signatures("./forged.qyvbin"), 0);
    other.qyv(&["verify", "./forged.qyvbin"]).expect(10);
}

#[test]
fn clean_spares_signatures_by_keys_of_the_keyring() {
    let user = User::new();
    let file = user.built("app", "");
    user.qyv(&["keys", "generate", "release"]).expect(0);
    user.qyv(&["sign", &file, "--key", "release"]).expect(0);
    assert_eq!(user.qyv(&["clean", &file]).expect(0).out, "");
    // By its private half elsewhere, and not in the policy: a stranger's.
    user.qyv(&["keys", "rm", "release", "--yes"]).expect(0);
    let removed = user.qyv(&["clean", &file]).expect(0).out;
    assert!(
        removed.lines().count() == 1 && removed.contains(" SHA256:"),
        "{removed}"
    );
    user.qyv(&["verify", &file]).expect(0);
}

/// Bundles of one signature, in many forms.
fn variants(f: &Forger, signature: &ImageSignature, n: usize) -> Vec<ImageSignature> {
    let image = f.image();
    let variant = |i: usize| edited(&signature.bundle, |bundle| bundle["more"] = i.into());
    (0..n).map(|i| f.wrap(&image, variant(i))).collect()
}

// [STORE-027]
#[test]
fn one_signature_in_many_forms_does_not_crowd_out_another_keys() {
    let f = Forger::new();
    let release = f.image();
    f.user.qyv(&["keys", "generate", "approver"]).expect(0);
    f.user
        .qyv(&["trust", "add", "file:", "--key", "approver", "--role", "approve"])
        .expect(0);
    f.user
        .qyv(&["sign", "app.qyvbin", "--key", "approver", "--role", "approve"])
        .expect(0);
    let other = f.handed(release.clone());
    fs::copy(f.user.path("app.qyvbin"), other.path("good.qyvbin")).unwrap();
    for round in 0..12 {
        let mut image = release.clone();
        image.signatures = variants(&f, &release.signatures[0], 100 * (round + 1)).split_off(100 * round);
        let mut file = Vec::new();
        let head = Head::new(vec![image]).unwrap();
        write_archive(&head, &Content(&f.archive), &mut file, &NoopReporter).unwrap();
        other.write("forged.qyvbin", file);
        other.qyv(&["load", "--no-verify", "forged.qyvbin"]).expect(0);
    }
    let shown = other
        .qyv(&["inspect", "app:1.0.0", "--format", "json"])
        .expect(0)
        .json();
    assert_eq!(shown["signatures"].as_array().unwrap().len(), 1);
    other.qyv(&["load", "good.qyvbin"]).expect(0);
    other.qyv(&["verify", "app:1.0.0"]).expect(0);
    // Whoever has them in a file gets rid of the repeats, and of nothing else.
    assert_eq!(
        other.qyv(&["clean", "./forged.qyvbin"]).expect(0).out.lines().count(),
        99
    );
    assert_eq!(other.qyv(&["clean", "./good.qyvbin"]).expect(0).out, "");
}

// [BIN-041]
#[test]
fn config_that_disagrees_with_its_manifest_or_name_is_refused_though_signed() {
    let f = Forger::new();
    let sign = |image| f.signed(image, |_| ());
    f.assert_verdicts(sign(f.config(|_| ())), 0, 0);
    f.assert_verdicts(sign(f.config(|c| c.layer_digests.reverse())), 16, 126);
    f.assert_verdicts(sign(f.config(|c| c.layer_digests.truncate(1))), 16, 126);
    f.assert_verdicts(sign(f.config(|c| c.layer_digests[0] = Digest::of(b"x"))), 16, 126);
    f.assert_verdicts(sign(f.config(|c| c.qyv.assets = None)), 16, 126);
    // The file calls itself app:1.0.0, its config app:2.0.0: a signature is held
    // against the config, and the file's name after that.
    let other = |version: &'static str| {
        let image = f.config(|c| c.qyv.app.version = "2.0.0".into());
        f.signed(image, move |s| s.version = version.into())
    };
    f.assert_verdicts(other("1.0.0"), 18, 126);
    f.assert_verdicts(other("2.0.0"), 16, 126);
    for text in ["", "{}", "null", r#"{"qyv":{},"qyv":{}}"#, "\u{feff}{}"] {
        f.assert_verdicts(sign(f.configured(text.into())), 16, 126);
    }
    // A component's config on a module, and the other way.
    f.assert_verdicts(sign(f.config(|c| c.os = qyvol::types::Os::Wasip2)), 16, 126);
    let text = String::from_utf8(f.image().config).unwrap();
    let unknown = text.replacen(r#""version":1,"app""#, r#""version":1,"limits":{},"app""#, 1);
    assert_ne!(unknown, text, "the unknown key is in");
    f.assert_verdicts(sign(f.configured(unknown.into())), 16, 126);
}

// [BIN-053]
#[test]
fn assets_other_than_the_signed_promise_are_not_unpacked() {
    let f = Forger::new();
    let promise = |change: fn(&mut qyvol::types::AssetsConfig)| {
        let image = f.config(|c| change(c.qyv.assets.as_mut().unwrap()));
        // The layer's own digest is right, so only unpacking can find the lie.
        let other = f.handed(f.signed(image, |_| ()));
        let done = other.qyv(&["run", "forged.qyvbin", "--", "exit", "0"]).expect(126);
        let trees = other.home().join("store/v1/trees");
        let stored = other.stored();
        assert!(
            stored.iter().all(|p| !p.starts_with(&trees)),
            "{}: {stored:?}",
            done.err
        );
    };
    promise(|a| a.diff_id = Digest::of(b"x"));
    promise(|a| a.files = 2);
    promise(|a| a.files = 0);
    promise(|a| a.bytes = 6);
    promise(|a| a.bytes = 4);
}

// [CMD-020]
#[test]
fn forged_config_cannot_inject_output() {
    let forger = Forger::new();
    let config = String::from_utf8(forger.image().config).unwrap();
    let lie = r#""qyv":{"\u001b[2K\rx\nforged.qyvbin: accepted app:1.0.0":1,"#;
    let image = forger.configured(config.replacen("\"qyv\":{", lie, 1).into_bytes());
    let other = forger.handed(forger.signed(image, |_| ()));
    for args in [
        &["verify", "forged.qyvbin"][..],
        &["inspect", "forged.qyvbin"],
        &["load", "forged.qyvbin"],
        &["run", "forged.qyvbin"],
        &["push", "forged.qyvbin", "127.0.0.1:9/app:1"],
    ] {
        let done = other.qyv(args);
        assert_ne!(done.code, 0, "{args:?}");
        for text in [&done.out, &done.err] {
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{args:?}: {text:?}");
            let lines = text.lines().filter(|l| l.starts_with("forged.qyvbin: accepted"));
            assert_eq!(lines.count(), 0, "{args:?}: {text:?}");
        }
        if args[0] != "push" {
            assert!(done.err.contains("\\u{1b}[2K"), "{args:?}: {:?}", done.err);
        }
    }
}

// MAN-044
#[test]
fn permission_of_a_newer_version_only_keeps_an_image_from_running() {
    let forger = Forger::new();
    for (name, value) in [
        ("clipboard", "true"),
        ("net", "{\"relay\":[\"a.example:443\"]}"),
        ("fs", "\"all\""),
    ] {
        let image = forger.config(|config| {
            let value = serde_json::from_str(value).unwrap();
            config.qyv.app.permissions.request(name, value);
        });
        let host = forger.handed(forger.signed(image, |_| {}));
        host.qyv(&["verify", "forged.qyvbin"]).expect(0);
        let shown = host.qyv(&["inspect", "forged.qyvbin"]).expect(0);
        assert!(shown.out.contains("is not known to this version"), "{}", shown.out);
        host.qyv(&["load", "forged.qyvbin"]).expect(0);
        for target in ["forged.qyvbin", "app:1.0.0"] {
            let refused = host.qyv(&["run", target, "--", "exit", "0"]).expect(125);
            assert!(
                refused.err.contains(&format!("asks for the permission `{name}")),
                "{}",
                refused.err
            );
        }
    }
    // What could paint a terminal is escaped in every form.
    let image = forger.config(|config| {
        let name = "paint\u{202e}\u{1b}[31m";
        config.qyv.app.permissions.request(name, true.into());
    });
    let host = forger.handed(forger.signed(image, |_| {}));
    for format in ["text", "json", "yaml"] {
        let shown = host.qyv(&["inspect", "forged.qyvbin", "--format", format]).expect(0);
        assert!(!shown.out.contains(['\u{202e}', '\u{1b}']), "{format}: {:?}", shown.out);
    }
    // What it says that it does not ask for changes nothing.
    let image = forger.config(|config| {
        let written = serde_json::from_str("{\"clipboard\":false,\"net\":false,\"fs\":\"none\"}");
        config.qyv.app.permissions = written.unwrap();
    });
    forger.assert_verdicts(forger.signed(image, |_| {}), 0, 0);
}
