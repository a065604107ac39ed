//! A policy's parsed form as bytes, for a host that keeps it beside compiled code: of a large
//! policy, reading YAML takes longer than all else that a run does.
//!
//! Integers are little-endian and of 64 bits, lengths of 32; an absent value is a zero byte.
//! Every type lists all its fields, so that a new one can't be forgotten here.
//!
//! Invariants:
//! - what is read back equals what was parsed, or there is nothing;
//! - a length takes no memory beyond the bytes that are there.
//!
//! Deliberately absent: what parsing checks. Whoever keeps the bytes must know that this very
//! build wrote them, for this very text (`spec/store.md`, "Parsed policies").

use std::collections::BTreeMap;
use std::time::Duration;

use qyvol_sandbox::Capabilities;
use qyvol_types::{Digest, Permissions, RepositoryName, Resources, Timestamp, json};

use crate::key::Point;
use crate::policy::Pattern;
use crate::policy::{Ceiling, Identity, Names, Remap, Requirement};
use crate::revoked::{HostRevoked, RevokedKey};
use crate::signer::CertifiedName;
use crate::{
    AttestCondition, Form, KeyId, PolicyKey, PolicyRoot, PublicKey, Revoked, Rule, Scope, Signer, SignerIdentity,
    TrustPolicy, Update,
};

/// Names the form, and the sources that read policies: another build may read a text otherwise.
pub const PARSED_FORM: &str = concat!("1-", env!("QYVOL_POLICY_SOURCES"));

/// Elements for which there is room before they are read.
const ROOM: usize = 1024;

impl TrustPolicy {
    /// The parsed form, without the trusted roots' content.
    pub fn to_parsed_form(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put(&mut out);
        out
    }

    /// Reads what [`TrustPolicy::to_parsed_form`] of this very build has written. Nothing is
    /// checked that parsing checks: the caller must know that it has. None if it is no such form.
    pub fn from_parsed_form(bytes: &[u8]) -> Option<TrustPolicy> {
        let mut input = Input(bytes);
        let policy = TrustPolicy::take(&mut input)?;
        input.0.is_empty().then_some(policy)
    }
}

/// A value that can be part of the form.
trait Part: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn take(input: &mut Input<'_>) -> Option<Self>;
}

/// Bytes that are still to be read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(self.array()?)).ok()
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = self.length()?;
        std::str::from_utf8(self.bytes(length)?).ok()
    }
}

/// Lengths are those of parts of a text of at most 2 MiB.
fn put_length(length: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    put_length(text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

/// A type as all of its fields, in this order.
macro_rules! fields {
    ($($type:ident { $($field:ident),* })*) => {$(
        impl Part for $type {
            fn put(&self, out: &mut Vec<u8>) {
                let $type { $($field),* } = self;
                $($field.put(out);)*
            }

            fn take(input: &mut Input<'_>) -> Option<$type> {
                Some($type { $($field: Part::take(input)?),* })
            }
        }
    )*};
}

fields! {
    TrustPolicy { name, serial, expires, update, deny_development, given, roots, keys, revoked, rules }
    PolicyKey { name, signer, from, until, unchecked }
    PublicKey { point, id }
    SignerIdentity { root, name }
    CertifiedName { issuer, subject, repository_id, owner_id }
    Revoked { keys, images, floors, host }
    RevokedKey { id, keep }
    Rule { scope, require, identity, names, remap, max_age, deny_rollback, attest, ceiling }
    Scope { file, path }
    Requirement { role, form, keys, threshold }
    Remap { prefix, signed }
    AttestCondition { kind, keys, builder, source, source_ref }
    Ceiling { allow, limits }
    Resources { memory, timeout, cpu, fuel, storage, output, files, sockets }
    Update { keys, threshold, from, freshness, max_lag }
}

/// What a host revokes is read anew each time, and never kept with what a text says.
impl Part for HostRevoked {
    fn put(&self, _: &mut Vec<u8>) {}

    fn take(_: &mut Input<'_>) -> Option<HostRevoked> {
        Some(HostRevoked::default())
    }
}

/// A type of which each value is named, by a byte.
macro_rules! words {
    ($($type:ident { $($value:ident = $byte:literal),* })*) => {$(
        impl Part for $type {
            fn put(&self, out: &mut Vec<u8>) {
                out.push(match self { $($type::$value => $byte),* });
            }

            fn take(input: &mut Input<'_>) -> Option<$type> {
                match input.array()? {
                    $([$byte] => Some($type::$value),)*
                    _ => None,
                }
            }
        }
    )*};
}

words! {
    Identity { Exact = 0, Repository = 1, Any = 2 }
    Names { Trailing = 0, Full = 1 }
    Form { Qyvol = 0, Cosign = 1 }
}

/// A type as a text.
macro_rules! texts {
    ($($type:ident)*) => {$(
        impl Part for $type {
            fn put(&self, out: &mut Vec<u8>) {
                put_text(&self.to_string(), out);
            }

            fn take(input: &mut Input<'_>) -> Option<$type> {
                input.text()?.parse().ok()
            }
        }
    )*};
}

texts! { Digest RepositoryName }

impl Part for PolicyRoot {
    fn put(&self, out: &mut Vec<u8>) {
        // Its content is another file's, which is read and hashed each time.
        let PolicyRoot {
            name,
            file,
            digest,
            root: _,
        } = self;
        name.put(out);
        file.put(out);
        digest.put(out);
    }

    fn take(input: &mut Input<'_>) -> Option<PolicyRoot> {
        Some(PolicyRoot {
            name: Part::take(input)?,
            file: Part::take(input)?,
            digest: Part::take(input)?,
            root: None,
        })
    }
}

impl Part for Signer {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Signer::Key(key) => {
                out.push(0);
                key.put(out);
            }
            Signer::Identity(identity) => {
                out.push(1);
                identity.put(out);
            }
        }
    }

    fn take(input: &mut Input<'_>) -> Option<Signer> {
        match input.array()? {
            [0] => Part::take(input).map(Signer::Key),
            [1] => Part::take(input).map(Signer::Identity),
            _ => None,
        }
    }
}

