//! Time: statements, keys and images that are over, or not yet good.

use super::{Case, Row, payload, policy_with, row};
use crate::make;

fn expiring(time: &str) -> Case {
    payload(&make::changed(&[(
        "\"critical\"",
        &format!("\"expires\":\"{time}\",\"critical\""),
    )]))
}

fn created(time: &str) -> Case {
    payload(&make::changed(&[("2027-01-15T07:43:20Z", time)]))
}

fn key_time(line: &str) -> Case {
    Case {
        policy: policy_with("rules:", &format!("    {line}\nrules:")),
        ..Case::default()
    }
}

fn aged(age: &str) -> Case {
    Case {
        policy: policy_with("    require", &format!("    max_age: {age}\n    require")),
        ..Case::default()
    }
}

fn revoked(what: &str, which: &str) -> Case {
    Case {
        policy: policy_with("rules:", &format!("revoked: {{ {what}: [{which}] }}\nrules:")),
        ..Case::default()
    }
}

fn at(now: u64) -> Case {
    Case { now, ..Case::default() }
}

pub fn rows() -> Vec<Row> {
    vec![
        row(
            "expires-in-a-second",
            "a signature that ends in a second",
            "SIGN-025",
            0,
            "1 good",
            expiring("2027-01-15T08:00:01Z"),
        ),
        row(
            "expired-this-second",
            "a signature that ends now",
            "SIGN-025",
            14,
            "1 expired",
            expiring("2027-01-15T08:00:00Z"),
        ),
        row(
            "expired-a-second-ago",
            "a signature that ended a second ago",
            "SIGN-025",
            14,
            "1 expired",
            expiring("2027-01-15T07:59:59Z"),
        ),
        row(
            "created-ahead",
            "a signature made 300 seconds from now",
            "SIGN-025",
            0,
            "1 good",
            created("2027-01-15T08:05:00Z"),
        ),
        row(
            "created-in-the-future",
            "a signature made 301 seconds from now",
            "SIGN-025",
            14,
            "1 not-yet-valid",
            created("2027-01-15T08:05:01Z"),
        ),
        row(
            "created-in-1970",
            "a signature without a time",
            "SIGN-025",
            0,
            "1 good",
            created("1970-01-01T00:00:00Z"),
        ),
        row(
            "key-from-now",
            "a key that is good from now",
            "SIGN-025",
            0,
            "1 good",
            key_time("from: 2027-01-15T08:00:00Z"),
        ),
        row(
            "key-from-later",
            "a key that is good from the next second",
            "SIGN-025",
            14,
            "1 not-yet-valid",
            key_time("from: 2027-01-15T08:00:01Z"),
        ),
        row(
            "key-from-a-date",
            "a key that is good from a day",
            "SIGN-025",
            0,
            "1 good",
            key_time("from: 2027-01-15"),
        ),
        row(
            "key-until-later",
            "a key that is good up to the next second",
            "SIGN-025",
            0,
            "1 good",
            key_time("until: 2027-01-15T08:00:01Z"),
        ),
        row(
            "key-until-now",
            "a key that was good until now",
            "SIGN-025",
            14,
            "1 expired",
            key_time("until: 2027-01-15T08:00:00Z"),
        ),
        row(
            "max-age-reached",
            "a signature as old as the rule allows",
            "SIGN-025",
            0,
            "1 good",
            aged("1000s"),
        ),
        row(
            "max-age-passed",
            "a signature a second older than the rule allows",
            "SIGN-025",
            14,
            "1 expired",
            aged("999s"),
        ),
        row(
            "max-age-in-days",
            "a signature of less than a day",
            "SIGN-025",
            0,
            "1 good",
            aged("1d"),
        ),
        row(
            "max-age-of-1970",
            "a signature without a time under a rule of max_age",
            "SIGN-025",
            14,
            "1 expired",
            Case {
                policy: policy_with("    require", "    max_age: 9000d\n    require"),
                ..created("1970-01-01T00:00:00Z")
            },
        ),
        row(
            "revoked-by-name",
            "a key that is revoked by its name",
            "SIGN-025",
            14,
            "1 revoked",
            revoked("keys", "k1"),
        ),
        row(
            "revoked-by-fingerprint",
            "a key that is revoked by its fingerprint",
            "SIGN-025",
            14,
            "1 revoked",
            revoked("keys", &format!("\"{}\"", make::fingerprint(1))),
        ),
        row(
            "revoked-other-key",
            "another key that is revoked",
            "SIGN-025",
            0,
            "1 good",
            revoked("keys", &format!("\"{}\"", make::fingerprint(2))),
        ),
        row(
            "revoked-image",
            "an image that is revoked",
            "SIGN-025",
            14,
            "1 good",
            revoked("images", &format!("\"{}\"", make::subject().digest)),
        ),
        row(
            "revoked-other-image",
            "another image that is revoked",
            "SIGN-025",
            0,
            "1 good",
            revoked("images", &format!("\"sha256:{}\"", "0".repeat(64))),
        ),
        row(
            "clock-1970",
            "a clock at 1970",
            "SIGN-025",
            14,
            "1 not-yet-valid",
            at(0),
        ),
        row("clock-2106", "a clock past 2^32", "SIGN-025", 0, "1 good", at(1 << 32)),
        row(
            "clock-9999",
            "a clock at the last second, and a key that is good until it",
            "SIGN-025",
            14,
            "1 expired",
            Case {
                now: 253_402_300_799,
                ..key_time("until: 9999-12-31T23:59:59Z")
            },
        ),
    ]
}
