//! The program for WASI 0.2: its interfaces as they are.

mod driver;
mod net2;
mod library;
mod see2;

use driver::{list, ok, steps, word, Outcome, Step};
use wasip2::cli::{environment, stderr, stdin, stdout};
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{
    Descriptor, DescriptorFlags, DescriptorType, ErrorCode, NewTimestamp, OpenFlags, PathFlags,
};
use wasip2::io::streams::{OutputStream, StreamError};

struct Program;

wasip2::cli::command::export!(Program);

impl wasip2::exports::cli::run::Guest for Program {
    fn run() -> Result<(), ()> {
        all_steps();
        Ok(())
    }
}

fn all_steps() {
    let steps = steps(environment::get_arguments().into_iter());
    let mut state = State { given: get_directories(), held: Vec::new(), sockets: net2::Sockets::new() };
    let words: Vec<String> = steps.iter().map(|step| word(state.perform(step))).collect();
    let _ = send(&stdout::get_stdout(), format!("{}\n", words.join(" ")).as_bytes());
}

/// What the steps work on, and what they leave open.
struct State {
    given: Vec<(Descriptor, String)>,
    held: Vec<Descriptor>,
    sockets: net2::Sockets,
}

fn error(code: ErrorCode) -> String {
    code.name().to_string()
}

fn stream_error(error: StreamError) -> String {
    match error {
        StreamError::Closed => "closed".to_string(),
        StreamError::LastOperationFailed(error) => {
            let code = wasip2::filesystem::types::filesystem_error_code(&error);
            code.map_or("failed", |code| code.name()).to_string()
        }
    }
}

fn send(output: &OutputStream, bytes: &[u8]) -> Outcome {
    for part in bytes.chunks(4096) {
        output.blocking_write_and_flush(part).map_err(stream_error)?;
    }
    Ok("ok".to_string())
}

impl State {
    fn directory(&self, name: &str) -> Result<&Descriptor, String> {
        let given = self.given.iter().find(|(_, given)| given == name);
        given.map(|(descriptor, _)| descriptor).ok_or("not-given".to_string())
    }

    /// `r`ead, `w`rite, `c`reate, `t`runcate, e`x`clusive, `d`irectory, `n`o following.
    fn open(&self, step: &Step, flags: &str) -> Result<Descriptor, String> {
        let (name, path) = step.path(usize::from(step.op == "huge"));
        self.open_at(name, path, flags)
    }

    fn open_at(&self, name: &str, path: &str, flags: &str) -> Result<Descriptor, String> {
        let has = |flag: char| flags.contains(flag);
        let mut open = OpenFlags::empty();
        open.set(OpenFlags::CREATE, has('c'));
        open.set(OpenFlags::TRUNCATE, has('t'));
        open.set(OpenFlags::EXCLUSIVE, has('x'));
        open.set(OpenFlags::DIRECTORY, has('d'));
        let mut use_ = DescriptorFlags::empty();
        use_.set(DescriptorFlags::READ, has('r'));
        use_.set(DescriptorFlags::WRITE, has('w'));
        let mut follow = PathFlags::empty();
        follow.set(PathFlags::SYMLINK_FOLLOW, !has('n'));
        self.directory(name)?.open_at(follow, path, open, use_).map_err(error)
    }

    /// Takes one more of what the host has.
    fn hoard(&mut self, what: &str, (name, path): (&str, &str), n: u64) -> Outcome {
        let bytes = [b'x'; 65536];
        match what {
            // Of one byte each.
            "small" => {
                let file = self.open_at(name, &format!("{path}{n}"), "wct")?;
                send(&file.write_via_stream(0).map_err(error)?, b"x")
            }
            "append" => {
                let file = self.open_at(name, path, "wc")?;
                send(&file.append_via_stream().map_err(error)?, &bytes)
            }
            // The same bytes of a file, without waiting for each part.
            "again" => {
                let file = self.open_at(name, path, "wc")?;
                let stream = file.write_via_stream(0).map_err(error)?;
                let ready = stream.subscribe();
                for part in bytes.chunks(4096) {
                    while stream.check_write().map_err(stream_error)? < part.len() as u64 {
                        ready.block();
                    }
                    stream.write(part).map_err(stream_error)?;
                }
                stream.blocking_flush().map(ok).map_err(stream_error)
            }
            // They stay open without a name, by a stream.
            "nameless" => {
                let file = self.open_at(name, path, "wct")?;
                self.directory(name)?.unlink_file_at(path).map_err(error)?;
                let stream = file.write_via_stream(0).map_err(error)?;
                drop(file);
                let sent = send(&stream, &bytes);
                std::mem::forget(stream);
                sent
            }
            // Written and removed.
            "passing" => {
                let file = self.open_at(name, path, "wct")?;
                file.write(&bytes, 0).map_err(error)?;
                self.directory(name)?.unlink_file_at(path).map(ok).map_err(error)
            }
            // A byte far from the next.
            "holes" => {
                let file = self.open_at(name, path, "wc")?;
                file.write(b"x", (n + 1) * 65536 - 1).map(ok).map_err(error)
            }
            "links" => {
                let given = self.directory(name)?;
                given.link_at(PathFlags::empty(), path, given, &format!("{path}{n}")).map(ok).map_err(error)
            }
            _ => Err("no-such-step".to_string()),
        }
    }

