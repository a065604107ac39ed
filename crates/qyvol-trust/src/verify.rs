//! The one verification routine.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use qyvol_types::{Descriptor, Timestamp, escape, limits};

use crate::attest;
use crate::policy::{Ceiling, PolicyKey, Requirement, Rule};
use crate::report::{Cause, RequirementReport, RuleReport, StatementReport};
use crate::signed::Signed;
use crate::statement::sequence_of;
use crate::summary::age_text;
use crate::{
    Envelope, Form, IdentityReport, KeyId, KeyType, PublicKey, Refusal, Report, RollbackState, SignatureReport,
    Statement, Subject, TrustPolicy, Verdict, Verified, VerifyError, signature,
};

/// How far a signer's clock may be ahead.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(300);

/// An image that the policy accepts.
#[derive(Debug)]
pub struct Accepted {
    /// The image manifest's descriptor.
    pub image: Verified<Descriptor>,
    /// Every signature with its verdict.
    pub report: Report,
    /// Who owns what the image keeps on this host: the rule's scope, or the
    /// fingerprint of the key that was named in place of a policy.
    pub owner: String,
    /// What the rule lets a run of it do.
    pub ceiling: Ceiling,
    /// What is to be remembered, where the rule denies rollback.
    pub seen: Option<RollbackState>,
}

/// A signature that counts.
struct Good {
    key: KeyId,
    form: Form,
    statement: Statement,
}

/// What every signature of an image is judged by.
struct Verifier<'a> {
    policy: &'a TrustPolicy,
    rule: Option<&'a Rule>,
    keys: Vec<&'a PolicyKey>,
    subject: &'a Subject<'a>,
    now: Timestamp,
    /// What was accepted before, where the rule denies rollback.
    seen: Option<&'a RollbackState>,
}

/// Judges an image by its signatures (sigstore bundles, in any order) at the
/// time `now`. `seen` is what was remembered under the subject's state name;
/// it counts where the rule denies rollback, and time does not go back behind
/// it.
///
/// Neither order nor number of other people's signatures changes the verdict:
/// equal ones are one, and only those that name a key of the rule are checked,
/// at most [`limits::SIGNATURE_CHECKS`].
pub fn verify(
    policy: &TrustPolicy,
    subject: &Subject<'_>,
    envelopes: &[Vec<u8>],
    now: Timestamp,
    seen: Option<&RollbackState>,
) -> Result<Accepted, VerifyError> {
    verify_attested(policy, subject, envelopes, &[], now, seen)
}

