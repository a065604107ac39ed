//! Reading `roots` and `identities` of a policy.

use qyvol_types::escape;
use qyvol_types::yaml::{Fields, Node, Reader};

use super::MAX_ENTRIES;
use crate::TrustPolicy;
use crate::policy::PolicyKey;
use crate::signer::{CertifiedName, PolicyRoot, Signer, SignerIdentity};

/// Most trusted roots: each is a file that is read with the policy.
const MAX_ROOTS: usize = 16;

pub(super) fn roots(r: &mut Reader<'_>, node: &Node, policy: &mut TrustPolicy) {
    for (name, value) in r.entries(node, "roots") {
        let Some(fields) = r.fields(value, "a trusted root", &["file", "digest"]) else {
            continue;
        };
        let file = r.required(&fields, "file", "a trusted root");
        let file = file.and_then(|node| r.text(node, "file"));
        let digest = r.required(&fields, "digest", "a trusted root").and_then(|node| {
            let text = r.text(node, "digest")?;
            let digest = text.parse();
            digest
                .map_err(|why| r.problem(node.place, format!("not a digest: {why}")))
                .ok()
        });
        if let (Some(file), Some(digest)) = (file, digest) {
            policy.roots.push(PolicyRoot {
                name: name.text.clone(),
                file: file.to_string(),
                digest,
                root: None,
            });
        }
    }
    if policy.roots.len() > MAX_ROOTS {
        r.problem(node.place, format!("more than {MAX_ROOTS} trusted roots"));
    }
}

pub(super) fn identities(r: &mut Reader<'_>, node: &Node, policy: &mut TrustPolicy) {
    let known = ["root", "issuer", "subject", "repository_id", "owner_id"];
    for (name, value) in r.entries(node, "identities").iter().take(MAX_ENTRIES + 1) {
        let Some(fields) = r.fields(value, "an identity", &known) else {
            continue;
        };
        let Some(identity) = identity(r, &fields, policy) else {
            continue;
        };
        // Two names for one would count one signer twice.
        let twin = policy.keys.iter().find(|key| match &key.signer {
            Signer::Identity(other) => other.name.overlaps(&identity.name),
            Signer::Key(_) => false,
        });
        if let Some(twin) = twin {
            let message = format!(
                "one signer could be both `{}` and `{}`",
                escape(&name.text),
                escape(&twin.name)
            );
            r.problem(name.place, message);
        }
        policy.keys.push(PolicyKey {
            name: name.text.clone(),
            signer: Signer::Identity(identity),
            from: None,
            until: None,
            unchecked: false,
        });
    }
    if policy.keys.len() > MAX_ENTRIES {
        r.problem(node.place, format!("more than {MAX_ENTRIES} identities"));
    }
}

fn identity(r: &mut Reader<'_>, fields: &Fields<'_>, policy: &TrustPolicy) -> Option<SignerIdentity> {
    let what = "an identity";
    let root_node = r.required(fields, "root", what);
    let name = certified_name(r, fields, what);
    let (root_node, name) = (root_node?, name?);
    let root_name = r.text(root_node, "root")?;
    let root = policy.roots.iter().position(|root| root.name == root_name);
    if root.is_none() {
        let known = policy.roots.iter().map(|root| root.name.as_str());
        let message = format!("there is no trusted root `{}` in this policy", escape(root_name));
        r.unknown(root_node.place, message, root_name, known);
    }
    Some(SignerIdentity { root: root?, name })
}

/// What certificates must state, by `issuer`, `subject`, `repository_id` and `owner_id`.
pub(crate) fn certified_name(r: &mut Reader<'_>, fields: &Fields<'_>, what: &str) -> Option<CertifiedName> {
    let issuer_node = r.required(fields, "issuer", what);
    let subject_node = r.required(fields, "subject", what);
    let (issuer_node, subject_node) = (issuer_node?, subject_node?);
    let issuer = r.text(issuer_node, "issuer")?;
    if !issuer.contains("://") || issuer.contains('*') {
        r.problem_with_help(
            issuer_node.place,
            format!("`{}` can't be an issuer", escape(issuer)),
            "the whole URL of who vouches for names, such as https://token.actions.githubusercontent.com",
        );
    }
    let subject = r.text(subject_node, "subject")?;
    // A name that is cut off earlier would be another workflow's, or another person's.
    let start = subject.strip_suffix('*').unwrap_or(subject);
    let is_whole = start.len() == subject.len();
    if start.is_empty() || start.contains('*') || !is_whole && !start.contains("@refs/") {
        r.problem_with_help(
            subject_node.place,
            format!("`{}` can't be a subject", escape(subject)),
            "the whole name in the certificate; `*` may stand at the end of a workflow's, behind `@refs/`",
        );
    }
    let mut number = |key: &str| {
        let node = fields.get(key)?;
        r.text_or_number(node, key).map(str::to_string)
    };
    let repository_id = number("repository_id");
    let owner_id = number("owner_id");
    Some(CertifiedName {
        issuer: issuer.to_string(),
        subject: subject.to_string(),
        repository_id,
        owner_id,
    })
}
