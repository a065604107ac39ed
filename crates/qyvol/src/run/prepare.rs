//! What a judged image needs on this host: blobs, assets, compiled code.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::thread;

use qyvol_runtime::{CodeKind, Details, Engine, Functions, Program, WasmKind};
use qyvol_store::{Fetch, StoreError, Tree};
use qyvol_trust::Verified;
use qyvol_types::{AppManifest, CompiledCode, Descriptor, Os, Resources, limits};

use super::request::StepTimer;
use super::resolve::VerifiedTarget;
use super::{RunRequest, grant};
use crate::install::{InstallOptions, stage_images};
use crate::{Context, Error, ImageSource};

/// An image that is ready to start.
pub(crate) struct Prepared {
    pub(super) judged: VerifiedTarget,
    pub(super) program: Program,
    pub(super) assets: Option<Tree>,
    pub(crate) limits: Resources,
    /// The component's bytes, for a run that names files and lines of its source.
    pub(super) source: Option<Arc<[u8]>>,
}

/// The layers of an image.
struct Layers {
    component: Verified<Descriptor>,
    assets: Option<Verified<Descriptor>>,
}

impl Layers {
    fn of(judged: &VerifiedTarget) -> Result<Layers, Error> {
        let mut layers = judged.manifest().layers().into_iter();
        match layers.next() {
            Some(component) => Ok(Layers {
                component,
                assets: layers.next(),
            }),
            None => Err(Error::malformed(&judged.label())("its manifest has no layer")),
        }
    }

    fn size(&self) -> u64 {
        let assets = self.assets.as_ref().map_or(0, |layer| layer.size);
        self.component.size.saturating_add(assets)
    }
}

impl Prepared {
    /// What its manifest says.
    pub(crate) fn app(&self) -> &AppManifest {
        &self.judged.trusted.config.qyv.app
    }

    /// The functions that its component exports.
    pub(crate) fn functions(&self) -> Functions {
        self.program.functions()
    }

    /// Looks up what this host has already and makes the rest, with code of `kind`, for this
    /// many guests at once.
    pub(crate) fn new(
        ctx: &Context<'_>,
        mut judged: VerifiedTarget,
        request: &RunRequest<'_>,
        kind: CodeKind,
        guests: usize,
        clock: &mut StepTimer<'_>,
    ) -> Result<Prepared, Error> {
        let label = judged.label();
        let generation = judged.generation();
        let limits = grant::limits(&judged.trusted.config.qyv.app, &judged.trusted.ceiling, request);
        let metered = limits.fuel.is_some() || request.overrides.deterministic.is_some();
        let engine = Engine::of_kind(
            generation,
            CodeKind {
                metered: metered || kind.metered,
                ..kind
            },
        );
        let engine = engine.map_err(Error::runtime(&label))?;
        let layers = Layers::of(&judged)?;
        let mut code = judged.store.code(engine.id(), &layers.component.digest)?;
        let mut assets = match &layers.assets {
            Some(layer) => judged.store.tree(&layer.digest)?,
            None => None,
        };
        ctx.report_notices(&judged.store);
        clock.step("look up");
        let unpack = layers.assets.as_ref().filter(|_| assets.is_none());
        if code.is_none() || unpack.is_some() {
            let compiled = install_and_compile(ctx, &judged, &layers, &engine, code.is_none())?;
            clock.step("prepare");
            if let Some(compiled) = compiled {
                code = Some(keep_code(ctx, &judged, &engine, &layers.component, &compiled)?);
                clock.step("keep code");
            }
            if let Some(layer) = unpack {
                assets = Some(unpack_assets(ctx, &judged, layer)?);
                clock.step("unpack");
            }
        }
        let code = code.ok_or_else(|| Error::malformed(&label)("there is no code to run"))?;
        let source = match kind.details {
            Details::Profile | Details::Debugger => Some(component_bytes(&judged, &layers)?.into()),
            Details::Names | Details::Addresses => None,
        };
        judged.lock.allow_prune();
        let kind = match judged.trusted.config.os {
            Os::Wasip2 => WasmKind::Component,
            Os::Wasip1 => WasmKind::CoreModule,
        };
        let program = match guests {
            1 => Program::load(&engine, &layers.component, kind, &code),
            guests => Program::load_pooled(&engine, &layers.component, kind, &code, guests),
        };
        let program = program.map_err(Error::runtime(&label))?;
        clock.step("load");
        Ok(Prepared {
            judged,
            program,
            assets,
            limits,
            source,
        })
    }
}