/// The same with the image's attestations, which are no signatures and count where the rule
/// asks for them.
pub fn verify_attested(
    policy: &TrustPolicy,
    subject: &Subject<'_>,
    envelopes: &[Vec<u8>],
    attestations: &[Vec<u8>],
    now: Timestamp,
    seen: Option<&RollbackState>,
) -> Result<Accepted, VerifyError> {
    let rule = policy.rule(subject);
    let seen = seen.filter(|_| rule.is_some_and(|r| r.deny_rollback));
    let judge = Verifier {
        policy,
        rule,
        keys: policy.keys_of(rule),
        subject,
        now: seen.map_or(now, |seen| now.max(seen.created)),
        seen,
    };
    let (signatures, good, others) = judge.all(envelopes);
    let attestations = attestations.iter().map(|bytes| Envelope::parse_attestation(bytes));
    let attestations = others.into_iter().map(Ok).chain(attestations);
    let mut report = Report {
        scope: subject.place(),
        asked: subject.asked.map(ToString::to_string),
        application: subject.name.to_string(),
        version: subject.version.to_string(),
        key_given: policy.given_key(),
        rule: rule.map(|r| RuleReport {
            scope: r.scope.to_string(),
            identity: r.identity,
            names: r.names,
            deny_rollback: r.deny_rollback,
            repository: subject.asked.map(|asked| r.signed_repository(asked)),
        }),
        serial: policy.serial,
        followed: policy.update.is_some(),
        signatures,
        attestations: attest::judge(policy, &subject.descriptor.digest, attestations, judge.now),
        requirements: Vec::new(),
    };
    if let Some(by) = policy.revoked.image_by(&subject.descriptor.digest) {
        let detail = format!("{by} revokes this image");
        return Err(VerifyError::new(Refusal::Revoked, detail, report));
    }
    if report.signatures.is_empty() {
        return Err(VerifyError::new(Refusal::Unsigned, "it is not signed", report));
    }
    let Some(rule) = rule else {
        let detail = match subject.asked {
            Some(_) => format!("no rule of the trust policy covers {}", escape(&report.scope)),
            None => format!(
                "no rule of the trust policy covers local files (scope `file:` or `{}`)",
                escape(&report.scope)
            ),
        };
        return Err(VerifyError::new(Refusal::NoRule, detail, report));
    };
    let mut met = !rule.require.is_empty();
    let mut sequence = u64::MAX;
    for requirement in &rule.require {
        let sequences = judge.sequences(requirement, &good);
        met &= sequences.len() >= requirement.threshold;
        // The highest one that enough keys have signed at least.
        let enough = requirement.threshold.checked_sub(1).and_then(|n| sequences.get(n));
        sequence = sequence.min(enough.copied().unwrap_or(0));
        report.requirements.push(RequirementReport {
            role: requirement.role.clone(),
            form: requirement.form.filter(|form| *form != Form::Qyvol),
            keys: policy
                .counting_key_names(requirement, &subject.descriptor.digest)
                .into_iter()
                .map(str::to_string)
                .collect(),
            have: sequences.len(),
            threshold: requirement.threshold,
        });
    }
    if !met {
        return Err(VerifyError::nearest(report));
    }
    if let Some(unmet) = attest::unmet(policy, &rule.attest, &report.attestations) {
        let detail = format!("no attestation meets what the rule asks for: {unmet}");
        return Err(VerifyError::new(Refusal::Attestation, detail, report));
    }
    let state_name = subject.state_name().filter(|_| rule.deny_rollback);
    let newest = |name| RollbackState {
        name,
        sequence,
        version: subject.version.to_string(),
        digest: subject.descriptor.digest,
        created: good
            .iter()
            .map(|g| g.statement.created)
            .max()
            .unwrap_or(Timestamp::EPOCH)
            // Slightly future dates are accepted, but must not advance the time
            // that this host remembers.
            .min(now),
    };
    Ok(Accepted {
        image: Verified::accepted(subject.descriptor.clone()),
        report,
        owner: policy.owner(rule),
        ceiling: rule.ceiling(),
        seen: state_name.map(|name| match seen {
            Some(seen) => newest(name).newer(seen),
            None => newest(name),
        }),
    })
}

fn entry(verdict: Verdict, reason: String) -> SignatureReport {
    let reason = (!reason.is_empty()).then_some(reason);
    SignatureReport {
        verdict,
        reason,
        cause: None,
        key: None,
        fingerprint: None,
        identity: None,
        form: None,
        statement: None,
        id: None,
    }
}

/// What a signer has signed, and who it was, where a certificate says so.
fn read(
    policy: &TrustPolicy,
    envelope: &Envelope,
    key: &PolicyKey,
) -> Result<(Signed, Option<IdentityReport>), SignatureReport> {
    let malformed = |error: String| entry(Verdict::Malformed, error);
    envelope.pae().map_err(|error| malformed(error.to_string()))?;
    let identity = policy.check(&key.signer, envelope);
    let identity = identity.map_err(|why| entry(Verdict::BadSignature, why))?;
    let signed = Signed::parse(envelope.payload_unverified()).map_err(|error| malformed(error.to_string()))?;
    Ok((signed, identity))
}

