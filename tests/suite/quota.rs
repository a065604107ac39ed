//! What an application keeps on disk is bounded, whatever it does and in whatever
//! version of WASI.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;

use crate::matrix::{GUESTS, Guest};
use crate::needs::lacks;
use crate::overlay::without_namespaces;
use crate::support::{CommandOutput, User};

const LIMIT: u64 = 1 << 20;

fn guest(version: u8) -> &'static Guest {
    let is_one = |guest: &&Guest| guest.language == "rust" && guest.version == version;
    GUESTS.iter().find(is_one).unwrap()
}

/// A guest's archive with a directory of its own on disk.
fn built(user: &User, version: u8, permissions: &str) -> String {
    let manifest = format!("permissions: {permissions}\nfs: {{ type: diskfs }}\n");
    guest(version).archive(user, &manifest).unwrap()
}

/// What is listed of the application's data: lengths, and what counts.
fn listed(user: &User) -> (u64, u64) {
    let listed = user.qyv(&["data", "ls", "--format", "json"]).expect(0).json();
    let data = &listed["data"][0];
    (data["bytes"].as_u64().unwrap(), data["storage"].as_u64().unwrap())
}

/// Space that the files below a directory take on the disk, and their lengths.
fn taken(directory: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let (mut blocks, mut lengths) = (0, 0);
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        if meta.is_dir() {
            let below = taken(&entry.path());
            (blocks, lengths) = (blocks + below.0, lengths + below.1);
        } else {
            lengths += meta.len();
        }
        // A file of several names is met by each.
        let names = if meta.is_dir() { 1 } else { meta.nlink() };
        blocks += meta.blocks() * 512 / names;
    }
    (blocks, lengths)
}

/// How many names of a block each fit in the limit: where a file system counts the names
/// of a directory in its size, as tmpfs does, so many make it larger than a block too.
fn names(user: &User) -> u64 {
    let directory = user.path("names");
    for n in 0..256 {
        fs::create_dir_all(directory.join(format!("d{n}"))).unwrap();
    }
    let size = fs::metadata(directory).unwrap().len();
    LIMIT / 4096 + 1 - size.div_ceil(4096).max(1)
}

/// Steps with a limit of a mebibyte in an empty directory, and what they come to.
const CASES: &[(&str, &str)] = &[
    ("fill /:f 100", "16:insufficient-space"),
    ("hoard /:f append 100", "16:insufficient-space"),
    ("hoard /:f small 10000", "NAMES:insufficient-space"),
    ("hoard /:f holes 100", "16:insufficient-space"),
    ("hoard /:f nameless 100", "16:insufficient-space"),
    ("write /:f x + hoard /:f links 10000", "ok 1023:insufficient-space"),
    ("many /:d 10000", "NAMES:insufficient-space"),
    ("deep /: 10000", "256:insufficient-space"),
    (
        "write /:f x + resize /:f 1048576 + resize /:f 1048577 + resize /:f 99999999999999",
        "ok ok insufficient-space insufficient-space",
    ),
    // What is written over takes nothing, what is removed is free again.
    ("fill /:f 16 + hoard /:f again 100", "ok ok"),
    ("hoard /:f passing 100", "ok"),
    (
        "fill /:f 16 + write /:g x + unlink /:f + write /:g x",
        "ok insufficient-space ok ok",
    ),
    (
        "fill /:f 16 + write /:g x + write /:f x + write /:g x",
        "ok insufficient-space ok ok",
    ),
    (
        "fill /:f 16 + write /:g x + resize /:f 0 + fill /:g 16",
        "ok insufficient-space ok ok",
    ),
    (
        "fill /:f 15 + write /:g x + rename /:g /:f + fill /:g 15",
        "ok ok ok ok",
    ),
    (
        "many /:d NAMES + write /:f x + rmdir /:d7 + write /:f x",
        "ok insufficient-space ok ok",
    ),
    (
        "fill /:f 16 + link /:f /:g + unlink /:f + write /:h x",
        "ok ok ok insufficient-space",
    ),
];

