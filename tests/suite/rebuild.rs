//! Whether an image can be rebuilt from its sources, and hosts that ask for that.

use std::fs;

use crate::support::User;

fn compared(user: &User, image: &str, code: i32) -> serde_json::Value {
    let found = user.qyv(&["build", "app", "--compare", image, "--format", "json"]);
    found.expect(code).json()
}

// [SIGN-065]
#[test]
fn build_that_makes_the_same_image_says_so_and_writes_nothing() {
    let publisher = User::new();
    publisher.write("app/data.txt", "one");
    let mut command = publisher.command();
    publisher.app("app", "assets: [data.txt]\n");
    command.env("SOURCE_DATE_EPOCH", "1700000000");
    let built = command.args(["build", "app", "-o", "app.qyvbin"]).output().unwrap();
    assert!(built.status.success(), "{built:?}");
    let image = publisher.path("app.qyvbin");
    let image = image.to_str().unwrap();

    let lab = User::new();
    lab.write("app/data.txt", "one");
    lab.app("app", "assets: [data.txt]\n");
    // The time is the image's: nobody has to be told it.
    let same = compared(&lab, image, 0);
    assert_eq!(same["result"], "identical", "{same}");
    assert_eq!(same["digest"], same["built"]);
    let text = lab.qyv(&["build", "app", "--compare", image]).expect(0).out;
    assert!(text.starts_with("identical: sha256:"), "{text}");
    assert_eq!(lab.stored(), Vec::<std::path::PathBuf>::new());
    assert!(!lab.path("app.qyvbin").exists());
    assert!(!lab.home().join("keys").exists());

    let mut other = lab.command();
    other.env("SOURCE_DATE_EPOCH", "1700000001");
    let other = other.args(["build", "app", "--compare", image]).output().unwrap();
    assert!(other.status.success(), "{other:?}");
    let said = String::from_utf8_lossy(&other.stdout).into_owned();
    assert!(
        said.starts_with("same content: ") && said.contains("only this differs: the time of the build"),
        "{said}"
    );
}

// [SIGN-065]
#[test]
fn first_difference_of_a_build_is_named() {
    let user = User::new();
    user.write("app/a.txt", "one");
    user.write("app/b.txt", "two");
    let manifest = "assets: [a.txt, b.txt]\npermissions: { fs: read }\n";
    let file = user.built("app", manifest);
    let difference = |code| {
        compared(&user, &file, code)["difference"]
            .as_str()
            .unwrap_or_default()
            .to_string()
    };
    assert_eq!(difference(0), "");
    user.write("app/b.txt", "six");
    assert!(
        difference(1).starts_with("the asset b.txt: 3 bytes"),
        "{}",
        difference(1)
    );
    user.app("app", "assets: [a.txt]\npermissions: { fs: read }\n");
    assert_eq!(difference(1), "the asset b.txt is only in the image");
    user.app("app", manifest);
    let component = fs::read(user.path("app/probe.wasm")).unwrap();
    // One more custom section, of no name and no content.
    user.write("app/probe.wasm", [component.as_slice(), &[0, 1, 0]].concat());
    assert!(difference(1).starts_with("the component: sha256:"), "{}", difference(1));
    user.app("app", "assets: [a.txt, b.txt]\npermissions: { fs: write }\n");
    assert!(
        difference(1).starts_with("the manifest at /permissions"),
        "{}",
        difference(1)
    );
    for taken in [&["-o", "x.qyvbin"][..], &["--key", "default"], &["-t", "x:1"]] {
        user.qyv(&[&["build", "app", "--compare", &file], taken].concat())
            .expect(2);
    }
}

// [SIGN-065] [SIGN-023]
#[test]
fn host_runs_only_what_two_independent_parties_rebuilt() {
    let publisher = User::new();
    let file = publisher.built("app", "");
    let image = publisher.path(&file);
    let image = image.to_str().unwrap();
    let host = User::new();
    let mut text = "version: 1\nkeys:\n".to_string();
    let parties = ["customer", "lab", "auditor"].map(|name| (name, User::new()));
    let mut add = |name: &str, user: &User, key: &str| {
        let pem = user.qyv(&["keys", "export", key]).expect(0).out;
        let lines: String = pem.lines().map(|line| format!("      {line}\n")).collect();
        text += &format!("  {name}:\n    pem: |\n{lines}");
    };
    add("acme", &publisher, "default");
    for (name, user) in &parties {
        user.qyv(&["keys", "generate", name]).expect(0);
        add(name, user, name);
    }
    text += "rules:\n  - scope: 'file:app'\n    require:\n      - { role: release, keys: [acme] }\n      - { role: rebuilt, keys: [customer, lab, auditor], threshold: 2 }\n";
    host.write("home/trust.yaml", text);
    host.qyv(&["run", image, "exit", "4"]).expect(126);
    for ((name, user), code) in parties.iter().take(2).zip([126, 4]) {
        user.app("app", "");
        user.qyv(&["build", "app", "--compare", image]).expect(0);
        user.qyv(&["sign", image, "--role", "rebuilt", "--key", name]).expect(0);
        host.qyv(&["run", image, "exit", "4"]).expect(code);
    }
}
