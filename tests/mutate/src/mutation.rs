//! Mutations that know what they alter: JSON trees, base64, text by lines, bytes.

use serde_json::{Map, Value, json};

use crate::random::Random;

/// One change somewhere in a tree. `donor` gives values that stand in the same place.
pub fn tree(value: &mut Value, donor: &Value, random: &mut Random) {
    // Descends at random: the deeper, the more likely it stops.
    match value {
        Value::Object(map) if !map.is_empty() && !random.once_in(4) => {
            let keys: Vec<String> = map.keys().cloned().collect();
            let key = random.pick(&keys).clone();
            let empty = Value::Null;
            if random.once_in(8) {
                member(map, &key, random);
            } else if let Some(inner) = map.get_mut(&key) {
                tree(inner, donor.get(&key).unwrap_or(&empty), random);
            }
        }
        Value::Array(items) if !items.is_empty() && !random.once_in(4) => {
            let at = random.below(items.len());
            match random.below(6) {
                0 => items.push(items[at].clone()),
                1 => drop(items.remove(at)),
                2 => items.insert(0, donor.get(0).cloned().unwrap_or(Value::Null)),
                _ => tree(&mut items[at], donor.get(at).unwrap_or(&Value::Null), random),
            }
        }
        _ if random.once_in(3) && !donor.is_null() => *value = donor.clone(),
        Value::String(text) if !random.once_in(6) => *text = string(text, random),
        Value::Number(number) if !random.once_in(4) => {
            let old = number.as_u64().unwrap_or_default();
            let new = [old.wrapping_add(1), old.wrapping_sub(1), 0, u64::MAX, 1 << 53, old ^ 1];
            *value = json!(random.pick(&new));
        }
        _ => *value = junk(random),
    }
}

fn member(map: &mut Map<String, Value>, key: &str, random: &mut Random) {
    match random.below(5) {
        0 => drop(map.remove(key)),
        1 => drop(map.insert(key.to_uppercase(), map[key].clone())),
        2 => drop(map.insert("unknown".to_string(), junk(random))),
        3 => {
            let value = map.remove(key).unwrap_or_default();
            map.insert(format!("{key} "), value);
        }
        _ => drop(map.insert(key.to_string(), junk(random))),
    }
}

fn junk(random: &mut Random) -> Value {
    match random.below(12) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(1.5),
        4 => json!(""),
        5 => json!([]),
        6 => json!({}),
        7 => json!("x".repeat(1 << random.below(18))),
        8 => json!(u64::MAX),
        9 => (0..random.below(200)).fold(json!(0), |inner, _| json!([inner])),
        10 => json!("\u{0}\u{202e}é"),
        _ => json!(random.next()),
    }
}

/// A change of a string: of its characters, or of base64 as its readers differ.
fn string(text: &str, random: &mut Random) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = random.below(chars.len());
    let put = |new: &str| {
        let head: String = chars.iter().take(at).collect();
        let tail: String = chars.iter().skip(at + 1).collect();
        format!("{head}{new}{tail}")
    };
    match random.below(11) {
        0 => put(""),
        1 => put("A"),
        2 => put("AA"),
        3 => put("\n"),
        4 => chars.iter().take(at).collect(),
        5 => format!("{text}{}", random.pick(&["=", "A", "AAAA", " ", "\n", "\0"])),
        6 => text.trim_end_matches('=').to_string(),
        7 => text.replace('+', "-").replace('/', "_"),
        8 => text.to_uppercase(),
        9 => format!("{text}{text}"),
        _ => {
            // The next digit: in the last place only bits that may not count.
            let at = chars.iter().rposition(|c| *c != '=').unwrap_or_default();
            let next = chars.get(at).and_then(|c| char::from_u32(*c as u32 + 1)).unwrap_or('A');
            let tail: String = chars.iter().skip(at + 1).collect();
            chars.iter().take(at).collect::<String>() + &next.to_string() + &tail
        }
    }
}

/// A tree as text, sometimes with a member twice or in another layout.
pub fn written(value: &Value, random: &mut Random) -> Vec<u8> {
    let mut text = match random.below(8) {
        0 => format!("{value:#}"),
        _ => value.to_string(),
    };
    if random.once_in(6) {
        // A member before its first, of the same name or another.
        let names = [
            "payloadType",
            "payload",
            "hint",
            "sig",
            "mediaType",
            "predicateType",
            "role",
            "digest",
            "x",
        ];
        let braces: Vec<usize> = text.match_indices('{').map(|(at, _)| at).collect();
        if !braces.is_empty() {
            let comma = if text[braces[0] + 1..].trim_start().starts_with('}') {
                ""
            } else {
                ","
            };
            let at = *random.pick(&braces);
            text.insert_str(at + 1, &format!("\"{}\":{}{comma}", random.pick(&names), junk(random)));
        }
    }
    text.into_bytes()
}

/// One change of bytes.
pub fn bytes(input: &mut Vec<u8>, donor: &[u8], random: &mut Random) {
    let at = random.below(input.len());
    match random.below(8) {
        0..=2 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        3 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = random.next() as u8;
            }
        }
        4 => input.truncate(at),
        5 => input.insert(at, random.next() as u8),
        6 => {
            let end = (at + random.below(64)).min(input.len());
            input.drain(at..end);
        }
        _ => {
            let from = random.below(donor.len());
            let part = &donor[from..(from + random.below(256)).min(donor.len())];
            let end = (at + part.len()).min(input.len());
            input.splice(at..end, part.iter().copied());
        }
    }
}

/// One change of a text by its lines and words; `donor` gives others of its kind.
pub fn text(input: &str, donor: &str, words: &[&str], random: &mut Random) -> String {
    let mut lines: Vec<String> = input.lines().map(str::to_string).collect();
    let donors: Vec<&str> = donor.lines().collect();
    let at = random.below(lines.len());
    if lines.is_empty() {
        return donor.to_string();
    }
    match random.below(12) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, lines[at].clone()),
        2 => {
            let other = random.below(lines.len());
            lines.swap(at, other);
        }
        3 if !donors.is_empty() => lines[at] = (*random.pick(&donors)).to_string(),
        4 if !donors.is_empty() => lines.insert(at, (*random.pick(&donors)).to_string()),
        5 => lines[at] = format!("  {}", lines[at]),
        6 => lines[at] = lines[at].strip_prefix(' ').unwrap_or(&lines[at]).to_string(),
        7..=9 => {
            // One word for another of the language.
            let found: Vec<&&str> = words.iter().filter(|word| lines[at].contains(**word)).collect();
            if !found.is_empty() {
                let word = **random.pick(&found);
                lines[at] = lines[at].replacen(word, random.pick::<&str>(words), 1);
            }
        }
        10 => {
            let signs = [
                ":", "- ", "#", "{", "}", "[", "]", ",", "|", ">", "&a ", "*a", "!!str ", "\"", "'", "\t", "? ",
                "---\n", "~",
            ];
            let spot = (0..=lines[at].len())
                .filter(|n| lines[at].is_char_boundary(*n))
                .collect::<Vec<_>>();
            let spot = *random.pick(&spot);
            lines[at].insert_str(spot, random.pick::<&str>(&signs));
        }
        _ => {
            let mut line = lines[at].clone().into_bytes();
            bytes(&mut line, donor.as_bytes(), random);
            lines[at] = String::from_utf8_lossy(&line).into_owned();
        }
    }
    lines.join("\n") + "\n"
}
