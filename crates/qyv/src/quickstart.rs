//! `quickstart`: every step for real, on an embedded example, in directories of its own. The
//! user's files are not touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use qyvol::{BuildRequest, Claims, Context, Error, Home, Outcome, RunRequest, SignRequest, SignerChoice, Target};
use rustix::fs::Mode;

use crate::cli::QuickstartArgs;
use crate::failure::Failure;
use crate::secrets;
use crate::ui::{Ui, format_duration, size};

const COMPONENT: &[u8] = include_bytes!("../../../examples/hello/hello.component.wasm");
const MANIFEST: &str = include_str!("../../../examples/hello/hello.qyv");

struct Steps<'a> {
    ui: &'a Ui,
    number: usize,
    started: Instant,
}

impl Steps<'_> {
    fn done(&mut self, what: &str, result: &str) {
        self.number += 1;
        let time = format_duration(self.started.elapsed());
        self.ui
            .note(&format!("{:>2}. {what:<8}{time:>9}   {result}", self.number));
        self.started = Instant::now();
    }
}

/// A host of its own in a directory.
fn home_in(directory: &Path, ctx: &Context<'_>) -> Home {
    Home {
        memory: ctx.home.memory.clone(),
        ..Home::in_directory(directory)
    }
}

pub fn quickstart(ctx: &Context<'_>, ui: &Ui, args: QuickstartArgs) -> Result<u8, Failure> {
    // Where the umask lets a group write, the policies made here would be refused.
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let temporary = match &args.keep {
        Some(directory) => {
            let is_empty = fs::read_dir(directory).map_or(true, |mut entries| entries.next().is_none());
            if !is_empty {
                return Err(Failure::usage(format!(
                    "{}: --keep takes a new or empty directory",
                    directory.display()
                )));
            }
            None
        }
        None => {
            // A minimal root may have no /tmp.
            let made = tempfile::tempdir().or_else(|_| tempfile::tempdir_in("."));
            Some(made.map_err(|e| Failure::new(format!("can't make a temporary directory: {e}")))?)
        }
    };
    let directory = match (&args.keep, &temporary) {
        (Some(directory), _) => directory.clone(),
        (None, Some(temporary)) => temporary.path().to_path_buf(),
        (None, None) => PathBuf::from("."),
    };
    let app = directory.join("hello");
    write(&app, "hello.component.wasm", COMPONENT)?;
    write(&app, "hello.qyv", MANIFEST.as_bytes())?;
    let home = directory.join("home");
    let home = home_in(&home, ctx);
    let ctx = Context {
        home,
        policy: None,
        ..*ctx
    };
    let archive = directory.join("hello.qyvbin");
    let mut steps = Steps {
        ui,
        number: 0,
        started: Instant::now(),
    };

    let manifest = app.join("hello.qyv");
    let built = qyvol::build(
        &ctx,
        &BuildRequest {
            output: Some(&archive),
            passphrase: &secrets::passphrase,
            ..BuildRequest::new(&manifest)
        },
    )?;
    let digest = built.built.descriptor.digest;
    steps.done(
        "build",
        &format!("{} {}, {}", built.built.name, digest, size(built.size)),
    );

    let target = Target::Archive(archive.clone());
    let claims = Claims {
        role: "approve".to_string(),
        ..Claims::default()
    };
    let request = SignRequest {
        target: &target,
        signer: SignerChoice::Default,
        claims,
        passphrase: &secrets::passphrase,
    };
    let signed = qyvol::sign(&ctx, &request)?;
    steps.done(
        "sign",
        &format!("{}, {} signatures, same digest", signed.fingerprint, signed.signatures),
    );

    let inspected = qyvol::inspect(&ctx, &target)?;
    let imports: usize = inspected.iter().map(|i| i.imports.len()).sum();
    let may: Vec<&str> = inspected
        .iter()
        .flat_map(|i| &i.permissions_in_words)
        .map(String::as_str)
        .collect();
    steps.done("inspect", &format!("{imports} imports; {}", may.join("; ")));

    qyvol::verify(&ctx, &target, None)?;
    steps.done("verify", "accepted by the policy, all content as signed, no network");

    #[cfg(feature = "hub")]
    deliver(&ctx, &mut steps, &target, &built.built.name, &directory)?;

    let refused = tampered(&ctx, &archive, &directory.join("tampered.qyvbin"))?;
    steps.done("tamper", &format!("one bit flipped, {refused}"));

    for what in ["run", "again"] {
        let code = run(&ctx, &target)?;
        let note = if what == "run" {
            "verified, compiled, run"
        } else {
            "verified, run from compiled code"
        };
        steps.done(what, &format!("{note}: exit code {code}"));
    }
    if args.keep.is_some() {
        ui.note(&format!(
            "kept in {}: try `QYVOL_HOME={} qyv run {}`",
            directory.display(),
            directory.join("home").display(),
            archive.display()
        ));
    }
    Ok(0)
}

