//! Registries that lie, stall, forget and break off, and a client that must neither hang nor
//! trust them.
//!
//! The registry is a correct one in memory (`registry`), behind a server that injects faults
//! into its answers (`server`).
#![allow(clippy::disallowed_methods, reason = "a test")]

#[cfg(test)]
mod answers;
#[cfg(test)]
mod content;
#[cfg(feature = "import")]
#[cfg(test)]
mod foreign;
#[cfg(feature = "import")]
#[cfg(test)]
mod foreign_faults;
#[cfg(test)]
mod lists;
#[cfg(test)]
mod manifests;
#[cfg(test)]
#[path = "../../../../tests/needs.rs"]
#[allow(dead_code, reason = "another suite uses the rest")]
mod needs;
#[cfg(test)]
mod network;
#[cfg(test)]
mod quirks;
#[cfg(test)]
mod redirects;
#[cfg(test)]
mod registry;
#[cfg(test)]
mod server;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tokens;
#[cfg(test)]
mod uploads;
