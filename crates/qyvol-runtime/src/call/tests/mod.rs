//! Generated types and values, through both languages and a real component.

mod lines;
mod pool;
mod texts;

use std::io::Write as _;

use qyvol_trust::Verified;
use qyvol_types::{CompiledCode, Descriptor};
use wasmtime::component::{Type, Val};

use super::*;
use crate::{CodeKind, Engine, Generation, RunSpec, WasmKind};

/// A program whose functions return their one argument, of these types: text of a
/// component's declarations, and the names of types.
///
/// The canonical ABI passes more than 16 flat values by a pointer, and returns more than one
/// by a pointer too: with as many fillers beside it, a value comes back from a function that
/// returns its parameter.
fn program(declarations: &str, types: &[String]) -> Program {
    let mut text = format!(
        r#"(component
        (core module $m
            (memory (export "memory") 1)
            (global $next (mut i32) (i32.const 64))
            (func (export "same") (param i32) (result i32) (local.get 0))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32) (local $end i32)
                (local.set $at (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
                (local.set $end (i32.add (local.get $at) (local.get 3)))
                (loop $more
                    (if (i32.gt_u (local.get $end) (i32.mul (memory.size) (i32.const 65536)))
                        (then
                            (drop (memory.grow (i32.const 16)))
                            (br $more))))
                (global.set $next (local.get $end))
                (local.get $at)))
        (core instance $i (instantiate $m))
        {declarations}"#
    );
    for (index, ty) in types.iter().enumerate() {
        let wide = format!("(tuple {ty}{})", " u8".repeat(16));
        text.push_str(&format!(
            r#"(type $w{index} {wide})
            (func (export "same{index}") (param "v" $w{index}) (result $w{index})
                (canon lift (core func $i "same") (memory $i "memory") (realloc (func $i "realloc"))))"#
        ));
    }
    text.push(')');
    let wasm = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    load(&wasm)
}

pub(crate) fn load(wasm: &[u8]) -> Program {
    let kind = CodeKind {
        service: true,
        ..CodeKind::default()
    };
    let engine = Engine::of_kind(Generation::Blocking, kind).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&engine.compile(wasm).unwrap()).unwrap();
    let descriptor = Descriptor::of("application/wasm", wasm);
    let code = CompiledCode::of(descriptor.digest, file);
    let descriptor = Verified::dangerously_trust(descriptor, "a test's own guest");
    Program::load(&engine, &descriptor, WasmKind::Component, &code).unwrap()
}

fn call(caller: &Caller, function: &Function, value: Val) -> Result<Val, CallError> {
    let answer = caller.call(function, Arguments(vec![value]))?;
    Ok(answer.value.unwrap())
}

/// Writes a type into `declarations`, where those that have names must stand, and returns
/// how it is used.
fn declare(rng: &mut Prng, depth: u32, declarations: &mut Vec<String>) -> String {
    const SCALARS: &[&str] = &[
        "bool", "s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64", "f32", "f64", "char", "string",
    ];
    // Words of WAVE and JSON among them.
    const NAMES: &[&str] = &[
        "a",
        "some",
        "none",
        "ok",
        "err",
        "true",
        "inf",
        "nan",
        "base64",
        "two-words",
        "X9",
    ];
    let choice = if depth == 0 { 0 } else { rng.below(10) };
    let mut inner = |rng: &mut Prng| declare(rng, depth - 1, declarations);
    let named = match choice {
        0 | 1 => return SCALARS[rng.below(SCALARS.len())].to_string(),
        2 => return format!("(list {})", inner(rng)),
        3 => return format!("(option {})", inner(rng)),
        4 => {
            return match rng.below(4) {
                0 => "(result)".to_string(),
                1 => format!("(result {})", inner(rng)),
                2 => format!("(result (error {}))", inner(rng)),
                _ => {
                    let ok = inner(rng);
                    format!("(result {ok} (error {}))", inner(rng))
                }
            };
        }
        5 => {
            let items: Vec<String> = (0..=rng.below(3)).map(|_| inner(rng)).collect();
            return format!("(tuple {})", items.join(" "));
        }
        6 => {
            let fields = NAMES.iter().take(1 + rng.below(NAMES.len()));
            let fields: Vec<String> = fields
                .map(|name| format!("(field \"{name}\" {})", inner(rng)))
                .collect();
            format!("(record {})", fields.join(" "))
        }
        7 => {
            let cases = NAMES.iter().take(1 + rng.below(NAMES.len()));
            let cases = cases.map(|name| match rng.below(2) {
                0 => format!("(case \"{name}\")"),
                _ => format!("(case \"{name}\" {})", inner(rng)),
            });
            let cases: Vec<String> = cases.collect();
            format!("(variant {})", cases.join(" "))
        }
        words => {
            let names = NAMES.iter().take(1 + rng.below(NAMES.len()));
            let names: Vec<String> = names.map(|name| format!("\"{name}\"")).collect();
            let kind = if words == 8 { "enum" } else { "flags" };
            format!("({kind} {})", names.join(" "))
        }
    };
    let index = declarations.len();
    declarations.push(format!(
        "(type $d{index} {named}) (export $t{index} \"t{index}\" (type $d{index}))\n"
    ));
    format!("$t{index}")
}

/// A generator of numbers that is the same in every run.
struct Prng(u64);

impl Prng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // The low bits of the state follow one another closely.
        self.0.rotate_left(29).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from((self.next() >> 33) % n as u64).unwrap()
    }
}

