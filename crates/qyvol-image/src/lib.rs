//! Images and the `.qyvbin` file that carries them: `spec/qyvbin.md` in code.
//!
//! ```text
//!   .qyv + wasm + assets --build--> blobs --write--> .qyvbin --open--> Archive
//! ```
//!
//! A `.qyvbin` is a canonical tar of an OCI image layout in zstd frames. The first frame, the
//! head, has all that `inspect` and signature checks read; the content follows, blob after
//! blob, in frames of [`frames::CHUNK_SIZE`].
//!
//! Invariants:
//! - writing is a pure function of an image and its signatures;
//! - reading is strict: the head must be, byte for byte, what the writer would write for the
//!   same content, and content must match its digests;
//! - memory is bounded by a few chunks, whatever the size of the content.
//!
//! Deliberately absent: keys and trust (an archive's signatures are opaque
//! bytes here), the network, and running anything.

mod archive;
mod assets;
mod build;
mod error;
mod file_id;
#[cfg(feature = "import")]
mod foreign_files;
#[cfg(feature = "import")]
mod foreign_tar;
pub mod frames;
mod functions;
mod head;
mod ignore_rules;
mod layout;
mod list;
mod parallel;
mod sbom;
mod seek_table;
mod signature;
mod tar_stream;
mod unpack;
mod wasm;
mod wasm_file;
mod write;

pub use archive::Archive;
pub use assets::{AssetFile, AssetPlan, SkippedDirectory, plan_assets};
pub use build::{BuildOptions, BuiltImage, ImageBuilder};
pub use error::ImageError;
pub use file_id::FileId;
#[cfg(feature = "import")]
pub use foreign_files::{FoundFiles, Wanted, find_wasm};
pub use functions::{JoinSources, Source};
pub use head::{Head, SignedImage, is_archive, is_qyvbin};
pub use ignore_rules::{is_temporary_name, temporary_name};
pub use layout::Layout;
pub use list::{FoundAsset, ListedAsset, find_asset, list_assets};
pub use sbom::{Package, Parts, Tool};
pub use signature::ImageSignature;
pub use unpack::{Unpacked, unpack_assets};
pub use wasm::{CheckTypes, ExportedFunction, Payload, componentize, functions};
pub use write::write_archive;
