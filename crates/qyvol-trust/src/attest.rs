//! Attestations: in-toto statements about an image that are no signatures of it, such as SLSA
//! provenance or an SBOM. They travel as signatures do, and never count as one.
//!
//! A rule may ask for some, by the type, by who signed, and by what a provenance says of
//! builder and source. Nothing else of a predicate is looked at.

use std::collections::{BTreeMap, HashSet};

use qyvol_types::{Algorithm, Digest, Timestamp, escape, json, limits, media_type};
use serde::{Deserialize, Serialize};

use crate::policy::{AttestCondition, Pattern, PolicyKey};
use crate::report::AttestationReport;
use crate::revoked::Revoker;
use crate::signature;
use crate::statement::AnyStatement;
use crate::update::{FRESH_PREDICATE, POLICY_PREDICATE};
use crate::{Envelope, EnvelopeError, PublicKey, Sign, StatementError, TrustPolicy, Verdict};

/// in-toto's types of statements: version 1, and the one before, which `cosign attest` writes.
const STATEMENT_TYPES: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];
/// What every type of SLSA's provenance begins with.
const PROVENANCE: &str = "https://slsa.dev/provenance/";
/// Longest type of a predicate.
const TYPE_CHARACTERS: usize = 256;

/// A statement about an image, before it is signed.
#[derive(Clone, Debug)]
pub struct Attestation {
    /// Digest of the image manifest.
    pub subject: Digest,
    /// The image's name.
    pub name: String,
    /// The type of the predicate, a URI.
    pub predicate_type: String,
    /// The predicate, JSON.
    pub predicate: Vec<u8>,
}

/// Whether a repository's URL means what stands in it: none of its parts leads elsewhere.
fn is_plain(url: &str) -> bool {
    let path = url.split_once("://").map_or(url, |(_, path)| path);
    !path.contains(['%', '\\', '?', '#']) && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

impl AttestCondition {
    /// Whether an attestation that was judged meets it.
    fn is_met_by(&self, policy: &TrustPolicy, found: &AttestationReport) -> bool {
        let mut keys = self.keys.iter().filter_map(|index| policy.keys.get(*index));
        let fits = |pattern: &Option<Pattern>, value: &Option<String>| match pattern {
            None => true,
            Some(pattern) => value.as_deref().is_some_and(|value| pattern.matches(value)),
        };
        found.verdict == Verdict::Good
            && found
                .predicate_type
                .as_deref()
                .is_some_and(|kind| self.kind.matches(kind))
            && keys.any(|key| Some(key.signer.id()) == found.id)
            && fits(&self.builder, &found.builder)
            && fits(&self.source, &found.source)
            && (self.source.is_none() || found.source.as_deref().is_some_and(is_plain))
            && fits(&self.source_ref, &found.source_ref)
    }

    /// In words.
    pub(crate) fn describe(&self, policy: &TrustPolicy) -> String {
        let keys = self.keys.iter().filter_map(|index| policy.keys.get(*index));
        let keys: Vec<String> = keys.map(|key| escape(&key.name).to_string()).collect();
        let mut text = format!("attested by {} as {}", keys.join(" or "), escape(&self.kind.0));
        for (what, pattern) in [
            ("builder", &self.builder),
            ("source", &self.source),
            ("ref", &self.source_ref),
        ] {
            if let Some(pattern) = pattern {
                text.push_str(&format!(", {what} {}", escape(&pattern.0)));
            }
        }
        text
    }
}

/// The first of a rule's conditions that no attestation meets, in words.
pub(crate) fn unmet(
    policy: &TrustPolicy,
    conditions: &[AttestCondition],
    found: &[AttestationReport],
) -> Option<String> {
    let mut unmet = conditions.iter();
    unmet
        .find(|condition| !found.iter().any(|found| condition.is_met_by(policy, found)))
        .map(|condition| condition.describe(policy))
}

/// Whether a payload that nothing has vouched for yet is an attestation.
pub(crate) fn is_attestation(payload: &[u8]) -> bool {
    json::decode::<AnyStatement>(payload)
        .is_ok_and(|s| !s.predicate_type.is_empty() && !media_type::is_signature_predicate(&s.predicate_type))
}

/// Whether a text can be the type of an attestation: a URI of printable ASCII, and not that of
/// a signature or of a policy's statement.
pub fn is_attestation_type(text: &str) -> bool {
    let scheme = text.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.bytes().all(|b| b.is_ascii_alphanumeric()) && !scheme.is_empty() && !rest.is_empty()
    });
    scheme
        && text.len() <= TYPE_CHARACTERS
        && text.bytes().all(|b| b.is_ascii_graphic())
        && !media_type::is_signature_predicate(text)
        && ![POLICY_PREDICATE, FRESH_PREDICATE].contains(&text)
}

