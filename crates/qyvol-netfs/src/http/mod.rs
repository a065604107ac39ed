//! HTTP by ureq: one request, its answer, and what a failure below HTTP means.
//!
//! Invariants:
//! - every connection goes to an address that [`crate::Host`] gave; there are no
//!   proxies, and the environment is not read but for where certificates are;
//! - a redirect is followed to the same path of the same origin alone, with or without a
//!   slash at its end, for requests that change nothing;
//! - bodies come at a pace, and end at a limit.

mod client;
mod download;
mod early_response;
mod failure;
mod incoming;
mod resolver;
mod tls;

pub(crate) use client::{Answer, Client, Payload, Request};
pub(crate) use download::{Download, download};
