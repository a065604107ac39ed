//! A store in which somebody altered a file: `run` refuses, repairs, or was not concerned, and
//! what a guest reads is what was signed. `QYVOL_KILLS` asks for every alteration of every file.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::User;

type Alteration = (&'static str, fn(&Path, &Path));

const ALTERATIONS: &[Alteration] = &[
    ("flipped", |file, _| {
        let mut bytes = fs::read(file).unwrap();
        let middle = bytes.len() / 2;
        match bytes.get_mut(middle) {
            Some(byte) => *byte ^= 1,
            None => bytes.push(1),
        }
        fs::set_permissions(file, PermissionsExt::from_mode(0o600)).unwrap();
        fs::write(file, bytes).unwrap();
    }),
    ("replaced", |file, other| {
        fs::remove_file(file).unwrap();
        fs::copy(other, file).unwrap();
    }),
    ("removed", |file, _| fs::remove_file(file).unwrap()),
    ("loosened", |file, _| {
        fs::set_permissions(file, PermissionsExt::from_mode(0o666)).unwrap();
    }),
    ("re-owned", |file, _| drop(chown(file, Some(65_534), None))),
    ("made a link", |file, other| {
        fs::remove_file(file).unwrap();
        symlink(other, file).unwrap();
    }),
    ("given a second link", |file, other| {
        let second = other.with_extension("second");
        let _ = fs::remove_file(&second);
        fs::hard_link(file, second).unwrap();
    }),
    ("exchanged for a directory", |file, _| {
        fs::remove_file(file).unwrap();
        fs::create_dir(file).unwrap();
    }),
];

/// Every file below a directory.
fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, found),
            false => found.push(path),
        }
    }
}

/// A new store that has run the application once.
fn prepare(user: &User, app: &str) -> Vec<PathBuf> {
    let store = user.home().join("store");
    let open = Command::new("chmod").arg("-R").arg("u+rwX").arg(&store).status();
    assert!(open.unwrap().success());
    fs::remove_dir_all(&store).unwrap();
    user.qyv(&["load", "--no-verify", app]).expect(0);
    let read = user.qyv(&["run", "app:1.0.0", "cat", "/assets/data"]).expect(0);
    assert_eq!(read.out, "as signed");
    let mut found = Vec::new();
    files(&store, &mut found);
    found.retain(|path| !path.components().any(|part| part.as_os_str() == "locks"));
    found.sort();
    found
}

#[test]
fn altered_file_of_a_store_is_refused_or_repaired_and_never_read_by_a_guest() {
    let all = std::env::var_os("QYVOL_KILLS").is_some();
    let user = User::new();
    user.write("app/data", "as signed");
    let app = user.built("app", "assets: [data]\n");
    let other = user.write("other", "of somebody else");
    let count = prepare(&user, &app).len();
    assert!(count > 8, "{count}");
    let (mut refused, mut served) = (0, 0);
    for index in 0..count {
        for (number, (what, alter)) in ALTERATIONS.iter().enumerate() {
            if !all && number != index % ALTERATIONS.len() {
                continue;
            }
            let found = prepare(&user, &app);
            let file = &found[index.min(found.len() - 1)];
            let parent = file.parent().unwrap();
            let mode = fs::metadata(parent).unwrap().permissions();
            fs::set_permissions(parent, PermissionsExt::from_mode(0o700)).unwrap();
            alter(file, &other);
            fs::set_permissions(parent, mode).unwrap();
            let case = format!("{} {what}", file.display());
            let done = user.qyv(&["run", "app:1.0.0", "cat", "/assets/data"]);
            match done.code {
                0 => assert_eq!(done.out, "as signed", "{case}: {}", done.err),
                _ => assert!(
                    [125, 126].contains(&done.code) && done.out.is_empty() && done.err.contains("error: "),
                    "{case}: {} {}{}",
                    done.code,
                    done.out,
                    done.err
                ),
            }
            refused += usize::from(done.code != 0);
            served += usize::from(done.code == 0);
            // What is found can be repaired, and then it runs.
            user.qyv(&["check", "--repair"]);
            let again = user.qyv(&["run", "app:1.0.0", "cat", "/assets/data"]);
            assert!(again.code != 0 || again.out == "as signed", "{case}: {}", again.out);
            assert_eq!(fs::read_to_string(&other).unwrap(), "of somebody else", "{case}");
        }
    }
    assert!(refused > 0 && served > 0, "{refused} {served}");
}
