//! Hints are true: what one tells to type works in the situation that it was
//! printed in.

use std::fs;

use crate::support::{Done, User};

/// The commands that stderr or stdout tells to type, without those that leave
/// a word in capitals to fill in.
fn told(done: &Done) -> Vec<String> {
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
fn follow(user: &User, done: &Done, number: usize) {
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
