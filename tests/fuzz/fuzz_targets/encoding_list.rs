//! The list of representations, and the choice among them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qyvol_encoding::{Blob, List, Size, Wanted, Way, plan};

fuzz_target!(|bytes: &[u8]| {
    let Ok(list) = List::parse(bytes) else { return };
    let again = list.encode().and_then(|bytes| List::parse(&bytes));
    assert!(again.is_ok_and(|again| again.entries() == list.entries()));
    let wanted: Vec<Wanted> = list
        .entries()
        .iter()
        .map(|entry| Wanted { digest: entry.target.digest, size: Size::Exactly(entry.target.size), plain: entry.target.size })
        .collect();
    let odd = |blob: &Blob| blob.size & 1 == 1;
    for (wanted, way) in wanted.iter().zip(plan(&wanted, &list, &odd)) {
        if let Way::By(entry) = way {
            assert_eq!(entry.target.digest, wanted.digest);
            assert!(entry.blob.size < wanted.plain);
            assert!(entry.encoding.base().is_none_or(|base| odd(&base)));
        }
    }
});
