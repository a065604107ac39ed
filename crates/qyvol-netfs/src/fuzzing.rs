//! The parsers of a server's answer, for `tests/fuzz` alone (`--cfg fuzzing`).

use crate::path::is_name;
use crate::{date, meta, remote};

/// Reads the text as each kind of answer.
///
/// # Panics
///
/// If a parser accepts a name that is none.
pub fn read_answer(text: &str) {
    for name in remote::names_of_any_listing(text) {
        assert!(is_name(&name), "{name:?}");
    }
    let _ = (date::parse_http(text), date::parse_iso(text));
    let _ = (meta::parse_etag(text), meta::parse_length(text));
}
