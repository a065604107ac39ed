//! The page of an image.

use std::sync::Arc;

use askama::Template;
use qyvol_hub::{Cache, ListedManifest, PageRequest, Repository};
use qyvol_trust::{Identity, required_identity};
use qyvol_types::{AppType, Digest, Reference, Timestamp};

use crate::Frame;
use crate::facts::{self, App, ImageFacts, Limit, Other};
use crate::interfaces::{Interfaces, Purpose};
use crate::list_pages::plain_http;
use crate::path::Version;
use crate::readme::Readme;
use crate::shown::{Fitting, short};
use crate::signatures::{Finding, Kind, Referrers, referrers};

#[derive(Template)]
#[template(path = "image.html")]
struct AppPage<'a> {
    frame: &'a Frame<'a>,
    name: &'a str,
    /// The tag that was asked for, or the digest, shortened.
    version: &'a str,
    digest: Digest,
    /// What commands call it.
    reference: String,
    plain_http: String,
    /// Whether it calls itself something else than its repository and tag.
    other_name: bool,
    app: &'a App,
    referrers: Referrers,
    /// Why a host refuses it, as far as the hub can see.
    obstacle: Option<Obstacle>,
}

/// What keeps a host from running an image under its name here.
#[derive(Clone, Copy)]
enum Obstacle {
    /// No valid signature of a release.
    NoRelease,
    /// It is signed under a name that the repository's does not end in.
    OtherName,
    /// It asks for a permission that this version does not know or can't grant.
    Permission,
}

#[derive(Template)]
#[template(path = "other.html")]
struct OtherPage<'a> {
    frame: &'a Frame<'a>,
    name: &'a str,
    version: &'a str,
    digest: Digest,
    other: &'a Other,
}

/// The page of an image. None if there is none of this version.
pub(crate) fn image(
    request: &PageRequest<'_>,
    repository: &Repository,
    version: &Version<'_>,
    cache: &Cache<Digest, Arc<ImageFacts>>,
    frame: &Frame<'_>,
) -> Option<String> {
    let (digest, shown) = match version {
        Version::Tag(tag) => (repository.tag(tag)?, (*tag).to_string()),
        Version::Digest(digest) => (*digest, short(digest)),
    };
    // A digest counts only in a repository that has it: the cache is of all.
    let listed = repository.manifest(&digest)?;
    let facts = facts_of(repository, &listed, cache)?;
    let name = repository.name();
    match &*facts {
        ImageFacts::Other(other) => {
            let page = OtherPage {
                frame,
                name,
                version: &shown,
                digest,
                other,
            };
            page.render().ok()
        }
        ImageFacts::App(app) => {
            let tag = match version {
                Version::Tag(tag) => format!(":{tag}"),
                Version::Digest(_) => String::new(),
            };
            let now = Timestamp::from_system(request.now);
            let tag_or_own = match version {
                Version::Tag(tag) => tag,
                Version::Digest(_) => app.own_version.as_str(),
            };
            let asked = Reference::local(name, tag_or_own).ok()?;
            let own = Reference::local(&app.own_name, &app.own_version).ok()?;
            let referrers = referrers(repository, &digest, app, now).ok()?;
            let obstacle = match required_identity(&asked, &own) {
                _ if !referrers.is_released => Some(Obstacle::NoRelease),
                Identity::Any => Some(Obstacle::OtherName),
                _ if !app.understood => Some(Obstacle::Permission),
                _ => None,
            };
            let page = AppPage {
                frame,
                name,
                version: &shown,
                digest,
                reference: format!("{}/{name}{tag}@{digest}", request.host),
                plain_http: plain_http(request),
                other_name: asked != own,
                obstacle,
                referrers,
                app,
            };
            page.render().ok()
        }
    }
}

fn facts_of(
    repository: &Repository,
    listed: &ListedManifest,
    cache: &Cache<Digest, Arc<ImageFacts>>,
) -> Option<Arc<ImageFacts>> {
    if let Some(known) = cache.get(&listed.digest) {
        return Some(known);
    }
    let facts = Arc::new(facts::read(repository, listed).ok()??);
    cache.insert(listed.digest, facts.clone(), facts.weight());
    Some(facts)
}

