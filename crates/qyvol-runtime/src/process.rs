//! `qyvol:process`: starts the host programs that a run's [`Programs`] allow.
//!
//! A program is started by its absolute path, with an environment of two variables,
//! in `/`, in a session of its own, and can't gain privileges. It is killed with its
//! process group when the guest drops it, and at the latest when the run ends. If qyv
//! itself is killed, the kernel kills the program, but not what it has started.
//!
//! Deliberately absent: limits on what a program does. Allowing a program means trusting it
//! with any arguments that the guest passes.

use std::collections::HashMap;
use std::io;
use std::iter;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use qyvol_sandbox::{Event, Observer};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use wasmtime::component::{ComponentType, Lift, Linker, Lower, Resource, ResourceTable, ResourceType};
use wasmtime_wasi::p2::pipe::{AsyncReadStream, AsyncWriteStream};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, Pollable, subscribe};

/// The interface, without its version.
pub(crate) const INTERFACE: &str = "qyvol:process/process";
/// The interface, with its version.
const VERSIONED: &str = "qyvol:process/process@0.1.0";
/// Maximum number of programs at once.
const MAX_CHILDREN: usize = 16;
/// Maximum length of a program and its arguments in an event, in bytes.
const MAX_REPORTED: usize = 1024;
/// Bytes that can wait to be written to a program's standard input.
const INPUT_BUFFER: usize = 64 << 10;
/// The whole environment of a program.
const ENVIRONMENT: [(&str, &str); 2] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("LANG", "C.UTF-8"),
];

/// The state of the interface's calls.
pub(crate) struct ProcessView<'a> {
    pub(crate) programs: &'a Programs,
    pub(crate) observer: Option<&'a dyn Observer>,
    pub(crate) table: &'a mut ResourceTable,
}

/// The programs that a guest may start, and those that it has started. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Programs {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    allowed: Vec<String>,
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    /// Process groups, by the handles of their programs.
    groups: HashMap<u32, Pid>,
    /// Whether the run is over, so that no more programs are started.
    over: bool,
}

impl Programs {
    /// Allows the programs at these absolute paths, and no others.
    pub fn new(allowed: Vec<String>) -> Programs {
        Programs {
            shared: Arc::new(Shared {
                allowed,
                running: Mutex::default(),
            }),
        }
    }

    /// Kills all programs that still run, and prevents further starts, even while the guest
    /// still runs.
    pub fn end(&self) {
        let mut running = self.running();
        running.over = true;
        for (_, group) in running.groups.drain() {
            kill(group);
        }
    }

    /// A guard that ends the programs when it is dropped.
    pub(crate) fn end_guard(&self) -> EndGuard {
        EndGuard(self.clone())
    }

