//! Just enough of DER to write certificates and time stamps with, right or wrong.

pub const EC_SHA256: &str = "1.2.840.10045.4.3.2";

pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        n if n < 0x80 => out.push(n as u8),
        n if n < 0x100 => out.extend([0x81, n as u8]),
        n => out.extend([0x82, (n >> 8) as u8, n as u8]),
    }
    out.extend_from_slice(content);
    out
}

pub fn seq(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

pub fn set(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x31, &parts.concat())
}

/// A constructed context-specific element.
pub fn context(number: u8, content: &[u8]) -> Vec<u8> {
    tlv(0xa0 | number, content)
}

pub fn oid(text: &str) -> Vec<u8> {
    let arcs: Vec<u64> = text.split('.').map(|arc| arc.parse().unwrap()).collect();
    let mut out = vec![(arcs[0] * 40 + arcs[1]) as u8];
    for arc in &arcs[2..] {
        let groups = (1..=9).rev().map(|n| arc >> (7 * n)).skip_while(|g| *g == 0);
        out.extend(groups.map(|g| (g & 0x7f) as u8 | 0x80));
        out.push((arc & 0x7f) as u8);
    }
    tlv(6, &out)
}

/// A small number.
pub fn int(value: u8) -> Vec<u8> {
    tlv(2, &[value])
}

pub fn octets(content: &[u8]) -> Vec<u8> {
    tlv(4, content)
}

pub fn utf8(text: &str) -> Vec<u8> {
    tlv(0x0c, text.as_bytes())
}

pub fn bits(content: &[u8]) -> Vec<u8> {
    tlv(3, &[&[0], content].concat())
}

pub fn name(common: &str) -> Vec<u8> {
    match common {
        "" => seq(&[]),
        _ => seq(&[set(&[seq(&[oid("2.5.4.3"), utf8(common)])])]),
    }
}

/// `YYYYMMDDhhmmssZ` of a time in seconds since 1970, of the years from 2001 to 2099.
pub fn digits(time: u64) -> String {
    // Days since 2001-01-01, which begins four years of which the last is a leap year.
    let days = time / 86_400 - 11_323;
    let (cycle, day) = (days / 1461, days % 1461);
    let year = (day / 365).min(3);
    let mut day = day - year * 365;
    let february = if year == 3 { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < length {
            break;
        }
        (day, month) = (day - length, month + 1);
    }
    let (hour, minute, second) = (time / 3600 % 24, time / 60 % 60, time % 60);
    let year = 2001 + 4 * cycle + year;
    format!("{year}{month:02}{:02}{hour:02}{minute:02}{second:02}Z", day + 1)
}

pub fn utc(time: u64) -> Vec<u8> {
    tlv(0x17, &digits(time).as_bytes()[2..])
}

pub fn extension(id: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { tlv(1, &[0xff]) } else { Vec::new() };
    seq(&[oid(id), critical, octets(value)])
}

/// Basic constraints of an authority.
pub fn authority() -> Vec<u8> {
    extension("2.5.29.19", true, &seq(&[tlv(1, &[0xff])]))
}

/// A key usage: what its one byte of bits says (RFC 5280, 4.2.1.3).
pub fn usage(bits: u8) -> Vec<u8> {
    extension("2.5.29.15", true, &tlv(3, &[bits.trailing_zeros() as u8, bits]))
}

/// An extended key usage.
pub fn purpose(id: &str) -> Vec<u8> {
    // That of whoever stamps is critical (RFC 3161, 2.3).
    extension("2.5.29.37", id == super::TIME_STAMPING, &seq(&[oid(id)]))
}
