//! `cargo xtask portable QYV [ROOT]...`: whether a static binary runs where nothing
//! else is, and on other distributions.
//!
//! In network, mount and user namespaces of its own, in roots that hold the binary
//! alone, then `/etc/hosts` and `/etc/resolv.conf`: the quick start, and a registry
//! by its name, as libc looks it up. The name servers are here too. In each ROOT, the
//! root directory of a distribution (`debootstrap` makes one), the quick start under
//! an overlay: the directory itself is not written to. Needs Linux with user
//! namespaces, or root, and `unshare`, `mount`, `chroot` and `ip`.

mod name_server;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{env, thread, time};

use self::name_server::{Answer, NameServer};
use crate::process::{output, run};

const HELP: &str = "\
usage: cargo xtask portable QYV [ROOT]...

Runs the static binary QYV in empty roots, and looks up names with it in every way
that /etc/hosts and /etc/resolv.conf allow. Runs the quick start in each ROOT too,
the root directory of a distribution, which is not written to.";

/// Says that the namespaces are there.
const INSIDE: &str = "--inside";

const HUB_PORT: u16 = 5000;

/// Runs the checks, each of which is told.
pub(crate) fn portable(args: &[String]) -> Result<(), String> {
    match args {
        [binary, ..] if !binary.starts_with('-') => {
            let absolute = |path| fs::canonicalize(path).map_err(|e| format!("{path}: {e}"));
            let paths = args.iter().map(absolute).collect::<Result<Vec<_>, _>>()?;
            let own = env::current_exe().map_err(|e| e.to_string())?;
            let script = "ip link set lo up && exec \"$@\"";
            run(Command::new("unshare")
                .args(["-rnm", "sh", "-c", script, "sh"])
                .arg(own)
                .args(["portable", INSIDE])
                .args(paths))
        }
        [inside, binary, roots @ ..] if inside == INSIDE => check(Path::new(binary), roots),
        [help] if help == "--help" || help == "-h" => {
            println!("{HELP}");
            Ok(())
        }
        _ => Err(HELP.to_string()),
    }
}

fn check(binary: &Path, roots: &[String]) -> Result<(), String> {
    // A name that nobody could have taken before.
    let scratch = tempfile::tempdir().map_err(|e| format!("a temporary directory: {e}"))?;
    in_empty_root(binary, &scratch.path().join("empty"))?;
    for (index, root) in roots.iter().enumerate() {
        in_distribution(binary, Path::new(root), &scratch.path().join(format!("root-{index}")))?;
    }
    by_name(binary, scratch.path())
}

/// A root that holds the binary and the given files.
fn root(binary: &Path, directory: &Path, files: &[(&str, &str)]) -> Result<PathBuf, String> {
    let failed = |e: std::io::Error| format!("{}: {e}", directory.display());
    let _ = fs::remove_dir_all(directory);
    fs::create_dir_all(directory.join("etc")).map_err(failed)?;
    fs::copy(binary, directory.join("qyv")).map_err(failed)?;
    for (name, text) in files {
        fs::write(directory.join(name), text).map_err(failed)?;
    }
    Ok(directory.to_path_buf())
}

fn in_root(root: &Path) -> Command {
    let mut command = Command::new("chroot");
    command.arg(root).arg("/qyv").env_clear();
    command
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("QYVOL_HOME", "/qyvol");
    command
}

fn in_empty_root(binary: &Path, directory: &Path) -> Result<(), String> {
    let root = root(binary, directory, &[])?;
    fs::remove_dir(root.join("etc")).map_err(|e| e.to_string())?;
    output(in_root(&root).arg("quickstart"))?;
    let left: Vec<_> = fs::read_dir(&root).into_iter().flatten().flatten().collect();
    if left.len() != 1 {
        return Err("the quick start left something in an empty root".to_string());
    }
    println!("ok: the quick start in an empty root");
    Ok(())
}

/// Runs the quick start over `root`, which is the lower layer of an overlay.
fn in_distribution(binary: &Path, root: &Path, scratch: &Path) -> Result<(), String> {
    let [upper, work, merged] = ["upper", "work", "merged"].map(|name| scratch.join(name));
    for directory in [&upper, &work, &merged] {
        let failed = |e: std::io::Error| format!("{}: {e}", directory.display());
        fs::create_dir_all(directory).map_err(failed)?;
    }
    fs::copy(binary, upper.join("qyv")).map_err(|e| format!("{}: {e}", upper.display()))?;
    let [lower, upper, work] = [root, &upper, &work].map(Path::display);
    // The characters that end a path in the options of an overlay.
    if let Some(character) = root.to_string_lossy().chars().find(|c| ",:\\".contains(*c)) {
        return Err(format!("{lower}: an overlay can't be over a path with `{character}`"));
    }
    let layers = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    let mut mount = Command::new("mount");
    mount.args(["-t", "overlay", "overlay", "-o", &layers]).arg(&merged);
    run(&mut mount)?;
    let done = output(in_root(&merged).arg("quickstart")).map_err(|e| format!("{lower}: {e}"));
    // Whatever came of it: the scratch directory is removed at the end.
    let unmounted = run(Command::new("umount").arg(&merged));
    done?;
    unmounted?;
    println!("ok: the quick start in {lower}");
    Ok(())
}