    /// Whether no program is allowed.
    pub(crate) fn is_empty(&self) -> bool {
        self.shared.allowed.is_empty()
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.shared.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn allows(&self, program: &str, args: &[String], observer: Option<&dyn Observer>) -> bool {
        let allowed = self.shared.allowed.iter().any(|own| own == program);
        if let Some(observer) = observer {
            observer.observed(Event {
                permission: "exec",
                action: "start",
                object: command_line(program, args),
                allowed,
            });
        }
        allowed
    }
}

/// A program with its arguments, for an event. Words with spaces or quotes are quoted, and
/// a long line is cut.
fn command_line(program: &str, args: &[String]) -> String {
    let mut line = String::new();
    for word in iter::once(program).chain(args.iter().map(String::as_str)) {
        if !line.is_empty() {
            line.push(' ');
        }
        let shown: String = word.chars().take(MAX_REPORTED).collect();
        match shown.is_empty() || shown.contains([' ', '"', '\'', '\\']) {
            true => line.push_str(&format!("{shown:?}")),
            false => line.push_str(&shown),
        }
        if line.len() > MAX_REPORTED {
            line.truncate(line.floor_char_boundary(MAX_REPORTED));
            line.push('…');
            break;
        }
    }
    line
}

/// Ends all started programs when it is dropped.
pub(crate) struct EndGuard(Programs);

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn kill(group: Pid) {
    // If it has ended already, there is nothing to kill.
    let _ = rustix::process::kill_process_group(group, Signal::KILL);
}

#[derive(Clone, Copy, Debug, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
enum ErrorCode {
    #[component(name = "access")]
    Access,
    #[component(name = "not-found")]
    NotFound,
    #[component(name = "invalid-argument")]
    InvalidArgument,
    #[component(name = "too-many")]
    TooMany,
    #[component(name = "failed")]
    Failed,
}

#[derive(Clone, Copy, Debug, ComponentType, Lift, Lower)]
#[component(variant)]
enum Ended {
    #[component(name = "code")]
    Code(u8),
    #[component(name = "signal")]
    Signal(u8),
}

/// A program that was started.
struct Started {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    /// Readable once the program has ended, whether it was waited for or not.
    ended: AsyncFd<OwnedFd>,
    status: Option<ExitStatus>,
}

impl Started {
    /// How it ended, if it has. The rest of its group is killed before the program is
    /// waited for: until then, the group's number can't be reused.
    fn status(&mut self, groups: &mut HashMap<u32, Pid>, handle: u32) -> Option<ExitStatus> {
        if self.status.is_none() {
            let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            let ended = rustix::process::waitid(WaitId::PidFd(self.ended.as_fd()), look);
            if ended.is_ok_and(|ended| ended.is_some()) {
                if let Some(group) = groups.remove(&handle) {
                    kill(group);
                }
                self.status = self.child.try_wait().ok().flatten();
            }
        }
        self.status
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Started {
    async fn ready(&mut self) {
        if self.status.is_none() {
            // It stays readable; a failure shows in the status.
            let _ = self.ended.readable().await;
        }
    }
}

fn start(program: &str, args: &[String]) -> io::Result<Started> {
    let mut command = Command::new(program);
    command
        .args(args)
        .env_clear()
        .envs(ENVIRONMENT)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let parent = rustix::process::getpid();
    // SAFETY: between fork and exec only system calls are made, which allocate nothing
    // and take no lock. Broken by adding anything else.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            rustix::thread::set_no_new_privs(true)?;
            // A process group of its own, and no controlling terminal.
            rustix::process::setsid()?;
            // Descriptors that qyv itself has inherited are not passed on.
            if libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have ended before the signal was set.
            match rustix::process::getppid() == Some(parent) {
                true => Ok(()),
                false => Err(io::ErrorKind::BrokenPipe.into()),
            }
        });
    }
    let mut child = command.spawn()?;
    let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let ended = pid.map(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()));
    let ended = ended.ok_or(io::ErrorKind::NotFound)??;
    // SAFETY: the descriptor is owned by what is registered, and stays the same until it
    // is deregistered. Broken by a type whose descriptor changes.
    #[allow(unsafe_code)]
    let ended = unsafe { AsyncFd::register_with_interest(ended, Interest::READABLE) }?;
    Ok(Started {
        ended,
        stdin: child.stdin.take(),
        stdout: child.stdout.take(),
        stderr: child.stderr.take(),
        child,
        status: None,
    })
}

fn spawn(
    view: ProcessView<'_>,
    program: &str,
    args: &[String],
) -> wasmtime::Result<Result<Resource<Started>, ErrorCode>> {
    let ProcessView {
        programs,
        observer,
        table,
    } = view;
    if !programs.allows(program, args, observer) {
        return Ok(Err(ErrorCode::Access));
    }
    // Held until the group is recorded, so that every started program can be ended.
    let mut running = programs.running();
    if running.over || running.groups.len() >= MAX_CHILDREN {
        return Ok(Err(ErrorCode::TooMany));
    }
    let started = match start(program, args) {
        Ok(started) => started,
        Err(error) => {
            return Ok(Err(match error.kind() {
                io::ErrorKind::NotFound => ErrorCode::NotFound,
                io::ErrorKind::InvalidInput | io::ErrorKind::ArgumentListTooLong => ErrorCode::InvalidArgument,
                _ => ErrorCode::Failed,
            }));
        }
    };
    let group = started.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let resource = table.push(started)?;
    if let Some(group) = group {
        running.groups.insert(resource.rep(), group);
    }
    Ok(Ok(resource))
}

