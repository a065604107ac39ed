//! `netfs`: the files of another machine, through guests of every language and version.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::matrix::GUESTS;
use crate::permissions::with_ceiling;
use crate::support::{CommandOutput, User};

/// A server on the loopback that keeps files: `GET`, `HEAD`, `PUT` and `DELETE`.
struct Server {
    port: u16,
    files: Arc<Mutex<Files>>,
}

#[derive(Default)]
struct Files {
    content: BTreeMap<String, Vec<u8>>,
    /// Method and path of each request.
    seen: Vec<String>,
    /// What requests must have, if anything.
    authorization: Option<String>,
    /// Whether connections are closed without an answer.
    is_down: bool,
    /// Whether nothing may be written.
    is_full: bool,
}

impl Server {
    fn start(content: &[(&str, &str)]) -> Server {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let content = content
            .iter()
            .map(|(path, text)| ((*path).to_string(), text.as_bytes().to_vec()));
        let files = Arc::new(Mutex::new(Files {
            content: content.collect(),
            ..Files::default()
        }));
        let shared = Arc::clone(&files);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(stream, &shared));
            }
        });
        Server { port, files }
    }

    fn source(&self) -> String {
        format!("http://127.0.0.1:{}/tree/", self.port)
    }

    fn content(&self, path: &str) -> Option<String> {
        let files = self.files.lock().unwrap();
        files
            .content
            .get(path)
            .map(|bytes| String::from_utf8(bytes.clone()).unwrap())
    }

    fn requests(&self) -> usize {
        self.files.lock().unwrap().seen.len()
    }
}

fn serve(stream: TcpStream, files: &Mutex<Files>) {
    let mut requests = BufReader::new(stream);
    while let Some((head, body)) = read_request(&mut requests) {
        let mut files = files.lock().unwrap();
        if files.is_down {
            return;
        }
        let answer = files.answer(&head, body);
        drop(files);
        if requests.get_mut().write_all(&answer).is_err() {
            return;
        }
    }
}

fn read_request(stream: &mut BufReader<TcpStream>) -> Option<(Vec<String>, Vec<u8>)> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_string()),
        }
    }
    let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((head, body))
}

fn header<'a>(head: &'a [String], name: &str) -> Option<&'a str> {
    head.iter().find_map(|line| {
        let (own, value) = line.split_once(": ")?;
        own.eq_ignore_ascii_case(name).then_some(value)
    })
}

impl Files {
    fn answer(&mut self, head: &[String], body: Vec<u8>) -> Vec<u8> {
        let mut words = head[0].split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        self.seen.push(format!("{method} {path}"));
        if self.authorization.is_some() && header(head, "authorization") != self.authorization.as_deref() {
            return response("401 Unauthorized", None, b"", method);
        }
        let key = path.strip_prefix("/tree/").unwrap_or_default().to_string();
        let tag = self.content.get(&key).map(|content| etag(content));
        let is_stale = header(head, "if-match").is_some_and(|wanted| Some(wanted) != tag.as_deref())
            || header(head, "if-none-match") == Some("*") && tag.is_some();
        match (method, self.content.get(&key)) {
            ("PUT" | "DELETE", _) if is_stale => response("412 Precondition Failed", None, b"", method),
            ("PUT", _) if self.is_full => response("507 Insufficient Storage", None, b"", method),
            ("PUT", _) => {
                self.content.insert(key.clone(), body);
                let tag = etag(&self.content[&key]);
                response("201 Created", Some(&tag), b"", method)
            }
            ("DELETE", Some(_)) => {
                self.content.remove(&key);
                response("204 No Content", None, b"", method)
            }
            ("GET" | "HEAD", Some(_)) if header(head, "if-none-match") == tag.as_deref() => {
                response("304 Not Modified", tag.as_deref(), b"", method)
            }
            ("GET" | "HEAD", Some(content)) => response("200 OK", tag.as_deref(), content, method),
            _ => response("404 Not Found", None, b"", method),
        }
    }
}

fn etag(content: &[u8]) -> String {
    format!(
        "\"{}\"",
        String::from_utf8_lossy(content).replace(|c: char| !c.is_alphanumeric(), "-")
    )
}

fn response(status: &str, etag: Option<&str>, body: &[u8], method: &str) -> Vec<u8> {
    let tag = etag.map_or(String::new(), |etag| format!("ETag: {etag}\r\n"));
    let head = format!("HTTP/1.1 {status}\r\n{tag}Content-Length: {}\r\n\r\n", body.len());
    let body = if method == "HEAD" { b"" } else { body };
    [head.as_bytes(), body].concat()
}

/// The manifest of a guest whose files are a server's.
fn manifest(access: &str, server: &Server, cache: bool) -> String {
    let source = server.source();
    format!("permissions: {{ fs: {access} }}\nfs: {{ type: netfs, source: \"{source}\", cache: {cache} }}\n")
}

fn run(user: &User, options: &[&str], app: &str, steps: &str) -> CommandOutput {
    let steps: Vec<&str> = steps.split(' ').collect();
    user.qyv(&[&["run", "-q"], options, &[app], &steps[..]].concat())
}

