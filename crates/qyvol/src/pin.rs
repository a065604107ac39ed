//! First use: the key that comes with an image is shown to the user, and written into the
//! policy for the image's repository if the user accepts it.
//!
//! Invariants:
//! - a key that comes with an image is not used to check signatures until the user has accepted
//!   it; the image is then judged as if the key were in the policy, before that is written;
//! - a repository that a rule covers is never asked about: a key that is not in the rule is a
//!   refusal, not a question.

use std::sync::Arc;

use qyvol_image::SignedImage;
use qyvol_remote::Client;
use qyvol_trust::{Envelope, Identity, KeyId, PolicyEdit, PublicKey, Scope, Subject, TrustPolicy, required_identity};
use qyvol_types::Reference;

use crate::image_source::{RequestedAs, own_name};
use crate::policy::{change_policy_if, check_own, policy_in_force};
use crate::remote::find;
use crate::verify::{Attestations, verify_image};
use crate::{Context, Error, ImageName, ImageSource, PolicyChange, key_name};

/// An image of a repository that no rule covers, and the keys that come with it.
pub struct FirstUse {
    name: Reference,
    own: Reference,
    image: SignedImage,
    origin: Origin,
    keys: Vec<PublicKey>,
}

/// Where an image of a first use is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// The store, and the registry if the store does not have the name.
    StoreFirst,
    /// The registry: it is its image that was refused, whatever the store has under the name.
    Registry,
}

/// Where the image was read.
enum Origin {
    Store(ImageSource),
    Registry(Box<qyvol_remote::Repository>),
}

/// Finds the keys that come with an image. Judges nothing, and writes nothing.
///
/// # Errors
/// A rule covers the name already; the policy is a followed one; the image is unsigned, or none
/// of its signatures carries the key that it names.
pub fn first_use(
    ctx: &Context<'_>,
    client: &dyn Fn() -> Result<Arc<Client>, Error>,
    name: &Reference,
    from: ReadFrom,
) -> Result<FirstUse, Error> {
    check_own(ctx)?;
    let policy = policy_in_force(ctx)?;
    let stored = match from {
        ReadFrom::Registry => None,
        ReadFrom::StoreFirst => match ImageSource::stored(ctx, &ImageName::Reference(name.clone())) {
            Ok(source) => Some(source),
            Err(Error::NoImage { .. }) => None,
            Err(error) => return Err(error),
        },
    };
    let (origin, image) = match stored {
        Some(source) => {
            let image = source.single()?.clone();
            (Origin::Store(source), image)
        }
        None => {
            let (repository, image) = find(ctx, &client()?, name)?;
            (Origin::Registry(Box::new(repository)), image)
        }
    };
    let own = own_name(&name.to_string(), &image.config)?;
    check_uncovered(&policy, &image, name, &own)?;
    let mut keys: Vec<PublicKey> = Vec::new();
    for signature in &image.signatures {
        let named = Envelope::parse(&signature.bundle).ok();
        let named = named.and_then(|envelope| envelope.hinted_fingerprint());
        let carried = signature
            .unverified_key()
            .and_then(|text| PublicKey::from_base64(text).ok());
        // A key that the signature does not name has signed nothing here.
        let carried = carried.filter(|key| named.is_some_and(|named| named == key.fingerprint()));
        keys.extend(carried.filter(|key| !keys.contains(key)));
    }
    if keys.is_empty() {
        return Err(Error::Usage(match image.signatures.len() {
            0 => format!("{name} is not signed: there is no key to trust"),
            _ => format!("no signature of {name} carries its public key: ask the publisher for the key"),
        }));
    }
    // In the same order for everybody, whatever the registry's order.
    keys.sort_by_key(PublicKey::id);
    Ok(FirstUse {
        name: name.clone(),
        own,
        image,
        origin,
        keys,
    })
}

/// Fails if a rule covers the name already.
fn check_uncovered(policy: &TrustPolicy, image: &SignedImage, name: &Reference, own: &Reference) -> Result<(), Error> {
    let subject = Subject {
        descriptor: &image.descriptor(),
        name: own.repository(),
        version: own.tag().unwrap_or_default(),
        asked: Some(name),
        pinned: name.digest().is_some(),
    };
    match policy.rule(&subject) {
        Some(rule) => Err(Error::Usage(format!(
            "the rule {} of the trust policy covers {name} already: `qyv trust add` changes which keys it trusts",
            rule.scope
        ))),
        None => Ok(()),
    }
}

impl FirstUse {
    /// The keys. Whoever made or published the image chose them.
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// The name that the image gives itself.
    pub fn own_name(&self) -> &Reference {
        &self.own
    }

    /// The repository that a key would be trusted for, as a scope.
    pub fn scope(&self) -> Result<Scope, Error> {
        let repository = self.name.repository_name().to_string();
        let scope = repository.parse::<Scope>();
        scope.map_err(|why| Error::Usage(format!("{repository} can't be a scope: {why}")))
    }

    /// Trusts one of the keys for releases of this repository: judges the image by the policy
    /// that would be in force, and writes that policy if it accepts the image.
    ///
    /// # Errors
    /// The image carries no such key; the policy revokes it; a rule that covers the name was
    /// made meanwhile; the image would still be refused. The policy is then unchanged.
    pub fn pin(&self, ctx: &Context<'_>, id: KeyId, unchecked: bool) -> Result<PolicyChange, Error> {
        let Some(key) = self.keys.iter().find(|key| key.id() == id) else {
            let carried: Vec<String> = self.keys.iter().map(PublicKey::fingerprint).collect();
            return Err(Error::Usage(format!(
                "{} comes with {}, not with {}: nothing was changed",
                self.name,
                carried.join(" and "),
                id.fingerprint()
            )));
        };
        // A moving tag is recorded, so that it never goes back.
        let identity = match required_identity(&self.name, &self.own) {
            Identity::Repository if self.name.tag().is_some() => Identity::Repository,
            _ => Identity::Exact,
        };
        let edit = PolicyEdit::Pin {
            scope: self.scope()?,
            name: key_name(self.own.repository()),
            key: key.clone(),
            identity,
            unchecked,
        };
        change_policy_if(ctx, &edit, |before, policy| {
            // The user may have taken hours to answer.
            check_uncovered(before, &self.image, &self.name, &self.own)?;
            let blobs: &dyn qyvol_store::Fetch = match &self.origin {
                Origin::Store(source) => source.blobs(),
                Origin::Registry(repository) => &**repository,
            };
            let (label, asked) = (self.name.to_string(), RequestedAs::Name(&self.name));
            verify_image(ctx, policy, &label, asked, &self.image, Attestations::Needed(blobs)).map(drop)
        })
    }
}