    fn perform(&mut self, step: &Step) -> Outcome {
        match step.op.as_str() {
            "env" => {
                let found = environment::get_environment().into_iter().find(|(name, _)| name == step.text(0));
                Ok(found.map_or("none".to_string(), |(_, value)| value))
            }
            "args" => Ok(environment::get_arguments().join(",")),
            "stdin" => match stdin::get_stdin().blocking_read(64) {
                Ok(bytes) => Ok(format!("read:{}", driver::text(&bytes))),
                Err(StreamError::Closed) => Ok("read:".to_string()),
                Err(error) => Err(stream_error(error)),
            },
            "stdout" => send(&stdout::get_stdout(), step.arg(0)),
            "stderr" => send(&stderr::get_stderr(), step.arg(0)),
            "exit" => {
                wasip2::cli::exit::exit(if step.number(0) == 0 { Ok(()) } else { Err(()) });
                Err("not-ended".to_string())
            }
            "see" => Ok(see2::all()),
            "open-many" => {
                for opened in 0..step.number(1) {
                    match self.open(step, "r") {
                        Ok(descriptor) => self.held.push(descriptor),
                        Err(why) => return Ok(format!("{opened}:{why}")),
                    }
                }
                Ok(format!("{}:ok", step.number(1)))
            }
            "listings-many" => {
                let mut held = Vec::new();
                while held.len() < step.number(1) as usize {
                    match self.open(step, "rd")?.read_directory() {
                        Ok(listing) => held.push(listing),
                        Err(code) => return Ok(format!("{}:{}", held.len(), error(code))),
                    }
                }
                Ok(format!("{}:ok", held.len()))
            }
            "pollables-many" => {
                let make = || wasip2::clocks::monotonic_clock::subscribe_duration(0);
                let held: Vec<_> = (0..step.number(0)).map(|_| make()).collect();
                Ok(format!("{}:ok", held.len()))
            }
            "grow" => {
                // Each page is written, so that the host has to have it.
                let mut pages = 0u64;
                loop {
                    let at = core::arch::wasm32::memory_grow(0, 1);
                    if at == usize::MAX {
                        break Ok(format!("{pages}-pages"));
                    }
                    pages += 1;
                    for part in 0..16 {
                        // SAFETY: the page was added above, and nothing else has it.
                        unsafe { ((at * 65536 + part * 4096) as *mut u8).write_volatile(1) };
                    }
                }
            }
            "loop" => loop {
                match step.text(0) {
                    "clock" => drop(wasip2::clocks::monotonic_clock::now()),
                    "random" => drop(wasip2::random::random::get_random_u64()),
                    _ => wasip2::clocks::monotonic_clock::subscribe_duration(0).block(),
                }
            },
            "huge" if step.text(0) == "read" => {
                let (bytes, _) = self.open(step, "r")?.read(u64::MAX, 0).map_err(error)?;
                Ok(bytes.len().to_string())
            }
            "huge" if step.text(0) == "stream" => {
                let stream = self.open(step, "r")?.read_via_stream(0).map_err(error)?;
                Ok(stream.blocking_read(u64::MAX).map_err(stream_error)?.len().to_string())
            }
            "huge" if step.text(0) == "random" => {
                Ok(ok(wasip2::random::random::get_random_bytes(step.number(1))))
            }
            "huge" if step.text(0) == "poll" => {
                let one = wasip2::clocks::monotonic_clock::subscribe_duration(0);
                let many = vec![&one; step.number(1) as usize / 4];
                Ok(ok(wasip2::io::poll::poll(&many)))
            }
            "huge" => {
                let bytes = vec![b'a'; step.number(1) as usize];
                match step.text(0) {
                    "path" => self
                        .directory(step.path(2).0)?
                        .stat_at(PathFlags::empty(), driver::text(&bytes))
                        .map(ok)
                        .map_err(error),
                    "name" => self.sockets.look_up(driver::text(&bytes)).map(ok),
                    _ => stdout::get_stdout().write(&bytes).map(ok).map_err(stream_error),
                }
            }
            _ => match self.sockets.perform(step) {
                Some(outcome) => outcome,
                None => self.files(step),
            },
        }
    }

