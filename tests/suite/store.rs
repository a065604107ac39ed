//! The store: names, files in and out, other users, full and read-only disks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::needs::lacks;
use crate::support::{CommandOutput, Prng, User, third_party};

/// Lets everybody into the user's directory, as `/tmp` would.
pub fn chown_to_nobody(user: &User) {
    let status = Command::new("chown")
        .args(["-R", "65534:65534"])
        .arg(user.path(""))
        .status()
        .unwrap();
    assert!(status.success());
}

/// A copy of the command in the user's directory: its own may be closed to others. Another
/// process writes it, for a process that a test starts at once would hold a file that is
/// open here, and what is open for writing can't be run.
fn copied_command(user: &User) -> PathBuf {
    let copy = user.path("qyv");
    if !copy.exists() {
        let mut cp = Command::new("cp");
        assert!(cp.arg(env!("CARGO_BIN_EXE_qyv")).arg(&copy).status().unwrap().success());
    }
    copy
}

/// Runs `qyv` as the user nobody; only root can.
pub fn as_nobody(user: &User, args: &[&str]) -> CommandOutput {
    let binary = copied_command(user);
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&binary)
        .args(args);
    user.inside("util-linux", &mut command)
}

// [BIN-003] [BIN-004] [BIN-005]
#[test]
fn several_images_travel_in_one_file_and_come_back_the_same() {
    let user = User::new();
    user.write("one/a.txt", "first");
    let one = user.built("one", "assets: [a.txt]\n");
    user.built("two", "");
    user.qyv(&["save", "one:1.0.0", "two:1.0.0", "-o", "both.qyvbin"])
        .expect(0);
    let other = User::new();
    fs::create_dir_all(other.home()).unwrap();
    fs::copy(user.home().join("trust.yaml"), other.home().join("trust.yaml")).unwrap();
    fs::copy(user.path("both.qyvbin"), other.path("both.qyvbin")).unwrap();
    fs::copy(user.path(&one), other.path(&one)).unwrap();
    other.qyv(&["verify", "both.qyvbin"]).expect(0);
    other.qyv(&["load", "both.qyvbin"]).expect(0);
    assert_eq!(
        other.qyv(&["run", "one:1.0.0", "cat", "/assets/a.txt"]).expect(0).out,
        "first"
    );
    other.qyv(&["run", "two:1.0.0", "exit", "2"]).expect(2);
    other
        .qyv(&["save", "two:1.0.0", "one:1.0.0", "-o", "again.qyvbin"])
        .expect(0);
    assert!(fs::read(other.path("again.qyvbin")).unwrap() == fs::read(user.path("both.qyvbin")).unwrap());
    other.qyv(&["save", "one:1.0.0", "-o", "one-again.qyvbin"]).expect(0);
    assert!(fs::read(other.path("one-again.qyvbin")).unwrap() == fs::read(user.path(&one)).unwrap());
    // A file of several is no target to run.
    other.qyv(&["run", "both.qyvbin"]).expect(125);
}

