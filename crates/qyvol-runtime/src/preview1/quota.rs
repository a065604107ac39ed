//! A module's open files under quotas, and its calls that write to them, for runs with a
//! mount that has a quota.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use wasmtime::component::Resource;
use wasmtime::{Caller, Linker};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p1::wasi_snapshot_preview1 as api;
use wiggle::{GuestMemory, GuestPtr};

use crate::Mount;
use crate::preview1::{FIRST_MOUNT, MODULE, ModuleState, errno, guest, text};
use crate::quota::{Held, Plan, done};
use crate::watched::renumber;

/// The error of wasmtime-wasi for a link or a move from one file system to another.
const IO: i32 = 29;
/// Maximum number of empty buffers that are skipped. Behind more of them it is not known
/// how much is written.
const MAX_EMPTY: u64 = 1 << 16;
/// The flag of a descriptor that writes at the end of its file.
const APPEND: i32 = 1;

/// A module's open files and directories under quotas.
#[derive(Debug, Default)]
pub(crate) struct FileQuotas {
    open: HashMap<u32, Open>,
}

#[derive(Debug)]
struct Open {
    held: Held,
    appends: bool,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.held.quota.closing(&self.held.file);
    }
}

/// A path that is opened.
pub(crate) struct Opening {
    from: Held,
    plan: Option<Plan>,
    /// Its position in the table, once it is open.
    slot: u32,
}

impl FileQuotas {
    pub(crate) fn new(mounts: &[Mount], wasi: &mut WasiP1Ctx) -> wasmtime::Result<FileQuotas> {
        let mut quotas = FileQuotas::default();
        if mounts.iter().all(|mount| mount.quota.is_none()) {
            return Ok(quotas);
        }
        // The first call puts the mounts into the table.
        let mut scratch = [0; 8];
        api::fd_prestat_get(wasi, &mut GuestMemory::Unshared(&mut scratch), 0, 0)?;
        for (mount, descriptor) in mounts.iter().zip(FIRST_MOUNT..) {
            let Some(quota) = mount.quota.clone() else { continue };
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let file = File::from(rustix::fs::open(&mount.host, flags, Mode::empty())?);
            let file = Arc::new(file);
            let held = Held { quota, file };
            quotas.open.insert(descriptor, Open { held, appends: false });
        }
        Ok(quotas)
    }

    fn of(&self, descriptor: i32) -> Option<&Held> {
        self.open.get(&descriptor.cast_unsigned()).map(|open| &open.held)
    }

    pub(crate) fn closed(&mut self, descriptor: u32) {
        self.open.remove(&descriptor);
    }

    /// The guest renumbered a descriptor; the one that had the number is closed.
    pub(crate) fn renumbered(&mut self, from: u32, to: u32) {
        renumber(&mut self.open, from, to);
    }
}

impl ModuleState {
    /// Plans to open a path. The inner error is the call's.
    pub(crate) fn opening(
        &mut self,
        memory: &GuestMemory<'_>,
        directory: i32,
        lookup: i32,
        path: (i32, i32),
        open: i32,
    ) -> wasmtime::Result<Result<Option<Opening>, i32>> {
        const FOLLOW: i32 = 1;
        const CREATE: i32 = 1;
        const TRUNCATE: i32 = 8;
        let Some(from) = self.quotas.of(directory).cloned() else {
            return Ok(Ok(None));
        };
        let Some(path) = text(memory, path) else {
            // The call itself refuses it.
            return Ok(Ok(None));
        };
        let planned = from.open(&path, lookup & FOLLOW != 0, open & CREATE != 0, open & TRUNCATE != 0);
        let plan = match planned {
            Ok(plan) => plan,
            Err(error) => return Ok(Err(errno(&error))),
        };
        // The table reuses the position that was freed last.
        let table = self.wasi.ctx().table;
        let slot = table.push(())?;
        let opening = Opening {
            from,
            plan,
            slot: slot.rep(),
        };
        table.delete(slot)?;
        Ok(Ok(Some(opening)))
    }

    /// The guest opened it as a descriptor.
    pub(crate) fn opened(&mut self, opening: Opening, descriptor: u32, flags: i32) -> wasmtime::Result<()> {
        done(opening.plan);
        let opened = self
            .wasi
            .ctx()
            .table
            .get(&Resource::<Descriptor>::new_borrow(opening.slot))?;
        let file = match opened {
            Descriptor::File(file) => Arc::clone(&file.file),
            Descriptor::Dir(dir) => Arc::clone(&dir.dir),
        };
        let held = Held {
            quota: opening.from.quota,
            file,
        };
        held.quota.opened(&held.file)?;
        let appends = flags & APPEND != 0;
        self.quotas.open.insert(descriptor, Open { held, appends });
        Ok(())
    }

    /// Plans a call on the file or directory of a descriptor.
    pub(crate) fn plan(
        &self,
        descriptor: i32,
        plan: impl FnOnce(&Held) -> io::Result<Plan>,
    ) -> Result<Option<Plan>, i32> {
        let plan = self.quotas.of(descriptor).map(plan).transpose();
        plan.map_err(|error| errno(&error))
    }

    /// Plans a call on a path from a directory.
    pub(crate) fn plan_at(
        &self,
        memory: &GuestMemory<'_>,
        directory: i32,
        path: (i32, i32),
        plan: impl FnOnce(&Held, &str) -> io::Result<Plan>,
    ) -> Result<Option<Plan>, i32> {
        match text(memory, path) {
            Some(path) => self.plan(directory, |held| plan(held, &path)),
            None => Ok(None),
        }
    }

