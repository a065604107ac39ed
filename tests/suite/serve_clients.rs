//! `qyv serve --client-ca`: clients that prove by TLS who they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::functions::{built, wat};
use crate::needs::lacks;
use crate::service::{Server, service};
use crate::support::{CommandOutput, User, certificate, third_party};

/// A function that returns the name of the peer, and nothing for another caller.
const PEER: &str = r#"
  (module
    (import "qyvol:call/context@0.1.0" "actor" (func $actor (param i32)))
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 1024))
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.set $next (i32.add (local.get $at) (local.get 3)))
      (local.get $at))
    (func (export "peer") (result i32)
      (call $actor (i32.const 0))
      (if (result i32) (i32.eq (i32.load8_u (i32.const 0)) (i32.const 2))
        (then (i32.const 4))
        (else (i32.const 64)))))"#;

fn peer() -> String {
    format!(
        "functions:\n  peer:\n    imports: [qyvol:call]\n    wit: 'peer: func() -> string'\n    wat: {}",
        wat(PEER)
    )
}

fn openssl(args: &[&str]) -> CommandOutput {
    let mut openssl = Command::new("openssl");
    openssl.args(args);
    third_party("openssl", &mut openssl).expect(0)
}

/// A certificate's file, and that of its key.
struct Pair {
    cert: String,
    key: String,
}

impl Pair {
    fn of(user: &User, name: &str) -> Pair {
        let path = |ending: &str| user.path(&format!("{name}.{ending}")).to_str().unwrap().to_string();
        Pair {
            cert: path("pem"),
            key: path("key"),
        }
    }

    /// One that signs others.
    fn authority(user: &User, name: &str) -> Pair {
        let pair = Pair::of(user, name);
        let subject = format!("/CN={name}");
        let request = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "30",
        ];
        let more = ["-subj", &subject, "-keyout", &pair.key, "-out", &pair.cert];
        openssl(&[&request[..], &more].concat());
        pair
    }

    /// A client's, which an authority has signed.
    fn client(user: &User, name: &str, of: &Pair) -> Pair {
        let pair = Pair::of(user, name);
        let curve = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
        openssl(&[&curve[..], &["-out", &pair.key]].concat());
        pair.sign(user, of);
        pair
    }

    /// Another certificate for the same key; all have the same name in it.
    fn sign(&self, user: &User, of: &Pair) {
        let request = user.path("request.csr").to_str().unwrap().to_string();
        let extensions = user.write("client.cnf", "basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n");
        openssl(&["req", "-new", "-key", &self.key, "-subj", "/CN=root", "-out", &request]);
        let issue = [
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            &of.cert,
            "-CAkey",
            &of.key,
            "-CAcreateserial",
        ];
        let more = [
            "-days",
            "30",
            "-extfile",
            extensions.to_str().unwrap(),
            "-out",
            &self.cert,
        ];
        openssl(&[&issue[..], &more].concat());
    }

    /// What a guest is told of who has this key.
    fn name(&self, user: &User) -> String {
        let der = user.path("public.der").to_str().unwrap().to_string();
        openssl(&["pkey", "-in", &self.key, "-pubout", "-outform", "DER", "-out", &der]);
        let digest = openssl(&["dgst", "-sha256", "-r", &der]).out;
        format!("sha256:{}", digest.split(' ').next().unwrap())
    }
}

/// A server's own certificate.
struct Own(PathBuf, PathBuf);

impl Own {
    fn new(user: &User) -> Own {
        let (cert, key) = certificate(user);
        Own(cert, key)
    }

    fn options<'a>(&'a self, authority: &'a Pair) -> [&'a str; 6] {
        let [cert, key] = [&self.0, &self.1].map(|path| path.to_str().unwrap());
        ["--tls-cert", cert, "--tls-key", key, "--client-ca", &authority.cert]
    }
}

fn curl(server: &Server, ca: &Path, client: Option<&Pair>, args: &[&str], path: &str) -> CommandOutput {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "60", "--cacert", ca.to_str().unwrap()]);
    if let Some(Pair { cert, key }) = client {
        curl.args(["--cert", cert, "--key", key]);
    }
    curl.args(args).arg(format!("https://{}{path}", server.address));
    third_party("curl", &mut curl)
}

const CALL: [&str; 4] = ["-H", "Content-Type: application/json", "-d", "[]"];