impl Verifier<'_> {
    /// Checks every signature. Those that name no key of the rule cost no check,
    /// so they can't exhaust the limit for the others. Those that are attestations are returned
    /// as they are.
    fn all(&self, envelopes: &[Vec<u8>]) -> (Vec<SignatureReport>, Vec<Good>, Vec<Envelope>) {
        let mut distinct = HashSet::new();
        let (mut reports, mut named, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for bytes in envelopes.iter().filter(|bytes| distinct.insert(bytes.as_slice())) {
            let envelope = match Envelope::parse(bytes) {
                Ok(envelope) if attest::is_attestation(envelope.payload_unverified()) => {
                    others.push(envelope);
                    continue;
                }
                Ok(envelope) => envelope,
                Err(error) => {
                    reports.push(entry(Verdict::Malformed, error.to_string()));
                    continue;
                }
            };
            match self.find(envelope) {
                Ok((envelope, key)) => {
                    named.push((reports.len(), envelope, key));
                    reports.push(entry(Verdict::OverLimit, "not checked: there are too many".to_string()));
                }
                Err(found) => reports.push(found),
            }
        }
        if named.len() > limits::SIGNATURE_CHECKS {
            // Which are left out must not depend on their order.
            named.sort_by(|a, b| a.1.bytes().cmp(b.1.bytes()));
            named.truncate(limits::SIGNATURE_CHECKS);
        }
        let mut good = Vec::new();
        for (index, envelope, key) in named {
            let (found, counted) = self.one(&envelope, key);
            if let Some(place) = reports.get_mut(index) {
                *place = found;
            }
            good.extend(counted);
        }
        (reports, good, others)
    }

    /// Finds a signature's key by its hint, or its identity by its certificate;
    /// neither is trusted.
    fn find(&self, envelope: Envelope) -> Result<(Envelope, &PolicyKey), SignatureReport> {
        match signature::claimed(&self.keys, &envelope) {
            Some(key) => Ok((envelope, key)),
            None => Err(SignatureReport {
                fingerprint: envelope.hinted_fingerprint(),
                ..entry(Verdict::UnknownKey, signature::stranger(&envelope))
            }),
        }
    }

    /// Judges one signature, then its statement.
    fn one(&self, envelope: &Envelope, key: &PolicyKey) -> (SignatureReport, Option<Good>) {
        let (mut found, signed) = match read(self.policy, envelope, key) {
            Ok((signed, identity)) => {
                let form = signed.form();
                let mut statement = self.statement(signed);
                // A date that is vouched for, in place of what the signer says.
                statement.created = identity.as_ref().map_or(statement.created, |found| found.signed);
                let mut found = match self.against(&statement, form, key) {
                    Err(found) => found,
                    Ok(()) => entry(Verdict::Good, String::new()),
                };
                found.identity = identity;
                (found, Some((form, statement)))
            }
            Err(found) => (found, None),
        };
        found.key = Some(key.name.clone());
        found.fingerprint = key.signer.key().map(PublicKey::fingerprint);
        found.form = signed
            .as_ref()
            .map(|(form, _)| *form)
            .filter(|form| *form != Form::Qyvol);
        let release = signed.as_ref().filter(|(form, _)| *form == Form::Qyvol);
        found.statement = release.map(|(_, s)| StatementReport {
            name: s.name.clone(),
            version: s.version.clone(),
            role: s.role.clone(),
            sequence: s.sequence,
            created: s.created,
            expires: s.expires,
        });
        let good = signed.filter(|_| found.verdict == Verdict::Good);
        found.id = good.as_ref().map(|_| key.signer.id());
        (
            found,
            good.map(|(form, statement)| Good {
                key: key.signer.id(),
                form,
                statement,
            }),
        )
    }

    /// A signature's statement. cosign's names a digest alone: name and version are those of
    /// the image's config, which the digest binds; the sequence follows from the version;
    /// there is no date.
    fn statement(&self, signed: Signed) -> Statement {
        match signed {
            Signed::Release(statement) => statement,
            Signed::Cosign(subject) => Statement {
                subject,
                name: self.subject.name.to_string(),
                version: self.subject.version.to_string(),
                role: String::new(),
                sequence: sequence_of(self.subject.version),
                created: Timestamp::EPOCH,
                expires: None,
                critical: Vec::new(),
            },
        }
    }

    /// Whether the rule takes a signature of this form from this key.
    fn in_form(&self, form: Form, key: &PolicyKey) -> Result<(), SignatureReport> {
        let other = |reason: &str| Err(entry(Verdict::OtherForm, reason.to_string()));
        let own = key.signer.key();
        if form == Form::Cosign && own.is_some_and(|key| key.algorithm() != KeyType::EcdsaP256) {
            return other("it is in cosign's form, in which only ECDSA P-256 keys are verified");
        }
        let mut asked = self.rule.iter().flat_map(|rule| &rule.require);
        if asked.any(|q| q.takes(form) && self.names(q, key.signer.id())) {
            return Ok(());
        }
        other(match form {
            Form::Cosign => {
                "it is a signature of cosign's, and the rule does not say `form: cosign` where it names the key"
            }
            Form::Qyvol => "it is a signature of Qyvol's own, and the rule says `form: cosign` where it names the key",
        })
    }

    /// Whether a requirement names a key.
    fn names(&self, requirement: &Requirement, id: KeyId) -> bool {
        let mut keys = requirement.keys.iter().filter_map(|k| self.policy.keys.get(*k));
        keys.any(|k| k.signer.id() == id)
    }

    /// Checks a statement against image, policy, form, time, name and what was
    /// accepted before, in this order.
    fn against(&self, statement: &Statement, form: Form, key: &PolicyKey) -> Result<(), SignatureReport> {
        if statement.subject != self.subject.descriptor.digest {
            let reason = format!("it signs {}", statement.subject);
            return Err(entry(Verdict::OtherImage, reason));
        }
        if let Some(by) = self.policy.revoked.key_by(key.signer.id(), &statement.subject) {
            return Err(entry(Verdict::Revoked, format!("{by} revokes its key")));
        }
        self.in_form(form, key)?;
        self.in_time(statement, form, key)?;
        self.identity(statement)?;
        self.above_floor(statement)?;
        match self.seen.and_then(|seen| seen.forbids(statement)) {
            Some(reason) => Err(entry(Verdict::Rollback, reason)),
            None => Ok(()),
        }
    }

    fn in_time(&self, statement: &Statement, form: Form, key: &PolicyKey) -> Result<(), SignatureReport> {
        let now = self.now;
        let over = |cause, reason| {
            Err(SignatureReport {
                cause: Some(cause),
                ..entry(Verdict::Expired, reason)
            })
        };
        if let Some(from) = key.from.filter(|from| now < *from) {
            return Err(entry(Verdict::NotYetValid, format!("its key is valid from {from}")));
        }
        if let Some(until) = key.until.filter(|until| now >= *until) {
            return over(Cause::Key, format!("its key was valid until {until}"));
        }
        if statement.created > now.plus(MAX_CLOCK_SKEW) {
            let reason = format!("it was made in the future, at {}; it is {now} here", statement.created);
            return Err(entry(Verdict::NotYetValid, reason));
        }
        if let Some(expires) = statement.expires.filter(|expires| now >= *expires) {
            return over(Cause::Statement, format!("it expired at {expires}"));
        }
        let age = self.rule.and_then(|r| r.max_age);
        let Some(age) = age.filter(|age| now > statement.created.plus(*age)) else {
            return Ok(());
        };
        let allowed = age_text(age.as_secs());
        if form == Form::Cosign && statement.created == Timestamp::EPOCH {
            let reason = format!("cosign's signatures have no date, and the rule allows a maximum age of {allowed}");
            return over(Cause::Undated, reason);
        }
        if statement.created == Timestamp::EPOCH {
            let reason = format!(
                "it has no date (a build's signature is dated 1970-01-01 unless SOURCE_DATE_EPOCH is set), and the rule \
                 allows a maximum age of {allowed}"
            );
            return over(Cause::Undated, reason);
        }
        let reason = format!(
            "it is dated {}, and the rule allows a maximum age of {allowed}",
            statement.created
        );
        over(Cause::MaxAge, reason)
    }

    /// Whether the version is no less than the policy's floor for the name, by their
    /// sequences: a signer may have chosen another, and a host that lost its state would
    /// not know.
    fn above_floor(&self, statement: &Statement) -> Result<(), SignatureReport> {
        let floor = self.policy.revoked.floors.get(&statement.name);
        match floor.filter(|floor| sequence_of(&statement.version) < sequence_of(floor)) {
            None => Ok(()),
            Some(floor) => Err(SignatureReport {
                cause: Some(Cause::Floor),
                ..entry(
                    Verdict::Rollback,
                    format!(
                        "it is version {}, and the policy's floor for {} is {}",
                        escape(&statement.version),
                        escape(&statement.name),
                        escape(floor)
                    ),
                )
            }),
        }
    }

    fn identity(&self, statement: &Statement) -> Result<(), SignatureReport> {
        let subject = self.subject;
        let signed = format!("signed as {} {}", escape(&statement.name), escape(&statement.version));
        if statement.name != subject.name || statement.version != subject.version {
            let own = format!("{} {}", escape(subject.name), escape(subject.version));
            return Err(entry(Verdict::Identity, format!("{signed}, and the image is {own}")));
        }
        match (subject.asked, self.rule) {
            (Some(asked), Some(rule)) if !rule.fits(asked, &statement.name, &statement.version) => {
                Err(entry(Verdict::Identity, format!("{signed}, requested as {asked}")))
            }
            _ => Ok(()),
        }
    }

    /// For each distinct key that signed for a requirement, the highest
    /// sequence that it signed; the highest first.
    fn sequences(&self, requirement: &Requirement, good: &[Good]) -> Vec<u64> {
        let counts = |good: &&Good| {
            let in_role = good.form == Form::Cosign || good.statement.role == requirement.role;
            in_role && requirement.takes(good.form) && self.names(requirement, good.key)
        };
        let mut highest: HashMap<KeyId, u64> = HashMap::new();
        for good in good.iter().filter(counts) {
            let highest = highest.entry(good.key).or_default();
            *highest = (*highest).max(good.statement.sequence);
        }
        let mut sequences: Vec<u64> = highest.into_values().collect();
        sequences.sort_unstable_by(|a, b| b.cmp(a));
        sequences
    }
}
