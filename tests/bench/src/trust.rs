//! What verification costs: with a keyless signature, over a thousand archives, and along a
//! chain of policies.

use std::fs;
use std::path::Path;
use std::time::Duration;

use qyvol_types::Digest;
use serde_json::{Value, json};

use super::http::{Connection, request};
use super::measure::{Run, Side, Times, interleaved};
use super::policy::entry;
use super::rows::{Example, nothing, reached, shown, utf8};
use super::servers::{Kind, Server};
use super::{Bench, Row, fresh};

/// The suite's sigstore instance in memory. It is made for tests: a fault of it ends the
/// measurement.
#[path = "../../../crates/qyvol-keyless/tests/instance/mod.rs"]
#[allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod instance;

use instance::{Instance, Plan};

/// Milliseconds that a keyless signature may add to a warm run.
const KEYLESS: f64 = 2.0;
/// Archives in the directory that is verified.
const ARCHIVES: usize = 1000;
/// Policies in a chain, and the bytes of each.
const POLICIES: usize = 1024;
const POLICY_BYTES: usize = 4096;

/// Hello's own name, as it is signed.
const REPOSITORY: &str = "hello-qyvol";
const RELEASE: &str = "https://qyvol.dev/release/v1";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|e| format!("writing {}: {e}", path.display()))
}

/// Text of JSON.
fn parsed(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|e| format!("{e}: {text}"))
}

/// What a warm run of an image costs that only a keyless signature admits, and that only a key
/// admits.
pub(super) fn keyless(bench: &Bench) -> Result<Vec<Row>, String> {
    let hub = Server::start(bench, Kind::Hub)?;
    let file = bench.pack(&Example::hello()?.directory, "keyless.qyvbin")?;
    let file = utf8(&file)?;
    let name = hub.name(&format!("{REPOSITORY}:1.0.0"));
    bench.qyv(&["push", file, &name]).check()?;
    let image = parsed(&bench.qyv(&["inspect", file, "--format", "json"]).check()?)?;
    let digest = image["digest"].as_str().ok_or("inspect prints no digest")?;
    let predicate = parsed(&bench.qyv(&["sign", file, "--print-predicate"]).check()?)?;
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "name": hub.name(REPOSITORY), "digest": { "sha256": digest.trim_start_matches("sha256:") } }],
        "predicateType": RELEASE,
        "predicate": predicate,
    });
    let (instance, plan) = (Instance::new(), Plan::new(statement.to_string().as_bytes()));
    attach(&hub, digest, &instance.sign(&plan).to_string())?;

    let root = instance.root().to_string();
    write(&bench.home().join("root.json"), &root)?;
    let key = entry("default", &bench.qyv(&["keys", "export", "default"]).check()?);
    let policy = |file: &str, key: &str| -> Result<String, String> {
        let path = bench.home().join(file);
        let text = format!(
            "version: 1\nroots:\n  own: {{ file: root.json, digest: \"{}\" }}\nidentities:\n  rel: {{ root: own, issuer: \"{}\", subject: \"{}\", repository_id: 1001 }}\nkeys:\n{key}rules:\n  - scope: \"{}\"\n    require: [{{ role: release, keys: [{}] }}]\n",
            Digest::of(root.as_bytes()),
            plan.issuer,
            plan.subject,
            hub.name("*"),
            if file == "by-key.yaml" { "default" } else { "rel" },
        );
        write(&path, &text)?;
        Ok(utf8(&path)?.to_string())
    };
    let (by_key, by_identity) = (policy("by-key.yaml", &key)?, policy("by-identity.yaml", &key)?);
    bench
        .qyv(&["pull", "--policy", &by_identity, "--verify", &name])
        .check()?;
    let run = |policy: &str| bench.qyv(&["run", "--pull", "never", "--policy", policy, &name]);
    let (ours, peer) = (run(&by_identity), run(&by_key));
    let [ours, peer] = interleaved(bench.runs, [&ours, &peer].map(side))?;
    let more = |of: fn(&Times) -> Duration| (of(&ours).as_secs_f64() - of(&peer).as_secs_f64()) * 1e3;
    let (median, least) = (more(Times::median), more(Times::min));
    Ok(vec![Row {
        what: "warm run of hello admitted by a keyless signature".to_string(),
        ours: shown(&ours),
        peer: format!("{} admitted by a key", shown(&peer)),
        ratio: format!("+{median:.2} ms (+{least:.2})"),
        to_reach: format!("+{KEYLESS} ms"),
        verdict: reached(median <= KEYLESS),
    }])
}

fn side(run: &Run) -> Side<'_> {
    Side {
        before: &nothing,
        runs: std::slice::from_ref(run),
    }
}