// [SERVE-017] [CALL-016]
#[test]
fn guest_gets_the_key_of_the_client_that_calls() {
    if lacks(&["curl", "openssl"]) {
        return;
    }
    let user = User::new();
    let app = built(&user, "app", &peer());
    let own = Own::new(&user);
    let authority = Pair::authority(&user, "authority");
    let [alice, bob] = ["alice", "bob"].map(|name| Pair::client(&user, name, &authority));
    let server = Server::start(&user, &own.options(&authority), &app);
    let url = format!("https://{}/peer", server.address);
    for client in [&alice, &bob, &alice] {
        let result = format!("{{\"result\":\"{}\"}}", client.name(&user));
        for version in ["--http1.1", "--http2"] {
            let lies = ["-H", "X-Forwarded-User: root", "-H", "X-Client-Cert: root"];
            // Two requests on one connection.
            let args = [&CALL[..], &lies, &[version, &url]].concat();
            let told = curl(&server, &own.0, Some(client), &args, "/peer").expect(0).out;
            assert_eq!(told, result.repeat(2), "{version}");
        }
    }
    // The same key in another certificate is the same client.
    let before = alice.name(&user);
    alice.sign(&user, &authority);
    let told = curl(&server, &own.0, Some(&alice), &CALL, "/peer").expect(0).out;
    assert_eq!(told, format!("{{\"result\":\"{before}\"}}"));
    server.end();
}

// [SERVE-017] [SERVE-016]
#[test]
fn reused_instance_gets_the_identity_of_each_client() {
    if lacks(&["curl", "openssl"]) {
        return;
    }
    let user = User::new();
    let app = service(&user, "app", "serve: { reuse: 1000 }\n");
    let own = Own::new(&user);
    let authority = Pair::authority(&user, "authority");
    let [alice, bob] = ["alice", "bob"].map(|name| Pair::client(&user, name, &authority));
    let options = [&own.options(&authority)[..], &["--max-requests", "1"]].concat();
    let server = Server::start(&user, &options, &app);
    for client in [&alice, &bob, &alice] {
        let told = curl(&server, &own.0, Some(client), &[], "/who").expect(0).out;
        assert!(told.contains(&client.name(&user)), "{told}");
    }
    assert_eq!(curl(&server, &own.0, Some(&bob), &[], "/count").expect(0).out, "1\n");
    assert_eq!(curl(&server, &own.0, Some(&alice), &[], "/count").expect(0).out, "2\n");
    server.end();
}

// [SERVE-017]
#[test]
fn client_without_a_certificate_of_that_authority_is_not_let_in() {
    if lacks(&["curl", "openssl"]) {
        return;
    }
    let user = User::new();
    let app = service(&user, "app", "");
    let own = Own::new(&user);
    let [authority, other] = ["authority", "other"].map(|name| Pair::authority(&user, name));
    let client = Pair::client(&user, "client", &authority);
    let stranger = Pair::client(&user, "stranger", &other);
    let server = Server::start(&user, &own.options(&authority), &app);
    let get = |client: Option<&Pair>| curl(&server, &own.0, client, &[], "/hello");
    assert_eq!(get(Some(&client)).expect(0).out, "hello\n");
    for (who, refused) in [("stranger", get(Some(&stranger))), ("nobody", get(None))] {
        assert!(refused.code != 0 && refused.out.is_empty(), "{who}: {}", refused.out);
    }
    // The file is read again; one that can't be used changes nothing.
    fs::write(&authority.cert, "nothing").unwrap();
    server.signal(Signal::HUP);
    server.says("the previous certificate stays in use: ");
    assert_eq!(get(Some(&client)).expect(0).out, "hello\n");
    fs::copy(&other.cert, &authority.cert).unwrap();
    server.signal(Signal::HUP);
    server.says("the certificate was read again");
    assert_eq!(get(Some(&stranger)).expect(0).out, "hello\n");
    assert_ne!(get(Some(&client)).code, 0);
    server.end();
}

// [SERVE-017]
#[test]
fn authority_for_clients_without_tls_or_without_certificates_is_refused() {
    if lacks(&["openssl"]) {
        return;
    }
    let user = User::new();
    let app = service(&user, "app", "");
    user.qyv(&["serve", "--client-ca", "ca.pem", &app]).expect(2);
    let own = Own::new(&user);
    for (content, why) in [("", "contains no certificate"), ("nothing", "contains no certificate")] {
        let file = user.write("empty.pem", content).to_str().unwrap().to_string();
        let empty = Pair {
            cert: file,
            key: String::new(),
        };
        let args = [&["serve", "--listen", "127.0.0.1:0"][..], &own.options(&empty), &[&app]].concat();
        let refused = user.qyv(&args).expect(125);
        assert!(
            refused.err.contains(why) && !refused.err.contains("listening"),
            "{}",
            refused.err
        );
    }
}
