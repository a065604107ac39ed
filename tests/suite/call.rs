//! `qyv call`: functions with types, from the command line.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{CommandOutput, User};

/// An application of the suite's functions, built; `more` is of its manifest.
pub fn echo(user: &User, name: &str, more: &str) -> String {
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/guests/echo/echo.component.wasm");
    user.write(&format!("{name}/app.wasm"), fs::read(guest).unwrap());
    let manifest = format!("name: {name}\nversion: 1.0.0\ntype: function\nentrypoint: app.wasm\n{more}");
    user.write(&format!("{name}/app.qyv"), manifest);
    let archive = format!("{name}.qyvbin");
    user.qyv(&["build", name, "-o", &archive, "-q"]).expect(0);
    archive
}

fn call(user: &User, words: &[&str]) -> CommandOutput {
    user.qyv(&[&["call"], words].concat())
}

// [CALL-001] [CALL-003] [CALL-004]
#[test]
fn function_is_called_with_what_is_written_and_its_result_is_printed() {
    let user = User::new();
    let app = echo(&user, "app", "");
    assert_eq!(call(&user, &[&app, "twice", "21"]).expect(0).out, "42\n");
    // A manifest under development, and a name of the store.
    assert_eq!(call(&user, &["app/", "twice", "21"]).expect(0).out, "42\n");
    assert_eq!(call(&user, &["app:1.0.0", "twice", "21"]).expect(0).out, "42\n");
    let item =
        "{id: 1, tags: [\"a\", \"\\u{1b}\"], at: some({x: 0.1, y: -0.5, name: some(\"here\")}), shape: polygon([])}";
    for (function, wave, json) in [
        ("same-bool", "true", "true"),
        ("same-s8", "-128", "-128"),
        ("same-u8", "255", "255"),
        ("same-s16", "-32768", "-32768"),
        ("same-u16", "65535", "65535"),
        ("same-s32", "-2147483648", "-2147483648"),
        ("same-u32", "4294967295", "4294967295"),
        ("same-s64", "-9223372036854775808", "\"-9223372036854775808\""),
        ("same-u64", "18446744073709551615", "\"18446744073709551615\""),
        ("same-u64", "9007199254740991", "9007199254740991"),
        ("same-f32", "0.1", "0.1"),
        ("same-f64", "-1.5e-300", "-1.5e-300"),
        ("same-f64", "-inf", "\"-inf\""),
        ("same-f64", "nan", "\"nan\""),
        ("same-char", "'ñ'", "\"ñ\""),
        (
            "same-string",
            "\"two\\nlines \\\"😀\\\"\"",
            "\"two\\nlines \\\"😀\\\"\"",
        ),
        ("same-bytes", "[0, 255]", "[0,255]"),
        ("same-list", "[[1, -2], []]", "[[1,-2],[]]"),
        ("same-tuple", "(1, \"x\", (true))", "[1,\"x\",[true]]"),
        ("same-option", "some(7)", "7"),
        ("same-option", "none", "null"),
        ("same-nested", "some(some(none))", "{\"some\":{\"some\":null}}"),
        ("same-nested", "some(none)", "{\"some\":null}"),
        ("same-nested", "some(some(some(1)))", "{\"some\":{\"some\":1}}"),
        ("same-result", "ok(1)", "{\"ok\":1}"),
        ("same-empty", "ok", "{\"ok\":null}"),
        ("same-failure", "ok", "{\"ok\":null}"),
        ("same-point", "{x: 1, y: 2.5}", "{\"x\":1.0,\"y\":2.5,\"name\":null}"),
        ("same-sparse", "{:}", "{\"a\":null,\"b\":null}"),
        ("same-sparse", "{b: some(none)}", "{\"a\":null,\"b\":{\"some\":null}}"),
        ("same-shape", "circle(1)", "{\"circle\":1.0}"),
        ("same-shape", "nothing", "\"nothing\""),
        ("same-shape", "%none", "\"none\""),
        ("same-shape", "%ok(3)", "{\"ok\":3}"),
        ("same-colour", "%true", "\"true\""),
        ("same-rights", "{read, inf}", "[\"read\",\"inf\"]"),
        ("same-rights", "{}", "[]"),
        (
            "same-items",
            &format!("[{item}]"),
            r#"[{"id":1,"tags":["a","\u001b"],"at":{"x":0.1,"y":-0.5,"name":"here"},"shape":{"polygon":[]}}]"#,
        ),
    ] {
        let out = call(&user, &[&app, function, wave]).expect(0).out;
        assert_eq!(out, format!("{wave}\n"), "{function}");
        let out = call(&user, &["--json", &app, function, json]).expect(0).out;
        assert_eq!(out, format!("{json}\n"), "{function}");
        serde_json::from_str::<Value>(&out).unwrap();
    }
    let nothing = call(&user, &[&app, "act.nothing"]).expect(0);
    assert_eq!((nothing.out.as_str(), nothing.err.as_str()), ("", ""));
    // What looks like an option is an argument.
    assert_eq!(call(&user, &[&app, "same-s8", "-5"]).expect(0).out, "-5\n");
    assert_eq!(call(&user, &[&app, "same-s8", "--", "-5"]).expect(0).out, "-5\n");
}