fn generate(rng: &mut Prng, ty: &Type) -> Val {
    let bits = rng.next();
    // The edges more often than chance would have them.
    let edge = rng.below(3);
    let integer = match edge {
        0 => bits,
        1 => [0, 1, u64::MAX, 1 << 63, (1 << 63) - 1, 1 << 53, (1 << 53) - 1][rng.below(7)],
        _ => bits % 100,
    };
    match ty {
        Type::Bool => Val::Bool(bits.is_multiple_of(2)),
        Type::S8 => Val::S8(integer as i8),
        Type::U8 => Val::U8(integer as u8),
        Type::S16 => Val::S16(integer as i16),
        Type::U16 => Val::U16(integer as u16),
        Type::S32 => Val::S32(integer as i32),
        Type::U32 => Val::U32(integer as u32),
        Type::S64 => Val::S64(integer as i64),
        Type::U64 => Val::U64(integer),
        Type::Float32 => Val::Float32(match edge {
            0 => f32::from_bits(bits as u32),
            1 => [
                0.0,
                -0.0,
                f32::NAN,
                f32::INFINITY,
                f32::NEG_INFINITY,
                f32::MIN_POSITIVE,
                f32::MAX,
            ][rng.below(7)],
            _ => (bits % 1000) as f32 / 8.0,
        }),
        Type::Float64 => Val::Float64(match edge {
            0 => f64::from_bits(bits),
            1 => [0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 5e-324, f64::MAX][rng.below(7)],
            _ => (bits % 1000) as f64 / 8.0,
        }),
        Type::Char => Val::Char(character(rng)),
        Type::String => {
            let length = rng.below(8);
            Val::String((0..length).map(|_| character(rng)).collect())
        }
        Type::List(list) => {
            let (length, ty) = (rng.below(4), list.ty());
            Val::List((0..length).map(|_| generate(rng, &ty)).collect())
        }
        Type::Tuple(tuple) => Val::Tuple(tuple.types().map(|ty| generate(rng, &ty)).collect()),
        Type::Record(record) => {
            let fields = record.fields();
            Val::Record(
                fields
                    .map(|field| (field.name.to_string(), generate(rng, &field.ty)))
                    .collect(),
            )
        }
        Type::Variant(variant) => {
            let case = variant.cases().nth(rng.below(variant.cases().len())).unwrap();
            let payload = case.ty.map(|ty| Box::new(generate(rng, &ty)));
            Val::Variant(case.name.to_string(), payload)
        }
        Type::Enum(names) => Val::Enum(names.names().nth(rng.below(names.names().len())).unwrap().to_string()),
        Type::Flags(names) => {
            let set = names.names().filter(|_| rng.below(2) == 0);
            Val::Flags(set.map(str::to_string).collect())
        }
        Type::Option(option) => match rng.below(3) {
            0 => Val::Option(None),
            _ => Val::Option(Some(Box::new(generate(rng, &option.ty())))),
        },
        Type::Result(result) => {
            let payload = |rng: &mut Prng, ty: Option<Type>| ty.map(|ty| Box::new(generate(rng, &ty)));
            Val::Result(match rng.below(2) {
                0 => Ok(payload(rng, result.ok())),
                _ => Err(payload(rng, result.err())),
            })
        }
        other => panic!("{other:?}"),
    }
}

fn character(rng: &mut Prng) -> char {
    const ODD: &[char] = &[
        '"',
        '\'',
        '\\',
        '\n',
        '\r',
        '\t',
        '\0',
        '/',
        '\u{7f}',
        '\u{85}',
        '\u{202e}',
        '\u{feff}',
        '\u{2028}',
        'ñ',
        '\u{301}',
        '\u{d7ff}',
        '\u{e000}',
        '\u{10ffff}',
        '😀',
        '{',
        '%',
        '\u{1b}',
    ];
    match rng.below(3) {
        0 => ODD[rng.below(ODD.len())],
        1 => char::from_u32(u32::try_from(rng.below(0x11_0000)).unwrap()).unwrap_or('a'),
        _ => char::from(b' ' + u8::try_from(rng.below(95)).unwrap()),
    }
}

// [CALL-003] [CALL-004]
#[test]
fn every_value_of_every_type_comes_back_through_both_languages_and_a_component() {
    const TYPES: usize = 24;
    const VALUES: usize = 20;
    let rng = &mut Prng(7);
    for _ in 0..4 {
        let mut declarations = Vec::new();
        let types: Vec<String> = (0..TYPES).map(|_| declare(rng, 4, &mut declarations)).collect();
        let program = program(&declarations.concat(), &types);
        let functions = program.functions();
        let found: Vec<Function> = (0..TYPES)
            .map(|index| functions.find(&format!("same{index}")).unwrap())
            .collect();
        let caller = Caller::new(program, RunSpec::default(), CallLimits::default()).unwrap();
        for function in &found {
            let (_, ty) = function.found.ty.params().next().unwrap();
            for _ in 0..VALUES {
                let value = generate(rng, &ty);
                let returned = call(&caller, function, value.clone()).unwrap();
                assert_eq!(returned, value, "{}", function.signature());
                let answer = Answer { value: Some(returned) };
                for language in [Language::Wave, Language::Json] {
                    let text = answer.write(language).unwrap();
                    assert!(!text.contains(qyvol_types::is_deceptive), "{text:?}");
                    let read = function.read(language, std::slice::from_ref(&text));
                    let Arguments(read) = read.unwrap_or_else(|error| panic!("{error}\n{}\n{text}", error.signature()));
                    assert_eq!(read, std::slice::from_ref(&value), "{}\n{text}", function.signature());
                }
                // What it writes is JSON to another reader, and what that writes is read.
                let json = answer.write(Language::Json).unwrap();
                let other: serde_json::Value = serde_json::from_str(&json).unwrap();
                let Arguments(read) = function.read(Language::Json, &[other.to_string()]).unwrap();
                assert_eq!(read, [value]);
            }
        }
    }
}
