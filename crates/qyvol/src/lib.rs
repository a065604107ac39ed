//! Qyvol's verbs, one module each, every one a function from top to bottom.
//!
//! The facade is the only place where images, trust, stores and the runtime
//! meet. The order in [`run()`] is the product's promise: head, policy and
//! signatures, config, blobs, assets, compiled code, guest.
//!
//! Invariants:
//! - a target is resolved once, into a descriptor; after that its name only
//!   selects the policy's rule;
//! - nothing of an image is unpacked, compiled or run unless it is
//!   [`qyvol_trust::Verified`];
//! - whatever fails leaves the store and the output as they were.
//!
//! Deliberately absent: output, the environment, the clock and the place of
//! the user's directories, which the command passes in as a [`Context`].

mod assets;
mod build;
mod context;
mod data;
mod error;
mod error_class;
mod hosts;
mod image_source;
mod images;
#[cfg(feature = "import")]
mod import;
mod inspect;
mod install;
mod keys;
mod memfs;
mod mounts;
mod output;
mod policy;
mod remote;
mod run;
mod runnable;
mod save;
mod secure_file;
mod shared_memory;
mod sign;
mod signatures;
mod signer;
mod supported;
mod target;
mod temp_file;
mod validate;
mod verify;

pub use build::{BuildReport, BuildRequest, build};
pub use context::{Context, Home};
pub use data::{DataName, DataRow, data_find, data_list, data_move, data_remove};
pub use error::Error;
pub use error_class::ErrorClass;
pub use hosts::{hosts_files, hosts_path, load_hosts, read_certificates};
pub use image_source::ImageSource;
pub use images::{ImageRow, check, images, prune, prune_plan, remove, tag};
#[cfg(feature = "import")]
pub use import::{ImportReport, ImportRequest, Origin, import};
pub use inspect::{Inspection, SignatureView, SourceView, WasmView, assets, inspect, inspect_wasm, wit};
pub use keys::{KeyRow, Keyring, Passphrase, SECRET_KEY_TEXT};
pub use output::Destination;
pub use policy::{
    PolicyChange, change_policy, describe_scope, key_id, key_name, key_to_trust, load_policy, policy_or_key,
    policy_path, public_key, revocation,
};
pub use remote::{PullRequest, TransferReport, TransferredBlob, copy, inspect_remote, pull, push, remove_remote, tags};
pub use run::{DirGrant, Outcome, Pull, RunEvents, RunRequest, compile, run};
pub use save::{LoadRequest, load, save};
pub use sign::{Claims, SignReport, SignRequest, sign};
pub use signatures::{CleanRequest, RemovedSignature, clean};
pub use signer::{FirstKey, SignerChoice};
pub use target::{ImageName, Target};
pub use temp_file::{CleanupGuard, TempFiles};
pub use validate::{Application, Validated, check_application, validate};
pub use verify::{Explanation, VerifyReport, explain, verify};

pub use qyvol_image as image;
pub use qyvol_remote as remote_store;
pub use qyvol_runtime as runtime;
pub use qyvol_sandbox as sandbox;
pub use qyvol_store as store;
pub use qyvol_trust as trust;
pub use qyvol_types as types;
