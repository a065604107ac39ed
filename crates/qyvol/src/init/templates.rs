//! The templates: what a project of each language and type consists of. Their files are in
//! `templates/` of this crate.

use qyvol_types::{AppType, yaml};

use super::{Language, ProjectFile};

/// A file of a template.
macro_rules! text {
    ($path:literal) => {
        include_str!(concat!("../../templates/", $path))
    };
}

/// Interfaces that the examples have too.
macro_rules! example {
    ($path:literal) => {
        include_str!(concat!("../../../../examples/", $path))
    };
}

/// Files that are never part of a project's sources, whatever it is written in.
const IGNORED: &str = "*.qyvbin\n";
const README: &str = text!("readme.md");
const PIPELINE: &str = text!("release.yml");

/// A kind of project.
pub(super) struct Template {
    pub(super) language: Language,
    pub(super) app_type: AppType,
    /// What it is, in a sentence.
    what: &'static str,
    /// Commands that get its tools, on Debian where that matters.
    tools: &'static [&'static str],
    /// Commands that are needed once in the project.
    setup: &'static [&'static str],
    /// The command that runs its tests.
    test: &'static str,
    /// What the tools leave in its directory, as lines of `.gitignore`.
    ignored: &'static str,
    /// The manifest.
    manifest: &'static str,
    /// The arguments that show what it does.
    arguments: &'static str,
    /// Its other files, by their path.
    files: &'static [(&'static str, &'static str)],
}

impl Template {
    /// The files of a project with this name.
    pub(super) fn files(&self, full_name: &str, name: &str) -> Vec<ProjectFile> {
        let fill = |text: &str| {
            text.replace("{{name}}", name)
                .replace("{{full-name}}", &yaml::scalar(full_name))
                .replace("{{type}}", type_name(self.app_type))
        };
        let file = |path: &str, text: &str| ProjectFile {
            path: path.to_string(),
            is_program: text.starts_with("#!"),
            text: fill(text),
        };
        let readme = README
            .replace("{{what}}", self.what)
            .replace("{{commands}}", &self.lines(name).join("\n"));
        let steps = self.tools.iter().chain(self.setup).chain([&self.test]);
        let steps: String = steps.map(|step| format!("      - run: {step}\n")).collect();
        let pipeline = PIPELINE
            .replace("{{tools}}", &steps)
            .replace("{{run-build}}", if self.has_build() { "--run-build " } else { "" });
        let mut files = vec![
            file(&format!("{name}.qyv"), self.manifest),
            file(".gitignore", &format!("{}{IGNORED}", self.ignored)),
            file(".github/workflows/release.yml", &pipeline),
            file("README.md", &readme),
        ];
        files.extend(self.files.iter().map(|(path, text)| file(path, text)));
        files
    }

    /// The commands from a new project to a verified run.
    pub(super) fn commands(&self, name: &str) -> Vec<String> {
        let build = match self.has_build() {
            true => "qyv build --run-build",
            false => "qyv build",
        };
        let verb = match self.app_type {
            AppType::Service => "serve",
            AppType::Function => "call",
            AppType::Cli | AppType::Gui => "run",
        };
        let run = format!("qyv {verb} {name}.qyvbin {}", self.arguments);
        let setup = self.setup.iter().map(ToString::to_string);
        setup.chain([build.to_string(), run.trim_end().to_string()]).collect()
    }

    /// The same for its README, with what an author does besides.
    fn lines(&self, name: &str) -> Vec<String> {
        let mut lines = self.commands(name);
        let after_setup = self.setup.len();
        let more = [
            self.test,
            "qyv dev                # builds it and runs it, again after each change",
        ];
        lines.splice(after_setup..after_setup, more.map(str::to_string));
        lines.splice(0..0, self.tools.iter().map(ToString::to_string));
        lines
    }

    fn has_build(&self) -> bool {
        self.manifest.contains("\nbuild: ")
    }
}