impl AppPage<'_> {
    fn kind(&self) -> &'static str {
        let t = self.frame.t;
        match self.app.app_type {
            AppType::Cli => t.command,
            AppType::Service => t.service,
            AppType::Function => t.functions_word,
            AppType::Gui => t.graphical,
        }
    }

    fn permissions(&self) -> &Fitting {
        self.app.permissions(self.frame.language)
    }

    /// The verb that runs it, and what that step is called.
    fn run(&self) -> (&'static str, &'static str) {
        let t = self.frame.t;
        match self.app.app_type {
            AppType::Cli => ("run", t.step_run),
            AppType::Service => ("serve", t.step_serve),
            AppType::Function => ("call", t.step_call),
            AppType::Gui => ("run", t.step_graphical),
        }
    }

    fn obstacle(&self, obstacle: &Obstacle) -> &'static str {
        let t = self.frame.t;
        match obstacle {
            Obstacle::NoRelease => t.obstacle_release,
            Obstacle::OtherName => t.obstacle_name,
            Obstacle::Permission => t.obstacle_permission,
        }
    }

    fn is_called(&self) -> bool {
        self.app.app_type == AppType::Function
    }

    fn interfaces(&self) -> [(&'static str, &Interfaces); 2] {
        let t = self.frame.t;
        [(t.imports, &self.app.imports), (t.exports, &self.app.exports)]
    }

    fn names(&self) -> [(&'static str, &Fitting); 2] {
        let t = self.frame.t;
        [(t.functions, &self.app.functions), (t.processes, &self.app.processes)]
    }

    /// `valid`, `doubtful` or `none`, for its colour and sign.
    fn state(&self) -> &'static str {
        match (self.referrers.valid, self.referrers.others) {
            (0, 0) => "none",
            (0, _) => "doubtful",
            _ => "valid",
        }
    }

    fn finding(&self, finding: &Finding) -> &'static str {
        let t = self.frame.t;
        match finding {
            Finding::Valid => t.finding_valid,
            Finding::Expired => t.finding_expired,
            Finding::NotYetValid => t.finding_not_yet,
            Finding::NotChecked => t.finding_not_checked,
            Finding::OtherName => t.finding_other_name,
            Finding::OtherImage => t.finding_other_image,
            Finding::Wrong => t.finding_wrong,
            Finding::Malformed => t.finding_malformed,
        }
    }

    fn attached(&self, kind: &Kind) -> &'static str {
        let t = self.frame.t;
        match kind {
            Kind::Provenance => t.kind_provenance,
            Kind::Sbom => t.kind_sbom,
            Kind::Attestation => t.kind_attestation,
            Kind::Encodings => t.kind_encodings,
            Kind::Other => t.kind_other,
        }
    }

    fn limit(&self, limit: &Limit) -> &'static str {
        let t = self.frame.t;
        match limit {
            Limit::Memory => t.limit_memory,
            Limit::Time => t.limit_time,
            Limit::Cpu => t.limit_cpu,
            Limit::Fuel => t.limit_fuel,
            Limit::Storage => t.limit_storage,
            Limit::Output => t.limit_output,
            Limit::Files => t.limit_files,
            Limit::Sockets => t.limit_sockets,
        }
    }

    fn purpose(&self, purpose: &Purpose) -> &'static str {
        let t = self.frame.t;
        match purpose {
            Purpose::CommandLine => t.purpose_cli,
            Purpose::Files => t.purpose_files,
            Purpose::Network => t.purpose_network,
            Purpose::Http => t.purpose_http,
            Purpose::Clocks => t.purpose_clocks,
            Purpose::Random => t.purpose_random,
            Purpose::Streams => t.purpose_streams,
            Purpose::Inference => t.purpose_inference,
            Purpose::Preview1 => t.purpose_preview1,
            Purpose::Caller => t.purpose_caller,
        }
    }
}
