//! The directories that a guest is given: its own, its assets, `/tmp`.

use crate::matrix::GUESTS;
use crate::support::User;

// [RUN-031]
#[test]
fn guest_that_may_write_has_a_tmp_of_its_own_that_is_gone_afterwards() {
    let user = User::new();
    let file = ["", "tmp", "file"].join("/");
    for (name, more) in [
        ("mem", "permissions: { fs: write }\n"),
        ("disk", "permissions: { fs: write }\nfs: { type: diskfs }\n"),
        ("full", "permissions: { fs: full }\n"),
    ] {
        let app = user.built(name, more);
        user.qyv(&["run", &app, "--", "write", &file, "x"]).expect(0);
        user.qyv(&["run", &app, "--", "cat", &file]).expect(1);
    }
    // Where it may not write there is none to write to.
    for (name, more) in [("none", ""), ("read", "permissions: { fs: read }\n")] {
        let app = user.built(name, more);
        user.qyv(&["run", &app, "--", "write", &file, "x"]).expect(1);
    }
    // The operator's own comes first.
    user.write("shared/file", "granted");
    let grant = format!("{}::/tmp", user.path("shared").display());
    let disk = user.built("disk2", "permissions: { fs: full }\nfs: { type: diskfs }\n");
    for app in [disk.as_str(), "full.qyvbin"] {
        let done = user.qyv(&["run", "--dir", &grant, app, "--", "cat", &file]).expect(0);
        assert_eq!(done.out, "granted");
    }
}

// [MAN-028] [MAN-029] [MAN-034]
#[test]
fn assets_stand_at_the_root_and_the_program_has_the_name_that_the_manifest_says() {
    let user = User::new();
    user.write("app/public/a.txt", "a");
    user.write("app/public/deep/b.txt", "b");
    let app = user.built(
        "app",
        "assets: [{ from: public, to: . }]\nassets_root: /\nargv0: clang++\nargs: [args]\n",
    );
    assert_eq!(user.qyv(&["run", &app]).expect(0).out, "clang++\nargs\n");
    let app = user.built("plain", "");
    assert_eq!(user.qyv(&["run", &app, "--", "args"]).expect(0).out, "plain\nargs\n");
    user.write("top/public/a.txt", "a");
    user.write("top/public/deep/b.txt", "b");
    let app = user.built("top", "assets: [{ from: public, to: . }]\nassets_root: /\n");
    assert_eq!(user.qyv(&["run", &app, "--", "cat", "/a.txt"]).expect(0).out, "a");
    assert_eq!(user.qyv(&["run", &app, "--", "cat", "/deep/b.txt"]).expect(0).out, "b");
    user.qyv(&["run", &app, "--", "write", "/a.txt", "x"]).expect(1);
}

// [RUN-075]
#[test]
fn assets_are_in_the_listing_of_the_root_wherever_that_is() {
    let user = User::new();
    for kind in [
        "memfs",
        "diskfs",
        // Nothing answers there, and nothing of it is used.
        "netfs, source: \"http://127.0.0.1:9/\"",
    ] {
        for guest in &GUESTS {
            let which = format!("{kind} {} {}", guest.language, guest.version);
            for access in ["write", "read"] {
                let manifest = format!("assets: [public]\npermissions: {{ fs: {access} }}\nfs: {{ type: {kind} }}\n");
                let app = guest.archive(&user, &manifest).unwrap();
                let steps = "list /:. + list /assets:public + read /assets:public/a.txt";
                let args: Vec<&str> = ["run", "-q", &app].into_iter().chain(steps.split(' ')).collect();
                let done = user.qyv(&args).expect(0);
                let (root, rest) = done.out.trim_end().split_once(' ').unwrap();
                assert!(root.split(',').any(|name| name == "assets"), "{which}: {root}");
                assert_eq!(rest, "a.txt,b.txt read:asset", "{which}");
            }
        }
    }
}

// [RUN-075]
#[test]
fn file_that_a_guest_left_where_its_assets_are_hides_none_of_them() {
    let user = User::new();
    let guest = &GUESTS[0];
    let manifest = |assets: &str| format!("{assets}permissions: {{ fs: write }}\nfs: {{ type: diskfs }}\n");
    let app = guest.archive(&user, &manifest("")).unwrap();
    user.qyv(&["run", &app, "write", "/:assets", "x"]).expect(0);
    let app = guest.archive(&user, &manifest("assets: [public]\n")).unwrap();
    let done = user.qyv(&["run", "-q", &app, "read", "/assets:public/a.txt"]).expect(0);
    assert_eq!(done.out, "read:asset\n");
}

/// A core module that makes directories without end, in its root.
const MAKES_DIRECTORIES: &str = r#"(module
    (import "wasi_snapshot_preview1" "path_create_directory" (func $mkdir (param i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "aaaaaaaa")
    (func (export "_start") (local $n i32)
        (loop $next
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            ;; Its name: the number's eight digits of four bits, from `a` on.
            (i32.store (i32.const 0) (i32.add (i32.const 0x61616161)
                (i32.or (i32.or (i32.and (local.get $n) (i32.const 15))
                    (i32.shl (i32.and (local.get $n) (i32.const 0xf0)) (i32.const 4)))
                    (i32.or (i32.shl (i32.and (local.get $n) (i32.const 0xf00)) (i32.const 8))
                    (i32.shl (i32.and (local.get $n) (i32.const 0xf000)) (i32.const 12))))))
            (drop (call $mkdir (i32.const 3) (i32.const 0) (i32.const 8)))
            (br $next))))"#;

// [RUN-033]
#[test]
fn timeout_ends_a_guest_that_keeps_creating_files() {
    let user = User::new();
    user.app(
        "app",
        "permissions: { fs: write }\nresources: { timeout: 300ms, memory: 1GiB }\n",
    );
    user.write("app/probe.wasm", wat::parse_str(MAKES_DIRECTORIES).unwrap());
    user.qyv(&["build", "app", "-o", "app.qyvbin"]).expect(0);
    // A reader that never comes must not keep it from ending either: nobody
    // reads this pipe, and it is full.
    let (reader, writer) = std::io::pipe().unwrap();
    let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
    rustix::fs::fcntl_setfl(&writer, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    while rustix::io::write(&writer, &[b' '; 512]).is_ok() {}
    rustix::fs::fcntl_setfl(&writer, flags).unwrap();
    let status = user
        .command()
        .args(["run", "app.qyvbin"])
        .stderr(writer)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(124));
    drop(reader);
}
