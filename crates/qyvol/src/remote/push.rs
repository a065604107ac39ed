//! `push`: from a file or the store to a registry.

use std::sync::Arc;

use qyvol_image::ImageError;
use qyvol_remote::{Access, Client, Mounts, Repository};
use qyvol_store::CopyError;
use qyvol_types::{Reference, RepositoryName};

use super::{TransferReport, by_repository, copy_and_tag, layers_size, mark_present, places};
use crate::encodings::{Encodings, Publisher};
use crate::{Context, Error, ImageSource, Target};

/// What to push.
pub struct PushRequest<'a> {
    /// A `.qyvbin`, or a name in the store.
    pub target: &'a Target,
    /// Where to; if empty, to the image's own name, which then has a registry in it.
    pub names: &'a [Reference],
    /// A dry run.
    pub dry_run: bool,
    /// Which smaller representations of the image are published with it.
    pub encodings: Encodings<'a>,
}

/// Sends an image, from a file or the store, to every one of the names.
///
/// With the `host` and the `file` of [`build`](crate::build()), and a `registry` such as
/// `registry.example`:
///
/// ```
/// # let scratch = tempfile::tempdir()?;
/// # let temporaries = qyvol::TempFiles::default();
/// # let now = qyvol::types::Timestamp::from_unix(1_800_000_000)?;
/// # let host = qyvol::Context::new(qyvol::Home::in_directory(scratch.path()), now, &temporaries);
/// # let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/hello");
/// # let file = scratch.path().join("hello.qyvbin");
/// # let request = qyvol::BuildRequest { output: Some(&file), ..qyvol::BuildRequest::new(&example) };
/// # qyvol::build(&host, &request)?;
/// # let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
/// # let data = scratch.path().join("hub");
/// # let config = qyvol_hub::Config::new("127.0.0.1:0".parse()?, data, std::time::SystemTime::now);
/// # let hub = runtime.block_on(qyvol_hub::Hub::open(config)?.bind())?;
/// # let registry = hub.local_addr();
/// # runtime.spawn(hub.serve(std::future::pending()));
/// use qyvol::{Encodings, PushRequest, Target};
/// use qyvol::remote_store::{Anonymous, Client, Options};
///
/// // No credentials; what is tried again is said on stderr.
/// let notify = Box::new(|what: &str| eprintln!("{what}"));
/// let client = Client::new(Options::default(), Box::new(Anonymous), notify);
/// let name = format!("{registry}/team/hello-qyvol:1.0.0").parse()?;
/// let request = PushRequest {
///     target: &Target::Archive(file),
///     names: &[name],
///     dry_run: false,
///     encodings: Encodings::default(),
/// };
/// let report = qyvol::push(&host, &client, &request)?;
/// assert_eq!(report.signatures, 1);
/// println!("pushed {}", report.digest);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn push(ctx: &Context<'_>, client: &Arc<Client>, request: &PushRequest<'_>) -> Result<TransferReport, Error> {
    let PushRequest {
        target, names, dry_run, ..
    } = *request;
    let source = ImageSource::open(ctx, target)?;
    let label = source.label();
    let image = source.single()?;
    let mut moved = TransferReport::new(&label, image, dry_run)?;
    let implied = match target {
        Target::Image(name) => name.in_registry(),
        _ => None,
    };
    let names = match (names, implied) {
        ([], Some(name)) => vec![name.clone()],
        ([], None) => {
            return Err(Error::Usage(format!(
                "{label} names no registry: say where it is to go, as HOST/{}",
                moved.image
            )));
        }
        (names, _) => names.to_vec(),
    };
    let publisher = Publisher::new(ctx, source.blobs(), image, &names, &request.encodings)?;
    for group in by_repository(&names)? {
        let Some(first) = group.first() else { continue };
        let mounts = places::mounts(ctx, first, &image.manifest);
        let known = known(client, first, &mounts)?;
        let repository = Repository::with_mounts(client, first, Access::Push, mounts)?;
        if dry_run {
            mark_present(&repository, &mut moved.parts)?;
        } else {
            ctx.report.started("pushing", Some(layers_size(&image.manifest)));
            let more = Some((&publisher, known.as_ref()));
            let sent = match &source {
                ImageSource::Archive { archive } => copy_and_tag(ctx, archive, image, &repository, &group, more),
                ImageSource::Stored { store, .. } => copy_and_tag(ctx, store, image, &repository, &group, more),
            };
            // A read error is this host's, not the registry's.
            let copied = sent.map_err(|error| match (error, &source) {
                (Error::Copy(CopyError::Source { source, .. }), ImageSource::Archive { .. }) => {
                    Error::image(&label)(ImageError::Store(*source))
                }
                (Error::Copy(CopyError::Source { source, .. }), ImageSource::Stored { .. }) => Error::Store(*source),
                (error, _) => error,
            })?;
            *moved.copied.get_or_insert(0) += copied;
            places::remember(ctx, first, &image.manifest);
            ctx.report.finished();
        }
        moved.names.extend(group);
    }
    Ok(moved)
}

/// The repository that everything can be mounted from.
fn known(client: &Arc<Client>, to: &Reference, mounts: &Mounts) -> Result<Option<Repository>, Error> {
    let (Mounts::All(from), Some(registry)) = (mounts, to.registry()) else {
        return Ok(None);
    };
    let Ok(from) = format!("{registry}/{from}").parse::<RepositoryName>() else {
        return Ok(None);
    };
    Ok(Some(Repository::new(client, &from.latest(), Access::Pull)?))
}
