//! The project's own tasks, `cargo xtask COMMAND`: checks of the house rules,
//! the guests of the examples, generated documents.
//!
//! Nothing here is shipped. It needs `git` for the list of files, and what a
//! command's own documentation names.
#![allow(clippy::disallowed_methods, reason = "a command")]
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod dist;
mod docs;
mod files;
mod guests;
mod order;
mod portable;
mod process;
mod rust_source;
mod test;
mod tidy;
mod tree;
mod vectors;

use std::process::{Command, ExitCode};

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test [ARGS]      install what the tests need, and run all of them
  tidy             check the rules of the house: imports, documents, sources
  docs [--check]   write the generated documents and the book, or fail where a
                   document differs
  dist [OPTIONS]   build what is released; `cargo xtask dist --help`
  portable QYV     try a static binary in empty roots, and with every kind of name
  vectors          write the test vectors that are made of tables
  guests [OPTIONS] build the examples' guests
  order            list the functions of a warm run for the linker
  mutate [OPTIONS] alter what verdicts are made of; `cargo xtask mutate --help`
  bench [OPTIONS]  measure against peers; `cargo xtask bench --help`";

/// Runs `tests/bench`, a package of its own.
fn bench(args: &[String]) -> Result<(), String> {
    let mut cargo = Command::new("cargo");
    cargo.args(["run", "--quiet", "-p", "qyvol-bench", "--"]).args(args);
    process::run(cargo.current_dir(tree::root()))
}

/// Runs `tests/mutate`, optimised, because it runs millions of cases.
fn mutate(args: &[String]) -> Result<(), String> {
    let mut cargo = Command::new("cargo");
    cargo
        .args(["run", "--quiet", "--release", "-p", "qyvol-mutate", "--"])
        .args(args);
    process::run(cargo.current_dir(tree::root()))
}

/// Fails where a command that takes no arguments was given one, before its long work.
fn alone(args: &[String]) -> Result<(), String> {
    match args.first() {
        Some(arg) => Err(format!("unexpected argument `{arg}`\n{USAGE}")),
        None => Ok(()),
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match args.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", args.as_slice()),
    };
    let result = match command {
        "tidy" => tidy::run(rest),
        "docs" => docs::run(rest),
        "bench" => bench(rest),
        "mutate" => mutate(rest),
        "guests" => guests::run(rest),
        "order" => alone(rest).and_then(|()| order::order()),
        "test" => test::test(rest),
        "vectors" => alone(rest).and_then(|()| vectors::write()),
        "dist" => dist::dist(rest),
        "portable" => portable::portable(rest),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        other => Err(format!("no command `{other}`\n{USAGE}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}
