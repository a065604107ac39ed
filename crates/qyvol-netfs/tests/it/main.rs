//! Remote trees on servers that lie, stall, forget and change, and on other people's
//! servers: the private directory must have what is true, or nothing.
//!
//! The faulty server is a correct one in memory (`site`) with faults put onto its
//! answers one by one (`server`).
#![allow(clippy::disallowed_methods, reason = "a test")]

#[cfg(test)]
mod cached;
#[cfg(test)]
mod downloads;
#[cfg(test)]
mod flushes;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod http;
#[cfg(test)]
#[path = "../../../../tests/needs.rs"]
#[allow(dead_code, reason = "another suite uses the rest")]
mod needs;
#[cfg(test)]
mod network;
#[cfg(test)]
mod real;
#[cfg(test)]
mod real_s3;
#[cfg(test)]
mod real_webdav;
#[cfg(test)]
mod s3;
#[cfg(test)]
mod server;
#[cfg(test)]
mod site;
#[cfg(test)]
mod support;
#[cfg(test)]
mod uploads;
#[cfg(test)]
mod versions;
#[cfg(test)]
mod webdav;
#[cfg(test)]
mod writes;
