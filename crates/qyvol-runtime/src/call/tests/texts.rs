//! The text of values: the accepted forms, mistakes, and hostile texts.

use std::sync::OnceLock;

use wasmtime::component::Val;

use super::super::convert::VALUES;
use super::super::*;
use super::{load, program};
use crate::RunSpec;

/// A type of each kind, by its name: the filler is beside the value.
fn samples() -> &'static (Functions, Caller) {
    static SAMPLES: OnceLock<(Functions, Caller)> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let declarations = r#"
            (type $d0 (record (field "name" string) (field "price" f64) (field "note" (option string))))
            (export $item "item" (type $d0))
            (type $d1 (variant (case "circle" f64) (case "nothing")))
            (export $shape "shape" (type $d1))
            (type $d2 (enum "red" "green"))
            (export $colour "colour" (type $d2))
            (type $d3 (flags "read" "write"))
            (export $rights "rights" (type $d3))
            (type $d4 (record (field "a" (option u8)) (field "b" (option u8)) (field "c" (option u8))))
            (export $sparse "sparse" (type $d4))"#;
        let types = [
            "u8",
            "s64",
            "f32",
            "f64",
            "char",
            "string",
            "(list u8)",
            "(list $item)",
            "(tuple u8 bool)",
            "$shape",
            "$colour",
            "$rights",
            "(option u8)",
            "(option (option u8))",
            "(result u8 (error string))",
            "(result)",
            "(list $sparse)",
            "(list (list u8))",
            "u64",
            "bool",
        ];
        let wide = program(declarations, &types.map(str::to_string));
        let functions = wide.functions();
        let caller = Caller::new(wide, RunSpec::default(), CallLimits::default()).unwrap();
        (functions, caller)
    })
}

/// Reads a value of the sample `index`, with its filler.
fn read(index: usize, language: Language, text: &str) -> Result<String, String> {
    let function = samples().0.find(&format!("same{index}")).unwrap();
    let (open, close) = match language {
        Language::Wave => ("(", ")"),
        Language::Json => ("[", "]"),
    };
    let whole = format!("{open}{text}{}{close}", ", 0".repeat(16));
    let Arguments(values) = function.read(language, &[whole]).map_err(|error| error.to_string())?;
    let Val::Tuple(items) = &values[0] else {
        panic!("{values:?}")
    };
    Ok(format!("{:?}", items[0]))
}

