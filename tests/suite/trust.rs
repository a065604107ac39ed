//! The policy's verdicts, as exit codes.

use std::fs;
use std::process::Command;

use crate::needs::{installed, lacks};
use crate::support::{User, third_party};

/// A user with named keys and one built application.
struct Signed {
    user: User,
    app: String,
}

impl Signed {
    fn new(keys: &[&str]) -> Signed {
        let user = User::new();
        let app = user.built("app", "");
        for key in keys {
            user.qyv(&["keys", "generate", key]).expect(0);
        }
        Signed { user, app }
    }

    fn pem(&self, key: &str) -> String {
        let pem = self.user.qyv(&["keys", "export", key]).expect(0).out;
        pem.lines().map(|l| format!("      {l}\n")).collect()
    }

    /// Writes a policy over `keys`; `more` stands in the keys' entries, `rule`
    /// is the rule for files.
    fn policy(&self, keys: &[(&str, &str)], revoked: &str, rule: &str) {
        let mut text = "version: 1\nkeys:\n".to_string();
        for (key, more) in keys {
            text += &format!("  {key}:\n    pem: |\n{}{more}", self.pem(key));
        }
        text += &format!("revoked: {revoked}\nrules:\n  - scope: \"file:\"\n{rule}");
        self.write_policy(&text);
    }

    fn write_policy(&self, text: &str) {
        fs::write(self.user.home().join("trust.yaml"), text).unwrap();
    }

    #[track_caller]
    fn verdict(&self, code: i32) -> crate::support::CommandOutput {
        self.user.qyv(&["verify", &self.app, "--format", "json"]).expect(code)
    }
}

// [SIGN-046]
#[test]
fn policy_is_tried_on_the_stores_images_before_it_is_in_force() {
    let s = Signed::new(&["ana"]);
    s.user.qyv(&["sign", &s.app, "--expires", "2100-01-01"]).expect(0);
    s.user.qyv(&["load", &s.app]).expect(0);
    let home = s.user.home().join("trust.yaml");
    s.policy(&[("default", "    until: 2090-01-01\n")], NONE, ONE);
    let before = fs::read_to_string(&home).unwrap();
    let check = |args: &[&str], code: i32| {
        let all = [&["trust", "check", "--all", "--format", "json"], args].concat();
        let checked = s.user.qyv(&all).expect(code);
        let rows = checked.json()["results"].as_array().unwrap().clone();
        rows.iter()
            .map(|row| {
                let word = |key: &str| row[key].as_str().unwrap().to_string();
                (
                    word("name"),
                    word("verdict"),
                    row["code"].as_u64().unwrap(),
                    word("now"),
                )
            })
            .collect::<Vec<_>>()
    };
    let row = |verdict: &str, code: u64, now: &str| {
        vec![("app:1.0.0".to_string(), verdict.to_string(), code, now.to_string())]
    };
    assert_eq!(check(&[], 0), row("accepted", 0, "accepted"));
    // At another time.
    assert_eq!(
        check(&["--at", "2089-12-31T23:59:59Z"], 0),
        row("accepted", 0, "accepted")
    );
    assert_eq!(check(&["--at", "2090-01-01"], 14), row("refused", 14, "accepted"));
    // By another policy, which is not put into force.
    s.policy(&[("ana", "")], NONE, "    require: [{ role: release, keys: [ana] }]\n");
    fs::rename(&home, s.user.path("new.yaml")).unwrap();
    fs::write(&home, &before).unwrap();
    assert_eq!(check(&["new.yaml"], 11), row("refused", 11, "accepted"));
    assert_eq!(check(&["--policy", "new.yaml"], 11), row("refused", 11, "accepted"));
    assert_eq!(fs::read_to_string(&home).unwrap(), before);
    // What is refused already is nothing lost.
    fs::copy(s.user.path("new.yaml"), &home).unwrap();
    assert_eq!(check(&[], 0), row("refused", 11, "refused"));
    s.user.write("old.yaml", &before);
    assert_eq!(check(&["old.yaml"], 0), row("accepted", 0, "refused"));
    s.user.write("over.yaml", format!("expires: 2089-01-01\n{before}"));
    let all = ["trust", "check", "over.yaml", "--all", "--at"];
    s.user.qyv(&[&all[..], &["2088-01-01"]].concat()).expect(0);
    s.user.qyv(&[&all[..], &["2089-01-01"]].concat()).expect(19);
    s.user.qyv(&[&all[..], &["tomorrow"]].concat()).expect(2);
    s.user.qyv(&["trust", "check", "--at", "2089-01-01"]).expect(2);
}

