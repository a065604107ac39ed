//! All that WASI 0.3 shows.

use crate::driver::list;

/// A line for each thing.
pub async fn all() -> String {
    "see".to_string()
}
