//! Which language a page is in.

use crate::text::{ENGLISH, SPANISH, Text};

/// A language that every text is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    English,
    Spanish,
}

/// Preferences that are read of a request.
const PREFERENCES: usize = 32;

impl Language {
    pub(crate) const ALL: [Language; 2] = [Language::English, Language::Spanish];

    /// The language of a code, such as `es`.
    pub(crate) fn named(code: &str) -> Option<Language> {
        match code {
            "en" => Some(Language::English),
            "es" => Some(Language::Spanish),
            _ => None,
        }
    }

    /// The language that a client prefers (RFC 9110, 12.5.4): English, unless it prefers
    /// Spanish.
    pub(crate) fn accepted(header: Option<&str>) -> Language {
        let mut best = (Language::English, 0);
        for preference in header.unwrap_or_default().split(',').take(PREFERENCES) {
            let (range, weight) = preference.split_once(';').unwrap_or((preference, ""));
            let primary = range.trim().split('-').next().unwrap_or_default().to_ascii_lowercase();
            let Some(language) = Language::named(&primary) else {
                continue;
            };
            let weight = thousandths(weight.trim());
            if weight > best.1 {
                best = (language, weight);
            }
        }
        best.0
    }

    pub(crate) fn code(self) -> &'static str {
        match self {
            Language::English => "en",
            Language::Spanish => "es",
        }
    }

    /// Its own name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Language::English => "English",
            Language::Spanish => "Español",
        }
    }

    /// The query that chooses it.
    pub(crate) fn parameter(self) -> &'static str {
        match self {
            Language::English => "?lang=en",
            Language::Spanish => "?lang=es",
        }
    }

    pub(crate) fn other(self) -> Language {
        match self {
            Language::English => Language::Spanish,
            Language::Spanish => Language::English,
        }
    }

    /// The same, for sentences about permissions.
    pub(crate) fn of_sandbox(self) -> qyvol_sandbox::Language {
        match self {
            Language::English => qyvol_sandbox::Language::English,
            Language::Spanish => qyvol_sandbox::Language::Spanish,
        }
    }

    pub(crate) fn text(self) -> &'static Text {
        match self {
            Language::English => &ENGLISH,
            Language::Spanish => &SPANISH,
        }
    }
}

/// A weight: `q=0.8` is 800, nothing is 1000, and what can't be read is 0.
fn thousandths(weight: &str) -> u32 {
    if weight.is_empty() {
        return 1000;
    }
    let Some(number) = weight.strip_prefix("q=").or_else(|| weight.strip_prefix("Q=")) else {
        return 0;
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return 0;
    }
    let fraction: u32 = format!("{fraction:0<3}").parse().unwrap_or(0);
    match whole {
        "0" => fraction,
        "1" if fraction == 0 => 1000,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // [HUB-042]
    #[test]
    fn language_is_the_one_preferred_most() {
        for (header, expected) in [
            (None, "en"),
            (Some(""), "en"),
            (Some("es"), "es"),
            (Some("es-MX,es;q=0.9,en;q=0.8"), "es"),
            (Some("en;q=0.5, ES;q=0.6"), "es"),
            (Some("en, es"), "en"),
            (Some("de, fr;q=0.9, es;q=0.1"), "es"),
            (Some("es;q=0"), "en"),
            (Some("es;q=x, en;q=0.001"), "en"),
            (Some("es;q=1.001"), "en"),
        ] {
            assert_eq!(Language::accepted(header).code(), expected, "{header:?}");
        }
    }
}
