//! `qyv.lock`: written, used, checked against the manifest and the images.

use std::fs;

use crate::compose::{ON_CALC, adder, build, built, calc, doubler, lock, project, refused, with_calc};
use crate::support::User;

// [COMP-020] [COMP-021] [COMP-022]
#[test]
fn lock_is_written_once_and_decides_afterwards() {
    let user = with_calc();
    refused(&user, &["--locked"], 1);
    assert_eq!(lock(&user), None);
    // Neither a validation nor a run writes it.
    user.qyv(&["validate", "app"]).expect(0);
    user.qyv(&["call", "app/", "twice", "1"]).expect(0);
    assert_eq!(lock(&user), None);
    build(&user, &[]).expect(0);
    let first = (lock(&user).unwrap(), fs::read(user.path("app.qyvbin")).unwrap());
    let start = "version: 1\ndependencies:\n  - for: \"acme:calc/ops\"\n    image: acme/calc\n    version: \"1.0.0\"\n    name: \"acme/calc:1.0.0\"\n";
    assert!(first.0.contains(start), "{}", first.0);
    build(&user, &["--locked"]).expect(0);
    assert_eq!(
        (lock(&user).unwrap(), fs::read(user.path("app.qyvbin")).unwrap()),
        first
    );
    // Another image under the name: the lock still says which.
    built(&user, "calc", "1.0.0", &calc("1.0.0", 100), "");
    build(&user, &["--locked"]).expect(0);
    assert_eq!(fs::read(user.path("app.qyvbin")).unwrap(), first.1);
    let update = user.qyv(&["update", "--path", "app"]).expect(0);
    assert!(
        update.out.starts_with("acme:calc/ops: acme/calc:1.0.0 sha256:"),
        "{}",
        update.out
    );
    assert_eq!(user.qyv(&["update", "--path", "app"]).expect(0).out, "");
    build(&user, &["--locked"]).expect(0);
    assert_eq!(user.qyv(&["call", "app.qyvbin", "twice", "21"]).expect(0).out, "142\n");
}

// [COMP-023]
#[test]
fn file_that_is_not_the_one_in_the_lock_is_refused() {
    let user = User::new();
    let on_file = ON_CALC.replace("acme/calc,", "calc.qyvbin,");
    project(&user, "app", "1.0.0", &doubler(&["acme:calc/ops@1.0.0"]), &on_file);
    let put = |more: i32| {
        let file = built(&user, "calc", "1.0.0", &calc("1.0.0", more), "");
        user.write("app/calc.qyvbin", fs::read(user.path(&file)).unwrap());
        let inspected = user.qyv(&["inspect", &file, "--format", "json"]).expect(0).json();
        inspected["digest"].as_str().unwrap().to_string()
    };
    let first = put(0);
    build(&user, &[]).expect(0);
    fs::remove_file(user.path("app.qyvbin")).unwrap();
    // Of the same name and version, by the same signer.
    let second = put(100);
    for more in [&[][..], &["--locked"]] {
        let said = refused(&user, more, 1);
        assert!(
            said.contains(&format!("it is {second}, and the lock has {first}")),
            "{said}"
        );
    }
    user.qyv(&["update", "--path", "app"]).expect(0);
    build(&user, &["--locked"]).expect(0);
    assert_eq!(user.qyv(&["call", "app.qyvbin", "twice", "21"]).expect(0).out, "142\n");
}

// [COMP-022]
#[test]
fn drift_between_manifest_and_lock_is_refused_until_it_is_updated() {
    let user = with_calc();
    build(&user, &[]).expect(0);
    fs::remove_file(user.path("app.qyvbin")).unwrap();
    built(&user, "calc", "1.1.0", &calc("1.0.0", 1), "");
    let newer = ON_CALC.replace("1.0.0", "1.1.0");
    project(&user, "app", "1.0.0", &doubler(&["acme:calc/ops@1.0.0"]), &newer);
    let said = refused(&user, &[], 1);
    assert!(
        said.contains("the manifest asks for acme/calc 1.1.0, and the lock has acme/calc 1.0.0"),
        "{said}"
    );
    assert!(said.contains("`qyv update`"), "{said}");
    user.qyv(&["update", "acme:calc/op", "--path", "app"]).expect(2);
    user.qyv(&["update", "acme:calc/ops", "--path", "app"]).expect(0);
    build(&user, &["--locked"]).expect(0);
    fs::remove_file(user.path("app.qyvbin")).unwrap();
    // A second dependency is added by a build, unless it is locked.
    built(&user, "sum", "2.0.0", &adder("acme:sum/ops", "2.0.0", "u32", 0), "");
    let both = "dependencies:\n  \"acme:calc/ops\": { image: acme/calc, version: 1.1.0 }\n  \"acme:sum\": { image: acme/sum, version: 2.0.0 }\n";
    project(
        &user,
        "app",
        "1.0.0",
        &doubler(&["acme:calc/ops@1.0.0", "acme:sum/ops@2.0.0"]),
        both,
    );
    let said = refused(&user, &["--locked"], 1);
    assert!(
        said.contains("the dependency `acme:sum` is not as qyv.lock has it"),
        "{said}"
    );
    build(&user, &[]).expect(0);
    assert_eq!(user.qyv(&["call", "app.qyvbin", "twice", "10"]).expect(0).out, "31\n");
    fs::remove_file(user.path("app.qyvbin")).unwrap();
    // And one that is no longer asked for goes.
    project(&user, "app", "1.0.0", &doubler(&["acme:calc/ops@1.0.0"]), &newer);
    let said = refused(&user, &["--locked"], 1);
    assert!(said.contains("the lock has it, and the manifest has not"), "{said}");
    build(&user, &[]).expect(0);
    assert!(!lock(&user).unwrap().contains("acme:sum"));
}