// [CALL-002] [CALL-007]
#[test]
fn function_is_found_by_less_than_its_name() {
    let user = User::new();
    let app = echo(&user, "app", "");
    for name in [
        "suite:echo/act@1.0.0.count",
        "suite:echo/act@1.0.0#count",
        "suite:echo/act.count",
        "echo/act.count",
        "act.count",
        "act#count",
    ] {
        assert_eq!(call(&user, &[&app, name]).expect(0).out, "1\n", "{name}");
    }
    let ambiguous = call(&user, &[&app, "count"]).expect(2);
    let told = "count is ambiguous: it can be suite:echo/act@1.0.0.count, suite:echo/inside@1.0.0.count";
    assert!(ambiguous.err.contains(told), "{}", ambiguous.err);
    let unknown = call(&user, &[&app, "cuont"]).expect(2);
    assert!(
        unknown.err.contains("it exports no function cuont; it has "),
        "{}",
        unknown.err
    );
    assert!(
        unknown.err.contains(" and ") && unknown.err.contains(" more"),
        "{}",
        unknown.err
    );
    assert!(unknown.err.contains("inspect --wit"), "{}", unknown.err);
    for name in ["inside.open", "inside.look", "inside.[method]thing.value"] {
        let refused = call(&user, &[&app, name, "[]"]).expect(2);
        assert!(refused.err.contains("can't be called from outside"), "{}", refused.err);
        assert!(
            refused.err.contains("a resource") && refused.err.contains(": func("),
            "{}",
            refused.err
        );
    }
    let missing = call(&user, &[&app]).expect(2);
    assert!(
        missing.err.contains("the name of a function is expected"),
        "{}",
        missing.err
    );
    let wit = user.qyv(&["inspect", "--wit", &app]).expect(0).out;
    assert!(wit.contains("same-items: func(v: list<item>) -> list<item>;"), "{wit}");
}

// [CALL-001]
#[test]
fn what_has_no_functions_says_what_it_is() {
    let user = User::new();
    let module = user.built("module", "");
    user.component_app("command", "");
    user.qyv(&["build", "command", "-o", "command.qyvbin"]).expect(0);
    let service = crate::service::service(&user, "service", "");
    for (target, what) in [
        (module.as_str(), "it is a core module"),
        ("command.qyvbin", "it exports wasi:cli/run@0.2."),
        (&service, "it exports wasi:http/incoming-handler@0.2."),
    ] {
        let refused = call(&user, &[target, "run"]).expect(2);
        let told = format!("{target} has no functions to call: {what}");
        assert!(refused.err.contains(&told), "{}", refused.err);
    }
    // Nothing was compiled for it.
    assert!(
        !user
            .stored()
            .iter()
            .any(|path| path.to_string_lossy().contains("/code/"))
    );
    let app = echo(&user, "app", "");
    let run = user.qyv(&["run", &app]).expect(125);
    assert!(
        run.err.contains("is not a command: it has functions to call"),
        "{}",
        run.err
    );
    assert!(
        run.err.contains("`qyv call app.qyvbin FUNCTION ARGS...` calls one"),
        "{}",
        run.err
    );
    let serve = user.qyv(&["serve", &app]).expect(125);
    assert!(serve.err.contains("is not an HTTP service"), "{}", serve.err);
}

