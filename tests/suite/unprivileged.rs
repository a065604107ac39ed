//! What a guest without permissions sees. `spec/unprivileged-guest.md` has the results
//! of all calls of WASI, as the guests of the matrix report them.
//!
//! `QYVOL_UPDATE=1` rewrites the page.

use std::fs;
use std::path::Path;

use crate::matrix::{GUESTS, Guest};
use crate::support::User;

const HEAD: &str = "\
# What a guest without permissions sees

A guest whose manifest asks for nothing tries all calls of WASI that return something. This page shows
the results; the suite fails if a line changes (`cargo test --workspace --test suite unprivileged`, with
`QYVOL_UPDATE=1` to write the page). A guest in Rust and one in C see the same. The guests are in
`tests/guests/matrix`.
";

const HOST: &str = "\
The only thing that it learns about the host is the time, at the resolution of the host's clock. WASI
has no calls for users, processes, the host name, processors, memory or the time zone. `arguments` is
the program's own name, the last part of the manifest's `name`. A stream is a terminal for the guest if
it is one for `qyv`. Stdin is the host's: here it is empty.
";

/// What a guest reports about each thing, in its order.
fn seen(user: &User, guest: &Guest) -> Vec<(String, String)> {
    let archive = guest.archive(user, "").unwrap();
    let done = user.qyv(&["run", "-q", &archive, "see"]).expect(0);
    let lines = done.out.lines().map(|line| line.split_once('\t').unwrap());
    lines
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect()
}

/// A table of the results in three versions, for the things whose names start with `prefix`.
fn table(head: &str, prefix: &str, versions: [&[(String, String)]; 3]) -> String {
    let is_one = |name: &str| match prefix {
        "" => !name.contains(": "),
        _ => name.starts_with(prefix),
    };
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in versions.iter().copied().flatten() {
        if is_one(name) && !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let mut page = format!("| {head} | preview 1 | 0.2 | 0.3 |\n| --- | --- | --- | --- |\n");
    for name in names {
        let cells = versions.map(|seen| {
            let found = seen.iter().find(|(other, _)| other == name);
            found.map_or("", |(_, value)| value.as_str())
        });
        let [first, second, third] = cells;
        let shown = name.trim_start_matches(prefix);
        page.push_str(&format!("| {shown} | {first} | {second} | {third} |\n"));
    }
    page
}

/// The codes that a guest exits with, and those that the host sees.
fn exit_codes(user: &User) -> String {
    let mut page = "| exit | preview 1 | 0.2 | 0.3 |\n| --- | --- | --- | --- |\n".to_string();
    for code in ["0", "1", "7", "124", "255"] {
        let shown = GUESTS.iter().map(|guest| {
            let archive = guest.archive(user, "").unwrap();
            user.qyv(&["run", "-q", &archive, "exit", code]).code
        });
        let shown: Vec<i32> = shown.collect();
        assert!(shown.chunks(2).all(|pair| pair[0] == pair[1]), "{code}: {shown:?}");
        page.push_str(&format!("| {code} | {} | {} | {} |\n", shown[0], shown[2], shown[4]));
    }
    page
}

/// Imports that no guest is given, each with the kind of program that asks for it.
const MISSING: &[(&str, &str, &str)] = &[
    ("wasi:clocks/timezone@0.2.12", "display", "component"),
    ("wasi:keyvalue/store@0.2.0-draft", "open", "component"),
    ("wasi:config/store@0.2.0-rc.1", "get", "component"),
    ("wasi:nn/graph@0.2.0-rc-2024-10-28", "load", "component"),
    ("wasi:tls/types@0.2.0-draft", "connect", "component"),
    ("wasi:cli/environment@0.1.0", "get-arguments", "component"),
    ("qyvol:host/process", "spawn", "component"),
    ("wasi_snapshot_preview1", "sock_connect", "module"),
    ("wasi_snapshot_preview1", "sock_open", "module"),
    ("wasi_unstable", "fd_write", "module"),
    ("wasi", "thread-spawn", "module"),
    ("env", "system", "module"),
];

fn missing_imports(user: &User) -> String {
    let mut page = "| import | function | |\n| --- | --- | --- |\n".to_string();
    for (interface, function, kind) in MISSING {
        let text = match *kind {
            "module" => format!(
                "(module (import \"{interface}\" \"{function}\" (func)) (memory (export \"memory\") 1) (func (export \"_start\")))"
            ),
            _ => format!("(component (import \"{interface}\" (instance (export \"{function}\" (func)))))"),
        };
        user.write("missing/app.wasm", wat::parse_str(text).unwrap());
        user.write(
            "missing/app.qyv",
            "name: missing\nversion: 1.0.0\nentrypoint: app.wasm\n",
        );
        let refused = user.qyv(&["build", "missing", "-o", "missing.qyvbin", "-q"]);
        let named = refused.err.contains(&format!("imports {interface}"));
        assert!(refused.code != 0 && named, "{interface}: {}", refused.err);
        page.push_str(&format!("| `{interface}` | `{function}` | refused |\n"));
    }
    page
}

#[test]
fn unprivileged_guest_sees_what_the_page_says() {
    let user = User::new();
    let told: Vec<Vec<(String, String)>> = GUESTS.iter().map(|guest| seen(&user, guest)).collect();
    let [rust1, c1, rust2, c2, rust3, c3] = told.as_slice() else {
        panic!("{} guests", told.len());
    };
    for (rust, c) in [(rust1, c1), (rust2, c2), (rust3, c3)] {
        let own = |name: &str| name.starts_with("std: ") || name.starts_with("libc: ");
        let differ: Vec<_> = c.iter().filter(|line| !own(&line.0) && !rust.contains(line)).collect();
        assert!(differ.is_empty(), "C sees other things: {differ:?}");
    }
    let page = [
        HEAD.to_string(),
        table("what", "", [rust1, rust2, rust3]),
        HOST.to_string(),
        "## By the standard libraries\n\nThe same guests, through the functions of each standard library.\n".to_string(),
        table("Rust's `std`", "std: ", [rust1, rust2, rust3]),
        table("C's library", "libc: ", [c1, c2, c3]),
        "## How it ends\n\nThe code that the guest exits with, and the one that the host sees. WASI 0.2 has only two.\n"
            .to_string(),
        exit_codes(&user),
        "## What it can't import\n\n`qyv build` refuses a program that imports one of these.\n".to_string(),
        missing_imports(&user),
    ]
    .join("\n");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/unprivileged-guest.md");
    if std::env::var_os("QYVOL_UPDATE").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let mut lines = page.lines().zip(written.lines());
    let first = lines.find(|(now, page)| now != page);
    assert!(page == written, "the page differs, first (seen, page) in {first:?}");
}
