//! A pull that is cut off or killed: what came stays, and the next goes on.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crate::registry::Server;
use crate::support::{Prng, User};

const SIZE: usize = 32 << 20;

/// A proxy between host and registry that passes a limited number of bytes to
/// the host.
pub struct ThrottlingProxy {
    pub address: String,
    pub left: Arc<AtomicU64>,
    pub passed: Arc<AtomicU64>,
}

impl ThrottlingProxy {
    /// With `stalls`, a connection that has no bytes left stays open, silent.
    pub fn new(server: &Server, stalls: bool) -> ThrottlingProxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let between = ThrottlingProxy {
            address: listener.local_addr().unwrap().to_string(),
            left: Arc::default(),
            passed: Arc::default(),
        };
        let (left, passed) = (between.left.clone(), between.passed.clone());
        let registry = server.address.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(&registry).unwrap());
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || std::io::copy(&mut from, &mut to));
                let (left, passed) = (left.clone(), passed.clone());
                thread::spawn(move || answer(&server, &client, stalls, &left, &passed));
            }
        });
        between
    }
}

fn answer(mut server: &TcpStream, mut client: &TcpStream, stalls: bool, left: &AtomicU64, passed: &AtomicU64) {
    let mut buffer = [0; 16 << 10];
    while let Ok(n) = server.read(&mut buffer) {
        if n == 0 || left.load(SeqCst) < n as u64 {
            break;
        }
        left.fetch_sub(n as u64, SeqCst);
        passed.fetch_add(n as u64, SeqCst);
        if client.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    if stalls && left.load(SeqCst) < buffer.len() as u64 {
        return std::mem::forget((client.try_clone(), server.try_clone()));
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}

pub fn partial(host: &User) -> u64 {
    let directory = host.home().join("store/v1/partial");
    let files = fs::read_dir(directory).into_iter().flatten();
    files.map(|file| file.unwrap().metadata().map_or(0, |m| m.len())).sum()
}

// [REG-016]
#[test]
fn interrupted_or_killed_pull_resumes() {
    let user = User::new();
    let mut noise = Prng(7);
    user.write("app/data", (0..SIZE).map(|_| noise.next() as u8).collect::<Vec<_>>());
    let file = user.built("app", "assets: [data]\n");
    for server in Server::both() {
        user.qyv(&["push", &file, &server.name("app:1")]).expect(0);
        for killed in [false, true] {
            let between = ThrottlingProxy::new(&server, killed);
            let name = format!("{}/app:1", between.address);
            let host = User::new();
            between.left.store(SIZE as u64 * 9 / 10, SeqCst);
            if killed {
                let mut command = host.command();
                command.args(["pull", &name]).stderr(Stdio::null());
                let mut child = command.spawn().unwrap();
                // All but what a full read of the one between held back.
                let end = Instant::now() + Duration::from_secs(300);
                while partial(&host) < SIZE as u64 * 88 / 100 {
                    assert!(Instant::now() < end, "{} bytes came", partial(&host));
                    thread::yield_now();
                }
                child.kill().unwrap();
                child.wait().unwrap();
            } else {
                host.qyv(&["pull", &name, "--retries", "0"]).expect(75);
            }
            host.qyv(&["check"]).expect(0);
            host.qyv(&["inspect", &name]).expect(1);
            between.left.store(u64::MAX, SeqCst);
            let before = between.passed.load(SeqCst);
            host.qyv(&["pull", &name]).expect(0);
            let again = between.passed.load(SeqCst) - before;
            assert!(again < SIZE as u64 * 15 / 100, "{again} bytes again");
            host.qyv(&["check"]).expect(0);
            assert_eq!(partial(&host), 0);
            // By a name of the store alone, an image is saved under its own name.
            host.qyv(&["tag", &name, "app:1"]).expect(0);
            host.qyv(&["save", "app:1", "-o", "back.qyvbin"]).expect(0);
            assert_eq!(
                fs::read(host.path("back.qyvbin")).unwrap(),
                fs::read(user.path(&file)).unwrap()
            );
        }
    }
}
