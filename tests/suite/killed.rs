//! Killed at every system call that changes something: what was there stays, what is remembered
//! never goes back, and doing it again succeeds. strace kills before the call is made, so that
//! each state of the disk between two calls is one that a command leaves behind.
//!
//! An ordinary run tries a few calls of each command, spread over all; `QYVOL_KILLS` asks for
//! more, up to every one.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use crate::fleet::{Publishers, TWO, serial};
use crate::needs::lacks;
use crate::registry::Server;
use crate::resume::partial;
use crate::support::User;
use crate::wire::{component_part, release};

/// The calls; those marked are missing on some processors.
const CHANGES: &str = "write,pwrite64,writev,?rename,?renameat,renameat2,?unlink,unlinkat,?link,linkat,symlinkat,\
                       ?mkdir,mkdirat,?rmdir,fsync,fdatasync,ftruncate,fallocate,?chmod,fchmod,fchmodat,utimensat,\
                       copy_file_range,sendfile,flock,ioctl";

fn strace(user: &User, options: &[&str], args: &[&str]) -> Command {
    let qyv = user.command();
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-qq", "-e", &format!("trace={CHANGES}")])
        .args(options);
    strace.arg(qyv.get_program()).args(args).env_clear();
    strace.envs(qyv.get_envs().filter_map(|(name, value)| Some((name, value?))));
    strace.current_dir(user.path(""));
    strace
}

/// The calls of a command, in their order: name and number. strace counts by thread and name, so
/// that one thread's calls stand for another's of the same number.
fn calls(user: &User, args: &[&str]) -> Vec<(String, usize)> {
    let done = strace(user, &["-o", "trace"], args).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut found = Vec::new();
    let trace = fs::read(user.path("trace")).unwrap();
    for line in String::from_utf8_lossy(&trace).lines() {
        let Some((thread, rest)) = line.split_once(' ') else {
            continue;
        };
        let Some((name, _)) = rest.trim_start().split_once('(') else {
            continue;
        };
        if !name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        {
            continue;
        }
        let count = counts.entry((thread.to_string(), name.to_string())).or_default();
        *count += 1;
        if !found.contains(&(name.to_string(), *count)) {
            found.push((name.to_string(), *count));
        }
    }
    found
}

/// Kills a command at its calls, each time from the state that `prepare` makes, and then asks
/// `holds`.
fn at_every_call(user: &User, args: &[&str], prepare: impl Fn(), holds: impl Fn(&str)) {
    let asked = std::env::var("QYVOL_KILLS").ok().and_then(|n| n.parse().ok());
    prepare();
    let calls = calls(user, args);
    assert!(calls.len() > 3, "{args:?} changes nothing: {calls:?}");
    let tries = asked.unwrap_or(6).min(calls.len());
    for index in 0..tries {
        let (name, number) = &calls[index * calls.len() / tries];
        prepare();
        let inject = format!("inject={name}:signal=KILL:when={number}");
        let done = strace(user, &["-o", "/dev/null", "-e", &inject], args)
            .output()
            .unwrap();
        let case = format!("{args:?}, killed at {name} {number} of {} calls", calls.len());
        // Threads share their work out anew each time, and what was killed may be a child.
        assert!(index > 0 || done.status.signal() == Some(9), "{case}: {}", done.status);
        let check = user.qyv(&["check"]);
        assert_eq!(check.code, 0, "{case}: {}{}", check.out, check.err);
        holds(&case);
    }
}

// [SIGN-032]
#[test]
fn command_killed_at_a_call_leaves_an_undamaged_store_and_keeps_its_state() {
    if lacks(&["strace"]) {
        return;
    }
    let server = Server::hub(&[]);
    let user = User::new();
    user.write("app/data", vec![7; 300_000]);
    let manifest = user.app("app", "assets: [data]\n");
    let text = fs::read_to_string(&manifest).unwrap();
    for version in ["0.9.0", "1.0.0", "2.0.0"] {
        fs::write(&manifest, text.replace("1.0.0", version)).unwrap();
        user.qyv(&["build", "app", "-o", &format!("{version}.qyvbin")])
            .expect(0);
    }
    let name = server.name("app:2.0.0");
    user.qyv(&["push", "2.0.0.qyvbin", &name]).expect(0);
    for reference in ["app:0.9.0", "app:1.0.0", "app:2.0.0"] {
        let _ = user.qyv(&["rm", reference]);
    }
    user.qyv(&["prune", "-y"]).expect(0);
    let policy = user.home().join("trust.yaml");
    let denying = fs::read_to_string(&policy)
        .unwrap()
        .replace("    require", "    rollback: deny\n    require");
    assert!(denying.contains("rollback"), "{denying}");
    user.write("own.pub", user.qyv(&["keys", "export", "default"]).expect(0).out);
    // A store that remembers 1.0.0. It can't be copied: it would know its trees for altered.
    let prepare = || {
        fs::remove_dir_all(user.home().join("store")).unwrap();
        fs::write(&policy, &denying).unwrap();
        user.qyv(&["run", "1.0.0.qyvbin", "exit", "0"]).expect(0);
    };
    let holds = |case: &str| {
        let older = user.qyv(&["run", "0.9.0.qyvbin", "exit", "0"]);
        assert_eq!(older.code, 126, "{case}: {}", older.err);
        let size = user.qyv(&["run", "2.0.0.qyvbin", "--", "stat", "/assets/data"]);
        assert_eq!(size.out, "file 300000\n", "{case}: {}", size.err);
        let older = user.qyv(&["run", "1.0.0.qyvbin", "exit", "0"]);
        assert_eq!(older.code, 126, "{case}: {}", older.err);
    };
    at_every_call(&user, &["run", "2.0.0.qyvbin", "exit", "0"], prepare, holds);
    at_every_call(&user, &["pull", &name], prepare, |case| {
        let again = user.qyv(&["pull", &name]);
        assert_eq!(again.code, 0, "{case}: {}", again.err);
        holds(case);
    });
    let with_waste = || {
        prepare();
        user.qyv(&["load", "--no-verify", "2.0.0.qyvbin"]).expect(0);
        user.qyv(&["rm", "app:2.0.0"]).expect(0);
    };
    at_every_call(&user, &["prune", "-y"], with_waste, |case| {
        user.qyv(&["prune", "-y"]).expect(0);
        holds(case);
    });
    let rule = ["trust", "add", "r.example/**", "--key", "own.pub"];
    at_every_call(&user, &rule, prepare, |case| {
        let shown = user.qyv(&["trust", "show"]);
        assert!(
            shown.code == 0 && shown.out.contains("file:"),
            "{case}: {}{}",
            shown.out,
            shown.err
        );
        user.qyv(&rule).expect(0);
        holds(case);
    });
}

