//! What reaches registries: certificates, a proxy, and the registries themselves.

use std::env;

use qyvol::Context;
use qyvol::remote_store::{count_system_certificates, shown_proxy};

use super::Area;
use crate::cli::DoctorArgs;
use crate::failure::{Failure, chain};
use crate::ui::Ui;

/// The variables that name a proxy, as they are looked for.
const PROXIES: &[&str] = &["HTTPS_PROXY", "https_proxy", "http_proxy", "ALL_PROXY", "all_proxy"];

pub(super) fn look(ctx: &Context<'_>, ui: &Ui, args: &DoctorArgs) -> Result<Area, Failure> {
    let mut area = Area::new("network");
    match count_system_certificates() {
        0 => {
            area.note("certificates", "this system has none")
                .means("registries are verified with Mozilla's list of authorities, which qyv includes")
                .fix("the package ca-certificates, or `--ca FILE` for a private authority");
        }
        number => area.ok("certificates", format!("{number} from this system")),
    }
    for name in PROXIES {
        if let Some(value) = env::var(name).ok().filter(|value| !value.is_empty()) {
            area.ok("proxy", format!("{name} is {}", shown_proxy(&value)));
        }
    }
    if args.registries.is_empty() {
        return Ok(area);
    }
    let client = crate::registry::client(&ctx.home, ui, &args.registry)?;
    for registry in &args.registries {
        match client.ping(registry) {
            Ok(()) => area.ok(registry, "answers, and accepts your credentials if there are any"),
            Err(error) => {
                area.problem(registry, chain(&error)).fix(format!(
                    "`qyv login {registry}` if it asks for credentials; --ca, --plain-http or the proxy if it can't be reached"
                ));
            }
        }
    }
    Ok(area)
}
