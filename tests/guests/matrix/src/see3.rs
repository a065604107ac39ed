//! All that WASI 0.3 shows.

use wasip3::cli::{environment, stdin, terminal_stderr, terminal_stdin, terminal_stdout};
use wasip3::clocks::{monotonic_clock, system_clock};
use wasip3::filesystem::preopens::get_directories;
use wasip3::random::{insecure, insecure_seed, random};
use wasip3::sockets::ip_name_lookup::resolve_addresses;
use wasip3::sockets::types::{IpAddressFamily, TcpSocket, UdpSocket};

use crate::driver::{kebab, list};
use crate::library::{of_today, since_start, Seen};

fn shown<T, E: std::fmt::Debug>(outcome: Result<T, E>) -> String {
    outcome.map_or_else(|code| kebab(&format!("{code:?}")), |_| "ok".to_string())
}

fn terminal(is_one: bool) -> &'static str {
    if is_one { "a terminal" } else { "no terminal" }
}

/// A line for each thing.
pub async fn all() -> String {
    let mut seen = Seen::default();
    seen.add("arguments", environment::get_arguments().into_iter().take(1).collect::<Vec<_>>().join(","));
    seen.add("environment", list(environment::get_environment().into_iter().map(|(name, _)| name).collect()));
    seen.add("initial directory", environment::get_initial_cwd().unwrap_or("none".to_string()));
    seen.add("directories", list(get_directories().into_iter().map(|(_, name)| name).collect()));
    let (mut stream, _) = stdin::read_via_stream();
    seen.add("stdin", if stream.next().await.is_none() { "at its end" } else { "has bytes" });
    seen.add("stdin is", terminal(terminal_stdin::get_terminal_stdin().is_some()));
    seen.add("stdout is", terminal(terminal_stdout::get_terminal_stdout().is_some()));
    seen.add("stderr is", terminal(terminal_stderr::get_terminal_stderr().is_some()));
    seen.add("wall clock", of_today(system_clock::now().seconds as u64));
    seen.add("wall clock, resolution", format!("{} ns", system_clock::get_resolution()));
    seen.add("monotonic clock", since_start(monotonic_clock::now()));
    seen.add("monotonic clock, resolution", format!("{} ns", monotonic_clock::get_resolution()));
    seen.add("random bytes", if random::get_random_bytes(16).len() == 16 { "ok" } else { "too few" });
    insecure::get_insecure_random_u64();
    seen.add("insecure random bytes", "ok");
    insecure_seed::get_insecure_seed();
    seen.add("insecure seed", "ok");
    seen.add("a TCP socket", shown(TcpSocket::create(IpAddressFamily::Ipv4)));
    seen.add("a UDP socket", shown(UdpSocket::create(IpAddressFamily::Ipv6)));
    seen.add("a name's addresses", shown(resolve_addresses("localhost".to_string()).await));
    seen.add("an address's addresses", shown(resolve_addresses("127.0.0.1".to_string()).await));
    seen.lines()
}
