//! Programs that a command has started and that must not outlive it.
//!
//! A program of a group of its own is ended together with what it has started, unless that has
//! left the group. A process is reaped only while the list is locked, so that no signal reaches
//! another process that got its number.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};

/// How long a program that was told to end may take.
const GRACE: Duration = Duration::from_secs(1);

/// The programs of this process. Clones are the same list.
#[derive(Clone, Default)]
pub struct Children(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    running: Vec<Started>,
    /// No further program is started.
    is_over: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Started {
    pid: Pid,
    is_group: bool,
}

impl Started {
    /// It may have ended by itself.
    fn signal(self, signal: Signal) {
        let _ = match self.is_group {
            true => kill_process_group(self.pid, signal),
            false => kill_process(self.pid, signal),
        };
    }
}

/// A program that runs.
pub struct Running {
    child: Child,
    started: Started,
    all: Children,
}

/// Ends a program that something else waits for.
pub struct Remote {
    started: Started,
    all: Children,
}

impl Remote {
    /// Ends the program by force, if it has not ended by itself.
    pub fn end(&self) {
        let state = self.all.state();
        if state.running.contains(&self.started) {
            self.started.signal(Signal::KILL);
        }
    }
}

impl Children {
    /// Starts a program, in a process group of its own or in this one's, which a terminal
    /// interrupts as a whole.
    ///
    /// # Errors
    ///
    /// If it can't be started, or [`Children::end`] was called.
    pub fn start(&self, command: &mut Command, is_group: bool) -> io::Result<Running> {
        let mut state = self.state();
        if state.is_over {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if is_group {
            command.process_group(0);
        }
        let child = command.spawn()?;
        let started = Started {
            pid: Pid::from_child(&child),
            is_group,
        };
        state.running.push(started);
        Ok(Running {
            child,
            started,
            all: self.clone(),
        })
    }

    /// Ends all programs, by force where they don't end when they are told to. None is started
    /// afterwards.
    pub fn end(&self) {
        let mut state = self.state();
        state.is_over = true;
        for started in &state.running {
            started.signal(Signal::TERM);
        }
        let state = self.wait_for_none(state);
        for started in &state.running {
            started.signal(Signal::KILL);
        }
        // What was killed may take a moment to be gone.
        drop(self.wait_for_none(state));
    }

    /// Waits until no program runs, and no longer than programs may take.
    fn wait_for_none<'s>(&'s self, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        let some_run = |state: &mut State| !state.running.is_empty();
        let waited = self.0.changed.wait_timeout_while(state, GRACE, some_run);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Whether [`Children::end`] was called.
    pub fn is_over(&self) -> bool {
        self.state().is_over
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// What ends it from elsewhere.
    pub fn remote(&self) -> Remote {
        Remote {
            started: self.started,
            all: self.all.clone(),
        }
    }

    /// Waits until the program has ended, and ends what is left of its group.
    pub fn wait(mut self) -> io::Result<ExitStatus> {
        self.wait_for_end()?;
        self.reap()
    }

    /// Waits until it has ended, but does not reap it.
    fn wait_for_end(&self) -> io::Result<()> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        loop {
            match waitid(WaitId::Pid(self.started.pid), options) {
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => return Ok(()),
            }
        }
    }

    fn reap(&mut self) -> io::Result<ExitStatus> {
        let mut state = self.all.state();
        if self.started.is_group {
            self.started.signal(Signal::KILL);
        }
        let status = self.child.wait();
        state.running.retain(|one| *one != self.started);
        self.all.0.changed.notify_all();
        status
    }
}

impl Drop for Running {
    /// Ends a program that has not ended by itself.
    fn drop(&mut self) {
        if self.all.state().running.contains(&self.started) {
            self.started.signal(Signal::KILL);
            let _ = self.wait_for_end().and_then(|()| self.reap().map(|_| ()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;
    use std::thread;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(Stdio::piped());
        command
    }

    #[test]
    fn what_a_program_leaves_in_its_group_ends_with_it() {
        let children = Children::default();
        // Its own standard output is the only one that stays open.
        let mut running = children.start(&mut shell("sleep 600 & echo started"), true).unwrap();
        let mut lines = BufReader::new(running.child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "started");
        assert!(running.wait().unwrap().success());
        // Its standard output ends once nobody has it open.
        assert!(lines.next().is_none());
    }

    #[test]
    fn programs_end_when_all_are_ended_and_none_starts_then() {
        let children = Children::default();
        let script = "trap '' TERM; echo started; while :; do sleep 600; done";
        let mut running = children.start(&mut shell(script), true).unwrap();
        let mut lines = BufReader::new(running.child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "started");
        let waiting = thread::spawn(move || running.wait());
        children.end();
        assert!(!waiting.join().unwrap().unwrap().success());
        assert!(lines.next().is_none());
        assert!(children.start(&mut shell(":"), true).is_err());
    }

    #[test]
    fn program_that_is_dropped_is_ended() {
        let children = Children::default();
        drop(children.start(&mut shell("exec sleep 600"), false).unwrap());
        assert!(children.state().running.is_empty());
    }

    #[test]
    fn program_that_is_waited_for_is_ended_from_elsewhere() {
        let children = Children::default();
        let running = children.start(&mut shell("exec sleep 600"), false).unwrap();
        let remote = running.remote();
        let waiting = thread::spawn(move || running.wait());
        remote.end();
        assert!(!waiting.join().unwrap().unwrap().success());
        // It is no longer anybody's.
        remote.end();
    }
}
