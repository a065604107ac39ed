//! Values of generated types, through two components that a build links.

use serde_json::{Map, Value, json};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::compose::{build, built, project};
use crate::support::{Prng, User};

/// A type of WIT; those with names are declared in an interface.
enum Type {
    Scalar(&'static str),
    List(Box<Type>),
    Option(Box<Type>),
    Result(Option<Box<Type>>, Option<Box<Type>>),
    Tuple(Vec<Type>),
    Record(String, Vec<(&'static str, Type)>),
    Variant(String, Vec<(&'static str, Option<Type>)>),
    Enum(String, &'static [&'static str]),
    Flags(String, &'static [&'static str]),
}

const SCALARS: &[&str] = &[
    "bool", "s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64", "f32", "f64", "char", "string",
];
/// Words of WIT and of JSON among them.
const NAMES: &[&str] = &["a", "some", "list", "err", "true", "inf", "base64", "two-words", "X9"];

impl Type {
    /// A type that is nested at most so deep. Types with names are counted by `named`.
    fn generate(rng: &mut Prng, depth: u32, named: &mut usize) -> Type {
        let choice = if depth == 0 { 0 } else { rng.below(10) };
        let mut inner = |rng: &mut Prng| Type::generate(rng, depth - 1, named);
        let first = |rng: &mut Prng| &NAMES[..=rng.below(NAMES.len())];
        let mut content = match choice {
            0 | 1 => return Type::Scalar(SCALARS[rng.below(SCALARS.len())]),
            2 => return Type::List(Box::new(inner(rng))),
            3 => return Type::Option(Box::new(inner(rng))),
            4 => {
                let [ok, err] = [(); 2].map(|()| (rng.below(2) == 0).then(|| Box::new(inner(rng))));
                return Type::Result(ok, err);
            }
            5 => return Type::Tuple((0..=rng.below(3)).map(|_| inner(rng)).collect()),
            6 => {
                let fields = first(rng).iter().map(|name| (*name, inner(rng))).collect();
                Type::Record(String::new(), fields)
            }
            7 => {
                let case = |name: &&'static str| (*name, (rng.below(2) == 0).then(|| inner(rng)));
                Type::Variant(String::new(), NAMES[..5].iter().map(case).collect())
            }
            8 => Type::Enum(String::new(), first(rng)),
            _ => Type::Flags(String::new(), first(rng)),
        };
        if let Type::Record(name, _) | Type::Variant(name, _) | Type::Enum(name, _) | Type::Flags(name, _) =
            &mut content
        {
            *name = format!("t{named}");
            *named += 1;
        }
        content
    }

    /// How it is used. What it declares is written before.
    fn wit(&self, declared: &mut String) -> String {
        let ids = |names: &[&str]| {
            names
                .iter()
                .map(|name| format!("%{name}"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let (name, declaration) = match self {
            Type::Scalar(name) => return (*name).to_string(),
            Type::List(inner) => return format!("list<{}>", inner.wit(declared)),
            Type::Option(inner) => return format!("option<{}>", inner.wit(declared)),
            Type::Result(ok, err) => {
                let [ok, err] = [ok, err].map(|ty| ty.as_ref().map(|ty| ty.wit(declared)));
                return match (ok, err) {
                    (None, None) => "result".to_string(),
                    (Some(ok), None) => format!("result<{ok}>"),
                    (ok, Some(err)) => format!("result<{}, {err}>", ok.unwrap_or("_".to_string())),
                };
            }
            Type::Tuple(types) => {
                let types: Vec<String> = types.iter().map(|ty| ty.wit(declared)).collect();
                return format!("tuple<{}>", types.join(", "));
            }
            Type::Record(name, fields) => {
                let fields = fields
                    .iter()
                    .map(|(field, ty)| format!("%{field}: {}", ty.wit(declared)));
                let fields: Vec<String> = fields.collect();
                (name, format!("record {name} {{ {} }}", fields.join(", ")))
            }
            Type::Variant(name, cases) => {
                let cases = cases.iter().map(|(case, ty)| match ty {
                    Some(ty) => format!("%{case}({})", ty.wit(declared)),
                    None => format!("%{case}"),
                });
                let cases: Vec<String> = cases.collect();
                (name, format!("variant {name} {{ {} }}", cases.join(", ")))
            }
            Type::Enum(name, names) => (name, format!("enum {name} {{ {} }}", ids(names))),
            Type::Flags(name, names) => (name, format!("flags {name} {{ {} }}", ids(names))),
        };
        declared.push_str(&format!("  {declaration}\n"));
        name.clone()
    }

    /// A value, as a call prints it (CALL-004).
    fn value(&self, rng: &mut Prng) -> Value {
        let bits = rng.next();
        // The edges more often than chance would have them.
        let bits = match rng.below(3) {
            0 => bits,
            1 => [0, 1, u64::MAX, 1 << 63, (1 << 63) - 1, 1 << 53, (1 << 53) - 1][rng.below(7)],
            _ => bits % 100,
        };
        // Never whole: one reader's `1` is another's `1.0`.
        let fraction = (bits % 1000) as f64 + 0.5;
        match self {
            Type::Scalar("bool") => json!(bits % 2 == 0),
            Type::Scalar("s8") => json!(bits as i8),
            Type::Scalar("u8") => json!(bits as u8),
            Type::Scalar("s16") => json!(bits as i16),
            Type::Scalar("u16") => json!(bits as u16),
            Type::Scalar("s32") => json!(bits as i32),
            Type::Scalar("u32") => json!(bits as u32),
            Type::Scalar("s64") if (bits as i64).unsigned_abs() < 1 << 53 => json!(bits as i64),
            Type::Scalar("s64") => json!((bits as i64).to_string()),
            Type::Scalar("u64") if bits < 1 << 53 => json!(bits),
            Type::Scalar("u64") => json!(bits.to_string()),
            Type::Scalar("f32" | "f64") => match rng.below(6) {
                0 => json!("nan"),
                1 => json!("inf"),
                2 => json!("-inf"),
                3 => json!(-fraction),
                _ => json!(fraction),
            },
            Type::Scalar("char") => json!(character(rng)),
            Type::Scalar(_) => json!((0..rng.below(8)).map(|_| character(rng)).collect::<String>()),
            Type::List(inner) => (0..rng.below(4)).map(|_| inner.value(rng)).collect(),
            Type::Option(inner) => match (rng.below(3), &**inner) {
                (0, _) => Value::Null,
                (_, Type::Option(_)) => json!({ "some": inner.value(rng) }),
                _ => inner.value(rng),
            },
            Type::Result(ok, err) => {
                let (name, ty) = if rng.below(2) == 0 { ("ok", ok) } else { ("err", err) };
                json!({ name: ty.as_ref().map(|ty| ty.value(rng)) })
            }
            Type::Tuple(types) => types.iter().map(|ty| ty.value(rng)).collect(),
            Type::Record(_, fields) => {
                let fields = fields.iter().map(|(name, ty)| ((*name).to_string(), ty.value(rng)));
                Value::Object(fields.collect::<Map<_, _>>())
            }
            Type::Variant(_, cases) => match &cases[rng.below(cases.len())] {
                (name, Some(ty)) => json!({ *name: ty.value(rng) }),
                (name, None) => json!(name),
            },
            Type::Enum(_, names) => json!(names[rng.below(names.len())]),
            Type::Flags(_, names) => names
                .iter()
                .filter(|_| rng.below(2) == 0)
                .map(|name| json!(name))
                .collect(),
        }
    }
}

fn character(rng: &mut Prng) -> char {
    const ODD: &[char] = &[
        '"',
        '\\',
        '\n',
        '\0',
        '\u{85}',
        '\u{202e}',
        'ñ',
        '\u{301}',
        '\u{10ffff}',
        '😀',
        '{',
    ];
    match rng.below(3) {
        0 => ODD[rng.below(ODD.len())],
        1 => char::from_u32(rng.below(0x11_0000) as u32).unwrap_or('a'),
        _ => char::from(b' ' + rng.below(95) as u8),
    }
}

/// Every allocation is new: nothing that is passed lies where something else did.
const ALLOCATOR: &str = r#"
    (memory (export "memory") 2)
    (global $next (mut i32) (i32.const 64))
    (func $realloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local $at i32) (local $end i32)
        (local.set $at (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
        (local.set $end (i32.add (local.get $at) (local.get 3)))
        (loop $more
            (if (i32.gt_u (local.get $end) (i32.mul (memory.size) (i32.const 65536)))
                (then (drop (memory.grow (i32.const 16))) (br $more))))
        (global.set $next (local.get $end))
        (local.get $at))"#;

/// A component of a core module and a world of this package.
fn component(wit: &str, world: &str, functions: &str) -> Vec<u8> {
    let mut module = wat::parse_str(format!("(module {functions})")).unwrap();
    let mut resolve = Resolve::default();
    let package = resolve
        .push_source("gen.wit", wit)
        .unwrap_or_else(|error| panic!("{error:#}\n{wit}"));
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    let encoder = ComponentEncoder::default().module(&module).unwrap();
    encoder.validate(true).encode().unwrap()
}

/// Two components: one returns what it is given, the other passes on what it is given. What
/// an application exports has types of its own (COMP-016).
fn components(types: &[Type]) -> [Vec<u8>; 2] {
    let (mut declared, mut functions) = (String::new(), String::new());
    let (mut same, mut imports, mut pass) = (String::new(), String::new(), String::new());
    for (n, ty) in types.iter().enumerate() {
        // With as many fillers it is passed and returned by a pointer.
        let wide = format!("type w{n} = tuple<{}{}>;", ty.wit(&mut declared), ", u8".repeat(16));
        declared.push_str(&format!("  {wide}\n"));
        functions.push_str(&format!("  f{n}: func(v: w{n}) -> w{n};\n"));
        same.push_str(&format!(
            "(func (export \"acme:gen/values@1.0.0#f{n}\") (param i32) (result i32) (local.get 0))\n"
        ));
        imports.push_str(&format!(
            "(import \"acme:gen/values@1.0.0\" \"f{n}\" (func $f{n} (param i32 i32)))\n"
        ));
        pass.push_str(&format!(
            "(func (export \"acme:gen/api@1.0.0#f{n}\") (param i32) (result i32) (local $to i32)
                (local.set $to (call $realloc (i32.const 0) (i32.const 0) (i32.const 16) (i32.const 1048576)))
                (call $f{n} (local.get 0) (local.get $to))
                (local.get $to))\n"
        ));
    }
    let wit = format!(
        "package acme:gen@1.0.0;\ninterface values {{\n{declared}{functions}}}\ninterface api {{\n{declared}{functions}}}\nworld library {{ export values; }}\nworld app {{ import values; export api; }}\n"
    );
    [
        component(&wit, "library", &format!("{ALLOCATOR}{same}")),
        component(&wit, "app", &format!("{imports}{ALLOCATOR}{pass}")),
    ]
}

// [COMP-010] [CALL-003] [CALL-004]
#[test]
fn every_value_of_every_type_comes_back_through_linked_components() {
    const TYPES: usize = 24;
    const VALUES: usize = 8;
    let user = User::new();
    let on_library = "dependencies: { \"acme:gen/values\": { image: acme/library, version: 1.0.0 } }\n";
    for seed in [7, 77, 777] {
        let rng = &mut Prng(seed << 32 | 1);
        let mut named = 0;
        let types: Vec<Type> = (0..TYPES).map(|_| Type::generate(rng, 4, &mut named)).collect();
        let [library, app] = components(&types);
        built(&user, "library", "1.0.0", &library, "");
        project(&user, "app", "1.0.0", &app, on_library);
        let _ = std::fs::remove_file(user.path("app/qyv.lock"));
        build(&user, &[]).expect(0);
        let (mut lines, mut expected) = (String::new(), Vec::new());
        for (n, ty) in types.iter().enumerate() {
            for _ in 0..VALUES {
                let mut wide = vec![ty.value(rng)];
                wide.extend((0..16).map(|filler| json!(filler)));
                let id = expected.len();
                let call = json!({ "id": id, "function": format!("f{n}"), "args": [wide] });
                lines.push_str(&format!("{call}\n"));
                expected.push(json!({ "id": id, "result": wide }));
            }
        }
        let answered = user
            .qyv_with_input(&["call", "--workers", "2", "app.qyvbin"], &lines)
            .expect(0);
        let answers = answered
            .out
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let answers: Vec<Value> = answers.collect();
        assert_eq!(answers.len(), expected.len());
        for (answer, expected) in answers.iter().zip(&expected) {
            assert_eq!(answer, expected, "seed {seed}");
        }
    }
}
