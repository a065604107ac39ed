//! Building: the same bytes from the same inputs, clear refusals, nothing left
//! by a failure.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::support::{PROBE, PROBE_MODULE, User};

// [BIN-005] [SIGN-014]
#[test]
fn bytes_depend_on_nothing_but_inputs_and_key() {
    let (one, two) = (User::new(), User::new());
    for (user, directory) in [(&one, "a"), (&two, "deep/er/directory")] {
        user.write(&format!("{directory}/probe.wasm"), PROBE);
        user.write(
            &format!("{directory}/x.qyv"),
            "name: x\nversion: 1.0.0\nentrypoint: probe.wasm\nassets: [d]\n",
        );
        // Another order of creation, other modes.
        let names: Vec<String> = (0..20).map(|i| format!("{directory}/d/f{i}")).collect();
        let order: Vec<&String> = if directory == "a" {
            names.iter().collect()
        } else {
            names.iter().rev().collect()
        };
        for name in order {
            let path = user.write(name, name.rsplit('/').next().unwrap());
            let mode = if directory == "a" { 0o600 } else { 0o755 };
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
    one.qyv(&["keys", "generate"]).expect(0);
    let pem = one.qyv(&["keys", "export", "--private", "--unencrypted"]).expect(0).out;
    let build = |user: &User, directory: &str, umask: &str| {
        let script = format!("umask {umask}; exec \"$0\" \"$@\"");
        let mut command = std::process::Command::new("sh");
        command
            .arg("-c")
            .arg(script)
            .arg(env!("CARGO_BIN_EXE_qyv"))
            .args(["build", directory, "-o", "x.qyvbin"]);
        command
            .env_clear()
            .env("QYVOL_HOME", user.home())
            .env("QYVOL_KEY", &pem)
            .env("PATH", "/usr/bin:/bin")
            .current_dir(user.path(""));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read(user.path("x.qyvbin")).unwrap()
    };
    let first = build(&one, "a", "022");
    assert_eq!(first, build(&one, "a", "022"), "again");
    assert_eq!(
        first,
        build(&two, "deep/er/directory", "077"),
        "elsewhere, by another user with another umask"
    );
    let dated = {
        let done = one
            .command()
            .args(["build", "a", "-o", "y.qyvbin", "--format", "json"])
            .env("SOURCE_DATE_EPOCH", "1767225600")
            .output()
            .unwrap();
        assert!(done.status.success());
        one.qyv(&["inspect", "y.qyvbin", "--format", "json"]).expect(0).json()
    };
    assert_eq!(dated["created"], "2026-01-01T00:00:00Z");
}

// [BIN-053]
#[test]
fn refused_input_names_the_reason_and_leaves_nothing() {
    let wasm_cases: [(&str, &[u8], &str); 6] = [
        ("text", b"not wasm at all", "not WebAssembly"),
        ("empty", b"", "not WebAssembly"),
        ("cut", &PROBE[..PROBE.len() / 2], "not valid WebAssembly"),
        ("magic", b"\0asm\x09\0\0\0", "not valid WebAssembly"),
        // Valid, and nothing that this version could run.
        ("nothing", b"\0asm\x01\0\0\0", "exports no function _start"),
        ("component", b"\0asm\x0d\0\x01\0", "exports no wasi:cli/run"),
    ];
    for (name, bytes, reason) in wasm_cases {
        let user = User::new();
        user.app(name, "");
        user.write(&format!("{name}/probe.wasm"), bytes);
        let done = user.qyv(&["validate", name]).expect(1);
        assert!(done.err.contains(reason), "{reason} in {}", done.err);
        refused(&user, name, reason);
    }
    type Prepare = fn(&User);
    let cases: [(&str, &str, Prepare); 9] = [
        ("assets: [none]\n", "can't read x/none", |_| {}),
        ("assets: [d]\n", "reserve", |u| drop(u.write("x/d/CON", ""))),
        ("assets: [d]\n", "clashes", |u| {
            u.write("x/d/A", "");
            u.write("x/d/a", "");
        }),
        ("assets: [d]\n", "link that leaves", |u| {
            u.write("x/d/f", "");
            symlink("/etc/passwd", u.path("x/d/link")).unwrap();
        }),
        ("assets: [d]\n", "leaves", |u| {
            symlink("/etc", u.path("x/d")).unwrap();
        }),
        ("assets: [d]\n", "not a regular file", |u| {
            u.write("x/d/f", "");
            let path = std::ffi::CString::new(u.path("x/d/pipe").to_str().unwrap()).unwrap();
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        }),
        ("assets: [d]\n", "not valid UTF-8", |u| {
            u.write("x/d/f", "");
            let name = std::os::unix::ffi::OsStrExt::as_bytes(u.path("x/d").as_os_str()).to_vec();
            let name = [name, b"/\xff\xfe".to_vec()].concat();
            fs::write(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&name), "").unwrap();
        }),
        ("entrypint: probe.wasm\n", "did you mean `entrypoint`?", |_| {}),
        ("nme: y\n", "did you mean `name`?", |_| {}),
    ];
    for (more, reason, prepare) in cases {
        let user = User::new();
        user.app("x", more);
        prepare(&user);
        refused(&user, "x", reason);
    }
    let user = User::new();
    user.app("x", "");
    fs::remove_file(user.path("x/probe.wasm")).unwrap();
    refused(&user, "x", "can't read the entrypoint");
    fs::create_dir(user.path("x/probe.wasm")).unwrap();
    refused(&user, "x", "not a regular file");
    fs::remove_dir(user.path("x/probe.wasm")).unwrap();
    symlink("/etc/passwd", user.path("x/probe.wasm")).unwrap();
    refused(&user, "x", "leaves the manifest's directory");
}

#[track_caller]
fn refused(user: &User, directory: &str, reason: &str) {
    let done = user.qyv(&["build", directory, "-o", "out.qyvbin"]);
    assert!(done.code == 1 || done.code == 17, "{done:?}");
    assert!(
        done.err.starts_with("error: ") && done.err.contains(reason),
        "{reason} in {}",
        done.err
    );
    assert!(!user.path("out.qyvbin").exists());
    assert!(user.stored().is_empty(), "{:?}", user.stored());
    let left: Vec<_> = fs::read_dir(user.path(""))
        .unwrap()
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert!(left.iter().all(|n| n == directory || n == "home"), "{left:?}");
}

#[test]
fn unreadable_file_or_directory_is_named() {
    if !crate::needs::lacks(&["root"]) {
        // Root reads everything: the same as another user, through setpriv.
        let user = User::new();
        user.app("x", "assets: [d]\n");
        let secret = user.write("x/d/secret", "s");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
        crate::store::chown_to_nobody(&user);
        let done = crate::store::as_nobody(&user, &["build", "x", "-o", "out.qyvbin"]);
        assert_eq!(done.code, 1, "{done:?}");
        assert!(done.err.contains("secret"), "{}", done.err);
        assert!(!user.path("out.qyvbin").exists());
    }
}

// [BIN-053]
#[test]
fn link_inside_the_directory_is_packed_as_its_file() {
    let user = User::new();
    user.app("x", "assets: [d]\n");
    user.write("x/d/real", "content");
    symlink("real", user.path("x/d/link")).unwrap();
    user.qyv(&["build", "x", "-o", "x.qyvbin"]).expect(0);
    assert_eq!(
        user.qyv(&["run", "x.qyvbin", "cat", "/assets/d/link"]).expect(0).out,
        "content"
    );
}

#[test]
fn output_that_cannot_be_written_is_refused_before_the_work() {
    let user = User::new();
    user.app("x", "");
    let done = user
        .qyv(&["build", "x", "-o", "no/such/directory/out.qyvbin"])
        .expect(1);
    assert!(done.err.contains("no/such/directory"), "{}", done.err);
    assert!(user.stored().is_empty());
    user.qyv(&["build", "x", "-o", "x"]).expect(2);
}

#[test]
fn manifest_and_output_are_not_packed_by_a_glob_over_everything() {
    let user = User::new();
    user.app("x", "assets: [\"**\"]\n");
    user.write("x/data.txt", "1");
    let first = user.qyv(&["build", "x", "-o", "x/out.qyvbin"]).expect(0).out;
    let second = user.qyv(&["build", "x", "-o", "x/out.qyvbin"]).expect(0).out;
    assert_eq!(first, second);
    let view = user
        .qyv(&["inspect", "x/out.qyvbin", "--format", "json"])
        .expect(0)
        .json();
    assert_eq!(view["assets"]["files"], 1);
}

#[test]
fn denied_imports_are_reported_and_tags_are_set() {
    let user = User::new();
    user.component_app("x", "");
    let done = user
        .qyv(&["build", "x", "-o", "x.qyvbin", "-t", "acme/y:2", "-t", "r.example/z"])
        .expect(0);
    assert!(done.err.contains("imports wasi:filesystem/types"), "{}", done.err);
    let rows = user.qyv(&["images", "--format", "json"]).expect(0).json();
    let names: Vec<&str> = rows["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["acme/y:2", "r.example/z:latest", "x:1.0.0"]);
    user.qyv(&["run", "acme/y:2", "exit", "0"]).expect(0);
}

// [MAN-052]
#[test]
fn build_and_inspect_say_what_an_application_may_do() {
    let user = User::new();
    for (more, sentences) in [
        ("", &["nothing: no files, no network, no host programs"][..]),
        (
            "permissions: { fs: { read: [/data] }, net: { connect: [\"api.example.com:443\"] }, env: [LANG, HOME] }\n",
            &[
                "may: read files under /data (in memory)",
                "may: connect to api.example.com:443",
                "may: see the variables LANG and HOME, if the operator sets them, and no others",
                "may not: start host programs",
            ],
        ),
        (
            "permissions: full\n",
            &[
                "everything: files, the whole network, and host programs",
                "may: read and write files under / (in memory, gone after each run)",
                "may: use host directories that the operator adds with --dir",
                "may: use the network: look up any name, connect to any address, and listen at any",
                "may: start any host program that the operator allows with --allow-exec",
                "host programs run outside the sandbox: with the files and network of the user who runs it",
            ],
        ),
    ] {
        user.component_app("x", more);
        let build = ["build", "x", "-o", "x.qyvbin", "--force"];
        let built = user.qyv(&build).expect(0);
        let inspected = user.qyv(&["inspect", "x.qyvbin"]).expect(0);
        for sentence in sentences {
            assert!(built.err.lines().any(|line| line == *sentence), "{}", built.err);
            let row = format!("{:13}{sentence}", "");
            assert!(inspected.out.lines().any(|line| line == row), "{}", inspected.out);
        }
        let json = user.qyv(&["inspect", "x.qyvbin", "--format", "json"]).expect(0).json();
        assert_eq!(json["permissionsInWords"], serde_json::json!(sentences));
        let quiet = user.qyv(&[&build[..], &["-q"]].concat()).expect(0);
        assert_eq!(quiet.err, "");
    }
}

#[test]
fn component_is_not_made_a_component_again() {
    let user = User::new();
    user.component_app("x", "");
    let done = user.qyv(&["build", "x", "-o", "x.qyvbin", "--componentize"]).expect(1);
    assert!(done.err.contains("component already"), "{}", done.err);
    user.write("x/probe.wasm", PROBE_MODULE);
    user.qyv(&["build", "x", "-o", "x.qyvbin", "--componentize"]).expect(0);
}

#[test]
fn output_to_a_pipe_or_link_is_written_through() {
    let user = User::new();
    let file = user.built("app", "");
    let bytes = std::fs::read(user.path(&file)).unwrap();
    let pipe = user.path("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let reading = std::thread::spawn({
        let pipe = pipe.clone();
        move || std::fs::read(pipe).unwrap()
    });
    user.qyv(&["build", "app", "-o", "pipe"]).expect(0);
    assert_eq!(reading.join().unwrap(), bytes);
    std::fs::write(user.path("real"), "").unwrap();
    std::os::unix::fs::symlink("real", user.path("link")).unwrap();
    user.qyv(&["build", "app", "-o", "link"]).expect(0);
    assert_eq!(std::fs::read(user.path("real")).unwrap(), bytes);
    assert!(user.path("link").is_symlink());
}

#[test]
fn concurrent_first_builds_all_verify() {
    let user = User::new();
    user.app("app", "");
    let builds: Vec<_> = (0..4)
        .map(|n| {
            let mut command = user.command();
            command.args(["build", "app", "-o", &format!("{n}.qyvbin")]);
            command.spawn().unwrap()
        })
        .collect();
    for mut build in builds {
        assert!(build.wait().unwrap().success());
    }
    for n in 0..4 {
        user.qyv(&["verify", &format!("{n}.qyvbin")]).expect(0);
    }
}

// [MAN-051]
#[test]
fn note_on_denied_imports_is_true() {
    let user = User::new();
    // A program that has assets reads them without a file system of its own.
    user.component_app("app", "assets: [a.txt]\n");
    user.write("app/a.txt", "asset");
    let done = user.qyv(&["build", "app", "-o", "x.qyvbin"]).expect(0);
    assert!(!done.err.contains("fs: none"), "{}", done.err);
    user.qyv(&["run", "x.qyvbin", "--", "cat", "/assets/a.txt"]).expect(0);
    // Modules are told of as components are.
    for module in [true, false] {
        user.component_app("app", "");
        if module {
            user.write("app/probe.wasm", PROBE_MODULE);
        }
        for verb in [&["build", "app", "-o", "x.qyvbin"][..], &["validate", "app"]] {
            let done = user.qyv(verb).expect(0);
            assert!(
                done.err.contains("`fs: none` without assets leaves it no file to open"),
                "{}",
                done.err
            );
        }
    }
}
