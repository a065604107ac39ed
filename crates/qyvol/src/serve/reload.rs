//! Replacing what answers: while requests are answered, and by nothing that trust, the
//! compiler or a first instance refuses.
//!
//! The thread that has begun the server stays behind it. It looks at the target, makes
//! what is to answer next, and gives back what the one before held once its last guest
//! has ended.

use std::sync::Arc;
use std::time::Instant;

use qyvol_serve::Site;
use qyvol_trust::Refusal;

use super::application::{Application, Identity};
use super::certificate::Certificate;
use super::watch::{Sight, TargetSight};
use super::{ServeNotice, ServeRequest, ServedApp};
use crate::run::{StepTimer, VerifiedTarget};
use crate::{Context, Error, ErrorClass};

/// What stays behind a server.
pub(super) struct Supervisor<'s> {
    pub(super) ctx: &'s Context<'s>,
    pub(super) request: &'s ServeRequest<'s>,
    pub(super) answering: Vec<Answering<'s>>,
    /// The certificate, if there is one.
    pub(super) certificate: Option<Certificate>,
}

/// An application that answers.
pub(super) struct Answering<'s> {
    request: &'s ServeRequest<'s>,
    pub(super) app: &'s ServedApp<'s>,
    pub(super) site: Arc<Site>,
    /// What answers.
    identity: Identity,
    /// What the target led to when it was looked at last.
    seen: Option<Sight>,
    /// What it led to when what answers was read.
    read: Option<TargetSight>,
    /// The last failure that was told, so that it is told once.
    told: Option<String>,
}

impl Supervisor<'_> {
    /// Looks at the targets when it is asked or the time has come, until the server has
    /// ended.
    pub(super) fn stay(&mut self) {
        let watch = self.request.watch;
        let next = || watch.map(|every| Instant::now() + every);
        let mut due = next();
        loop {
            let waiting = self.request.reload.wait(due);
            for gone in waiting.gone {
                gone.finish(self.ctx);
            }
            if waiting.has_ended {
                return;
            }
            let is_due = due.is_some_and(|due| due <= Instant::now());
            if waiting.is_asked || is_due {
                self.check_targets(waiting.is_asked);
                due = next();
            }
        }
    }

    /// Looks at the certificate and at all targets, until the end begins.
    fn check_targets(&mut self, is_asked: bool) {
        if !self.request.stop.has_begun() {
            self.check_certificate();
        }
        for one in &mut self.answering {
            if self.request.stop.has_begun() {
                return;
            }
            let ctx = Context {
                home: self.ctx.home.clone(),
                now: (self.request.now)(),
                source_date: self.ctx.source_date,
                report: self.ctx.report,
                temporaries: self.ctx.temporaries,
                compiler: self.ctx.compiler,
                policy: self.ctx.policy.clone(),
            };
            one.check_target(&ctx, is_asked);
        }
    }

    fn check_certificate(&mut self) {
        let Some(certificate) = &mut self.certificate else {
            return;
        };
        match certificate.renew() {
            Ok(true) => (self.request.notices)(ServeNotice::Renewed),
            Ok(false) => {}
            Err(error) => (self.request.notices)(ServeNotice::NotRenewed(Box::new(error))),
        }
    }
}

impl<'s> Answering<'s> {
    /// Judges, prepares and tries an application.
    pub(super) fn new(
        ctx: &Context<'_>,
        request: &'s ServeRequest<'s>,
        app: &'s ServedApp<'s>,
    ) -> Result<Answering<'s>, Error> {
        // Before it is read: what is changed from here on is seen to have changed.
        let seen = Sight::of(ctx, &app.run).ok();
        let mut clock = StepTimer::start(app.run.events);
        let judged = VerifiedTarget::new(ctx, &app.run)?;
        clock.step("verify");
        let figures = Arc::default();
        let Application { app: first, identity } = Application::new(ctx, request, app, judged, &figures, &mut clock)?;
        let name = app.name.as_ref().unwrap_or(&identity.name);
        Ok(Answering {
            site: Arc::new(Site::new(name, first, app.requests, figures)),
            request,
            app,
            identity,
            read: seen.as_ref().map(|sight| sight.target.clone()),
            seen,
            told: None,
        })
    }

    /// Looks at the target. If it leads to something else, or if that was asked for, it
    /// judges what is there.
    fn check_target(&mut self, ctx: &Context<'_>, is_asked: bool) {
        let sight = match Sight::of(ctx, &self.app.run) {
            Ok(sight) if !is_asked && self.seen.as_ref() == Some(&sight) => return,
            Ok(sight) => sight,
            Err(error) => return self.failed(error),
        };
        match self.replacement(ctx) {
            Ok(replacement) => {
                self.read = Some(sight.target.clone());
                self.seen = Some(sight);
                self.told = None;
                let is_other = replacement.is_some();
                if let Some(Application { app, identity }) = replacement {
                    self.site.replace(app);
                    self.identity = identity;
                }
                if self.site.withhold(false) || is_other {
                    (self.request.notices)(ServeNotice::Reloaded {
                        image: format!("{}:{}", self.identity.name, self.identity.version),
                        digest: self.identity.digest,
                    });
                }
            }
            Err(error) => {
                let is_revoked = error.class() == ErrorClass::Refused(Refusal::Revoked);
                if is_revoked && self.read.as_ref() == Some(&sight.target) {
                    self.site.withhold(true);
                }
                // The same is not tried again, unless it is another time that it needs.
                if error.class() != ErrorClass::Temporary {
                    self.seen = Some(sight);
                }
                self.failed(error);
            }
        }
    }

    /// What the target leads to, ready to answer; none if that answers already.
    fn replacement(&self, ctx: &Context<'_>) -> Result<Option<Application>, Error> {
        let mut clock = StepTimer::start(self.app.run.events);
        let judged = VerifiedTarget::new(ctx, &self.app.run)?;
        clock.step("verify");
        if Identity::of(&judged) == self.identity {
            return Ok(None);
        }
        Application::new(ctx, self.request, self.app, judged, self.site.figures(), &mut clock).map(Some)
    }

    /// What answered stays, unless it is withheld.
    fn failed(&mut self, error: Error) {
        self.site.not_replaced();
        let what = error.to_string();
        if self.told.as_ref() != Some(&what) {
            self.told = Some(what);
            let (application, error) = (self.site.name().to_string(), Box::new(error));
            (self.request.notices)(match self.site.is_withheld() {
                true => ServeNotice::Withheld { application, error },
                false => ServeNotice::NotReloaded { application, error },
            });
        }
    }
}
