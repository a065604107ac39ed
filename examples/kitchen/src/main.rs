//! Takes an order. What there is, and what it costs, two other images know: they are
//! linked into this component when it is built.
//!
//! It exits with code 1 for an order that can't be taken.

use std::env;
use std::process::ExitCode;

use acme::menu::dishes;
use acme::prices::bills::{bill, Line, Mistake};

wit_bindgen::generate!({ world: "kitchen", path: "wit", generate_all });

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    if args.is_empty() {
        println!("today: {}", dishes::today().join(", "));
        return ExitCode::SUCCESS;
    }
    let mut order = Vec::new();
    for pair in args.chunks(2) {
        let [dish, count] = pair else {
            eprintln!("kitchen: how much {}?", pair[0]);
            return ExitCode::FAILURE;
        };
        let Ok(count) = count.parse() else {
            eprintln!("kitchen: `{count}` is not a number");
            return ExitCode::FAILURE;
        };
        order.push(Line {
            dish: dish.clone(),
            count,
        });
    }
    let slowest = order.iter().filter_map(|line| dishes::minutes(&line.dish)).max();
    match bill(&order) {
        Ok(lines) => {
            for line in &lines {
                println!("{:>3} {:<8}{:>8}", line.count, line.dish, euros(line.cents));
            }
            let total = lines.iter().map(|line| line.cents).sum();
            println!("    {:<8}{:>8}", "total", euros(total));
            println!("ready in {} minutes", slowest.unwrap_or(0));
            ExitCode::SUCCESS
        }
        Err(Mistake::Unknown(dish)) => {
            eprintln!("kitchen: there is no {dish} today");
            ExitCode::FAILURE
        }
        Err(Mistake::Empty) => {
            eprintln!("kitchen: nothing was ordered");
            ExitCode::FAILURE
        }
    }
}

fn euros(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}
