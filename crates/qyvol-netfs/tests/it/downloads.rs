//! Downloads that break off, change, lie and stall.

use std::time::Duration;

use qyvol_netfs::ErrorKind;

use crate::server::{Framing, Reaction, Request, Response, Server};
use crate::site::Site;
use crate::support::{RETRIES, Setup, kind, noise};

const LENGTH: usize = 300_000;

fn server() -> Server {
    Server::new(Site::of(&[("/data/f", &noise(LENGTH))]))
}

fn cut(n: usize) -> Reaction {
    Reaction::edit(move |response| {
        let length = response.body.len();
        response
            .framed(Framing::Cut(n))
            .with("content-length", length.to_string())
    })
}

fn gets(server: &Server) -> Vec<Request> {
    server
        .seen()
        .into_iter()
        .filter(|request| request.method == "GET")
        .collect()
}

#[test]
fn interrupted_download_is_resumed_for_the_same_version_alone() {
    let server = server();
    server.fault(|request, _| match request.nth {
        1 => cut(100_000),
        2 => cut(50_000),
        _ => Reaction::Serve,
    });
    let guest = Setup::http(&server).mount();
    assert_eq!(guest.read("f").unwrap(), noise(LENGTH));
    let ranges: Vec<_> = gets(&server)
        .iter()
        .map(|request| request.header("range").map(str::to_string))
        .collect();
    assert_eq!(
        ranges,
        [
            None,
            Some("bytes=100000-".to_string()),
            Some("bytes=150000-".to_string())
        ]
    );
    assert_eq!(gets(&server)[1].header("if-range"), Some("\"v1\""));
}

#[test]
fn file_that_changes_while_it_is_read_is_read_anew() {
    let server = server();
    server.fault(|request, site| match request.nth {
        1 => {
            let old = site.answer(request);
            site.put("/data/f", b"the new content");
            Reaction::Answer(
                old.framed(Framing::Cut(1000))
                    .with("content-length", LENGTH.to_string()),
            )
        }
        _ => Reaction::Serve,
    });
    let guest = Setup::http(&server).mount();
    assert_eq!(guest.read("f").unwrap(), "the new content");
    assert_eq!(guest.stat("f").unwrap(), Some(15));
}

#[test]
fn partial_answer_of_another_version_is_not_put_to_the_first() {
    let server = server();
    // A server that knows ranges, and not If-Range.
    server.fault(|request, site| match request.nth {
        1 => cut(1000),
        2 => {
            site.put("/data/f", noise(LENGTH).to_uppercase().as_bytes());
            let mut careless = request.clone();
            careless.headers.remove("if-range");
            Reaction::Answer(site.answer(&careless))
        }
        _ => Reaction::Serve,
    });
    let guest = Setup::http(&server).mount();
    assert_eq!(guest.read("f").unwrap(), noise(LENGTH).to_uppercase());
}

#[test]
fn file_that_changes_all_the_time_is_given_up() {
    let server = server();
    server.fault(|_, site| {
        site.put("/data/f", noise(LENGTH).as_bytes());
        cut(200_000)
    });
    let guest = Setup::http(&server).limits(|limits| limits.retry.retries = 50).mount();
    let error = guest.read("f").unwrap_err();
    assert!(error.to_string().contains("changes faster"), "{error}");
    assert!(gets(&server).len() < 20);
    assert!(!guest.place("f").exists());
}

#[test]
fn without_a_strong_validator_all_of_it_is_fetched_again() {
    let server = server();
    server.fault(|request, _| match request.nth {
        1 => Reaction::edit(|response| {
            response
                .with("etag", "W/\"v1\"")
                .framed(Framing::Cut(1000))
                .with("content-length", LENGTH.to_string())
        }),
        _ => Reaction::edit(|response| response.with("etag", "W/\"v1\"")),
    });
    let guest = Setup::http(&server).mount();
    assert_eq!(guest.read("f").unwrap(), noise(LENGTH));
    assert!(gets(&server).iter().all(|request| request.header("range").is_none()));
}

#[test]
fn range_that_was_not_requested_is_refused() {
    for range in [
        "bytes 0-299999/300000",
        "bytes 1001-299999/300000",
        "bytes 1000-1999/300000",
        "bytes x",
        "",
    ] {
        let server = server();
        server.fault(move |request, _| match request.nth {
            1 => cut(1000),
            2 => Reaction::edit(move |response| response.with("content-range", range)),
            _ => Reaction::Serve,
        });
        let guest = Setup::http(&server).mount();
        assert_eq!(guest.read("f").unwrap(), noise(LENGTH), "{range}");
    }
}

#[test]
fn server_without_ranges_is_read_from_the_start() {
    let server = server();
    server.fault(|request, site| match request.nth {
        1 => cut(1000),
        _ => {
            let mut whole = request.clone();
            whole.headers.remove("range");
            Reaction::Answer(site.answer(&whole))
        }
    });
    let guest = Setup::http(&server).mount();
    assert_eq!(guest.read("f").unwrap(), noise(LENGTH));
}

#[test]
fn length_that_is_not_that_of_the_content_is_an_error() {
    let server = server();
    for claimed in [LENGTH as u64 + 1, LENGTH as u64 * 1000, u64::MAX] {
        server.fault(move |_, _| {
            Reaction::edit(move |response| response.without("etag").framed(Framing::Claim(claimed)))
        });
        let guest = Setup::http(&server).mount();
        let kind = kind(guest.read("f"));
        assert!(
            matches!(kind, ErrorKind::Unreachable | ErrorKind::TooLarge | ErrorKind::Io),
            "{kind:?}"
        );
        assert!(!guest.place("f").exists());
    }
}