/// The component, checked against the digest that was judged.
fn component_bytes(judged: &VerifiedTarget, layers: &Layers) -> Result<Vec<u8>, Error> {
    let limit = limits::COMPONENT_BYTES;
    match &*judged.source {
        ImageSource::Archive { archive } => Ok(archive.fetch_bytes(&layers.component, limit)?),
        ImageSource::Stored { store, .. } => {
            let bytes = store.fetch_bytes(&layers.component, limit);
            bytes.map_err(Error::stored(&judged.label()))
        }
    }
}

/// Installs an archive's blobs in the store and compiles the component, if necessary. Both run
/// at the same time and read the source, each checking it against the judged digests.
fn install_and_compile(
    ctx: &Context<'_>,
    judged: &VerifiedTarget,
    layers: &Layers,
    engine: &Engine,
    needs_code: bool,
) -> Result<Option<Vec<u8>>, Error> {
    let label = judged.label();
    let compile = || -> Result<Option<Vec<u8>>, Error> {
        if !needs_code {
            return Ok(None);
        }
        let wasm = component_bytes(judged, layers)?;
        let compiled = match ctx.compiler {
            Some(compiler) => compiler.compile(engine, &wasm),
            None => engine.compile(&wasm),
        };
        Ok(Some(compiled.map_err(Error::runtime(&label))?))
    };
    let compiled = match &*judged.source {
        ImageSource::Stored { .. } => {
            ctx.report.started("compiling", None);
            compile()?
        }
        ImageSource::Archive { archive } => {
            let image = judged.image()?;
            ctx.report.started("installing", Some(layers.size()));
            let (installed, compiled) = thread::scope(|scope| {
                let installing = scope.spawn(|| {
                    let stage = stage_images(
                        ctx,
                        &judged.store,
                        archive,
                        &label,
                        &[image],
                        &InstallOptions::default(),
                    )?;
                    archive.check_end().map_err(Error::image(&label))?;
                    stage.commit().map_err(Error::Store)
                });
                let compiled = compile();
                (installing.join(), compiled)
            });
            match installed {
                Ok(Ok(())) => {}
                // An image that needs nothing unpacked runs without the store.
                Ok(Err(Error::Store(e))) if layers.assets.is_none() && can_take_nothing(&e) => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(Error::malformed(&label)("installing it ended in a panic")),
            }
            compiled?
        }
    };
    ctx.report.finished();
    Ok(compiled)
}

/// Whether the store can't be written, or has no room.
fn can_take_nothing(error: &StoreError) -> bool {
    error.is_unwritable() || error.is_full()
}

/// Stores compiled code for the next run, if the store can be written.
fn keep_code(
    ctx: &Context<'_>,
    judged: &VerifiedTarget,
    engine: &Engine,
    component: &Descriptor,
    compiled: &[u8],
) -> Result<CompiledCode, Error> {
    match judged.store.put_code(engine.id(), &component.digest, compiled) {
        Ok(code) => Ok(code),
        Err(error) if can_take_nothing(&error) => {
            // A store that this user can't write is expected; a full disk is worth a warning.
            if error.is_full() {
                let said = format!("the compiled code is not kept, and the next run compiles again: {error}");
                ctx.report.warned(&said);
            }
            Ok(CompiledCode::of(component.digest, in_memory(compiled)?))
        }
        Err(error) => Err(Error::Store(error)),
    }
}

/// Unpacks the assets of an image whose blobs are in the store.
fn unpack_assets(ctx: &Context<'_>, judged: &VerifiedTarget, layer: &Descriptor) -> Result<Tree, Error> {
    let label = judged.label();
    let assets = judged.trusted.config.qyv.assets.as_ref();
    let assets = assets.ok_or_else(|| Error::malformed(&label)("its config describes no assets"))?;
    ctx.report.started("unpacking", Some(assets.bytes));
    let mut failure = None;
    let mut fail = |error| {
        failure = Some(error);
        std::io::Error::other("unpacking failed")
    };
    let made = judged.store.put_tree(&layer.digest, &mut |directory| {
        let body = judged.store.fetch(layer).map_err(|e| fail(Error::stored(&label)(e)))?;
        let done = qyvol_image::unpack_assets(body, assets, directory, ctx.report);
        done.map(drop).map_err(|e| fail(Error::image(&label)(e)))
    });
    if let Some(error) = failure {
        return Err(error);
    }
    ctx.report.finished();
    Ok(made?)
}

/// Compiled code in an anonymous file, for a store that can't be written.
fn in_memory(code: &[u8]) -> Result<File, Error> {
    let failed = |e| Error::file("hold compiled code in memory", "memfd")(e);
    let fd = rustix::fs::memfd_create("qyvol-code", rustix::fs::MemfdFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
    let mut file = File::from(fd);
    file.write_all(code).map_err(failed)?;
    Ok(file)
}
