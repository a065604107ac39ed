//! Functions for the suite: those of `same` return their argument, those of `act` do what
//! they are named after.

use std::io::Read;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use exports::suite::echo::{act, inside, same};

wit_bindgen::generate!({ world: "echo", path: "wit", generate_all });

static COUNT: AtomicU32 = AtomicU32::new(0);

struct Echo;

export!(Echo);

impl Guest for Echo {
    fn twice(n: u32) -> u32 {
        n.wrapping_mul(2)
    }

    fn add(first: i64, second: i64) -> Result<i64, String> {
        first.checked_add(second).ok_or_else(|| "it is too large".to_string())
    }
}

macro_rules! same {
    ($($name:ident: $ty:ty),+ $(,)?) => {
        impl same::Guest for Echo {
            $(fn $name(v: $ty) -> $ty { v })+
        }
    };
}

same! {
    same_bool: bool,
    same_s8: i8,
    same_u8: u8,
    same_s16: i16,
    same_u16: u16,
    same_s32: i32,
    same_u32: u32,
    same_s64: i64,
    same_u64: u64,
    same_f32: f32,
    same_f64: f64,
    same_char: char,
    same_string: String,
    same_bytes: Vec<u8>,
    same_list: Vec<Vec<i16>>,
    same_tuple: (u8, String, (bool,)),
    same_option: Option<u32>,
    same_nested: Option<Option<Option<u32>>>,
    same_result: Result<u32, String>,
    same_empty: Result<(), ()>,
    same_failure: Result<(), Option<u8>>,
    same_point: same::Point,
    same_sparse: same::Sparse,
    same_shape: same::Shape,
    same_colour: same::Colour,
    same_rights: same::Rights,
    same_items: Vec<same::Item>,
}

impl act::Guest for Echo {
    fn count() -> u32 {
        COUNT.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn nothing() {}

    fn trap() {
        panic!("as asked");
    }

    fn spin() {
        loop {
            std::hint::black_box(());
        }
    }

    fn sleep() {
        std::thread::sleep(Duration::from_secs(3600));
    }

    fn exit(code: u8) {
        std::process::exit(i32::from(code));
    }

    fn print(text: String) {
        println!("{text}");
        eprintln!("to stderr: {text}");
    }

    fn grow(bytes: u32) -> u32 {
        vec![1u8; bytes as usize].iter().map(|byte| u32::from(*byte)).sum()
    }

    fn many(bytes: u32) -> Vec<u8> {
        vec![7; bytes as usize]
    }

    fn environment() -> Vec<(String, String)> {
        std::env::vars().collect()
    }

    fn read_file(path: String) -> Result<String, String> {
        std::fs::read_to_string(path).map_err(|error| error.kind().to_string())
    }

    fn read_stdin() -> Result<String, String> {
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text);
        read.map(|_| text).map_err(|error| error.kind().to_string())
    }

    fn write_file(path: String) -> Result<(), String> {
        std::fs::write(path, "written").map_err(|error| error.kind().to_string())
    }
}

struct Thing;

impl inside::Guest for Echo {
    type Thing = Thing;

    fn open() -> inside::Thing {
        inside::Thing::new(Thing)
    }

    fn look(things: Vec<inside::ThingBorrow<'_>>) -> u32 {
        u32::try_from(things.len()).unwrap_or_default()
    }

    fn count() -> u32 {
        0
    }
}

impl inside::GuestThing for Thing {
    fn value(&self) -> u32 {
        1
    }
}
