//! The machine: its kernel, memory, clock and limits.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;

use qyvol::Context;
use qyvol::runtime::{Overlay, OverlayError, Tmpfs, TmpfsLimits};
use qyvol::types::Timestamp;
use rustix::process::{Resource, getrlimit};
use rustix::system::uname;

use super::Area;
use crate::ui::size;

/// Limits of the trial file systems.
const TRIAL: TmpfsLimits = TmpfsLimits {
    bytes: 1 << 20,
    files: 16,
};

/// Open files that a service with many connections, or a guest with many files, needs.
const OPEN_FILES: u64 = 1024;

/// The default memory limit of a guest.
const GUEST_MEMORY: u64 = 2 << 30;

/// Settings of Linux that forbid user namespaces, the value that does, and the fix.
const BARS: &[(&str, &str, &str)] = &[
    (
        "/proc/sys/user/max_user_namespaces",
        "0",
        "as root: `sysctl user.max_user_namespaces=15000`",
    ),
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "as root: `sysctl kernel.unprivileged_userns_clone=1`",
    ),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "as root: `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or an AppArmor profile for qyv with `userns,`",
    ),
];

pub(super) fn look(ctx: &Context<'_>) -> Area {
    let mut area = Area::new("host");
    let system = uname();
    let word = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    area.ok(
        "kernel",
        format!(
            "{} {} {}",
            word(system.sysname()),
            word(system.release()),
            word(system.machine())
        ),
    );
    memory_files(&mut area, ctx);
    memory(&mut area);
    clock(&mut area, ctx.now);
    let files = getrlimit(Resource::Nofile).current;
    match files {
        Some(files) if files < OPEN_FILES => {
            area.note("open files", format!("at most {files}"))
                .means("a service with many connections, or a guest with many files, may run out of them")
                .fix(format!("`ulimit -n {OPEN_FILES}`, or LimitNOFILE= in a systemd unit"));
        }
        Some(files) => area.ok("open files", format!("at most {files}")),
        None => area.ok("open files", "without a limit"),
    }
    area
}

/// File systems in memory, and over assets.
fn memory_files(area: &mut Area, ctx: &Context<'_>) {
    match Tmpfs::new(TRIAL) {
        Ok(_) => area.ok(
            "memfs",
            "the kernel can make in-memory file systems for this user, and limits their size",
        ),
        Err(error) => {
            let there_is_none = ctx.home.memory.is_none();
            let finding = area.note(
                "memfs",
                format!("the kernel can't make an in-memory file system for this user: {error}"),
            );
            match there_is_none {
                true => finding.means("there is no /dev/shm either: applications with `fs: { type: memfs }` can't run"),
                false => finding.means("qyv counts the bytes of /dev/shm by itself, which makes writing slower"),
            };
            finding.fix(fix("5.2"));
        }
    }
    // Over a directory of this user, as unpacked assets are.
    let overlay = tempfile::tempdir().map_err(OverlayError::Other).and_then(|lower| {
        let lower = File::open(lower.path())?;
        Overlay::new(lower.as_fd(), TRIAL)
    });
    match overlay {
        Ok(_) => area.ok(
            "overlays",
            "an in-memory file system can be mounted over assets (`assets_root: /` with memfs)",
        ),
        Err(error) => {
            area.note("overlays", error.to_string())
                .means("applications with `assets_root: /` and memfs are refused")
                .fix(fix("6.6"));
        }
    }
}

/// How to make user namespaces possible here; `since` is the first Linux that supports the
/// mount.
fn fix(since: &str) -> String {
    let barred = BARS.iter().find(|(path, bars, _)| read(path).as_deref() == Some(*bars));
    match barred {
        Some((_, _, fix)) => (*fix).to_string(),
        None => format!("in a container, a seccomp profile that allows user namespaces; else Linux {since} or later"),
    }
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_string())
}

/// The memory that the control group or the machine has.
fn memory(area: &mut Area) {
    let Some((bytes, of)) = group_memory()
        .map(|bytes| (bytes, "of this control group"))
        .or_else(|| {
            let line = read("/proc/meminfo")?.lines().next()?.to_string();
            let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
            Some((kib << 10, "of this machine"))
        })
    else {
        return;
    };
    let found = format!("{} {of}", size(bytes));
    match bytes < GUEST_MEMORY {
        true => {
            area.note("memory", found)
                .means("less than the 2 GiB that a guest may use by default: the kernel may kill the run before that limit ends it")
                .fix("`qyv run --limit memory=SIZE`, or `resources: { memory: SIZE }` in the manifest");
        }
        false => area.ok("memory", found),
    }
}

/// `memory.max` of this process's group, in version 2 of control groups.
fn group_memory() -> Option<u64> {
    let groups = read("/proc/self/cgroup")?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let directory = Path::new("/sys/fs/cgroup").join(own);
    directory
        .ancestors()
        .take_while(|at| at.starts_with("/sys/fs/cgroup"))
        .filter_map(|at| read(at.join("memory.max"))?.parse().ok())
        .min()
}

/// A clock that is before the files of this host judges signatures wrongly.
fn clock(area: &mut Area, now: Timestamp) {
    let binary = std::env::current_exe()
        .and_then(fs::metadata)
        .and_then(|meta| meta.modified());
    let made = binary.ok().map(Timestamp::from_system);
    match made {
        Some(made) if now < made => {
            area.problem(
                "clock",
                format!("{now}, earlier than {made}, when the qyv binary was last modified"),
            )
            .means("the expiry of signatures and policies is judged by this clock")
            .fix("set it: `timedatectl set-ntp true`, or `date`");
        }
        _ => area.ok("clock", now.to_string()),
    }
}
