//! What a guard allows, denies and remembers.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::{IpAddr, SocketAddr};

use serde_json::json;

use super::*;

fn only(value: serde_json::Value) -> Net {
    Net::from_json(&value).unwrap()
}

fn guard(value: serde_json::Value) -> NetGuard {
    NetGuard::new(vec![only(value)])
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

impl NetGuard {
    fn accept_answers(&mut self, name: &str, answers: impl IntoIterator<Item = IpAddr>) -> Vec<IpAddr> {
        let answers = answers.into_iter();
        answers.filter(|answer| self.accept_answer(name, *answer)).collect()
    }

    fn connects(&mut self, address: &str) -> bool {
        self.allows(at(address), NetUse::TcpConnect)
    }
}

#[test]
fn nothing_is_allowed_where_nothing_is_asked_for() {
    for layers in [vec![], vec![Net::None], vec![Net::All, Net::None]] {
        let mut guard = NetGuard::new(layers);
        assert!(guard.denies_all() && !guard.allows_all());
        assert!(!guard.allows_lookup("a.example") && !guard.allows_lookup("1.1.1.1"));
        assert!(!guard.connects("1.1.1.1:443"));
        assert!(!guard.allows(at("0.0.0.0:0"), NetUse::TcpBind));
        assert!(!guard.allows(at("1.1.1.1:443"), NetUse::TcpAccept));
    }
}

#[test]
fn name_is_connected_to_only_at_what_it_led_to_and_at_its_port() {
    let mut guard = guard(json!({"connect": ["api.example.com:443"]}));
    assert!(guard.allows_lookup("API.example.com."));
    assert!(!guard.allows_lookup("example.com") && !guard.allows_lookup("api.example.com.evil.net"));
    assert!(!guard.connects("93.184.215.14:443"), "before it was looked up");
    assert_eq!(
        guard.accept_answers("API.example.com.", [ip("93.184.215.14")]),
        [ip("93.184.215.14")]
    );
    assert!(guard.connects("93.184.215.14:443"));
    assert!(guard.connects("[::ffff:93.184.215.14]:443"), "the same address");
    assert!(!guard.connects("93.184.215.14:80"));
    assert!(!guard.connects("93.184.215.15:443"));
}

#[test]
fn name_does_not_lead_into_special_ranges_unless_they_are_named() {
    let inside = ["127.0.0.1", "10.0.0.7", "169.254.169.254", "::1", "::ffff:10.0.0.7"].map(ip);
    let mut named = guard(json!({"connect": ["api.example.com:443"]}));
    assert!(named.accept_answers("api.example.com", inside).is_empty());
    assert!(!named.connects("10.0.0.7:443"));

    let mut both = guard(json!({"connect": ["db.example.com:5432", "10.0.0.0/8:5432"]}));
    assert_eq!(
        both.accept_answers("db.example.com", inside),
        [ip("10.0.0.7"), ip("::ffff:10.0.0.7")]
    );
    assert!(both.connects("10.0.0.7:5432"));
    // The name adds no port to the block.
    let mut other_port = guard(json!({"connect": ["db.example.com:443", "10.0.0.0/8:5432"]}));
    other_port.accept_answers("db.example.com", inside);
    assert!(!other_port.connects("10.0.0.7:443"));

    let mut local = guard(json!({"connect": ["localhost:8080"]}));
    assert!(local.connects("127.0.0.1:8080") && local.connects("[::1]:8080"));
    assert!(!local.connects("127.0.0.1:80"));
    assert_eq!(local.accept_answers("localhost", inside), [ip("127.0.0.1"), ip("::1")]);
}

#[test]
fn known_addresses_are_bounded_and_the_oldest_are_forgotten() {
    let mut guard = guard(json!({"connect": ["*.example.com:443"]}));
    let many = |first: u8| (0..=255).map(move |last| IpAddr::from([first, 1, 1, last]));
    for first in 20..=40 {
        guard.accept_answers("b.example.com", many(first));
    }
    assert!(!guard.connects("20.1.1.1:443"), "forgotten");
    assert!(guard.connects("40.1.1.1:443"));
}

#[test]
fn every_layer_must_allow_a_use() {
    let layers = [
        json!({"connect": ["*.example.com:443", "10.0.0.0/8:*"]}),
        json!({"connect": ["a.example.com:*"]}),
    ];
    let mut guard = NetGuard::new(layers.map(only).to_vec());
    assert!(guard.allows_lookup("a.example.com") && !guard.allows_lookup("b.example.com"));
    guard.accept_answers("a.example.com", [ip("1.1.1.1")]);
    assert!(guard.connects("1.1.1.1:443"));
    assert!(!guard.connects("1.1.1.1:80"), "the first layer has 443 alone");
    assert!(!guard.connects("10.0.0.1:443"), "the second layer has no block");
}

#[test]
fn socket_is_bound_where_it_may_listen_or_to_nothing_in_particular() {
    let mut connects = guard(json!({"connect": ["1.1.1.1:53"]}));
    for bind in [NetUse::TcpBind, NetUse::UdpBind] {
        assert!(connects.allows(at("0.0.0.0:0"), bind) && connects.allows(at("[::]:0"), bind));
        assert!(!connects.allows(at("0.0.0.0:40000"), bind));
    }
    assert!(!connects.allows(at("0.0.0.0:0"), NetUse::TcpListen));
    for take in [NetUse::TcpAccept, NetUse::UdpReceive] {
        assert!(!connects.allows(at("9.9.9.9:1"), take));
    }
    assert!(connects.allows(at("1.1.1.1:53"), NetUse::UdpReceive), "its answer");

    let mut listens = guard(json!({"listen": ["127.0.0.1:8080"]}));
    for bind in [NetUse::TcpBind, NetUse::TcpListen, NetUse::UdpBind] {
        assert!(listens.allows(at("127.0.0.1:8080"), bind));
        assert!(!listens.allows(at("0.0.0.0:8080"), bind));
        assert!(!listens.allows(at("127.0.0.1:8081"), bind));
    }
    assert!(listens.allows(at("9.9.9.9:1"), NetUse::TcpAccept));
}

#[test]
fn datagram_is_taken_only_where_listening_is_allowed_and_answered_by_datagrams_alone() {
    let mut listens = guard(json!({"listen": ["127.0.0.1:8080"]}));
    assert!(
        !listens.allows(at("0.0.0.0:0"), NetUse::UdpBind),
        "anybody could send there"
    );
    assert!(!listens.allows(at("9.9.9.9:1"), NetUse::UdpSend));
    assert!(listens.allows(at("9.9.9.9:1"), NetUse::UdpReceive));
    assert!(listens.allows(at("9.9.9.9:1"), NetUse::UdpSend));
    assert!(
        !listens.connects("9.9.9.9:1"),
        "whoever forges a sender would grant a connection"
    );
    assert!(listens.allows(at("8.8.8.8:1"), NetUse::TcpAccept));
    assert!(!listens.allows(at("8.8.8.8:1"), NetUse::UdpSend));
}

#[test]
fn value_of_a_newer_version_is_not_understood() {
    for value in [
        json!({"connect": ["a:1"], "quic": true}),
        json!({"connect": "a:1"}),
        json!({"connect": ["a"]}),
        json!({"listen": ["a.example:1"]}),
        json!({"connect": vec!["a:1"; MAX_ENDPOINTS + 1]}),
        json!(["a:1"]),
        json!("all"),
    ] {
        assert_eq!(Net::from_json(&value), None, "{value}");
    }
    assert_eq!(only(json!({})), Net::None);
}
