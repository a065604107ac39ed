//! The registry over its real socket, as a client sees it.

mod access;
mod collection;
mod discovery;
mod hostile;
mod management;
mod pull;
mod push;
mod recovery;
mod support;
