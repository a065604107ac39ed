//! Assets at the guest's `/`, with a file system in memory laid over them. What a guest
//! may do there, in each version of WASI, is in `tests/matrix/files.yaml`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::matrix::{GUESTS, Guest};
use crate::needs::lacks;
use crate::store::{as_nobody, chown_to_nobody};
use crate::support::{CommandOutput, User};

const WRITE: &str = "permissions: { fs: write }\n";

/// An archive of a guest of the matrix with `a.txt`, `b.txt` and `deep/c.txt` at its root.
fn archive(user: &User, guest: &Guest, more: &str) -> String {
    let Guest { language, version, .. } = guest;
    user.write(&format!("{language}{version}/public/deep/c.txt"), "asset");
    let manifest = format!("assets: [{{ from: public, to: . }}]\nassets_root: /\n{more}");
    guest.archive(user, &manifest).unwrap()
}

/// An archive of the probe with the same.
fn probe(user: &User, more: &str) -> String {
    user.write("app/public/a.txt", "asset");
    user.write("app/public/deep/c.txt", "asset");
    let manifest = format!("assets: [{{ from: public, to: . }}]\nassets_root: /\n{more}");
    user.built("app", &manifest)
}

fn run(user: &User, options: &[&str], archive: &str, steps: &str) -> CommandOutput {
    let mut args = vec!["run", "-q"];
    args.extend(options);
    args.push(archive);
    args.extend(steps.split(' '));
    user.qyv(&args)
}

/// All that can be told of a store's unpacked assets.
fn trees(user: &User) -> BTreeMap<PathBuf, (u64, u32, i64, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut directories = vec![user.home().join("store/v1/trees")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let (path, meta) = (entry.path(), entry.metadata().unwrap());
            let content = if meta.is_dir() {
                directories.push(path.clone());
                Vec::new()
            } else {
                fs::read(&path).unwrap()
            };
            found.insert(
                path,
                (meta.ino(), meta.mode(), meta.ctime(), meta.ctime_nsec(), content),
            );
        }
    }
    assert!(found.keys().any(|path| path.ends_with("deep/c.txt")));
    found
}

/// The unpacked file of this name.
fn unpacked(user: &User, name: &str) -> PathBuf {
    let found = trees(user).into_keys().find(|path| path.ends_with(name));
    found.unwrap()
}

/// Changes what is in an unpacked file.
fn tamper(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, "wrong").unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o444)).unwrap();
}

/// What changes all that is at `/`, and looks at it.
const CHANGES: &str = "write /:a.txt x + read /:a.txt + unlink /:b.txt + rename /:deep/c.txt /:tmp/c + \
    rmdir /:deep + mkdir /:deep + list /:deep + list /:. + read /:tmp/c";
const CHANGED: &str = "ok read:x ok ok ok ok none a.txt,deep,tmp read:asset";
const LOOKS: &str = "list /:. + list /:deep + list /:tmp + read /:a.txt + read /:b.txt + read /:deep/c.txt";
const UNCHANGED: &str = "a.txt,b.txt,deep,tmp c.txt none read:asset read:other read:asset";

// [RUN-060]
#[test]
fn what_a_guest_changes_over_its_assets_is_gone_afterwards_and_never_in_the_store() {
    if lacks(&["namespaces"]) {
        return;
    }
    let user = User::new();
    for guest in &GUESTS {
        let app = archive(&user, guest, WRITE);
        assert_eq!(run(&user, &[], &app, LOOKS).expect(0).out.trim_end(), UNCHANGED);
        let before = trees(&user);
        assert_eq!(run(&user, &[], &app, CHANGES).expect(0).out.trim_end(), CHANGED);
        assert_eq!(run(&user, &[], &app, LOOKS).expect(0).out.trim_end(), UNCHANGED);
        assert!(before == trees(&user));
    }
    user.qyv(&["check"]).expect(0);
}

