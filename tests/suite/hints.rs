//! Hints are true: what one tells to type works in the situation that it was
//! printed in.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::registry::Server;
use crate::support::{CommandOutput, User};

/// The commands that stderr or stdout tells to type, without those that leave
/// a word in capitals to fill in.
fn told(done: &CommandOutput) -> Vec<String> {
    let text = format!("{}{}", done.out, done.err);
    let commands = text.split('`').skip(1).step_by(2);
    commands
        .filter(|c| c.starts_with("qyv ") && !c.split(' ').any(|w| w.chars().all(|c| c.is_ascii_uppercase())))
        .filter(|c| !c.contains("FILE"))
        .map(str::to_string)
        .collect()
}

/// Runs what was told; at least `number` commands were.
#[track_caller]
fn follow(user: &User, done: &CommandOutput, number: usize) {
    let commands = told(done);
    assert!(commands.len() >= number, "{commands:?} in {done:?}");
    for command in commands {
        let args: Vec<&str> = command.split(' ').skip(1).collect();
        let code = user.qyv(&args).code;
        assert!(code != 2, "`{command}` is not a command");
        // What looks for damage says by its exit code that there was some.
        assert!(code == 0 || args[0] == "check", "`{command}` exits with {code}");
    }
}

#[test]
fn hints_that_name_a_whole_command_work() {
    let user = User::new();
    user.built("app", "");
    for (args, code, number) in [
        (&["inspect", "absent:1"][..], 1, 1),
        (&["help", "no-such"], 2, 1),
        (&["sign", "app:1.0.0", "--key", "absent"], 1, 1),
        (&["validate", "bad.qyv"], 1, 1),
    ] {
        user.write("bad.qyv", "name: app\nentrypoint: a.wasm\nno-such: 1\n");
        let done = user.qyv(args).expect(code);
        follow(&user, &done, number);
    }
}

#[test]
fn advice_on_damage_leads_to_a_store_without_any() {
    let user = User::new();
    let app = user.built("app", "");
    let blobs = user
        .stored()
        .into_iter()
        .filter(|p| p.to_string_lossy().contains("/blobs/"));
    let blob = blobs.max_by_key(|p| fs::metadata(p).unwrap().len()).unwrap();
    fs::remove_file(&blob).unwrap();
    fs::write(&blob, "damaged").unwrap();
    let done = user.qyv(&["verify", "app:1.0.0"]).expect(16);
    follow(&user, &done, 1);
    let done = user.qyv(&["check"]).expect(1);
    follow(&user, &done, 1);
    user.qyv(&["load", &app]).expect(0);
    user.qyv(&["check"]).expect(0);
}

#[test]
fn file_that_is_named_like_an_image_is_found_by_the_path_that_the_hint_writes() {
    let user = User::new();
    user.built("app", "");
    fs::rename(user.path("app.qyvbin"), user.path("app")).unwrap_or_else(|_| {
        // The application's own directory has that name.
        fs::remove_dir_all(user.path("app")).unwrap();
        fs::rename(user.path("app.qyvbin"), user.path("app")).unwrap();
    });
    let done = user.qyv(&["inspect", "app"]).expect(1);
    assert!(done.err.contains("write ./app"), "{}", done.err);
    user.qyv(&["inspect", "./app"]).expect(0);
}

#[test]
fn help_under_a_problem_is_what_the_manifest_takes() {
    let user = User::new();
    for (key, wrong, help) in [
        ("version", "1.10", "write \"1.10\""),
        ("resources", "{ timeout: 30 }", "write 30s"),
    ] {
        let manifest = user.app("app", &format!("{key}: {wrong}\n").replace("version: ", "language: "));
        let path = manifest.to_str().unwrap();
        let done = user.qyv(&["validate", path]).expect(1);
        assert!(done.err.contains(help), "{}", done.err);
        let right = help.strip_prefix("write ").unwrap();
        let number = wrong.trim_start_matches("{ timeout: ").trim_end_matches(" }");
        let text = fs::read_to_string(&manifest)
            .unwrap()
            .replace(&format!(": {number}"), &format!(": {right}"));
        fs::write(&manifest, text).unwrap();
        user.qyv(&["validate", path]).expect(0);
    }
}

