//! Points in time, as whole seconds of UTC in RFC 3339.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// Whole seconds since 1970-01-01T00:00:00Z, up to the end of the year 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

/// Why a string or number is not a timestamp.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("not a time: expected the form 2026-01-31T00:00:00Z or 2026-01-31, from 1970 to 9999")]
pub struct TimestampError;

const END: u64 = 253_402_300_800;

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Timestamp = Timestamp(0);

    /// From seconds since the epoch.
    pub fn from_unix(seconds: u64) -> Result<Timestamp, TimestampError> {
        if seconds < END {
            Ok(Timestamp(seconds))
        } else {
            Err(TimestampError)
        }
    }

    /// From a clock. A clock before 1970 reads as 1970, one past 9999 as that.
    pub fn from_system(time: SystemTime) -> Timestamp {
        let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        Timestamp(seconds.min(END - 1))
    }

    /// Seconds since the epoch.
    pub fn unix(self) -> u64 {
        self.0
    }

    /// This time and `duration` more, at most the end of 9999.
    pub fn plus(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(duration.as_secs()).min(END - 1))
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    /// Takes a whole second in UTC (`…Z`), or a date, which means its first
    /// second.
    fn from_str(s: &str) -> Result<Timestamp, TimestampError> {
        let full = match s.len() {
            10 => format!("{s}T00:00:00Z"),
            20 => s.to_string(),
            _ => return Err(TimestampError),
        };
        let time = humantime::parse_rfc3339(&full).map_err(|_| TimestampError)?;
        let seconds = time.duration_since(UNIX_EPOCH).map_err(|_| TimestampError)?;
        let time = Timestamp::from_unix(seconds.as_secs())?;
        // A leap second is the second before it to some readers.
        if time.to_string() == full {
            Ok(time)
        } else {
            Err(TimestampError)
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = UNIX_EPOCH + Duration::from_secs(self.0);
        write!(f, "{}", humantime::format_rfc3339_seconds(time))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        // Dates are for people: nobody writes one into JSON.
        match text.parse() {
            Ok(time) if text.len() > 10 => Ok(time),
            _ => Err(serde::de::Error::custom(TimestampError)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_rfc3339() {
        for text in ["1970-01-01T00:00:00Z", "2026-02-28T23:59:59Z", "9999-12-31T23:59:59Z"] {
            assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), text);
        }
        assert_eq!("2026-01-01".parse::<Timestamp>().unwrap().unix(), 1_767_225_600);
        for bad in [
            "",
            "2026",
            "2026-13-01",
            "2026-02-30T00:00:00Z",
            "1969-12-31T00:00:00Z",
            "2026-01-01T00:00:00+01",
            "2026-12-31T23:59:60Z",
        ] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
        serde_json::from_str::<Timestamp>("\"2026-01-01T00:00:00Z\"").unwrap();
        serde_json::from_str::<Timestamp>("\"2026-01-01\"").unwrap_err();
    }
}
