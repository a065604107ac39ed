//! What an application may do, in sentences for people who don't know the keys of a
//! manifest. Each permission has its own words in its file.
//!
//! What every application gets is left out: its standard streams, and the arguments and
//! variables that whoever runs it passes. Only that one of these is withheld is said.

use qyvol_types::{AppManifest, escape};

use crate::Capabilities;

/// Sentences that are being collected.
pub(crate) struct Words<'a> {
    pub(crate) app: &'a AppManifest,
    pub(crate) has_assets: bool,
    may: Vec<String>,
    withheld: Vec<Withheld>,
    /// Programs that it may start are not held by what is withheld from it.
    leaves_the_sandbox: bool,
}

/// Something that an application doesn't get.
pub(crate) struct Withheld {
    /// After "no".
    pub(crate) noun: &'static str,
    /// After "may not".
    pub(crate) verb: &'static str,
}

impl Words<'_> {
    /// Adds what stands after "may".
    pub(crate) fn may(&mut self, what: String) {
        self.may.push(what);
    }

    pub(crate) fn leave_the_sandbox(&mut self) {
        self.leaves_the_sandbox = true;
    }

    pub(crate) fn withhold(&mut self, what: Withheld) {
        self.withheld.push(what);
    }
}

/// What an application may do, a sentence each. `has_assets` is whether its image has any.
/// Nothing in them can move a terminal's cursor.
pub fn in_words(app: &AppManifest, has_assets: bool) -> Vec<String> {
    let capabilities = match Capabilities::read(&app.permissions) {
        Ok(capabilities) => capabilities,
        Err(unknown) => return vec![unknown.to_string()],
    };
    let mut words = Words {
        app,
        has_assets,
        may: Vec::new(),
        withheld: Vec::new(),
        leaves_the_sandbox: false,
    };
    capabilities.tell(&mut words);
    let Words {
        may,
        withheld,
        leaves_the_sandbox,
        ..
    } = words;
    let nouns: Vec<String> = withheld.iter().map(|what| format!("no {}", what.noun)).collect();
    let verbs: Vec<&str> = withheld.iter().map(|what| what.verb).collect();
    if may.is_empty() {
        return vec![format!("nothing: {}", nouns.join(", "))];
    }
    let mut sentences = Vec::new();
    if capabilities.has_everything() {
        sentences.push("everything: files, the whole network, and programs of the host".to_string());
    }
    sentences.extend(may.iter().map(|what| format!("may: {what}")));
    if leaves_the_sandbox {
        sentences.push(
            "programs of the host run outside the sandbox: with the files and network of whoever runs it".to_string(),
        );
    }
    if !verbs.is_empty() {
        let by_itself = if leaves_the_sandbox { " by itself" } else { "" };
        sentences.push(format!("may not{by_itself}: {}", verbs.join(", ")));
    }
    sentences
}