#[test]
fn names_come_and_go_and_prune_takes_only_what_nothing_needs() {
    let user = User::new();
    let app = user.built("app", "");
    user.built("other", "env: { A: b }\n");
    user.qyv(&["run", &app, "exit", "0"]).expect(0);
    user.qyv(&["tag", "app:1.0.0", "kept:1"]).expect(0);
    user.qyv(&["rm", "app:1.0.0"]).expect(0);
    user.qyv(&["rm", "app:1.0.0"]).expect(1);
    user.qyv(&["rm", "other:1.0.0", "missing:1"]).expect(1);
    assert_eq!(
        user.qyv(&["images", "--format", "json"]).expect(0).json()["images"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let before = user.stored().len();
    let plan = user.qyv(&["prune", "--dry-run", "--format", "json"]).expect(0).json();
    assert_eq!(plan["plan"]["items"].as_array().unwrap().len(), 0, "{plan}");
    user.qyv(&["rm", "other:1.0.0"]).expect(0);
    user.qyv(&["prune"]).expect(2);
    assert_eq!(user.stored().len() + 1, before);
    user.qyv(&["prune", "--yes"]).expect(0);
    assert!(user.stored().len() + 1 < before);
    user.qyv(&["run", "kept:1", "exit", "3"]).expect(3);
    user.qyv(&["rm", "kept:1"]).expect(0);
    user.qyv(&["prune", "-y"]).expect(0);
    assert!(user.stored().is_empty(), "{:?}", user.stored());
    user.qyv(&["check"]).expect(0);
    let done = user.qyv(&["run", "kept:1"]).expect(125);
    assert!(done.err.contains("hint:"), "{}", done.err);
}

#[test]
fn running_image_is_not_pruned() {
    use std::io::{BufRead, BufReader};
    let user = User::new();
    user.write("app/a.txt", "asset");
    let app = user.built("app", "assets: [a.txt]\n");
    user.qyv(&["rm", "app:1.0.0"]).expect(0);
    user.qyv(&["prune", "-y"]).expect(0);
    let mut child = user
        .command()
        .args(["run", &app, "sleep"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    let running = user.stored().len();
    user.qyv(&["prune", "-y"]).expect(0);
    assert_eq!(user.stored().len(), running);
    child.kill().unwrap();
    child.wait().unwrap();
    user.qyv(&["prune", "-y"]).expect(0);
    assert!(user.stored().is_empty(), "{:?}", user.stored());
}

#[test]
fn damage_is_found_named_and_repaired() {
    let user = User::new();
    let app = user.built("app", "");
    let blob = user
        .stored()
        .into_iter()
        .filter(|p| p.to_string_lossy().contains("/blobs/"))
        .max_by_key(|p| fs::metadata(p).unwrap().len())
        .unwrap();
    fs::set_permissions(&blob, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let mut bytes = fs::read(&blob).unwrap();
    bytes[1000] ^= 1;
    fs::write(&blob, bytes).unwrap();
    let done = user.qyv(&["check"]).expect(1);
    assert!(
        done.out.contains(blob.file_name().unwrap().to_str().unwrap()),
        "{}",
        done.out
    );
    user.qyv(&["verify", "app:1.0.0"]).expect(16);
    user.qyv(&["run", "app:1.0.0"]).expect(126);
    assert!(done.out.contains("run `qyv check --repair`, then load"), "{}", done.out);
    let done = user.qyv(&["check", "--repair"]).expect(1);
    // What was done is not advised again.
    assert!(done.out.contains("repaired; load, pull or build"), "{}", done.out);
    user.qyv(&["load", &app]).expect(0);
    user.qyv(&["check"]).expect(0);
    user.qyv(&["run", "app:1.0.0", "exit", "3"]).expect(3);
}

#[test]
fn processes_that_run_load_and_prune_at_once_do_not_disturb_each_other() {
    let user = User::new();
    user.write("app/a.txt", "asset");
    let app = user.built("app", "assets: [a.txt]\n");
    std::thread::scope(|scope| {
        let user = &user;
        let app = app.as_str();
        for worker in 0..4 {
            scope.spawn(move || {
                for _ in 0..8 {
                    match worker {
                        0 => drop(user.qyv(&["load", app]).expect(0)),
                        1 => drop(user.qyv(&["run", app, "cat", "/assets/a.txt"]).expect(0)),
                        2 => drop(user.qyv(&["prune", "-y"]).expect(0)),
                        _ => {
                            user.qyv(&["tag", "app:1.0.0", "other:1"]).expect(0);
                            user.qyv(&["rm", "other:1"]).expect(0);
                        }
                    }
                }
            });
        }
    });
    user.qyv(&["check"]).expect(0);
    user.qyv(&["run", "app:1.0.0", "exit", "3"]).expect(3);
}

#[test]
fn store_of_another_user_and_loose_directories_are_refused() {
    if lacks(&["root"]) {
        return;
    }
    let user = User::new();
    let app = user.built("app", "");
    chown_to_nobody(&user);
    let done = user.qyv(&["run", &app]);
    assert!([125, 126].contains(&done.code), "{done:?}");
    assert!(done.err.contains("belongs to"), "{}", done.err);
    let user = User::new();
    user.built("app", "");
    fs::set_permissions(
        user.home().join("store/v1"),
        std::os::unix::fs::PermissionsExt::from_mode(0o777),
    )
    .unwrap();
    let done = user.qyv(&["images"]).expect(1);
    assert!(done.err.contains("chmod"), "{}", done.err);
}

#[test]
fn read_only_store_still_runs_what_it_has() {
    if lacks(&["mounts"]) {
        return;
    }
    let user = User::new();
    let app = user.built("app", "");
    user.qyv(&["run", &app, "exit", "3"]).expect(3);
    let fresh = User::new();
    fs::create_dir_all(fresh.home()).unwrap();
    fs::copy(user.home().join("trust.yaml"), fresh.home().join("trust.yaml")).unwrap();
    fs::copy(user.path(&app), fresh.path(&app)).unwrap();
    // Mounted read-only in a namespace of its own.
    for (who, from) in [(&user, "a store that has it"), (&fresh, "an empty home")] {
        let script = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && shift && exec \"$@\"";
        let mut command = Command::new("unshare");
        command
            .args(["-m", "sh", "-c", script, "sh"])
            .arg(who.home())
            .arg(env!("CARGO_BIN_EXE_qyv"))
            .args(["run", &app, "exit", "3"]);
        command
            .env_clear()
            .env("QYVOL_HOME", who.home())
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .current_dir(who.path(""));
        let done = third_party("util-linux", &mut command);
        assert_eq!(done.code, 3, "{from}: {done:?}");
    }
}

#[test]
fn full_disk_is_reported_and_leaves_the_store_intact() {
    if lacks(&["mounts"]) {
        return;
    }
    let user = User::new();
    let mut noise = Prng(0x0123_4567_89ab_cdef);
    user.write(
        "app/data",
        (0..3_000_000).map(|_| noise.next() as u8).collect::<Vec<u8>>(),
    );
    user.app("app", "assets: [data]\n");
    fs::create_dir_all(user.home()).unwrap();
    let script = "mount -t tmpfs -o size=1m,mode=0700 none \"$1\" && shift && \"$@\"; code=$?; \"$1\" check || exit 99; \"$1\" images >&2; exit $code";
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c", script, "sh"])
        .arg(user.home())
        .arg(env!("CARGO_BIN_EXE_qyv"))
        .args(["build", "app", "-o", "x.qyvbin"]);
    command
        .env_clear()
        .env("QYVOL_HOME", user.home())
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir(user.path(""));
    let done = third_party("util-linux", &mut command).expect(1);
    assert!(done.err.contains("no space left"), "{}", done.err);
    assert!(!done.err.contains("app:1.0.0"), "{}", done.err);
    assert!(!Path::new(&user.path("x.qyvbin")).exists());
}

#[test]
fn full_disk_keeps_no_code_and_the_application_runs() {
    if lacks(&["mounts"]) {
        return;
    }
    let user = User::new();
    let app = user.built("app", "");
    let policy = fs::read(user.home().join("trust.yaml")).unwrap();
    user.write("trust.yaml", policy);
    // Room for the policy and little more.
    let script = "mount -t tmpfs -o size=64k,mode=0700 none \"$1\" && cp trust.yaml \"$1\" && shift && \"$@\"; code=$?; \"$1\" check || exit 99; exit $code";
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c", script, "sh"])
        .arg(user.home())
        .arg(env!("CARGO_BIN_EXE_qyv"))
        .args(["run", &app, "exit", "3"]);
    command
        .env_clear()
        .env("QYVOL_HOME", user.home())
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir(user.path(""));
    let done = third_party("util-linux", &mut command).expect(3);
    assert!(done.err.contains("is not kept"), "{}", done.err);
}

#[test]
fn error_for_a_user_without_a_home_says_what_to_set() {
    let user = User::new();
    if !lacks(&["root"]) {
        let binary = copied_command(&user);
        chown_to_nobody(&user);
        let mut command = Command::new("setpriv");
        // No such user: nothing but the environment could name a home.
        command
            .args(["--reuid=4242", "--regid=65534", "--clear-groups"])
            .arg(&binary)
            .arg("images");
        command.env_clear().env("PATH", "/usr/bin:/bin").current_dir("/");
        let done = third_party("util-linux", &mut command).expect(1);
        assert!(done.err.contains("QYVOL_HOME"), "{}", done.err);
    }
    let done = CommandOutput::from(
        &user
            .command()
            .arg("images")
            .env_remove("QYVOL_HOME")
            .env("HOME", user.path("h"))
            .output()
            .unwrap(),
    )
    .expect(0);
    assert_eq!(done.err, "");
    assert!(!user.path("h").exists(), "looking writes nothing");
}

#[test]
fn names_alone_are_listed_quietly_and_habits_have_their_aliases() {
    let user = User::new();
    user.built("app", "");
    user.built("other", "");
    for verb in ["images", "ls"] {
        assert_eq!(user.qyv(&[verb, "-q"]).expect(0).out, "app:1.0.0\nother:1.0.0\n");
    }
    assert_eq!(user.qyv(&["rmi", "other:1.0.0"]).expect(0).out, "other:1.0.0\n");
    assert_eq!(user.qyv(&["ls", "-q"]).expect(0).out, "app:1.0.0\n");
    let help = user.qyv(&["--help"]).expect(0).out;
    for alias in ["ls", "rmi", "cp"] {
        assert!(help.contains(&format!("[alias: {alias}]")), "{alias} in {help}");
    }
}
