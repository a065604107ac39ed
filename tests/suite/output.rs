//! What commands write: never over what they read, whole or not at all however
//! they are ended, and nothing packed that is there by accident.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::needs::lacks;
use crate::registry::Server;
use crate::support::{CommandOutput, Prng, User};

const TEMPORARY: &str = ".qyv-0123456789abcdef.tmp";

/// The files of a directory with their content.
fn content(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.is_file())
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_string();
            let bytes = fs::read(&path).unwrap();
            (name, bytes)
        })
        .collect()
}

// [CMD-010]
#[test]
fn output_does_not_follow_another_users_link_where_all_can_write() {
    if lacks(&["root"]) {
        return;
    }
    let user = User::new();
    user.app("app", "");
    fs::create_dir(user.path("shared")).unwrap();
    fs::set_permissions(user.path("shared"), fs::Permissions::from_mode(0o1777)).unwrap();
    user.write("victim", "");
    symlink("../victim", user.path("shared/app.qyvbin")).unwrap();
    let build = ["build", "app", "-o", "shared/app.qyvbin", "--no-sign"];
    lchown(user.path("shared/app.qyvbin"), Some(65_533), None).unwrap();
    let done = user.qyv(&build).expect(1);
    assert!(done.err.contains("another user's link"), "{}", done.err);
    assert_eq!(fs::read(user.path("victim")).unwrap(), b"");
    lchown(user.path("shared/app.qyvbin"), Some(0), None).unwrap();
    user.qyv(&build).expect(0);
}

// [CMD-010]
#[test]
fn output_never_replaces_what_the_command_reads() {
    let user = User::new();
    user.app("app", "assets: [data.txt, d]\n");
    user.write("app/data.txt", "data");
    user.write("app/d/more.txt", "more");
    user.qyv(&["keys", "generate", "release"]).expect(0);
    fs::copy(user.home().join("keys/release.key"), user.path("app/my.key")).unwrap();
    symlink("data.txt", user.path("app/link")).unwrap();
    fs::hard_link(user.path("app/probe.wasm"), user.path("app/hard")).unwrap();
    fs::hard_link(user.path("app/app.qyv"), user.path("manifest")).unwrap();
    let before = content(&user.path("app"));
    for input in [
        "app/app.qyv",
        "app/probe.wasm",
        "app/data.txt",
        "app/d/more.txt",
        "app/my.key",
        "app/link",
        "app/hard",
        "manifest",
        "app/../app/data.txt",
    ] {
        for force in [&[][..], &["--force"]] {
            let args = ["build", "app", "-o", input, "--key", "app/my.key"];
            let done = user.qyv(&[&args[..], force].concat()).expect(1);
            assert!(
                done.err.contains("this command reads that file"),
                "{input}: {}",
                done.err
            );
            assert!(done.err.contains("name another file with -o"), "{}", done.err);
        }
    }
    assert_eq!(content(&user.path("app")), before);
    assert_eq!(fs::read(user.path("app/d/more.txt")).unwrap(), b"more");
    assert!(user.stored().is_empty());
    // Nor what every command reads, nor keys and the store.
    user.qyv(&["build", "app", "-o", "app.qyvbin"]).expect(0);
    let blob = user
        .stored()
        .into_iter()
        .find(|p| p.starts_with(user.home().join("store/v1/blobs")))
        .unwrap();
    let [policy, key] = ["trust.yaml", "keys/default.key"].map(|name| user.home().join(name));
    for own in [&policy, &key, &blob] {
        let bytes = fs::read(own).unwrap();
        let own_name = own.to_str().unwrap();
        user.qyv(&["build", "app", "--force", "-o", own_name]).expect(1);
        user.qyv(&["save", "app:1.0.0", "--force", "-o", own_name]).expect(1);
        assert_eq!(fs::read(own).unwrap(), bytes, "{own_name}");
    }
}

