//! Fuel, and runs that repeat.

use std::fs;

use serde_json::Value;

use crate::support::User;

/// The probe as a module and as a component of 0.2.
fn probes(user: &User, more: &str) -> [String; 2] {
    user.component_app("two", more);
    user.qyv(&["build", "two", "-o", "two.qyvbin", "-q"]).expect(0);
    [user.built("one", more), "two.qyvbin".to_string()]
}

fn report(user: &User, args: &[&str], code: i32) -> Value {
    let path = user.path("report.json");
    let _ = fs::remove_file(&path);
    user.qyv(&[&["run", "-q", "--report", "report.json"], args].concat())
        .expect(code);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

// [RUN-065]
#[test]
fn fuel_bounds_the_work_of_a_guest_and_is_the_same_in_each_run() {
    let user = User::new();
    for app in probes(&user, "") {
        let ended = report(&user, &["--limit", "fuel=1000000", &app, "spin"], 124);
        assert_eq!(
            (&ended["limit"], &ended["fuel"]),
            (&"fuel".into(), &1_000_000.into()),
            "{app}"
        );
        let used = |limit: &str| report(&user, &["--limit", limit, &app, "flood", "100"], 0)["fuel"].as_u64();
        let fuel = used("fuel=100000000").unwrap();
        assert!((100..100_000_000).contains(&fuel), "{app}: {fuel}");
        assert_eq!(used("fuel=50000000"), Some(fuel), "{app}");
        let limit = format!("fuel={}", fuel / 2);
        let ended = report(&user, &["--limit", &limit, &app, "flood", "100"], 124);
        assert_eq!(ended["limit"], "fuel", "{app}");
        // Nothing counts it unless it is bounded.
        assert!(report(&user, &[&app, "flood", "100"], 0).get("fuel").is_none(), "{app}");
    }
    let [one, two] = probes(&user, "resources: { fuel: 1000 }\n");
    for app in [one, two] {
        assert_eq!(report(&user, &[&app, "flood", "100"], 124)["limit"], "fuel", "{app}");
    }
}

// [RUN-066]
#[test]
fn deterministic_run_repeats_and_waits_for_nothing() {
    let user = User::new();
    for app in probes(&user, "") {
        let run = |args: &[&str]| {
            user.qyv(&[&["run", "-q", "--deterministic"], args, &[&app, "moments"]].concat())
                .expect(0)
                .out
        };
        let first = run(&[]);
        // An hour of the guest's.
        assert!(first.starts_with("946684800."), "{app}: {first}");
        assert!(first.ends_with(" slept 3600 s\n"), "{app}: {first}");
        assert_eq!(run(&[]), first, "{app}");
        assert_eq!(run(&["--seed", "0"]), first, "{app}");
        let other = run(&["--seed", "1"]);
        assert_ne!(other, first, "{app}");
        assert_eq!(run(&["--seed", "1"]), other, "{app}");
        let fuel = || {
            report(&user, &["--deterministic", &app, "moments"], 0)["fuel"]
                .as_u64()
                .unwrap()
        };
        assert_eq!(fuel(), fuel(), "{app}");
        let input = user
            .qyv_with_input(&["run", "-q", "--deterministic", &app, "stdin"], "input")
            .expect(0);
        assert_eq!(input.out, "input", "{app}");
    }
}

// [RUN-066]
#[test]
fn deterministic_run_has_no_network_and_no_program_of_the_host() {
    let user = User::new();
    let tick = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/tick");
    user.qyv(&["build", tick, "-o", "tick.qyvbin"]).expect(0);
    let run = || user.qyv(&["run", "-q", "--deterministic", "tick.qyvbin"]).expect(1).out;
    let first = run();
    assert!(first.contains("echo: ") && first.ends_with(" ms\n"), "{first}");
    assert_eq!(run(), first);
    let [app, _] = probes(&user, "permissions: { exec: true }\n");
    let refused = user
        .qyv(&["run", "--deterministic", "--allow-exec", "/bin/true", &app, "args"])
        .expect(2);
    assert!(refused.err.contains("--allow-exec"), "{}", refused.err);
    user.qyv(&["run", "--seed", "1", &app, "args"]).expect(2);
    user.write("app/far.qyv", "");
    let far = user.built(
        "far",
        "permissions: { fs: read }\nfs: { type: netfs, source: \"https://files.example/\" }\n",
    );
    let refused = user.qyv(&["run", "--deterministic", &far, "args"]).expect(125);
    assert!(refused.err.contains("`fs.type: netfs`"), "{}", refused.err);
}
