//! The config, and where it must agree with the manifest.

use super::{ACCEPT, CONFIG, OPEN, Row, config, files, good, row};
use crate::common::Case;

pub fn rows() -> Vec<Row> {
    vec![
        row(
            "layer-digests-other",
            "layerDigests of another component",
            "BIN-041",
            CONFIG,
            Case {
                config: Box::new(|c| {
                    let at = c.find("sha256:").unwrap() + 7;
                    format!("{}{}{}", &c[..at], "0".repeat(64), &c[at + 64..])
                }),
                ..good()
            },
        ),
        row(
            "layer-digests-none",
            "layerDigests of no layers",
            "BIN-041",
            CONFIG,
            config("\"layerDigests\":[\"", "\"layerDigests\":[],\"x\":[\""),
        ),
        row(
            "layer-digests-swapped",
            "layerDigests in another order",
            "BIN-041",
            CONFIG,
            Case {
                config: Box::new(|c| {
                    let (start, rest) = c.split_once("\"layerDigests\":[").unwrap();
                    let (list, rest) = rest.split_once(']').unwrap();
                    let (a, b) = list.split_once(',').unwrap();
                    format!("{start}\"layerDigests\":[{b},{a}]{rest}")
                }),
                ..files(&[("a", b"a")])
            },
        ),
        row(
            "config-assets-missing",
            "assets of which the config says nothing",
            "BIN-041 BIN-050",
            CONFIG,
            Case {
                config: Box::new(|c| {
                    let at = c.find(",\"assets\":").unwrap();
                    format!("{}}}}}", &c[..at])
                }),
                ..files(&[("a", b"a")])
            },
        ),
        row(
            "config-assets-without-layer",
            "a config of assets that no layer holds",
            "BIN-041 BIN-050",
            CONFIG,
            Case {
                config: Box::new(|c| {
                    format!(
                        "{},\"assets\":{{\"diffID\":\"sha256:{}\",\"files\":0,\"bytes\":0}}}}}}",
                        c.strip_suffix("}}").unwrap(),
                        "0".repeat(64)
                    )
                }),
                ..good()
            },
        ),
        row(
            "config-100-mb",
            "config of 100 MB, as the manifest says",
            "BIN-041",
            OPEN,
            Case {
                manifest: Box::new(|m| {
                    let (a, b) = m.split_once("\"size\":").unwrap();
                    format!("{a}\"size\":100000000{}", &b[b.find('}').unwrap()..])
                }),
                ..good()
            },
        ),
        row(
            "config-too-large",
            "config of 513 KiB",
            "BIN-041",
            OPEN,
            Case {
                config: Box::new(|c| c + &" ".repeat(513 << 10)),
                ..good()
            },
        ),
        row(
            "config-architecture",
            "a config for another architecture",
            "BIN-041",
            CONFIG,
            config("\"architecture\":\"wasm\"", "\"architecture\":\"amd64\""),
        ),
        row(
            "config-os",
            "a config for another system",
            "BIN-041",
            CONFIG,
            config("\"os\":\"wasip2\"", "\"os\":\"linux\""),
        ),
        row(
            "config-core-module-with-component",
            "a core module's config with a component",
            "BIN-041",
            CONFIG,
            config("\"os\":\"wasip2\"", "\"os\":\"wasip1\""),
        ),
        row(
            "config-no-component",
            "a component's config without one",
            "BIN-041",
            CONFIG,
            config("\"component\"", "\"x\""),
        ),
        row(
            "config-no-qyv",
            "a config without qyv",
            "BIN-041",
            CONFIG,
            config("\"qyv\"", "\"x\""),
        ),
        row(
            "config-qyv-version",
            "qyv of version 2",
            "BIN-041",
            CONFIG,
            config("\"version\":1,", "\"version\":2,"),
        ),
        row(
            "config-created",
            "created without a time zone",
            "BIN-041",
            CONFIG,
            config("00:00Z", "00:00"),
        ),
        row(
            "config-deep",
            "a config nested 33 levels deep",
            "BIN-041",
            CONFIG,
            config(
                "{\"created\"",
                "{\"x\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]],\"created\"",
            ),
        ),
        row(
            "config-trailing",
            "a config with more behind it",
            "BIN-041",
            CONFIG,
            Case {
                config: Box::new(|c| c + "{}"),
                ..good()
            },
        ),
        row(
            "config-app-unknown-key",
            "an unknown key in the manifest",
            "BIN-042",
            CONFIG,
            config("\"name\":", "\"limit\":1,\"name\":"),
        ),
        row(
            "config-app-duplicate-key",
            "the manifest's name twice",
            "BIN-042",
            CONFIG,
            config("\"name\":", "\"name\":\"b\",\"name\":"),
        ),
        row(
            "config-permission-unknown",
            "an unknown permission",
            "MAN-044",
            ACCEPT,
            config("\"gfx\":false", "\"gfx\":false,\"udp\":true"),
        ),
        row(
            "config-permission-word",
            "a permission that is a word",
            "MAN-044",
            ACCEPT,
            config("\"net\":false", "\"net\":\"false\""),
        ),
        row(
            "config-name",
            "a name that climbs",
            "BIN-042",
            CONFIG,
            config("\"name\":\"a\"", "\"name\":\"../a\""),
        ),
        row(
            "config-entrypoint-folder",
            "an entrypoint with a folder",
            "BIN-042",
            CONFIG,
            config("\"a.wasm\"", "\"bin/a.wasm\""),
        ),
        row(
            "config-entrypoint-climbs",
            "an entrypoint that climbs",
            "BIN-042",
            CONFIG,
            config("\"a.wasm\"", "\"..\""),
        ),
        row(
            "config-assets-root",
            "an assets_root that climbs",
            "BIN-042",
            CONFIG,
            config("\"/assets\"", "\"/../etc\""),
        ),
        row(
            "config-env-nul",
            "an environment value with NUL",
            "BIN-042",
            CONFIG,
            config("\"env\":{}", "\"env\":{\"A\":\"\\u0000\"}"),
        ),
        row(
            "config-env-name",
            "an environment name with =",
            "BIN-042",
            CONFIG,
            config("\"env\":{}", "\"env\":{\"A=B\":\"\"}"),
        ),
        row(
            "config-language",
            "a language of control characters",
            "BIN-042",
            CONFIG,
            config("\"runtime\"", "\"language\":\"\\u001b[2J\",\"runtime\""),
        ),
        row(
            "config-language-empty",
            "a language of no letters",
            "BIN-042",
            CONFIG,
            config("\"runtime\"", "\"language\":\"\",\"runtime\""),
        ),
        row(
            "config-too-many-files",
            "more than 250,000 files",
            "BIN-041 BIN-054",
            CONFIG,
            Case {
                config: Box::new(|c| c.replace("\"files\":1", "\"files\":250001")),
                ..files(&[("a", b"a")])
            },
        ),
        row(
            "config-too-many-bytes",
            "more than 256 GiB of files",
            "BIN-041 BIN-054",
            CONFIG,
            Case {
                config: Box::new(|c| c.replace("\"bytes\":1", "\"bytes\":274877906945")),
                ..files(&[("a", b"a")])
            },
        ),
    ]
}