// [SIGN-042] [SIGN-044] [SIGN-072]
#[test]
fn update_killed_at_a_call_leaves_a_document_of_the_chain_and_never_an_older_one() {
    if lacks(&["strace"]) {
        return;
    }
    let publishers = Publishers::new();
    let host = User::new();
    for number in 1..=4 {
        publishers.add(number, TWO, &["alice", "bob"]);
    }
    publishers.give(&host, "2.yaml");
    publishers.give(&host, "fleet.jsonl");
    let prepare = || {
        let _ = fs::remove_dir_all(host.home());
        host.qyv(&["trust", "follow", "2.yaml"]).expect(0);
    };
    // What a host revokes by itself is there or not, and everything is still judged.
    let revoke = ["trust", "revoke", "carol"];
    let undo = ["trust", "revoke", "--undo", "carol"];
    let revoked = || {
        prepare();
        host.qyv(&revoke).expect(0);
    };
    let says = |case: &str| {
        let shown = host.qyv(&["trust", "show"]);
        assert_eq!(shown.code, 0, "{case}: {}", shown.err);
        shown.out.contains("on this host: revoked")
    };
    at_every_call(&host, &revoke, prepare, |case| {
        says(case);
        host.qyv(&revoke).expect(0);
        assert!(says(case), "{case}");
    });
    at_every_call(&host, &undo, revoked, |case| {
        says(case);
        host.qyv(&undo).expect(0);
        assert!(!says(case), "{case}");
    });
    at_every_call(&host, &["trust", "import", "fleet.jsonl"], prepare, |case| {
        let now = serial(&host);
        assert!((2..=4).contains(&now), "{case}: {now}");
        let policy = fs::read_to_string(host.home().join("trust.yaml")).unwrap();
        assert_eq!(policy, fs::read_to_string(publishers.path(now)).unwrap(), "{case}");
        host.qyv(&["trust", "import", "fleet.jsonl"]).expect(0);
        assert_eq!(serial(&host), 4, "{case}");
    });
}

// [REG-044] [STORE-023]
#[test]
fn patched_pull_that_is_killed_at_a_call_goes_on_when_repeated() {
    if lacks(&["strace"]) {
        return;
    }
    let server = Server::hub(&[]);
    let user = User::new();
    let (old_file, _) = release(&user, 3 << 20, "1.0.0");
    // Half of the target is in the base: the patch is large enough to be kept when it breaks off.
    let (file, component) = release(&user, 6 << 20, "1.0.1");
    let (old, new) = (server.name("app:1.0.0"), server.name("app:1.0.1"));
    user.qyv(&["push", &old_file, &old, "--no-encodings"]).expect(0);
    user.qyv(&["push", &file, &new, "--patch-from", &old_file]).expect(0);
    let host = User::new();
    let prepare = || {
        let _ = fs::remove_dir_all(host.home());
        host.qyv(&["pull", &old]).expect(0);
    };
    at_every_call(&host, &["pull", &new], prepare, |case| {
        // The image is there as a whole or not at all, and what was there stays.
        let names = host.qyv(&["images", "--quiet"]).expect(0).out;
        assert!(names.contains(":1.0.0"), "{case}: {names}");
        if names.contains(":1.0.1") {
            host.qyv(&["save", &new, "-o", "back.qyvbin", "--force"]).expect(0);
        }
        let again = host.qyv(&["pull", &new, "--format", "json"]);
        assert_eq!(again.code, 0, "{case}: {}", again.err);
        let part = component_part(&again.json());
        let (fetched, encoding) = (part["fetched"].as_u64().unwrap(), part["encoding"].as_str());
        assert!(fetched == 0 || encoding == Some("zstd-patch"), "{case}: {part}");
        assert!(fetched < component.len() as u64 / 2, "{case}: {part}");
        host.qyv(&["check"]).expect(0);
        // Killed after the component was in place, it left a patch that nobody asks for again.
        assert!(fetched == 0 || partial(&host) == 0, "{case}");
        host.qyv(&["prune", "-y"]).expect(0);
        assert_eq!(partial(&host), 0, "{case}");
        // By a name of the store alone, an image is saved under its own name.
        host.qyv(&["tag", &new, "app:1.0.1"]).expect(0);
        host.qyv(&["save", "app:1.0.1", "-o", "back.qyvbin", "--force"])
            .expect(0);
        let same = fs::read(host.path("back.qyvbin")).unwrap() == fs::read(user.path(&file)).unwrap();
        assert!(same, "{case}");
    });
}