const NONE: &str = "{ keys: [], images: [] }";
const ONE: &str = "    require: [{ role: release, keys: [default], threshold: 1 }]\n";

// [SIGN-014] [SIGN-021] [SIGN-025] [SIGN-030]
#[test]
fn each_refusal_has_its_exit_code() {
    let s = Signed::new(&["ana", "luis"]);
    s.verdict(0);
    // 10: nobody signed.
    s.user
        .qyv(&["build", "app", "-o", "bare.qyvbin", "--no-sign"])
        .expect(0);
    s.user.qyv(&["verify", "bare.qyvbin"]).expect(10);
    s.user.qyv(&["run", "bare.qyvbin"]).expect(126);
    // 11: another key, and no rule at all.
    s.policy(&[("ana", "")], NONE, "    require: [{ role: release, keys: [ana] }]\n");
    s.verdict(11);
    s.write_policy("version: 1\n");
    s.verdict(11);
    // 13: two are needed, one signed; the wrong role.
    s.policy(
        &[("default", ""), ("ana", "")],
        NONE,
        "    require: [{ role: release, keys: [default, ana], threshold: 2 }]\n",
    );
    s.verdict(13);
    s.policy(
        &[("default", "")],
        NONE,
        "    require: [{ role: approve, keys: [default] }]\n",
    );
    s.verdict(13);
    // 14: a key out of its time, revoked by name and by fingerprint, an image
    // revoked, a signature too old or over.
    s.policy(&[("default", "    until: 2020-01-01\n")], NONE, ONE);
    s.verdict(14);
    s.policy(&[("default", "    from: 9000-01-01\n")], NONE, ONE);
    s.verdict(14);
    s.policy(&[("default", "")], "{ keys: [default], images: [] }", ONE);
    s.verdict(14);
    let digest = s.user.qyv(&["inspect", &s.app, "--format", "json"]).expect(0).json()["digest"]
        .as_str()
        .unwrap()
        .to_string();
    s.policy(
        &[("default", "")],
        &format!("{{ keys: [], images: [\"{digest}\"] }}"),
        ONE,
    );
    s.verdict(14);
    s.policy(&[("default", "")], NONE, &format!("{ONE}    max_age: 90d\n"));
    s.verdict(14);
    s.user.qyv(&["sign", &s.app]).expect(0);
    s.verdict(0);
    s.policy(&[("default", "")], NONE, ONE);
    let mut over = s.user.command();
    over.args(["build", "app", "-o", "over.qyvbin", "--expires", "2001-01-01"]);
    let output = over.env("SOURCE_DATE_EPOCH", "946684800").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    s.user.qyv(&["verify", "over.qyvbin"]).expect(14);
    // 19: the policy itself.
    for bad in [
        "version: 1\nversion: 1\n",
        "version: 2\n",
        "version: 1\nunknown: 1\n",
        "version: 1\nkeys: &a {}\n",
        "version: 1\ndefault: accept\n",
    ] {
        s.write_policy(bad);
        let done = s.user.qyv(&["verify", &s.app]).expect(19);
        assert!(done.err.contains("trust.yaml:"), "{}", done.err);
    }
    s.policy(&[("default", "")], NONE, ONE);
    let path = s.user.home().join("trust.yaml");
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o664)).unwrap();
    let done = s.user.qyv(&["verify", &s.app]).expect(19);
    assert!(done.err.contains("chmod go-w"), "{}", done.err);
}

#[test]
fn signed_image_under_another_name_or_version_is_refused() {
    let s = Signed::new(&[]);
    let pem = s.pem("default");
    s.write_policy(&format!(
        "version: 1\nkeys:\n  default:\n    pem: |\n{pem}rules:\n  - scope: r.example/**\n{ONE}    identity: exact\n"
    ));
    for (name, code) in [
        ("r.example/app:1.0.0", 0),
        ("r.example/app:2.0.0", 18),
        ("r.example/other:1.0.0", 18),
    ] {
        s.user.qyv(&["tag", "app:1.0.0", name]).expect(0);
        s.user.qyv(&["verify", name]).expect(code);
        let run = s.user.qyv(&["run", name, "exit", "5"]);
        assert_eq!(run.code, if code == 0 { 5 } else { 126 }, "{name}: {run:?}");
    }
}

