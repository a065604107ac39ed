//! Text from outside, made safe to show on a page of bounded size.

use std::fmt;

use qyvol_types::{Digest, Timestamp, escape, is_deceptive};

/// Bytes of a character that a template escapes: `&#60;`.
const ENTITY: usize = 5;

/// Text from outside: bounded by the bytes that it takes in HTML, and with everything escaped
/// that could hide text or turn its direction. The template escapes what HTML gives a meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inert {
    text: String,
    /// Bytes that it takes in HTML.
    html: usize,
    /// Whether something was left out at the end.
    pub(crate) is_cut: bool,
}

impl fmt::Display for Inert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Inert {
    /// One line of at most `most` bytes of HTML.
    pub(crate) fn line(text: &str, most: usize) -> Inert {
        Inert::build(text, most, |_| None)
    }

    /// The same of lines: newlines stay, and a tab becomes spaces.
    pub(crate) fn lines(text: &str, most: usize) -> Inert {
        Inert::build(text, most, |c| match c {
            '\n' => Some("\n"),
            '\t' => Some("    "),
            '\r' => Some(""),
            _ => None,
        })
    }

    fn build(text: &str, most: usize, instead: impl Fn(char) -> Option<&'static str>) -> Inert {
        let mut out = Inert::default();
        let mut buffer = [0; 4];
        for c in text.chars() {
            let one: &str = c.encode_utf8(&mut buffer);
            let escaped;
            let shown = match instead(c) {
                Some(shown) => shown,
                None if is_deceptive(c) => {
                    escaped = escape(one).to_string();
                    &escaped
                }
                None => one,
            };
            let bytes = if "<>&\"'".contains(c) { ENTITY } else { shown.len() };
            if out.html + bytes > most {
                out.text.push('…');
                out.is_cut = true;
                break;
            }
            out.html += bytes;
            out.text.push_str(shown);
        }
        out
    }

    /// Bytes in memory.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    /// Whether it is this text.
    pub(crate) fn is(&self, text: &str) -> bool {
        self.text == text
    }

    /// Bytes that it takes in HTML.
    pub(crate) fn html(&self) -> usize {
        self.html
    }
}

/// The first of many texts: those that fit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fitting {
    pub(crate) shown: Vec<Inert>,
    pub(crate) left_out: usize,
}

impl Fitting {
    /// Bytes in memory.
    pub(crate) fn len(&self) -> usize {
        self.shown.iter().map(|text| text.len() + 48).sum()
    }

    /// Whether something is not shown.
    pub(crate) fn is_cut(&self) -> bool {
        self.left_out > 0 || self.shown.iter().any(|text| text.is_cut)
    }
}

/// As many texts as fit into `most` bytes of HTML, each at most a line of `each` bytes.
pub(crate) fn fitting<'a>(texts: impl Iterator<Item = &'a str>, each: usize, most: usize) -> Fitting {
    let mut out = Fitting::default();
    let mut bytes = 0;
    for text in texts {
        // The rest are counted, and not looked at.
        if bytes >= most {
            out.left_out += 1;
            continue;
        }
        let line = Inert::line(text, each.min(most - bytes));
        // The markup around it counts too.
        bytes += line.html + 40;
        out.shown.push(line);
    }
    out
}

/// A number of bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while value >= 999.5 {
        let Some(next) = units.next() else { break };
        value /= 1000.0;
        unit = Some(next);
    }
    let unit = unit.copied().unwrap_or_default();
    match value < 9.95 {
        true => format!("{value:.1} {unit}"),
        false => format!("{value:.0} {unit}"),
    }
}

/// Milliseconds for people.
pub(crate) fn duration(milliseconds: u64) -> String {
    match milliseconds {
        ms if ms % 3_600_000 == 0 => format!("{} h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{} min", ms / 60_000),
        ms if ms % 1000 == 0 => format!("{} s", ms / 1000),
        ms => format!("{ms} ms"),
    }
}

/// A digest's algorithm and its first twelve digits.
pub(crate) fn short(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("{}:{}…", digest.algorithm().name(), hex.get(..12).unwrap_or(&hex))
}

/// A time as a page shows it, and as a program reads it.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    pub(crate) shown: String,
    pub(crate) exact: String,
}

/// A time; none for 1970, which stands for none.
pub(crate) fn moment(time: Timestamp) -> Option<Moment> {
    if time == Timestamp::EPOCH {
        return None;
    }
    let exact = time.to_string();
    let shown = format!("{} {} UTC", exact.get(..10)?, exact.get(11..16)?);
    Some(Moment { shown, exact })
}

#[cfg(test)]
mod tests {
    use super::*;

    // [HUB-045]
    #[test]
    fn text_is_inert_and_bounded_by_the_bytes_of_its_html() {
        assert_eq!(Inert::line("a\u{202e}b\nc", 100).to_string(), "a\\u{202e}b\\u{a}c");
        assert_eq!(Inert::lines("a\r\n\tb\u{1b}", 100).to_string(), "a\n    b\\u{1b}");
        let cut = Inert::line(&"<".repeat(1000), 52);
        assert_eq!(cut.to_string(), format!("{}…", "<".repeat(10)));
        assert!(cut.is_cut);
        assert!(Inert::line(&"é".repeat(1000), 101).len() <= 104);
        assert!(!Inert::line("whole", 5).is_cut);
        let many = vec!["x"; 100_000];
        let fit = fitting(many.iter().copied(), 10, 1000);
        assert_eq!(fit.shown.len() + fit.left_out, 100_000);
        assert!(fit.shown.len() < 100, "{}", fit.shown.len());
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(size(999), "999 B");
        assert_eq!(size(27_640), "28 kB");
        assert_eq!(size(999_600), "1.0 MB");
        assert_eq!(size(5 << 40), "5.5 TB");
        assert_eq!(duration(90_000), "90 s");
        assert_eq!(duration(120_000), "2 min");
        assert_eq!(duration(1), "1 ms");
        assert!(moment(Timestamp::EPOCH).is_none());
        let time = Timestamp::from_unix(1_800_000_000).unwrap();
        assert_eq!(moment(time).unwrap().shown, "2027-01-15 08:00 UTC");
    }
}
