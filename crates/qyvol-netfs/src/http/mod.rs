//! HTTP by ureq: one request, its response, and what a failure below HTTP means.
//!
//! Invariants:
//! - every connection goes to an address that [`crate::Host`] returned; no proxies are
//!   used, and the environment is read only for the location of certificates;
//! - a redirect is followed only to the same path of the same origin, with or without a
//!   slash at its end, and only for requests that change nothing;
//! - bodies have a minimum speed and a maximum length.

mod client;
mod download;
mod early_response;
mod failure;
mod incoming;
mod resolver;
mod tls;

pub(crate) use client::{Answer, Client, Payload, Request};
pub(crate) use download::{Download, download};