// [CMD-011]
#[test]
fn output_replaces_archives_alone_unless_forced() {
    let server = Server::hub(&[]);
    let user = User::new();
    let file = user.built("app", "");
    let archive = fs::read(user.path(&file)).unwrap();
    let name = server.name("app:1.0.0");
    user.qyv(&["push", &file, &name]).expect(0);
    user.write("tar.zst", b"\x28\xb5\x2f\xfd not ours");
    for verb in [&["build", "app"][..], &["save", "app:1.0.0"], &["pull", &name]] {
        let write = |to: &str, more: &[&str]| user.qyv(&[verb, &["-o", to], more].concat());
        user.write("notes.txt", "notes");
        for other in ["notes.txt", "tar.zst"] {
            let before = fs::read(user.path(other)).unwrap();
            let done = write(other, &[]).expect(1);
            assert!(done.err.contains("is not a .qyvbin"), "{}", done.err);
            assert!(done.err.contains("--force"), "{}", done.err);
            assert_eq!(fs::read(user.path(other)).unwrap(), before);
        }
        write("notes.txt", &["--force"]).expect(0);
        assert_eq!(fs::read(user.path("notes.txt")).unwrap(), archive);
        // An archive is replaced, and who may read it stays; so is what is empty.
        fs::set_permissions(user.path("notes.txt"), fs::Permissions::from_mode(0o600)).unwrap();
        write("notes.txt", &[]).expect(0);
        let mode = fs::metadata(user.path("notes.txt")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        user.write("empty", "");
        write("empty", &[]).expect(0);
        assert_eq!(fs::read(user.path("empty")).unwrap(), archive);
        symlink("nowhere", user.path("dangling")).unwrap();
        let done = write("dangling", &[]).expect(1);
        assert!(done.err.contains("dangling symbolic link"), "{}", done.err);
        fs::remove_file(user.path("dangling")).unwrap();
    }
}

// [CMD-012]
#[test]
fn what_a_killed_command_left_is_swept_and_nothing_else() {
    let user = User::new();
    user.app("app", "assets: [\"**\"]\n");
    user.write("app/data.txt", "1");
    let locked = ".qyv-00000000000000aa.tmp";
    let files = [TEMPORARY, locked, ".qyv-short.tmp", ".qyv-0123456789abcdef.tmp.txt"];
    for name in files {
        user.write(&format!("app/{name}"), "left");
    }
    let lock = fs::File::open(user.path("app").join(locked)).unwrap();
    lock.lock().unwrap();
    let link = ".qyv-00000000000000bb.tmp";
    symlink("data.txt", user.path("app").join(link)).unwrap();
    user.qyv(&["build", "app", "-o", "app/out.qyvbin"]).expect(0);
    assert!(!user.path("app").join(TEMPORARY).exists(), "its process is gone");
    for name in [locked, link, files[2], files[3]] {
        assert!(
            user.path("app").join(name).is_symlink() || user.path("app").join(name).exists(),
            "{name}"
        );
    }
    let listed = user.qyv(&["inspect", "--assets", "app/out.qyvbin"]).expect(0).out;
    assert!(!listed.contains(locked) && !listed.contains(link), "{listed}");
    assert!(listed.contains(files[2]) && listed.contains("data.txt"), "{listed}");
}

/// Ends `verb` at `rounds` moments by each signal. `start` makes its command.
fn interrupted(user: &User, rounds: u64, verb: &[&str], start: &dyn Fn() -> Command) {
    let out = user.path("out");
    let target = out.join("x.qyvbin");
    // What it writes, and how long that takes when it is left alone.
    let begun = Instant::now();
    let run = |command: &mut Command| {
        command
            .args(verb)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let before = fs::read(&target).ok();
    assert!(run(&mut start()).wait().unwrap().success(), "{verb:?}");
    let limit = begun.elapsed().as_micros() as u64;
    let result = fs::read(&target).unwrap();
    let mut noise = Prng(0x9e37_79b9_7f4a_7c15);
    for signal in [
        rustix::process::Signal::INT,
        rustix::process::Signal::TERM,
        rustix::process::Signal::KILL,
    ] {
        for round in 0..rounds {
            let old = match &before {
                Some(before) => Some(before.clone()),
                None if round % 2 == 0 => None,
                None => Some(result.clone()),
            };
            let _ = fs::remove_file(&target);
            if let Some(old) = &old {
                fs::write(&target, old).unwrap();
            }
            let after = Duration::from_micros(noise.next() % limit);
            let mut child = run(&mut start());
            let begun = Instant::now();
            while begun.elapsed() < after {
                std::thread::yield_now();
            }
            let pid = rustix::process::Pid::from_child(&child);
            let _ = rustix::process::kill_process(pid, signal);
            child.wait().unwrap();
            let mut left = content(&out);
            let found = left.remove("x.qyvbin");
            assert!(
                found == old || found.as_ref() == Some(&result),
                "{verb:?}, {signal:?} after {after:?}: {} bytes",
                found.map_or(0, |bytes| bytes.len())
            );
            if signal == rustix::process::Signal::KILL {
                assert!(left.len() <= 1, "{:?}", left.keys());
                assert!(
                    left.keys()
                        .all(|name| name.starts_with(".qyv-") && name.ends_with(".tmp"))
                );
            } else {
                assert!(left.is_empty(), "{signal:?}: {:?}", left.keys());
            }
        }
    }
    let _ = fs::remove_file(&target);
    if let Some(before) = &before {
        fs::write(&target, before).unwrap();
    }
    assert!(run(&mut start()).wait().unwrap().success(), "{verb:?}");
    assert_eq!(content(&out).keys().collect::<Vec<_>>(), ["x.qyvbin"], "swept");
    fs::remove_file(&target).unwrap();
}

fn application(user: &User) {
    let mut noise = Prng(7);
    let data: Vec<u8> = (0..200_000).map(|_| noise.next() as u8).collect();
    user.write("app/data", data);
    user.built("app", "assets: [data]\n");
    fs::create_dir(user.path("out")).unwrap();
}

// [CMD-012]
#[test]
fn interrupted_write_leaves_the_old_or_the_complete_result() {
    let user = User::new();
    application(&user);
    let server = Server::hub(&[]);
    let name = server.name("app:1.0.0");
    user.qyv(&["push", "app.qyvbin", &name]).expect(0);
    let start = || user.command();
    interrupted(&user, 50, &["build", "app", "-o", "out/x.qyvbin"], &start);
    interrupted(&user, 50, &["save", "app:1.0.0", "-o", "out/x.qyvbin"], &start);
    interrupted(&user, 50, &["pull", &name, "-o", "out/x.qyvbin"], &start);
    // In place: the one copy there is.
    fs::copy(user.path("app.qyvbin"), user.path("out/x.qyvbin")).unwrap();
    let dated = || {
        let mut command = user.command();
        command.env("SOURCE_DATE_EPOCH", "1767225600");
        command
    };
    interrupted(&user, 50, &["sign", "out/x.qyvbin", "--role", "approve"], &dated);
}

// [CMD-012]
#[test]
fn interrupted_where_files_need_a_name_nothing_is_left_either() {
    if lacks(&["mounts"]) {
        return;
    }
    let user = User::new();
    application(&user);
    // Without /proc a file that has no name can't be given one.
    let start = || {
        let mut command = Command::new("unshare");
        command
            .args(["-m", "sh", "-c", "umount -l /proc && exec \"$0\" \"$@\""])
            .arg(env!("CARGO_BIN_EXE_qyv"))
            .env_clear()
            .env("QYVOL_HOME", user.home())
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
            .current_dir(user.path(""));
        command
    };
    interrupted(&user, 20, &["build", "app", "-o", "out/x.qyvbin"], &start);
}

// [CMD-013]
#[test]
fn file_that_changed_while_it_was_signed_is_not_replaced() {
    let user = User::new();
    let file = user.built("app", "");
    user.write("other", "another file");
    let key = fs::read(user.home().join("keys/default.key")).unwrap();
    let pipe = std::ffi::CString::new(user.path("key.pem").to_str().unwrap()).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let child = user
        .command()
        .args(["sign", &file, "--key", "./key.pem"])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // The key is read once the archive is open.
    let mut pipe = fs::File::options().write(true).open(user.path("key.pem")).unwrap();
    fs::rename(user.path("other"), user.path(&file)).unwrap();
    std::io::Write::write_all(&mut pipe, &key).unwrap();
    drop(pipe);
    let done = CommandOutput::from(&child.wait_with_output().unwrap()).expect(1);
    assert!(done.err.contains("another file has replaced it"), "{}", done.err);
    assert_eq!(fs::read(user.path(&file)).unwrap(), b"another file");
}

// [PACK-001] [PACK-002] [PACK-003]
#[test]
fn what_is_there_by_accident_is_not_packed_by_a_glob() {
    let user = User::new();
    user.app("app", "assets: [\"**\"]\n");
    for (name, text) in [
        ("page.html", "1"),
        ("sub/page.html", "1"),
        (".git/config", "token"),
        ("sub/.git", "gitdir: x"),
        (".env", "SECRET=1"),
        ("sub/.env.local", "SECRET=1"),
        ("old.qyvbin", "old"),
        ("release.key", "key"),
        ("cert.pem", "pem"),
        (TEMPORARY, "left"),
        (".htaccess", "kept"),
    ] {
        user.write(&format!("app/{name}"), text);
    }
    let key = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n-----END PRIVATE KEY-----\n";
    user.write("app/id", key);
    symlink(".env", user.path("app/settings")).unwrap();
    let list = |file: &str| {
        let listed = user
            .qyv(&["inspect", "--assets", file, "--format", "json"])
            .expect(0)
            .json();
        let assets = listed["assets"].as_array().unwrap().clone();
        assets
            .iter()
            .map(|a| a["path"].as_str().unwrap().to_string())
            .collect::<Vec<_>>()
    };
    let done = user.qyv(&["build", "app", "-o", "x.qyvbin"]).expect(0);
    assert_eq!(list("x.qyvbin"), [".htaccess", "page.html", "sub/page.html"]);
    assert!(
        done.err.contains("10 entries left out of the assets: .env, .git/, "),
        "{}",
        done.err
    );
    let loud = user.qyv(&["build", "app", "-o", "x.qyvbin", "-v"]).expect(0);
    assert!(loud.err.contains("packed sub/page.html (1 B)"), "{}", loud.err);
    assert!(
        loud.err
            .contains("old.qyvbin, release.key, settings, sub/.env.local, sub/.git"),
        "{}",
        loud.err
    );
    // A file that is named itself is packed.
    user.app("app", "assets: [\"*.html\", .env, id, release.key, .git]\n");
    let done = user.qyv(&["build", "app", "-o", "y.qyvbin"]).expect(0);
    assert_eq!(
        list("y.qyvbin"),
        [".env", ".git/config", "id", "page.html", "release.key"]
    );
    assert!(!done.err.contains("left out"), "{}", done.err);
    user.app("app", "assets: [\"*.key\"]\n");
    let done = user.qyv(&["build", "app", "-o", "z.qyvbin"]).expect(1);
    assert!(done.err.contains("everything it matches is left out"), "{}", done.err);
}

// [PACK-004]
#[test]
fn ignore_file_leaves_out_and_takes_back() {
    let user = User::new();
    user.app("app", "assets: [d, \"*.txt\", build/kept.txt]\n");
    user.write(
        "app/.qyvignore",
        "# comments and blank lines\n\n*.log\n/build/\nd/private/**\n!d/private/shown\n!.env.example\n",
    );
    for name in [
        "d/a",
        "d/x.log",
        "d/private/hidden",
        "d/private/shown",
        "d/.env",
        "d/.env.example",
        "a.txt",
        "build/kept.txt",
        "build/other.txt",
    ] {
        user.write(&format!("app/{name}"), "1");
    }
    user.qyv(&["build", "app", "-o", "x.qyvbin"]).expect(0);
    let listed = user.qyv(&["inspect", "--assets", "x.qyvbin"]).expect(0).out;
    let names: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    assert_eq!(
        names,
        ["a.txt", "build/kept.txt", "d/.env.example", "d/a", "d/private/shown"]
    );
    user.write("app/.qyvignore", "[z-a]\n");
    let done = user.qyv(&["build", "app", "-o", "y.qyvbin"]).expect(1);
    assert!(done.err.contains(".qyvignore"), "{}", done.err);
}

// [PACK-005]
#[test]
fn directory_that_a_glob_matches_but_does_not_enter_is_reported() {
    let user = User::new();
    user.app("app", "assets: [\"share/*\"]\n");
    user.write("app/share/a", "1");
    user.write("app/share/sub/b", "1");
    let done = user.qyv(&["build", "app", "-o", "x.qyvbin"]).expect(0);
    assert!(done.err.contains("`share/*` does not enter share/sub"), "{}", done.err);
    user.app("app", "assets: [\"share/**\"]\n");
    let done = user.qyv(&["build", "app", "-o", "x.qyvbin"]).expect(0);
    assert!(!done.err.contains("enter"), "{}", done.err);
}

// [MAN-050]
#[test]
fn validate_finds_what_build_refuses_and_writes_nothing() {
    let cases: [(&str, &str); 7] = [
        ("assets: [none]\n", "none"),
        ("assets: [\"*.none\"]\n", "no file matches it"),
        ("permissions: { gfx: true }\n", "graphical"),
        ("type: gui\n", "graphical"),
        (
            "permissions: { fs: read }\nfs: { type: netfs, source: \"ftp://x.example/\" }\n",
            "does not start with https://",
        ),
        ("", "can't read the entrypoint"),
        ("", "not WebAssembly"),
    ];
    for (index, (more, reason)) in cases.into_iter().enumerate() {
        let user = User::new();
        user.app("app", more);
        match index {
            5 => fs::remove_file(user.path("app/probe.wasm")).unwrap(),
            6 => drop(user.write("app/probe.wasm", "text")),
            _ => {}
        }
        for verb in [&["validate", "app"][..], &["build", "app", "-o", "x.qyvbin"]] {
            let done = user.qyv(verb);
            assert_ne!(done.code, 0, "{reason}");
            assert!(done.err.contains(reason), "{verb:?}: {}", done.err);
        }
        let view = user.qyv(&["validate", "app", "--format", "json"]).expect(1).json();
        assert_eq!(view["valid"], false);
        let message = view["problems"][0]["message"].as_str().unwrap();
        assert!(message.contains(reason), "{message}");
        assert!(user.stored().is_empty() && !user.path("x.qyvbin").exists());
        assert!(!user.home().join("keys").exists());
    }
    let user = User::new();
    user.app("app", "");
    user.qyv(&["validate", "app"]).expect(0);
    assert!(!user.home().exists());
}

// [CMD-010]
#[test]
fn dash_is_refused_as_output() {
    let user = User::new();
    user.app("app", "");
    let done = user.qyv(&["build", "app", "-o", "-"]).expect(2);
    assert!(done.err.contains("./-"), "{}", done.err);
    assert!(!user.path("-").exists());
    user.qyv(&["build", "app", "-o", "./-"]).expect(0);
}
