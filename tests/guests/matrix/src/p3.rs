//! The program for WASI 0.3: its interfaces as they are.

mod driver;
mod net3;
mod library;
mod see3;

use driver::{kebab, list, ok, steps, word, Outcome, Step};
use std::future::Future;

use wasip3::cli::{environment, stderr, stdin, stdout};
use wasip3::filesystem::preopens::get_directories;
use wasip3::filesystem::types::{
    Descriptor, DescriptorFlags, DescriptorType, ErrorCode, NewTimestamp, OpenFlags, PathFlags,
};
use wasip3::wit_bindgen::rt::async_support::StreamReader;
use wasip3::wit_stream;

struct Program;

wasip3::cli::command::export!(Program);

impl wasip3::exports::cli::run::Guest for Program {
    async fn run() -> Result<(), ()> {
        let steps = steps(environment::get_arguments().into_iter());
        let mut state = State { given: get_directories(), held: Vec::new(), sockets: net3::Sockets::default() };
        let mut words = Vec::new();
        for step in &steps {
            words.push(word(state.perform(step).await));
        }
        let _ = send(stdout::write_via_stream, format!("{}\n", words.join(" ")).into_bytes()).await;
        Ok(())
    }
}

/// What the steps work on, and what they leave open.
struct State {
    given: Vec<(Descriptor, String)>,
    held: Vec<Descriptor>,
    sockets: net3::Sockets,
}

fn error(code: ErrorCode) -> String {
    kebab(&format!("{code:?}"))
}

/// Writes all of some bytes by a call that takes a stream.
async fn send<F, E>(call: impl FnOnce(StreamReader<u8>) -> F, bytes: Vec<u8>) -> Outcome
where
    F: std::future::IntoFuture<Output = Result<(), E>>,
    E: std::fmt::Debug,
{
    let (mut writer, reader) = wit_stream::new();
    let written = call(reader);
    writer.write_all(bytes).await;
    drop(writer);
    written.await.map(ok).map_err(|code| kebab(&format!("{code:?}")))
}

/// The first bytes of a stream.
async fn some(mut stream: StreamReader<u8>) -> Vec<u8> {
    stream.read(Vec::with_capacity(64)).await.1
}

async fn below(directory: &Descriptor, name: &str) -> Result<Descriptor, ErrorCode> {
    let use_ = DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY;
    directory.open_at(PathFlags::empty(), name.to_string(), OpenFlags::DIRECTORY, use_).await
}

impl State {
    fn directory(&self, name: &str) -> Result<&Descriptor, String> {
        let given = self.given.iter().find(|(_, given)| given == name);
        given.map(|(descriptor, _)| descriptor).ok_or("not-given".to_string())
    }

    /// `r`ead, `w`rite, `c`reate, `t`runcate, e`x`clusive, `d`irectory, `n`o following.
    async fn open(&self, step: &Step, flags: &str) -> Result<Descriptor, String> {
        let (name, path) = step.path(0);
        self.open_at(name, path, flags).await
    }

    async fn open_at(&self, name: &str, path: &str, flags: &str) -> Result<Descriptor, String> {
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
        let directory = self.directory(name)?;
        directory.open_at(follow, path.to_string(), open, use_).await.map_err(error)
    }

    /// Takes one more of what the host has.
    async fn hoard(&mut self, what: &str, (name, path): (&str, &str), n: u64) -> Outcome {
        let bytes = vec![b'x'; 65536];
        match what {
            // Of one byte each.
            "small" => {
                let file = self.open_at(name, &format!("{path}{n}"), "wct").await?;
                send(|data| file.write_via_stream(data, 0), b"x".to_vec()).await
            }
            "append" => {
                let file = self.open_at(name, path, "wc").await?;
                send(|data| file.append_via_stream(data), bytes).await
            }
            // The same bytes of a file.
            "again" => {
                let file = self.open_at(name, path, "wc").await?;
                send(|data| file.write_via_stream(data, 0), bytes).await
            }
            // They stay open without a name.
            "nameless" => {
                let file = self.open_at(name, path, "wct").await?;
                self.directory(name)?.unlink_file_at(path.to_string()).await.map_err(error)?;
                let sent = send(|data| file.write_via_stream(data, 0), bytes).await;
                self.held.push(file);
                sent
            }
            // Written and removed.
            "passing" => {
                let file = self.open_at(name, path, "wct").await?;
                send(|data| file.write_via_stream(data, 0), bytes).await?;
                self.directory(name)?.unlink_file_at(path.to_string()).await.map(ok).map_err(error)
            }
            // A byte far from the next.
            "holes" => {
                let file = self.open_at(name, path, "wc").await?;
                send(|data| file.write_via_stream(data, (n + 1) * 65536 - 1), b"x".to_vec()).await
            }
            "links" => {
                let given = self.directory(name)?;
                let made = given.link_at(PathFlags::empty(), path.to_string(), given, format!("{path}{n}"));
                made.await.map(ok).map_err(error)
            }
            _ => Err("no-such-step".to_string()),
        }
    }

