//! Times whole processes, ours and its peers' in turns, so that a machine that slows down slows
//! down all of them.
//!
//! Wall clock from before the spawn to after the wait. The peak of memory is
//! the kernel's own high-water mark (`VmHWM`), read from `/proc` while the
//! process runs: what it gains in its last two milliseconds can be missed.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A command line with its environment and directory.
#[derive(Clone, Debug)]
pub(super) struct Run {
    program: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

impl Run {
    pub(super) fn new(program: impl AsRef<Path>, args: &[&str]) -> Run {
        Run {
            program: program.as_ref().display().to_string(),
            args: args.iter().map(|arg| (*arg).to_string()).collect(),
            env: Vec::new(),
        }
    }

    /// A pipeline; a failure anywhere in it fails the whole. bash, for its
    /// process substitution.
    pub(super) fn pipeline(script: &str) -> Run {
        Run::new("bash", &["-c", &format!("set -euo pipefail; {script}")])
    }

    pub(super) fn env(mut self, key: &str, value: impl AsRef<Path>) -> Run {
        self.env.push((key.to_string(), value.as_ref().display().to_string()));
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::null());
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        command
    }

    /// Starts it, with all of its output in one file.
    pub(super) fn spawn(&self, log: File) -> Result<Child, String> {
        let both = log.try_clone().map_err(|e| self.failed(e))?;
        let mut command = self.command();
        command.stdout(both).stderr(log);
        command.spawn().map_err(|e| self.failed(e))
    }

    /// A shell that becomes the command once it has read a line.
    pub(super) fn held(&self) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "read -r line && exec \"$@\"", "sh", &self.program]);
        command.args(&self.args);
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        command
    }

    fn failed(&self, why: impl std::fmt::Display) -> String {
        format!("running {} {}: {why}", self.program, self.args.join(" "))
    }

    /// Runs it once, untimed; its output is part of the error if it fails.
    pub(super) fn check(&self) -> Result<String, String> {
        let output = self.command().output().map_err(|e| self.failed(e))?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            return Err(self.failed(format_args!("{}: {}", output.status, stderr.trim())));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs it once, for the code that it exits with.
    pub(super) fn exit_code(&self) -> Result<i32, String> {
        let mut command = self.command();
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        let code = status.map_err(|e| self.failed(e))?.code();
        code.ok_or_else(|| self.failed("ended by a signal"))
    }

    /// Runs it once.
    pub(super) fn time(&self) -> Result<Duration, String> {
        let mut command = self.command();
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let start = Instant::now();
        let status = command.status().map_err(|e| self.failed(e))?;
        let took = start.elapsed();
        match status.success() {
            true => Ok(took),
            false => Err(self.failed(status)),
        }
    }

    /// Runs it once and returns its peak memory, in bytes. Of a pipeline
    /// it would be the shell's.
    pub(super) fn peak(&self) -> Result<u64, String> {
        let mut command = self.command();
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|e| self.failed(e))?;
        let mut peak = 0;
        loop {
            peak = peak.max(peak_of(child.id()).unwrap_or(0));
            match child.try_wait().map_err(|e| self.failed(e))? {
                Some(status) if status.success() => return Ok(peak),
                Some(status) => return Err(self.failed(status)),
                None => sleep(Duration::from_millis(2)),
            }
        }
    }
}

/// The peak memory of a running process, in bytes.
pub(super) fn peak_of(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    Some(high_water(&status)? * 1024)
}

fn high_water(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// The times of some runs.
#[derive(Debug)]
pub(super) struct Times(Vec<Duration>);

impl Times {
    pub(super) fn new(mut times: Vec<Duration>) -> Times {
        times.sort_unstable();
        Times(times)
    }

    pub(super) fn median(&self) -> Duration {
        self.0.get(self.0.len() / 2).copied().unwrap_or_default()
    }

    pub(super) fn min(&self) -> Duration {
        self.0.first().copied().unwrap_or_default()
    }
}

/// One side of a comparison: what happens before each run, untimed, and the run.
pub(super) struct Side<'a> {
    pub(super) before: &'a dyn Fn() -> Result<(), String>,
    pub(super) runs: &'a [Run],
}

/// Each side once untimed, then `count` times in turns.
pub(super) fn interleaved<const N: usize>(count: usize, sides: [Side<'_>; N]) -> Result<[Times; N], String> {
    let mut times = std::array::from_fn(|_| Times(Vec::new()));
    for side in &sides {
        (side.before)()?;
        for run in side.runs {
            run.check()?;
        }
    }
    for _ in 0..count {
        for (side, times) in sides.iter().zip(&mut times) {
            (side.before)()?;
            let took: Result<Vec<Duration>, String> = side.runs.iter().map(Run::time).collect();
            times.0.push(took?.iter().sum());
        }
    }
    for times in &mut times {
        times.0.sort_unstable();
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn high_water_mark_is_read_from_the_kernels_text() {
        assert_eq!(high_water("Name:\tx\nVmHWM:\t    1234 kB\nVmRSS:\t 1 kB\n"), Some(1234));
        assert_eq!(high_water("Name:\tx\nState:\tZ (zombie)\n"), None);
    }

    #[test]
    fn failure_anywhere_in_a_pipeline_is_a_failure() {
        Run::pipeline("echo a | cat").check().unwrap();
        let error = Run::pipeline("(echo reason >&2; false) | cat").check().unwrap_err();
        assert!(error.contains("reason"), "{error}");
        Run::pipeline("false | cat").time().unwrap_err();
    }
}
