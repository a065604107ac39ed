//! The hub's pages in a browser.

use std::process::Command;

use crate::needs::lacks;
use crate::page::MANIFEST;
use crate::registry::Server;
use crate::support::{User, third_party};

/// What chromium makes of a page, and what it reports about it.
fn shown(user: &User, url: &str) -> (String, String) {
    let mut chromium = Command::new("chromium");
    chromium.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--enable-logging=stderr",
        "--dump-dom",
    ]);
    chromium.arg(format!("--user-data-dir={}", user.path("chromium").display()));
    chromium.arg(url).env("HOME", user.path(""));
    let done = third_party("chromium", &mut chromium).expect(0);
    (done.out, done.err)
}

// [HUB-046]
#[test]
fn browser_loads_a_page_whole_and_reports_no_violation() {
    if lacks(&["chromium"]) {
        return;
    }
    let (server, user) = (Server::hub(&[]), User::new());
    user.write("app/README.md", "<script>document.title = 'taken'</script>\n");
    let file = user.built("app", MANIFEST);
    user.qyv(&["push", &file, &server.name("team/app:1.0.0")]).expect(0);
    for path in [
        "/",
        "/team/app",
        "/team/app:1.0.0",
        "/team/app:1.0.0?lang=es",
        "/absent",
    ] {
        let (dom, reported) = shown(&user, &format!("http://{}{path}", server.address));
        assert!(dom.contains("· QyvolHub</title>"), "{path}: {dom}");
        assert!(!dom.contains("<script"), "{path}: {dom}");
        for word in ["CONSOLE", "Refused to", "Content Security Policy"] {
            assert!(!reported.contains(word), "{path}: {reported}");
        }
    }
}
