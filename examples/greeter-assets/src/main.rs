//! Greets in the language of its first argument, from a file among its assets.
//!
//! `greeter-assets [LANGUAGE [NAME]]`: the language defaults to `GREETER_LANG`,
//! the name to the world. Fails if there is no greeting in that language.

use std::process::ExitCode;
use std::{env, fs};

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let language = args.next().or_else(|| env::var("GREETER_LANG").ok()).unwrap_or_else(|| "en".to_string());
    let name = args.next().unwrap_or_else(|| "world".to_string());
    match fs::read_to_string(format!("/assets/greetings/{language}.txt")) {
        Ok(greeting) => println!("{}, {name}!", greeting.trim_end()),
        Err(error) => {
            eprintln!("no greeting in `{language}`: {error}");
            return ExitCode::FAILURE;
        }
    }
    if let Ok(motto) = fs::read_to_string("/assets/motto.txt") {
        print!("{motto}");
    }
    ExitCode::SUCCESS
}