/// A registry that ends with this value.
struct Hub(Child);

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Hub {
    fn start(root: &Path, address: &str) -> Result<Hub, String> {
        let mut serve = in_root(root);
        serve.args(["hub", "serve", "--data", "/hub", "--listen", address]);
        let hub = serve.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let hub = Hub(hub.map_err(|e| format!("the hub: {e}"))?);
        let end = time::Instant::now() + time::Duration::from_secs(30);
        while std::net::TcpStream::connect(address).is_err() {
            if time::Instant::now() > end {
                return Err(format!("the hub does not listen on {address}"));
            }
            thread::yield_now();
        }
        Ok(hub)
    }
}

/// A way to find a host.
struct Case {
    what: &'static str,
    host: &'static str,
    hosts: &'static str,
    resolv: &'static str,
    found: bool,
}

const LIVE: &str = "nameserver 127.0.0.2\n";

const CASES: &[Case] = &[
    Case {
        what: "a name in /etc/hosts",
        host: "listed.test",
        hosts: "127.0.0.1 listed.test\n",
        resolv: "nameserver 127.0.0.9\n",
        found: true,
    },
    Case {
        what: "a name of a name server",
        host: "plain.test",
        hosts: "",
        resolv: LIVE,
        found: true,
    },
    Case {
        what: "a short name in a search domain, the second of two",
        host: "short",
        hosts: "",
        resolv: "search none.test corp.test\nnameserver 127.0.0.2\n",
        found: true,
    },
    Case {
        what: "a name when nothing listens at the first server",
        host: "plain.test",
        hosts: "",
        resolv: "nameserver 127.0.0.9\nnameserver 127.0.0.2\n",
        found: true,
    },
    Case {
        what: "a name when the first server is silent",
        host: "plain.test",
        hosts: "",
        resolv: "nameserver 127.0.0.3\nnameserver 127.0.0.2\noptions timeout:1\n",
        found: true,
    },
    Case {
        what: "a name that has an IPv6 address alone",
        host: "six.test",
        hosts: "",
        resolv: LIVE,
        found: true,
    },
    Case {
        what: "a name by a name server on IPv6",
        host: "plain.test",
        hosts: "",
        resolv: "nameserver ::1\n",
        found: true,
    },
    Case {
        what: "an answer that is cut short over UDP and whole over TCP",
        host: "large.test",
        hosts: "",
        resolv: LIVE,
        found: true,
    },
    Case {
        what: "a name that nobody has",
        host: "absent.test",
        hosts: "",
        resolv: LIVE,
        found: false,
    },
];

fn by_name(binary: &Path, scratch: &Path) -> Result<(), String> {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let names = [
        ("plain.test", Answer::Address(loopback)),
        ("short.corp.test", Answer::Address(loopback)),
        ("six.test", Answer::Address(IpAddr::V6(Ipv6Addr::LOCALHOST))),
        ("large.test", Answer::CutShort(loopback)),
    ];
    let _servers = [
        NameServer::start("127.0.0.2:53", &names)?,
        NameServer::start("[::1]:53", &names)?,
        NameServer::silent("127.0.0.3:53")?,
    ];
    let publisher = root(binary, &scratch.join("publisher"), &[])?;
    let _hubs = [
        Hub::start(&publisher, &format!("127.0.0.1:{HUB_PORT}"))?,
        Hub::start(&root(binary, &scratch.join("six"), &[])?, &format!("[::1]:{HUB_PORT}"))?,
    ];
    for case in CASES {
        let files = [("etc/hosts", case.hosts), ("etc/resolv.conf", case.resolv)];
        let root = root(binary, &scratch.join("host"), &files)?;
        let host = format!("{}:{HUB_PORT}", case.host);
        let mut catalog = in_root(&root);
        catalog.args(["catalog", &host, "--plain-http", &host, "--retries", "0"]);
        let done = catalog.output().map_err(|e| e.to_string())?;
        let said = String::from_utf8_lossy(&done.stderr);
        let good = match case.found {
            true => done.status.success(),
            false => !done.status.success() && said.contains("no such host"),
        };
        if !good {
            return Err(format!("{}: {}: {said}", case.what, done.status));
        }
        println!("ok: {}", case.what);
    }
    Ok(())
}