// [RUN-059]
#[test]
fn every_guest_reads_and_writes_the_files_of_a_server() {
    let user = User::new();
    for guest in &GUESTS {
        let server = Server::start(&[("a/b.txt", "far"), ("old", "stale"), ("gone", "x")]);
        let app = guest.archive(&user, &manifest("write", &server, false)).unwrap();
        let steps = "read /:a/b.txt + read /:nothing + write /:new hello + read /:new + write /:old fresh + unlink /:gone + symlink a /:l";
        let which = format!("{} {}", guest.language, guest.version);
        let done = run(&user, &[], &app, steps).expect(0);
        assert_eq!(
            done.out.trim_end(),
            "read:far no-entry ok read:hello ok ok not-permitted",
            "{which}"
        );
        assert_eq!(server.content("new").as_deref(), Some("hello"), "{which}");
        assert_eq!(server.content("old").as_deref(), Some("fresh"), "{which}");
        assert_eq!(server.content("gone"), None, "{which}");
    }
}

// [RUN-059]
#[test]
fn reading_alone_changes_nothing_on_the_server() {
    let user = User::new();
    let server = Server::start(&[("a", "far")]);
    let app = GUESTS[0].archive(&user, &manifest("read", &server, false)).unwrap();
    let done = run(&user, &[], &app, "read /:a + write /:a near + unlink /:a + mkdir /:d").expect(0);
    assert!(done.out.starts_with("read:far "), "{}", done.out);
    assert_eq!(server.content("a").as_deref(), Some("far"));
    let files = server.files.lock().unwrap();
    assert!(
        files
            .seen
            .iter()
            .all(|request| request.starts_with("GET") || request.starts_with("HEAD"))
    );
}

// [RUN-059]
#[test]
fn connections_are_bounded_by_the_rule_and_by_the_operator() {
    let user = User::new();
    let server = Server::start(&[("a", "far")]);
    let app = GUESTS[0].archive(&user, &manifest("read", &server, false)).unwrap();
    assert_eq!(run(&user, &[], &app, "read /:a").expect(0).out, "read:far\n");
    let before = server.requests();
    assert_eq!(run(&user, &["--no-net"], &app, "read /:a").expect(0).out, "access\n");
    let policy = user.home().join("trust.yaml");
    let text = fs::read_to_string(&policy).unwrap();
    with_ceiling(&user, "allow: { fs: read }");
    assert_eq!(run(&user, &[], &app, "read /:a").expect(0).out, "access\n");
    assert_eq!(server.requests(), before);
    fs::write(&policy, text).unwrap();
    with_ceiling(
        &user,
        &format!(
            "allow: {{ fs: read, net: {{ connect: [\"127.0.0.1:{}\"] }} }}",
            server.port
        ),
    );
    assert_eq!(run(&user, &[], &app, "read /:a").expect(0).out, "read:far\n");
}

// [RUN-059]
#[test]
fn copy_is_read_while_the_server_is_gone() {
    let user = User::new();
    let server = Server::start(&[("a", "far")]);
    let app = GUESTS[0].archive(&user, &manifest("read", &server, true)).unwrap();
    assert_eq!(run(&user, &[], &app, "read /:a").expect(0).out, "read:far\n");
    server.files.lock().unwrap().is_down = true;
    let steps = ["run", &app, "read", "/:a", "+", "read", "/:b"];
    let done = user.qyv(&steps).expect(0);
    assert_eq!(done.out, "read:far hostunreach\n");
    assert!(
        done.err.contains("; files that were fetched before are used"),
        "{}",
        done.err
    );
    let rows = user.qyv(&["data", "ls"]).expect(0).out;
    assert!(rows.contains("app"), "{rows}");
    user.qyv(&["data", "rm", "app"]).expect(0);
    assert_eq!(run(&user, &[], &app, "read /:a").expect(0).out, "hostunreach\n");
}

// [RUN-059]
#[test]
fn what_could_not_be_sent_is_an_error() {
    let user = User::new();
    let server = Server::start(&[("a", "far")]);
    server.files.lock().unwrap().authorization = Some("Bearer opensesame".to_string());
    let app = GUESTS[0].archive(&user, &manifest("write", &server, false)).unwrap();
    assert_eq!(run(&user, &[], &app, "read /:a").expect(0).out, "access\n");
    user.write("token.yaml", "token: opensesame\n");
    let credentials = ["--fs-credentials", "token.yaml"];
    assert_eq!(
        run(&user, &credentials, &app, "read /:a + write /:n x").expect(0).out,
        "read:far ok\n"
    );
    assert_eq!(server.content("n").as_deref(), Some("x"));
    server.files.lock().unwrap().is_full = true;
    let done = run(&user, &credentials, &app, "write /:m y").expect(125);
    assert_eq!(done.out, "ok\n");
    assert!(done.err.contains("could not be sent"), "{}", done.err);
    user.write("bad.yaml", "name: x\n");
    run(&user, &["--fs-credentials", "bad.yaml"], &app, "read /:a").expect(125);
}
