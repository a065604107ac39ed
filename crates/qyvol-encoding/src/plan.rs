//! Which representation of each blob to fetch: the one with the fewest bytes that the host can
//! decode with what it has already.

use qyvol_types::Digest;

use crate::{Blob, List, Representation, saves_a_third};

/// What a host has already and can read: blobs of its store, and tars that it can make from
/// them.
pub trait Has {
    /// Whether it has exactly this.
    fn has(&self, blob: &Blob) -> bool;
}

impl<F: Fn(&Blob) -> bool> Has for F {
    fn has(&self, blob: &Blob) -> bool {
        self(blob)
    }
}

/// What is known of a target's size from what is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// A blob's descriptor says it.
    Exactly(u64),
    /// The uncompressed tar of assets: no larger than the config's files and bytes make it.
    AtMost(u64),
}

/// One thing that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its digest.
    pub digest: Digest,
    /// Its size.
    pub size: Size,
    /// Bytes that are fetched without a representation.
    pub plain: u64,
}

/// How to get a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way<'a> {
    /// As it is.
    Plain,
    /// Decoded from this.
    By(&'a Representation),
}

/// The cheapest way to each of `wanted`, in their order. A base that is itself wanted doesn't
/// count: no patch waits for another.
pub fn plan<'a>(wanted: &[Wanted], list: &'a List, host: &impl Has) -> Vec<Way<'a>> {
    wanted.iter().map(|wanted| cheapest(wanted, list, host)).collect()
}

fn cheapest<'a>(wanted: &Wanted, list: &'a List, host: &impl Has) -> Way<'a> {
    let fits = |entry: &&Representation| {
        let size = match wanted.size {
            Size::Exactly(size) => entry.target.size == size,
            Size::AtMost(size) => entry.target.size <= size,
        };
        size && entry.target.digest == wanted.digest && saves_a_third(entry.blob.size, wanted.plain)
    };
    let usable = list.entries().iter().filter(fits);
    let usable = usable.filter(|entry| entry.encoding.base().is_none_or(|base| host.has(&base)));
    // Of equal ones, what needs no base; of these, the first.
    let best = usable.min_by_key(|entry| (entry.blob.size, entry.encoding.base().is_some()));
    best.map_or(Way::Plain, Way::By)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Encoding;

    fn blob(name: &str, size: u64) -> Blob {
        Blob {
            digest: Digest::of(name.as_bytes()),
            size,
        }
    }

    fn entry(target: Blob, base: Option<Blob>, size: u64) -> Representation {
        Representation {
            target,
            encoding: base.map_or(Encoding::Zstd, |base| Encoding::ZstdPatch { base }),
            blob: blob(&format!("{target} {base:?} {size}"), size),
        }
    }

    fn wanted(blob: Blob) -> Wanted {
        Wanted {
            digest: blob.digest,
            size: Size::Exactly(blob.size),
            plain: blob.size,
        }
    }

    // [ENC-030]
    #[test]
    fn smallest_representation_that_the_host_can_decode_wins() {
        let (new, old, older) = (blob("new", 1000), blob("old", 990), blob("older", 980));
        let entries = [
            entry(new, None, 300),
            entry(new, Some(old), 10),
            entry(new, Some(older), 20),
        ];
        let list = List::new(entries.to_vec()).unwrap();
        let of = |have: &[Blob]| plan(&[wanted(new)], &list, &|b: &Blob| have.contains(b));
        assert_eq!(of(&[]), [Way::By(&entries[0])]);
        assert_eq!(of(&[older]), [Way::By(&entries[2])]);
        assert_eq!(of(&[older, old]), [Way::By(&entries[1])]);
    }

    // [ENC-031]
    #[test]
    fn patch_of_a_base_that_is_itself_wanted_is_not_chosen() {
        let (a, b) = (blob("a", 1000), blob("b", 1000));
        let entries = [entry(a, Some(b), 10), entry(b, Some(a), 10), entry(b, None, 200)];
        let list = List::new(entries.to_vec()).unwrap();
        let ways = plan(&[wanted(a), wanted(b)], &list, &|_: &Blob| false);
        assert_eq!(ways, [Way::Plain, Way::By(&entries[2])]);
    }

    // [ENC-032]
    #[test]
    fn representation_that_saves_less_than_a_third_is_left() {
        let new = blob("new", 900);
        let way = |size| {
            let list = List::new(vec![entry(new, None, size)]).unwrap();
            plan(&[wanted(new)], &list, &|_: &Blob| false) != [Way::Plain]
        };
        assert!(way(600) && !way(601));
        let list = List::new(vec![entry(new, None, 300)]).unwrap();
        let small = Wanted {
            plain: 400,
            ..wanted(new)
        };
        assert_eq!(plan(&[small], &list, &|_: &Blob| false), [Way::Plain]);
    }

    // [ENC-033]
    #[test]
    fn size_other_than_the_signed_one_is_left() {
        let (new, old) = (blob("new", 900), blob("old", 1));
        let way = |size, base| {
            let list = List::new(vec![entry(new, base, 3)]).unwrap();
            let wanted = Wanted { size, ..wanted(new) };
            plan(&[wanted], &list, &|b: &Blob| *b == old) != [Way::Plain]
        };
        assert!(way(Size::Exactly(900), None) && !way(Size::Exactly(899), None));
        assert!(way(Size::AtMost(900), None) && !way(Size::AtMost(899), None));
        // The host has a base of this digest and of another size.
        assert!(way(Size::Exactly(900), Some(old)) && !way(Size::Exactly(900), Some(blob("old", 2))));
    }
}
