//! Other people's servers, each started by a small program of Python that prints the
//! port it has.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::needs::installed;

/// What a test of them needs.
pub(crate) const NEEDS: &[&str] = &["netfs-servers"];

/// A process that is ended with the test.
pub(crate) struct Process {
    child: Child,
    pub(crate) port: u16,
}

impl Process {
    /// Runs a program, which prints its port on a line of its own first.
    pub(crate) fn python(program: &str, directory: &Path, variables: &[(&str, &str)]) -> Process {
        let mut child = Command::new(installed("netfs-servers").join("bin/python"))
            .args(["-u", "-c", program])
            .current_dir(directory)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let port = loop {
            line.clear();
            assert!(out.read_line(&mut line).unwrap() > 0, "the server ended");
            if let Ok(port) = line.trim().parse() {
                break port;
            }
        };
        // What it says later must not fill the pipe.
        std::thread::spawn(move || out.read_to_end(&mut Vec::new()));
        Process { child, port }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
