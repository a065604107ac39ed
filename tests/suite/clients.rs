//! Other people's clients on our hub: what was pushed is theirs to use, and what
//! they push is ours.

use std::fs;
use std::process::Command;

use crate::needs::{installed, lacks};
use crate::registry::Server;
use crate::support::{User, third_party};

// [BIN-002]
#[test]
fn skopeo_copies_in_and_out_of_the_hub_and_the_digest_stays() {
    if lacks(&["skopeo"]) {
        return;
    }
    let server = Server::hub(&[]);
    let user = User::new();
    user.write("app/a.txt", "asset");
    let file = user.built("app", "assets: [a.txt]\n");
    let skopeo = |from: &str, to: &str| {
        let mut command = Command::new("skopeo");
        command
            .args([
                "copy",
                "--quiet",
                "--insecure-policy",
                "--src-tls-verify=false",
                "--dest-tls-verify=false",
            ])
            .args([from, to])
            .env("TMPDIR", user.path(""))
            .env("HOME", user.path(""));
        third_party("skopeo", &mut command).expect(0);
    };
    let there = format!("docker://{}", server.name("skopeo/app:1"));
    skopeo(&format!("oci-archive:{}:app:1.0.0", user.path(&file).display()), &there);
    skopeo(&there, &format!("oci:{}:x", user.path("layout").display()));
    let digest = user.qyv(&["inspect", &file, "--format", "json"]).expect(0).json()["digest"].clone();
    let index = fs::read(user.path("layout/index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    assert_eq!(index["manifests"][0]["digest"], digest);
    // It leaves the signatures behind: ours says so.
    let done = user
        .qyv(&["pull", &server.name("skopeo/app:1"), "--format", "json"])
        .expect(0);
    assert_eq!(
        (done.json()["digest"].clone(), done.json()["signatures"].clone()),
        (digest, 0.into())
    );
}

// [HUB-028]
#[test]
fn skopeo_reads_without_a_password_where_everyone_may() {
    if lacks(&["skopeo"]) {
        return;
    }
    let user = User::new();
    let users = user.write("users.json", r#"{"anonymous_read":true,"users":[]}"#);
    let server = Server::hub(&["--users", users.to_str().unwrap()]);
    let mut command = Command::new("skopeo");
    let there = format!("docker://{}", server.name("absent"));
    command
        .args(["list-tags", "--tls-verify=false", &there])
        .env("HOME", user.path(""));
    // Let in, and told that there is none.
    let done = third_party("skopeo", &mut command);
    assert!(done.err.contains("404"), "{}", done.err);
}

/// The client that wasm tools are built on pulls an image without assets as
/// the plain artifact that it is, and what it pushes arrives.
#[test]
fn oci_client_pulls_from_the_hub_what_was_pushed() {
    // This client refuses to be made without any, though nothing is encrypted here.
    if lacks(&["certificates"]) {
        return;
    }
    use oci_distribution::Reference;
    use oci_distribution::client::{Client, ClientConfig, ClientProtocol};
    use oci_distribution::secrets::RegistryAuth;

    let server = Server::hub(&[]);
    let user = User::new();
    let file = user.built("app", "");
    let name = server.name("app:1");
    user.qyv(&["push", &file, &name]).expect(0);
    let digest = user.qyv(&["inspect", &file, "--format", "json"]).expect(0).json()["digest"].clone();
    // It wants one, though nothing is encrypted here.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::new(ClientConfig {
        protocol: ClientProtocol::Http,
        ..ClientConfig::default()
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let image: Reference = name.parse().unwrap();
        let pulled = client
            .pull(&image, &RegistryAuth::Anonymous, vec!["application/wasm"])
            .await
            .unwrap();
        assert_eq!(pulled.digest.as_deref(), digest.as_str());
        assert_eq!(pulled.layers.len(), 1);
        assert_eq!(&pulled.layers[0].data[..], crate::support::PROBE_MODULE);
        let referrers = client
            .pull_referrers(
                &format!("{}@{}", server.name("app"), digest.as_str().unwrap())
                    .parse()
                    .unwrap(),
                None,
            )
            .await
            .unwrap();
        // The signature, and the list of smaller representations.
        assert_eq!(referrers.manifests.len(), 2);
        // It writes manifests in a form of its own: another digest, the same
        // content.
        let copy: Reference = server.name("copy:1").parse().unwrap();
        client
            .push(
                &copy,
                &pulled.layers,
                pulled.config,
                &RegistryAuth::Anonymous,
                pulled.manifest,
            )
            .await
            .unwrap();
    });
    user.qyv(&["pull", &server.name("copy:1")]).expect(0);
}

/// PyPI's `oras`, in an environment of its own.
#[test]
fn oras_pulls_from_the_hub_what_was_pushed() {
    if lacks(&["oras"]) {
        return;
    }
    let server = Server::hub(&[]);
    let user = User::new();
    let file = user.built("app", "");
    let name = server.name("app:1");
    user.qyv(&["push", &file, &name]).expect(0);
    let script = "import sys, oras.client\nc = oras.client.OrasClient(insecure=True, tls_verify=False)\nprint(c.pull(target=sys.argv[1], outdir=sys.argv[2]))\nprint(c.get_tags(sys.argv[1]))";
    let mut python = Command::new(installed("oras").join("bin/python"));
    python.args(["-c", script, &name]).arg(user.path("out"));
    let done = third_party("python3-venv", &mut python).expect(0);
    assert!(done.out.contains("['1']"), "{done:?}");
    let pulled: Vec<_> = fs::read_dir(user.path("out")).unwrap().flatten().collect();
    assert_eq!(pulled.len(), 1, "{done:?}");
    assert_eq!(fs::read(pulled[0].path()).unwrap(), crate::support::PROBE_MODULE);
}