// Files of an unpacked tree are read-only, which a user who is not root can't write.
// [RUN-060]
#[test]
fn guest_of_an_ordinary_user_changes_what_lies_over_its_assets_too() {
    if lacks(&["root", "setpriv", "namespaces"]) {
        return;
    }
    let user = User::new();
    let apps: Vec<String> = GUESTS.iter().map(|guest| archive(&user, guest, WRITE)).collect();
    let part = "permissions: { fs: { read: [/deep], write: [/deep/new, /tmp] } }\n";
    user.write("app/public/a.txt", "asset");
    let part = probe(&user, part);
    chown_to_nobody(&user);
    let run = |app: &str, steps: &str| {
        let args: Vec<&str> = ["run", "-q", app].into_iter().chain(steps.split(' ')).collect();
        as_nobody(&user, &args)
    };
    for app in &apps {
        assert_eq!(run(app, LOOKS).expect(0).out.trim_end(), UNCHANGED);
        let before = trees(&user);
        assert_eq!(run(app, CHANGES).expect(0).out.trim_end(), CHANGED);
        for (steps, gets) in [
            (
                "open /:a.txt w + open /:a.txt rw + resize /:a.txt 2 + read /:a.txt",
                "ok ok ok read:as",
            ),
            ("open /:a.txt wt + read /:a.txt", "ok read:"),
            (
                "write /:deep/new x + write /:deep/c.txt y + list /:deep",
                "ok ok c.txt,new",
            ),
            (
                "mkdir /:deep/d + mkdir /:d + rename /:deep/c.txt /:d/f + rename /:d /:e + write /:e/f x",
                "ok ok ok ok ok",
            ),
            (
                "link /:a.txt /:deep/l + write /:deep/l x + read /:a.txt",
                "ok ok read:x",
            ),
            (
                "write /:f x + rename /:f /:deep/c.txt + read /:deep/c.txt",
                "ok ok read:x",
            ),
            (
                "rename /:deep /:other + rename /:deep /:tmp/other + read /:deep/c.txt",
                "io io read:asset",
            ),
            ("times /:a.txt + times /:deep + read /:a.txt", "ok ok read:asset"),
        ] {
            assert_eq!(run(app, steps).expect(0).out.trim_end(), gets, "{app}: {steps}");
        }
        assert!(before == trees(&user));
    }
    run(&part, "write /deep/new/f x").expect(0);
    run(&part, "write /deep/f x").expect(1);
}

/// Ways to what an unpacked file holds: `a.txt`, or `deep/c.txt`.
const WAYS: &[&str] = &[
    "read /:a.txt",
    "stat /:a.txt",
    "lstat /:a.txt",
    "open /:a.txt w + read /:a.txt",
    "open /:a.txt wt",
    "open /:a.txt rc + read /:a.txt",
    "resize /:a.txt 3 + read /:a.txt",
    "times /:a.txt",
    "rename /:a.txt /:x + read /:x",
    "rename /:a.txt /:tmp/x + read /:tmp/x",
    "link /:a.txt /:x + read /:x",
    "unlink /:a.txt + read /:a.txt",
    "readlink /:a.txt",
    "write /:x y + rename /:x /:a.txt + read /:a.txt",
    "write /:x y + link /:x /:a.txt + read /:a.txt",
    "read /:deep/c.txt",
    "read /:deep/../deep/c.txt",
    "mkdir /:x + rename /:deep/c.txt /:x/c + read /:x/c",
    "mkdir /:x + rename /:x /:deep + read /:deep/c.txt",
    "rename /:deep /:x + read /:x/c.txt + read /:deep/c.txt",
    "unlink /:deep/c.txt + rmdir /:deep + mkdir /:deep + read /:deep/c.txt",
    "symlink deep /:x + read /:x/c.txt + read /:deep/c.txt",
];

// [RUN-061]
#[test]
fn asset_that_was_changed_is_not_reachable_from_above() {
    if lacks(&["namespaces"]) {
        return;
    }
    let user = User::new();
    // One language: the calls are the same.
    for guest in GUESTS.iter().step_by(2) {
        let app = archive(&user, guest, WRITE);
        for way in WAYS {
            run(&user, &[], &app, LOOKS).expect(0);
            for name in ["a.txt", "deep/c.txt"] {
                tamper(&unpacked(&user, name));
            }
            let done = run(&user, &[], &app, way).expect(125);
            assert!(!done.out.contains("wrong"), "{way}: {}", done.out);
            assert!(
                done.err.contains("changed after it was unpacked"),
                "{way}: {}",
                done.err
            );
        }
    }
}

