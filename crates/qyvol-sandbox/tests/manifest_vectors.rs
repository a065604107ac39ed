//! Runs `formats/vectors/manifest` and `formats/vectors/paths`: the manifests
//! and paths that any reader of the format takes or refuses. What is too large
//! to be kept as a file is made here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use qyvol_sandbox::parse_app_manifest;
use qyvol_types::{AppManifest, AssetPath, AssetTarget, PathSet, json};

/// A vector: `key: value` lines, an empty line, the body.
struct Vector {
    file: PathBuf,
    headers: Vec<(String, String)>,
    body: String,
}

impl Vector {
    fn read(file: PathBuf) -> Vector {
        let text = std::fs::read_to_string(&file).unwrap();
        let (head, body) = text.split_once("\n\n").expect("an empty line after the headers");
        let headers = head.lines().map(|line| {
            let (key, value) = line.split_once(": ").expect("key: value");
            (key.to_string(), value.to_string())
        });
        Vector {
            headers: headers.collect(),
            body: body.to_string(),
            file,
        }
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.headers.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    fn accepts(&self) -> bool {
        match self.get("expect") {
            Some("accept") => true,
            Some("refuse") => false,
            other => panic!("{}: expect: {other:?}", self.file.display()),
        }
    }
}

fn vectors(directory: &str) -> Vec<Vector> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../formats/vectors")
        .join(directory);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", directory.display());
    files.into_iter().map(Vector::read).collect()
}

/// `assets` as the vectors write them; the normalised form leaves them out.
fn assets_of(app: &AppManifest) -> String {
    let rules: Vec<serde_json::Value> = app
        .assets
        .iter()
        .map(|rule| {
            let to = match &rule.to {
                AssetTarget::Own => None,
                AssetTarget::Root => Some("."),
                AssetTarget::Path(path) => Some(path.as_str()),
            };
            serde_json::json!({ "from": rule.from, "to": to })
        })
        .collect();
    serde_json::to_string(&rules).unwrap()
}

#[test]
fn manifest_vectors_hold() {
    let mut wrong = Vec::new();
    for vector in vectors("manifest") {
        let file = vector.file.file_name().unwrap().to_string_lossy().into_owned();
        match (parse_app_manifest(&vector.body), vector.accepts()) {
            (Ok(app), true) => {
                let app_json = String::from_utf8(json::encode(&app).unwrap()).unwrap();
                if vector.get("app") != Some(&app_json) {
                    wrong.push(format!("{file}: app: {app_json}"));
                }
                if !app.assets.is_empty() && vector.get("assets") != Some(&assets_of(&app)) {
                    wrong.push(format!("{file}: assets: {}", assets_of(&app)));
                }
            }
            (Err(problems), false) => {
                let first = problems.0.first().expect("a refusal says why");
                let at = format!("{}:{}", first.place.line, first.place.column);
                if vector.get("at").is_some_and(|expected| expected != at) {
                    wrong.push(format!("{file}: at: {at} ({first})"));
                }
                // Shown to people: nothing in it may move their cursor.
                let shown = format!("{problems}{}", first.snippet());
                if shown.chars().any(|c| c.is_control() && c != '\n' || c == '\u{202e}') {
                    wrong.push(format!("{file}: shown unescaped: {shown:?}"));
                }
            }
            (Ok(_), false) => wrong.push(format!("{file}: accepted")),
            (Err(problems), true) => wrong.push(format!("{file}: refused: {problems}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// [BIN-051]
#[test]
fn path_vectors_hold() {
    let mut wrong = Vec::new();
    for vector in vectors("paths") {
        let file = vector.file.file_name().unwrap().to_string_lossy().into_owned();
        let sets: Vec<Vec<String>> = serde_json::from_str(&vector.body).expect("lists of paths");
        for set in sets {
            let mut paths = PathSet::new();
            let result = set
                .iter()
                .try_for_each(|path| AssetPath::parse(path).and_then(|path| paths.insert(&path)));
            if result.is_ok() != vector.accepts() {
                wrong.push(format!("{file}: {set:?}: {result:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// MAN-001
#[test]
fn manifest_of_a_hundred_megabytes_is_refused_before_it_is_parsed() {
    let problems = parse_app_manifest(&"# comment\n".repeat(10 << 20)).unwrap_err();
    assert!(problems.to_string().contains("at most 262144"), "{problems}");
    let mut text = "name: a\nentrypoint: a.wasm\n#".to_string();
    text.push_str(&"x".repeat((256 << 10) - text.len()));
    parse_app_manifest(&text).unwrap();
    text.push('x');
    parse_app_manifest(&text).unwrap_err();
}

// MAN-005
#[test]
fn nesting_bomb_is_refused_without_overflowing_the_stack() {
    for bomb in [
        format!("env: {}", "[".repeat(100_000)),
        format!("env: {}", "{a: ".repeat(50_000)),
        format!("env:\n  {}", "- ".repeat(100_000)),
    ] {
        parse_app_manifest(&bomb).unwrap_err();
    }
}

// MAN-040, MAN-041, MAN-043
#[test]
fn normalised_manifest_reads_back_to_itself_and_takes_no_unknown_key() {
    for vector in vectors("manifest") {
        let Some(app) = vector.get("app") else { continue };
        let back: AppManifest = json::decode(app.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(json::encode(&back).unwrap()).unwrap(), app);
        for extra in ["\"limit\":1,\"name\"", "\"name\":\"x\",\"name\""] {
            let altered = app.replacen("\"name\"", extra, 1);
            json::decode::<AppManifest>(altered.as_bytes()).expect_err(&altered);
        }
        let newer = app.replacen("\"permissions\":{", "\"permissions\":{\"a\":true,", 1);
        json::decode::<AppManifest>(newer.replace(",}", "}").as_bytes()).expect(&newer);
    }
}

// PTH-007
#[test]
fn path_at_its_bounds_passes_and_past_them_is_refused() {
    AssetPath::parse(&"é".repeat(127)).unwrap();
    AssetPath::parse(&"é".repeat(128)).unwrap_err();
    let long = format!("{}{}", format!("{}/", "a".repeat(31)).repeat(31), "a".repeat(32));
    assert_eq!(long.len(), 1024);
    AssetPath::parse(&long).unwrap();
    AssetPath::parse(&format!("{long}e")).unwrap_err();
    AssetPath::parse(&format!("{}x", "d/".repeat(31))).unwrap();
    AssetPath::parse(&format!("{}x", "d/".repeat(32))).unwrap_err();
}
