//! The policy of a run, whose parsed form is kept beside compiled code.
//!
//! Invariants:
//! - the policy's file is read and hashed on every run; a kept form counts for these very bytes
//!   and this very build alone;
//! - only what also runs the store's compiled code uses a kept form (`run`, `serve`, `call`,
//!   `compile`): whoever could forge one could as well have their own code run;
//! - a form that is not there or not this store's own changes no verdict: the text is parsed.
//!
//! Deliberately absent: `verify`, `trust` and what else only judges. They always parse.

use qyvol_store::{LocalStore, RunLock};
use qyvol_trust::{PARSED_FORM, TrustPolicy};
use qyvol_types::Digest;

use crate::policy::policy_used_as;
use crate::{Context, Error};

/// Bytes of a text from which on its parsed form is kept: a shorter one is read in less time than
/// the form of one takes to open.
const LARGE: usize = 16 << 10;

/// A parsed form that the store does not have yet.
pub(crate) struct NewForm {
    text: Digest,
    form: Vec<u8>,
}

/// The policy to run by, as [`crate::policy_or_key`] has it, and its form if that is new.
pub(crate) fn policy_of_run(ctx: &Context<'_>, key: Option<&str>) -> Result<(TrustPolicy, Option<NewForm>), Error> {
    let mut new = None;
    let (policy, _) = policy_used_as(ctx, key, &mut |text, digest| {
        if text.len() < LARGE {
            return TrustPolicy::parse(text);
        }
        // Whoever can't open the store is told when it is needed.
        let kept = ctx.store().ok();
        let kept = kept.and_then(|store| store.parsed_policy(PARSED_FORM, digest));
        if let Some(policy) = kept.and_then(|form| TrustPolicy::from_parsed_form(&form)) {
            return Ok(policy);
        }
        let policy = TrustPolicy::parse(text)?;
        new = Some(NewForm {
            text: *digest,
            form: policy.to_parsed_form(),
        });
        Ok(policy)
    })?;
    Ok((policy, new))
}

impl NewForm {
    /// Keeps it for the next run, where the store can be written. To be called while a run lock
    /// is held. A failure costs the next run the time to parse.
    pub(crate) fn keep(&self, store: &LocalStore, lock: &RunLock) {
        if lock.is_held() {
            let _ = store.put_parsed_policy(PARSED_FORM, &self.text, &self.form);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use qyvol_types::Timestamp;

    use super::*;
    use crate::{Home, TempFiles, policy_or_key};

    // [SIGN-049]
    #[test]
    fn parsed_form_is_used_only_by_runs_and_only_for_its_exact_text() {
        let base = tempfile::tempdir().unwrap();
        let temporaries = TempFiles::default();
        let ctx = Context::new(Home::in_directory(base.path()), Timestamp::EPOCH, &temporaries);
        let large = |serial: u64| format!("version: 1\nserial: {serial}\n#{}\n", "-".repeat(LARGE));
        let write = |text: &str| fs::write(base.path().join("trust.yaml"), text).unwrap();
        let text = large(1);
        write(&text);
        let (policy, new) = policy_of_run(&ctx, None).unwrap();
        assert_eq!((policy.serial(), new.is_some()), (1, true));
        // In place of it the form of another policy: what is used shows by its serial.
        let store = ctx.store().unwrap();
        let other = TrustPolicy::parse("version: 1\nserial: 9\n").unwrap().to_parsed_form();
        store
            .put_parsed_policy(PARSED_FORM, &Digest::of(text.as_bytes()), &other)
            .unwrap();
        let (policy, new) = policy_of_run(&ctx, None).unwrap();
        assert_eq!((policy.serial(), new.is_some()), (9, false));
        assert_eq!(
            policy_or_key(&ctx, None).unwrap().serial(),
            1,
            "what judges alone parses"
        );
        for text in [large(2), format!("{text} ")] {
            write(&text);
            let (policy, new) = policy_of_run(&ctx, None).unwrap();
            assert_ne!(policy.serial(), 9);
            assert!(new.is_some());
        }
        write("version: 1\nserial: 3\n");
        let (policy, new) = policy_of_run(&ctx, None).unwrap();
        assert_eq!((policy.serial(), new.is_some()), (3, false), "a small one is not kept");
    }
}
