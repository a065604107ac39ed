//! The registry over its real socket, as a client sees it.
#![allow(clippy::disallowed_methods, reason = "a test")]
#![allow(clippy::unwrap_used, clippy::panic)]

mod access;
mod collection;
mod discovery;
mod hostile;
mod management;
mod pull;
mod push;
mod recovery;
mod support;
mod tls;
mod users;