/// How a program ended, if it has.
fn status(view: &mut ProcessView<'_>, handle: u32) -> wasmtime::Result<Option<ExitStatus>> {
    let mut running = view.programs.running();
    let started = view.table.get_mut(&Resource::<Started>::new_borrow(handle))?;
    Ok(started.status(&mut running.groups, handle))
}

/// Kills a program that has not ended, with its group.
fn end(view: &mut ProcessView<'_>, handle: u32) -> wasmtime::Result<()> {
    if status(view, handle)?.is_none()
        && let Some(group) = view.programs.running().groups.get(&handle)
    {
        kill(*group);
    }
    Ok(())
}

fn input(
    table: &mut ResourceTable,
    stream: Option<AsyncReadStream>,
) -> wasmtime::Result<Option<Resource<DynInputStream>>> {
    let stream = stream.map(|stream| Box::new(stream) as DynInputStream);
    Ok(stream.map(|stream| table.push(stream)).transpose()?)
}

/// Links the interface. `view` gets the state of its calls in a `T`.
pub(crate) fn add_to_linker<T: 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> ProcessView<'_>,
) -> wasmtime::Result<()> {
    let mut instance = linker.instance(VERSIONED)?;
    instance.resource("child", ResourceType::host::<Started>(), move |mut store, handle| {
        let mut view = view(store.data_mut());
        end(&mut view, handle)?;
        view.programs.running().groups.remove(&handle);
        view.table.delete(Resource::<Started>::new_own(handle))?;
        Ok(())
    })?;
    instance.func_wrap("spawn", move |mut store, (program, args): (String, Vec<String>)| {
        spawn(view(store.data_mut()), &program, &args).map(|spawned| (spawned,))
    })?;
    instance.func_wrap(
        "[method]child.stdin",
        move |mut store, (child,): (Resource<Started>,)| {
            let table = view(store.data_mut()).table;
            let stream = table.get_mut(&child)?.stdin.take();
            let stream = stream.map(|stdin| Box::new(AsyncWriteStream::new(INPUT_BUFFER, stdin)) as DynOutputStream);
            Ok((stream.map(|stream| table.push(stream)).transpose()?,))
        },
    )?;
    instance.func_wrap(
        "[method]child.stdout",
        move |mut store, (child,): (Resource<Started>,)| {
            let table = view(store.data_mut()).table;
            let stream = table.get_mut(&child)?.stdout.take().map(AsyncReadStream::new);
            Ok((input(table, stream)?,))
        },
    )?;
    instance.func_wrap(
        "[method]child.stderr",
        move |mut store, (child,): (Resource<Started>,)| {
            let table = view(store.data_mut()).table;
            let stream = table.get_mut(&child)?.stderr.take().map(AsyncReadStream::new);
            Ok((input(table, stream)?,))
        },
    )?;
    instance.func_wrap(
        "[method]child.status",
        move |mut store, (child,): (Resource<Started>,)| {
            let ended = status(&mut view(store.data_mut()), child.rep())?.map(|status| {
                let number = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
                match status.code() {
                    Some(code) => Ended::Code(number(code)),
                    None => Ended::Signal(number(status.signal().unwrap_or_default())),
                }
            });
            Ok((ended,))
        },
    )?;
    instance.func_wrap(
        "[method]child.subscribe",
        move |mut store, (child,): (Resource<Started>,)| {
            let table = view(store.data_mut()).table;
            let pollable: Resource<DynPollable> = subscribe(table, child)?;
            Ok((pollable,))
        },
    )?;
    instance.func_wrap(
        "[method]child.kill",
        move |mut store, (child,): (Resource<Started>,)| end(&mut view(store.data_mut()), child.rep()),
    )?;
    Ok(())
}
