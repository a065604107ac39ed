//! `verify` of many targets: in parallel, reported in their order.
//!
//! Each target is judged by itself, by one policy that is read once. Nothing is written, and no
//! registry is contacted unless a client is given.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use qyvol_remote::Client;
use qyvol_store::Reporter;
use qyvol_trust::TrustPolicy;
use qyvol_types::escape;

use crate::policy::policy_used;
use crate::remote::verify_remote;
use crate::verify::verify_by;
use crate::{Context, Error, PolicyUsed, Target, VerifyReport};

/// Most targets that are verified at once.
const WORKERS: usize = 64;
/// How deep directories are searched.
const DEPTH: usize = 32;
/// Most archives of a directory.
const ARCHIVES: usize = 1 << 20;

/// What to verify.
pub struct VerifyRequest<'a> {
    /// Targets as they were written; one that is spelled as a directory stands for the archives
    /// in it.
    pub targets: &'a [String],
    /// A key that decides instead of the policy.
    pub key: Option<&'a str>,
    /// Contacts the registries of names that have one. Without it, the store is used.
    pub client: Option<&'a Arc<Client>>,
}

/// The result for one target.
#[derive(Debug)]
pub struct TargetVerdict {
    /// The target, or an archive of the directory that it is.
    pub target: String,
    /// Its images, all accepted and complete; or why it is refused.
    pub found: Result<Vec<VerifyReport>, Error>,
    /// What was left out.
    pub warnings: Vec<String>,
}

/// Verifies targets: signatures first, then that all content has the digests that were signed.
/// `each` is called for every target, in their order. Returns by what they were judged.
///
/// # Errors
/// The policy can't be used. What is wrong with a target is reported to `each`.
pub fn verify_many(
    ctx: &Context<'_>,
    request: &VerifyRequest<'_>,
    each: &mut dyn FnMut(TargetVerdict),
) -> Result<PolicyUsed, Error> {
    let (policy, used) = policy_used(ctx, request.key)?;
    let jobs: Vec<Job> = request.targets.iter().flat_map(|text| Job::of(text)).collect();
    if let [_] = &jobs[..] {
        for job in jobs {
            let found = job.target.and_then(|target| one(ctx, &policy, request.client, &target));
            each(TargetVerdict {
                target: job.text,
                found,
                warnings: Vec::new(),
            });
        }
        return Ok(used);
    }
    let workers = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(jobs.len())
        .min(WORKERS);
    let jobs: Vec<Mutex<Option<Job>>> = jobs.into_iter().map(|job| Mutex::new(Some(job))).collect();
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    // What a worker needs of the context: not everything in it can be shared.
    let (home, now, source_date) = (&ctx.home, ctx.now, ctx.source_date);
    let (temporaries, path, policy) = (ctx.temporaries, &ctx.policy, &policy);
    thread::scope(|scope| {
        for _ in 0..workers {
            let (sender, jobs, next) = (sender.clone(), &jobs, &next);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(index) else { return };
                    let job = job.lock().unwrap_or_else(PoisonError::into_inner).take();
                    let Some(job) = job else { return };
                    let report = Warnings::default();
                    let ctx = Context {
                        home: home.clone(),
                        now,
                        source_date,
                        report: &report,
                        temporaries,
                        compiler: None,
                        policy: path.clone(),
                    };
                    let found = job.target.and_then(|target| one(&ctx, policy, request.client, &target));
                    drop(ctx);
                    let warnings = report.0.into_inner().unwrap_or_else(PoisonError::into_inner);
                    let verified = TargetVerdict {
                        target: job.text,
                        found,
                        warnings,
                    };
                    if sender.send((index, verified)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut waiting = BTreeMap::new();
        let mut due = 0;
        for (index, verified) in receiver {
            waiting.insert(index, verified);
            while let Some(verified) = waiting.remove(&due) {
                each(verified);
                due += 1;
            }
        }
    });
    Ok(used)
}

fn one(
    ctx: &Context<'_>,
    policy: &TrustPolicy,
    client: Option<&Arc<Client>>,
    target: &Target,
) -> Result<Vec<VerifyReport>, Error> {
    let name = match target {
        Target::Image(name) => name.in_registry(),
        _ => None,
    };
    match (client, name) {
        (Some(client), Some(name)) => Ok(vec![verify_remote(ctx, client, policy, name)?]),
        _ => verify_by(ctx, policy, target),
    }
}

/// One target.
struct Job {
    text: String,
    target: Result<Target, Error>,
}

impl Job {
    /// The archives of a target: itself, or the archives in a directory, by their paths.
    fn of(text: &str) -> Vec<Job> {
        let job = |text: &str, target| Job {
            text: text.to_string(),
            target,
        };
        let directory = match Target::parse(text) {
            Ok(Target::Manifest(path)) if !text.ends_with(".qyv") => path,
            target => return vec![job(text, target)],
        };
        let mut found = Vec::new();
        match archives(&directory, DEPTH, &mut found) {
            Ok(()) if found.is_empty() => vec![job(
                text,
                Err(Error::Usage(format!("{} has no .qyvbin in it", escape(text)))),
            )],
            Ok(()) => {
                found.sort();
                found.into_iter().map(Job::of_archive).collect()
            }
            Err(error) => vec![job(text, Err(error))],
        }
    }

    /// An archive that was found. A name in a record must stand for one file, so a name that is
    /// not UTF-8 is refused.
    fn of_archive(path: PathBuf) -> Job {
        match path.to_str() {
            Some(text) => Job {
                text: text.to_string(),
                target: Ok(Target::Archive(path)),
            },
            None => {
                let text = path.as_os_str().as_encoded_bytes().escape_ascii().to_string();
                let why = format!("{text}: the name of an archive in a directory must be UTF-8");
                Job {
                    text,
                    target: Err(Error::Usage(why)),
                }
            }
        }
    }
}

/// Collects the archives in a directory and those below it. Links are not followed.
fn archives(directory: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), Error> {
    let failed = |error| Error::file("read", directory)(error);
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(failed)?);
        let is_archive = path.extension().is_some_and(|ending| ending == "qyvbin");
        if kind.is_dir() {
            if depth == 0 {
                return Err(Error::Usage(format!(
                    "{} is nested too deep: directories are searched at most {DEPTH} levels deep",
                    escape(&path.to_string_lossy())
                )));
            }
            archives(&path, depth - 1, found)?;
        } else if is_archive && kind.is_file() {
            found.push(path);
        }
        if found.len() > ARCHIVES {
            return Err(Error::Usage(format!(
                "{} has more than {ARCHIVES} archives",
                escape(&directory.to_string_lossy())
            )));
        }
    }
    Ok(())
}

/// Collects the warnings about one target, to report them with its result.
#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Reporter for Warnings {
    fn warned(&self, message: &str) {
        let mut warnings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        warnings.push(message.to_string());
    }
}
