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
//! [`build()`], [`verify()`], [`run()`] and [`push()`] each show an example of about ten lines.
//! A verb that opens a connection takes the registry client as an argument.
//!
//! Deliberately absent: output, the environment, the clock and the place of
//! the user's directories, which the command passes in as a [`Context`].

mod agent;
mod assets;
mod attest;
mod attestations;
mod build;
mod build_command;
mod call;
mod children;
mod compare;
mod context;
mod data;
mod dependencies;
mod encodings;
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
mod init;
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
mod revocations;
mod revoke;
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
pub use build_command::{BuildSetup, run_build};
pub use call::{CallArguments, CallRequest, Called, LinesRequest, call, call_lines};
pub use children::{Children, Remote, Running};
pub use compare::{CompareReport, CompareRequest, Comparison, compare};
pub use context::{Context, Home, policy_path};
pub use data::{DataName, DataRow, data_find, data_list, data_move, data_remove};
pub use dependencies::{Linking, LockChange, LockUse, UpdateReport, UpdateRequest, update};
pub use encodings::Encodings;
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
pub use init::{InitReport, InitRequest, Language, init};
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
    policy_or_key, public_key,
};
pub use policy_check::{ImageCheck, check_images};
pub use remote::{
    EncodeReport, EncodeRequest, EncodedRow, PullRequest, PushRequest, TransferReport, TransferredBlob, copy, encode,
    inspect_remote, pull, push, remove_remote, tags,
};
pub use revoke::revoke;
pub use run::{Debugging, DirGrant, Outcome, Overrides, Pull, RunEvents, RunFigures, RunRequest, compile, run};
pub use save::{LoadRequest, load, save};
pub use sbom::{CycloneDx, sbom};
pub use serve::{AppEntry, Reload, ServeLimits, ServeNotice, ServeRequest, ServedApp, TlsFiles, read_apps, serve};
pub use sign::{Claims, SignReport, SignRequest, release_predicate, sign};
pub use signatures::{CleanRequest, RemovedSignature, clean};
pub use signer::{FirstKey, SignerChoice};
pub use target::Target;
pub use temp_file::{CleanupGuard, TempFiles};
pub use validate::{Application, Use, Validated, check_application, validate};
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
