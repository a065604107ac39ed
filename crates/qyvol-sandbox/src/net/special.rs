//! Addresses that a name must not resolve to unless a rule lists the address or block.
//!
//! Whoever controls a name's DNS decides what it resolves to: without this, a public
//! name could be pointed at the host itself, its network, or a cloud's metadata
//! service. The ranges are those of the IANA special-purpose
//! registries (RFC 6890) that are not globally reachable, and those that embed
//! an IPv4 address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address is of this host, of a private network, or of no host.
pub(super) fn is_special(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_special_v4(address),
        IpAddr::V6(address) => is_special_v6(address),
    }
}

fn is_special_v4(address: Ipv4Addr) -> bool {
    matches!(
        address.octets(),
        [0 | 10 | 127, ..]
            | [100, 64..=127, ..]
            | [169, 254, ..]
            | [172, 16..=31, ..]
            | [192, 0, 0, _]
            | [192, 0, 2, _]
            | [192, 88, 99, _]
            | [192, 168, ..]
            | [198, 18..=19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
            | [224..=255, ..]
    )
}

fn is_special_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        // NAT64: an IPv4 address behind it.
        [0x0064, 0xff9b, ..] => true,
        // Teredo, benchmarking, ORCHID and documentation; 6to4.
        [0x2001, 0x0000..=0x01ff | 0x0db8, ..] | [0x2002, ..] => true,
        [0x3fff, second, ..] => second < 0x1000,
        // Only the range that is allocated for global unicast.
        [first, ..] => !(0x2000..=0x3fff).contains(&first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_internet_are_distinguished_from_all_others() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for special in [
            "0.0.0.0",
            "10.1.2.3",
            "100.100.100.200",
            "127.0.0.1",
            "169.254.169.254",
            "172.31.255.255",
            "192.168.1.1",
            "198.19.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "100::1",
            "2001:db8::1",
            "2001::1",
            "2002:7f00:1::",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(is_special(ip(special)), "{special}");
        }
        for reachable in [
            "1.1.1.1",
            "100.63.0.1",
            "172.32.0.1",
            "2606:4700::1111",
            "2001:4860::8888",
        ] {
            assert!(!is_special(ip(reachable)), "{reachable}");
        }
    }
}
