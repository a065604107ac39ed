//! Counts costs of a process that vary too much when timed: instructions
//! that a virtual machine traps (CPUID), system calls and page faults.
//!
//! The process is stepped through one instruction at a time (ptrace(2)), from its
//! `execve` on, and only its first thread: a warm run has no other. Page faults are the
//! kernel's own count of an untraced run.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};

use nix::sys::ptrace::{self, AddressType, Event, Options};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::measure::Run;

/// What one run costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) instructions: u64,
    pub(super) cpuids: u64,
    pub(super) system_calls: u64,
    pub(super) page_faults: u64,
}

/// What an instruction is counted as.
#[derive(Clone, Copy)]
enum Kind {
    Cpuid,
    SystemCall,
    Other,
}

impl Kind {
    /// Of the first two bytes of an instruction (Intel SDM, volume 2).
    fn of(word: i64) -> Kind {
        match word.to_le_bytes() {
            [0x0f, 0xa2, ..] => Kind::Cpuid,
            [0x0f, 0x05, ..] => Kind::SystemCall,
            _ => Kind::Other,
        }
    }
}

/// Whether a program for x86-64 needs no dynamic linker: none of its program headers is
/// PT_INTERP (System V ABI, "Program Header").
pub(super) fn is_static(program: &Path) -> Result<bool, String> {
    const INTERP: usize = 3;
    let bytes = fs::read(program).map_err(|e| format!("{}: {e}", program.display()))?;
    let number = |at: usize, size: usize| {
        let field = bytes.get(at..at + size).ok_or("the program is no ELF file")?;
        Ok::<usize, String>(field.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    };
    let (start, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    let kinds: Result<Vec<usize>, String> = (0..count).map(|n| number(start + n * size, 4)).collect();
    Ok(!kinds?.contains(&INTERP))
}

/// Counts one run. It takes about a minute for each ten million instructions.
pub(super) fn count(run: &Run) -> Result<Counts, String> {
    let page_faults = page_faults(run)?;
    let mut child = run
        .held()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|e| format!("starting sh: {e}"))?;
    let counted = step_through(&mut child);
    // One that was left behind by an error ends with its tracer's order.
    let _ = child.kill();
    let _ = child.wait();
    let counts = counted.map_err(|e| format!("stepping through the command: {e}"))?;
    Ok(Counts { page_faults, ..counts })
}

/// Page faults without reading from a disk, of the whole run.
fn page_faults(run: &Run) -> Result<u64, String> {
    let so_far = || {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(|e| format!("getrusage: {e}"))?;
        u64::try_from(usage.minor_page_faults()).map_err(|e| e.to_string())
    };
    let before = so_far()?;
    run.time()?;
    Ok(so_far()? - before)
}

fn step_through(child: &mut Child) -> Result<Counts, String> {
    let pid = Pid::from_raw(i32::try_from(child.id()).map_err(|e| e.to_string())?);
    ptrace::attach(pid).map_err(|e| format!("ptrace: {e}"))?;
    wait(pid)?;
    ptrace::setoptions(pid, Options::PTRACE_O_TRACEEXEC | Options::PTRACE_O_EXITKILL).map_err(|e| e.to_string())?;
    // It waits for a line, and then becomes the command.
    let mut stdin = child.stdin.take().ok_or("it has no stdin")?;
    stdin.write_all(b"\n").map_err(|e| e.to_string())?;
    drop(stdin);
    ptrace::cont(pid, None).map_err(|e| e.to_string())?;
    loop {
        match wait(pid)? {
            WaitStatus::PtraceEvent(_, _, event) if event == Event::PTRACE_EVENT_EXEC as i32 => break,
            WaitStatus::Stopped(_, signal) => resume(pid, signal)?,
            other => return Err(format!("expected the start of the command, got {other:?}")),
        }
    }
    let mut counts = Counts::default();
    // What is mapped at an address stays there while a run is this short.
    let mut known: HashMap<u64, Kind> = HashMap::new();
    let mut signal = None;
    loop {
        let at = ptrace::getregs(pid).map_err(|e| e.to_string())?.rip;
        let kind = match known.get(&at) {
            Some(kind) => *kind,
            None => {
                let word = ptrace::read(pid, at as AddressType).map_err(|e| e.to_string())?;
                *known.entry(at).or_insert(Kind::of(word))
            }
        };
        counts.instructions += 1;
        match kind {
            Kind::Cpuid => counts.cpuids += 1,
            Kind::SystemCall => counts.system_calls += 1,
            Kind::Other => {}
        }
        ptrace::step(pid, signal).map_err(|e| e.to_string())?;
        signal = match wait(pid)? {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => None,
            WaitStatus::Stopped(_, signal) => Some(signal),
            WaitStatus::Exited(_, 0) => return Ok(counts),
            other => return Err(format!("it ended with {other:?}")),
        };
    }
}

fn wait(pid: Pid) -> Result<WaitStatus, String> {
    waitpid(pid, None).map_err(|e| format!("waitpid: {e}"))
}

/// Continues with the signal that stopped it, except those that tracing sends.
fn resume(pid: Pid, signal: Signal) -> Result<(), String> {
    let signal = (!matches!(signal, Signal::SIGTRAP | Signal::SIGSTOP)).then_some(signal);
    ptrace::cont(pid, signal).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_and_system_calls_of_a_short_program_are_counted() {
        let counts = count(&Run::new("/bin/true", &[])).unwrap();
        assert!(counts.instructions > 1000, "{counts:?}");
        // At the least execve's own end, mapping libc, and the exit.
        assert!((5..1000).contains(&counts.system_calls), "{counts:?}");
        assert!(counts.page_faults > 10, "{counts:?}");
    }
}