#[test]
fn content_of_another_length_than_stated_is_an_error() {
    let server = server();
    server.fault(|request, _| match request.method.as_str() {
        "HEAD" => Reaction::edit(|response| response.with("content-length", "299999")),
        _ => Reaction::Serve,
    });
    let guest = Setup::http(&server).mount();
    assert_eq!(guest.stat("f").unwrap(), Some(299_999));
    let error = guest.read("f").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(
        error.to_string().contains("299999") && error.to_string().contains("300000"),
        "{error}"
    );
    // The server says another thing now: then that is true.
    server.heal();
    assert_eq!(guest.read("f").unwrap(), noise(LENGTH));
}

#[test]
fn temporary_faults_are_retried_and_others_are_not() {
    for status in [429, 502, 503, 504] {
        let server = server();
        server.fault(move |request, _| match request.nth {
            1..=2 => Reaction::status(status),
            _ => Reaction::Serve,
        });
        let guest = Setup::http(&server).mount();
        assert_eq!(guest.read("f").unwrap().len(), LENGTH, "{status}");
        assert_eq!(guest.host.waits.lock().unwrap().len(), 2);
    }
    for status in [400, 403, 418, 505] {
        let server = server();
        server.fault(move |_, _| Reaction::status(status));
        let guest = Setup::http(&server).mount();
        guest.read("f").unwrap_err();
        assert_eq!(server.log().len(), 1, "{status}");
    }
}

#[test]
fn retries_end() {
    let server = server();
    for framing in [None, Some(Framing::Lost), Some(Framing::Cut(10))] {
        server.log();
        server.fault(move |_, _| match framing {
            None => Reaction::status(503),
            Some(framing) => Reaction::edit(move |response| {
                let length = response.body.len().to_string();
                response.framed(framing).with("content-length", length)
            }),
        });
        let guest = Setup::http(&server).mount();
        assert_eq!(kind(guest.read("f")), ErrorKind::Unreachable);
        assert_eq!(gets(&server).len(), RETRIES as usize + 1, "{framing:?}");
    }
}

#[test]
fn server_says_how_long_to_wait_within_a_bound() {
    let server = server();
    server.fault(|request, _| match request.nth {
        1 => Reaction::Answer(Response::new(503).with("retry-after", "1")),
        _ => Reaction::Serve,
    });
    let guest = Setup::http(&server).mount();
    guest.read("f").unwrap();
    assert_eq!(*guest.host.waits.lock().unwrap(), [Duration::from_secs(1)]);

    server.fault(|_, _| Reaction::Answer(Response::new(429).with("retry-after", "86400")));
    let guest = Setup::http(&server).mount();
    let error = guest.read("f").unwrap_err();
    assert!(error.to_string().contains("86400"), "{error}");
    assert!(guest.host.waits.lock().unwrap().is_empty());
}

#[test]
fn slow_server_ends_by_its_timeout() {
    let server = server();
    for framing in [Framing::Silent, Framing::Drip(Duration::from_millis(20))] {
        server.fault(move |_, _| Reaction::edit(move |response| response.framed(framing)));
        let guest = Setup::http(&server).impatient().mount();
        assert_eq!(kind(guest.read("f")), ErrorKind::TimedOut, "{framing:?}");
        assert!(!guest.place("f").exists());
    }
}

#[test]
fn endless_body_ends_at_the_limit() {
    let server = server();
    server.fault(|_, _| Reaction::edit(|response| response.framed(Framing::Endless)));
    let guest = Setup::http(&server)
        .limits(|limits| limits.file_bytes = 1 << 20)
        .mount();
    assert_eq!(kind(guest.read("f")), ErrorKind::TooLarge);
    assert_eq!(server.log().len(), 1);
    assert_eq!(std::fs::read_dir(guest.outside().join("staging")).unwrap().count(), 0);
}

#[test]
fn compressed_content_is_refused() {
    let server = server();
    server.fault(|_, _| Reaction::edit(|response| response.with("content-encoding", "gzip")));
    let guest = Setup::http(&server).mount();
    assert_eq!(kind(guest.read("f")), ErrorKind::Io);
    assert_eq!(gets(&server)[0].header("accept-encoding"), Some("identity"));
}

#[test]
fn end_of_the_run_ends_the_waiting() {
    struct Over(crate::support::TestHost);
    impl qyvol_netfs::Host for Over {
        fn resolve(&self, name: &str, port: u16) -> Result<Vec<std::net::SocketAddr>, qyvol_netfs::ResolveError> {
            self.0.resolve(name, port)
        }
        fn now(&self) -> std::time::SystemTime {
            self.0.now()
        }
        fn wait(&self, _: Duration) -> bool {
            false
        }
        fn notice(&self, _: &str) {}
    }
    let server = server();
    server.fault(|_, _| Reaction::status(503));
    let (fs, _directory) = Setup::http(&server).make(std::sync::Arc::new(Over(crate::support::TestHost::default())));
    assert_eq!(kind(fs.ensure("f", qyvol_netfs::Intent::Read)), ErrorKind::Unreachable);
    assert_eq!(server.log().len(), 1);
}
