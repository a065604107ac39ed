//! Replacing what answers: while requests are answered, and by nothing that trust, the
//! compiler or a first instance refuses.
//!
//! The thread that has begun the server stays behind it. It looks at the target, makes
//! what is to answer next, and gives back what the one before held once its last guest
//! has ended.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use qyvol_serve::Site;
use qyvol_trust::Refusal;

use super::application::{Application, Gone, Identity};
use super::certificate::Certificate;
use super::watch::{Sight, TargetSight};
use super::{ServeNotice, ServeRequest, ServedApp};
use crate::run::{StepTimer, VerifiedTarget};
use crate::{Context, Error, ErrorClass};

/// Tells a server to look at its target at once. Clones tell the same one.
#[derive(Clone, Default)]
pub struct Reload {
    desk: Arc<Desk>,
}

#[derive(Default)]
struct Desk {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

/// What waits to be done.
#[derive(Default)]
struct Waiting {
    is_asked: bool,
    gone: Vec<Gone>,
    has_ended: bool,
}

impl Reload {
    /// Has it look.
    pub fn ask(&self) {
        self.waiting().is_asked = true;
        self.desk.changed.notify_all();
    }

    pub(super) fn gone(&self, gone: Gone) {
        self.waiting().gone.push(gone);
        self.desk.changed.notify_all();
    }

    pub(super) fn ended(&self) {
        self.waiting().has_ended = true;
        self.desk.changed.notify_all();
    }

    /// Gives back what no guest needs any more.
    pub(super) fn finish(&self, ctx: &Context<'_>) {
        let gone = std::mem::take(&mut self.waiting().gone);
        gone.into_iter().for_each(|gone| gone.finish(ctx));
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.desk.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is something to do, or until that time.
    fn wait(&self, until: Option<Instant>) -> Waiting {
        let mut waiting = self.waiting();
        while !waiting.is_asked && !waiting.has_ended && waiting.gone.is_empty() {
            let Some(until) = until else {
                waiting = self.desk.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.desk.changed.wait_timeout(waiting, left);
            waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::take(&mut *waiting)
    }
}

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
                self.look(waiting.is_asked);
                due = next();
            }
        }
    }

    /// Looks at the certificate and at all targets, until the end begins.
    fn look(&mut self, must: bool) {
        if !self.request.stop.has_begun() {
            self.look_at_certificate();
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
            one.look(&ctx, must);
        }
    }

    fn look_at_certificate(&mut self) {
        let Some(certificate) = &mut self.certificate else {
            return;
        };
        match certificate.look() {
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

    /// Looks at the target. If it leads to something else, or if it must, it judges what
    /// is there.
    fn look(&mut self, ctx: &Context<'_>, must: bool) {
        let sight = match Sight::of(ctx, &self.app.run) {
            Ok(sight) if !must && self.seen.as_ref() == Some(&sight) => return,
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
