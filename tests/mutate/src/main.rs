//! Typed mutations of bundles (of keys and of certified identities), policies, chains of
//! policies and archives: what is accepted after them must be what was signed, and nothing may
//! panic.
//!
//! Invariants that each case is checked against:
//! - a signature that counts is over a payload that its key signed in the corpus, byte for
//!   byte, in the role and form that count;
//! - an image or document that is accepted is one of the corpus, and enough keys of the policy,
//!   as another YAML reader reads it, have signed it;
//! - one of the keys of each threshold is the attacker's, who signs at will.
//!
//! A case is a function of seed and number alone. `cargo xtask mutate` runs it.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a test tool")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod archives;
mod bundles;
mod certified;
mod chains;
mod corpus;
mod facts;
mod mutation;
mod policies;
mod random;

#[path = "../../../crates/qyvol-image/tests/hostile/common.rs"]
#[allow(dead_code, reason = "the hostile archives use the rest")]
mod archive;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, thread};

use corpus::Corpus;
use random::Random;

const HELP: &str = "\
usage: cargo xtask mutate [--count N] [--seed S] [--case I] [--threads N]
       cargo xtask mutate --renew

Alters bundles, policies, chains of policies and archives, N times (100000), by the
seed S (1), and checks every verdict against what was signed. --case runs one of the
cases of a seed again, and prints what it judged. --renew signs the bundles with
certificates anew, as is necessary when the images have changed.";

/// What came of a case.
pub struct Outcome {
    /// What was judged, to print.
    pub input: String,
    /// Whether it was accepted, or a finding.
    pub accepted: Result<bool, String>,
}

type Kind = (&'static str, fn(&Corpus, &mut Random) -> Outcome);

/// How many cases in ten are of each kind.
const KINDS: [(Kind, u64); 5] = [
    (("bundles", bundles::case), 3),
    (("certified", certified::case), 1),
    (("policies", policies::case), 3),
    (("chains", chains::case), 2),
    (("archives", archives::case), 1),
];

struct Options {
    count: u64,
    seed: u64,
    case: Option<u64>,
    threads: usize,
    renew: bool,
}

#[derive(Default)]
struct Count {
    cases: AtomicU64,
    accepted: AtomicU64,
}

fn kind(number: u64) -> usize {
    let mut place = number % KINDS.iter().map(|(_, weight)| weight).sum::<u64>();
    let found = KINDS.iter().position(|(_, weight)| {
        let here = place < *weight;
        place = place.saturating_sub(*weight);
        here
    });
    found.unwrap_or_default()
}

fn run_case(corpus: &Corpus, seed: u64, number: u64) -> Outcome {
    let ((_, case), _) = KINDS[kind(number)];
    let outcome = catch_unwind(AssertUnwindSafe(|| case(corpus, &mut Random::new(seed, number))));
    outcome.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
        Outcome {
            input: String::new(),
            accepted: Err(format!("panicked: {}", said.unwrap_or("?"))),
        }
    })
}

/// Runs all cases; returns a line for each kind, and the findings.
fn run(options: &Options) -> (Vec<String>, Vec<String>) {
    let corpus = Corpus::new();
    let next = AtomicU64::new(0);
    let counts: [Count; KINDS.len()] = Default::default();
    let findings = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..options.threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= options.count {
                        return;
                    }
                    let count = &counts[kind(number)];
                    count.cases.fetch_add(1, Ordering::Relaxed);
                    match run_case(&corpus, options.seed, number).accepted {
                        Ok(true) => drop(count.accepted.fetch_add(1, Ordering::Relaxed)),
                        Ok(false) => {}
                        Err(what) => findings.lock().unwrap().push((number, what)),
                    }
                }
            });
        }
    });
    let lines = KINDS.iter().zip(&counts).map(|(((name, _), _), count)| {
        let [cases, accepted] = [&count.cases, &count.accepted].map(|n| n.load(Ordering::Relaxed));
        format!("{name:<9} {cases:>9} cases, {accepted:>8} accepted as signed")
    });
    let mut findings = findings.into_inner().unwrap();
    findings.sort();
    let findings = findings.into_iter().map(|(number, what)| {
        let seed = options.seed;
        format!(
            "case {number} ({}): {what}\n  again: --seed {seed} --case {number}",
            KINDS[kind(number)].0.0
        )
    });
    (lines.collect(), findings.collect())
}

fn parse(args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut options = Options {
        count: 100_000,
        seed: 1,
        case: None,
        threads,
        renew: false,
    };
    let mut args = args;
    while let Some(arg) = args.next() {
        let mut number = || {
            let value = args.next().ok_or_else(|| format!("{arg} needs a number"))?;
            value.parse::<u64>().map_err(|_| format!("{arg} {value}: not a number"))
        };
        match arg.as_str() {
            "--count" => options.count = number()?,
            "--seed" => options.seed = number()?,
            "--case" => options.case = Some(number()?),
            "--threads" => options.threads = number()?.clamp(1, 256) as usize,
            "--renew" => options.renew = true,
            "--help" | "-h" => return Ok(None),
            other => return Err(format!("unexpected argument `{other}`\n{HELP}")),
        }
    }
    Ok(Some(options))
}

fn main() -> ExitCode {
    let options = match parse(env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            println!("error: {why}");
            return ExitCode::FAILURE;
        }
    };
    if options.renew {
        certified::renew();
        return ExitCode::SUCCESS;
    }
    if let Some(number) = options.case {
        let outcome = run_case(&Corpus::new(), options.seed, number);
        println!("{}\n{:?}", outcome.input, outcome.accepted);
        return ExitCode::from(u8::from(outcome.accepted.is_err()));
    }
    let (lines, findings) = run(&options);
    for line in lines.iter().chain(findings.iter().take(20)) {
        println!("{line}");
    }
    println!("{} findings", findings.len());
    ExitCode::from(u8::from(!findings.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    // [SIGN-010] [SIGN-011] [SIGN-042]
    #[test]
    fn what_is_accepted_after_any_mutation_is_what_was_signed() {
        let options = Options {
            count: 4000,
            seed: 7,
            case: None,
            threads: 2,
            renew: false,
        };
        let (lines, findings) = run(&options);
        assert!(findings.is_empty(), "{}", findings.join("\n"));
        // Refusing everything would be no proof.
        assert!(lines.iter().all(|line| !line.contains(" 0 accepted")), "{lines:#?}");
    }

    #[test]
    fn case_is_a_function_of_seed_and_number() {
        let (one, other) = (Corpus::new(), Corpus::new());
        for number in 0..200 {
            let [one, other] = [&one, &other].map(|corpus| run_case(corpus, 3, number));
            assert_eq!(one.input, other.input, "{number}");
            assert_eq!(one.accepted, other.accepted, "{number}");
        }
    }
}