/// The word for a type in a manifest.
pub(super) fn type_name(app_type: AppType) -> &'static str {
    match app_type {
        AppType::Cli => "cli",
        AppType::Service => "service",
        AppType::Function => "function",
        AppType::Gui => "gui",
    }
}

/// What `qyv call` shows of functions with types of WIT.
const SUM: &str = "sum '[1, 2, 3]'";
const GREETER: &str = "Greets whoever is named in its first argument.";
const SERVICE: &str = "An HTTP service that greets whoever is named in the path: `curl http://127.0.0.1:8080/Ana`.";
const FUNCTIONS: &str = "Functions with the types of `wit/app.wit`.";
const FUNCTIONS_WIT: (&str, &str) = ("wit/app.wit", text!("function.wit"));
const COMMAND_WIT: (&str, &str) = ("wit/app.wit", text!("command.wit"));
const CLI_WIT: (&str, &str) = ("wit/deps/cli/cli.wit", text!("cli.wit"));

const RUST: Template = Template {
    language: Language::Rust,
    app_type: AppType::Cli,
    what: GREETER,
    tools: &["rustup target add wasm32-wasip2"],
    setup: &[],
    test: "cargo test",
    ignored: "/target\n",
    manifest: text!("rust/app.qyv"),
    arguments: "Ana",
    files: &[
        ("Cargo.toml", text!("rust/cli.toml")),
        ("src/main.rs", text!("rust/main.rs")),
    ],
};

const GO: Template = Template {
    language: Language::Go,
    app_type: AppType::Cli,
    what: GREETER,
    tools: &[],
    setup: &[],
    test: "go test ./...",
    ignored: "/app.wasm\n",
    manifest: text!("go/app.qyv"),
    arguments: "Ana",
    files: &[
        ("go.mod", text!("go/go.mod")),
        ("main.go", text!("go/main.go")),
        ("main_test.go", text!("go/main_test.go")),
    ],
};

const C: Template = Template {
    language: Language::C,
    app_type: AppType::Cli,
    what: GREETER,
    tools: &["sudo apt-get install -y make clang lld wasi-libc libclang-rt-dev-wasm32"],
    setup: &[],
    test: "make test",
    ignored: "/app.wasm\n/test-app\n",
    manifest: text!("c/app.qyv"),
    arguments: "Ana",
    files: &[
        ("Makefile", text!("c/cli.mk")),
        ("main.c", text!("c/main.c")),
        ("app.c", text!("c/cli-app.c")),
        ("app.h", text!("c/cli-app.h")),
        ("test.c", text!("c/cli-test.c")),
    ],
};

const JAVASCRIPT: Template = Template {
    language: Language::JavaScript,
    app_type: AppType::Cli,
    what: GREETER,
    tools: &[],
    setup: &["npm install"],
    test: "npm test",
    ignored: "/app.wasm\n/node_modules\n",
    manifest: text!("js/app.qyv"),
    arguments: "Ana",
    files: &[
        ("package.json", text!("js/package.json")),
        ("build.mjs", text!("js/build.mjs")),
        ("app.js", text!("js/cli.js")),
        ("greeting.js", text!("js/greeting.js")),
        ("greeting.test.js", text!("js/greeting.test.js")),
        COMMAND_WIT,
        CLI_WIT,
    ],
};

const PYTHON: Template = Template {
    language: Language::Python,
    app_type: AppType::Cli,
    what: GREETER,
    tools: &["pip install componentize-py"],
    setup: &[],
    test: "python3 -m unittest",
    ignored: "/app.wasm\n__pycache__\n",
    manifest: text!("python/app.qyv"),
    arguments: "Ana",
    files: &[
        ("app.py", text!("python/cli.py")),
        ("greeting.py", text!("python/greeting.py")),
        ("test_greeting.py", text!("python/test_greeting.py")),
        COMMAND_WIT,
        CLI_WIT,
    ],
};

const WAT: Template = Template {
    language: Language::Wat,
    app_type: AppType::Function,
    what: "A function in WebAssembly's text format, which needs no compiler.",
    tools: &[],
    setup: &[],
    test: "./test.sh",
    ignored: "",
    manifest: text!("wat/function.qyv"),
    arguments: "add 2 3",
    files: &[("test.sh", text!("wat/test-function.sh"))],
};