// [RUN-062] [RUN-063]
#[test]
fn space_that_a_guest_hoards_is_bounded_and_its_call_fails() {
    let mut wrong = Vec::new();
    for version in [1, 2, 3] {
        let user = User::new();
        let app = built(&user, version, "{ fs: write }");
        let names = names(&user).to_string();
        for case in CASES {
            let [steps, expected] = [case.0, case.1].map(|text| text.replace("NAMES", &names));
            let mut args = vec!["run", "-q", "--limit", "storage=1MiB", &app];
            args.extend(steps.split(' '));
            let said = user.qyv(&args).expect(0).out;
            let (blocks, lengths) = taken(&user.home().join("data"));
            let (bytes, storage) = listed(&user);
            let most = LIMIT / 10 * 12;
            if said.trim_end() != expected || blocks > most || storage > LIMIT || bytes > lengths {
                wrong.push(format!(
                    "{version} {steps}: {said}, not {expected}; {blocks} of the disk, {storage} listed"
                ));
            }
            user.qyv(&["data", "rm", "app", "-q"]).expect(0);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// [RUN-062]
#[test]
fn what_earlier_runs_have_left_counts_and_each_directory_of_a_list_too() {
    for version in [1, 2, 3] {
        let user = User::new();
        let app = built(&user, version, "{ fs: { read: [/in], write: [/a, /b] } }");
        let run = |steps: &str| {
            let mut args = vec!["run", "-q", "--limit", "storage=1MiB", &app];
            args.extend(steps.split(' '));
            user.qyv(&args).expect(0).out.trim_end().to_string()
        };
        // Three directories take a block each.
        assert_eq!(run("fill /a:f 15 + resize /a:f 1036288"), "ok ok");
        assert_eq!(run("write /b:f x"), "insufficient-space");
        assert_eq!(run("rename /a:f /b:f + resize /b:f 1032192 + write /a:g x"), "ok ok ok");
        assert_eq!(listed(&user), (1_032_193, LIMIT));
    }
}

// [RUN-062]
#[test]
fn storage_is_the_operators_the_rules_and_the_manifests_to_name() {
    let user = User::new();
    let limit_of = |app: &str, options: &[&str]| {
        let mut args = vec!["run", "-q", "--audit", "audit"];
        args.extend(options);
        args.extend([app, "args"]);
        user.qyv(&args).expect(0);
        let audit = fs::read_to_string(user.path("audit")).unwrap();
        fs::remove_file(user.path("audit")).unwrap();
        let granted: serde_json::Value = serde_json::from_str(audit.lines().next().unwrap()).unwrap();
        granted["limits"]["storage"].as_u64()
    };
    // No manifest has more than the default by itself. What is kept in memory is bounded
    // by what the operator lets the guest have of that.
    let (disk, memory, remote) = (
        "{ type: diskfs }",
        "{ type: memfs }",
        "{ type: netfs, source: \"http://localhost:1\" }",
    );
    for (kind, most, in_memory) in [
        (disk, 4 << 30, false),
        (memory, 512 << 20, true),
        (remote, 1 << 30, true),
    ] {
        let asked = format!("permissions: {{ fs: write }}\nresources: {{ storage: 100GB }}\nfs: {kind}\n");
        let app = guest(2).archive(&user, &asked).unwrap();
        assert_eq!(limit_of(&app, &[]), Some(most), "{kind}");
        assert_eq!(limit_of(&app, &["--limit", "storage=5GiB"]), Some(5 << 30), "{kind}");
        let bounded = if in_memory { 64 << 20 } else { most };
        assert_eq!(limit_of(&app, &["--limit", "memory=64MiB"]), Some(bounded), "{kind}");
        assert!(user.qyv(&["inspect", &app]).expect(0).out.contains("\nstorage      "));
    }
}

// [RUN-062]
#[test]
fn directory_of_the_operators_has_no_quota_and_is_another_file_system() {
    for version in [1, 2, 3] {
        let user = User::new();
        let app = built(&user, version, "{ fs: write }");
        fs::create_dir(user.path("own")).unwrap();
        let mut args = vec!["run", "-q", "--limit", "storage=1MiB", "--dir", "own::/own", &app];
        args.extend(
            "fill /own:f 20 + rename /own:f /:f + link /own:f /:f + write /:g x + rename /:g /own:g".split(' '),
        );
        let said = user.qyv(&args).expect(0).out;
        assert_eq!(said, "ok io io ok io\n", "{version}");
    }
}

// [RUN-063]
#[test]
fn runs_of_one_application_share_its_space() {
    for version in [1, 2, 3] {
        let user = User::new();
        let app = built(&user, version, "{ fs: write }");
        let mut command = user.command();
        command.args(["run", "-q", "--limit", "storage=1MiB", &app]);
        // It waits for its input while another runs.
        command.args("fill /:a 8 + stdout ! + stdin + fill /:b 100".split(' '));
        let mut first = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut mark = [0];
        first.stdout.as_mut().unwrap().read_exact(&mut mark).unwrap();
        let second = user.qyv(&["run", "-q", "--limit", "storage=1MiB", &app, "fill", "/:c", "100"]);
        assert_eq!(second.expect(0).out, "8:insufficient-space\n", "{version}");
        first.stdin.take().unwrap().write_all(b"x").unwrap();
        CommandOutput::from(&first.wait_with_output().unwrap()).expect(0);
        let (blocks, lengths) = taken(&user.home().join("data"));
        assert!(
            blocks <= LIMIT / 10 * 12 && lengths <= LIMIT / 10 * 12,
            "{version}: {lengths}"
        );
    }
}

// [RUN-030] [RUN-062]
#[test]
fn memory_is_bounded_too_where_the_kernel_does_not_bound_it() {
    if lacks(&["namespaces", "unshare"]) {
        return;
    }
    for version in [1, 2, 3] {
        for (kind, directory) in [("memfs", "/"), ("diskfs", "/tmp")] {
            let user = User::new();
            let manifest = format!("permissions: {{ fs: write }}\nfs: {{ type: {kind} }}\n");
            let app = guest(version).archive(&user, &manifest).unwrap();
            for (steps, least, most) in [
                ("fill DIR:f 100", 14, 16),
                ("hoard DIR:f append 100", 14, 16),
                ("hoard DIR:f holes 100", 14, 16),
                ("many DIR:d 10000", 240, 256),
            ] {
                let steps = steps.replace("DIR", directory);
                let mut args = vec!["run", "-q", "--limit", "storage=1MiB", &app];
                args.extend(steps.split(' '));
                let said = without_namespaces(&user, &args).expect(0).out;
                let count = said.trim_end().strip_suffix(":insufficient-space");
                let count = count.and_then(|count| count.parse::<u32>().ok());
                assert!(
                    count.is_some_and(|count| (least..=most).contains(&count)),
                    "{version} {kind} {steps}: {said}"
                );
            }
        }
    }
}
