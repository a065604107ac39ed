//! The files of `run --profile` and `run --coredump`. They are created before the guest starts,
//! get their names when they are complete, and never replace another file.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use qyvol::runtime::{Profiled, Profiler};
use qyvol::types::escape;
use qyvol::{Context, Debugging, DirGrant, NewFile};

use crate::cli::RunArgs;
use crate::failure::Failure;
use crate::log_file::check_apart;
use crate::run_report::RunRecord;
use crate::ui::Ui;

/// The files that a run is asked to write.
pub struct RunFiles<'a> {
    profile: Option<(NewFile<'a>, Arc<Profiler>)>,
    core_dump: Option<NewFile<'a>>,
    debug_info: bool,
}

/// The files that it wrote.
pub struct Left {
    profile: Option<Result<(String, Profiled), Failure>>,
    core_dump: Option<Result<String, Failure>>,
}

impl<'a> RunFiles<'a> {
    /// Begins the files. `target` is shown in the profile.
    pub fn create(ctx: &Context<'a>, args: &RunArgs, target: &str, dirs: &[DirGrant]) -> Result<RunFiles<'a>, Failure> {
        let create = |option: &str, path: &Path, mode: u32| {
            check_apart(option, path, dirs)?;
            NewFile::create(ctx, path, mode).map_err(|error| {
                let failure = Failure::new(format!("can't make {}, for {option}: {error}", show(path)));
                match error.kind() {
                    io::ErrorKind::AlreadyExists => {
                        failure.hint("no file is overwritten: remove that one, or name another")
                    }
                    _ => failure,
                }
            })
        };
        let date = Duration::from_secs(ctx.now.unix());
        let profile = args.profile.as_deref().map(|path| {
            let file = create("--profile", path, 0o666)?;
            Ok::<_, Failure>((file, Arc::new(Profiler::new(target, date))))
        });
        let core_dump = args.coredump.as_deref().map(|path| create("--coredump", path, 0o600));
        Ok(RunFiles {
            profile: profile.transpose()?,
            core_dump: core_dump.transpose()?,
            debug_info: args.debug_info,
        })
    }

    /// What the run needs for them.
    pub fn debugging(&self) -> Debugging {
        Debugging {
            profiler: self.profile.as_ref().map(|(_, profiler)| Arc::clone(profiler)),
            core_dump: self.core_dump.is_some(),
            debug_info: self.debug_info,
        }
    }

    /// Writes the files: a profile of a guest that has started, and a core dump of one that
    /// has trapped.
    pub fn finish(self, record: &RunRecord) -> Left {
        let write = |file: NewFile<'a>, content: &dyn Fn(&mut dyn Write) -> io::Result<Option<Profiled>>| {
            let path = show(file.path());
            let written = file.finish(content);
            match written {
                Ok(profiled) => Ok((path, profiled)),
                Err(error) => Err(Failure::new(format!("can't write {path}: {error}"))),
            }
        };
        let profile = self.profile.filter(|(_, profiler)| profiler.has_begun());
        let profile = profile.map(|(file, profiler)| {
            let (path, profiled) = write(file, &|out| profiler.finish(out).map(Some))?;
            Ok((path, profiled.unwrap_or_default()))
        });
        let core_dump = self.core_dump.zip(record.core_dump.get());
        let core_dump = core_dump.map(|(file, bytes)| {
            let (path, _) = write(file, &|out| out.write_all(bytes).map(|()| None))?;
            Ok(path)
        });
        Left { profile, core_dump }
    }
}

impl Left {
    /// Prints what was written. Returns the note on a core dump, for the report of the trap.
    pub fn print(self, ui: &Ui) -> Option<String> {
        match self.profile {
            Some(Ok((path, profiled))) => {
                let samples = profiled.samples;
                let cut = match profiled.is_cut {
                    true => " of the guest's beginning: that is all that a profile has place for",
                    false => "",
                };
                ui.note(&format!(
                    "profile: {path}, {samples} samples{cut}; https://profiler.firefox.com opens it"
                ));
            }
            Some(Err(failure)) => ui.error(&failure),
            None => {}
        }
        match self.core_dump? {
            Ok(path) => Some(format!(
                "its core dump is {path}, with all that was in its memory; a debugger for those of WebAssembly opens it, such as wasmgdb"
            )),
            Err(failure) => {
                ui.error(&failure);
                None
            }
        }
    }
}

fn show(path: &Path) -> String {
    escape(&path.to_string_lossy()).to_string()
}
