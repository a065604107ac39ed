//! What a `.qyv` may say, and what is said of one that may not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use qyvol_sandbox::{Capabilities, FsAccess, parse_app_manifest};
use qyvol_types::*;

#[test]
fn example_manifests_parse() {
    let hello = parse_app_manifest("name: hello-qyvol\nentrypoint: hello.wasm\nruntime: wasi\n").unwrap();
    assert_eq!(
        (hello.version.as_str(), hello.assets_root.as_str()),
        ("0.0.0", "/assets")
    );
    let gui = parse_app_manifest(
        "name: editor-texto\nentrypoint: editor.wasm\nruntime: wasi\nlanguage: kotlin\npermissions:\n  fs: read-write\n  net: false\n  gfx: true\ntype: gui\n",
    )
    .unwrap();
    let asked = Capabilities::read(&gui.permissions).unwrap();
    assert_eq!((asked.fs, asked.gfx.0), (FsAccess::Write, true));
    let null = parse_app_manifest("name: a\nentrypoint: ./a.wasm\npermissions:\n  fs:\n").unwrap();
    assert_eq!(Capabilities::read(&null.permissions), Ok(Capabilities::default()));
    assert_eq!(null.entrypoint, "a.wasm");
}

// [BIN-042]
#[test]
fn the_whole_manifest_parses() {
    let text = "name: acme/hello\nversion: 1.0.0\nentrypoint: hello.component.wasm\nruntime: wasi\nlanguage: rust\ntype: cli\npermissions: { fs: none, net: false, exec: false, gfx: false }\nfs: { type: memfs, source: null, cache: false }\nassets: [ \"public/**\", { from: models/m.onnx, to: model.onnx } ]\nassets_root: /assets\nenv: { LOG_LEVEL: info, PORT: 8080 }\nargs: [--serve]\nresources: { memory: 256MB, timeout: 30s }\n";
    let app = parse_app_manifest(text).unwrap();
    assert_eq!(app.resources.memory, Some(256_000_000));
    assert_eq!(app.resources.timeout, Some(30_000));
    assert_eq!(app.env["PORT"], "8080");
    assert_eq!(app.assets.len(), 2);
    let json = crate::json::encode(&app).unwrap();
    let back: AppManifest = crate::json::decode(&json).unwrap();
    assert_eq!(
        back,
        AppManifest {
            assets: Vec::new(),
            ..app
        }
    );
}

#[test]
fn unknown_key_names_its_place_and_the_nearest_key() {
    let problems = parse_app_manifest("name: a\nentrypoint: a.wasm\npermisions:\n  fs: none\n").unwrap_err();
    let problem = &problems.0[0];
    assert_eq!((problem.place.line, problem.place.column), (3, 1));
    assert_eq!(problem.help.as_deref(), Some("did you mean `permissions`?"));
}

#[test]
fn all_problems_are_reported_at_once() {
    let problems =
        parse_app_manifest("name: Hello World\nversion: 1.10\npermissions: {fs: all, net: yes}\nfs: {cache: true}\n")
            .unwrap_err();
    let text = problems.to_string();
    for part in [
        "hello-world",
        "\"1.10\"",
        "entrypoint",
        "read-write",
        "true, false, or endpoints",
        "cache",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn entrypoint_or_asset_that_leaves_the_directory_is_refused() {
    for bad in [
        "../a.wasm",
        "/a.wasm",
        "a/../../b.wasm",
        "C:\\a.wasm",
        "''",
        "a\\b.wasm",
    ] {
        parse_app_manifest(&format!("name: a\nentrypoint: {bad}\n")).expect_err(bad);
    }
    for bad in [
        "../**",
        "/etc/passwd",
        "a/../../b",
        "''",
        "{from: a, to: ../b}",
        "{from: a, to: /b}",
    ] {
        parse_app_manifest(&format!("name: a\nentrypoint: a.wasm\nassets: [{bad}]\n")).expect_err(bad);
    }
}

#[test]
fn unenforced_permission_is_refused_not_ignored() {
    for permission in [
        "net: {allow: [\"x:1\"]}",
        "net: {connect: [x]}",
        "fs: {read: [data]}",
        "env: [a=b]",
    ] {
        let text = format!("name: a\nentrypoint: a.wasm\npermissions: {{ {permission} }}\n");
        let problems = parse_app_manifest(&text).unwrap_err();
        assert!(problems.to_string().starts_with("3:"), "{problems}");
    }
}
