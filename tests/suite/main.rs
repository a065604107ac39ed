//! The black-box suite: what a user of the `qyv` binary can see.
//!
//! Hermetic: every test has a home, an environment and a directory of its own.
//! Third parties (openssl, skopeo, zstd, node) are started where a claim is
//! about them; one that is missing fails the test and names the package.
#![allow(clippy::disallowed_methods, reason = "a test")]
// Clippy knows tests by their attribute alone, not their helpers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../needs.rs"]
mod needs;

mod archive;
mod attest;
mod build;
mod build_command;
mod call;
mod call_async;
mod call_lines;
mod cli;
mod clients;
mod compile;
mod compose;
mod compose_lock;
mod compose_registry;
mod compose_values;
mod cosign;
mod debugging;
mod denials;
mod deterministic;
mod dev;
mod doctor;
mod encode;
mod exhaustion;
mod first_use;
mod fleet;
mod forged;
mod functions;
mod functions_http;
mod guest_files;
mod guide;
mod hints;
mod http;
#[cfg(feature = "import")]
mod import;
#[cfg(feature = "import")]
mod import_refused;
#[cfg(feature = "import")]
mod import_strict;
mod init;
mod keyless;
mod keys;
mod kill;
mod killed;
mod matrix;
mod netfs;
mod output;
mod overlay;
#[cfg(feature = "hub")]
mod page;
#[cfg(feature = "hub")]
mod page_browser;
#[cfg(feature = "hub")]
mod page_hostile;
mod permissions;
mod pipelines;
mod poisoned;
mod policy;
mod policy_parsed;
mod process;
mod processes;
mod promote;
#[cfg(feature = "import")]
mod publisher;
mod quota;
mod rebuild;
mod referrers;
mod registry;
mod registry_users;
mod resume;
mod revoked;
mod run;
mod run_options;
mod saved;
mod secrets;
mod serve;
mod serve_apps;
mod serve_clients;
mod serve_connections;
mod serve_end;
mod serve_framing;
mod serve_http2;
mod serve_log;
mod serve_policy;
mod serve_refused;
mod serve_reload;
mod serve_reuse;
mod service;
mod signers;
mod store;
mod support;
mod targets;
mod trust;
mod unprivileged;
mod verify;
mod wire;
