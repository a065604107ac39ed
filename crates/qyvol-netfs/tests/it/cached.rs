//! The persistent cache: what is served from it, when, and when not.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use qyvol_netfs::{Credentials, Directories, Error, ErrorKind, NetFs};
use rustix::fs::Mode;

use crate::server::{Reaction, Server};
use crate::site::Site;
use crate::support::{Setup, TestHost, kind};

fn server() -> Server {
    Server::new(Site::of(&[("/data/a/f", "hello"), ("/data/g", "world")]))
}

fn blobs(cache: &Path) -> Vec<PathBuf> {
    fs::read_dir(cache.join("v1/blobs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect()
}

#[test]
fn content_that_did_not_change_is_not_sent_again() {
    let (server, cache) = (server(), tempfile::tempdir().unwrap());
    let setup = Setup::http(&server).cache(cache.path());
    assert_eq!(setup.mount().read("a/f").unwrap(), "hello");
    server.log();
    assert_eq!(setup.mount().read("a/f").unwrap(), "hello");
    let seen = server.seen();
    assert_eq!((seen.len(), seen[0].header("if-none-match")), (1, Some("\"v1\"")));
    server.site(|site| site.put("/data/a/f", b"changed"));
    assert_eq!(setup.mount().read("a/f").unwrap(), "changed");
}

#[test]
fn file_without_entity_tag_is_revalidated_by_its_time() {
    let (server, cache) = (server(), tempfile::tempdir().unwrap());
    server.fault(|_, _| Reaction::edit(|response| response.without("etag")));
    let setup = Setup::http(&server).cache(cache.path());
    assert_eq!(setup.mount().read("g").unwrap(), "world");
    server.log();
    assert_eq!(setup.mount().read("g").unwrap(), "world");
    assert_eq!(
        server.seen()[0].header("if-modified-since"),
        Some(crate::site::MODIFIED)
    );
}

#[test]
fn listing_that_names_what_is_cached_spares_the_request() {
    let (server, cache) = (server(), tempfile::tempdir().unwrap());
    let setup = Setup::webdav(&server).cache(cache.path());
    setup.mount().read("g").unwrap();
    server.log();
    let guest = setup.mount();
    guest.list("").unwrap();
    assert_eq!(guest.read("g").unwrap(), "world");
    assert_eq!(server.log(), ["PROPFIND /data/"]);
}

#[test]
fn cached_content_is_used_while_the_server_is_unreachable() {
    for down in ["gone", "503"] {
        for protocol in ["http", "webdav"] {
            let (server, cache) = (server(), tempfile::tempdir().unwrap());
            let setup = match protocol {
                "http" => Setup::http(&server),
                _ => Setup::webdav(&server),
            };
            let setup = setup.cache(cache.path());
            setup.mount().read("a/f").unwrap();
            let server = match down {
                "gone" => {
                    drop(server);
                    None
                }
                _ => {
                    server.fault(|_, _| Reaction::status(503));
                    Some(server)
                }
            };
            let guest = setup.mount();
            assert_eq!(guest.stat("a/f").unwrap(), Some(5), "{protocol} {down}");
            assert_eq!(guest.read("a/f").unwrap(), "hello");
            assert_eq!(guest.list("a").unwrap(), ["f"]);
            assert_eq!(guest.notices().len(), 1);
            // What was never fetched is not known to be absent.
            assert_eq!(kind(guest.read("g")), ErrorKind::Unreachable);
            let guest = setup.mount();
            if protocol == "webdav" {
                assert_eq!(guest.list("").unwrap(), ["a"]);
                assert_eq!(guest.stat("a").unwrap(), None);
            }
            assert_eq!(guest.read("a/f").unwrap(), "hello");
            drop(server);
        }
    }
}

#[test]
fn refusal_is_not_stood_in_for() {
    for (status, due) in [
        (401, ErrorKind::Access),
        (403, ErrorKind::Access),
        (404, ErrorKind::NotFound),
        (400, ErrorKind::Io),
    ] {
        let (server, cache) = (server(), tempfile::tempdir().unwrap());
        let setup = Setup::http(&server).cache(cache.path());
        setup.mount().read("a/f").unwrap();
        server.fault(move |_, _| Reaction::status(status));
        assert_eq!(kind(setup.mount().read("a/f")), due);
        if status == 404 {
            // It is gone for good.
            drop(server);
            assert_eq!(kind(setup.mount().read("a/f")), ErrorKind::Unreachable);
        }
    }
}

#[test]
fn damaged_copy_is_never_served() {
    for damage in ["hullo", "hell", "", "hello, world"] {
        for is_offline in [false, true] {
            let (server, cache) = (server(), tempfile::tempdir().unwrap());
            let setup = Setup::http(&server).cache(cache.path());
            setup.mount().read("a/f").unwrap();
            fs::write(&blobs(cache.path())[0], damage).unwrap();
            if is_offline {
                drop(server);
                let guest = setup.mount();
                assert_eq!(kind(guest.read("a/f")), ErrorKind::Unreachable, "{damage}");
                assert!(blobs(cache.path()).is_empty());
                continue;
            }
            assert_eq!(setup.mount().read("a/f").unwrap(), "hello", "{damage}");
            assert_eq!(fs::read_to_string(&blobs(cache.path())[0]).unwrap(), "hello");
        }
    }
}

#[test]
fn mount_without_cache_leaves_nothing() {
    let server = server();
    let guest = Setup::http(&server).mount();
    guest.read("a/f").unwrap();
    let names: Vec<_> = fs::read_dir(guest.outside())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn what_is_here_stays_in_use_while_the_server_is_away() {
    let server = server();
    let guest = Setup::http(&server).always_asking().mount();
    assert_eq!(guest.read("g").unwrap(), "world");
    server.fault(|_, _| Reaction::status(503));
    assert_eq!(guest.read("g").unwrap(), "world");
    assert_eq!(guest.notices().len(), 1);
    server.site(|site| site.put("/data/g", b"back again"));
    server.heal();
    assert_eq!(guest.read("g").unwrap(), "back again");
}

#[test]
fn unreachable_server_is_not_asked_for_each_path() {
    let server = server();
    server.fault(|_, _| Reaction::status(503));
    let guest = Setup::http(&server)
        .limits(|limits| limits.outage = std::time::Duration::from_secs(3600))
        .mount();
    for n in 0..5 {
        assert_eq!(kind(guest.read(&format!("f{n}"))), ErrorKind::Unreachable);
    }
    assert_eq!(server.log().len(), 1 + crate::support::RETRIES as usize);
}

#[test]
fn processes_share_a_cache() {
    let (server, cache) = (server(), tempfile::tempdir().unwrap());
    let setup = Setup::http(&server).cache(cache.path());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let guest = setup.mount();
                    assert_eq!(guest.read("a/f").unwrap(), "hello");
                    assert_eq!(guest.read("g").unwrap(), "world");
                    assert!(guest.notices().is_empty());
                }
            });
        }
    });
    assert_eq!(blobs(cache.path()).len(), 2);
    assert_eq!(fs::read_dir(cache.path().join("v1/tmp")).unwrap().count(), 0);
}

