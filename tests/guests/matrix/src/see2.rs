//! All that preview 1 shows.

use crate::driver::list;

/// A line for each thing.
pub fn all() -> String {
    "see".to_string()
}