// [SIGN-023]
#[test]
fn two_of_three_keys_in_every_combination_and_one_key_often() {
    let s = Signed::new(&["ana", "luis", "mei"]);
    s.user
        .qyv(&["build", "app", "-o", "bare.qyvbin", "--no-sign"])
        .expect(0);
    let rule = "    require: [{ role: approve, keys: [ana, luis, mei], threshold: 2 }]\n";
    s.policy(&[("ana", ""), ("luis", ""), ("mei", "")], NONE, rule);
    for subset in 0..8 {
        fs::copy(s.user.path("bare.qyvbin"), s.user.path("x.qyvbin")).unwrap();
        let mut signers = 0;
        for (bit, key) in ["ana", "luis", "mei"].iter().enumerate() {
            if subset >> bit & 1 == 1 {
                s.user
                    .qyv(&["sign", "x.qyvbin", "--key", key, "--role", "approve"])
                    .expect(0);
                signers += 1;
            }
        }
        let code = match signers {
            0 => 10,
            1 => 13,
            _ => 0,
        };
        s.user.qyv(&["verify", "x.qyvbin"]).expect(code);
    }
    fs::copy(s.user.path("bare.qyvbin"), s.user.path("x.qyvbin")).unwrap();
    for sequence in 1..=64 {
        s.user
            .qyv(&[
                "sign",
                "x.qyvbin",
                "--key",
                "ana",
                "--role",
                "approve",
                "--sequence",
                &sequence.to_string(),
            ])
            .expect(0);
    }
    s.user.qyv(&["verify", "x.qyvbin"]).expect(13);
}

#[test]
fn auditor_needs_only_the_file_and_a_public_key() {
    let s = Signed::new(&["other"]);
    let auditor = User::new();
    fs::copy(s.user.path(&s.app), auditor.path(&s.app)).unwrap();
    auditor.write("default.pub", s.user.qyv(&["keys", "export"]).expect(0).out);
    auditor.write("other.pub", s.user.qyv(&["keys", "export", "other"]).expect(0).out);
    auditor.qyv(&["verify", "--key", "default.pub", &s.app]).expect(0);
    auditor.qyv(&["verify", "--key", "other.pub", &s.app]).expect(11);
    auditor.qyv(&["verify", &s.app]).expect(11);
    assert_eq!(
        auditor.qyv(&["run", "--key", "default.pub", &s.app, "exit", "6"]).code,
        6
    );
    assert!(
        !auditor.home().join("trust.yaml").exists(),
        "nothing is trusted for good"
    );
}

// [SIGN-029]
#[test]
fn verify_writes_nothing_and_opens_no_socket() {
    if lacks(&["namespaces"]) {
        return;
    }
    let s = Signed::new(&[]);
    let reader = User::new();
    fs::create_dir_all(reader.home()).unwrap();
    fs::copy(s.user.home().join("trust.yaml"), reader.home().join("trust.yaml")).unwrap();
    fs::copy(s.user.path(&s.app), reader.path(&s.app)).unwrap();
    reader.qyv(&["verify", &s.app]).expect(0);
    reader.qyv(&["inspect", &s.app]).expect(0);
    assert!(!reader.home().join("store").exists());
    // In a network namespace without even a loopback.
    let mut offline = Command::new("unshare");
    offline.args(["-rn", env!("CARGO_BIN_EXE_qyv"), "run", &s.app, "exit", "9"]);
    offline
        .env_clear()
        .env("QYVOL_HOME", reader.home())
        .env("PATH", "/usr/bin:/bin")
        .current_dir(reader.path(""));
    third_party("util-linux", &mut offline).expect(9);
}