#[test]
fn role_that_no_statement_can_have_is_refused_with_the_grammar() {
    let user = User::new();
    user.app("app", "");
    for role in ["Release Manager", "", "rôle", &"r".repeat(33)] {
        let done = user.qyv(&["build", "app", "-o", "x.qyvbin", "--role", role]).expect(2);
        assert!(done.err.contains("1 to 32 of a-z, 0-9 and -"), "{}", done.err);
    }
    assert!(!user.path("x.qyvbin").exists());
}

/// Replaces the words that a hint leaves to fill in, and types what it says.
#[track_caller]
fn type_hint(user: &User, done: &CommandOutput, command: &str, fill: &[(&str, &str)]) -> CommandOutput {
    let hint = done
        .err
        .split('`')
        .skip(1)
        .step_by(2)
        .find(|text| text.starts_with(command));
    let mut text = hint
        .unwrap_or_else(|| panic!("no `{command}` in {}", done.err))
        .to_string();
    for (word, value) in fill {
        text = text.replace(word, value);
    }
    let words: Vec<&str> = text.split(' ').skip(1).map(|word| word.trim_matches('\'')).collect();
    user.qyv(&words)
}

/// Makes the user trust another's default key for files, or by `rule`.
fn trust(host: &User, publisher: &User, rule: &[&str]) {
    host.write("p.pub", publisher.qyv(&["keys", "export"]).expect(0).out);
    host.qyv(&[&["trust", "add", "--key", "p.pub"], rule].concat())
        .expect(0);
}

#[test]
fn unsigned_release_is_signed_by_what_the_hint_says_on_the_machine_that_built_it() {
    let server = Server::hub(&[]);
    let (publisher, host) = (User::new(), User::new());
    publisher.app("app", "");
    publisher.qyv(&["build", "app", "--no-sign"]).expect(0);
    let name = server.name("team/app:1.0.0");
    publisher.qyv(&["push", "app.qyvbin", &name]).expect(0);
    publisher.qyv(&["keys", "generate"]).expect(0);
    trust(&host, &publisher, &[&server.name("**")]);
    let refused = host.qyv(&["pull", "--verify", &name]).expect(10);
    type_hint(&publisher, &refused, "qyv sign", &[]).expect(0);
    publisher.qyv(&["push", "app:1.0.0", &name]).expect(0);
    host.qyv(&["pull", "--verify", &name]).expect(0);
}

#[test]
fn missing_signature_is_added_by_what_the_hint_says() {
    let user = User::new();
    let file = user.built("app", "");
    user.qyv(&["keys", "generate", "second"]).expect(0);
    user.qyv(&["trust", "add", "file:", "--key", "second", "--threshold", "2"])
        .expect(0);
    let refused = user.qyv(&["verify", &file]).expect(13);
    type_hint(&user, &refused, "qyv sign", &[("KEY", "second")]).expect(0);
    user.qyv(&["verify", &file]).expect(0);

    // A role that only another key may sign.
    user.qyv(&["keys", "generate", "third"]).expect(0);
    user.qyv(&["trust", "add", "file:", "--key", "third", "--role", "approve"])
        .expect(0);
    let refused = user.qyv(&["verify", &file]).expect(13);
    type_hint(&user, &refused, "qyv sign", &[("KEY", "third")]).expect(0);
    user.qyv(&["verify", &file]).expect(0);
}

