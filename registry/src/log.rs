//! The hub's log: events, passed to the caller's sink.
//!
//! This crate prints nothing. A sink is called on the thread that serves the request, so it
//! should only pass the event on. Events never contain a password, a token or a query string.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Ordinary work.
    Info,
    /// Something was refused or cut off; an operator may want to look into it.
    Warning,
    /// The hub could not do what it should.
    Error,
}

impl Level {
    /// The name used in a log line.
    pub fn name(self) -> &'static str {
        match self {
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

/// A request that was answered.
#[derive(Clone, Debug)]
pub struct RequestEvent {
    /// The client's address.
    pub remote: IpAddr,
    /// The method.
    pub method: String,
    /// The path without its query.
    pub path: String,
    /// The status answered.
    pub status: u16,
    /// The user, if one was recognised.
    pub user: Option<String>,
    /// Bytes of body received.
    pub received: u64,
    /// Bytes of body to be sent, as the answer states them.
    pub sent: u64,
    /// From the head of the request to the head of the answer.
    pub duration: Duration,
}

/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    /// When.
    pub time: SystemTime,
    /// How much it matters.
    pub level: Level,
    /// What happened, in a few words.
    pub message: String,
    /// The request, for events that are about one.
    pub request: Option<RequestEvent>,
}

/// Receives events.
pub type LogSink = Arc<dyn Fn(&Event) + Send + Sync>;

#[derive(Serialize)]
struct Line<'a> {
    time: u64,
    level: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    received: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    micros: Option<u64>,
}

impl Event {
    /// The event as one line of JSON without the line feed. `time` is in
    /// milliseconds since 1970.
    pub fn to_json(&self) -> String {
        let since = self.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let request = self.request.as_ref();
        let line = Line {
            time: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            level: self.level.name(),
            message: &self.message,
            remote: request.map(|r| r.remote.to_string()),
            method: request.map(|r| r.method.as_str()),
            path: request.map(|r| r.path.as_str()),
            status: request.map(|r| r.status),
            user: request.and_then(|r| r.user.as_deref()),
            received: request.map(|r| r.received),
            sent: request.map(|r| r.sent),
            micros: request.map(|r| u64::try_from(r.duration.as_micros()).unwrap_or(u64::MAX)),
        };
        serde_json::to_string(&line).unwrap_or_default()
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_json())
    }
}
