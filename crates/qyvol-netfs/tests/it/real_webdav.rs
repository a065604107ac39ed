//! PyPI's WsgiDAV, with a directory of ours.

use std::fs;
use std::path::{Path, PathBuf};

use qyvol_netfs::{ErrorKind, Intent, Protocol};

use crate::needs::lacks;
use crate::real::{NEEDS, Process};
use crate::support::{Setup, basic, kind, noise};

const PROGRAM: &str = r#"
import logging
from cheroot import wsgi
from wsgidav.wsgidav_app import WsgiDAVApp
logging.disable(logging.CRITICAL)
app = WsgiDAVApp({
    "provider_mapping": {"/dav": "tree"},
    "http_authenticator": {"accept_basic": True, "accept_digest": False, "default_to_digest": False},
    "simple_dc": {"user_mapping": {"*": {"ana": {"password": "s3cret-word"}}}},
    "verbose": 0,
})
server = wsgi.Server(("127.0.0.1", 0), app)
server.prepare()
print(server.bind_addr[1])
server.serve()
"#;

struct Dav {
    _process: Process,
    directory: tempfile::TempDir,
    setup: Setup,
}

impl Dav {
    fn new() -> Dav {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir_all(tree.join("sub/empty")).unwrap();
        fs::write(tree.join("a b.txt"), "hello").unwrap();
        fs::write(tree.join("sub/ñ%2F&+#.txt"), noise(300_000)).unwrap();
        let process = Process::python(PROGRAM, directory.path(), &[]);
        let url = format!("http://127.0.0.1:{}/dav", process.port);
        let setup = Setup {
            credentials: basic(),
            ..Setup::new(Protocol::WebDav, &url)
        };
        Dav {
            _process: process,
            directory,
            setup,
        }
    }

    fn tree(&self, path: &str) -> PathBuf {
        self.directory.path().join("tree").join(path)
    }
}

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn wsgidav_is_listed_and_read() {
    if lacks(NEEDS) {
        return;
    }
    let dav = Dav::new();
    let cache = tempfile::tempdir().unwrap();
    let setup = dav.setup.clone().cache(cache.path());
    let guest = setup.mount();
    assert_eq!(guest.list("").unwrap(), ["a b.txt", "sub"]);
    assert_eq!(guest.list("sub").unwrap(), ["empty", "ñ%2F&+#.txt"]);
    assert_eq!(guest.list("sub/empty").unwrap(), Vec::<String>::new());
    assert_eq!(guest.stat("sub/ñ%2F&+#.txt").unwrap(), Some(300_000));
    assert_eq!(guest.read("sub/ñ%2F&+#.txt").unwrap(), noise(300_000));
    assert_eq!(guest.read("a b.txt").unwrap(), "hello");
    assert_eq!(kind(guest.read("none")), ErrorKind::NotFound);
    assert_eq!(kind(setup.mount().read("sub/none")), ErrorKind::NotFound);
    assert_eq!(
        kind(setup.mount().fs.ensure("a b.txt", Intent::List)),
        ErrorKind::NotADirectory
    );
    // Without its server, what was read is there still.
    drop(dav);
    let guest = setup.mount();
    assert_eq!(guest.read("a b.txt").unwrap(), "hello");
    assert_eq!(guest.list("sub").unwrap(), ["ñ%2F&+#.txt"]);
}

#[test]
fn wsgidav_stores_what_was_written() {
    if lacks(NEEDS) {
        return;
    }
    let dav = Dav::new();
    let guest = dav.setup.mount();
    guest.write("new ñ.txt", &noise(200_000)).unwrap();
    guest.append("a b.txt", ", world").unwrap();
    guest.make_directory("made").unwrap().unwrap();
    guest.make_directory("made/deep").unwrap().unwrap();
    guest.write("made/deep/x", "").unwrap();
    guest.rename("sub/ñ%2F&+#.txt", "made/moved").unwrap().unwrap();
    guest.remove("sub/empty").unwrap().unwrap();
    guest.remove("sub").unwrap().unwrap();
    guest.fs.flush().unwrap();
    assert_eq!(text(dav.tree("new ñ.txt")), noise(200_000));
    assert_eq!(text(dav.tree("a b.txt")), "hello, world");
    assert_eq!(text(dav.tree("made/deep/x")), "");
    assert_eq!(text(dav.tree("made/moved")), noise(300_000));
    assert!(!dav.tree("sub").exists());
    // Again, on top of what was just sent.
    guest.append("a b.txt", "!").unwrap();
    guest.remove("made/moved").unwrap().unwrap();
    guest.fs.flush().unwrap();
    assert_eq!(text(dav.tree("a b.txt")), "hello, world!");
    assert!(!dav.tree("made/moved").exists());
}

#[test]
fn wsgidav_keeps_what_was_changed_meanwhile() {
    if lacks(NEEDS) {
        return;
    }
    let dav = Dav::new();
    let guest = dav.setup.mount();
    guest.append("a b.txt", " from here").unwrap();
    guest.write("new", "mine").unwrap();
    guest.remove("sub/ñ%2F&+#.txt").unwrap().unwrap();
    guest.remove("sub/empty").unwrap().unwrap();
    guest.remove("sub").unwrap().unwrap();
    fs::write(dav.tree("a b.txt"), "from there, longer").unwrap();
    fs::write(dav.tree("new"), "theirs").unwrap();
    fs::write(dav.tree("sub/late"), "late").unwrap();
    let error = guest.fs.flush().unwrap_err();
    let conflicts: Vec<_> = error
        .failures
        .iter()
        .filter(|f| f.error.kind() == ErrorKind::Conflict)
        .collect();
    assert_eq!(conflicts.len(), 2, "{error}");
    assert_eq!(text(dav.tree("a b.txt")), "from there, longer");
    assert_eq!(text(dav.tree("new")), "theirs");
    assert_eq!(text(dav.tree("sub/late")), "late");
}

#[test]
fn wsgidav_refuses_without_the_password() {
    if lacks(NEEDS) {
        return;
    }
    let dav = Dav::new();
    let mut setup = dav.setup.clone();
    setup.credentials = qyvol_netfs::Credentials::None;
    assert_eq!(kind(setup.mount().list("")), ErrorKind::Access);
}