// [CALL-005]
#[test]
fn mistake_is_reported_with_its_place_and_both_types() {
    use Language::{Json, Wave};
    for (index, language, text, expected) in [
        (0, Json, "256", "at [0]: expected u8, which is from 0 to 255, found 256"),
        (0, Json, "-1", "at [0]: expected u8, which is from 0 to 255, found -1"),
        (0, Json, "1.0", "at [0]: expected u8, found number 1.0"),
        (0, Json, "-0", "at [0]: expected u8, found number -0.0"),
        (0, Json, "\"1\"", "at [0]: expected u8, found string \"1\""),
        (0, Wave, "256", "at [0]: expected u8, which is from 0 to 255, found 256"),
        (0, Wave, "\"x\"", "at [0]: expected u8, found string \"x\""),
        (0, Wave, "nan", "at [0]: expected u8, found number nan"),
        (
            18,
            Json,
            "18446744073709551616",
            "at [0]: expected u64, found number 1.8446744073709552e",
        ),
        (
            18,
            Json,
            "\"18446744073709551616\"",
            "from 0 to 18446744073709551615, found 18446744073709551616",
        ),
        (18, Json, "\"+1\"", "found string \"+1\""),
        (18, Json, "\"0x10\"", "found string \"0x10\""),
        (18, Json, "\"\"", "found string \"\""),
        (2, Json, "1e39", "expected f32, found number 1e"),
        (2, Wave, "1e39", "expected f32, found number 1e"),
        (3, Wave, "1e999", "expected f64, found number 1e999"),
        (3, Json, "1e999", "not JSON: number out of range"),
        (3, Json, "\"infinity\"", "expected f64, found string \"infinity\""),
        (4, Json, "\"ab\"", "expected char, found string \"ab\""),
        (4, Json, "\"\"", "expected char, found string \"\""),
        (4, Wave, "\"a\"", "expected char, found string \"a\""),
        (5, Json, "\"\\ud800\"", "not JSON: "),
        (5, Wave, "\"\\u{d800}\"", "expected string, found string"),
        (5, Json, "null", "expected string, found null"),
        (6, Json, "{\"base64\":\"AQ\"}", "at [0]: not base64"),
        (6, Json, "{\"base64\":1}", "\"base64\" is no string"),
        (6, Json, "[1,256]", "at [0][1]: expected u8"),
        (
            7,
            Json,
            r#"[{"name":"a","price":1},{"name":"b","price":2},{"name":"c","price":3},{"name":"d","price":"x"}]"#,
            "argument 1 'v' of same7: at [0][3].price: expected f64, found string \"x\"",
        ),
        (
            7,
            Json,
            r#"[{"name":"a"}]"#,
            "at [0][0]: the field 'price' is missing (f64)",
        ),
        (
            7,
            Json,
            r#"[{"name":"a","prize":1}]"#,
            "at [0][0]: unknown field 'prize': it has name, price, note",
        ),
        (
            7,
            Json,
            r#"[{"name":"a","price":1,"name":"b"}]"#,
            "not JSON: duplicate key \"name\"",
        ),
        (
            7,
            Wave,
            r#"[{name: "a", price: 1, name: "b"}]"#,
            "not WAVE: duplicate field",
        ),
        (7, Wave, r#"[{name: "a", prize: 1}]"#, "unknown field 'prize'"),
        (8, Json, "[1]", "expected tuple<u8, bool>, which has 2, found 1"),
        (
            8,
            Wave,
            "(1, true, 2)",
            "expected tuple<u8, bool>, which has 2, found 3",
        ),
        (8, Wave, "[1, true]", "expected tuple<u8, bool>, found list [1, true]"),
        (
            9,
            Json,
            "\"square\"",
            "expected variant { circle(f64), nothing }, found 'square'",
        ),
        (9, Json, "\"circle\"", "'circle' needs a value (f64)"),
        (9, Json, "{\"nothing\":null}", "'nothing' has no value, found null"),
        (
            9,
            Json,
            "{\"circle\":\"x\"}",
            "at [0].circle: expected f64, found string \"x\"",
        ),
        (
            9,
            Json,
            "{\"circle\":1,\"nothing\":2}",
            "found an object with \"circle\"",
        ),
        (9, Wave, "circle", "'circle' needs a value (f64)"),
        (9, Wave, "nothing(1)", "'nothing' has no value, found number 1"),
        (
            10,
            Json,
            "\"blue\"",
            "expected enum { red, green }, found string \"blue\"",
        ),
        (10, Wave, "blue", "expected enum { red, green }, found case blue"),
        (
            11,
            Json,
            "[\"read\",\"read\"]",
            "expected flags { read, write }, found an array of 2",
        ),
        (
            11,
            Json,
            "[\"run\"]",
            "at [0][0]: expected flags { read, write }, found 'run'",
        ),
        (11, Wave, "{read, read}", "not WAVE: duplicate flag"),
        (13, Json, "1", "expected option<option<u8>>, found number 1"),
        (13, Wave, "1", "expected option<option<u8>>, found number 1"),
        (
            14,
            Json,
            "{\"fine\":1}",
            "expected result<u8, string>, found an object with \"fine\"",
        ),
        (14, Json, "{\"err\":1}", "at [0].err: expected string, found number 1"),
        (15, Json, "{\"ok\":1}", "'ok' has no value, found number 1"),
        (19, Json, "\"true\"", "expected bool, found string \"true\""),
        (0, Json, "", "not JSON: "),
        (0, Json, "nul", "not JSON: "),
        (0, Wave, "", "not WAVE: "),
        (0, Wave, "1 2", "not WAVE: "),
        (5, Wave, "\"", "not WAVE: "),
    ] {
        let error = read(index, language, text).expect_err(text);
        assert!(error.contains(expected), "{text}: {error}");
        assert!(error.len() < 400, "{error}");
    }
    let function = samples().0.find("same0").unwrap();
    let error = function.read(Language::Wave, &[]).unwrap_err();
    assert_eq!(error.to_string(), "same0: expected 1 argument, found 0");
    assert!(
        error.signature().starts_with("same0: func(v: tuple<u8, u8, "),
        "{error:?}"
    );
    // It can't move a cursor.
    let error = read(5, Language::Json, "{\"\\u001b[2J\":1}").unwrap_err();
    assert!(error.contains("\\u{1b}[2J"), "{error}");
}

// [CALL-004]
#[test]
fn each_form_of_a_value_is_read() {
    use Language::{Json, Wave};
    for (index, language, text, value) in [
        (1, Json, "\"-9223372036854775808\"", "S64(-9223372036854775808)"),
        (1, Json, "-5", "S64(-5)"),
        (2, Json, "\"nan\"", "Float32(NaN)"),
        (3, Json, "\"-inf\"", "Float64(-inf)"),
        (3, Json, "3", "Float64(3.0)"),
        (3, Wave, "-inf", "Float64(-inf)"),
        (4, Json, "\"\\ud83d\\ude00\"", "Char('😀')"),
        (4, Wave, "'\\u{1F600}'", "Char('😀')"),
        (6, Json, "{\"base64\":\"AQI=\"}", "List([U8(1), U8(2)])"),
        (6, Json, "[1,2]", "List([U8(1), U8(2)])"),
        (10, Json, "\"green\"", "Enum(\"green\")"),
        (11, Json, "[\"write\",\"read\"]", "Flags([\"read\", \"write\"])"),
        (11, Wave, "{%write, read}", "Flags([\"read\", \"write\"])"),
        (12, Json, "null", "Option(None)"),
        (12, Json, "1", "Option(Some(U8(1)))"),
        (12, Wave, "1", "Option(Some(U8(1)))"),
        (12, Wave, "some(1)", "Option(Some(U8(1)))"),
        (13, Json, "{\"some\":null}", "Option(Some(Option(None)))"),
        (13, Json, "{\"some\":1}", "Option(Some(Option(Some(U8(1)))))"),
        (13, Json, "null", "Option(None)"),
        (14, Wave, "err(\"why\")", "Result(Err(Some(String(\"why\"))))"),
        (14, Wave, "1", "Result(Ok(Some(U8(1))))"),
        (15, Json, "{\"err\":null}", "Result(Err(None))"),
        (
            16,
            Wave,
            "[{:}, {b: 1}]",
            "List([Record([(\"a\", Option(None)), (\"b\", Option(None)), (\"c\", Option(None))]), Record([(\"a\", Option(None)), (\"b\", Option(Some(U8(1)))), (\"c\", Option(None))])])",
        ),
    ] {
        assert_eq!(read(index, language, text).as_deref(), Ok(value), "{text}");
    }
}

// [CALL-006]
#[test]
fn hostile_text_has_an_end() {
    use Language::{Json, Wave};
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(200_000), close.repeat(200_000));
    for (index, language, text) in [
        (17, Json, deep("[", "]")),
        (17, Wave, deep("[", "]")),
        (17, Json, "[".repeat(1 << 20)),
        (17, Wave, "[".repeat(1 << 20)),
        (13, Json, deep("{\"some\":", "}")),
        (13, Wave, deep("some(", ")")),
        (17, Wave, deep("{a:", "}")),
        (17, Wave, deep("a(", ")")),
        (17, Wave, "//\n".repeat(1 << 20)),
        (0, Json, format!("1{}", "0".repeat(1 << 20))),
        (0, Wave, format!("1{}", "0".repeat(1 << 20))),
        (5, Wave, format!("\"\"\"{}", "\n".repeat(1 << 20))),
        (7, Wave, format!("{{{}", "a:1,".repeat(1 << 20))),
        // Three bytes that stand for four values each.
        (16, Json, format!("[{}{{}}]", "{},".repeat(1 << 20))),
        (16, Wave, format!("[{}{{:}}]", "{:},".repeat(500_000))),
        (6, Json, format!("[{}1]", "1,".repeat(VALUES))),
        (6, Json, format!("{{\"base64\":\"{}\"}}", "AAAA".repeat(VALUES / 3 + 1))),
    ] {
        let start: String = text.chars().take(20).collect();
        let error = read(index, language, &text).expect_err(&start);
        assert!(error.len() < 400, "{start}: {error}");
    }
    let large = "x".repeat(2 << 20);
    for language in [Json, Wave] {
        let value = read(5, language, &format!("\"{large}\"")).unwrap();
        assert_eq!(value.len(), large.len() + "String(\"\")".len());
    }
    let error = read(5, Json, &format!("\"{}\"", "x".repeat(ARGUMENT_BYTES))).unwrap_err();
    assert!(error.contains("more than 4194304 bytes"), "{error}");
}

