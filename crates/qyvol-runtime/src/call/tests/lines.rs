//! Calls as lines of JSON.

use super::super::*;
use super::load;
use crate::RunSpec;

/// Returns one line at a time, and checks before each whether it is too early.
struct Watched {
    lines: std::vec::IntoIter<String>,
    given: usize,
    answered: std::sync::Arc<std::sync::atomic::AtomicUsize>,
    ahead: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl std::io::Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        use std::sync::atomic::Ordering::SeqCst;
        let Some(line) = self.lines.next() else { return Ok(0) };
        self.given += 1;
        self.ahead
            .fetch_max(self.given.saturating_sub(self.answered.load(SeqCst)), SeqCst);
        buffer[..line.len()].copy_from_slice(line.as_bytes());
        Ok(line.len())
    }
}

// [CALL-012]
#[test]
fn no_call_begins_before_there_is_room_for_it() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    const WORKERS: usize = 3;
    let wasm = wat::parse_str(
        r#"(component
        (core module $m
            (func (export "spin") (loop $more (br $more)))
            (func (export "same") (param i32) (result i32) (local.get 0)))
        (core instance $i (instantiate $m))
        (func (export "spin") (canon lift (core func $i "spin")))
        (func (export "same") (param "v" u32) (result u32) (canon lift (core func $i "same"))))"#,
    );
    let program = load(&wasm.unwrap());
    let functions = program.functions();
    let limits = CallLimits {
        time: None,
        cpu: Some(Duration::from_secs(2)),
        bytes: None,
    };
    let caller = Caller::new(program, RunSpec::default(), limits).unwrap();
    let quick = (0..100).map(|n| format!("{{\"id\":{n},\"function\":\"same\",\"args\":[{n}]}}\n"));
    let lines: Vec<String> = std::iter::once("{\"function\":\"spin\"}\n".to_string())
        .chain(quick)
        .collect();
    let (answered, ahead) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let input = Watched {
        lines: lines.into_iter(),
        given: 0,
        answered: Arc::clone(&answered),
        ahead: Arc::clone(&ahead),
    };
    let calls = LineCalls {
        named: Default::default(),
        functions,
        function: None,
        workers: WORKERS,
    };
    let mut answers = Vec::new();
    let mut output = |line: &str| {
        answered.fetch_add(1, SeqCst);
        answers.push(line.to_string());
        Ok(())
    };
    caller
        .answer_lines(calls, input, &mut output, &crate::Stop::default())
        .unwrap();
    assert!(answers[0].contains("\"kind\":\"limit\""), "{}", answers[0]);
    for (n, answer) in answers[1..].iter().enumerate() {
        assert_eq!(*answer, format!("{{\"id\":{n},\"result\":{n}}}"));
    }
    assert_eq!(answers.len(), 101);
    // Running calls, answers that wait for an earlier one, and the line in transit.
    let ahead = ahead.load(SeqCst);
    assert!(ahead <= 2 * WORKERS + 4, "{ahead}");
}
