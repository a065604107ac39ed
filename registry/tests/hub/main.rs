//! The registry over its real socket, as a client sees it.

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
