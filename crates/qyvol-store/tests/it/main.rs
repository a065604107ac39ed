//! The stores through their public interface. Each test is named after the
//! behaviour that holds.
#![allow(clippy::disallowed_methods, reason = "a test")]

#[cfg(test)]
mod blobs;
#[cfg(test)]
mod check;
#[cfg(test)]
mod code;
#[cfg(test)]
mod directories;
#[cfg(test)]
mod names;
#[cfg(test)]
#[path = "../../../../tests/needs.rs"]
#[allow(dead_code, reason = "another suite uses the rest")]
mod needs;
#[cfg(test)]
mod parsed;
#[cfg(test)]
mod partial;
#[cfg(test)]
mod processes;
#[cfg(test)]
mod prune;
#[cfg(test)]
mod seen;
#[cfg(test)]
mod support;
#[cfg(test)]
mod trees;
