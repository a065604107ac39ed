//! Functions of components of WASI 0.3, which may wait for the host.

use serde_json::Value;

use crate::service::Server;
use crate::support::{CommandOutput, User};

/// The interface of WASI 0.3 through which the functions wait.
const CLOCK: &str = "wasi:clocks/monotonic-clock@0.3.0";

/// A component whose functions wait by this interface; `more` is declared beside them.
fn napper(clock: &str, more: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            (import "{clock}" (instance $clock (export "wait-for" (func async (param "how-long" u64)))))
            (core func $wait (canon lower (func $clock "wait-for")))
            (core module $m
                (import "clock" "wait-for" (func $wait (param i64)))
                (func (export "nap") (param i32) (result i32)
                    (call $wait (i64.mul (i64.extend_i32_u (local.get 0)) (i64.const 1000000)))
                    (i32.add (local.get 0) (i32.const 1)))
                (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
                (func (export "fail") (param i32) (call $wait (i64.const 1)) unreachable)
                (func (export "rest") (call $wait (i64.const 1)))
                (func (export "take") (param i32) unreachable)
                (func (export "run") (result i32) i32.const 0))
            (core instance $i (instantiate $m (with "clock" (instance (export "wait-for" (func $wait))))))
            (func $nap async (param "ms" u32) (result u32) (canon lift (core func $i "nap")))
            (func $add (param "a" u32) (param "b" u32) (result u32) (canon lift (core func $i "add")))
            (func $fail async (param "how" u32) (canon lift (core func $i "fail")))
            (func $rest async (canon lift (core func $i "rest")))
            (export "nap" (func $nap))
            (export "add" (func $add))
            (export "fail" (func $fail))
            (export "rest" (func $rest))
            {more})"#
    );
    wat::parse_str(text).unwrap()
}

fn project(user: &User, name: &str, component: &[u8], more: &str) -> CommandOutput {
    user.write(&format!("{name}/app.wasm"), component);
    let manifest = format!("name: {name}\nversion: 1.0.0\ntype: function\nentrypoint: app.wasm\n{more}");
    user.write(&format!("{name}/app.qyv"), manifest);
    user.qyv(&["build", name, "-o", &format!("{name}.qyvbin"), "-q"])
}

// [CALL-019]
#[test]
fn function_that_waits_for_the_host_is_called() {
    let user = User::new();
    let functions = "functions: { nap: {}, add: {} }\nprocesses: { rest: { method: rest } }\n";
    project(&user, "app", &napper(CLOCK, ""), functions).expect(0);
    let call = |words: &[&str]| user.qyv(&[&["call", "app.qyvbin"], words].concat());
    assert_eq!(call(&["nap", "3"]).expect(0).out, "4\n");
    assert_eq!(call(&["add", "3", "4"]).expect(0).out, "7\n");
    assert!(call(&["fail", "1"]).expect(134).err.contains("unreachable"));
    let wrong = call(&["nap", "x"]).expect(2);
    assert!(wrong.err.contains("nap: async func(ms: u32) -> u32"), "{}", wrong.err);
    user.qyv(&["run", "app.qyvbin", "rest"]).expect(0);
    // Calls that wait concurrently are answered in their order.
    let lines = "{\"id\":1,\"function\":\"nap\",\"args\":[20]}\n{\"id\":2,\"function\":\"fail\",\"args\":[1]}\n{\"id\":3,\"function\":\"nap\",\"args\":[1]}\n";
    let out = user
        .qyv_with_input(&["call", "--workers", "3", "app.qyvbin"], lines)
        .expect(0)
        .out;
    let answers: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (&answers[0]["result"], &answers[2]["result"]),
        (&Value::from(21), &Value::from(2))
    );
    assert_eq!(answers[1]["error"]["kind"], "trap");
    let server = Server::start(&user, &[], "app.qyvbin");
    let mut client = server.connect();
    client.send(
        "POST /nap HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 3\r\n\r\n[2]",
    );
    let answer = client.answer();
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\"result\":3}"));
    server.end();
    // A command may have functions too.
    let run = "(func $run async (result (result)) (canon lift (core func $i \"run\")))
        (instance $run (export \"run\" (func $run)))
        (export \"wasi:cli/run@0.3.0\" (instance $run))";
    project(&user, "both", &napper(CLOCK, run), "").expect(0);
    user.qyv(&["run", "both.qyvbin"]).expect(0);
    assert_eq!(user.qyv(&["call", "both.qyvbin", "nap", "1"]).expect(0).out, "2\n");
}

// [CALL-009] [CALL-019]
#[test]
fn functions_of_wasi_0_3_have_limits_and_no_pools() {
    let user = User::new();
    project(&user, "app", &napper(CLOCK, ""), "").expect(0);
    let late = user.qyv(&["call", "--limit", "timeout=50ms", "app.qyvbin", "nap", "1000000"]);
    assert!(late.expect(124).err.contains("longer than 50"));
    for pool in ["lazy", "static", "adaptive"] {
        let refused = project(
            &user,
            "kept",
            &napper(CLOCK, ""),
            &format!("functions: {{ nap: {{ pool: {pool} }} }}\n"),
        );
        assert_ne!(refused.code, 0);
        assert!(refused.err.contains("functions.nap has a pool"), "{}", refused.err);
        let validated = user.qyv(&["validate", "kept"]);
        assert!(validated.err.contains("functions.nap has a pool"), "{}", validated.err);
    }
    // What waits for something else than WASI 0.3.
    let alone = "(component
        (core module $m (func (export \"f\")))
        (core instance $i (instantiate $m))
        (func $f async (canon lift (core func $i \"f\")))
        (export \"f\" (func $f)))";
    let refused = project(&user, "alone", &wat::parse_str(alone).unwrap(), "");
    assert_ne!(refused.code, 0);
    assert!(refused.err.contains("it has asynchronous functions"), "{}", refused.err);
}

// [CALL-007] [CALL-019]
#[test]
fn streams_and_futures_are_refused_by_name() {
    let user = User::new();
    let more = ["stream u8", "future u8"].map(|ty| {
        let name = &ty[..6];
        format!(
            "(type ${name} ({ty}))
             (func ${name}f async (param \"from\" ${name}) (canon lift (core func $i \"take\")))
             (export \"{name}\" (func ${name}f))"
        )
    });
    project(&user, "app", &napper(CLOCK, &more.concat()), "").expect(0);
    for name in ["stream", "future"] {
        let refused = user.qyv(&["call", "app.qyvbin", name, "1"]).expect(2);
        let told = format!("{name} can't be called from outside: its parameter 'from' has a {name}");
        assert!(refused.err.contains(&told), "{}", refused.err);
    }
}
