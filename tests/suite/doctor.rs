//! `qyv doctor`: what a host has and lacks.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::registry::Server;
use crate::support::User;

/// The finding of a name.
fn finding<'v>(report: &'v Value, name: &str) -> &'v Value {
    let findings = report["findings"].as_array().unwrap();
    let found = findings.iter().find(|finding| finding["name"] == name);
    found.unwrap_or_else(|| panic!("{name} in {report}"))
}

fn report(user: &User, args: &[&str], code: i32) -> Value {
    let args = [&["doctor", "--format", "json"], args].concat();
    serde_json::from_str(&user.qyv(&args).expect(code).out).unwrap()
}

/// [CMD-040]
#[test]
fn doctor_reports_and_leaves_nothing_behind() {
    let user = User::new();
    let text = user.qyv(&["doctor"]).expect(0).out;
    for area in ["host\n", "user\n", "network\n", "tools\n"] {
        assert!(text.contains(area), "{area} in {text}");
    }
    assert!(!user.home().exists());
    let empty = report(&user, &[], 0);
    assert_eq!(finding(&empty, "policy")["state"], "note");
    user.built("app", "");
    let built = report(&user, &[], 0);
    assert_eq!(finding(&built, "policy")["state"], "ok");
    assert_eq!(finding(&built, "images")["found"], "1 name in the store");
}

/// [CMD-040]
#[test]
fn doctor_finds_what_makes_runs_fail() {
    let user = User::new();
    user.built("app", "");
    let policy = user.home().join("trust.yaml");
    fs::write(&policy, "version: 1\nrules: nonsense\n").unwrap();
    let broken = report(&user, &[], 1);
    assert_eq!(broken["problems"], 1);
    assert_eq!(finding(&broken, "policy")["state"], "problem");
    fs::remove_file(&policy).unwrap();
    fs::set_permissions(user.home(), fs::Permissions::from_mode(0o777)).unwrap();
    let open = report(&user, &[], 1);
    let directory = finding(&open, "configuration");
    assert_eq!(directory["state"], "problem");
    let fix = directory["fix"].as_str().unwrap();
    assert!(fix.contains("chmod go-w"), "{fix}");
}

/// [CMD-040]
#[test]
fn doctor_asks_the_registries_that_are_named() {
    let user = User::new();
    let hub = Server::hub(&[]);
    let good = report(&user, &[hub.address.as_str()], 0);
    assert_eq!(finding(&good, hub.address.as_str())["state"], "ok");
    let bad = report(&user, &["--retries", "0", "127.0.0.1:1"], 1);
    assert_eq!(finding(&bad, "127.0.0.1:1")["state"], "problem");
}