// [COMP-024]
#[test]
fn lock_that_was_edited_is_refused() {
    let user = with_calc();
    build(&user, &[]).expect(0);
    fs::remove_file(user.path("app.qyvbin")).unwrap();
    let good = lock(&user).unwrap();
    let damaged = good.replacen("version:", "versions:", 1);
    user.write("app/qyv.lock", damaged);
    let said = refused(&user, &[], 1);
    assert!(
        said.contains("unknown key `versions`") && said.contains("hint: `qyv build` and `qyv update` write this file"),
        "{said}"
    );
    // What the hint says.
    fs::remove_file(user.path("app/qyv.lock")).unwrap();
    user.qyv(&["update", "--path", "app"]).expect(0);
    assert_eq!(lock(&user).unwrap(), good);
    let other = built(&user, "other", "1.0.0", &calc("1.0.0", 9), "");
    let other = user.qyv(&["inspect", &other, "--format", "json"]).expect(0).json();
    let value = |key: &str| {
        let start = good.find(&format!("    {key}: ")).unwrap() + key.len() + 6;
        good[start..].lines().next().unwrap().to_string()
    };
    let quoted = |text: &serde_json::Value| text.to_string();
    let signer = good.lines().last().unwrap().trim_start_matches("      - ").to_string();
    for (from, to, code, why) in [
        // An image of another name, by its digest.
        (
            value("manifest"),
            quoted(&other["digest"]),
            1,
            "the image is acme/other:1.0.0, and the lock says acme/calc:1.0.0",
        ),
        (
            value("component"),
            quoted(&other["componentDigest"]),
            1,
            "the lock says sha256:",
        ),
        (
            value("name"),
            "\"acme/calc:1.0.1\"".to_string(),
            1,
            "the lock says acme/calc:1.0.1",
        ),
        (
            signer.clone(),
            "\"SHA256:AAAA\"".to_string(),
            1,
            "the lock says that SHA256:AAAA signed it",
        ),
        (
            format!("signers:\n      - {signer}"),
            "signers: []".to_string(),
            1,
            "names no signer",
        ),
        (
            value("manifest"),
            format!("\"sha256:{}\"", "0".repeat(64)),
            1,
            "the dependency `acme:calc/ops`: there is no image acme/calc:1.0.0@sha256:0000",
        ),
        (
            "version: 1\n".to_string(),
            "version: 2\n".to_string(),
            1,
            "1 is what is known",
        ),
        ("dependencies:".to_string(), "depends:".to_string(), 1, "unknown key"),
        (
            "    image:".to_string(),
            "    extra: x\n    image:".to_string(),
            1,
            "unknown key `extra`",
        ),
    ] {
        let edited = good.replacen(&from, &to, 1);
        assert_ne!(edited, good, "{from}");
        user.write("app/qyv.lock", &edited);
        let said = refused(&user, &[], code);
        assert!(said.contains(why), "{from} -> {to}: {said}");
    }
    fs::remove_file(user.path("app/qyv.lock")).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(user.path("app/qyv.lock"))
        .status();
    assert!(made.unwrap().success());
    let said = build(&user, &[]).expect(1).err;
    assert!(said.contains("it is not a regular file"), "{said}");
}

// [COMP-025]
#[test]
fn same_inputs_give_the_same_bytes_elsewhere() {
    let (one, two) = (with_calc(), User::new());
    build(&one, &[]).expect(0);
    let pem = one.qyv(&["keys", "export", "--private", "--unencrypted"]).expect(0).out;
    two.write("key.pem", pem);
    fs::set_permissions(two.path("key.pem"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    two.qyv(&["keys", "import", "default", "./key.pem"]).expect(0);
    let key = one.qyv(&["keys", "export", "default"]).expect(0).out;
    two.write("one.pub", key);
    two.qyv(&["trust", "add", "file:acme/**", "--key", "./one.pub"])
        .expect(0);
    two.write("calc.qyvbin", fs::read(one.path("calc.qyvbin")).unwrap());
    two.qyv(&["load", "calc.qyvbin"]).expect(0);
    for file in ["app.qyv", "app.wasm", "qyv.lock"] {
        two.write(
            &format!("app/{file}"),
            fs::read(one.path(&format!("app/{file}"))).unwrap(),
        );
    }
    build(&two, &["--locked"]).expect(0);
    assert_eq!(
        fs::read(one.path("app.qyvbin")).unwrap(),
        fs::read(two.path("app.qyvbin")).unwrap()
    );
}
