//! `init`: a new project, from a template of its language, that builds with that language's own
//! tools.
//!
//! A project is a directory that appears under its name with all of its files, or not at all;
//! nothing that exists is changed. Deliberately absent: starting a tool, and fetching anything.

mod templates;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use qyvol_types::{AppType, Reference};

use self::templates::{TEMPLATES, Template, type_name};
use crate::{Context, Error, new_file};

/// Bytes of the last component of a project's name.
const NAME_BYTES: usize = 64;

/// A language that there are templates for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Rust.
    Rust,
    /// Go.
    Go,
    /// C.
    C,
    /// JavaScript.
    JavaScript,
    /// Python.
    Python,
    /// WebAssembly's text format, inside the manifest.
    Wat,
}

impl Language {
    /// Its name, as in a manifest.
    pub fn name(self) -> &'static str {
        match self {
            Language::Rust => "rust",
            Language::Go => "go",
            Language::C => "c",
            Language::JavaScript => "javascript",
            Language::Python => "python",
            Language::Wat => "wat",
        }
    }
}

/// What to create.
pub struct InitRequest<'a> {
    /// Where the project's directory is created.
    pub parent: &'a Path,
    /// The application's name. Its last component is the directory's.
    pub name: &'a str,
    /// What it is written in.
    pub language: Language,
    /// What it is; if absent, what the language's first template is.
    pub app_type: Option<AppType>,
}

/// What was created.
#[derive(Clone, Debug)]
pub struct InitReport {
    /// The project's directory.
    pub directory: PathBuf,
    /// The last component of its name.
    pub name: String,
    /// What it is.
    pub app_type: AppType,
    /// Its files, relative to the directory.
    pub files: Vec<String>,
    /// Commands for a shell that lead from there to a verified run, in the directory.
    pub commands: Vec<String>,
}

/// Creates a project.
pub fn init(ctx: &Context<'_>, request: &InitRequest<'_>) -> Result<InitReport, Error> {
    let name = short_name(request.name)?;
    let template = template(request.language, request.app_type)?;
    let directory = request.parent.join(name);
    let files = template.files(request.name, name);
    let fill = |within: &Path| files.iter().try_for_each(|file| write(within, file));
    new_file::create_directory(ctx, request.parent, name, fill).map_err(Error::file("create", &directory))?;
    Ok(InitReport {
        directory,
        name: name.to_string(),
        app_type: template.app_type,
        files: files.into_iter().map(|file| file.path).collect(),
        commands: template.commands(name),
    })
}

/// A file of a project.
struct ProjectFile {
    /// Relative to the project's directory.
    path: String,
    text: String,
    is_program: bool,
}

fn write(directory: &Path, file: &ProjectFile) -> io::Result<()> {
    let path = directory.join(&file.path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mode = if file.is_program { 0o777 } else { 0o666 };
    let mut out = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    out.write_all(file.text.as_bytes())
}

/// The last component of an application's name, which is also that of a package or module in
/// any of the languages.
fn short_name(name: &str) -> Result<&str, Error> {
    let refused = |why: String| Err(Error::Usage(format!("{name:?} can't be the name of a project: {why}")));
    if Reference::local(name, "0.1.0").is_err() {
        return refused("lower-case letters and digits, separated by `_`, `-` or, for namespaces, `/`".to_string());
    }
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.len() > NAME_BYTES || last.contains('.') || !last.starts_with(|c: char| c.is_ascii_lowercase()) {
        return refused(format!(
            "{last:?} must begin with a letter and have at most {NAME_BYTES} letters, digits, `_` and `-`"
        ));
    }
    Ok(last)
}

fn template(language: Language, app_type: Option<AppType>) -> Result<&'static Template, Error> {
    let all = || TEMPLATES.iter().filter(|template| template.language == language);
    let found = match app_type {
        None => all().next(),
        Some(app_type) => all().find(|template| template.app_type == app_type),
    };
    found.ok_or_else(|| {
        let types: Vec<&str> = all().map(|template| type_name(template.app_type)).collect();
        Error::Usage(format!(
            "there is no template of that type for {}: there is {}",
            language.name(),
            types.join(", ")
        ))
    })
}

#[cfg(test)]
mod tests {
    use qyvol_sandbox::parse_app_manifest;
    use qyvol_types::Timestamp;

    use super::*;
    use crate::{Home, TempFiles};

    fn in_scratch(check: impl FnOnce(&Context<'_>, &Path)) {
        let scratch = tempfile::tempdir().unwrap();
        let temporaries = TempFiles::default();
        let now = Timestamp::from_unix(1_800_000_000).unwrap();
        let ctx = Context::new(Home::in_directory(scratch.path()), now, &temporaries);
        check(&ctx, scratch.path());
    }

    fn request<'a>(parent: &'a Path, name: &'a str, template: &Template) -> InitRequest<'a> {
        InitRequest {
            parent,
            name,
            language: template.language,
            app_type: Some(template.app_type),
        }
    }

    // [CMD-051]
    #[test]
    fn every_template_is_filled_in_and_its_manifest_is_valid() {
        in_scratch(|ctx, parent| {
            for (number, template) in TEMPLATES.iter().enumerate() {
                let name = format!("team/a{number}");
                let made = init(ctx, &request(parent, &name, template)).unwrap();
                for file in &made.files {
                    let text = fs::read_to_string(made.directory.join(file)).unwrap();
                    assert!(!text.replace("${{", "").contains("{{"), "{file}: {text}");
                    assert!(text.ends_with('\n'), "{file}");
                }
                let manifest = fs::read_to_string(made.directory.join(format!("{}.qyv", made.name))).unwrap();
                let app = parse_app_manifest(&manifest).unwrap();
                assert_eq!((app.name.as_str(), app.app_type), (name.as_str(), template.app_type));
                assert_eq!(app.language.as_deref(), Some(template.language.name()));
                assert_eq!(app.build.is_none(), app.is_made() && app.wasm_files().is_empty());
            }
            // No temporary is left.
            assert_eq!(fs::read_dir(parent).unwrap().count(), TEMPLATES.len());
        });
    }

    // [CMD-051]
    #[test]
    fn nothing_that_exists_is_changed() {
        in_scratch(|ctx, parent| {
            fs::create_dir(parent.join("empty")).unwrap();
            fs::write(parent.join("file"), "mine").unwrap();
            std::os::unix::fs::symlink("nowhere", parent.join("link")).unwrap();
            for name in ["empty", "file", "link"] {
                let error = init(ctx, &request(parent, name, &TEMPLATES[0])).unwrap_err();
                assert!(error.to_string().contains("File exists"), "{error}");
            }
            assert_eq!(fs::read_to_string(parent.join("file")).unwrap(), "mine");
            assert_eq!(fs::read_dir(parent.join("empty")).unwrap().count(), 0);
            assert_eq!(fs::read_dir(parent).unwrap().count(), 3);
        });
    }

    #[test]
    fn names_that_no_package_can_have_are_refused() {
        in_scratch(|ctx, parent| {
            for name in ["", "A", "1a", "a.b", "../a", "/a", "a/", "a b", &"a".repeat(65)] {
                assert!(
                    matches!(init(ctx, &request(parent, name, &TEMPLATES[0])), Err(Error::Usage(_))),
                    "{name}"
                );
            }
            assert_eq!(fs::read_dir(parent).unwrap().count(), 0);
        });
    }
}