// [CALL-005]
#[test]
fn argument_of_the_wrong_type_is_reported_and_nothing_runs() {
    let user = User::new();
    let app = echo(&user, "app", "");
    let refused = call(
        &user,
        &["--json", &app, "same-items", r#"[{"id":1,"tags":[],"shape":"circle"}]"#],
    )
    .expect(2);
    assert!(
        refused
            .err
            .contains("argument 1 'v' of same-items: at [0].shape: 'circle' needs a value (f64)"),
        "{}",
        refused.err
    );
    assert!(
        refused.err.contains("\n  same-items: func(v: list<record { id: u64, "),
        "{}",
        refused.err
    );
    let refused = call(&user, &[&app, "add", "1"]).expect(2);
    assert!(
        refused.err.contains("add: expected 2 arguments, found 1"),
        "{}",
        refused.err
    );
    assert!(
        refused
            .err
            .contains("\n  add: func(first: s64, second: s64) -> result<s64, string>"),
        "{}",
        refused.err
    );
    // Nothing was instantiated, and so nothing printed.
    let refused = call(&user, &[&app, "print", "1"]).expect(2);
    assert!(
        refused.err.contains("expected string, found number 1"),
        "{}",
        refused.err
    );
    assert!(!refused.err.contains("to stderr"), "{}", refused.err);
}

// [CALL-006] [CALL-008]
#[test]
fn arguments_come_from_files_and_have_bounds() {
    let user = User::new();
    let app = echo(&user, "app", "");
    let from = |options: &[&str], text: &[u8]| {
        user.write("args", text);
        call(&user, &[options, &["--args-from", "args", &app, "add"]].concat())
    };
    assert_eq!(from(&[], b"1\n\n  2\n").expect(0).out, "ok(3)\n");
    assert_eq!(from(&["--json"], b"[1,\n2]").expect(0).out, "{\"ok\":3}\n");
    let stdin = user.qyv_with_input(&["call", "--args-from", "-", &app, "add"], "40\n2");
    assert_eq!(stdin.expect(0).out, "ok(42)\n");
    for (options, text, told) in [
        (&[][..], &b"1"[..], "expected 2 arguments, found 1"),
        (&[], b"1\n\xff", "not UTF-8"),
        (&["--json"], b"{}", "no JSON array"),
        (&["--json"], b"[1,2", "not JSON"),
        (&["--json"], b"[1,\"\\ud800\"]", "not JSON"),
    ] {
        let refused = from(options, text).expect(2);
        assert!(refused.err.contains(told), "{told}: {}", refused.err);
    }
    let refused = call(&user, &["--args-from", "absent", &app, "add"]).expect(2);
    assert!(
        refused.err.contains("can't read the arguments from absent"),
        "{}",
        refused.err
    );
    let both = call(&user, &["--args-from", "args", &app, "add", "1"]).expect(2);
    assert!(both.err.contains("not both"), "{}", both.err);
    let long = format!("\"{}\"", "x".repeat(2 << 20));
    user.write("long", &long);
    let out = call(&user, &["--args-from", "long", &app, "same-string"]).expect(0).out;
    assert_eq!(out.len(), long.len() + 1);
    user.write("long", "x".repeat((4 << 20) + 1));
    let refused = call(&user, &["--args-from", "long", &app, "same-string"]).expect(2);
    assert!(refused.err.contains("more than 4194304 bytes"), "{}", refused.err);
}

// [CALL-006]
#[test]
fn result_is_bounded() {
    let user = User::new();
    let app = echo(&user, "app", "");
    let out = call(&user, &["--json", &app, "many", "1000000"]).expect(0).out;
    assert_eq!(out.len(), "[]\n".len() + 2 * 1_000_000 - 1);
    let ended = call(&user, &[&app, "many", "100000000"]).expect(124);
    assert!(
        ended.out.is_empty() && ended.err.contains("one call passed more data"),
        "{}",
        ended.err
    );
}

// [CALL-010]
#[test]
fn each_end_has_its_code() {
    let user = User::new();
    let app = echo(&user, "app", "");
    let failed = call(&user, &[&app, "add", "9223372036854775807", "1"]).expect(1);
    assert_eq!(failed.out, "err(\"it is too large\")\n");
    let failed = call(&user, &["--json", &app, "same-result", "{\"err\":\"why\"}"]).expect(1);
    assert_eq!(failed.out, "{\"err\":\"why\"}\n");
    assert_eq!(
        call(&user, &[&app, "same-failure", "err(some(1))"]).expect(1).out,
        "err(some(1))\n"
    );
    // Of another value it is no end.
    assert_eq!(
        call(&user, &[&app, "same-shape", "circle(1)"]).expect(0).out,
        "circle(1)\n"
    );
    let trapped = call(&user, &[&app, "trap"]).expect(134);
    assert!(
        trapped.err.contains("error: trap trapped: wasm trap"),
        "{}",
        trapped.err
    );
    assert!(
        trapped.err.contains("as asked") && trapped.out.is_empty(),
        "{}",
        trapped.err
    );
    for code in ["0", "3"] {
        let exited = call(&user, &[&app, "exit", code]).expect(134);
        assert!(exited.err.contains("in place of returning"), "{}", exited.err);
    }
    assert_eq!(call(&user, &["absent.qyvbin", "f"]).expect(125).out, "");
    let other = User::new();
    fs::copy(user.path(&app), other.path(&app)).unwrap();
    call(&other, &[&app, "twice", "1"]).expect(126);
    assert_eq!(other.stored(), Vec::<std::path::PathBuf>::new());
    // Not 1, which would say that the function has failed.
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = user.command();
    command.args(["call", &app, "twice", "1"]).stdout(full);
    let unwritten = CommandOutput::from(&command.output().unwrap()).expect(125);
    assert!(unwritten.err.contains("can't write to stdout"), "{}", unwritten.err);
    call(&user, &["--limit", "memory=x", &app, "twice", "1"]).expect(2);
    call(&user, &["--workers", "0", &app]).expect(2);
    call(&user, &["--workers", "2", &app, "twice", "1"]).expect(2);
}

// [CALL-009]
#[test]
fn limits_end_a_call() {
    let user = User::new();
    let timed = echo(&user, "timed", "resources:\n  timeout: 500ms\n");
    for function in ["spin", "sleep"] {
        let ended = call(&user, &[&timed, function]).expect(124);
        assert!(
            ended
                .err
                .contains("it ran for longer than 500.0 ms (resources.timeout)"),
            "{}",
            ended.err
        );
    }
    let app = echo(&user, "app", "resources:\n  memory: 32MB\n");
    let ended = call(&user, &["--limit", "timeout=1h", "--limit", "cpu=50ms", &app, "spin"]).expect(124);
    assert!(ended.err.contains("processor time (resources.cpu)"), "{}", ended.err);
    let ended = call(&user, &["--limit", "fuel=1000000", &app, "spin"]).expect(124);
    assert!(ended.err.contains("(resources.fuel)"), "{}", ended.err);
    let ended = call(&user, &[&app, "grow", "100000000"]).expect(124);
    assert!(ended.err.contains("(resources.memory)"), "{}", ended.err);
    let ended = call(
        &user,
        &["--limit", "output=10B", &app, "print", "\"more than ten bytes\""],
    )
    .expect(124);
    assert!(ended.err.contains("(resources.output)"), "{}", ended.err);
    // The clock's end is no limit.
    let most = format!("timeout={}ms", u64::MAX);
    let out = call(&user, &["--limit", &most, &app, "twice", "1"]);
    assert!(out.code == 0 || out.err.contains("--limit"), "{}", out.err);
}

// [CALL-009]
#[test]
fn guest_has_what_its_manifest_says() {
    let user = User::new();
    let app = echo(&user, "app", "env:\n  OWN: manifest\n");
    let env = call(&user, &[&app, "environment"]).expect(0).out;
    assert_eq!(env, "[(\"OWN\", \"manifest\")]\n");
    user.write("data/text", "of the host");
    call(&user, &[&app, "read-file", "\"/data/text\""]).expect(1);
    let read = call(&user, &["--dir", "data::/data:ro", &app, "read-file", "\"/data/text\""]).expect(0);
    assert_eq!(read.out, "ok(\"of the host\")\n");
    let stdin = user.qyv_with_input(&["call", &app, "read-stdin"], "for nobody");
    assert_eq!(stdin.expect(0).out, "ok(\"\")\n");
    let words = [
        "--dir",
        "data::/data:ro",
        "--audit",
        "audit",
        &app,
        "write-file",
        "\"/data/text\"",
    ];
    assert!(call(&user, &words).expect(1).out.starts_with("err("));
    assert_eq!(fs::read_to_string(user.path("data/text")).unwrap(), "of the host");
    let audit = fs::read_to_string(user.path("audit")).unwrap();
    assert!(audit.lines().any(|line| line.contains("denied")), "{audit}");
    assert!(audit.contains("data/text") || audit.contains("\"text\""), "{audit}");
}

// [CALL-009]
#[test]
fn what_a_guest_prints_is_no_result() {
    let user = User::new();
    let app = echo(&user, "app", "");
    let printed = call(&user, &[&app, "print", "\"ok(1)\""]).expect(0);
    assert_eq!(
        (printed.out.as_str(), printed.err.as_str()),
        ("", "ok(1)\nto stderr: ok(1)\n")
    );
}

// [CMD-030]
#[test]
fn shell_completes_names_of_functions_and_compiles_nothing() {
    let user = User::new();
    let app = echo(&user, "app", "");
    let complete = |words: &[&str]| {
        let mut command = user.command();
        command.env("QYVOL_COMPLETE", "bash");
        command.env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string());
        let output = command.arg("--").args(words).output().unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        out.lines().map(str::to_string).collect::<Vec<String>>()
    };
    let act = complete(&["qyv", "call", &app, "suite:echo/act@1.0.0.c"]);
    assert_eq!(act, ["suite:echo/act@1.0.0.count"]);
    assert_eq!(complete(&["qyv", "call", &app, "same-n"]), ["same-nested"]);
    assert_eq!(
        complete(&["qyv", "call", "--limit", "cpu=1s", "app:1.0.0", "tw"]),
        ["twice"]
    );
    assert!(complete(&["qyv", "call", &app, ""]).contains(&"add".to_string()));
    assert_eq!(complete(&["qyv", "call", "ap"]), ["app:1.0.0", "app.qyvbin", "app/"]);
    assert_eq!(complete(&["qyv", "call", "absent.qyvbin", "f"]), Vec::<String>::new());
    assert!(
        !user
            .stored()
            .iter()
            .any(|path| path.to_string_lossy().contains("/code/"))
    );
}

