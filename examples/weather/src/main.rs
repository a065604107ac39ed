//! Prints weather forecasts, which are files of its root directory.
//!
//! `weather` lists the cities of `/index.json`, `weather CITY` prints `/CITY.json`
//! as a table. The exit code is 1 for what can't be had, and 2 for what is not
//! understood.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write as _};

use serde::de::DeserializeOwned;
use serde::Deserialize;

/// Bytes of a file that are read.
const MAX_FILE: u64 = 1024 * 1024;
/// Bytes of a city's name.
const MAX_CITY: usize = 64;

#[derive(Deserialize)]
struct Index {
    cities: Vec<City>,
}

#[derive(Deserialize)]
struct City {
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct Forecast {
    name: String,
    days: Vec<Day>,
}

#[derive(Deserialize)]
struct Day {
    day: String,
    sky: String,
    /// Degrees Celsius.
    low: i32,
    high: i32,
    /// Millimetres.
    rain: f32,
}

/// Why there is no forecast.
enum Failure {
    /// The command line is not understood.
    Usage(String),
    /// There is no such city.
    Unknown(String),
    /// A file can't be read.
    File(String, io::Error),
    /// A file is not what it should be.
    Content(String, serde_json::Error),
    /// What was found can't be printed.
    Print(io::Error),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            _ => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(why) => write!(f, "{why}\nusage: weather [CITY]"),
            Failure::Unknown(city) => write!(f, "no forecast for {city}; `weather` lists the cities"),
            Failure::File(path, error) => write!(f, "can't read {path}: {error}"),
            Failure::Content(path, error) => write!(f, "{path} is not as expected: {error}"),
            Failure::Print(error) => write!(f, "can't print: {error}"),
        }
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let text = match args.as_slice() {
        [] => cities(),
        [city] => forecast(city),
        _ => Err(Failure::Usage("one city at a time".to_string())),
    };
    if let Err(failure) = text.and_then(|text| print(&text)) {
        eprintln!("weather: {failure}");
        wasip2::cli::exit::exit_with_code(failure.code());
    }
}

/// The cities that have a forecast.
fn cities() -> Result<String, Failure> {
    let index: Index = read("/index.json")?;
    let mut text = String::new();
    for City { id, name } in index.cities {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{:<12} {}", shown(&id), shown(&name));
    }
    Ok(text)
}

/// The forecast of a city as a table.
fn forecast(city: &str) -> Result<String, Failure> {
    // A city's name becomes a file's, so it is not any text.
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if city.is_empty() || city.len() > MAX_CITY || !city.chars().all(letter) {
        return Err(Failure::Usage(format!(
            "`{}` is not the name of a city",
            city.escape_debug()
        )));
    }
    let city = city.to_ascii_lowercase();
    let forecast: Forecast = match read(&format!("/{city}.json")) {
        Err(Failure::File(_, error)) if error.kind() == ErrorKind::NotFound => return Err(Failure::Unknown(city)),
        read => read?,
    };
    let mut text = format!("{}\n", shown(&forecast.name));
    for d in forecast.days {
        let (day, sky) = (shown(&d.day), shown(&d.sky));
        let (low, high, rain) = (d.low, d.high, d.rain);
        let _ = writeln!(text, "{day:<5} {sky:<8} {low:>4} to {high:>3} °C {rain:>6.1} mm");
    }
    Ok(text)
}

fn read<T: DeserializeOwned>(path: &str) -> Result<T, Failure> {
    let failed = |error| Failure::File(path.to_string(), error);
    let mut text = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_FILE + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_FILE {
        let why = format!("it has more than {MAX_FILE} bytes");
        return Err(failed(io::Error::new(ErrorKind::FileTooLarge, why)));
    }
    serde_json::from_slice(&text).map_err(|error| Failure::Content(path.to_string(), error))
}

/// Text of a file without characters that would steer a terminal.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(Failure::Print)
}
