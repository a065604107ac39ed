//! What a manifest asks for, what is left out of it, what is not known.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use serde_json::json;

use super::*;

fn asked(value: serde_json::Value) -> Permissions {
    serde_json::from_value(value).unwrap()
}

#[test]
fn what_is_not_asked_for_is_not_written() {
    let app = parse_app_manifest(
        "name: a\nentrypoint: a.wasm\npermissions: {fs: read-only, net: false, exec: false, gfx: false}\n",
    );
    let permissions = app.unwrap().permissions;
    assert_eq!(serde_json::to_string(&permissions).unwrap(), r#"{"fs":"read"}"#);
}

#[test]
fn denial_that_is_written_out_asks_for_nothing() {
    let written = asked(json!({"fs": "none", "net": false, "exec": false, "gfx": false, "teleport": false}));
    assert_eq!(Capabilities::read(&written), Ok(Capabilities::default()));
    assert_eq!(describe(&written), "fs:none, net:false, exec:false, gfx:false");
}

// MAN-044
#[test]
fn denial_of_what_is_given_by_default_is_not_taken_for_absence() {
    for name in ["env", "args", "stdio"] {
        for denial in [json!(false), json!("none")] {
            Capabilities::read(&asked(json!({ name: denial }))).unwrap_err();
        }
    }
    let app = parse_app_manifest("name: a\nentrypoint: a.wasm\npermissions: {stdio: none, env: fixed, args: fixed}\n");
    let read = Capabilities::read(&app.unwrap().permissions).unwrap();
    assert_eq!(
        read.to_string(),
        "fs:none, net:false, exec:false, gfx:false, env:fixed, args:fixed, stdio:none"
    );
}

// MAN-044
#[test]
fn permission_of_a_newer_version_can_be_shown_and_not_understood() {
    for (unknown, named) in [
        (json!({"fs": "read", "clipboard": true}), "clipboard"),
        (
            json!({"fs": "read", "net": {"relay": ["a:1"]}}),
            r#"net: {"relay":["a:1"]}"#,
        ),
        (json!({"fs": "all"}), r#"fs: "all""#),
        (json!({"exec": "yes"}), r#"exec: "yes""#),
    ] {
        let unknown = asked(unknown);
        let error = Capabilities::read(&unknown).unwrap_err();
        assert_eq!(error.permission, named);
        assert!(describe(&unknown).contains("not known to this version"));
    }
}

#[test]
fn only_an_import_whose_every_use_is_denied_is_reported() {
    let imports = ["wasi:sockets/tcp", "wasi:filesystem/types", "wasi:cli/exit"].map(str::to_string);
    let permissions = |value, has_assets| {
        let denied = Capabilities::read(&asked(value)).unwrap();
        let denied = denied.denied_imports(&imports, has_assets);
        denied.into_iter().map(|denied| denied.permission).collect::<Vec<_>>()
    };
    assert_eq!(permissions(json!({}), false), ["net: false", "fs: none"]);
    assert_eq!(permissions(json!({}), true), ["net: false"]);
    assert_eq!(permissions(json!({"net": true, "fs": "read"}), false), [""; 0]);
}
