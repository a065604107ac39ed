//! What a host revokes beside its policy, for when the next document of a policy that it
//! follows would come too late.
//!
//! Invariants:
//! - it only revokes: nothing that it says makes a policy accept more;
//! - it names a key by its fingerprint, an identity by what its certificates state, and an image
//!   by its digest, since a name in the policy may stand for somebody else in the next document.
//!
//! Deliberately absent: its file, and which policy it is added to.

use qyvol_types::yaml::{self, Node, Problems, Reader, Value, scalar};
use qyvol_types::{Digest, escape, limits};

use crate::policy_yaml::certified_name;
use crate::policy_yaml::{MAX_ENTRIES, digest, digests};
use crate::revoked::{HostRevoked, RevokedIdentity, RevokedKey};
use crate::{KeyId, PolicyEdit, PolicyEditError, Signer, SignerIdentity, TrustPolicy};

const HEADER: &str = "# What this host refuses, whatever its policy says. See spec/signing.md.\nversion: 1\n";

/// What a host revokes, in the form of `trust.yaml.revoked`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations {
    keys: Vec<RevokedKey>,
    identities: Vec<RevokedIdentity>,
    images: Vec<Digest>,
}

impl Revocations {
    /// Reads what a host revokes.
    ///
    /// # Errors
    /// Everything that is not understood, with its place.
    pub fn parse(text: &str) -> Result<Revocations, Problems> {
        let root = yaml::parse_within(text, limits::YAML_BYTES)?;
        let mut reader = Reader::new(text);
        if !reader.refuse_nulls(&root, &[]) {
            return reader.finish(None);
        }
        let found = read(&mut reader, &root);
        reader.finish(found)
    }

    /// The text that [`Revocations::parse`] reads back as the same.
    pub fn to_text(&self) -> String {
        let mapping = |fields: &[(&str, &str)], keep: &[Digest]| {
            let mut fields: Vec<String> = fields
                .iter()
                .map(|(name, text)| format!("{name}: {}", scalar(text)))
                .collect();
            if !keep.is_empty() {
                let keep: Vec<String> = keep.iter().map(|digest| scalar(&digest.to_string())).collect();
                fields.push(format!("keep: [{}]", keep.join(", ")));
            }
            format!("  - {{ {} }}\n", fields.join(", "))
        };
        let keys = self.keys.iter().map(|key| match key.keep.as_slice() {
            [] => format!("  - {}\n", scalar(&key.id.fingerprint())),
            keep => mapping(&[("key", &key.id.fingerprint())], keep),
        });
        let identities = self.identities.iter().map(|RevokedIdentity { name, keep }| {
            let fields = [
                ("issuer", Some(&name.issuer)),
                ("subject", Some(&name.subject)),
                ("repository_id", name.repository_id.as_ref()),
                ("owner_id", name.owner_id.as_ref()),
            ];
            let fields: Vec<_> = fields
                .iter()
                .filter_map(|(key, value)| Some((*key, value.as_ref()?.as_str())))
                .collect();
            mapping(&fields, keep)
        });
        let images = self
            .images
            .iter()
            .map(|image| format!("  - {}\n", scalar(&image.to_string())));
        let lists: [(&str, String); 3] = [
            ("keys", keys.collect()),
            ("identities", identities.collect()),
            ("images", images.collect()),
        ];
        let lists = lists.iter().filter(|(_, items)| !items.is_empty());
        lists.fold(HEADER.to_string(), |text, (name, items)| {
            format!("{text}{name}:\n{items}")
        })
    }

