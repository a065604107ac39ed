//! What Rust's standard library makes of what the host gives.

use std::fs;
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};

/// Lines that say what was seen: a name, a tab and a value.
#[derive(Default)]
pub struct Seen(Vec<String>);

impl Seen {
    pub fn add(&mut self, name: &str, value: impl Into<String>) {
        self.0.push(format!("{name}\t{}", value.into()));
    }

    pub fn lines(mut self) -> String {
        library(&mut self);
        self.0.join("\n")
    }
}

fn kind<T>(outcome: std::io::Result<T>) -> String {
    match outcome {
        Ok(_) => "ok".to_string(),
        Err(error) => format!("{:?}", error.kind()),
    }
}

fn library(seen: &mut Seen) {
    let mut add = |name: &str, value: String| seen.add(&format!("std: {name}"), value);
    add("current_dir", std::env::current_dir().map_or_else(|e| format!("{:?}", e.kind()), |d| d.display().to_string()));
    add("current_exe", kind(std::env::current_exe()));
    #[allow(deprecated)]
    let home = std::env::home_dir();
    add("home_dir", home.map_or("none".to_string(), |d| d.display().to_string()));
    add("vars", std::env::vars().count().to_string());
    add("read_dir of /", kind(fs::read_dir("/")));
    add("read_dir of .", kind(fs::read_dir(".")));
    add("metadata of /", kind(fs::metadata("/")));
    add("read of /etc/hostname", kind(fs::read("/etc/hostname")));
    add("read of /proc/self/status", kind(fs::read("/proc/self/status")));
    add("write of a file", kind(fs::write("file", "x")));
    add("TcpStream::connect", kind(TcpStream::connect("127.0.0.1:1")));
    add("TcpListener::bind", kind(TcpListener::bind("127.0.0.1:0")));
    add("UdpSocket::bind", kind(UdpSocket::bind("127.0.0.1:0")));
    add("a name's addresses", kind("localhost:1".to_socket_addrs()));
    add("available_parallelism", kind(std::thread::available_parallelism()));
    add("Command::spawn", kind(std::process::Command::new("true").spawn()));
}

/// What is common to reading a clock that nobody set.
pub fn since_start(nanoseconds: u64) -> String {
    let hour = 3_600_000_000_000;
    if nanoseconds < hour { "counts from the start of the run" } else { "counts from before the run" }.to_string()
}

/// Whether a time is one of today's: after 2025.
pub fn of_today(seconds: u64) -> String {
    if seconds > 1_735_689_600 { "the host's time" } else { "another time" }.to_string()
}