    fn files(&mut self, step: &Step) -> Outcome {
        let (name, path) = step.path(0);
        let done = match step.op.as_str() {
            "open" => return self.open(step, step.text(1)).map(ok),
            "read" => {
                let (bytes, _) = self.open(step, "r")?.read(64, 0).map_err(error)?;
                return Ok(format!("read:{}", driver::text(&bytes)));
            }
            "write" => self.open(step, "wct")?.write(step.arg(1), 0).map(|_| ()),
            "resize" => self.open(step, "w")?.set_size(step.number(1)),
            "list" => {
                let entries = self.open(step, "rd")?.read_directory().map_err(error)?;
                let mut names = Vec::new();
                while let Some(entry) = entries.read_directory_entry().map_err(error)? {
                    names.push(entry.name);
                }
                return Ok(list(names));
            }
            "stat" | "lstat" => {
                let mut follow = PathFlags::empty();
                follow.set(PathFlags::SYMLINK_FOLLOW, step.op == "stat");
                let stat = self.directory(name)?.stat_at(follow, path).map_err(error)?;
                let kind = match stat.type_ {
                    DescriptorType::Directory => "directory",
                    DescriptorType::RegularFile => "file",
                    DescriptorType::SymbolicLink => "symlink",
                    _ => "other",
                };
                return Ok(kind.to_string());
            }
            "mkdir" => self.directory(name)?.create_directory_at(path),
            "rmdir" => self.directory(name)?.remove_directory_at(path),
            "unlink" => self.directory(name)?.unlink_file_at(path),
            "symlink" => {
                let (name, path) = step.path(1);
                self.directory(name)?.symlink_at(step.text(0), path)
            }
            "readlink" => {
                let to = self.directory(name)?.readlink_at(path).map_err(error)?;
                return Ok(format!("to:{to}"));
            }
            "hash" => {
                self.directory(name)?
                    .metadata_hash_at(PathFlags::empty(), path)
                    .map_err(error)?;
                return Ok("hashed".to_string());
            }
            "link" => {
                let (other, new) = step.path(1);
                self.directory(name)?.link_at(PathFlags::empty(), path, self.directory(other)?, new)
            }
            "rename" => {
                let (other, new) = step.path(1);
                self.directory(name)?.rename_at(path, self.directory(other)?, new)
            }
            "times" => self.directory(name)?.set_times_at(
                PathFlags::SYMLINK_FOLLOW,
                path,
                NewTimestamp::Now,
                NewTimestamp::Now,
            ),
            "many" => {
                for n in 0..step.number(1) {
                    if let Err(code) = self.directory(name)?.create_directory_at(&format!("{path}{n}")) {
                        return Ok(format!("{n}:{}", error(code)));
                    }
                }
                Ok(())
            }
            "fill" => {
                let (file, bytes) = (self.open(step, "wct")?, vec![b'x'; 65536]);
                for n in 0..step.number(1) {
                    if let Err(code) = file.write(&bytes, n * 65536) {
                        return Ok(format!("{n}:{}", error(code)));
                    }
                }
                Ok(())
            }
            "hoard" => {
                for n in 0..step.number(2) {
                    if let Err(why) = self.hoard(step.text(1), (name, path), n) {
                        return Ok(format!("{n}:{why}"));
                    }
                }
                Ok(())
            }
            "deep" => {
                let mut at = self.directory(name)?.open_at(
                    PathFlags::empty(),
                    ".",
                    OpenFlags::DIRECTORY,
                    DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY,
                ).map_err(error)?;
                for n in 0..step.number(1) {
                    let use_ = DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY;
                    let opened = at
                        .create_directory_at("d")
                        .and_then(|()| at.open_at(PathFlags::empty(), "d", OpenFlags::DIRECTORY, use_));
                    match opened {
                        Ok(opened) => at = opened,
                        Err(code) => return Ok(format!("{n}:{}", error(code))),
                    }
                }
                Ok(())
            }
            _ => return Err("no-such-step".to_string()),
        };
        done.map(ok).map_err(error)
    }
}
