//! Keeps notes, each in a file of its own file system: `/notes/1`, `/notes/2`.
//!
//! `notes add TEXT`, `notes list`, `notes show N`, `notes rm N`. The exit code is
//! 1 for what can't be done, and 2 for what is not understood.

use std::fmt::{self, Write as _};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};

const DIRECTORY: &str = "/notes";
/// Bytes of a note.
const MAX_NOTE: usize = 16 * 1024;
/// Characters of a note that a list shows.
const SHOWN: usize = 60;

const USAGE: &str = "\
usage: notes add TEXT...   keep a note
       notes list          list all notes
       notes show N        print a note
       notes rm N          remove a note";

/// Why a command failed.
enum Failure {
    /// The command line is not understood.
    Usage(String),
    /// There is no such note.
    Missing(u32),
    /// The file system refused.
    Files(&'static str, io::Error),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            Failure::Missing(_) | Failure::Files(..) => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(why) => write!(f, "{why}\n{USAGE}"),
            Failure::Missing(number) => write!(f, "there is no note {number}"),
            Failure::Files(what, error) => match error.kind() {
                ErrorKind::StorageFull => write!(f, "can't {what}: the file system is full"),
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                    write!(f, "can't {what}: not permitted")
                }
                _ => write!(f, "can't {what}: {error}"),
            },
        }
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = run(&args).and_then(|text| print(&text));
    if let Err(failure) = done {
        eprintln!("notes: {failure}");
        wasip2::cli::exit::exit_with_code(failure.code());
    }
}

/// Does what the arguments say, and returns what is to be printed.
fn run(args: &[&str]) -> Result<String, Failure> {
    match args {
        ["add", words @ ..] => add(&words.join(" ")),
        ["list"] => list(),
        ["show", number] => show(parse(number)?),
        ["rm", number] => remove(parse(number)?),
        ["help" | "-h" | "--help"] => Ok(format!("{USAGE}\n")),
        ["show" | "rm", ..] => Err(Failure::Usage("the number of one note is needed".to_string())),
        [] => Err(Failure::Usage("a command is needed".to_string())),
        [command, ..] => Err(Failure::Usage(format!(
            "`{}` is not understood",
            command.escape_debug()
        ))),
    }
}

fn add(text: &str) -> Result<String, Failure> {
    if text.trim().is_empty() {
        return Err(Failure::Usage("a note needs text".to_string()));
    }
    if text.len() > MAX_NOTE {
        return Err(Failure::Usage(format!("a note has at most {MAX_NOTE} bytes")));
    }
    let failed = |error| Failure::Files("keep the note", error);
    fs::create_dir_all(DIRECTORY).map_err(failed)?;
    let mut number = numbers()?.last().map_or(1, |last| last.saturating_add(1));
    let mut file = loop {
        // Another run may have taken the number.
        match File::create_new(path(number)) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && number < u32::MAX => number += 1,
            created => break created.map_err(failed)?,
        }
    };
    if let Err(error) = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()) {
        // No half of a note is kept.
        drop(file);
        let _ = fs::remove_file(path(number));
        return Err(failed(error));
    }
    Ok(format!("kept as note {number}\n"))
}

fn list() -> Result<String, Failure> {
    let mut text = String::new();
    for number in numbers()? {
        let note = match fs::read_to_string(path(number)) {
            Ok(note) => note,
            // Another run may have removed it.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(Failure::Files("read a note", error)),
        };
        let mut line: String = note.lines().next().unwrap_or_default().chars().take(SHOWN).collect();
        if line.len() < note.len() {
            line.push('…');
        }
        // Writing to a string can't fail.
        let _ = writeln!(text, "{number:>4}  {line}");
    }
    if text.is_empty() {
        text.push_str("no notes\n");
    }
    Ok(text)
}

fn show(number: u32) -> Result<String, Failure> {
    match fs::read_to_string(path(number)) {
        Ok(note) => Ok(format!("{note}\n")),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Failure::Missing(number)),
        Err(error) => Err(Failure::Files("read the note", error)),
    }
}

fn remove(number: u32) -> Result<String, Failure> {
    match fs::remove_file(path(number)) {
        Ok(()) => Ok(format!("removed note {number}\n")),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Failure::Missing(number)),
        Err(error) => Err(Failure::Files("remove the note", error)),
    }
}

/// The numbers of all notes, in order.
fn numbers() -> Result<Vec<u32>, Failure> {
    let failed = |error| Failure::Files("list the notes", error);
    let entries = match fs::read_dir(DIRECTORY) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        // What is not a note is somebody else's.
        numbers.extend(name.to_str().and_then(|name| parse(name).ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// A note's number as it is written: a whole number over 0 without sign or zeros
/// before it.
fn parse(text: &str) -> Result<u32, Failure> {
    match text.parse() {
        Ok(number) if number > 0 && format!("{number}") == text => Ok(number),
        _ => Err(Failure::Usage(format!(
            "`{}` is not the number of a note",
            text.escape_debug()
        ))),
    }
}

fn path(number: u32) -> String {
    format!("{DIRECTORY}/{number}")
}

fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| Failure::Files("print", error))
}
