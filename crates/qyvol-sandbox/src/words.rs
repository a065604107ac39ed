//! What an application may do, in sentences for people who don't know the keys of a
//! manifest. Each permission has its own words in its file.
//!
//! What every application gets is left out: its standard streams, and the arguments and
//! variables that the operator passes. Only that one of these is withheld is said.

use qyvol_types::{AppManifest, escape};

use crate::Capabilities;

/// A language for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// English.
    English,
    /// Spanish.
    Spanish,
}

impl Language {
    /// What stands in English or in Spanish.
    fn either<'t>(self, english: &'t str, spanish: &'t str) -> &'t str {
        match self {
            Language::English => english,
            Language::Spanish => spanish,
        }
    }
}

/// Sentences that are being collected.
pub(crate) struct Words<'a> {
    pub(crate) app: &'a AppManifest,
    pub(crate) has_assets: bool,
    language: Language,
    may: Vec<String>,
    withheld: Vec<Withheld>,
    /// Programs that it may start are not held by what is withheld from it.
    leaves_the_sandbox: bool,
}

/// Something that an application doesn't get.
pub(crate) struct Withheld {
    /// After "no" or "sin".
    pub(crate) noun: &'static str,
    /// After "may not" or "no puede".
    pub(crate) verb: &'static str,
}

impl Words<'_> {
    /// What stands in English or in Spanish.
    pub(crate) fn either<'t>(&self, english: &'t str, spanish: &'t str) -> &'t str {
        self.language.either(english, spanish)
    }

    /// `a`, `a and b`, `a, b and c`; escaped, and quoted where an item could pass for words
    /// of the sentence.
    pub(crate) fn listed<T: ToString>(&self, items: &[T]) -> String {
        listed(items, self.either("and", "y"))
    }

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
    in_words_of(app, has_assets, Language::English)
}

/// The same in a language.
pub fn in_words_of(app: &AppManifest, has_assets: bool, language: Language) -> Vec<String> {
    let capabilities = match Capabilities::read(&app.permissions) {
        Ok(capabilities) => capabilities,
        Err(unknown) => {
            let permission = escape(&unknown.permission);
            let spanish = format!("su manifiesto pide el permiso `{permission}`, que esta versión no conoce");
            return vec![language.either(&unknown.to_string(), &spanish).to_string()];
        }
    };
    let mut words = Words {
        app,
        has_assets,
        language,
        may: Vec::new(),
        withheld: Vec::new(),
        leaves_the_sandbox: false,
    };
    capabilities.describe(&mut words);
    let Words {
        may,
        withheld,
        leaves_the_sandbox,
        ..
    } = words;
    let no = language.either("no", "sin");
    let nouns: Vec<String> = withheld.iter().map(|what| format!("{no} {}", what.noun)).collect();
    let verbs: Vec<&str> = withheld.iter().map(|what| what.verb).collect();
    if may.is_empty() {
        return vec![format!("{}: {}", language.either("nothing", "nada"), nouns.join(", "))];
    }
    let mut sentences = Vec::new();
    if capabilities.has_everything() {
        let everything = language.either(
            "everything: files, the whole network, and host programs",
            "todo: archivos, la red entera y programas de la máquina",
        );
        sentences.push(everything.to_string());
    }
    let can = language.either("may", "puede");
    sentences.extend(may.iter().map(|what| format!("{can}: {what}")));
    if leaves_the_sandbox {
        let outside = language.either(
            "host programs run outside the sandbox: with the files and network of the user who runs it",
            "los programas de la máquina se ejecutan fuera del sandbox: con los archivos y la red de quien la ejecuta",
        );
        sentences.push(outside.to_string());
    }
    if !verbs.is_empty() {
        let may_not = match leaves_the_sandbox {
            true => language.either("may not by itself", "no puede por sí misma"),
            false => language.either("may not", "no puede"),
        };
        sentences.push(format!("{may_not}: {}", verbs.join(", ")));
    }
    sentences
}