/// Through a registry to another host: a hub of its own, an empty store, and a policy that
/// trusts the publisher for its images.
#[cfg(feature = "hub")]
fn deliver(
    ctx: &Context<'_>,
    steps: &mut Steps<'_>,
    target: &Target,
    own: &qyvol::types::Reference,
    directory: &Path,
) -> Result<(), Failure> {
    use qyvol::remote_store::{Anonymous, Client, Options};
    use qyvol::{Encodings, Keyring, PullRequest, PushRequest};

    let hub = crate::hub::EmbeddedHub::start(&directory.join("hub"))?;
    steps.done("hub", &format!("a local registry on http://{}", hub.address()));

    let client = Client::new(Options::default(), Box::new(Anonymous), Box::new(|_| {}));
    let name: qyvol::types::Reference = format!("{}/{own}", hub.address())
        .parse()
        .map_err(|e| Failure::new(format!("{own} is {e}")))?;
    let request = PushRequest {
        target,
        names: std::slice::from_ref(&name),
        dry_run: false,
        encodings: Encodings::None,
    };
    let pushed = qyvol::push(ctx, &client, &request)?;
    steps.done("push", &format!("{name}, {} signatures", pushed.signatures));

    let home = directory.join("host");
    let pem: String = Keyring::new(ctx)
        .public("default")?
        .to_pem()
        .lines()
        .map(|line| format!("      {line}\n"))
        .collect();
    let policy = format!(
        "version: 1\nkeys:\n  publisher:\n    pem: |\n{pem}rules:\n  - scope: {}/**\n    require: [{{ role: release, keys: [publisher] }}]\n",
        hub.address()
    );
    write(&home, "trust.yaml", policy.as_bytes())?;
    let home = home_in(&home, ctx);
    let host = Context {
        home,
        policy: None,
        ..*ctx
    };
    let policy = qyvol::policy_or_key(&host, None)?;
    let request = PullRequest {
        name: &name,
        output: None,
        policy: Some(&policy),
        dry_run: false,
    };
    let pulled = qyvol::pull(&host, &client, &request)?;
    steps.done("pull", &format!("into an empty store: {}", pulled.digest));

    let stored = Target::Image(name.into());
    qyvol::verify(&host, &stored, None)?;
    steps.done("verify", "accepted there by a policy that trusts the publisher");

    run(&host, &stored)?;
    steps.done(
        "run",
        "on that host, by name, without contacting the registry: exit code 0",
    );
    Ok(())
}

fn run(ctx: &Context<'_>, target: &Target) -> Result<i32, Failure> {
    match qyvol::run(ctx, &RunRequest::new(target))? {
        Outcome::Code(code) => Ok(code),
        other => Err(Failure::new(format!("the example ended with {other:?}"))),
    }
}

fn write(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), Failure> {
    fs::create_dir_all(directory)
        .and_then(|()| fs::write(directory.join(name), bytes))
        .map_err(|e| Failure::new(format!("can't write {} in {}: {e}", name, directory.display())))
}

/// Flips one bit in a copy of the archive and returns the refusal.
fn tampered(ctx: &Context<'_>, archive: &Path, copy: &Path) -> Result<String, Failure> {
    let failed = |e: std::io::Error| Failure::new(format!("can't copy {}: {e}", archive.display()));
    let mut bytes = fs::read(archive).map_err(failed)?;
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    fs::write(copy, bytes).map_err(failed)?;
    match qyvol::verify(ctx, &Target::Archive(copy.to_path_buf()), None) {
        Ok(_) => Err(Failure::new("an altered archive was accepted")),
        Err(Error::Image { source, .. }) => Ok(format!("refused, {source}")),
        Err(error) => Ok(format!("refused, {error}")),
    }
}