#[test]
fn example_adds_up_an_invoice() {
    let user = User::new();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/calc");
    user.qyv(&["build", example.to_str().unwrap(), "-o", "calc.qyvbin", "-q"])
        .expect(0);
    let invoice = |items: &str| call(&user, &["--json", "calc.qyvbin", "invoice", items, "21", "\"nearest\""]);
    let total = invoice(r#"[{"name":"tea","price":3.5,"count":4},{"name":"cup","price":10,"count":1,"rebate":50}]"#);
    assert_eq!(
        total.expect(0).json(),
        json!({"ok": {"pieces": 5, "net": 19.0, "tax": 3.99}})
    );
    assert_eq!(invoice("[]").expect(1).json(), json!({"err": "empty"}));
    let refused = invoice(r#"[{"name":"tea","price":3.5,"count":4,"rebate":101}]"#).expect(1);
    assert_eq!(refused.json(), json!({"err": {"bad-rebate": ["tea", 101.0]}}));
    let mistyped = invoice(r#"[{"name":"tea","price":"3,5","count":4}]"#).expect(2);
    let told = "argument 1 'items' of invoice: at [0].price: expected f64, found string \"3,5\"";
    assert!(mistyped.err.contains(told), "{}", mistyped.err);
    assert_eq!(
        call(&user, &["calc.qyvbin", "mean", "[1, 2, 6]"]).expect(0).out,
        "some(3)\n"
    );
    assert_eq!(call(&user, &["calc.qyvbin", "mean", "[]"]).expect(0).out, "none\n");
}