/// All templates. The first of a language is its default.
pub(super) const TEMPLATES: &[Template] = &[
    RUST,
    Template {
        app_type: AppType::Service,
        what: SERVICE,
        arguments: "",
        files: &[
            ("Cargo.toml", text!("rust/service.toml")),
            ("src/lib.rs", text!("rust/service.rs")),
        ],
        ..RUST
    },
    Template {
        app_type: AppType::Function,
        what: FUNCTIONS,
        manifest: text!("rust/function.qyv"),
        arguments: SUM,
        files: &[
            ("Cargo.toml", text!("rust/function.toml")),
            ("src/lib.rs", text!("rust/function.rs")),
            FUNCTIONS_WIT,
        ],
        ..RUST
    },
    GO,
    C,
    Template {
        app_type: AppType::Function,
        what: "A function in C.",
        manifest: text!("c/function.qyv"),
        arguments: "add 2 3",
        files: &[
            ("Makefile", text!("c/function.mk")),
            ("app.c", text!("c/function-app.c")),
            ("app.h", text!("c/function-app.h")),
            ("test.c", text!("c/function-test.c")),
        ],
        ..C
    },
    JAVASCRIPT,
    Template {
        app_type: AppType::Service,
        what: SERVICE,
        arguments: "",
        files: &[
            ("package.json", text!("js/package.json")),
            ("build.mjs", text!("js/build-service.mjs")),
            ("app.js", text!("js/service.js")),
            ("greeting.js", text!("js/greeting.js")),
            ("greeting.test.js", text!("js/greeting.test.js")),
            ("wit/app.wit", text!("js/service.wit")),
            ("wit/deps/http/http.wit", example!("http-js/wit/deps/http/http.wit")),
        ],
        ..JAVASCRIPT
    },
    Template {
        app_type: AppType::Function,
        what: FUNCTIONS,
        manifest: text!("js/function.qyv"),
        arguments: SUM,
        files: &[
            ("package.json", text!("js/package.json")),
            ("build.mjs", text!("js/build.mjs")),
            ("app.js", text!("js/function.js")),
            ("greeting.js", text!("js/greeting.js")),
            ("greeting.test.js", text!("js/greeting.test.js")),
            FUNCTIONS_WIT,
        ],
        ..JAVASCRIPT
    },
    PYTHON,
    Template {
        app_type: AppType::Service,
        what: SERVICE,
        arguments: "",
        files: &[
            ("app.py", text!("python/service.py")),
            ("greeting.py", text!("python/greeting.py")),
            ("test_greeting.py", text!("python/test_greeting.py")),
            ("wit/app.wit", text!("python/service.wit")),
            ("wit/deps/http/http.wit", example!("http-python/wit/deps/http/http.wit")),
            ("wit/deps/io/io.wit", example!("http-python/wit/deps/io/io.wit")),
        ],
        ..PYTHON
    },
    Template {
        app_type: AppType::Function,
        what: FUNCTIONS,
        manifest: text!("python/function.qyv"),
        arguments: SUM,
        files: &[
            ("app.py", text!("python/function.py")),
            ("greeting.py", text!("python/greeting.py")),
            ("test_greeting.py", text!("python/test_greeting.py")),
            FUNCTIONS_WIT,
        ],
        ..PYTHON
    },
    WAT,
    Template {
        app_type: AppType::Service,
        what: "A function in WebAssembly's text format, called over HTTP: `curl --json '[2, 3]' http://127.0.0.1:8080/add`.",
        manifest: text!("wat/service.qyv"),
        arguments: "",
        ..WAT
    },
    Template {
        app_type: AppType::Cli,
        what: "A command in WebAssembly's text format, which needs no compiler.",
        manifest: text!("wat/cli.qyv"),
        arguments: "hello",
        files: &[("test.sh", text!("wat/test-cli.sh"))],
        ..WAT
    },
];