#[test]
fn another_tree_has_other_copies() {
    let (server, cache) = (server(), tempfile::tempdir().unwrap());
    Setup::http(&server).cache(cache.path()).mount().read("g").unwrap();
    let mut other = Setup::http(&server).cache(cache.path());
    other.config.url = server.url("/other");
    drop(server);
    assert_eq!(kind(other.mount().read("g")), ErrorKind::Unreachable);
}

#[test]
fn cache_that_others_may_write_to_is_refused() {
    let (server, cache) = (server(), tempfile::tempdir().unwrap());
    Setup::http(&server).cache(cache.path()).mount().read("g").unwrap();
    let opened = |cache: &Path| {
        let directory = tempfile::tempdir().unwrap();
        let open = || fs::File::open(directory.path()).unwrap().into();
        let directories = Directories {
            root: open(),
            staging: open(),
            cache: Some(cache.to_path_buf()),
        };
        let host = Arc::new(TestHost::default());
        NetFs::new(&Setup::http(&server).config, Credentials::None, host, directories).map(drop)
    };
    for name in ["", "v1", "v1/blobs", "v1/records", "v1/tmp", "v1/kept"] {
        let place = cache.path().join(name);
        for mode in [0o777, 0o720, 0o702] {
            fs::set_permissions(&place, fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(opened(cache.path()), Err(Error::Directory { .. })), "{name}");
        }
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
        opened(cache.path()).unwrap();
    }
    // Nor is a link followed to another one.
    let link = tempfile::tempdir().unwrap();
    symlink(cache.path(), link.path().join("cache")).unwrap();
    assert!(matches!(
        opened(&link.path().join("cache")),
        Err(Error::Directory { .. })
    ));
}

#[test]
fn pipe_in_the_cache_blocks_nobody() {
    let (server, cache) = (server(), tempfile::tempdir().unwrap());
    let setup = Setup::http(&server).cache(cache.path());
    setup.mount().read("g").unwrap();
    for name in ["records", "blobs"] {
        for entry in fs::read_dir(cache.path().join("v1").join(name)).unwrap() {
            let place = entry.unwrap().path();
            fs::remove_file(&place).unwrap();
            rustix::fs::mkfifoat(rustix::fs::CWD, &place, Mode::from_raw_mode(0o600)).unwrap();
        }
        assert_eq!(setup.mount().read("g").unwrap(), "world");
    }
}