impl Part for Point {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Point::Ed25519(point) => {
                out.push(0);
                out.extend_from_slice(point);
            }
            Point::EcdsaP256(point) => {
                out.push(1);
                out.extend_from_slice(point);
            }
        }
    }

    fn take(input: &mut Input<'_>) -> Option<Point> {
        match input.array()? {
            [0] => input.array().map(Point::Ed25519),
            [1] => input.array().map(Point::EcdsaP256),
            _ => None,
        }
    }
}

impl Part for KeyId {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }

    fn take(input: &mut Input<'_>) -> Option<KeyId> {
        input.array().map(KeyId)
    }
}

impl Part for Pattern {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }

    fn take(input: &mut Input<'_>) -> Option<Pattern> {
        Part::take(input).map(Pattern)
    }
}

impl Part for Capabilities {
    fn put(&self, out: &mut Vec<u8>) {
        // Of strings, lists and booleans: JSON can say them.
        json::encode(&self.to_permissions()).unwrap_or_default().put(out);
    }

    fn take(input: &mut Input<'_>) -> Option<Capabilities> {
        let length = input.length()?;
        let asked: Permissions = json::decode(input.bytes(length)?).ok()?;
        Capabilities::read(&asked).ok()
    }
}

impl Part for Timestamp {
    fn put(&self, out: &mut Vec<u8>) {
        self.unix().put(out);
    }

    fn take(input: &mut Input<'_>) -> Option<Timestamp> {
        Timestamp::from_unix(Part::take(input)?).ok()
    }
}

/// A policy's are whole seconds.
impl Part for Duration {
    fn put(&self, out: &mut Vec<u8>) {
        self.as_secs().put(out);
    }

    fn take(input: &mut Input<'_>) -> Option<Duration> {
        Part::take(input).map(Duration::from_secs)
    }
}

impl Part for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn take(input: &mut Input<'_>) -> Option<bool> {
        match input.array()? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }
}

impl Part for u8 {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(*self);
    }

    fn take(input: &mut Input<'_>) -> Option<u8> {
        input.array().map(|[byte]| byte)
    }
}

impl Part for u64 {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }

    fn take(input: &mut Input<'_>) -> Option<u64> {
        input.array().map(u64::from_le_bytes)
    }
}

impl Part for usize {
    fn put(&self, out: &mut Vec<u8>) {
        (*self as u64).put(out);
    }

    fn take(input: &mut Input<'_>) -> Option<usize> {
        usize::try_from(u64::take(input)?).ok()
    }
}

impl Part for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_text(self, out);
    }

    fn take(input: &mut Input<'_>) -> Option<String> {
        input.text().map(str::to_string)
    }
}

impl<T: Part> Part for Box<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.as_ref().put(out);
    }

    fn take(input: &mut Input<'_>) -> Option<Box<T>> {
        T::take(input).map(Box::new)
    }
}

impl<T: Part> Part for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(input: &mut Input<'_>) -> Option<Option<T>> {
        match bool::take(input)? {
            true => T::take(input).map(Some),
            false => Some(None),
        }
    }
}

impl<T: Part> Part for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        self.iter().for_each(|value| value.put(out));
    }

    fn take(input: &mut Input<'_>) -> Option<Vec<T>> {
        let length = input.length()?;
        let mut values = Vec::with_capacity(length.min(ROOM));
        for _ in 0..length {
            values.push(T::take(input)?);
        }
        Some(values)
    }
}

impl Part for BTreeMap<String, String> {
    fn put(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        for (key, value) in self {
            key.put(out);
            value.put(out);
        }
    }

    fn take(input: &mut Input<'_>) -> Option<BTreeMap<String, String>> {
        let length = input.length()?;
        let pairs = (0..length).map(|_| Some((Part::take(input)?, Part::take(input)?)));
        pairs.collect()
    }
}