    /// The directories of two descriptors. An error if they are not under the same quota.
    fn both(&self, from: i32, to: i32) -> Result<Option<(&Held, &Held)>, i32> {
        let (from, to) = (self.quotas.of(from), self.quotas.of(to));
        match Held::are_together(from, to) {
            true => Ok(from.zip(to)),
            false => Err(IO),
        }
    }

    /// Plans to rename.
    pub(crate) fn plan_rename(
        &self,
        memory: &GuestMemory<'_>,
        from: (i32, i32, i32),
        to: (i32, i32, i32),
    ) -> Result<Option<Plan>, i32> {
        let Some((old, new)) = self.both(from.0, to.0)? else {
            return Ok(None);
        };
        let paths = text(memory, (from.1, from.2)).zip(text(memory, (to.1, to.2)));
        Ok(paths.map(|(old_path, new_path)| new.rename_from(old, &old_path, &new_path)))
    }

    /// Plans to give something another name.
    pub(crate) fn plan_link(&self, from: i32, to: i32) -> Result<Option<Plan>, i32> {
        let plan = self.both(from, to)?.map(|(_, to)| to.add_name());
        plan.transpose().map_err(|error| errno(&error))
    }

    /// Plans to write the buffers of a vector, at the descriptor's position if `at` is None.
    fn plan_write(
        &mut self,
        memory: &GuestMemory<'_>,
        descriptor: i32,
        buffers: (i32, i32),
        at: Option<i64>,
    ) -> wasmtime::Result<Result<Option<Plan>, i32>> {
        let Some(open) = self.quotas.open.get(&descriptor.cast_unsigned()) else {
            return Ok(Ok(None));
        };
        let at = match at {
            _ if open.appends => None,
            Some(at) => Some(at.cast_unsigned()),
            None => match position(&mut self.wasi, descriptor)? {
                Ok(position) => Some(position),
                Err(errno) => return Ok(Err(errno)),
            },
        };
        let plan = open.held.write(at, first_length(memory, buffers));
        Ok(plan.map_err(|error| errno(&error)))
    }
}

/// The position of a descriptor.
fn position(wasi: &mut WasiP1Ctx, descriptor: i32) -> wasmtime::Result<Result<u64, i32>> {
    let mut scratch = [0; 8];
    let errno = api::fd_tell(wasi, &mut GuestMemory::Unshared(&mut scratch), descriptor, 0)?;
    Ok(match errno {
        0 => Ok(u64::from_le_bytes(scratch)),
        errno => Err(errno),
    })
}

/// The length of the first buffer of a vector that is not empty: one call writes no more
/// than that. The call itself refuses a vector that can't be read.
fn first_length(memory: &GuestMemory<'_>, (at, count): (i32, i32)) -> u64 {
    const VECTOR: u64 = 8;
    const LENGTH: u64 = 4;
    let count = u64::from(count.cast_unsigned());
    let lengths = (0..count.min(MAX_EMPTY)).map_while(|index| {
        let at = u64::from(at.cast_unsigned()) + index * VECTOR + LENGTH;
        memory.read(GuestPtr::<u32>::new(u32::try_from(at).ok()?)).ok()
    });
    let first = lengths.map(u64::from).find(|length| *length > 0);
    first.unwrap_or(if count > MAX_EMPTY { u64::MAX } else { 0 })
}

/// Replaces a call: it is planned, or fails; then comes the call itself; then the plan
/// takes effect.
macro_rules! replace {
    ($linker:ident, $call:ident, ($($arg:ident: $ty:ty),+), |$state:ident, $memory:ident| $plan:expr) => {
        $linker.func_wrap_async(
            MODULE,
            stringify!($call),
            |mut caller: Caller<'_, ModuleState>, ($($arg,)+): ($($ty,)+)| {
                Box::new(async move {
                    let export = caller.get_export("memory");
                    let (mut memory, $state) = guest(&mut caller, export.as_ref())?;
                    let $memory = &memory;
                    let plan: Option<Plan> = match $plan {
                        Ok(plan) => plan,
                        Err(errno) => return Ok(errno),
                    };
                    let errno = api::$call(&mut $state.wasi, &mut memory, $($arg),+).await?;
                    if errno == 0 {
                        done(plan);
                    }
                    Ok(errno)
                })
            },
        )?;
    };
}

pub(crate) fn link(linker: &mut Linker<ModuleState>) -> wasmtime::Result<()> {
    replace!(linker, fd_write, (file: i32, buffers: i32, count: i32, result: i32),
        |state, memory| state.plan_write(memory, file, (buffers, count), None)?);
    replace!(linker, fd_pwrite, (file: i32, buffers: i32, count: i32, offset: i64, result: i32),
        |state, memory| state.plan_write(memory, file, (buffers, count), Some(offset))?);
    linker.func_wrap(
        MODULE,
        "fd_fdstat_set_flags",
        |mut caller: Caller<'_, ModuleState>, file: i32, flags: i32| -> wasmtime::Result<i32> {
            let export = caller.get_export("memory");
            let (mut memory, state) = guest(&mut caller, export.as_ref())?;
            let errno = api::fd_fdstat_set_flags(&mut state.wasi, &mut memory, file, flags)?;
            if errno == 0
                && let Some(open) = state.quotas.open.get_mut(&file.cast_unsigned())
            {
                open.appends = flags & APPEND != 0;
            }
            Ok(errno)
        },
    )?;
    Ok(())
}
