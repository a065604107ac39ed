//! All that WASI 0.2 shows.

use wasip2::cli::{environment, stdin, terminal_stderr, terminal_stdin, terminal_stdout};
use wasip2::clocks::{monotonic_clock, wall_clock};
use wasip2::filesystem::preopens::get_directories;
use wasip2::io::streams::StreamError;
use wasip2::random::{insecure, insecure_seed, random};
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::resolve_addresses;
use wasip2::sockets::network::{ErrorCode, IpAddressFamily};
use wasip2::sockets::{tcp_create_socket, udp_create_socket};

use crate::driver::list;
use crate::library::{of_today, since_start, Seen};

fn shown<T>(outcome: Result<T, ErrorCode>) -> String {
    outcome.map_or_else(|code| code.name().to_string(), |_| "ok".to_string())
}

fn terminal(is_one: bool) -> &'static str {
    if is_one { "a terminal" } else { "no terminal" }
}

/// A line for each thing.
pub fn all() -> String {
    let mut seen = Seen::default();
    seen.add("arguments", environment::get_arguments().into_iter().take(1).collect::<Vec<_>>().join(","));
    seen.add("environment", list(environment::get_environment().into_iter().map(|(name, _)| name).collect()));
    seen.add("initial directory", environment::initial_cwd().unwrap_or("none".to_string()));
    seen.add("directories", list(get_directories().into_iter().map(|(_, name)| name).collect()));
    seen.add("stdin", match stdin::get_stdin().blocking_read(1) {
        Err(StreamError::Closed) => "at its end",
        Ok(_) => "has bytes",
        Err(_) => "fails",
    });
    seen.add("stdin is", terminal(terminal_stdin::get_terminal_stdin().is_some()));
    seen.add("stdout is", terminal(terminal_stdout::get_terminal_stdout().is_some()));
    seen.add("stderr is", terminal(terminal_stderr::get_terminal_stderr().is_some()));
    seen.add("wall clock", of_today(wall_clock::now().seconds));
    seen.add("wall clock, resolution", format!("{} ns", wall_clock::resolution().nanoseconds));
    seen.add("monotonic clock", since_start(monotonic_clock::now()));
    seen.add("monotonic clock, resolution", format!("{} ns", monotonic_clock::resolution()));
    seen.add("random bytes", if random::get_random_bytes(16).len() == 16 { "ok" } else { "too few" });
    insecure::get_insecure_random_u64();
    seen.add("insecure random bytes", "ok");
    insecure_seed::insecure_seed();
    seen.add("insecure seed", "ok");
    let network = instance_network();
    seen.add("a TCP socket", shown(tcp_create_socket::create_tcp_socket(IpAddressFamily::Ipv4)));
    seen.add("a UDP socket", shown(udp_create_socket::create_udp_socket(IpAddressFamily::Ipv6)));
    seen.add("a name's addresses", shown(resolve_addresses(&network, "localhost")));
    seen.add("an address's addresses", shown(resolve_addresses(&network, "127.0.0.1")));
    seen.lines()
}
