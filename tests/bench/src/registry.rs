//! Images between a host and a registry on its loopback address: how long it
//! takes, what is sent, how much memory it needs.
//!
//! skopeo moves the image alone; ours moves its signature too. Before each timed run the
//! system's dirty pages are written, so that no run waits for those of another.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use super::measure::{Run, Side, interleaved};
use super::proxy::{After, Counts, Proxy};
use super::rows::{Example, at_most, mib, mixed, ratio, reached, utf8};
use super::servers::{BOTH, Kind, Server};
use super::{Bench, Row, fresh, not_measured, remove};

/// Of the peer's time.
const LIMIT: f64 = 0.8;
const IMAGE: &str = "bench/mixed:1.0.0";
/// The name that it has in its own file.
const OWN: &str = "mixed-256:1.0.0";

fn sync() -> Result<(), String> {
    Run::new("sync", &[]).check().map(drop)
}

/// The rows of each registry, or why there are none.
fn each(bench: &Bench, what: &str, measure: impl Fn(Server, &str) -> Result<Vec<Row>, String>) -> Vec<Row> {
    let rows = BOTH.map(|kind| {
        let what = format!("{what}, {}", kind.name());
        let rows = Server::start(bench, kind).and_then(|server| measure(server, &what));
        rows.unwrap_or_else(|why| vec![not_measured(&what, why)])
    });
    rows.into_iter().flatten().collect()
}

fn image(bench: &Bench, mib: u64) -> Result<PathBuf, String> {
    bench.pack(&mixed(bench, mib)?, &format!("mixed-{mib}.qyvbin"))
}

pub(super) fn skopeo(bench: &Bench, from: &str, to: &str) -> Result<Run, String> {
    Run::new("skopeo", &["--version"])
        .check()
        .map_err(|e| format!("skopeo is missing: install the Debian package skopeo ({e})"))?;
    let scratch = bench.scratch.join("skopeo-tmp");
    fresh(&scratch)?;
    let tls = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    let args = ["--insecure-policy", "--tmpdir", utf8(&scratch)?, "copy", "--quiet"];
    let args = [&args[..], &["--preserve-digests"], &tls, &[from, to]].concat();
    Ok(Run::new("skopeo", &args))
}

pub(super) fn transfers(bench: &Bench) -> Result<Vec<Row>, String> {
    let file = image(bench, 256)?;
    let layout = bench.scratch.join("mixed-256.layout");
    fresh(&layout)?;
    Run::new("tar", &["-xf", utf8(&file)?, "-C", utf8(&layout)?]).check()?;
    let rows = each(bench, "256 MiB of mixed assets", |server, what| {
        let server = RefCell::new(server);
        let mut rows = pushes(bench, &server, what)?;
        rows.extend(pulls(bench, &server, what)?);
        Ok(rows)
    });
    remove(&layout)?;
    Ok(rows)
}

fn pushes(bench: &Bench, server: &RefCell<Server>, what: &str) -> Result<Vec<Row>, String> {
    let file = bench.scratch.join("mixed-256.qyvbin");
    let layout = bench.scratch.join("mixed-256.layout");
    let name = server.borrow().name(IMAGE);
    let to = format!("docker://{name}");
    // A .qyvbin is an OCI archive: to skopeo that very file is one.
    let runs = [
        [bench.qyv(&["push", utf8(&file)?, &name])],
        [skopeo(bench, &format!("oci-archive:{}:{OWN}", file.display()), &to)?],
        [skopeo(bench, &format!("oci:{}:{OWN}", layout.display()), &to)?],
    ];
    let before = || {
        server.borrow_mut().renew()?;
        sync()
    };
    let sides = runs.each_ref().map(|runs| Side { before: &before, runs });
    let [ours, archive, unpacked] = interleaved(bench.long_runs(), sides)?;
    let what = format!("push, {what}");
    Ok(vec![
        ratio(&what, [&ours, &archive], "skopeo copy from oci-archive", LIMIT),
        ratio(&what, [&ours, &unpacked], "skopeo copy from oci, unpacked", LIMIT),
    ])
}

