//! Compiling in a process of its own, so that its time and memory are bounded:
//! a few hundred kilobytes can keep a compiler busy for minutes.
//!
//! ```text
//!   Compiler::compile --wasm in a memfd--> `qyv compile-worker` --code in a memfd-->
//! ```
//!
//! The child is this same program, started through a hidden subcommand. It gets two anonymous
//! files and no environment, and sets the limits of getrlimit(2) on itself before it reads a
//! byte of the component.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use qyvol_types::escape;
use rustix::fs::MemfdFlags;
use rustix::process::{Resource, Rlimit, Signal};

use crate::{CodeKind, Engine, Generation, RuntimeError};

const MIB: u64 = 1 << 20;
/// Longest message that is read from the child.
const MESSAGE: u64 = 64 << 10;

/// What a compilation may use at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Seconds of processor time, all threads together.
    pub seconds: u64,
    /// Bytes of memory.
    pub memory: u64,
}

impl CompileLimits {
    /// The limits for a component of this size: several times what the output of
    /// compilers needs.
    pub fn of(size: u64) -> CompileLimits {
        CompileLimits {
            seconds: 60 + 30 * size.div_ceil(MIB),
            memory: size.saturating_mul(32).saturating_add(1 << 30),
        }
    }
}

/// How the child is started.
#[derive(Clone, Debug)]
pub struct Compiler {
    /// Finds this program; none if that is not certain.
    pub program: fn() -> Option<PathBuf>,
    /// The arguments that start [`compile_worker`]; the limits follow: seconds,
    /// then bytes; then the words of the code's kind.
    pub entry: Vec<OsString>,
    /// Seconds; overrides [`CompileLimits::of`].
    pub seconds: Option<u64>,
    /// Memory; overrides [`CompileLimits::of`].
    pub memory: Option<u64>,
}

impl Compiler {
    /// As [`Engine::compile`], in a child.
    pub fn compile(&self, engine: &Engine, wasm: &[u8]) -> Result<Vec<u8>, RuntimeError> {
        let problems = engine.check(wasm);
        if !problems.is_empty() {
            return Err(RuntimeError::Incompatible(problems));
        }
        let limits = CompileLimits::of(wasm.len() as u64);
        let limits = CompileLimits {
            seconds: self.seconds.unwrap_or(limits.seconds),
            memory: self.memory.unwrap_or(limits.memory),
        };
        let Some(program) = (self.program)() else {
            return compile_here(engine, wasm, limits);
        };
        let failed = |what: &str| {
            let what = what.to_string();
            move |error: io::Error| RuntimeError::Compile(format!("{what}: {error}"))
        };
        let mut input = anonymous().map_err(failed("no memory for the component"))?;
        input
            .write_all(wasm)
            .and_then(|()| input.rewind())
            .map_err(failed("no memory for the component"))?;
        let mut output = anonymous().map_err(failed("no memory for the code"))?;
        let mut message = anonymous().map_err(failed("no memory for messages"))?;
        let share = |file: &File| file.try_clone().map_err(failed("can't share a file"));
        let status = Command::new(&program)
            .args(&self.entry)
            .arg(limits.seconds.to_string())
            .arg(limits.memory.to_string())
            .args(engine.kind.words())
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(input))
            .stdout(Stdio::from(share(&output)?))
            .stderr(Stdio::from(share(&message)?))
            .status()
            .map_err(failed("can't start the compiler"))?;
        if !status.success() {
            let mut text = String::new();
            let message = message
                .rewind()
                .and_then(|()| message.take(MESSAGE).read_to_string(&mut text));
            return Err(RuntimeError::Compile(why(status, limits, message.map(|_| text))));
        }
        let mut code = Vec::new();
        output
            .rewind()
            .and_then(|()| output.read_to_end(&mut code))
            .map_err(failed("can't read the code"))?;
        Ok(code)
    }
}

/// Compiles in this process, if no other can be started. The same limits apply; exceeding them
/// ends the whole process.
fn compile_here(engine: &Engine, wasm: &[u8], limits: CompileLimits) -> Result<Vec<u8>, RuntimeError> {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime).tv_sec;
    let used = u64::try_from(used).unwrap_or(0);
    let bounds = [
        (Resource::Cpu, used.saturating_add(limits.seconds)),
        (Resource::Data, limits.memory),
    ];
    let before = bounds.map(|(resource, _)| (resource, rustix::process::getrlimit(resource)));
    let set = |resource: Resource, limit: Rlimit| {
        let done = rustix::process::setrlimit(resource, limit);
        done.map_err(|error| RuntimeError::Compile(format!("can't limit the compiler: {error}")))
    };
    for ((resource, bound), (_, before)) in bounds.into_iter().zip(&before) {
        let current = [before.current, before.maximum]
            .into_iter()
            .flatten()
            .fold(bound, u64::min);
        let maximum = before.maximum;
        let current = Some(current);
        set(resource, Rlimit { current, maximum })?;
    }
    let code = engine.compile_checked(wasm);
    for (resource, before) in before {
        set(resource, before)?;
    }
    code
}

