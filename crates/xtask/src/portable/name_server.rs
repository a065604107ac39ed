//! A name server for a few names, over UDP and TCP (RFC 1035).

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::thread;

const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const HEADER: usize = 12;
/// Response, recursion desired and available.
const FLAGS: u16 = 0x8180;
const TRUNCATED: u16 = 0x0200;
const NAME_ERROR: u16 = 3;

/// What a name has.
#[derive(Clone, Copy)]
pub(super) enum Answer {
    /// One address.
    Address(IpAddr),
    /// The same, over TCP alone: over UDP the answer is marked as cut short.
    CutShort(IpAddr),
}

/// A server that answers until the process ends.
pub(super) struct NameServer {
    /// Kept open, so that a silent server is one that has the question.
    _socket: Option<UdpSocket>,
}

impl NameServer {
    /// Answers for `names`, and that there are no others.
    pub(super) fn start(address: &str, names: &[(&'static str, Answer)]) -> Result<NameServer, String> {
        let failed = |e: std::io::Error| format!("a name server on {address}: {e}");
        let datagrams = UdpSocket::bind(address).map_err(failed)?;
        let streams = TcpListener::bind(address).map_err(failed)?;
        let (for_datagrams, for_streams) = (names.to_vec(), names.to_vec());
        thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((size, peer)) = datagrams.recv_from(&mut question) {
                if let Some(answer) = question.get(..size).and_then(|q| respond(q, &for_datagrams, true)) {
                    let _ = datagrams.send_to(&answer, peer);
                }
            }
        });
        thread::spawn(move || {
            for mut stream in streams.incoming().flatten() {
                let mut size = [0; 2];
                let mut question = [0; 512];
                let question = &mut question[..];
                if stream.read_exact(&mut size).is_err() {
                    continue;
                }
                let Some(question) = question.get_mut(..usize::from(u16::from_be_bytes(size))) else {
                    continue;
                };
                if stream.read_exact(question).is_ok()
                    && let Some(answer) = respond(question, &for_streams, false)
                    && let Ok(size) = u16::try_from(answer.len())
                {
                    let _ = stream.write_all(&[&size.to_be_bytes(), answer.as_slice()].concat());
                }
            }
        });
        Ok(NameServer { _socket: None })
    }

    /// Takes questions and never answers.
    pub(super) fn silent(address: &str) -> Result<NameServer, String> {
        let socket = UdpSocket::bind(address).map_err(|e| format!("a name server on {address}: {e}"))?;
        Ok(NameServer { _socket: Some(socket) })
    }
}

/// The answer to a question.
fn respond(question: &[u8], names: &[(&str, Answer)], is_datagram: bool) -> Option<Vec<u8>> {
    let (name, end) = read_name(question)?;
    let kind = u16::from_be_bytes(question.get(end..end + 2)?.try_into().ok()?);
    let asked = question.get(HEADER..end + 4)?;
    let found = names
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, answer)| *answer);
    let (flags, address) = match found {
        None => (FLAGS | NAME_ERROR, None),
        Some(Answer::CutShort(_)) if is_datagram => (FLAGS | TRUNCATED, None),
        Some(Answer::Address(address) | Answer::CutShort(address)) => (FLAGS, Some(address)),
    };
    let data = match (address, kind) {
        (Some(IpAddr::V4(address)), TYPE_A) => Some(address.octets().to_vec()),
        (Some(IpAddr::V6(address)), TYPE_AAAA) => Some(address.octets().to_vec()),
        _ => None,
    };
    let mut answer = question.get(..2)?.to_vec();
    for number in [flags, 1, u16::from(data.is_some()), 0, 0] {
        answer.extend(number.to_be_bytes());
    }
    answer.extend(asked);
    if let Some(data) = data {
        // The name by a pointer to the question, class IN, for a minute.
        answer.extend([0xc0, HEADER as u8]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 60]);
        answer.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
        answer.extend(data);
    }
    Some(answer)
}

/// The name that is asked for, and where its type stands.
fn read_name(question: &[u8]) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*question.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        let label = question.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_lowercase());
        at += length;
    }
}
