//! The parsed form of a large policy: what is kept of it, and that no other thing than the policy's
//! text decides.

use std::fs;
use std::path::PathBuf;

use crate::support::{CommandOutput, User};

const EXIT: &[&str] = &["--", "exit", "7"];

fn run(user: &User) -> CommandOutput {
    user.qyv(&[&["run", "app.qyvbin"][..], EXIT].concat())
}

/// Makes the policy of a user large.
fn enlarge(user: &User) -> String {
    let policy = user.home().join("trust.yaml");
    let text = fs::read_to_string(&policy).unwrap() + &format!("# {}\n", "-".repeat(20_000));
    fs::write(policy, &text).unwrap();
    text
}

fn forms(user: &User) -> Vec<PathBuf> {
    let directory = user.home().join("store/v1/state/policies");
    let entries = fs::read_dir(directory).map(|entries| entries.map(|e| e.unwrap().path()).collect());
    entries.unwrap_or_default()
}

// [SIGN-049] [STORE-056]
#[test]
fn altered_parsed_form_decides_nothing_and_is_made_again() {
    let user = User::new();
    user.built("app", "");
    run(&user).expect(7);
    assert_eq!(forms(&user).len(), 0, "a small policy is parsed each time");
    let text = enlarge(&user);
    for command in [&["verify", "app.qyvbin"][..], &["trust", "show"], &["trust", "check"]] {
        user.qyv(command).expect(0);
    }
    assert_eq!(forms(&user).len(), 0, "what only judges keeps nothing");
    run(&user).expect(7);
    let [form] = &forms(&user)[..] else { panic!() };
    let good = fs::read(form).unwrap();
    for at in [0, 8, 39, 40, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(form, bad).unwrap();
        run(&user).expect(7);
        assert_eq!(fs::read(form).unwrap(), good, "byte {at}");
    }
    fs::remove_file(form).unwrap();
    fs::create_dir(form).unwrap();
    run(&user).expect(7);
    assert_eq!(fs::read(form).unwrap(), good);
    // A policy that no longer accepts the application is another text.
    let policy = user.home().join("trust.yaml");
    fs::write(&policy, text.replace("file:", "file:other")).unwrap();
    run(&user).expect(126);
    fs::write(&policy, &text).unwrap();
    run(&user).expect(7);
}

// [SIGN-049]
#[test]
fn parsed_form_that_cant_be_kept_is_no_error() {
    let user = User::new();
    user.built("app", "");
    run(&user).expect(7);
    enlarge(&user);
    user.write("home/store/v1/state/policies", "no directory");
    let done = run(&user).expect(7);
    assert_eq!(done.err, "");
    assert_eq!(
        fs::read(user.home().join("store/v1/state/policies")).unwrap(),
        b"no directory"
    );
}
