//! kill -9 at any moment: the store is whole, and doing it again succeeds.
//! `QYVOL_KILLS` asks for more rounds than the few of an ordinary run.

use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::{Prng, User};

#[test]
fn kill_at_any_moment_leaves_a_valid_store() {
    let rounds: usize = std::env::var("QYVOL_KILLS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(48);
    let user = User::new();
    let mut noise = Prng(0x9e37_79b9_7f4a_7c15);
    let data: Vec<u8> = (0..3_000_000).map(|_| noise.next() as u8).collect();
    user.write("app/data", data);
    let app = user.built("app", "assets: [data]\n");
    let verbs: [&[&str]; 4] = [
        &["build", "app", "-o", "again.qyvbin"],
        &["load", &app],
        &["run", &app, "--", "stat", "/assets/data"],
        &["prune", "--yes"],
    ];
    // How long each takes when it is left alone.
    let mut whole = Vec::new();
    for verb in verbs {
        prepare(&user, verb);
        let start = Instant::now();
        user.qyv(verb).expect(0);
        whole.push(start.elapsed());
    }
    for round in 0..rounds {
        let verb = verbs[round % verbs.len()];
        prepare(&user, verb);
        let limit = whole[round % verbs.len()].as_micros() as u64;
        let after = Duration::from_micros(noise.next() % limit.max(1));
        let start = Instant::now();
        let mut child = user
            .command()
            .args(verb)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while start.elapsed() < after {
            std::thread::yield_now();
        }
        let _ = child.kill();
        let mut out = String::new();
        let _ = child.stdout.take().unwrap().read_to_string(&mut out);
        child.wait().unwrap();
        let check = user.qyv(&["check"]);
        assert_eq!(check.code, 0, "round {round}, {verb:?} after {after:?}: {}", check.out);
        user.qyv(verb).expect(0);
        let size = user.qyv(&["run", &app, "--", "stat", "/assets/data"]).expect(0).out;
        assert_eq!(size, "file 3000000\n", "round {round}, {verb:?} after {after:?}");
    }
    user.qyv(&["prune", "-y"]).expect(0);
    let staging = user.home().join("store/v1/tmp");
    assert!(
        user.stored().iter().all(|p| !p.starts_with(&staging)),
        "{:?}",
        user.stored()
    );
}

/// Takes away what would leave the verb nothing to do.
fn prepare(user: &User, verb: &[&str]) {
    if verb[0] != "prune" {
        let _ = user.qyv(&["rm", "app:1.0.0"]);
        user.qyv(&["prune", "-y"]).expect(0);
    } else {
        let _ = user.qyv(&["load", "app.qyvbin"]);
        let _ = user.qyv(&["rm", "app:1.0.0"]);
    }
}
