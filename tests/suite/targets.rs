//! What a target is: by its spelling alone. What a stranger puts into the
//! current directory must not decide which regime of trust applies.

use std::fs;

use crate::support::{PROBE_MODULE, User};

/// Puts an application under development where the name of an image would be
/// looked for as a file.
fn plant(user: &User, name: &str) {
    user.write(&format!("{name}.d/probe.wasm"), PROBE_MODULE);
    let parent = user.path(name).parent().unwrap().to_path_buf();
    fs::create_dir_all(&parent).unwrap();
    fs::write(parent.join("probe.wasm"), PROBE_MODULE).unwrap();
    user.write(
        name,
        "name: app\nversion: 1.4.0\nentrypoint: probe.wasm\nargs: [env]\npermissions: { net: true }\n",
    );
}

// [RUN-001]
#[test]
fn file_named_like_an_image_changes_nothing() {
    let publisher = User::new();
    publisher.built("app", "");
    let key = publisher.qyv(&["keys", "export"]).expect(0).out;
    for name in ["registry.example/team/app:1.4.0", "app:1.4.0", "app"] {
        let host = User::new();
        host.write("publisher.pub", &key);
        plant(&host, name);
        // Neither the manifest nor an archive there is run in the name's place.
        for args in [
            &["run", "--pull", "never", "-e", "TOKEN=secret", name][..],
            &[
                "run",
                "--pull",
                "never",
                "--key",
                "publisher.pub",
                "-e",
                "TOKEN=secret",
                name,
            ],
        ] {
            let done = host.qyv(args).expect(125);
            assert_eq!(done.out, "", "{name}");
            assert!(done.err.contains("there is no image"), "{}", done.err);
        }
        fs::copy(publisher.path("app.qyvbin"), host.path(name)).unwrap();
        let done = host
            .qyv(&["run", "--pull", "never", "--key", "publisher.pub", name])
            .expect(125);
        assert!(done.err.contains("there is no image"), "{}", done.err);
        assert!(host.stored().is_empty());
    }
}

#[test]
fn hint_shows_how_a_file_of_that_name_is_spelled() {
    let user = User::new();
    let app = user.built("app", "args: [env]\n");
    fs::rename(user.path(&app), user.path("thing")).unwrap();
    let done = user.qyv(&["run", "thing"]).expect(125);
    assert!(done.err.contains("./thing"), "{}", done.err);
    user.qyv(&["run", "./thing"]).expect(0);
}

// [RUN-010]
#[test]
fn development_run_refuses_options_for_signed_images() {
    let user = User::new();
    user.app("app", "args: [env]\n");
    user.built("signed", "");
    let key = user.qyv(&["keys", "export"]).expect(0).out;
    user.write("a.pub", key);
    for target in ["app/app.qyv", "app/", "./app/."] {
        let done = user.qyv(&["run", target]).expect(0);
        assert!(done.err.contains("running unsigned"), "{}", done.err);
        for option in [
            &["--key", "a.pub"][..],
            &["--policy", "home/trust.yaml"],
            &["--pull", "never"],
        ] {
            let mut args = vec!["run"];
            args.extend(option);
            args.push(target);
            let done = user.qyv(&args).expect(125);
            assert!(done.err.contains("under development"), "{}", done.err);
        }
    }
    // A directory that is not spelled as one is no application.
    let done = user.qyv(&["run", "./app"]).expect(125);
    assert!(done.err.contains("./app/"), "{}", done.err);
}

#[test]
fn non_archive_is_reported_by_its_type() {
    let user = User::new();
    user.write("a/x.qyvbin", [0x1f, 0x8b, 8, 0]);
    user.write("a/w.qyvbin", PROBE_MODULE);
    user.write("a/t.qyvbin", "name: app\n");
    user.write("a/e.qyvbin", "");
    for (file, found) in [
        ("a/x.qyvbin", "gzip found"),
        ("a/w.qyvbin", "WebAssembly found"),
        ("a/t.qyvbin", "text found"),
        ("a/e.qyvbin", "an empty file"),
    ] {
        let done = user.qyv(&["verify", file]).expect(16);
        assert!(done.err.contains(&format!("isn't a .qyvbin ({found})")), "{}", done.err);
        assert!(!done.err.contains("damaged"), "{}", done.err);
    }
}

// [RUN-003]
#[test]
fn digest_names_a_stored_image_and_a_run_requires_all_of_it() {
    let user = User::new();
    user.app("app", "args: [env]\nenv: { A: b }\n");
    let digest = user.qyv(&["build", "app", "-o", "app.qyvbin"]).expect(0).out;
    let digest = digest.trim();
    let short = &digest[..19];
    let listed = user.qyv(&["images"]).expect(0).out;
    assert!(listed.contains(short), "{listed}");
    assert_eq!(user.qyv(&["run", digest]).expect(0).out, "A=b\n");
    let done = user.qyv(&["run", short]).expect(125);
    assert!(done.err.contains("64 digits"), "{}", done.err);
    user.qyv(&["inspect", short]).expect(0);
    user.qyv(&["verify", short]).expect(0);
    user.qyv(&["tag", short, "other:2"]).expect(0);
    user.qyv(&["save", short, "-o", "saved.qyvbin"]).expect(0);
    // Too short, unknown, not a digest.
    user.qyv(&["inspect", &digest[..18]]).expect(2);
    let unknown = format!("sha256:{}", "0".repeat(12));
    user.qyv(&["inspect", &unknown]).expect(1);
    let removed = user.qyv(&["rm", short]).expect(0).out;
    assert_eq!(removed, "app:1.0.0\nother:2\n");
}