    /// Whether it revokes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Revocations::default()
    }

    /// Revokes something, or revokes it no longer; `policy` says which of its signers are
    /// identities. Returns what has changed, a line each.
    ///
    /// # Errors
    /// It is revoked already, with other images to keep; there would be too many; or it is
    /// another kind of change.
    pub fn apply(&mut self, edit: &PolicyEdit, policy: &TrustPolicy) -> Result<Vec<String>, PolicyEditError> {
        let refused = |why: String| Err(PolicyEditError::Refused(why));
        let signer = |id: KeyId| policy.keys.iter().find(|key| key.signer.id() == id);
        let shown = |id: KeyId| match signer(id) {
            Some(key) if key.signer.key().is_none() => format!("identity {}", escape(&key.name)),
            Some(key) => format!("key {} {}", escape(&key.name), id.fingerprint()),
            None => format!("key {}", id.fingerprint()),
        };
        let identity = |id: KeyId| match signer(id).map(|key| &key.signer) {
            Some(Signer::Identity(identity)) => Some(identity),
            _ => None,
        };
        let mut notes = Vec::new();
        match edit {
            PolicyEdit::RevokeKey { id, keep } => {
                let name = identity(*id).map(|identity| &identity.name);
                // A wider entry with the same images to keep revokes it too.
                let mut before = match name {
                    Some(name) => self
                        .identities
                        .iter()
                        .filter(|one| one.name == *name || one.name.contains(name) && one.keep == *keep)
                        .map(|one| &one.keep)
                        .collect(),
                    None => self
                        .keys
                        .iter()
                        .filter(|key| key.id == *id)
                        .map(|key| &key.keep)
                        .collect::<Vec<_>>(),
                };
                before.dedup();
                match before[..] {
                    [] => {}
                    [before] if before == keep => return Ok(notes),
                    // It revokes more than before, in one change.
                    [before] if keep.iter().all(|image| before.contains(image)) => {}
                    _ => {
                        return refused(format!(
                            "{} is revoked already, with other images to keep: undo that first",
                            shown(*id)
                        ));
                    }
                }
                let keep = keep.clone();
                notes.push(format!("{} revoked", shown(*id)));
                notes.extend(
                    keep.iter()
                        .map(|image| format!("its signatures over {image} still count")),
                );
                match name.cloned() {
                    Some(name) => {
                        self.identities.retain(|one| one.name != name);
                        self.identities.push(RevokedIdentity { name, keep });
                    }
                    None => {
                        self.keys.retain(|key| key.id != *id);
                        self.keys.push(RevokedKey { id: *id, keep });
                    }
                }
            }
            PolicyEdit::RevokeImage(image) if !self.images.contains(image) => {
                self.images.push(*image);
                notes.push(format!("image {image} revoked"));
            }
            PolicyEdit::RevokeImage(_) => {}
            PolicyEdit::ReinstateKey(id) => {
                let before = self.keys.len() + self.identities.len();
                self.keys.retain(|key| key.id != *id);
                if let Some(SignerIdentity { name, .. }) = identity(*id) {
                    self.identities.retain(|one| one.name != *name);
                    // Whom else an entry revokes is not for this to decide.
                    if let Some(other) = self.identities.iter().find(|one| one.name.overlaps(name)) {
                        return refused(format!(
                            "{} is revoked by the entry for {} too, which may revoke others: change the file by hand",
                            shown(*id),
                            escape(&other.name.subject)
                        ));
                    }
                }
                if self.keys.len() + self.identities.len() < before {
                    notes.push(format!("{} no longer revoked", shown(*id)));
                }
            }
            PolicyEdit::ReinstateImage(image) => {
                let before = self.images.len();
                self.images.retain(|one| one != image);
                if self.images.len() < before {
                    notes.push(format!("image {image} no longer revoked"));
                }
            }
            _ => return refused("a host only revokes beside its policy".to_string()),
        }
        let most = [self.keys.len(), self.identities.len(), self.images.len()];
        if most.iter().any(|number| *number > MAX_ENTRIES) || self.to_text().len() as u64 > limits::YAML_BYTES {
            return refused(format!(
                "a host revokes at most {MAX_ENTRIES} keys, identities and images each, in {} bytes",
                limits::YAML_BYTES
            ));
        }
        Ok(notes)
    }

    /// What it revokes of a policy's signers, and beside them.
    pub(crate) fn of(&self, policy: &TrustPolicy) -> HostRevoked {
        let mut keys = self.keys.clone();
        for identity in &self.identities {
            let named = policy.keys.iter().filter(|key| match &key.signer {
                Signer::Identity(named) => identity.name.overlaps(&named.name),
                Signer::Key(_) => false,
            });
            keys.extend(named.map(|key| RevokedKey {
                id: key.signer.id(),
                keep: identity.keep.clone(),
            }));
        }
        HostRevoked {
            keys,
            images: self.images.clone(),
            identities: self.identities.clone(),
        }
    }
}