// [STORE-043] [RUN-061]
#[test]
fn hash_of_a_changed_asset_is_not_returned() {
    if lacks(&["namespaces"]) {
        return;
    }
    let user = User::new();
    for guest in GUESTS.iter().filter(|guest| guest.version > 1) {
        for (more, steps) in [
            (WRITE, "hash /:a.txt"),
            ("permissions: { fs: read }\n", "hash /:a.txt"),
            ("assets_root: /assets\n", "hash /assets:a.txt"),
        ] {
            let Guest { language, version, .. } = guest;
            user.write(&format!("{language}{version}/public/deep/c.txt"), "asset");
            let root = if more.contains("assets_root") {
                ""
            } else {
                "assets_root: /\n"
            };
            let manifest = format!("assets: [{{ from: public, to: . }}]\n{root}{more}");
            let app = guest.archive(&user, &manifest).unwrap();
            assert_eq!(run(&user, &[], &app, steps).expect(0).out.trim_end(), "hashed");
            tamper(&unpacked(&user, "a.txt"));
            let done = run(&user, &[], &app, steps).expect(125);
            assert!(
                done.err.contains("changed after it was unpacked"),
                "{steps}: {}",
                done.err
            );
        }
    }
}

// [RUN-061]
#[test]
fn changed_asset_is_not_reached_where_some_directories_are_given_or_the_operator_holds_back() {
    if lacks(&["namespaces"]) {
        return;
    }
    let user = User::new();
    for (permissions, options, ways) in [
        (
            "{ read: [/deep], write: [/tmp] }",
            &[][..],
            &[
                "read /deep:c.txt",
                "link /deep:c.txt /tmp:x + read /tmp:x",
                "rename /deep:c.txt /tmp:x + read /tmp:x",
            ][..],
        ),
        (
            "{ write: [/deep, /tmp] }",
            &[],
            &["read /deep:c.txt", "rename /deep:c.txt /tmp:x + read /tmp:x"],
        ),
        ("{ read: [/deep] }", &[], &["read /deep:c.txt"]),
        ("write", &["--fs", "read"], &["read /:deep/c.txt"]),
        ("read", &[], &["read /:deep/c.txt"]),
    ] {
        for guest in &GUESTS {
            let app = archive(&user, guest, &format!("permissions: {{ fs: {permissions} }}\n"));
            for way in ways {
                run(&user, options, &app, "list /:.").expect(0);
                tamper(&unpacked(&user, "deep/c.txt"));
                let done = run(&user, options, &app, way).expect(125);
                assert!(done.err.contains("/deep/c.txt: it was changed"), "{way}: {}", done.err);
            }
        }
    }
}

