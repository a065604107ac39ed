//! Dependencies: images linked into one component, and the lock that says which they were.

use std::fs;

use crate::support::{CommandOutput, User};

/// A component that exports `acme:calc/ops@VERSION`, whose `add` adds `more` too.
pub fn calc(version: &str, more: i32) -> Vec<u8> {
    adder("acme:calc/ops", version, "u32", more)
}

pub fn adder(interface: &str, version: &str, second: &str, more: i32) -> Vec<u8> {
    let text = format!(
        "(component
            (core module $m (func (export \"add\") (param i32 i32) (result i32)
                (i32.add (i32.add (local.get 0) (local.get 1)) (i32.const {more}))))
            (core instance $i (instantiate $m))
            (func $add (param \"a\" u32) (param \"b\" {second}) (result u32) (canon lift (core func $i \"add\")))
            (instance $e (export \"add\" (func $add)))
            (export \"{interface}@{version}\" (instance $e)))"
    );
    wat::parse_str(text).unwrap()
}

/// A component that imports these interfaces, each with `add`, and exports `twice`, which
/// calls one after the other.
pub fn doubler(imports: &[&str]) -> Vec<u8> {
    let mut outer = String::new();
    let mut inner = String::new();
    let mut with = String::new();
    let mut body = "(local.get 0)".to_string();
    for (n, import) in imports.iter().enumerate() {
        outer.push_str(&format!(
            "(import \"{import}\" (instance $ops{n} (export \"add\" (func (param \"a\" u32) (param \"b\" u32) (result u32)))))
             (core func $add{n} (canon lower (func $ops{n} \"add\")))"
        ));
        inner.push_str(&format!(
            "(import \"ops\" \"add{n}\" (func $add{n} (param i32 i32) (result i32)))"
        ));
        with.push_str(&format!("(export \"add{n}\" (func $add{n}))"));
        body = format!("(call $add{n} {body} (local.get 0))");
    }
    let text = format!(
        "(component {outer}
            (core module $m {inner} (func (export \"twice\") (param i32) (result i32) {body}))
            (core instance $i (instantiate $m (with \"ops\" (instance {with}))))
            (func $twice (param \"a\" u32) (result u32) (canon lift (core func $i \"twice\")))
            (instance $e (export \"twice\" (func $twice)))
            (export \"acme:app/api@1.0.0\" (instance $e)))"
    );
    wat::parse_str(text).unwrap()
}

/// Writes an application of functions.
pub fn project(user: &User, name: &str, version: &str, component: &[u8], more: &str) {
    user.write(&format!("{name}/app.wasm"), component);
    let text = format!("name: acme/{name}\nversion: {version}\ntype: function\nentrypoint: app.wasm\n{more}");
    user.write(&format!("{name}/app.qyv"), text);
}

/// The same, built into the store and a file.
pub fn built(user: &User, name: &str, version: &str, component: &[u8], more: &str) -> String {
    project(user, name, version, component, more);
    let file = format!("{name}.qyvbin");
    user.qyv(&["build", name, "-o", &file, "-q"]).expect(0);
    file
}

pub const ON_CALC: &str = "dependencies: { \"acme:calc/ops\": { image: acme/calc, version: 1.0.0 } }\n";

/// A user with `calc` in the store, and an application of it.
pub fn with_calc() -> User {
    let user = User::new();
    built(&user, "calc", "1.0.0", &calc("1.0.0", 0), "");
    project(&user, "app", "1.0.0", &doubler(&["acme:calc/ops@1.0.0"]), ON_CALC);
    user
}

pub fn build(user: &User, more: &[&str]) -> CommandOutput {
    user.qyv(&[&["build", "app", "-o", "app.qyvbin", "-q"], more].concat())
}

pub fn lock(user: &User) -> Option<String> {
    fs::read_to_string(user.path("app/qyv.lock")).ok()
}

/// A build that is refused, and leaves archive, store and lock as they were.
#[track_caller]
pub fn refused(user: &User, more: &[&str], code: i32) -> String {
    let (stored, before) = (user.stored(), lock(user));
    let said = build(user, more).expect(code).err;
    assert_eq!((user.stored(), lock(user)), (stored, before));
    assert!(!user.path("app.qyvbin").exists());
    said
}

// [COMP-010] [COMP-030]
#[test]
fn application_runs_with_what_it_was_built_with_on_a_host_that_lacks_it() {
    let user = with_calc();
    build(&user, &[]).expect(0);
    let call = |user: &User, target: &str| user.qyv(&["call", target, "twice", "21"]).expect(0).out;
    assert_eq!(call(&user, "app.qyvbin"), "42\n");
    assert_eq!(call(&user, "app/"), "42\n");
    let inspected = user
        .qyv(&["inspect", "app.qyvbin", "--format", "json"])
        .expect(0)
        .json();
    let found = &inspected["dependencies"][0];
    assert_eq!(found["for"], "acme:calc/ops");
    assert_eq!(found["name"], "acme/calc:1.0.0");
    let calc = user
        .qyv(&["inspect", "calc.qyvbin", "--format", "json"])
        .expect(0)
        .json();
    assert_eq!(found["manifest"], calc["digest"]);
    assert_eq!(found["component"], calc["componentDigest"]);
    assert_eq!(found["signers"][0], calc["signatures"][0]["key"]);
    assert!(calc.get("dependencies").is_none());
    let shown = format!(
        "acme/calc:1.0.0 for acme:calc/ops, {}, signed by {}",
        calc["digest"].as_str().unwrap(),
        calc["signatures"][0]["key"].as_str().unwrap()
    );
    assert!(
        user.qyv(&["inspect", "app.qyvbin"])
            .expect(0)
            .out
            .contains(&format!("linked       {shown}\n"))
    );
    assert!(
        user.qyv(&["verify", "app.qyvbin"])
            .expect(0)
            .err
            .contains(&format!("linked: {shown}\n"))
    );
    let verified = user.qyv(&["verify", "app.qyvbin", "--format", "json"]).expect(0).json();
    assert_eq!(
        verified["results"][0]["report"]["dependencies"],
        inspected["dependencies"]
    );
    // The file alone, on a host that trusts its key.
    let host = User::new();
    let key = user.qyv(&["keys", "export", "default"]).expect(0).out;
    host.write("publisher.pub", key);
    host.write("app.qyvbin", fs::read(user.path("app.qyvbin")).unwrap());
    let ran = host.qyv(&["call", "--key", "./publisher.pub", "app.qyvbin", "twice", "21"]);
    assert_eq!(ran.expect(0).out, "42\n");
}

// [COMP-003]
#[test]
fn dependency_of_an_untrusted_signer_or_altered_is_refused() {
    let (user, stranger) = (User::new(), User::new());
    let file = built(&stranger, "calc", "1.0.0", &calc("1.0.0", 0), "");
    let on_file = "dependencies: { \"acme:calc/ops\": { image: ./lib/calc.qyvbin, version: 1.0.0 } }\n";
    project(&user, "app", "1.0.0", &doubler(&["acme:calc/ops@1.0.0"]), on_file);
    let mut bytes = fs::read(stranger.path(&file)).unwrap();
    user.write("app/lib/calc.qyvbin", &bytes);
    // Any key of one's own, so that there is a policy.
    user.built("mine", "");
    refused(&user, &[], 11);
    let key = stranger.qyv(&["keys", "export", "default"]).expect(0).out;
    user.write("stranger.pub", key);
    user.qyv(&["trust", "add", "file:acme/calc", "--key", "./stranger.pub"])
        .expect(0);
    build(&user, &[]).expect(0);
    assert_eq!(user.qyv(&["call", "app.qyvbin", "twice", "4"]).expect(0).out, "8\n");
    // What a build reads it does not replace.
    let onto = user.qyv(&["build", "app", "-o", "app/lib/calc.qyvbin", "-q"]);
    assert!(onto.expect(1).err.contains("this command reads that file"));
    assert_eq!(fs::read(user.path("app/lib/calc.qyvbin")).unwrap(), bytes);
    fs::remove_file(user.path("app.qyvbin")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    user.write("app/lib/calc.qyvbin", &bytes);
    refused(&user, &[], 16);
    // A file outside, by a link.
    fs::remove_file(user.path("app/lib/calc.qyvbin")).unwrap();
    user.write("calc.qyvbin", fs::read(stranger.path(&file)).unwrap());
    std::os::unix::fs::symlink("../../calc.qyvbin", user.path("app/lib/calc.qyvbin")).unwrap();
    assert!(refused(&user, &[], 1).contains("leaves the manifest's directory"));
}

// [COMP-004] [COMP-005]
#[test]
fn dependency_that_asks_for_more_than_the_application_is_refused() {
    let user = User::new();
    let asks = "permissions: { net: { connect: [\"api.example:443\"] }, fs: { read: [/data] }, env: [LANG], stdio: [stdout] }\n";
    built(&user, "calc", "1.0.0", &calc("1.0.0", 0), asks);
    let app = |permissions: &str| {
        let more = format!("{ON_CALC}{permissions}");
        project(&user, "app", "1.0.0", &doubler(&["acme:calc/ops@1.0.0"]), &more);
    };
    app("permissions: { env: fixed, stdio: none }\n");
    let said = refused(&user, &[], 1);
    let all = "fs: read /data; net: connect api.example:443; env: LANG; stdio: stdout";
    assert!(
        said.contains(&format!("it asks for more than the application has: {all}")),
        "{said}"
    );
    app("permissions: { net: { connect: [\"*.example:443\"] }, fs: { write: [/data] }, env: [\"L*\"] }\n");
    build(&user, &[]).expect(0);
    fs::remove_file(user.path("app.qyvbin")).unwrap();
    // Its rule may not let it have what the application has.
    let key = user.qyv(&["keys", "export", "default"]).expect(0).out;
    let key = key.replace('\n', "\n      ");
    let policy = format!(
        "version: 1\nkeys:\n  me:\n    pem: |\n      {key}\nrules:\n  - scope: file:acme/calc\n    require: [{{ role: release, keys: [me] }}]\n    allow: {{ fs: {{ write: [/data] }} }}\n"
    );
    user.write("policy.yaml", policy);
    let said = refused(&user, &["--policy", "policy.yaml"], 1);
    assert!(said.contains("does not allow it net: connect *.example:443"), "{said}");
}

// [COMP-002] [COMP-006]
#[test]
fn image_that_would_lose_something_or_is_no_component_is_refused() {
    let user = with_calc();
    user.write("calc/data.txt", "x");
    built(&user, "calc", "1.0.0", &calc("1.0.0", 0), "assets: [data.txt]\n");
    assert!(refused(&user, &[], 1).contains("it has assets"));
    user.write(
        "calc/calc.qyv",
        "name: acme/calc\nversion: 1.0.0\nentrypoint: probe.wasm\n",
    );
    user.write("calc/probe.wasm", crate::support::PROBE_MODULE);
    user.qyv(&["build", "calc/calc.qyv", "-o", "calc.qyvbin", "-q"])
        .expect(0);
    assert!(refused(&user, &[], 1).contains("it is a core module"));
    project(
        &user,
        "app",
        "1.0.0",
        &doubler(&["acme:calc/ops@1.0.0"]),
        &ON_CALC.replace("calc, ", "none, "),
    );
    assert!(refused(&user, &[], 1).contains("there is no image acme/none:1.0.0 in the store"));
}

// [COMP-006]
#[test]
fn image_of_another_version_is_refused_in_a_file_and_in_the_store() {
    let user = with_calc();
    // Another image under the tag that is asked for.
    let file = built(&user, "calc", "2.0.0", &calc("1.0.0", 0), "");
    user.qyv(&["tag", "acme/calc:2.0.0", "acme/calc:1.0.0"]).expect(0);
    let said = refused(&user, &[], 1);
    assert!(said.contains("its version is 2.0.0"), "{said}");
    user.write("app/calc.qyvbin", fs::read(user.path(&file)).unwrap());
    let on_file = ON_CALC.replace("acme/calc,", "calc.qyvbin,");
    project(&user, "app", "1.0.0", &doubler(&["acme:calc/ops@1.0.0"]), &on_file);
    let said = refused(&user, &[], 1);
    assert!(said.contains("its version is 2.0.0"), "{said}");
    let newer = on_file.replace("version: 1.0.0", "version: 2.0.0");
    project(&user, "app", "1.0.0", &doubler(&["acme:calc/ops@1.0.0"]), &newer);
    build(&user, &[]).expect(0);
}

// [COMP-015]
#[test]
fn image_has_one_instance_however_many_keys_lead_to_it() {
    let user = User::new();
    // Both interfaces count in one place.
    let state = "(component
        (core module $m
            (global $calls (mut i32) (i32.const 0))
            (func (export \"next\") (result i32)
                (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
                (global.get $calls)))
        (core instance $i (instantiate $m))
        (func $next (result u32) (canon lift (core func $i \"next\")))
        (instance $e (export \"next\" (func $next)))
        (export \"acme:state/one@1.0.0\" (instance $e))
        (export \"acme:state/two@1.0.0\" (instance $e)))";
    built(&user, "state", "1.0.0", &wat::parse_str(state).unwrap(), "");
    user.qyv(&["tag", "acme/state:1.0.0", "acme/alias:1.0.0"]).expect(0);
    let app = "(component
        (import \"acme:state/one@1.0.0\" (instance $one (export \"next\" (func (result u32)))))
        (import \"acme:state/two@1.0.0\" (instance $two (export \"next\" (func (result u32)))))
        (core func $one' (canon lower (func $one \"next\")))
        (core func $two' (canon lower (func $two \"next\")))
        (core module $m
            (import \"s\" \"one\" (func $one (result i32)))
            (import \"s\" \"two\" (func $two (result i32)))
            (func (export \"both\") (result i32)
                (i32.add (i32.mul (call $one) (i32.const 10)) (call $two))))
        (core instance $i (instantiate $m (with \"s\" (instance
            (export \"one\" (func $one')) (export \"two\" (func $two'))))))
        (func $both (result u32) (canon lift (core func $i \"both\")))
        (export \"both\" (func $both)))";
    for second in ["acme/state", "acme/alias"] {
        let on_both = format!(
            "dependencies:\n  \"acme:state/one\": {{ image: acme/state, version: 1.0.0 }}\n  \"acme:state/two\": {{ image: {second}, version: 1.0.0 }}\n"
        );
        project(&user, "app", "1.0.0", &wat::parse_str(app).unwrap(), &on_both);
        let _ = fs::remove_file(user.path("app/qyv.lock"));
        build(&user, &[]).expect(0);
        assert_eq!(
            user.qyv(&["call", "app.qyvbin", "both"]).expect(0).out,
            "12\n",
            "{second}"
        );
    }
}

// [COMP-013]
#[test]
fn types_that_almost_match_are_refused_with_both() {
    let user = with_calc();
    built(&user, "calc", "1.0.0", &adder("acme:calc/ops", "1.0.0", "s32", 0), "");
    let said = refused(&user, &[], 1);
    assert!(
        said.contains("function `add`, parameter `b`: expected `u32`, found `s32`"),
        "{said}"
    );
    built(&user, "calc", "1.0.0", &calc("2.0.0", 0), "");
    let said = refused(&user, &[], 1);
    assert!(
        said.contains("does not export `acme:calc/ops@1.0.0` (it exports `acme:calc/ops@2.0.0`)"),
        "{said}"
    );
    // What nothing satisfies is told, and what satisfies nothing.
    built(&user, "calc", "1.0.0", &calc("1.0.0", 0), "");
    let imports = ["acme:calc/ops@1.0.0", "acme:log/log@1.0.0"];
    project(&user, "app", "1.0.0", &doubler(&imports), ON_CALC);
    assert!(refused(&user, &[], 1).contains("acme:log/log@1.0.0"));
    project(&user, "app", "1.0.0", &doubler(&[]), ON_CALC);
    assert!(refused(&user, &[], 1).contains("`acme:calc/ops` is unused"));
}

// [COMP-012] [COMP-015]
#[test]
fn diamond_has_two_copies_and_two_versions_stand_beside_each_other() {
    let user = User::new();
    built(&user, "calc", "1.0.0", &calc("1.0.0", 1), "");
    for (name, export) in [("left", "acme:left/ops@1.0.0"), ("right", "acme:right/ops@1.0.0")] {
        let text = format!(
            "(component
                (import \"acme:calc/ops@1.0.0\" (instance $ops (export \"add\" (func (param \"a\" u32) (param \"b\" u32) (result u32)))))
                (instance $e (export \"add\" (func $ops \"add\")))
                (export \"{export}\" (instance $e)))"
        );
        built(&user, name, "1.0.0", &wat::parse_str(text).unwrap(), ON_CALC);
    }
    let two = "dependencies:\n  \"acme:left/ops\": { image: acme/left, version: 1.0.0 }\n  \"acme:right/ops\": { image: acme/right, version: 1.0.0 }\n";
    project(
        &user,
        "app",
        "1.0.0",
        &doubler(&["acme:left/ops@1.0.0", "acme:right/ops@1.0.0"]),
        two,
    );
    build(&user, &[]).expect(0);
    assert_eq!(user.qyv(&["call", "app.qyvbin", "twice", "10"]).expect(0).out, "32\n");
    let inspected = user
        .qyv(&["inspect", "app.qyvbin", "--format", "json"])
        .expect(0)
        .json();
    for side in inspected["dependencies"].as_array().unwrap() {
        assert_eq!(side["dependencies"][0]["name"], "acme/calc:1.0.0");
    }
    assert!(!lock(&user).unwrap().contains("acme/calc"));
    // Two versions of one interface.
    built(&user, "calc2", "2.0.0", &calc("2.0.0", 5), "");
    let two = "dependencies:\n  \"acme:calc/ops@1.0.0\": { image: acme/calc, version: 1.0.0 }\n  \"acme:calc/ops@2.0.0\": { image: acme/calc2, version: 2.0.0 }\n";
    project(
        &user,
        "app",
        "1.0.0",
        &doubler(&["acme:calc/ops@1.0.0", "acme:calc/ops@2.0.0"]),
        two,
    );
    build(&user, &[]).expect(0);
    assert_eq!(user.qyv(&["call", "app.qyvbin", "twice", "10"]).expect(0).out, "36\n");
}

// [COMP-007]
#[test]
fn application_can_not_be_a_part_of_itself() {
    let user = User::new();
    // Earlier, what is the application now was a library.
    built(&user, "app", "1.0.0", &calc("1.0.0", 0), "");
    let on_itself = ON_CALC.replace("acme/calc", "acme/app");
    let passed_on = "(component
        (import \"acme:calc/ops@1.0.0\" (instance $ops (export \"add\" (func (param \"a\" u32) (param \"b\" u32) (result u32)))))
        (instance $e (export \"add\" (func $ops \"add\")))
        (export \"acme:mid/ops@1.0.0\" (instance $e)))";
    built(&user, "mid", "1.0.0", &wat::parse_str(passed_on).unwrap(), &on_itself);
    fs::remove_file(user.path("app.qyvbin")).unwrap();
    project(&user, "app", "1.1.0", &doubler(&["acme:calc/ops@1.0.0"]), &on_itself);
    let said = refused(&user, &[], 1);
    assert!(said.contains("it is acme/app, the application itself"), "{said}");
    let on_mid = "dependencies: { \"acme:mid\": { image: acme/mid, version: 1.0.0 } }\n";
    project(&user, "app", "1.1.0", &doubler(&["acme:mid/ops@1.0.0"]), on_mid);
    let said = refused(&user, &[], 1);
    assert!(
        said.contains("it was built with acme/app:1.0.0, an earlier version of the application itself"),
        "{said}"
    );
}