impl TrustPolicy {
    /// The same policy on a host that revokes this beside it.
    #[must_use]
    pub fn revoking(mut self, revocations: &Revocations) -> TrustPolicy {
        self.revoked.host = revocations.of(&self);
        self
    }

    /// Whether a key or an identity of the policy has this id.
    pub fn names(&self, id: KeyId) -> bool {
        self.keys.iter().any(|key| key.signer.id() == id)
    }

    /// Whether the policy itself revokes a key or an image, whatever the host does.
    pub fn revokes(&self, what: &PolicyEdit) -> bool {
        match what {
            PolicyEdit::RevokeKey { id, .. } | PolicyEdit::ReinstateKey(id) => {
                self.revoked.keys.iter().any(|key| key.id == *id)
            }
            PolicyEdit::RevokeImage(image) | PolicyEdit::ReinstateImage(image) => self.revoked.images.contains(image),
            _ => false,
        }
    }
}

fn read(r: &mut Reader<'_>, root: &Node) -> Option<Revocations> {
    let fields = r.fields(root, "the file", &["version", "keys", "identities", "images"])?;
    let version = r.required(&fields, "version", "the file")?;
    if r.integer(version, "version", 1) == Some(0) {
        r.problem(version.place, "version must be 1");
    }
    let mut found = Revocations::default();
    if let Some(list) = fields.get("keys") {
        for item in bounded(r, list, "keys") {
            found.keys.extend(key(r, item));
        }
    }
    if let Some(list) = fields.get("identities") {
        for item in bounded(r, list, "identities") {
            found.identities.extend(identity(r, item));
        }
    }
    if let Some(list) = fields.get("images") {
        let items = bounded(r, list, "images");
        found.images = items.iter().filter_map(|item| digest(r, item)).collect();
    }
    Some(found)
}

/// The items of a list that is not too long.
fn bounded<'n>(r: &mut Reader<'_>, list: &'n Node, what: &str) -> &'n [Node] {
    let items = r.items(list, what);
    if items.len() > MAX_ENTRIES {
        r.problem(list.place, format!("more than {MAX_ENTRIES} {what}"));
    }
    items
}

fn key(r: &mut Reader<'_>, item: &Node) -> Option<RevokedKey> {
    let (node, keep) = match &item.value {
        Value::Mapping(_) => {
            let fields = r.fields(item, "a revoked key", &["key", "keep"])?;
            let keep = fields.get("keep").map(|list| digests(r, list, "keep"));
            (r.required(&fields, "key", "a revoked key")?, keep.unwrap_or_default())
        }
        _ => (item, Vec::new()),
    };
    let text = r.text(node, "a revoked key")?;
    let id = KeyId::from_fingerprint(text);
    if id.is_none() {
        // Of a policy's names, each document decides what they stand for.
        r.problem_with_help(
            node.place,
            format!("`{}` is not a fingerprint", escape(text)),
            "SHA256:… as `qyv trust show` prints it",
        );
    }
    Some(RevokedKey { id: id?, keep })
}

fn identity(r: &mut Reader<'_>, item: &Node) -> Option<RevokedIdentity> {
    let what = "a revoked identity";
    let known = ["issuer", "subject", "repository_id", "owner_id", "keep"];
    let fields = r.fields(item, what, &known)?;
    let keep = fields.get("keep").map(|list| digests(r, list, "keep"));
    let name = certified_name(r, &fields, what)?;
    Some(RevokedIdentity {
        name,
        keep: keep.unwrap_or_default(),
    })
}