fn anonymous() -> io::Result<File> {
    Ok(File::from(rustix::fs::memfd_create(
        "qyvol-compile",
        MemfdFlags::CLOEXEC,
    )?))
}

/// Why the child ended.
fn why(status: ExitStatus, limits: CompileLimits, message: io::Result<String>) -> String {
    let signal = status.signal();
    if signal == Some(Signal::XCPU.as_raw()) {
        return format!("it takes more than {} s of CPU time", limits.seconds);
    }
    let message = message.unwrap_or_default();
    let last = message.lines().last().unwrap_or_default();
    // An allocation that fails aborts.
    if signal == Some(Signal::ABORT.as_raw()) && message.contains("memory allocation") {
        return format!("it takes more than {} bytes of memory", limits.memory);
    }
    match signal {
        Some(signal) => format!("the compiler was ended by signal {signal} {}", escape(last)),
        None => escape(last).to_string(),
    }
}

/// The child's part: limits itself, then compiles what it reads. The caller
/// prints an error as one line and exits with a code that is not 0.
pub fn compile_worker(
    limits: CompileLimits,
    kind: CodeKind,
    mut input: impl Read,
    mut output: impl Write,
) -> Result<(), RuntimeError> {
    let failed = |error: io::Error| RuntimeError::Compile(error.to_string());
    // Nobody is waiting for the code any more.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(|e| failed(e.into()))?;
    let bounds = [
        (Resource::Cpu, limits.seconds),
        (Resource::Data, limits.memory),
        (Resource::Fsize, limits.memory),
        (Resource::Core, 0),
    ];
    for (resource, bound) in bounds {
        let maximum = rustix::process::getrlimit(resource).maximum;
        let bound = maximum.map_or(bound, |maximum| maximum.min(bound));
        let limit = Rlimit {
            current: Some(bound),
            // The processor's limit ends in a signal, and at its maximum in
            // another that can't be ignored.
            maximum: Some(bound.saturating_add(1).min(maximum.unwrap_or(u64::MAX))),
        };
        rustix::process::setrlimit(resource, limit).map_err(|e| failed(e.into()))?;
    }
    close_inherited_fds().map_err(failed)?;
    let mut wasm = Vec::new();
    input.read_to_end(&mut wasm).map_err(failed)?;
    let engine = Engine::of_kind(Generation::of(&wasm), kind)?;
    let code = engine.compile_checked(&wasm)?;
    output.write_all(&code).map_err(failed)
}

/// Closes every descriptor behind the first three: whoever started `qyv` may
/// have left some open that a hostile component must not reach.
#[allow(unsafe_code)]
fn close_inherited_fds() -> io::Result<()> {
    // SAFETY: nothing of this process owns a descriptor above 2 yet.
    if unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) } == 0 {
        return Ok(());
    }
    // Kernels before 5.9 don't have it, and some filters of calls forbid it.
    let names = std::fs::read_dir("/proc/self/fd")?.map(|entry| Ok(entry?.file_name()));
    for name in names.collect::<io::Result<Vec<_>>>()? {
        let number = name.to_str().and_then(|name| name.parse::<libc::c_int>().ok());
        if let Some(number) = number.filter(|number| *number > 2) {
            // SAFETY: as above; the directory that was listed is closed by now.
            unsafe { libc::close(number) };
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_grow_with_the_component() {
        let (small, large) = (CompileLimits::of(350_000), CompileLimits::of(12 << 20));
        assert_eq!((small.seconds, large.seconds), (90, 420));
        assert!(small.memory < large.memory);
        CompileLimits::of(u64::MAX);
    }

    #[test]
    fn compiler_failure_is_explained_by_its_cause() {
        let limits = CompileLimits { seconds: 7, memory: 9 };
        let by = |signal: i32, message: &str| why(ExitStatus::from_raw(signal), limits, Ok(message.to_string()));
        assert!(by(Signal::XCPU.as_raw(), "").contains("7 s"));
        assert!(by(Signal::ABORT.as_raw(), "memory allocation of 10 bytes failed\n").contains("9 bytes"));
        assert!(by(Signal::KILL.as_raw(), "").contains("signal 9"));
        assert_eq!(by(1 << 8, "first\nlast\n"), "last");
    }
}
