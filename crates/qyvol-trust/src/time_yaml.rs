//! Times and durations of a policy, read from YAML.

use std::time::Duration;

use qyvol_types::Timestamp;
use qyvol_types::yaml::{Fields, Node, Reader};

/// The time under a key, in the form of RFC 3339.
pub(crate) fn time(r: &mut Reader<'_>, fields: &Fields<'_>, key: &str) -> Option<Timestamp> {
    let node = fields.get(key)?;
    let text = r.text(node, key)?;
    match text.parse() {
        Ok(time) => Some(time),
        Err(why) => {
            r.problem(node.place, format!("{key} is {why}"));
            None
        }
    }
}

/// A number of days, hours, minutes or seconds, such as `90d`.
pub(crate) fn age(r: &mut Reader<'_>, node: &Node, key: &str) -> Option<Duration> {
    let text = r.text(node, key)?;
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let seconds = units.iter().find_map(|(unit, seconds)| {
        let digits = text.strip_suffix(unit)?;
        // `parse` takes a sign.
        let number = digits.parse::<u64>().ok().filter(|_| !digits.starts_with('+'))?;
        number.checked_mul(*seconds).filter(|s| *s > 0)
    });
    if seconds.is_none() {
        r.problem(
            node.place,
            format!("{key} must be a number of days, hours, minutes or seconds, such as 90d"),
        );
    }
    seconds.map(Duration::from_secs)
}
