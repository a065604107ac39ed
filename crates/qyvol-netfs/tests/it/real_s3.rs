//! PyPI's moto, which speaks S3, keeps to conditions, and holds every signature
//! against that of AWS's own library.

use qyvol_netfs::{Credentials, ErrorKind, Protocol, Secret};

use crate::needs::lacks;
use crate::real::{NEEDS, Process};
use crate::support::{Setup, kind, noise};

const PROGRAM: &str = r#"
import json, logging, sys
from moto.iam.models import iam_backends
from moto.s3.models import s3_backends
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
logging.disable(logging.CRITICAL)
users = iam_backends["123456789012"]["aws"]
users.create_user("us-east-1", "ana")
allow = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
users.put_user_policy("ana", "all", json.dumps({"Version": "2012-10-17", "Statement": [allow]}))
key = users.create_access_key("ana")
with open("key", "w") as file:
    print(key.access_key_id, key.secret_access_key, file=file)
store = s3_backends["123456789012"]["aws"]
store.create_bucket("bucket", "us-east-1")
store.create_bucket("many", "us-east-1")
for n in range(1100):
    store.put_object("many", "x/%04d" % n, b"")
server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
print(server.port)
server.serve_forever()
"#;

struct Store {
    process: Process,
    access_key: String,
    secret_key: String,
}

impl Store {
    fn new() -> Store {
        let directory = tempfile::tempdir().unwrap();
        // Every request must be signed, from the first one on.
        let process = Process::python(PROGRAM, directory.path(), &[("INITIAL_NO_AUTH_ACTION_COUNT", "0")]);
        let key = std::fs::read_to_string(directory.path().join("key")).unwrap();
        let (access_key, secret_key) = key.trim().split_once(' ').unwrap();
        Store {
            process,
            access_key: access_key.to_string(),
            secret_key: secret_key.to_string(),
        }
    }

    fn setup(&self, prefix: &str) -> Setup {
        let url = format!("http://127.0.0.1:{}/bucket/{prefix}", self.process.port);
        let protocol = Protocol::S3 {
            region: "us-east-1".to_string(),
        };
        let credentials = Credentials::S3 {
            access_key: self.access_key.clone(),
            secret_key: Secret::new(self.secret_key.as_str()),
            session_token: None,
        };
        Setup {
            credentials,
            ..Setup::new(protocol, &url)
        }
    }
}

const NAMES: [&str; 4] = ["a b.txt", "d/ñ%2F&+#~*'().txt", "d/e/f", "top+x"];

#[test]
fn moto_stores_what_was_written_and_returns_it() {
    if lacks(NEEDS) {
        return;
    }
    let store = Store::new();
    let guest = store.setup("pre%20fix").mount();
    guest.make_directory("d").unwrap().unwrap();
    guest.make_directory("d/e").unwrap().unwrap();
    guest.make_directory("hollow").unwrap().unwrap();
    for (n, name) in NAMES.iter().enumerate() {
        guest.write(name, &noise(n * 100_000)).unwrap();
    }
    guest.fs.flush().unwrap();

    let cache = tempfile::tempdir().unwrap();
    let setup = store.setup("pre%20fix").cache(cache.path());
    let guest = setup.mount();
    assert_eq!(guest.list("").unwrap(), ["a b.txt", "d", "hollow", "top+x"]);
    assert_eq!(guest.list("d").unwrap(), ["e", "ñ%2F&+#~*'().txt"]);
    assert_eq!(guest.list("hollow").unwrap(), Vec::<String>::new());
    for (n, name) in NAMES.iter().enumerate() {
        assert_eq!(guest.stat(name).unwrap(), Some(n as u64 * 100_000));
        assert_eq!(guest.read(name).unwrap(), noise(n * 100_000), "{name}");
    }
    // Each path by itself, and once more from the cache.
    let guest = setup.mount();
    for (n, name) in NAMES.iter().enumerate() {
        assert_eq!(guest.read(name).unwrap(), noise(n * 100_000), "{name}");
    }
    assert_eq!(kind(guest.read("none")), ErrorKind::NotFound);

    guest.append("top+x", "more").unwrap();
    guest.rename("d/e/f", "moved").unwrap().unwrap();
    guest.remove("d/e").unwrap().unwrap();
    guest.fs.flush().unwrap();
    let guest = setup.mount();
    assert_eq!(guest.list("").unwrap(), ["a b.txt", "d", "hollow", "moved", "top+x"]);
    assert_eq!(guest.list("d").unwrap(), ["ñ%2F&+#~*'().txt"]);
    assert_eq!(guest.read("top+x").unwrap(), noise(300_000) + "more");
}

#[test]
fn moto_keeps_what_was_changed_meanwhile() {
    if lacks(NEEDS) {
        return;
    }
    let store = Store::new();
    let (one, other) = (store.setup("x").mount(), store.setup("x").mount());
    one.write("f", "first").unwrap();
    one.fs.flush().unwrap();
    other.append("f", ", second").unwrap();
    one.append("f", ", third").unwrap();
    one.fs.flush().unwrap();
    let error = other.fs.flush().unwrap_err();
    assert_eq!(error.failures[0].error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(store.setup("x").mount().read("f").unwrap(), "first, third");
}

#[test]
fn moto_lists_many_keys_page_by_page() {
    if lacks(NEEDS) {
        return;
    }
    let store = Store::new();
    let mut setup = store.setup("");
    setup.config.url = setup.config.url.replace("/bucket/", "/many/x");
    assert_eq!(setup.mount().list("").unwrap().len(), 1100);
}

#[test]
fn moto_refuses_another_key() {
    if lacks(NEEDS) {
        return;
    }
    let mut store = Store::new();
    store.secret_key.push('x');
    assert_eq!(kind(store.setup("").mount().list("")), ErrorKind::Access);
}
