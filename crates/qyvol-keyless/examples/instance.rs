//! Prints the trusted root of a private instance, a zero byte, and a bundle that it signed: what
//! the fuzz target begins with.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

#[path = "../tests/instance/mod.rs"]
#[allow(dead_code, missing_docs)]
mod instance;

fn main() {
    let instance = instance::Instance::new();
    let plan = instance::Plan {
        stamp: true,
        ..instance::Plan::new(b"{}")
    };
    print!("{}\0{}", instance.root(), instance.sign(&plan));
}
