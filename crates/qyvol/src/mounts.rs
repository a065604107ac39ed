//! What a guest sees as its file system: its own as `/`, a `/tmp` where it may
//! write, its assets, and what the operator grants.

use std::path::PathBuf;

use qyvol_runtime::Mount;
use qyvol_sandbox::FsAccess;
use qyvol_store::Tree;
use qyvol_types::{AppManifest, FsKind};

use crate::assets;
use crate::memfs::{DEFAULT_BYTES, MemFs};
use crate::{Context, DirGrant, Error};

const ROOT: &str = "/";
const TEMPORARY: &str = "/tmp";

/// The mounts of a run, and what is in memory for them.
pub(crate) struct Mounts {
    pub(crate) list: Vec<Mount>,
    pub(crate) memory: Option<MemFs>,
}

impl Mounts {
    /// Makes what `app` is given, as far as `access` allows. `data` makes the directory of its own data,
    /// `tree` is its unpacked assets.
    pub(crate) fn new(
        ctx: &Context<'_>,
        app: &AppManifest,
        access: FsAccess,
        data: impl FnOnce() -> Result<PathBuf, Error>,
        tree: Option<Tree>,
        dirs: &[DirGrant],
    ) -> Result<Mounts, Error> {
        let mut mounts = Mounts {
            list: Vec::new(),
            memory: None,
        };
        let writable = access.is_writable();
        match (access, app.fs.kind) {
            (FsAccess::None, _) => {}
            (_, FsKind::Memfs) => {
                let memory = make_memory(ctx, app)?;
                if writable {
                    memory.make_directory(TEMPORARY)?;
                }
                if tree.is_some() {
                    // Seen in a listing; the mount over it is what is opened.
                    memory.make_directory(&app.assets_root)?;
                }
                mounts.push(memory.root(), ROOT, writable);
                mounts.memory = Some(memory);
            }
            _ => {
                mounts.push(data()?, ROOT, writable);
                if writable && !dirs.iter().any(|dir| dir.guest == TEMPORARY) {
                    let memory = make_memory(ctx, app)?;
                    mounts.push(memory.root(), TEMPORARY, true);
                    mounts.memory = Some(memory);
                }
            }
        }
        if let Some(tree) = tree {
            mounts.list.push(assets::mount(tree, &app.assets_root));
        }
        for dir in dirs {
            mounts.push(dir.host.clone(), &dir.guest, dir.writable);
        }
        Ok(mounts)
    }

    fn push(&mut self, host: PathBuf, guest: &str, writable: bool) {
        self.list.push(Mount {
            host,
            guest: guest.to_string(),
            writable,
            seal: None,
        });
    }
}

/// A file system in memory, bounded as the guest's own memory is.
fn make_memory(ctx: &Context<'_>, app: &AppManifest) -> Result<MemFs, Error> {
    let bytes = app.resources.memory.unwrap_or(DEFAULT_BYTES);
    MemFs::create(ctx.home.memory.as_deref(), bytes)
}