#[test]
fn undated_signature_is_renewed_by_what_the_hint_says() {
    let user = User::new();
    let file = user.built("app", "");
    let policy = user.home().join("trust.yaml");
    let text = fs::read_to_string(&policy)
        .unwrap()
        .replace("    require", "    max_age: 30d\n    require");
    fs::write(&policy, text).unwrap();
    let refused = user.qyv(&["verify", &file]).expect(14);
    type_hint(&user, &refused, "qyv sign", &[]).expect(0);
    user.qyv(&["verify", &file]).expect(0);
}

#[test]
fn publisher_is_trusted_in_the_role_and_the_policy_that_the_hint_names() {
    let (publisher, host) = (User::new(), User::new());
    let file = publisher.built("app", "");
    publisher.qyv(&["sign", &file, "--role", "approve"]).expect(0);
    fs::copy(publisher.path(&file), host.path(&file)).unwrap();
    host.write("P.pub", publisher.qyv(&["keys", "export"]).expect(0).out);
    host.qyv(&["keys", "generate", "own"]).expect(0);
    // In a policy of its own, which is yet to be made.
    let with = ["--policy", "other.yaml"];
    host.qyv(
        &[
            &with[..],
            &["trust", "add", "file:", "--key", "own", "--role", "approve"],
        ]
        .concat(),
    )
    .expect(0);
    let refused = host.qyv(&[&with[..], &["verify", &file]].concat()).expect(11);
    type_hint(
        &host,
        &refused,
        "qyv --policy other.yaml trust add",
        &[("PUBLISHER", "P")],
    )
    .expect(0);
    host.qyv(&[&with[..], &["verify", &file]].concat()).expect(0);
    assert!(!host.home().join("trust.yaml").exists());
}

#[test]
fn name_that_must_match_completely_is_reported_as_required() {
    let server = Server::hub(&[]);
    let user = User::new();
    let file = user.built("app", "");
    let name = server.name("team/app:1.0.0");
    user.qyv(&["push", &file, &name]).expect(0);
    trust(&user, &user, &[&server.name("**")]);
    let policy = user.home().join("trust.yaml");
    let text = fs::read_to_string(&policy).unwrap();
    let (start, rule) = text.rsplit_once("  - scope").unwrap();
    let rule = rule.replacen("    require", "    names: full\n    require", 1);
    fs::write(&policy, format!("{start}  - scope{rule}")).unwrap();
    let refused = user.qyv(&["pull", "--verify", &name]).expect(18);
    assert!(
        refused
            .err
            .contains("`name: team/app`, or pushes to the repository app"),
        "{}",
        refused.err
    );
    type_hint(&user, &refused, "qyv trust add", &[]).expect(0);
    user.qyv(&["pull", "--verify", &name]).expect(0);
}

