//! What the programs of all versions of WASI share: steps are read from the
//! arguments, and what came of each is a word.
//!
//! `open /data:a%00b r + list /data:.` are two steps. `%` and two hexadecimal
//! digits stand for a byte. A path is the name of a directory that the guest was
//! given, `:`, and what is given to the host with that directory, as it stands.

/// What came of a step: a word, or the error's name.
pub type Outcome = Result<String, String>;

/// One step.
pub struct Step {
    pub op: String,
    pub args: Vec<Vec<u8>>,
}

impl Step {
    /// An argument, empty where it is missing.
    pub fn arg(&self, n: usize) -> &[u8] {
        self.args.get(n).map_or(&[], Vec::as_slice)
    }

    /// An argument as text, whatever its bytes are.
    pub fn text(&self, n: usize) -> &str {
        text(self.arg(n))
    }

    /// An argument as a number.
    pub fn number(&self, n: usize) -> u64 {
        self.text(n).parse().unwrap_or(0)
    }

    /// An argument as a path: the directory that the guest was given, and the rest.
    pub fn path(&self, n: usize) -> (&str, &str) {
        let bytes = self.arg(n);
        let colon = bytes.iter().position(|b| *b == b':').unwrap_or(bytes.len());
        (text(&bytes[..colon]), text(bytes.get(colon + 1..).unwrap_or_default()))
    }
}

/// Bytes as text without a look at them: what is not UTF-8 is for the host to refuse.
pub fn text(bytes: &[u8]) -> &str {
    // SAFETY: the text is only handed to the host, or compared.
    unsafe { std::str::from_utf8_unchecked(bytes) }
}

/// The steps of a command line, the program's name left out.
pub fn steps(args: impl Iterator<Item = String>) -> Vec<Step> {
    let args: Vec<String> = args.skip(1).collect();
    args.split(|arg| arg == "+")
        .filter_map(|step| {
            let (op, args) = step.split_first()?;
            Some(Step { op: op.clone(), args: args.iter().map(|arg| unescaped(arg)).collect() })
        })
        .collect()
}

fn unescaped(arg: &str) -> Vec<u8> {
    let mut parts = arg.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()).unwrap_or(b'%'));
        bytes.extend(part.get(2..).unwrap_or_default().as_bytes());
    }
    bytes
}

/// The word of an outcome.
pub fn word(outcome: Outcome) -> String {
    outcome.unwrap_or_else(|error| error)
}

pub fn ok<T>(_: T) -> String {
    "ok".to_string()
}

/// `no-entry` of `ErrorCode::NoEntry`; what a variant carries is left out.
#[allow(dead_code)]
pub fn kebab(debug: &str) -> String {
    let name = debug.strip_prefix("ErrorCode::").unwrap_or(debug);
    let mut word = String::new();
    for c in name.chars().take_while(|c| c.is_alphanumeric()) {
        if c.is_uppercase() && !word.is_empty() {
            word.push('-');
        }
        word.push(c.to_ascii_lowercase());
    }
    word
}

/// An address and a port.
#[allow(dead_code)]
pub fn address(text: &str) -> Result<std::net::SocketAddr, String> {
    text.parse().map_err(|_| format!("{text} is no address"))
}

/// Items in order, or `none`.
pub fn list(mut items: Vec<String>) -> String {
    if items.is_empty() {
        return "none".to_string();
    }
    items.sort();
    items.join(",")
}