#[derive(Serialize)]
struct Subject<'a> {
    name: &'a str,
    digest: BTreeMap<&'static str, String>,
}

impl Envelope {
    /// Signs an attestation.
    pub fn attest(signer: &dyn Sign, attestation: &Attestation) -> Result<Envelope, EnvelopeError> {
        let value = |what: &str| Err(StatementError::Value(what.to_string()).into());
        if !is_attestation_type(&attestation.predicate_type) {
            return value("a type that is not a URI of an attestation");
        }
        if attestation.subject.algorithm() != Algorithm::Sha256 {
            return value("a subject without a sha256 digest");
        }
        json::check(&attestation.predicate).map_err(StatementError::Json)?;
        let subject = Subject {
            name: &attestation.name,
            digest: BTreeMap::from([("sha256", attestation.subject.hex())]),
        };
        // The predicate is a whole JSON document: it keeps its bytes.
        let mut payload = b"{\"_type\":\"https://in-toto.io/Statement/v1\",\"subject\":[".to_vec();
        payload.extend(json::encode(&subject)?);
        payload.extend(b"],\"predicateType\":");
        payload.extend(json::encode(&attestation.predicate_type)?);
        payload.extend(b",\"predicate\":");
        payload.extend(&attestation.predicate);
        payload.push(b'}');
        // One level deeper than the predicate by itself.
        json::check(&payload).map_err(StatementError::Json)?;
        let envelope = Envelope::seal(signer, payload)?;
        if envelope.bytes().len() as u64 > limits::ATTESTATION_BYTES {
            return Err(EnvelopeError::TooLarge {
                got: envelope.bytes().len(),
                limit: limits::ATTESTATION_BYTES,
            });
        }
        Ok(envelope)
    }
}

/// What an attestation says that is shown, or that a rule may ask for.
#[derive(Default)]
struct Said {
    predicate_type: Option<String>,
    builder: Option<String>,
    source: Option<String>,
    source_ref: Option<String>,
}