// [CALL-007]
#[test]
fn function_with_types_that_exist_only_inside_is_refused() {
    let wasm = wat::parse_str(
        r#"(component
        (core module $m
            (func (export "f") (result i32) (i32.const 0))
            (func (export "g") (param i32)))
        (core instance $i (instantiate $m))
        (type $r' (resource (rep i32)))
        (export $r "r" (type $r'))
        (func (export "make") (result (own $r)) (canon lift (core func $i "f")))
        (func (export "use") (param "some" (option (borrow $r))) (canon lift (core func $i "g"))))"#
            .replace(
                "(func (export \"g\") (param i32))",
                "(func (export \"g\") (param i32 i32))",
            ),
    );
    let functions = load(&wasm.unwrap()).functions();
    for (name, why) in [
        ("make", "its result has a resource"),
        ("use", "its parameter 'some' has a resource"),
    ] {
        let error = functions.find(name).unwrap_err();
        assert!(matches!(error, FunctionError::Unfit { .. }), "{error}");
        assert!(error.to_string().contains(why), "{error}");
        assert!(error.signature().unwrap().contains("<resource>"), "{error:?}");
    }
}

// [CALL-007]
#[test]
fn type_that_is_too_large_is_refused_and_a_long_one_is_cut() {
    // Twice as long with each level.
    let mut text = "(type $t0 (tuple u8 u8))".to_string();
    for level in 1..17 {
        text.push_str(&format!("(type $t{level} (tuple $t{0} $t{0}))", level - 1));
    }
    let functions = program(&text, &["$t12".to_string(), "$t16".to_string()]).functions();
    let signature = functions.find("same0").unwrap().signature();
    assert!(signature.len() < 2100 && signature.contains('…'), "{signature}");
    let error = functions.find("same1").unwrap_err();
    assert!(error.to_string().contains("more than 100,000 parts"), "{error}");
    assert!(error.signature().unwrap().len() < 2100);
}