/// Takes the bundle and what it signs out of an archive.
fn bundle(s: &Signed) -> serde_json::Value {
    let layout = s.user.path("layout");
    fs::create_dir_all(&layout).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["--zstd", "-xf"])
        .arg(s.user.path(&s.app))
        .arg("-C")
        .arg(&layout);
    third_party("zstd", &mut tar).expect(0);
    for entry in fs::read_dir(layout.join("blobs/sha256")).unwrap().flatten() {
        if let Ok(value) = serde_json::from_slice::<serde_json::Value>(&fs::read(entry.path()).unwrap())
            && value.get("dsseEnvelope").is_some()
        {
            return value;
        }
    }
    panic!("no bundle in the archive");
}

fn base64(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut bits, mut n) = (0u32, 0);
    for c in text.bytes().filter(|c| *c != b'=') {
        let v = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        bits = bits << 6 | u32::from(v);
        n += 6;
        if n >= 8 {
            n -= 8;
            out.push((bits >> n) as u8);
        }
    }
    out
}

// [SIGN-012]
#[test]
fn openssl_accepts_our_signature_and_refuses_an_altered_one() {
    if lacks(&["openssl", "zstd"]) {
        return;
    }
    let s = Signed::new(&[]);
    for kind in ["ed25519", "ecdsa-p256"] {
        s.user.qyv(&["keys", "generate", kind, "--type", kind]).expect(0);
        s.user.qyv(&["build", "app", "-o", &s.app, "--key", kind]).expect(0);
        let _ = fs::remove_dir_all(s.user.path("layout"));
        let bundle = bundle(&s);
        let payload = base64(bundle["dsseEnvelope"]["payload"].as_str().unwrap());
        let sig = base64(bundle["dsseEnvelope"]["signatures"][0]["sig"].as_str().unwrap());
        let kind_type = "application/vnd.in-toto+json";
        let pae = |payload: &[u8]| {
            [
                format!("DSSEv1 {} {kind_type} {} ", kind_type.len(), payload.len()).as_bytes(),
                payload,
            ]
            .concat()
        };
        s.user.write("sig", sig);
        s.user.write("pae", pae(&payload));
        let mut altered = payload.clone();
        altered[40] ^= 1;
        s.user.write("bad", pae(&altered));
        s.user
            .write("key.pub", s.user.qyv(&["keys", "export", kind]).expect(0).out);
        let check = |input: &str| {
            let mut openssl = Command::new("openssl");
            openssl
                .args([
                    "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", "key.pub", "-sigfile", "sig", "-in", input,
                ])
                .current_dir(s.user.path(""));
            if kind != "ed25519" {
                openssl.args(["-digest", "sha256"]);
            }
            third_party("openssl", &mut openssl).code
        };
        assert_eq!(check("pae"), 0, "{kind}");
        assert_ne!(check("bad"), 0, "{kind}");
    }
}

// [SIGN-013]
#[test]
fn sigstores_own_library_accepts_our_bundle_and_refuses_an_altered_one() {
    if lacks(&["node", "sigstore-verify", "zstd"]) {
        return;
    }
    let s = Signed::new(&[]);
    let work = installed("sigstore-verify");
    let good = bundle(&s);
    // One character each: `A` and `B` differ in bits that base64 keeps.
    let altered = |pointer: &str| {
        let mut bad = good.clone();
        let field = bad.pointer_mut(pointer).unwrap();
        let text = field.as_str().unwrap();
        let other = if &text[20..21] == "A" { "B" } else { "A" };
        *field = format!("{}{other}{}", &text[..20], &text[21..]).into();
        bad
    };
    let payload = altered("/dsseEnvelope/payload");
    let signature = altered("/dsseEnvelope/signatures/0/sig");
    s.user.write("key.pub", s.user.qyv(&["keys", "export"]).expect(0).out);
    for (name, bundle, code) in [
        ("good.json", &good, 0),
        ("payload.json", &payload, 1),
        ("signature.json", &signature, 1),
    ] {
        let path = s.user.write(name, bundle.to_string());
        let mut node = Command::new("node");
        node.arg("verify.mjs")
            .arg(s.user.path("key.pub"))
            .arg(path)
            .current_dir(&work);
        let done = third_party("nodejs", &mut node).expect(code);
        // Refused for its signature, not for want of a module or a field.
        assert_eq!(code == 1, done.err.contains("signature"), "{name}: {}", done.err);
    }
}