/// SLSA's provenance in its versions 1, 0.2 and 0.1, in so far as it is looked at.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Provenance {
    build_definition: BuildDefinition,
    run_details: RunDetails,
    builder: Builder,
    invocation: Invocation,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct BuildDefinition {
    external_parameters: ExternalParameters,
    resolved_dependencies: Vec<Resource>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ExternalParameters {
    workflow: Workflow,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Workflow {
    repository: Option<String>,
    #[serde(rename = "ref")]
    reference: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Resource {
    uri: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RunDetails {
    builder: Builder,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Builder {
    id: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Invocation {
    config_source: Resource,
}

#[derive(Deserialize)]
struct WithProvenance {
    predicate: Provenance,
}

fn said(payload: &[u8], statement: AnyStatement) -> Said {
    let kind = statement.predicate_type;
    let provenance = match kind.starts_with(PROVENANCE) {
        // The payload's form was checked with the statement. One of another shape names no
        // builder, and so meets no condition that asks for one.
        true => serde_json::from_slice::<WithProvenance>(payload).ok(),
        false => None,
    };
    let Some(WithProvenance { predicate }) = provenance else {
        return Said {
            predicate_type: Some(kind),
            ..Said::default()
        };
    };
    let definition = predicate.build_definition;
    let workflow = definition.external_parameters.workflow;
    let mut uris = definition.resolved_dependencies.into_iter().filter_map(|r| r.uri);
    let git = uris
        .find(|uri| uri.starts_with("git+"))
        .or(predicate.invocation.config_source.uri);
    let (source, source_ref) = match (workflow.repository, git) {
        (Some(repository), _) => (Some(repository), workflow.reference),
        (None, Some(uri)) => split_git(&uri),
        (None, None) => (None, None),
    };
    Said {
        predicate_type: Some(kind),
        builder: predicate.run_details.builder.id.or(predicate.builder.id),
        source,
        source_ref,
    }
}

/// A repository and a branch or tag, from `git+URL@REF` (SPDX's form of a place to download).
fn split_git(uri: &str) -> (Option<String>, Option<String>) {
    let rest = uri.strip_prefix("git+").unwrap_or(uri);
    match rest.rsplit_once('@').filter(|(_, at)| !at.contains(':')) {
        Some((url, at)) if url.contains("://") => (Some(url.to_string()), Some(at.to_string())),
        _ => (Some(rest.to_string()), None),
    }
}

/// Judges attestations, each once. Those that name no key of the policy cost no check.
pub(crate) fn judge(
    policy: &TrustPolicy,
    image: &Digest,
    bundles: impl Iterator<Item = Result<Envelope, EnvelopeError>>,
    now: Timestamp,
) -> Vec<AttestationReport> {
    let mut distinct = HashSet::new();
    let (mut reports, mut checks) = (Vec::new(), 0);
    let keys: Vec<&PolicyKey> = policy.keys.iter().collect();
    for parsed in bundles {
        let envelope = match parsed {
            Ok(envelope) => envelope,
            Err(error) => {
                reports.push(entry(Verdict::Malformed, error.to_string()));
                continue;
            }
        };
        if !distinct.insert(Digest::of(envelope.bytes())) {
            continue;
        }
        let key = signature::claimed(&keys, &envelope);
        checks += usize::from(key.is_some());
        reports.push(match checks > limits::ATTESTATION_CHECKS {
            true => entry(Verdict::OverLimit, "not checked: there are too many".to_string()),
            false => one(policy, key, image, &envelope, now),
        });
    }
    reports
}

fn entry(verdict: Verdict, reason: String) -> AttestationReport {
    AttestationReport {
        verdict,
        reason: (!reason.is_empty()).then_some(reason),
        predicate_type: None,
        key: None,
        fingerprint: None,
        builder: None,
        source: None,
        source_ref: None,
        id: None,
    }
}

fn one(
    policy: &TrustPolicy,
    key: Option<&PolicyKey>,
    image: &Digest,
    envelope: &Envelope,
    now: Timestamp,
) -> AttestationReport {
    let payload = envelope.payload_unverified();
    let (verdict, reason, said) = match json::decode::<AnyStatement>(payload) {
        Err(error) => (Verdict::Malformed, format!("the statement is {error}"), Said::default()),
        Ok(statement) => {
            let of_type = STATEMENT_TYPES.contains(&statement.kind.as_str());
            let about = statement.names(image);
            let is_signature = media_type::is_signature_predicate(&statement.predicate_type);
            let is_signed = || key.is_some_and(|key| policy.check(&key.signer, envelope).is_ok());
            let revoker = |key: &PolicyKey| policy.revoked.key_by(key.signer.id(), image);
            let (verdict, reason) = match key {
                None => (Verdict::UnknownKey, ""),
                Some(_) if !is_signed() => (Verdict::BadSignature, ""),
                Some(_) if is_signature => (Verdict::Malformed, "its statement is that of a signature"),
                Some(_) if !of_type => (Verdict::Malformed, "its statement is of an unknown version"),
                Some(_) if !about => (Verdict::OtherImage, ""),
                Some(key) if revoker(key) == Some(Revoker::Policy) => (Verdict::Revoked, "the policy revokes its key"),
                Some(key) if revoker(key).is_some() => (Verdict::Revoked, "this host revokes its key"),
                Some(key) if key.from.is_some_and(|from| now < from) => {
                    (Verdict::NotYetValid, "its key is not valid yet")
                }
                Some(key) if key.until.is_some_and(|until| now >= until) => {
                    (Verdict::Expired, "its key is no longer valid")
                }
                Some(_) => (Verdict::Good, ""),
            };
            (verdict, reason.to_string(), said(payload, statement))
        }
    };
    AttestationReport {
        predicate_type: said.predicate_type,
        builder: said.builder,
        source: said.source,
        source_ref: said.source_ref,
        key: key.map(|key| key.name.clone()),
        fingerprint: key
            .and_then(|key| key.signer.key())
            .map(PublicKey::fingerprint)
            .or(envelope.hinted_fingerprint()),
        id: key.map(|key| key.signer.id()),
        ..entry(verdict, reason)
    }
}

impl AttestationReport {
    /// As a line of text.
    pub fn line(&self) -> String {
        let kind = self.predicate_type.as_deref().unwrap_or("unreadable");
        let verdict = serde_json::to_value(self.verdict).ok();
        let verdict = verdict.as_ref().and_then(|v| v.as_str()).unwrap_or_default();
        let mut text = format!("  attestation: {verdict}, {}", escape(kind));
        for (what, value) in [
            ("key", &self.key),
            ("", &self.fingerprint),
            ("builder", &self.builder),
            ("source", &self.source),
            ("ref", &self.source_ref),
        ] {
            match value {
                Some(value) if what.is_empty() => text.push_str(&format!(" {}", escape(value))),
                Some(value) => text.push_str(&format!(", {what} {}", escape(value))),
                None => {}
            }
        }
        if let Some(reason) = &self.reason {
            text.push_str(&format!(": {reason}"));
        }
        text
    }
}
