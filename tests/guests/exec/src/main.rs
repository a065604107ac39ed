//! Starts programs of the host by `qyvol:process`.
//!
//! `exec [MODE] PROGRAM ARGS...` prints what the program writes and how it ends, or why
//! it was not started. Standard input goes to it. Modes: `MANY` starts it until it is
//! refused, `KILL` ends it at once, `LEAVE` does not wait for it.

use std::io::Read;

use wasip2::io::streams::{InputStream, StreamError};

use crate::qyvol::process::process::{spawn, Child, ExitStatus};

wit_bindgen::generate!({
    path: ["wit/io", "../../../formats/wit", "wit/guest"],
    world: "test:exec/guest",
    generate_all,
    with: {
        "wasi:io/streams@0.2.0": wasip2::io::streams,
        "wasi:io/poll@0.2.0": wasip2::io::poll,
    },
});

fn main() {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let mode = match args.first().map(String::as_str) {
        Some("MANY" | "KILL" | "LEAVE") => args.remove(0),
        _ => String::new(),
    };
    let program = args.remove(0);
    if mode == "MANY" {
        let mut children = Vec::new();
        loop {
            match spawn(&program, &args) {
                Ok(child) => children.push(child),
                Err(why) => return println!("{} started, then {}", children.len(), why.name()),
            }
        }
    }
    let child = match spawn(&program, &args) {
        Ok(child) => child,
        Err(why) => return println!("{}", why.name()),
    };
    match mode.as_str() {
        "KILL" => child.kill(),
        "LEAVE" => {
            // It runs once it has written something.
            let output = child.stdout().expect("its output");
            let _ = output.blocking_read(1);
            std::mem::forget(output);
            std::mem::forget(child);
            return;
        }
        _ => feed(&child),
    }
    if let Some(output) = child.stdout() {
        print!("{}", read(&output));
    }
    if let Some(errors) = child.stderr() {
        eprint!("{}", read(&errors));
    }
    child.subscribe().block();
    match child.status() {
        Some(ExitStatus::Code(code)) => println!("code {code}"),
        Some(ExitStatus::Signal(signal)) => println!("signal {signal}"),
        None => println!("it has not ended"),
    }
}

/// Hands standard input on.
fn feed(child: &Child) {
    let mut text = Vec::new();
    let _ = std::io::stdin().read_to_end(&mut text);
    let Some(input) = child.stdin() else { return };
    for part in text.chunks(4096) {
        if input.blocking_write_and_flush(part).is_err() {
            return;
        }
    }
}

fn read(stream: &InputStream) -> String {
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(64 * 1024) {
            Ok(more) => bytes.extend(more),
            Err(StreamError::Closed | StreamError::LastOperationFailed(_)) => break,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
