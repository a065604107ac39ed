//! Qyvol's verbs, one module each, every one a function from top to bottom.
//!
//! The facade is the only place where images, trust, stores and the runtime
//! meet. The order in [`run()`] is the product's promise: head, policy and
//! signatures, config, blobs, assets, compiled code, guest.
//!
//! ```text
//!   build, sign         .qyv + wasm + assets -> .qyvbin, or an image in the store
//!   push, pull, copy    archive, store, registry <-> archive, store, registry
//!   run, serve, call    target -> head -> policy: Verified -> blobs -> code -> guest
//! ```
//!
//! Invariants:
//! - a target is resolved once, into a descriptor; after that its name only
//!   selects the policy's rule;
//! - nothing of an image is unpacked, compiled or run unless it is
//!   [`qyvol_trust::Verified`];
//! - whatever fails leaves the store and the output as they were.
//!
//! # Build, verify, run
//!
//! A host is a directory; the context says which, and what time it is.
//!
//! ```
//! use std::path::Path;
//!
//! use qyvol::types::Timestamp;
//! use qyvol::{BuildRequest, Context, Home, Outcome, RunRequest, Target, TempFiles};
//!
//! # let scratch = tempfile::tempdir()?;
//! # let directory = scratch.path();
//! # let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/hello");
//! let temporaries = TempFiles::default();
//! let now = Timestamp::from_unix(1_800_000_000)?;
//! let host = Context::new(Home::in_directory(&directory.join("home")), now, &temporaries);
//!
//! // Packed and signed, by this host's own key.
//! let file = directory.join("hello.qyvbin");
//! let request = BuildRequest { output: Some(&file), ..BuildRequest::new(&example) };
//! let report = qyvol::build(&host, &request)?;
//! println!("{} as {}", report.built.descriptor.digest, report.built.name);
//!
//! // Accepted by this host's policy, all content as it was signed.
//! let target = Target::Archive(file.clone());
//! let accepted = qyvol::verify(&host, &target, None)?;
//! assert_eq!(accepted[0].image, "hello-qyvol:1.0.0");
//!
//! // Verified again, then run, with this process's standard streams.
//! let outcome = qyvol::run(&host, &RunRequest::new(&target))?;
//! assert_eq!(outcome, Outcome::Code(0));
//!
//! // Another host has not been told to trust that key.
//! let other = Context::new(Home::in_directory(&directory.join("other")), now, &temporaries);
//! assert!(qyvol::run(&other, &RunRequest::new(&target)).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Push
//!
//! What opens a connection takes the client as an argument.
//!
//! ```no_run
//! use qyvol::remote_store::{Anonymous, Client, Options};
//! use qyvol::{Context, Target};
//!
//! fn publish(host: &Context<'_>) -> Result<(), Box<dyn std::error::Error>> {
//!     let client = Client::new(Options::default(), Box::new(Anonymous), Box::new(|what| eprintln!("{what}")));
//!     let target = Target::Archive("hello.qyvbin".into());
//!     let name = "registry.example/team/hello:1.0.0".parse()?;
//!     let report = qyvol::push(host, &client, &target, &[name], false)?;
//!     println!("{} with {} signatures", report.digest, report.signatures);
//!     Ok(())
//! }
//! ```
//!
//! Deliberately absent: output, the environment, the clock and the place of
//! the user's directories, which the command passes in as a [`Context`].

mod agent;
mod assets;
mod attest;
mod attestations;
mod build;
mod call;
mod compare;
mod context;
mod data;
mod dependencies;
mod error;
mod error_class;
mod error_context;
mod external_signer;
mod follow;
mod functions;
mod hosts;
mod image_name;
mod image_source;
mod images;
#[cfg(feature = "import")]
mod import;
mod inspect;
mod install;
mod keys;
mod memfs;
mod mounts;
mod netfs;
mod new_file;
mod output;
mod pin;
mod policy;
mod policy_check;
mod policy_file;
mod policy_record;
mod remote;
mod reuse;
mod run;
mod runnable;
mod save;
mod sbom;
mod secure_file;
mod serve;
mod shared_memory;
mod sign;
mod signatures;
mod signer;
mod supported;
mod target;
mod temp_file;
mod text_file;
mod validate;
mod verify;
mod verify_many;

pub use attest::{AttestReport, AttestRequest, Stated, attest};
pub use build::{BuildReport, BuildRequest, build};
pub use call::{CallArguments, CallRequest, Called, LinesRequest, call, call_lines};
pub use compare::{CompareReport, CompareRequest, Comparison, compare};
pub use context::{Context, Home, policy_path};
pub use data::{DataName, DataRow, data_find, data_list, data_move, data_remove};
pub use dependencies::{Linking, LockChange, LockUse, UpdateReport, UpdateRequest, update};
pub use error::Error;
pub use error_class::ErrorClass;
pub use follow::{
    FollowSource, PolicyExport, PolicyPush, PolicySign, PolicySigned, PolicyUpdate, PublishedPolicies, export_policies,
    follow, import_policy, pull_policy, push_policies, sign_policy,
};
pub use hosts::{hosts_files, hosts_path, load_hosts, read_certificates};
pub use image_name::ImageName;
pub use image_source::ImageSource;
pub use images::{ImageRow, check, images, prune, prune_plan, remove, tag};
#[cfg(feature = "import")]
pub use import::{ImportReport, ImportRequest, Origin, import};
pub use inspect::{
    AttestationView, Inspection, SignatureView, SourceView, WasmView, assets, functions, inspect, inspect_wasm, wit,
};
pub use keys::{KeyRow, Keyring, Passphrase, SECRET_KEY_TEXT};
pub use netfs::read_fs_credentials;
pub use new_file::NewFile;
pub use output::Destination;
pub use pin::{FirstUse, ReadFrom, first_use};
pub use policy::{
    PolicyChange, PolicyUsed, change_policy, describe_scope, key_id, key_name, key_to_trust, load_policy,
    policy_or_key, public_key, revocation,
};
pub use policy_check::{ImageCheck, check_images};
pub use remote::{PullRequest, TransferReport, TransferredBlob, copy, inspect_remote, pull, push, remove_remote, tags};
pub use run::{Debugging, DirGrant, Outcome, Overrides, Pull, RunEvents, RunFigures, RunRequest, compile, run};
pub use save::{LoadRequest, load, save};
pub use sbom::{CycloneDx, sbom};
pub use serve::{AppEntry, Reload, ServeLimits, ServeNotice, ServeRequest, ServedApp, TlsFiles, read_apps, serve};
pub use sign::{Claims, SignReport, SignRequest, release_predicate, sign};
pub use signatures::{CleanRequest, RemovedSignature, clean};
pub use signer::{FirstKey, SignerChoice};
pub use target::Target;
pub use temp_file::{CleanupGuard, TempFiles};
pub use validate::{Application, Validated, check_application, validate};
pub use verify::{Explanation, VerifyReport, explain, verify};
pub use verify_many::{TargetVerdict, VerifyRequest, verify_many};

#[cfg(test)]
#[path = "../../../tests/needs.rs"]
#[allow(
    dead_code,
    clippy::disallowed_methods,
    reason = "of the suites, which are no library"
)]
mod needs;

pub use qyvol_compose as compose;
pub use qyvol_image as image;
pub use qyvol_netfs::Credentials as FsCredentials;
pub use qyvol_remote as remote_store;
pub use qyvol_runtime as runtime;
pub use qyvol_sandbox as sandbox;
pub use qyvol_serve as server;
pub use qyvol_store as store;
pub use qyvol_trust as trust;
pub use qyvol_types as types;
