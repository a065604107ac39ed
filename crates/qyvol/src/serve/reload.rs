//! Replaces the image that answers, while requests are answered, and only by an image that
//! trust, the compiler and a trial instance accept.
//!
//! The thread that started the server supervises it. It checks the target, prepares the next
//! image, and releases the resources of the previous one once its last guest has ended.

use std::sync::Arc;
use std::time::Instant;

use qyvol_serve::Site;

use super::application::{Application, Identity};
use super::certificate::Certificate;
use super::standing::{Accepted, Standing};
use super::watch::{PolicySight, Sight};
use super::{ServeNotice, ServeRequest, ServedApp};
use crate::run::{StepTimer, VerifiedTarget};
use crate::{Context, Error, ErrorClass};

/// The supervisor of a server.
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
    /// The site that answers.
    identity: Identity,
    /// The image, to judge it again; none for a manifest under development.
    accepted: Option<Accepted>,
    /// The policy by which it was judged last.
    judged_by: PolicySight,
    /// The state of the target at the last check.
    seen: Option<Sight>,
    /// The last failure that was reported, so that it is reported once.
    reported: Option<String>,
}

impl Supervisor<'_> {
    /// Checks the targets on request and at intervals, until the server has ended.
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

    /// Checks the certificate and all targets, until shutdown begins.
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
        // Before it is read: later changes are then detected.
        let judged_by = PolicySight::of(ctx);
        let seen = Sight::of(ctx, &app.run, judged_by).ok();
        let mut clock = StepTimer::start(app.run.events);
        let judged = VerifiedTarget::new(ctx, &app.run)?;
        clock.step("verify");
        let accepted = Accepted::of(&judged);
        let figures = Arc::default();
        let Application { app: first, identity } = Application::new(ctx, request, app, judged, &figures, &mut clock)?;
        let name = app.name.as_ref().unwrap_or(&identity.name);
        Ok(Answering {
            site: Arc::new(Site::new(name, first, app.requests, figures)),
            request,
            app,
            identity,
            accepted,
            judged_by,
            seen,
            reported: None,
        })
    }

    /// Judges the current image again if the policy has changed, or on request. Then checks the
    /// target, and judges its image if that has changed.
    fn check_target(&mut self, ctx: &Context<'_>, is_asked: bool) {
        let policy = PolicySight::of(ctx);
        if is_asked || self.judged_by != policy {
            self.judge_again(ctx, policy);
        }
        let sight = match Sight::of(ctx, &self.app.run, policy) {
            Ok(sight) if !is_asked && self.seen.as_ref() == Some(&sight) => return,
            Ok(sight) => sight,
            Err(error) => return self.failed(error),
        };
        match self.replacement(ctx) {
            Ok((accepted, replacement)) => {
                self.accepted = accepted;
                self.judged_by = policy;
                self.seen = Some(sight);
                self.reported = None;
                let is_other = replacement.is_some();
                if let Some(Application { app, identity }) = replacement {
                    self.site.replace(app);
                    self.identity = identity;
                }
                if self.site.withhold(false) || is_other {
                    self.report_answering();
                }
            }
            Err(error) => {
                // The same image is not retried, unless it failed for a temporary reason.
                if error.class() != ErrorClass::Temporary {
                    self.seen = Some(sight);
                }
                self.failed(error);
            }
        }
    }

    /// Judges the current image, whatever the target refers to. If it is revoked, further
    /// requests are refused until it is accepted again.
    fn judge_again(&mut self, ctx: &Context<'_>, policy: PolicySight) {
        let Some(accepted) = &self.accepted else {
            return;
        };
        match accepted.judge(ctx, self.app.run.key) {
            Ok(Standing::Accepted) => {
                if self.site.withhold(false) {
                    self.reported = None;
                    self.report_answering();
                }
            }
            Ok(Standing::Revoked(error)) => {
                if !self.site.withhold(true) {
                    // The target may well fail in the same way.
                    self.reported = Some(error.to_string());
                    (self.request.notices)(ServeNotice::Withheld {
                        application: self.site.name().to_string(),
                        error: Box::new(error),
                    });
                }
            }
            Ok(Standing::Other) => {}
            // It is retried. The target is judged by the same policy, which reports why.
            Err(_) => return,
        }
        self.judged_by = policy;
    }

    /// The target's image, accepted and, unless it answers already, ready to answer.
    fn replacement(&self, ctx: &Context<'_>) -> Result<(Option<Accepted>, Option<Application>), Error> {
        let mut clock = StepTimer::start(self.app.run.events);
        let judged = VerifiedTarget::new(ctx, &self.app.run)?;
        clock.step("verify");
        let accepted = Accepted::of(&judged);
        if Identity::of(&judged) == self.identity {
            return Ok((accepted, None));
        }
        let made = Application::new(ctx, self.request, self.app, judged, self.site.figures(), &mut clock)?;
        Ok((accepted, Some(made)))
    }

    fn report_answering(&self) {
        (self.request.notices)(ServeNotice::Reloaded {
            image: format!("{}:{}", self.identity.name, self.identity.version),
            digest: self.identity.digest,
        });
    }

    /// Nothing is replaced: the current image keeps answering, unless it is withheld.
    fn failed(&mut self, error: Error) {
        self.site.not_replaced();
        let what = error.to_string();
        if self.reported.as_ref() != Some(&what) {
            self.reported = Some(what);
            (self.request.notices)(ServeNotice::NotReloaded {
                application: self.site.name().to_string(),
                is_withheld: self.site.is_withheld(),
                error: Box::new(error),
            });
        }
    }
}