#[test]
fn keys_are_made_private_kept_and_removed_by_what_the_hints_say() {
    let user = User::new();
    user.built("app", "");
    let key = user.home().join("keys/default.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = user.qyv(&["sign", "app.qyvbin"]).expect(1);
    let chmod = refused.err.split('`').find(|text| text.starts_with("chmod ")).unwrap();
    assert!(Command::new("sh").args(["-c", chmod]).status().unwrap().success());
    user.qyv(&["sign", "app.qyvbin"]).expect(0);

    let refused = user.qyv(&["keys", "rm", "default"]).expect(1);
    let mut export = user.command();
    export
        .args(["keys", "export", "default", "--private"])
        .env("QYVOL_KEY_PASSPHRASE", "a passphrase of some length");
    assert!(
        refused.err.contains("`qyv keys export default --private`"),
        "{}",
        refused.err
    );
    CommandOutput::from(&export.output().unwrap()).expect(0);
    type_hint(&user, &refused, "qyv keys rm", &[]).expect(0);
}

#[test]
fn pipeline_without_a_key_builds_by_what_the_hint_says() {
    let user = User::new();
    user.app("app", "");
    let build = |more: &[&str]| {
        let mut command = user.command();
        command.env("CI", "true").args(["build", "app"]).args(more);
        CommandOutput::from(&command.output().unwrap())
    };
    let refused = build(&[]).expect(1);
    assert!(
        refused.err.contains("--no-sign leaves the signature out"),
        "{}",
        refused.err
    );
    build(&["--no-sign"]).expect(0);
}

#[test]
fn name_in_use_is_moved_or_kept_as_the_hints_say() {
    let (user, other) = (User::new(), User::new());
    let file = user.built("app", "");
    other.built("app", "language: rust\n");
    trust(&user, &other, &["file:"]);
    fs::copy(other.path(&file), user.path("other.qyvbin")).unwrap();
    let refused = user.qyv(&["load", "other.qyvbin"]).expect(1);
    type_hint(&user, &refused, "qyv tag", &[("OTHER", "kept")]).expect(0);
    assert!(refused.err.contains("`qyv load --replace`"), "{}", refused.err);
    user.qyv(&["load", "--replace", "other.qyvbin"]).expect(0);
    user.qyv(&["verify", "kept"]).expect(0);
}

#[test]
fn registrys_repositories_and_tags_are_listed_by_what_the_hints_say() {
    let server = Server::hub(&[]);
    let user = User::new();
    let file = user.built("app", "");
    user.qyv(&["push", &file, &server.name("team/app:1")]).expect(0);
    let absent = user.qyv(&["tags", &server.name("team/absent")]).expect(69);
    let listed = type_hint(&user, &absent, "qyv catalog", &[]).expect(0);
    assert_eq!(listed.out, "team/app\n");
    let absent = user.qyv(&["pull", &server.name("team/app:2")]).expect(69);
    let listed = type_hint(&user, &absent, "qyv tags", &[("REPOSITORY", "team/app")]).expect(0);
    assert_eq!(listed.out, "1\n");
    let absent = user.qyv(&["inspect", &server.name("team/app:1")]).expect(1);
    type_hint(&user, &absent, "qyv pull", &[]).expect(0);
}

#[test]
fn store_that_others_can_write_is_repaired_by_what_the_hint_says() {
    let user = User::new();
    user.built("app", "");
    let loose = user
        .stored()
        .into_iter()
        .find(|path| path.to_string_lossy().contains("/blobs/"))
        .unwrap();
    let loose = loose.parent().unwrap().to_path_buf();
    fs::set_permissions(&loose, fs::Permissions::from_mode(0o777)).unwrap();
    let found = user.qyv(&["check"]).expect(1);
    assert!(found.out.contains("qyv check --repair"), "{}", found.out);
    let repaired = user.qyv(&["check", "--repair"]);
    assert!(repaired.out.contains("nothing else to do"), "{}", repaired.out);
    user.qyv(&["check"]).expect(0);
}

#[test]
fn damaged_file_is_named_by_every_command_that_reads_it() {
    let user = User::new();
    user.write("app/a.txt", vec![7; 300_000]);
    let file = user.built("app", "assets: [a.txt]\n");
    let mut bytes = fs::read(user.path(&file)).unwrap();
    let last = bytes.len() - 400;
    bytes[last] ^= 1;
    let host = User::new();
    host.write("bad.qyvbin", bytes);
    trust(&host, &user, &["file:"]);
    for command in [
        &["verify", "bad.qyvbin"][..],
        &["load", "bad.qyvbin"],
        &["run", "bad.qyvbin", "exit", "0"],
    ] {
        let refused = host.qyv(command);
        assert!(matches!(refused.code, 16 | 126), "{command:?} {refused:?}");
        assert!(
            refused.err.contains("bad.qyvbin") && refused.err.contains("get it again"),
            "{}",
            refused.err
        );
    }
}

#[test]
fn directory_that_is_named_like_an_image_is_found_by_the_path_that_the_hint_writes() {
    let user = User::new();
    user.app("app", "");
    let absent = user.qyv(&["run", "app", "exit", "3"]).expect(125);
    assert!(absent.err.contains("`./app/`"), "{}", absent.err);
    user.qyv(&["run", "./app/", "exit", "3"]).expect(3);
}

/// Every file of the command that prints words.
fn sources() -> Vec<(String, String)> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut directories = vec![root];
    let mut found = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found
}

