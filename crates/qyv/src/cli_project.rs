//! The arguments of `init` and `dev`: an application that is being written.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use qyvol::Language;
use qyvol::types::AppType;

#[derive(Debug, Args)]
#[command(
    after_help = "Types by language: rust, js and python cli, service, function; c cli, function; go cli; wat\nfunction, service, cli. The first is the default. A project has sources with a test, the manifest\nNAME.qyv whose `build` runs the language's own tools, .gitignore, a pipeline for GitHub, and a\nREADME.md with the next commands. Nothing is fetched, no program is started, and nothing that\nexists is changed."
)]
pub struct InitArgs {
    /// The application's name; its last part, after any /, is that of the new directory
    pub name: String,
    /// What it is written in
    #[arg(long, value_enum, value_name = "LANGUAGE")]
    pub lang: LanguageArg,
    /// What it is [default: the first type of the language]
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    pub app_type: Option<TypeArg>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "When a source changes, the manifest's `build` runs, shown, in the manifest's directory; then a\ncommand is started anew, and an HTTP service, or functions, are served on and replaced without\nlosing a request. What can't be built or does not start is reported, and the previous version goes\non. Sources are all files but hidden ones and those that .gitignore names. Nothing is signed, and\nno key is read. SIGINT (Ctrl-C) ends it with everything it has started."
)]
pub struct DevArgs {
    /// A .qyv file, or the directory of one
    #[arg(default_value = ".", value_name = "DIR|FILE.qyv")]
    pub path: PathBuf,
    /// The arguments of a command, after --; without any, the name of its only process
    #[arg(last = true)]
    pub args: Vec<String>,
    /// Address and port of a service; port 0 is any free port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Set an environment variable for the guest; NAME alone takes its value from qyv's environment (repeatable)
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Grant a directory of this host (repeatable)
    #[arg(long = "dir", value_name = "HOST[::GUEST][:ro]")]
    pub dirs: Vec<String>,
    /// Allow connections to HOST:PORT in addition to what the manifest asks for (repeatable)
    #[arg(long, value_name = "HOST:PORT")]
    pub allow_net: Vec<String>,
}

/// A language that there are templates for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LanguageArg {
    /// Rust: cargo, with the target wasm32-wasip2
    Rust,
    /// Go: stock Go makes a core module
    Go,
    /// C: clang with wasi-libc, and make
    C,
    /// JavaScript: componentize-js, with node and npm
    Js,
    /// Python: componentize-py
    Python,
    /// WebAssembly's text format, inside the manifest: no tools
    Wat,
}

impl From<LanguageArg> for Language {
    fn from(arg: LanguageArg) -> Language {
        match arg {
            LanguageArg::Rust => Language::Rust,
            LanguageArg::Go => Language::Go,
            LanguageArg::C => Language::C,
            LanguageArg::Js => Language::JavaScript,
            LanguageArg::Python => Language::Python,
            LanguageArg::Wat => Language::Wat,
        }
    }
}

/// A type of application that there are templates for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum TypeArg {
    /// A command, for `qyv run`
    Cli,
    /// An HTTP service, for `qyv serve`
    Service,
    /// Functions, for `qyv call`
    Function,
}

impl From<TypeArg> for AppType {
    fn from(arg: TypeArg) -> AppType {
        match arg {
            TypeArg::Cli => AppType::Cli,
            TypeArg::Service => AppType::Service,
            TypeArg::Function => AppType::Function,
        }
    }
}