// [RUN-061]
#[test]
fn directory_that_something_was_put_into_is_not_given() {
    if lacks(&["namespaces"]) {
        return;
    }
    let user = User::new();
    for permissions in [
        "{ read: [/deep], write: [/tmp] }",
        "{ write: [/deep] }",
        "{ read: [/deep] }",
    ] {
        let app = archive(&user, &GUESTS[0], &format!("permissions: {{ fs: {permissions} }}\n"));
        run(&user, &[], &app, "list /deep:.").expect(0);
        let deep = unpacked(&user, "deep/c.txt").parent().unwrap().to_path_buf();
        fs::set_permissions(&deep, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(deep.join("more"), "wrong").unwrap();
        fs::set_permissions(&deep, fs::Permissions::from_mode(0o555)).unwrap();
        let done = run(&user, &[], &app, "list /deep:.").expect(125);
        assert!(done.err.contains("asked for /deep"), "{}", done.err);
    }
}

// [RUN-060]
#[test]
fn files_over_assets_are_bounded_as_those_in_memory_are() {
    if lacks(&["namespaces"]) {
        return;
    }
    let user = User::new();
    user.write("app/public/big", vec![b'x'; 3 << 20]);
    let app = probe(&user, &format!("{WRITE}resources: {{ storage: 1MiB }}\n"));
    user.qyv(&["run", &app, "--", "fill", "/f", "1000000"]).expect(0);
    let done = user.qyv(&["run", &app, "--", "fill", "/f", "1100000"]).expect(1);
    assert!(done.err.contains("No space left"), "{}", done.err);
    // It would be copied before it is changed.
    let done = user.qyv(&["run", &app, "--", "write", "/big", "x"]).expect(1);
    assert!(done.err.contains("No space left"), "{}", done.err);
    user.qyv(&["run", &app, "--", "rm", "/big"]).expect(0);
}

// [RUN-060]
#[test]
fn runs_at_the_same_time_share_their_assets_and_nothing_above_them() {
    if lacks(&["namespaces"]) {
        return;
    }
    let user = User::new();
    let app = archive(&user, &GUESTS[2], WRITE);
    run(&user, &[], &app, LOOKS).expect(0);
    let names: Vec<String> = (0..8).map(|n| format!("f{n}")).collect();
    let children = names.iter().map(|name| {
        let steps = format!("write /:{name} x + write /:a.txt {name} + list /:. + read /:a.txt");
        let mut command = user.command();
        command.args(["run", "-q", &app]).args(steps.split(' '));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        (name, command.spawn().unwrap())
    });
    let children: Vec<_> = children.collect();
    for (name, child) in children {
        let done = CommandOutput::from(&child.wait_with_output().unwrap()).expect(0);
        assert_eq!(
            done.out.trim_end(),
            format!("ok ok a.txt,b.txt,deep,{name},tmp read:{name}")
        );
    }
}

// [RUN-060]
#[test]
fn run_over_assets_that_is_killed_leaves_nothing() {
    if lacks(&["namespaces"]) {
        return;
    }
    let user = User::new();
    let app = probe(&user, WRITE);
    user.qyv(&["run", &app, "--", "cat", "/a.txt"]).expect(0);
    let before = trees(&user);
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let overlays = || mounts().lines().filter(|line| line.contains(" overlay ")).count();
    let mounted = overlays();
    let mut command = user.command();
    command.args(["run", &app, "--", "sleep"]).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "sleeping\n");
    assert_eq!(overlays(), mounted, "it is mounted where others see it");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(before == trees(&user));
    assert_eq!(user.qyv(&["run", &app, "--", "cat", "/a.txt"]).expect(0).out, "asset");
    user.qyv(&["check"]).expect(0);
}

/// Runs the command where no process gets a user namespace of its own, as in many containers.
pub fn without_namespaces(user: &User, args: &[&str]) -> CommandOutput {
    let mut command = Command::new("unshare");
    let script = r#"echo 0 >/proc/sys/user/max_user_namespaces && exec "$0" "$@""#;
    command
        .args(["-r", "sh", "-c", script, env!("CARGO_BIN_EXE_qyv")])
        .args(args);
    let qyv = user.command();
    command.current_dir(user.path("")).env_clear();
    command.envs(qyv.get_envs().filter_map(|(name, value)| Some((name, value?))));
    CommandOutput::from(&command.output().unwrap())
}

// [RUN-060]
#[test]
fn host_that_forbids_overlays_refuses_to_run_and_says_what_can_be_done() {
    if lacks(&["namespaces", "unshare"]) {
        return;
    }
    let user = User::new();
    let app = probe(&user, WRITE);
    let barred = |args: &[&str]| without_namespaces(&user, args);
    let done = barred(&["run", &app, "--", "cat", "/a.txt"]).expect(125);
    for words in [
        "over the assets at /",
        "user namespace",
        "--fs read",
        "assets_root: /assets",
    ] {
        assert!(done.err.contains(words), "{words}: {}", done.err);
    }
    let done = barred(&["run", "--fs", "read", &app, "--", "cat", "/a.txt"]).expect(0);
    assert_eq!(done.out, "asset");
}

// [MAN-046]
#[test]
fn inspection_says_that_memory_lies_over_the_assets() {
    let user = User::new();
    let app = probe(&user, WRITE);
    let done = user.qyv(&["inspect", &app]).expect(0);
    assert!(done.out.contains("at /, under memfs"), "{}", done.out);
    let app = probe(&user, "permissions: { fs: read }\n");
    let done = user.qyv(&["inspect", &app]).expect(0);
    assert!(!done.out.contains("under memfs"), "{}", done.out);
    user.app(
        "disk",
        "fs: { type: diskfs }\npermissions: { fs: write }\nassets_root: /\n",
    );
    let done = user.qyv(&["build", "disk"]);
    assert!(
        done.code != 0 && done.err.contains("assets_root can be / only with"),
        "{}",
        done.err
    );
}