#[test]
fn every_command_that_a_text_names_exists_with_its_options() {
    let user = User::new();
    let mut checked = 0;
    for (path, text) in sources() {
        for command in text.split('`').skip(1).filter(|text| text.starts_with("qyv ")) {
            // As it is printed: a string of the source may go on in the next line.
            let command = command.replace("\\\n", " ").replace("\\n", " ");
            let words: Vec<&str> = command.split_whitespace().skip(1).collect();
            let is_verb =
                |word: &&&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-');
            let mut verb: Vec<&str> = words.iter().take(2).take_while(is_verb).copied().collect();
            if verb.is_empty() {
                continue;
            }
            if user.qyv(&[&verb[..], &["--help"]].concat()).code != 0 || verb.first() == Some(&"help") {
                verb.truncate(1);
            }
            let help = user.qyv(&[&verb[..], &["--help"]].concat());
            assert_eq!(help.code, 0, "{path}: `{command}`");
            for option in words.iter().filter(|word| word.starts_with("--") && word.len() > 2) {
                let option = option.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
                assert!(help.out.contains(option), "{path}: `{command}` has no {option}");
            }
            checked += 1;
        }
    }
    assert!(checked > 40, "{checked}");
}

#[test]
fn wasm_file_in_place_of_a_manifest_is_refused_with_what_it_lacks() {
    let user = User::new();
    user.app("app", "");
    for verb in ["build", "validate"] {
        let done = user.qyv(&[verb, "app/probe.wasm"]).expect(2);
        assert!(done.err.contains("write a .qyv whose entrypoint it is"), "{}", done.err);
    }
}

#[test]
fn hint_after_a_revocation_names_no_revoked_key_and_works() {
    let user = User::new();
    let file = user.built("app", "");
    for key in ["approver", "next"] {
        user.qyv(&["keys", "generate", key]).expect(0);
    }
    for (key, name) in [
        ("default", "old.pub"),
        ("approver", "approver.pub"),
        ("next", "NEW.pub"),
    ] {
        user.write(name, user.qyv(&["keys", "export", key]).expect(0).out);
    }
    user.qyv(&["trust", "add", "file:app", "--key", "old.pub"]).expect(0);
    user.qyv(&["trust", "add", "file:app", "--key", "approver.pub", "--role", "approve"])
        .expect(0);
    user.qyv(&["sign", &file, "--key", "approver", "--role", "approve"])
        .expect(0);
    user.qyv(&["trust", "revoke", "old.pub"]).expect(0);
    let refused = user.qyv(&["verify", &file]);
    assert!(!refused.err.contains("qyv sign"), "{}", refused.err);
    let hint = refused.err.split('`').find(|part| part.starts_with("qyv trust add "));
    let words: Vec<&str> = hint.expect(&refused.err).split(' ').skip(1).collect();
    user.qyv(&words).expect(0);
    user.qyv(&["sign", &file, "--key", "next"]).expect(0);
    user.qyv(&["verify", &file]).expect(0);
}

#[test]
fn arguments_that_do_not_fit_into_an_adapter_are_reported() {
    let user = User::new();
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/guests/files.component.wasm");
    user.write("app/app.wasm", fs::read(guest).unwrap());
    user.write("app/app.qyv", "name: app\nversion: 1.0.0\nentrypoint: app.wasm\n");
    user.qyv(&["build", "app", "-o", "app.qyvbin", "-q"]).expect(0);
    let long = "a".repeat(100_000);
    let done = user.qyv(&["run", "-q", "app.qyvbin", "stat", &long]);
    assert_eq!(done.code, 134);
    assert!(done.err.contains("its arguments have 100004 bytes"));
}
