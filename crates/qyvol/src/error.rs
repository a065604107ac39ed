//! What can go wrong in a verb. Hints and exit codes are the command's.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use qyvol_compose::ComposeError;
use qyvol_image::ImageError;
use qyvol_remote::RemoteError;
use qyvol_runtime::{ArgumentError, FunctionError, NO_HANDLER, OverlayError, RuntimeError, ServiceError};
use qyvol_store::{CopyError, StoreError};
use qyvol_trust::{Refusal, SignError, VerifyError};
use qyvol_types::yaml::Problems;
use qyvol_types::{Digest, DigestPrefix, Reference, escape};
use thiserror::Error as ThisError;

use crate::ImageName;

/// An error of a verb.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// Nothing was signed: a program, an agent or a key failed.
    #[error(transparent)]
    Signer(#[from] SignError),
    /// A `.qyv` has problems, each with its place.
    #[error("{} {}", escape(&path.to_string_lossy()), plural(problems.0.len()))]
    Yaml {
        /// The file.
        path: PathBuf,
        /// The problems.
        problems: Problems,
    },
    /// A trust policy has problems, each with its place.
    #[error("{} {}", escape(&path.to_string_lossy()), plural(problems.0.len()))]
    PolicyYaml {
        /// The file.
        path: PathBuf,
        /// The problems.
        problems: Problems,
    },
    /// `hosts.yaml` has problems, each with its place.
    #[error("{} {}", escape(&path.to_string_lossy()), plural(problems.0.len()))]
    HostsYaml {
        /// The file.
        path: PathBuf,
        /// The problems.
        problems: Problems,
    },
    /// A file of a server's applications has problems, each with its place.
    #[error("{} {}", escape(&path.to_string_lossy()), plural(problems.0.len()))]
    AppsYaml {
        /// The file.
        path: PathBuf,
        /// The problems.
        problems: Problems,
    },
    /// A file of a server's applications can't be used.
    #[error("applications file {}: {why}", escape(&path.to_string_lossy()))]
    Apps {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Two applications of one server have one name.
    #[error("two applications have the name {}", escape(name))]
    SameName {
        /// The name.
        name: String,
    },
    /// `hosts.yaml` can't be used.
    #[error("hosts file {}: {why}", escape(&path.to_string_lossy()))]
    Hosts {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The `build` of a manifest can't be started.
    #[error("can't start `{}`, the `build` of {}: {source}", escape(program), escape(&path.to_string_lossy()))]
    BuildStart {
        /// The manifest.
        path: PathBuf,
        /// The program.
        program: String,
        /// Why it can't be started.
        source: io::Error,
    },
    /// The `build` of a manifest failed.
    #[error("the `build` of {} failed: `{}` {why}", escape(&path.to_string_lossy()), escape(program))]
    BuildFailed {
        /// The manifest.
        path: PathBuf,
        /// The program.
        program: String,
        /// How it ended.
        why: String,
    },
    /// A file can't be read or written.
    #[error("can't {action} {}: {source}", escape(&path.to_string_lossy()))]
    File {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The output is a file that the command reads.
    #[error("can't write {}: this command reads that file, or it is in the store or among the keys", escape(&path.to_string_lossy()))]
    OutputIsInput {
        /// The output.
        path: PathBuf,
    },
    /// The output is a file that a build does not make.
    #[error("can't write {}: the file there is not a .qyvbin", escape(&path.to_string_lossy()))]
    OutputExists {
        /// The output.
        path: PathBuf,
    },
    /// The source of an import has chosen the output's name, and a file is there.
    #[error("can't write {}: there is a file, and the source has chosen this name", escape(&path.to_string_lossy()))]
    OutputKept {
        /// The output.
        path: PathBuf,
    },
    /// An image or archive is at fault; `target` is what the user named.
    #[error("{}: {source}", escape(target))]
    Image {
        /// What the user named.
        target: String,
        /// The fault.
        source: ImageError,
    },
    /// An image's manifest or config is at fault.
    #[error("{}: {why}", escape(target))]
    Malformed {
        /// What the user named.
        target: String,
        /// The fault.
        why: String,
    },
    /// The image is another tool's.
    #[error("{}: {why}", escape(target))]
    Foreign {
        /// What the user named.
        target: String,
        /// What shows it.
        why: String,
    },
    /// The source of an import is an image of Qyvol.
    #[error("{name} is an image of Qyvol already")]
    AlreadyImage {
        /// Its name.
        name: Reference,
    },
    /// The source of an import has several layers, or none that can be recognised.
    #[error("{}: {why}", escape(target))]
    Layers {
        /// What the user named.
        target: String,
        /// Why none was chosen.
        why: String,
        /// The layers, or files of a container image.
        layers: Vec<String>,
        /// Whether they are files, of which none can be named.
        are_files: bool,
    },
    /// The source of an import is for none of our platforms, or has several images for one.
    #[error("{}: {}", escape(target), match is_several {
        true => "it has several images for the same WebAssembly platform",
        false => "none of its platforms is WebAssembly",
    })]
    Platforms {
        /// What the user named.
        target: String,
        /// Whether it has several images for one.
        is_several: bool,
        /// Its platforms.
        platforms: Vec<String>,
    },
    /// An image can't be a dependency.
    #[error("the dependency `{}` ({}): {why}", escape(key), escape(image))]
    Dependency {
        /// Its key in the manifest.
        key: String,
        /// The image, and the version that is asked for.
        image: String,
        /// Why not.
        why: String,
    },
    /// The lock does not fit the manifest, or an image.
    #[error("the dependency `{}` is not as qyv.lock has it: {why}", escape(key))]
    Lock {
        /// Its key in the manifest.
        key: String,
        /// What differs.
        why: String,
    },
    /// Dependencies can't be linked.
    #[error("{}: its dependencies can't be linked: {source}", escape(target))]
    Compose {
        /// What the user named.
        target: String,
        /// All that is wrong.
        source: ComposeError,
    },
    /// The store's copy of an image can't be used.
    #[error("{}: {source}", escape(target))]
    Stored {
        /// What the user named.
        target: String,
        /// What is wrong with it.
        source: StoreError,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A registry failed, or refused.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// Copying between stores failed.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// Trust refused.
    #[error("{}: {source}", escape(target))]
    Trust {
        /// What the user named.
        target: String,
        /// The refusal.
        source: Box<VerifyError>,
    },
    /// The rollback state can't be read or written.
    #[error(
        "{}: refused: the policy denies rollback, which can't be ruled out: {why}",
        escape(target)
    )]
    State {
        /// What the user named.
        target: String,
        /// Why.
        why: String,
    },
    /// The trust policy can't be used.
    #[error("trust policy {}: {why}", escape(&path.to_string_lossy()))]
    Policy {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The policy's next documents are not followed; `from` is where they came from.
    #[error("{}: {why}", escape(from))]
    PolicyUpdate {
        /// The file or repository.
        from: String,
        /// What kind of refusal it is.
        refusal: Refusal,
        /// Why.
        why: String,
    },
    /// The policy is followed, so that commands don't change it.
    #[error("trust policy {}: this host follows the policy `{}`, which its publisher changes", escape(&path.to_string_lossy()), escape(name))]
    Followed {
        /// The file.
        path: PathBuf,
        /// The policy's name.
        name: String,
    },
    /// A key can't be used.
    #[error("key {}: {why}", escape(key))]
    Key {
        /// Its name or file.
        key: String,
        /// Why.
        why: String,
    },
    /// Others can read a private key's file.
    #[error("key {}: others can read its file (mode {mode:04o})", escape(&path.to_string_lossy()))]
    KeyMode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Whether it belongs to the caller, who can change that.
        own: bool,
    },
    /// The private half of a key would be lost.
    #[error(
        "removing the key `{}` removes its private half, which may be the last copy",
        escape(key)
    )]
    LastCopy {
        /// Its name.
        key: String,
    },
    /// No key of this name.
    #[error("there is no key `{}` in {}", escape(key), escape(&directory.to_string_lossy()))]
    NoKey {
        /// Its name.
        key: String,
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// No key is given to sign with, and none may be made.
    #[error("no signing key is given, and none is made in a pipeline")]
    NoSigner,
    /// No image of this name in the store.
    #[error("there is no image {name} in the store")]
    NoImage {
        /// The name.
        name: Box<ImageName>,
        /// Other names of its repository.
        others: Vec<Reference>,
    },
    /// The store lacks the image of a dependency.
    #[error("the dependency `{}`: there is no image {name} in the store", escape(key))]
    NoDependency {
        /// Its key in the manifest.
        key: String,
        /// The image's name.
        name: Box<ImageName>,
    },
    /// Several images of the store have digests that begin so.
    #[error("{prefix} is ambiguous: {} images have digests that begin with it", digests.len())]
    Ambiguous {
        /// The digits.
        prefix: DigestPrefix,
        /// The images.
        digests: Vec<Digest>,
    },
    /// Neither spelled as a path nor as a name.
    #[error("`{}` is neither a path nor the name of an image: {why}", escape(target))]
    InvalidTarget {
        /// What the user named.
        target: String,
        /// Why it isn't a name.
        why: String,
    },
    /// The file is something else.
    #[error("{} isn't a .qyvbin ({found})", escape(&path.to_string_lossy()))]
    NotArchive {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// The manifest asks for what this host or version does not give.
    #[error("{}: {why}", escape(target))]
    NotPermitted {
        /// What the user named.
        target: String,
        /// What it asks for.
        why: String,
    },
    /// The target answers requests, and is not a command.
    #[error("{} is an HTTP service, not a command", escape(target))]
    IsService {
        /// What the user named.
        target: String,
    },
    /// The target answers no requests.
    #[error("{} is not an HTTP service: it exports {NO_HANDLER}", escape(target))]
    NotAService {
        /// What the user named.
        target: String,
    },
    /// A server's certificate and key can't be used.
    #[error("the certificate {} with the key {} can't be used: {why}", escape(&certificate.to_string_lossy()), escape(&key.to_string_lossy()))]
    Certificate {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why not.
        why: String,
    },
    /// A trial instance of a service failed.
    #[error("{} does not start: {source}", escape(target))]
    Trial {
        /// What the user named.
        target: String,
        /// Why.
        source: ServiceError,
    },
    /// The target has functions to call, and is not a command.
    #[error("{} is not a command: it has functions to call", escape(target))]
    HasFunctions {
        /// What the user named.
        target: String,
    },
    /// There is nothing to call.
    #[error("{} has no functions to call: {what}", escape(target))]
    NoFunctions {
        /// What the user named.
        target: String,
        /// What it is.
        what: String,
    },
    /// No such function, or none that can be called.
    #[error("{}: {source}", escape(target))]
    Function {
        /// What the user named.
        target: String,
        /// Why.
        source: FunctionError,
    },
    /// Arguments do not fit their function.
    #[error(transparent)]
    Argument(#[from] ArgumentError),
    /// The server can't listen there, or its threads can't be started.
    #[error("can't serve on {address}: {source}")]
    Serve {
        /// The address.
        address: SocketAddr,
        /// The failure.
        source: io::Error,
    },
    /// Assets are at the guest's `/`, and no file system in memory can be mounted over them.
    #[error("can't lay a file system in memory over the assets at /: {0}")]
    Overlay(OverlayError),
    /// A file is not one of credentials.
    #[error("{} can't be used as credentials: {why}", escape(&path.to_string_lossy()))]
    FsCredentials {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// What a guest wrote to a file system over the network could not be sent.
    #[error("{} wrote changes that could not be sent: {why}", escape(target))]
    Unsent {
        /// What the user named.
        target: String,
        /// Each path, and why.
        why: String,
    },
    /// The runtime failed before the guest started.
    #[error("{}: {source}", escape(target))]
    Runtime {
        /// What the user named.
        target: String,
        /// The failure.
        source: RuntimeError,
    },
    /// The caller could not make a client for registries.
    #[error(transparent)]
    Client(Box<dyn std::error::Error + Send + Sync>),
    /// The request is invalid.
    #[error("{0}")]
    Usage(String),
}

fn plural(problems: usize) -> String {
    match problems {
        1 => "has a problem".to_string(),
        n => format!("has {n} problems"),
    }
}
