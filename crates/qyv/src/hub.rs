//! `hub`: the registry server of this binary.
//!
//! Its log is one line of JSON an event, on stderr; stdout has the address that
//! was bound and nothing else, so that a script can read it.

mod users;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::SystemTime;

use qyvol::Context;
use qyvol_hub::{AccessControl, Config, Event, Hub, HubError, Level, Pages, Tls};
use qyvol_hub_page::HubPages;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::cli::{HubCommand, HubServeArgs, HubUserCommand};
use crate::failure::{Failure, chain};
use crate::open_files::open_files;
use crate::ui::Ui;

pub fn hub(ctx: &Context<'_>, ui: &Ui, command: HubCommand) -> Result<u8, Failure> {
    match command {
        HubCommand::Serve(args) => serve(ctx, ui, args),
        HubCommand::User {
            command: HubUserCommand::Add(args),
        } => users::add(ui, args),
        HubCommand::User {
            command: HubUserCommand::Rm(args),
        } => users::rm(ui, &args),
        HubCommand::User {
            command: HubUserCommand::List(args),
        } => users::list(ui, &args.users),
    }
}

fn failed(error: HubError) -> Failure {
    Failure::new(chain(&error))
}

fn runtime() -> Result<Runtime, Failure> {
    Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format!("can't start threads: {e}")))
}

fn serve(ctx: &Context<'_>, ui: &Ui, args: HubServeArgs) -> Result<u8, Failure> {
    let access = match &args.users {
        Some(path) => {
            let shown = qyvol::types::escape(&path.to_string_lossy()).to_string();
            AccessControl::load(path).map_err(|e| Failure::new(format!("{shown}: {}", chain(&e))))?
        }
        None if args.listen.ip().is_loopback() || args.open => AccessControl::Open,
        None => {
            return Err(
                Failure::usage(format!("others can reach {}, and anyone could push to it", args.listen))
                    .hint("--users FILE names the users and their rights; --open lets anyone do anything"),
            );
        }
    };
    if let Some(url) = &args.public_url
        && !["https://", "http://"]
            .iter()
            .any(|scheme| url.starts_with(scheme) && url.len() > scheme.len())
    {
        return Err(Failure::usage(format!(
            "--public-url {}: expected https://HOST or http://HOST",
            qyvol::types::escape(url)
        )));
    }
    let tls = args.tls_cert.clone().zip(args.tls_key.clone());
    let proxied = args.public_url.is_some() || !args.trusted_proxy.is_empty();
    if tls.is_none() && !proxied && !args.listen.ip().is_loopback() && args.users.is_some() {
        return Err(Failure::usage(format!(
            "passwords would cross the network to {} without encryption",
            args.listen
        ))
        .hint("--tls-cert and --tls-key give it a certificate; behind a proxy that has one, --public-url https://HOST or --trusted-proxy ADDRESS; --public-url http://HOST accepts it"));
    }
    let data = args.data.clone().unwrap_or_else(|| ctx.home.store.join("hub"));
    if args.collect_garbage && !data.is_dir() {
        return Err(Failure::new(format!(
            "there is no hub data in {}",
            qyvol::types::escape(&data.to_string_lossy())
        )));
    }
    let mut config = Config::new(args.listen, data, SystemTime::now);
    config.access = access;
    config.tls = tls.map(|(certificate, key)| Tls { certificate, key });
    config.public_url = args.public_url.clone();
    config.proxies = args.trusted_proxy.clone();
    config.pages = (!args.no_pages).then(|| Arc::new(HubPages::new()) as Arc<dyn Pages>);
    if let Some(bytes) = args.max_blob {
        config.limits.blob_bytes = bytes;
    }
    config.limits = config.limits.within(open_files());
    let voice = ui.clone();
    config.log = Arc::new(move |event: &Event| {
        // Quiet leaves out what went well.
        if event.level > Level::Info || !voice.quiet {
            voice.line(&event.to_json());
        }
    });
    let secure = config.tls.is_some();
    let hub = Hub::open(config).map_err(failed)?;
    if args.collect_garbage {
        let report = hub.collect_garbage().map_err(failed)?;
        for kept in &report.kept {
            ui.warn(&format!(
                "garbage collection skipped {}: {}",
                kept.repository, kept.reason
            ));
        }
        let kept: Vec<_> = report.kept.iter().map(|kept| &kept.repository).collect();
        ui.show(
            &json!({"schema": 1, "blobs": report.blobs, "bytes": report.bytes, "uploads": report.uploads, "kept": kept}),
            || {
                format!(
                    "removed {} blobs, {}, and {} uploads\n",
                    report.blobs,
                    crate::ui::size(report.bytes),
                    report.uploads
                )
            },
        )?;
        return Ok(0);
    }
    runtime()?.block_on(async {
        let bound = hub.bind().await.map_err(failed)?;
        let scheme = if secure { "https" } else { "http" };
        let address = bound.local_addr();
        ui.show(
            &json!({"schema": 1, "address": address, "url": format!("{scheme}://{address}")}),
            || format!("{scheme}://{address}\n"),
        )?;
        bound.serve(shutdown_signal()?).await.map_err(failed)
    })?;
    Ok(0)
}

/// Completes on SIGINT or SIGTERM.
fn shutdown_signal() -> Result<impl Future<Output = ()>, Failure> {
    let failed = |e: std::io::Error| Failure::new(format!("can't wait for signals: {e}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// A hub inside this process, on a port of its own.
pub struct EmbeddedHub {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl EmbeddedHub {
    /// Starts one over a directory.
    pub fn start(data: &std::path::Path) -> Result<EmbeddedHub, Failure> {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let hub = Hub::open(Config::new(loopback, data, SystemTime::now)).map_err(failed)?;
        let runtime = runtime()?;
        let bound = runtime.block_on(hub.bind()).map_err(failed)?;
        let address = bound.local_addr();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let shutdown = async {
                let _ = stopped.await;
            };
            // It ends when it is dropped.
            let _ = runtime.block_on(bound.serve(shutdown));
        });
        Ok(EmbeddedHub {
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for EmbeddedHub {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