fn pulls(bench: &Bench, server: &RefCell<Server>, what: &str) -> Result<Vec<Row>, String> {
    let file = bench.scratch.join("mixed-256.qyvbin");
    let name = server.borrow().name(IMAGE);
    server.borrow_mut().renew()?;
    bench.qyv(&["push", utf8(&file)?, &name]).check()?;
    let from = format!("docker://{name}");
    let [store, out] = [bench.home().join("store"), bench.scratch.join("pulled.qyvbin")];
    let [layout, archive] = ["pulled.layout", "pulled.oci.tar"].map(|name| bench.scratch.join(name));
    let to_store = [bench.qyv(&["pull", &name])];
    let to_layout = [skopeo(bench, &from, &format!("oci:{}:1", layout.display()))?];
    let to_file = [bench.qyv(&["pull", &name, "-o", utf8(&out)?])];
    let to_archive = [skopeo(bench, &from, &format!("oci-archive:{}:1", archive.display()))?];
    let without = |path: &Path| {
        remove(path)?;
        sync()
    };
    let sides = [
        Side {
            before: &|| without(&store),
            runs: &to_store,
        },
        Side {
            before: &|| without(&layout),
            runs: &to_layout,
        },
        Side {
            before: &|| without(&out),
            runs: &to_file,
        },
        Side {
            before: &|| without(&archive),
            runs: &to_archive,
        },
    ];
    let [stored, laid_out, written, archived] = interleaved(bench.long_runs(), sides)?;
    Run::new("cmp", &[utf8(&file)?, utf8(&out)?]).check()?;
    for left in [&layout, &out, &archive] {
        remove(left)?;
    }
    let [pull, pull_file] = ["pull", "pull -o"].map(|verb| format!("{verb}, {what}"));
    Ok(vec![
        ratio(&pull, [&stored, &laid_out], "skopeo copy to oci", LIMIT),
        ratio(&pull_file, [&written, &archived], "skopeo copy to oci-archive", LIMIT),
    ])
}

/// A push of an existing image: the bytes that are sent nevertheless.
pub(super) fn known(bench: &Bench) -> Result<Vec<Row>, String> {
    image(bench, 256)?;
    Ok(each(bench, "push of what the registry has", |server, what| {
        let file = bench.scratch.join("mixed-256.qyvbin");
        let proxy = Proxy::start(&server.address)?;
        let name = format!("{}/{IMAGE}", proxy.address);
        let push = bench.qyv(&["push", utf8(&file)?, &name]);
        push.check()?;
        let first = proxy.take()?;
        if first.sent == 0 {
            return Err("the first push sent no blob: nothing is counted".to_string());
        }
        push.check()?;
        let again = proxy.take()?;
        let shown = |counts: &Counts| format!("{} requests, {} bytes of blobs", counts.requests, counts.sent);
        let from = format!("oci-archive:{}:{OWN}", file.display());
        let peer = match skopeo(bench, &from, &format!("docker://{name}")) {
            Ok(run) => {
                run.check()?;
                format!("{} skopeo copy", shown(&proxy.take()?))
            }
            Err(why) => why,
        };
        Ok(vec![Row {
            what: format!("{what} (first: {} requests, {})", first.requests, mib(first.sent)),
            ours: shown(&again),
            peer,
            ratio: "-".to_string(),
            to_reach: "0 bytes of blobs".to_string(),
            verdict: reached(again.sent == 0),
        }])
    }))
}

/// A pull whose connections are cut after nine tenths: the bytes received afterwards.
pub(super) fn resumed(bench: &Bench) -> Result<Vec<Row>, String> {
    image(bench, 256)?;
    Ok(each(bench, "after a cut at 90 %", |server, what| {
        let file = bench.scratch.join("mixed-256.qyvbin");
        bench.qyv(&["push", utf8(&file)?, &server.name(IMAGE)]).check()?;
        let proxy = Proxy::start(&server.address)?;
        let pull = bench.qyv(&["pull", &format!("{}/{IMAGE}", proxy.address)]);
        let empty = || {
            remove(&bench.home().join("store"))?;
            proxy.take()
        };
        empty()?;
        pull.check()?;
        let whole = empty()?.received;
        let cut_at = whole / 10 * 9;
        let cut = |then: After| proxy.cut_after(cut_at, then);

        cut(After::TheRegistry);
        pull.check()?;
        happened(&proxy)?;
        let came = proxy.take()?.received;
        let mut rows = vec![after_cut(
            &format!("pull that goes on {what}"),
            came.saturating_sub(cut_at),
            whole,
        )];

        empty()?;
        cut(After::Nothing);
        let code = pull.exit_code()?;
        happened(&proxy)?;
        if code == 0 {
            return Err("the pull succeeded without a registry".to_string());
        }
        proxy.take()?;
        proxy.reopen();
        pull.check()?;
        let came = proxy.take()?.received;
        let what = format!("pull anew {what} that ended the first (exit code {code})");
        rows.push(after_cut(&what, came, whole));
        Ok(rows)
    }))
}

fn happened(proxy: &Proxy) -> Result<(), String> {
    let why = "the pull ended before its connections were to be cut";
    proxy.has_cut().then_some(()).ok_or_else(|| why.to_string())
}

fn after_cut(what: &str, came: u64, whole: u64) -> Row {
    const LIMIT: f64 = 0.15;
    let part = came as f64 / whole as f64;
    Row {
        what: what.to_string(),
        ours: mib(came),
        peer: format!("{} a whole pull", mib(whole)),
        ratio: format!("{part:.2}"),
        to_reach: format!("{LIMIT}"),
        verdict: reached(part <= LIMIT),
    }
}