fn listed<T: ToString>(items: &[T], and: &str) -> String {
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
        Some((last, rest)) if !rest.is_empty() => format!("{} {and} {last}", rest.join(", ")),
        _ => items.concat(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::parse_app_manifest;

    fn described(more: &str, has_assets: bool) -> Vec<String> {
        let app = parse_app_manifest(&format!("name: a\nentrypoint: a.wasm\n{more}\n")).unwrap();
        in_words(&app, has_assets)
    }

    fn permissions(what: &str) -> Vec<String> {
        described(&format!("permissions: {what}"), false)
    }

    // [MAN-052]
    #[test]
    fn path_that_reads_like_words_is_quoted() {
        assert_eq!(
            permissions(r#"{ exec: [/bin/sh, "/x, if nobody objects"] }"#)[0],
            r#"may: start /bin/sh and "/x, if nobody objects", if the operator allows it with --allow-exec"#
        );
    }

    const NOTHING: &str = "nothing: no files, no network, no host programs";

    // [MAN-052]
    #[test]
    fn preset_is_described_by_what_it_allows() {
        for nothing in ["sandbox", "{}", "{ fs: none, net: false, exec: false }"] {
            assert_eq!(permissions(nothing), [NOTHING], "{nothing}");
        }
        assert_eq!(
            permissions("restricted"),
            [
                "may: read and write files under / (in memory, gone after each run)",
                "may not: use the network, start host programs",
            ]
        );
        assert_eq!(
            permissions("full"),
            [
                "everything: files, the whole network, and host programs",
                "may: read and write files under / (in memory, gone after each run)",
                "may: use host directories that the operator adds with --dir",
                "may: use the network: look up any name, connect to any address, and listen at any",
                "may: start any host program that the operator allows with --allow-exec",
                "host programs run outside the sandbox: with the files and network of the user who runs it",
            ]
        );
    }

    // [MAN-052]
    #[test]
    fn files_are_described_with_where_they_are_kept() {
        let first = |more: &str, has_assets| described(more, has_assets).swap_remove(0);
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
            described("permissions: { fs: { read: [/etc/app], write: [/data, /log] } }", true),
            [
                "may: read files under /etc/app (in memory)",
                "may: read and write files under /data and /log (in memory, gone after each run)",
                "may: read its assets under /assets",
                "may not: use the network, start host programs",
            ]
        );
    }

    // [MAN-052]
    #[test]
    fn network_and_programs_are_reported_one_by_one() {
        let net = "{ net: { connect: [\"api.example.com:443\", \"10.0.0.0/8:5432\"], listen: [\"127.0.0.1:8080\"] } }";
        assert_eq!(
            permissions(net),
            [
                "may: connect to api.example.com:443 and 10.0.0.0/8:5432",
                "may: listen at 127.0.0.1:8080",
                "may not: read or write files, start host programs",
            ]
        );
        assert_eq!(
            permissions("{ exec: [/usr/bin/git, /usr/bin/tar, /bin/sh] }"),
            [
                "may: start /usr/bin/git, /usr/bin/tar and /bin/sh, if the operator allows it with --allow-exec",
                "host programs run outside the sandbox: with the files and network of the user who runs it",
                "may not by itself: read or write files, use the network",
            ]
        );
    }

    // [MAN-052]
    #[test]
    fn what_every_application_gets_is_mentioned_only_if_withheld() {
        assert_eq!(permissions("{ env: any, args: any, stdio: all }"), [NOTHING]);
        assert_eq!(
            permissions("{ env: [LANG, HOME], args: fixed, stdio: [stdout] }"),
            [
                "may: see the variables LANG and HOME, if the operator sets them, and no others",
                "may not: read or write files, use the network, start host programs, get arguments from \
                 the operator, read stdin, write to stderr",
            ]
        );
        assert_eq!(
            permissions("{ env: fixed, args: fixed, stdio: none }"),
            [format!(
                "{NOTHING}, no variables from the operator, no arguments from the operator, no stdin, no \
                 stdout, no stderr"
            )]
        );
    }

    // [MAN-052]
    #[test]
    fn sentences_in_spanish_say_the_same() {
        let spanish = |what: &str| {
            let app = parse_app_manifest(&format!("name: a\nentrypoint: a.wasm\npermissions: {what}\n")).unwrap();
            in_words_of(&app, true, Language::Spanish)
        };
        assert_eq!(
            spanish("{ fs: { read: [/etc/app], write: [/data, /log] }, net: { connect: [\"a.example:443\"] } }"),
            [
                "puede: leer archivos bajo /etc/app (en memoria)",
                "puede: leer y escribir archivos bajo /data y /log (en memoria, desaparecen tras cada ejecución)",
                "puede: leer sus archivos incluidos bajo /assets",
                "puede: conectarse a a.example:443",
                "no puede: iniciar programas de la máquina",
            ]
        );
        assert_eq!(
            spanish("{ exec: [/bin/sh], env: [LANG], args: fixed, stdio: [stdout] }"),
            [
                "puede: leer sus archivos incluidos bajo /assets",
                "puede: iniciar /bin/sh, si el operador lo permite con --allow-exec",
                "puede: ver la variable LANG, si el operador la define, y ninguna otra",
                "los programas de la máquina se ejecutan fuera del sandbox: con los archivos y la red de quien la ejecuta",
                "no puede por sí misma: usar la red, recibir argumentos del operador, leer stdin, escribir en stderr",
            ]
        );
        // A sentence in each for everything that can be asked.
        for what in [
            "sandbox",
            "restricted",
            "full",
            "{ gfx: true }",
            "{ env: fixed, stdio: none, net: { listen: [\"127.0.0.1:80\"] } }",
        ] {
            let app = parse_app_manifest(&format!("name: a\nentrypoint: a.wasm\npermissions: {what}\n")).unwrap();
            for has_assets in [false, true] {
                let (english, spanish) = (
                    in_words(&app, has_assets),
                    in_words_of(&app, has_assets, Language::Spanish),
                );
                assert_eq!(english.len(), spanish.len(), "{what}");
                assert!(
                    english.iter().zip(&spanish).all(|(one, other)| one != other),
                    "{english:?} {spanish:?}"
                );
            }
        }
    }

    // [MAN-052]
    #[test]
    fn unknown_permission_is_reported_and_text_is_escaped() {
        let mut app = parse_app_manifest("name: a\nentrypoint: a.wasm\npermissions: { gfx: true }\n").unwrap();
        let described = in_words(&app, false);
        assert_eq!(described[0], "may: show graphics, which this version can't do");
        app.permissions.request("\u{1b}[2Jtele", serde_json::json!(true));
        let described = in_words(&app, false);
        assert!(
            described[0].contains("which this version does not know"),
            "{described:?}"
        );
        assert!(!described[0].contains('\u{1b}'), "{described:?}");
    }
}
