//! What a guest is denied of the file system is told to who listens.

use std::fs;

use serde_json::Value;

use crate::matrix::GUESTS;
use crate::support::User;

/// Steps that are denied, and what is told of each: the action and the path.
const DENIED: &[(&str, &str, &str)] = &[
    ("write /assets:public/new x", "create", "/assets/public/new"),
    ("open /assets:public/a.txt w", "write", "/assets/public/a.txt"),
    ("open /assets:public/b.txt rt", "write", "/assets/public/b.txt"),
    ("times /assets:public", "write", "/assets/public"),
    ("mkdir /assets:new", "create", "/assets/new"),
    ("unlink /assets:public/a.txt", "remove", "/assets/public/a.txt"),
    ("rmdir /assets:public", "remove", "/assets/public"),
    (
        "rename /assets:public/a.txt /assets:b",
        "rename",
        "/assets/public/a.txt",
    ),
    ("link /assets:public/a.txt /assets:b", "link", "/assets/public/a.txt"),
    ("symlink x /assets:l", "link", "/assets/l"),
    ("read /assets:../secret", "read", "/assets/../secret"),
    ("read /assets:/etc/passwd", "read", "/etc/passwd"),
    ("stat /:..", "read", "/.."),
    ("readlink /:../x", "read", "/../x"),
    ("symlink .. /:l + read /:l/etc/passwd", "read", "/l/etc/passwd"),
    ("mkdir /:../%0aline", "create", "/../\\u{a}line"),
];

// [RUN-064] [RUN-056]
#[test]
fn denied_calls_on_files_are_reported_in_every_version() {
    for guest in GUESTS {
        let user = User::new();
        for kind in ["memfs", "diskfs"] {
            let manifest = format!("assets: [public]\npermissions: {{ fs: write }}\nfs: {{ type: {kind} }}\n");
            let app = guest.archive(&user, &manifest).unwrap();
            let steps: Vec<&str> = DENIED.iter().map(|(steps, ..)| *steps).collect();
            let steps = format!("write /:f x + {} + read /:f", steps.join(" + "));
            let mut args = vec!["run", "-v", "--stats", "--audit", "audit", &app];
            args.extend(steps.split(' '));
            let done = user.qyv(&args).expect(0);
            let audit = fs::read_to_string(user.path("audit")).unwrap();
            fs::remove_file(user.path("audit")).unwrap();
            let lines = audit.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            let denied: Vec<(String, String)> = lines
                .filter(|line| line["event"] == "denied" && line["permission"] == "fs")
                .map(|line| {
                    let text = |key: &str| line[key].as_str().unwrap().to_string();
                    (text("action"), text("object"))
                })
                .collect();
            let expected: Vec<(String, String)> = DENIED
                .iter()
                .map(|(_, action, object)| (action.to_string(), object.to_string()))
                .collect();
            assert_eq!(
                denied, expected,
                "{} {} {kind}: {}",
                guest.language, guest.version, done.out
            );
            assert!(done.err.contains("denied: fs create /assets/new\n"), "{}", done.err);
            let counted = format!("\n  denied       {} calls\n", DENIED.len());
            assert!(done.err.contains(&counted), "{}", done.err);
            assert!(done.out.ends_with("read:x\n"), "{}", done.out);
        }
    }
}