    async fn perform(&mut self, step: &Step) -> Outcome {
        match step.op.as_str() {
            "env" => {
                let found = environment::get_environment().into_iter().find(|(name, _)| name == step.text(0));
                Ok(found.map_or("none".to_string(), |(_, value)| value))
            }
            "args" => Ok(environment::get_arguments().join(",")),
            "stdin" => {
                let (stream, _) = stdin::read_via_stream();
                Ok(format!("read:{}", driver::text(&some(stream).await)))
            }
            "stdout" => send(stdout::write_via_stream, step.arg(0).to_vec()).await,
            "stderr" => send(stderr::write_via_stream, step.arg(0).to_vec()).await,
            "exit" => {
                wasip3::cli::exit::exit_with_code(step.number(0) as u8);
                Err("not-ended".to_string())
            }
            "see" => Ok(see3::all().await),
            "open-many" => {
                for opened in 0..step.number(1) {
                    match self.open(step, "r").await {
                        Ok(descriptor) => self.held.push(descriptor),
                        Err(why) => return Ok(format!("{opened}:{why}")),
                    }
                }
                Ok(format!("{}:ok", step.number(1)))
            }
            "listings-many" => {
                let (directory, mut held) = (self.open(step, "rd").await?, Vec::new());
                for _ in 0..step.number(1) {
                    held.push(directory.read_directory());
                }
                Ok(format!("{}:ok", held.len()))
            }
            "streams-many" => {
                let held: Vec<_> = (0..step.number(0)).map(|_| wit_stream::new::<u8>()).collect();
                Ok(format!("{}:ok", held.len()))
            }
            "futures-many" => {
                let held: Vec<_> = (0..step.number(0))
                    .map(|_| wasip3::wit_future::new::<Result<(), ErrorCode>>(|| Ok(())))
                    .collect();
                Ok(format!("{}:ok", held.len()))
            }
            "calls-many" => {
                let mut held = Vec::new();
                for _ in 0..step.number(0) {
                    let mut call = Box::pin(wasip3::clocks::monotonic_clock::wait_for(u64::MAX / 4));
                    // Begun, and never waited for.
                    std::future::poll_fn(|context| {
                        let _ = call.as_mut().poll(context);
                        std::task::Poll::Ready(())
                    })
                    .await;
                    held.push(call);
                }
                let count = held.len();
                std::mem::forget(held);
                Ok(format!("{count}:ok"))
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
                    "clock" => drop(wasip3::clocks::monotonic_clock::now()),
                    "random" => drop(wasip3::random::random::get_random_u64()),
                    _ => wasip3::clocks::monotonic_clock::wait_for(0).await,
                }
            },
            "huge" if step.text(0) == "random" => {
                Ok(ok(wasip3::random::random::get_random_bytes(step.number(1))))
            }
            "huge" => {
                let bytes = vec![b'a'; step.number(1) as usize];
                // SAFETY: ASCII alone.
                let text = unsafe { String::from_utf8_unchecked(bytes) };
                match step.text(0) {
                    "path" => {
                        let directory = self.directory(step.path(2).0)?;
                        directory.stat_at(PathFlags::empty(), text).await.map(ok).map_err(error)
                    }
                    "name" => net3::look_up(&text).await.map(ok),
                    _ => send(stdout::write_via_stream, text.into_bytes()).await,
                }
            }
            _ => match self.sockets.perform(step).await {
                Some(outcome) => outcome,
                None => self.files(step).await,
            },
        }
    }

    async fn files(&mut self, step: &Step) -> Outcome {
        let (name, path) = step.path(0);
        let path = path.to_string();
        let done = match step.op.as_str() {
            "open" => return self.open(step, step.text(1)).await.map(ok),
            "read" => {
                let file = self.open(step, "r").await?;
                let (stream, end) = file.read_via_stream(0);
                let bytes = some(stream).await;
                end.await.map_err(error)?;
                return Ok(format!("read:{}", driver::text(&bytes)));
            }
            "write" => {
                let file = self.open(step, "wct").await?;
                return send(|data| file.write_via_stream(data, 0), step.arg(1).to_vec()).await;
            }
            "resize" => self.open(step, "w").await?.set_size(step.number(1)).await,
            "list" => {
                let (mut entries, end) = self.open(step, "rd").await?.read_directory();
                let mut names = Vec::new();
                while let Some(entry) = entries.next().await {
                    names.push(entry.name);
                }
                end.await.map_err(error)?;
                return Ok(list(names));
            }
            "stat" | "lstat" => {
                let mut follow = PathFlags::empty();
                follow.set(PathFlags::SYMLINK_FOLLOW, step.op == "stat");
                let stat = self.directory(name)?.stat_at(follow, path).await.map_err(error)?;
                let kind = match stat.type_ {
                    DescriptorType::Directory => "directory",
                    DescriptorType::RegularFile => "file",
                    DescriptorType::SymbolicLink => "symlink",
                    _ => "other",
                };
                return Ok(kind.to_string());
            }
            "mkdir" => self.directory(name)?.create_directory_at(path).await,
            "rmdir" => self.directory(name)?.remove_directory_at(path).await,
            "unlink" => self.directory(name)?.unlink_file_at(path).await,
            "symlink" => {
                let (name, path) = step.path(1);
                self.directory(name)?.symlink_at(step.text(0).to_string(), path.to_string()).await
            }
            "readlink" => {
                let to = self.directory(name)?.readlink_at(path).await.map_err(error)?;
                return Ok(format!("to:{to}"));
            }
            "hash" => {
                let hash = self.directory(name)?.metadata_hash_at(PathFlags::empty(), path).await;
                hash.map_err(error)?;
                return Ok("hashed".to_string());
            }
            "link" => {
                let (other, new) = step.path(1);
                let (from, to) = (self.directory(name)?, self.directory(other)?);
                from.link_at(PathFlags::empty(), path, to, new.to_string()).await
            }
            "rename" => {
                let (other, new) = step.path(1);
                let (from, to) = (self.directory(name)?, self.directory(other)?);
                from.rename_at(path, to, new.to_string()).await
            }
            "times" => {
                let now = NewTimestamp::Now;
                self.directory(name)?.set_times_at(PathFlags::SYMLINK_FOLLOW, path, now, now).await
            }
            "many" => {
                for n in 0..step.number(1) {
                    if let Err(code) = self.directory(name)?.create_directory_at(format!("{path}{n}")).await {
                        return Ok(format!("{n}:{}", error(code)));
                    }
                }
                Ok(())
            }
            "fill" => {
                let file = self.open(step, "wct").await?;
                for n in 0..step.number(1) {
                    let data = vec![b'x'; 65536];
                    if let Err(why) = send(|data| file.write_via_stream(data, n * 65536), data).await {
                        return Ok(format!("{n}:{why}"));
                    }
                }
                Ok(())
            }
            "hoard" => {
                for n in 0..step.number(2) {
                    if let Err(why) = self.hoard(step.text(1), (name, &path), n).await {
                        return Ok(format!("{n}:{why}"));
                    }
                }
                Ok(())
            }
            "deep" => {
                let mut at = below(self.directory(name)?, ".").await.map_err(error)?;
                for n in 0..step.number(1) {
                    if let Err(code) = at.create_directory_at("d".to_string()).await {
                        return Ok(format!("{n}:{}", error(code)));
                    }
                    match below(&at, "d").await {
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