/// `a`, `a and b`, `a, b and c`; escaped, and quoted where an item could pass for words
/// of the sentence.
pub(crate) fn listed<T: ToString>(items: &[T]) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._/:*@-[]".contains(c);
    let item = |item: &T| {
        let text = item.to_string();
        match text.chars().all(is_plain) {
            true => text,
            false => format!("\"{}\"", escape(&text).to_string().replace('"', "\\\"")),
        }
    };
    let items: Vec<String> = items.iter().map(item).collect();
    match items.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => items.concat(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::parse_app_manifest;

    fn told(more: &str, has_assets: bool) -> Vec<String> {
        let app = parse_app_manifest(&format!("name: a\nentrypoint: a.wasm\n{more}\n")).unwrap();
        in_words(&app, has_assets)
    }

    fn permissions(what: &str) -> Vec<String> {
        told(&format!("permissions: {what}"), false)
    }

    // [MAN-052]
    #[test]
    fn path_that_reads_like_words_is_quoted() {
        assert_eq!(
            permissions(r#"{ exec: [/bin/sh, "/x, if nobody objects"] }"#)[0],
            r#"may: start /bin/sh and "/x, if nobody objects", if whoever runs it allows it with --allow-exec"#
        );
    }

    const NOTHING: &str = "nothing: no files, no network, no programs of the host";

    // [MAN-052]
    #[test]
    fn preset_is_told_by_what_it_allows() {
        for nothing in ["sandbox", "{}", "{ fs: none, net: false, exec: false }"] {
            assert_eq!(permissions(nothing), [NOTHING], "{nothing}");
        }
        assert_eq!(
            permissions("restricted"),
            [
                "may: read and write files under / (in memory, gone after each run)",
                "may not: use the network, start programs of the host",
            ]
        );
        assert_eq!(
            permissions("full"),
            [
                "everything: files, the whole network, and programs of the host",
                "may: read and write files under / (in memory, gone after each run)",
                "may: use directories of the host that whoever runs it adds with --dir",
                "may: use the network: look up any name, connect to any address, and listen at any",
                "may: start any program of the host that whoever runs it allows with --allow-exec",
                "programs of the host run outside the sandbox: with the files and network of whoever runs it",
            ]
        );
    }

    // [MAN-052]
    #[test]
    fn files_are_told_with_the_place_that_keeps_them() {
        let first = |more: &str, has_assets| told(more, has_assets).swap_remove(0);
        for (more, has_assets, expected) in [
            ("", true, "may: read its assets under /assets"),
            (
                "permissions: { fs: read }",
                false,
                "may: read files under / (in memory)",
            ),
            (
                "permissions: { fs: write }\nfs: { type: diskfs }",
                false,
                "may: read and write files under / (on the host's disk, kept for later runs)",
            ),
            (
                "permissions: { fs: read }\nfs: { type: netfs, source: \"https://files.example/a\" }",
                false,
                "may: read files under / (those at https://files.example/a)",
            ),
            (
                "permissions: { fs: write }\nassets_root: /",
                true,
                "may: read and write files under / (in memory, gone after each run; its assets are there too)",
            ),
        ] {
            assert_eq!(first(more, has_assets), expected, "{more}");
        }
        assert_eq!(
            told("permissions: { fs: { read: [/etc/app], write: [/data, /log] } }", true),
            [
                "may: read files under /etc/app (in memory)",
                "may: read and write files under /data and /log (in memory, gone after each run)",
                "may: read its assets under /assets",
                "may not: use the network, start programs of the host",
            ]
        );
    }

    // [MAN-052]
    #[test]
    fn network_and_programs_are_told_one_by_one() {
        let net = "{ net: { connect: [\"api.example.com:443\", \"10.0.0.0/8:5432\"], listen: [\"127.0.0.1:8080\"] } }";
        assert_eq!(
            permissions(net),
            [
                "may: connect to api.example.com:443 and 10.0.0.0/8:5432",
                "may: listen at 127.0.0.1:8080",
                "may not: read or write files, start programs of the host",
            ]
        );
        assert_eq!(
            permissions("{ exec: [/usr/bin/git, /usr/bin/tar, /bin/sh] }"),
            [
                "may: start /usr/bin/git, /usr/bin/tar and /bin/sh, if whoever runs it allows it with --allow-exec",
                "programs of the host run outside the sandbox: with the files and network of whoever runs it",
                "may not by itself: read or write files, use the network",
            ]
        );
    }

    // [MAN-052]
    #[test]
    fn what_every_application_gets_is_told_only_if_it_is_withheld() {
        assert_eq!(permissions("{ env: any, args: any, stdio: all }"), [NOTHING]);
        assert_eq!(
            permissions("{ env: [LANG, HOME], args: fixed, stdio: [stdout] }"),
            [
                "may: see the variables LANG and HOME, if whoever runs it sets them, and no others of theirs",
                "may not: read or write files, use the network, start programs of the host, get arguments from \
                 whoever runs it, read stdin, write to stderr",
            ]
        );
        assert_eq!(
            permissions("{ env: fixed, args: fixed, stdio: none }"),
            [format!(
                "{NOTHING}, no variables from whoever runs it, no arguments from whoever runs it, no stdin, no \
                 stdout, no stderr"
            )]
        );
    }

    // [MAN-052]
    #[test]
    fn unknown_permission_is_told_and_text_is_escaped() {
        let mut app = parse_app_manifest("name: a\nentrypoint: a.wasm\npermissions: { gfx: true }\n").unwrap();
        let told = in_words(&app, false);
        assert_eq!(told[0], "may: show graphics, which this version can't do");
        app.permissions.request("\u{1b}[2Jtele", serde_json::json!(true));
        let told = in_words(&app, false);
        assert!(told[0].contains("which this version does not know"), "{told:?}");
        assert!(!told[0].contains('\u{1b}'), "{told:?}");
    }
}