pub(super) fn memory(bench: &Bench) -> Result<Vec<Row>, String> {
    const LIMIT: u64 = 64 << 20;
    if !bench.big {
        return Err("give --big: it writes 5 GiB".to_string());
    }
    // The build leaves it in the store as well.
    remove(&bench.home().join("store"))?;
    let file = image(bench, 1024)?;
    let out = bench.scratch.join("pulled.qyvbin");
    let mut server = Server::start(bench, Kind::Hub)?;
    let name = server.name(IMAGE);
    let mut rows = Vec::new();
    for (what, args) in [
        ("push of a file", vec!["push", utf8(&file)?, &name]),
        ("push from the store", vec!["push", "mixed-1024:1.0.0", &name]),
        ("pull", vec!["pull", &name]),
        ("pull -o", vec!["pull", &name, "-o", utf8(&out)?]),
    ] {
        match what {
            "pull" => remove(&bench.home().join("store"))?,
            "pull -o" => {}
            _ => server.renew()?,
        }
        let peak = bench.qyv(&args).peak()?;
        rows.push(at_most(&format!("peak memory of {what}, 1 GiB of assets"), peak, LIMIT));
    }
    remove(&out)?;
    Ok(rows)
}

/// One component with its manifest and its signature, against a bare one. Where
/// the registry does not list referrers by itself, a push waits to see that its
/// own stays listed: an unsigned image, which has none, shows how long.
pub(super) fn component(bench: &Bench) -> Result<Vec<Row>, String> {
    let missing = "the peer is missing: set WKG to the command of `cargo install --locked wkg`";
    let wkg = bench.wkg.as_ref().ok_or(missing)?;
    let Example { directory, component } = Example::hello()?;
    let file = bench.pack(&directory, "hello.qyvbin")?;
    let unsigned = bench.scratch.join("hello-unsigned.qyvbin");
    let build = ["build", "--no-sign", utf8(&directory)?, "-o", utf8(&unsigned)?];
    bench.qyv(&build).check()?;
    Ok(each(bench, "hello", |server, what| {
        let [out, bare_out] = ["pulled.qyvbin", "pulled.wasm"].map(|name| bench.scratch.join(name));
        let (address, name) = (server.address.clone(), server.name("bench/hello:1.0.0"));
        // Its form of an artifact is another one: it has a name of its own.
        let bare = server.name("bench/bare:1.0.0");
        let peer = |args: &[&str]| Run::new(wkg, &[&["oci"], args, &["--insecure", &address]].concat());
        let server = RefCell::new(server);

        let push = [bench.qyv(&["push", utf8(&file)?, &name])];
        let push_unsigned = [bench.qyv(&["push", utf8(&unsigned)?, &name])];
        let bare_push = [peer(&["push", &bare, utf8(&component)?])];
        let renew = || {
            server.borrow_mut().renew()?;
            sync()
        };
        let sides = [&push, &push_unsigned, &bare_push].map(|runs| Side { before: &renew, runs });
        let [pushed, pushed_unsigned, peer_pushed] = interleaved(bench.runs, sides)?;

        server.borrow_mut().renew()?;
        for push in push.iter().chain(&bare_push) {
            push.check()?;
        }
        let to_store = [bench.qyv(&["pull", &name])];
        let to_file = [bench.qyv(&["pull", &name, "-o", utf8(&out)?])];
        let bare_pull = [peer(&["pull", &bare, "-o", utf8(&bare_out)?])];
        let empty = || {
            for path in [&bench.home().join("store"), &out, &bare_out] {
                remove(path)?;
            }
            sync()
        };
        let sides = [&to_store, &to_file, &bare_pull].map(|runs| Side { before: &empty, runs });
        let [stored, written, peer] = interleaved(bench.runs, sides)?;
        Run::new("cmp", &[utf8(&component)?, utf8(&bare_out)?]).check()?;
        for left in [&out, &bare_out] {
            remove(left)?;
        }
        let [push, push_unsigned, pull, pull_file] =
            ["push", "push unsigned", "pull", "pull -o"].map(|verb| format!("{verb}, {what}"));
        let unsigned = [&pushed_unsigned, &peer_pushed];
        Ok(vec![
            ratio(&push, [&pushed, &peer_pushed], "wkg oci push", LIMIT),
            ratio(&push_unsigned, unsigned, "wkg oci push", LIMIT),
            ratio(&pull, [&stored, &peer], "wkg oci pull", LIMIT),
            ratio(&pull_file, [&written, &peer], "wkg oci pull", LIMIT),
        ])
    }))
}
