//! Dates as HTTP, S3 and its signatures write them.

use qyvol_types::Timestamp;

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Reads an IMF-fixdate (RFC 9110, 5.6.7), `Sun, 06 Nov 1994 08:49:37 GMT`. The two
/// obsolete forms are ignored.
pub(crate) fn parse_http(text: &str) -> Option<Timestamp> {
    let rest = text.trim().strip_suffix(" GMT")?.split_once(", ")?.1;
    let mut words = rest.split(' ');
    let (day, month, year, time) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    if words.next().is_some() {
        return None;
    }
    format!("{year}-{month:02}-{day}T{time}Z").parse().ok()
}

/// The same of a timestamp.
pub(crate) fn format_http(time: Timestamp) -> String {
    let text = time.to_string();
    let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default();
    let weekday = usize::try_from(time.unix() / 86_400 % 7).unwrap_or_default();
    let month = part(5..7).parse::<usize>().unwrap_or(1).saturating_sub(1);
    format!(
        "{}, {} {} {} {} GMT",
        DAYS.get(weekday).unwrap_or(&"Thu"),
        part(8..10),
        MONTHS.get(month).unwrap_or(&"Jan"),
        part(0..4),
        part(11..19)
    )
}

/// Reads `2009-10-12T17:50:30.000Z`, as S3 lists it; fractions are dropped.
pub(crate) fn parse_iso(text: &str) -> Option<Timestamp> {
    let whole = text.trim().strip_suffix('Z')?;
    let seconds = whole.split_once('.').map_or(whole, |(seconds, _)| seconds);
    format!("{seconds}Z").parse().ok()
}

/// `20130524T000000Z`, as signatures have it.
pub(crate) fn format_basic(time: Timestamp) -> String {
    time.to_string().replace(['-', ':'], "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_are_read_in_the_forms_that_servers_send() {
        // RFC 9110, 5.6.7.
        let text = "Sun, 06 Nov 1994 08:49:37 GMT";
        let time = parse_http(text).unwrap();
        assert_eq!(
            (time.to_string().as_str(), format_http(time).as_str()),
            ("1994-11-06T08:49:37Z", text)
        );
        assert_eq!(parse_iso("1994-11-06T08:49:37.123Z"), Some(time));
        assert_eq!(parse_iso("1994-11-06T08:49:37Z"), Some(time));
        assert_eq!(format_basic(time), "19941106T084937Z");
        for bad in [
            "",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 99 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 x GMT",
        ] {
            assert_eq!(parse_http(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_second_reads_back(seconds in 0..253_402_300_800_u64) {
            let time = Timestamp::from_unix(seconds).unwrap();
            prop_assert_eq!(parse_http(&format_http(time)), Some(time));
        }

        #[test]
        fn any_text_is_read_without_panic(text in any::<String>()) {
            let _ = (parse_http(&text), parse_iso(&text));
        }
    }
}