/// Adds a bundle to an image of the hub, as `actions/attest` does.
fn attach(hub: &Server, image: &str, bundle: &str) -> Result<(), String> {
    let mut connection = Connection::open(&hub.address)?;
    let mut send = |method: &str, path: &str, kind: &str, body: &str| {
        let fields = format!("Content-Type: {kind}\r\n");
        let answer = connection.ask(&request(method, &hub.address, path, &fields), body.as_bytes(), 1)?;
        match answer.status {
            201 => Ok(()),
            status => Err(format!("{method} {path}: {status} in place of 201")),
        }
    };
    let mut blob = |kind: &str, body: &str| {
        let digest = Digest::of(body.as_bytes());
        let path = format!("/v2/{REPOSITORY}/blobs/uploads/?digest={digest}");
        send("POST", &path, "application/octet-stream", body)?;
        Ok::<_, String>(json!({ "mediaType": kind, "digest": digest.to_string(), "size": body.len() }))
    };
    let (config, layer) = (blob(EMPTY, "{}")?, blob(BUNDLE, bundle)?);
    let pushed = Connection::open(&hub.address)?.ask(
        &request("GET", &hub.address, &format!("/v2/{REPOSITORY}/manifests/{image}"), ""),
        b"",
        1,
    )?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": BUNDLE,
        "config": config,
        "layers": [layer],
        "subject": { "mediaType": MANIFEST, "digest": image, "size": pushed.bytes },
    })
    .to_string();
    let path = format!("/v2/{REPOSITORY}/manifests/{}", Digest::of(manifest.as_bytes()));
    send("PUT", &path, MANIFEST, &manifest)
}

/// A directory of archives, against the same by a command that may use one processor.
pub(super) fn archives(bench: &Bench) -> Result<Vec<Row>, String> {
    let file = bench.pack(&Example::hello()?.directory, "one.qyvbin")?;
    let directory = bench.scratch.join("archives");
    fresh(&directory)?;
    for number in 0..ARCHIVES {
        let copy = directory.join(format!("{number}.qyvbin"));
        fs::copy(&file, &copy).map_err(|e| format!("copying to {}: {e}", copy.display()))?;
    }
    let target = format!("{}/", utf8(&directory)?);
    let all = bench.qyv(&["verify", &target]);
    let one = Run::new("taskset", &["-c", "0", utf8(&bench.qyv)?, "verify", &target]).env("QYVOL_HOME", bench.home());
    let [all, one] = interleaved(bench.runs.min(10), [&all, &one].map(side))?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // A tenth for what no core can share.
    let limit = 1.0 / cores as f64 + 0.1;
    let mut row = super::rows::ratio(
        &format!("verify of {ARCHIVES} archives of hello, {cores} cores"),
        [&all, &one],
        "on one core",
        limit,
    );
    row.to_reach = format!("{limit:.2}");
    Ok(vec![row])
}

/// The import of a chain of policies by a host that follows the first.
pub(super) fn chain(bench: &Bench) -> Result<Vec<Row>, String> {
    // That makes the key.
    bench.pack(&Example::hello()?.directory, "chain.qyvbin")?;
    let pem = bench.qyv(&["keys", "export", "default"]).check()?;
    let directory = bench.scratch.join("chain");
    fresh(&directory)?;
    let document = |serial: usize| -> Result<String, String> {
        let mut text = format!(
            "version: 1\nname: fleet\nserial: {serial}\nupdate: {{ keys: [default], threshold: 1 }}\nkeys:\n{}rules:\n",
            entry("default", &pem)
        );
        for number in 0.. {
            let rule = format!(
                "  - scope: registry.example/team-{number}/**\n    require: [{{ role: release, keys: [default] }}]\n"
            );
            if text.len() + rule.len() > POLICY_BYTES {
                break;
            }
            text += &rule;
        }
        let path = directory.join(format!("{serial}.yaml"));
        write(&path, &text)?;
        Ok(utf8(&path)?.to_string())
    };
    let chain = directory.join("fleet.jsonl");
    let chain = utf8(&chain)?;
    let first = document(1)?;
    for serial in 1..=POLICIES {
        let document = document(serial)?;
        bench
            .qyv(&["trust", "sign", chain, "--key", "default", "--document", &document])
            .check()?;
    }
    let home = directory.join("home");
    let host = |args: &[&str]| Run::new(&bench.qyv, args).env("QYVOL_HOME", &home);
    let (follow, import) = (host(&["trust", "follow", &first]), host(&["trust", "import", chain]));
    let renewed = || -> Result<(), String> {
        fresh(&home)?;
        follow.check().map(drop)
    };
    let sides = [Side {
        before: &renewed,
        runs: std::slice::from_ref(&import),
    }];
    let [times] = interleaved(bench.runs.min(10), sides)?;
    Ok(vec![Row {
        what: format!("import of a chain of {POLICIES} policies of {} kB", POLICY_BYTES >> 10),
        ours: shown(&times),
        peer: "-".to_string(),
        ratio: "-".to_string(),
        to_reach: "1 s".to_string(),
        verdict: reached(times.median() <= Duration::from_secs(1)),
    }])
}
