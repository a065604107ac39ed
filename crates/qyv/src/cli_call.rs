//! The options of `call`.

use clap::Args;

use crate::cli::GuestArgs;
use crate::complete::call_words;

/// Length of a word of the scope, in bytes.
const SCOPE: usize = 64;

/// A scope, which the function may check.
fn parse_scope(text: &str) -> Result<String, String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || ":/._-".contains(c);
    match !text.is_empty() && text.len() <= SCOPE && text.chars().all(is_allowed) {
        true => Ok(text.to_string()),
        false => Err(format!("at most {SCOPE} letters, digits and : / . _ - are expected")),
    }
}

#[derive(Debug, Args)]
#[command(
    override_usage = "qyv call [OPTIONS] <TARGET> <FUNCTION> [ARGS]...\n       qyv call [OPTIONS] --workers <N> <TARGET> [FUNCTION]",
    after_help = "Options come before TARGET. FUNCTION is its name in WIT, such as acme:calc/ops.add, or as much of it\nas is not ambiguous (add). Arguments and result are WAVE: 1, \"text\", [1, 2], {name: \"a\", size: 2},\nsome(1), none, ok(1), err(\"why\"), a-case, a-case(1), {a-flag}. `qyv inspect --wit TARGET` shows\nthe types.\n\nFunctions that the manifest names come first. Each call has an instance of its own, unless the\nmanifest gives the function a pool. What it prints goes to stderr; its stdin is empty.\n\nWith --workers, each line of stdin is a call, {\"id\":1,\"function\":\"add\",\"args\":[1,2]}, and stdout\nhas an answer for each, in the same order: {\"id\":1,\"result\":3} or\n{\"id\":1,\"error\":{\"kind\":…,\"message\":…}}.\n\nExit codes: 0: the function returned; 1: it returned an `err`, which is printed; 2: no such\nfunction, or an argument of the wrong type; 124: a limit ended it; 125: qyv itself failed;\n126: refused by trust; 134: it trapped."
)]
pub struct CallArgs {
    /// A .qyvbin, the name or digest of an image, or a .qyv or DIR/ under development; then the function and its arguments
    // One list, because clap reads its own options between two positional arguments.
    #[arg(required = true, num_args = 1.., trailing_var_arg = true, add = call_words(), value_names = ["TARGET", "FUNCTION"])]
    pub words: Vec<String>,
    /// Read each argument as JSON, and print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// Read the arguments from this file, or from stdin: one on each line, or with --json one array of all
    #[arg(long, value_name = "FILE|-")]
    pub args_from: Option<String>,
    /// Read calls as lines of JSON from stdin, and make up to this many at once
    #[arg(long, value_name = "N", conflicts_with_all = ["args_from"], value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// State what the call is for; the function reads it through qyvol:call/context
    /// (repeatable)
    #[arg(long, value_name = "WORD", value_parser = parse_scope)]
    pub scope: Vec<String>,
    #[command(flatten)]
    pub guest: GuestArgs,
}
