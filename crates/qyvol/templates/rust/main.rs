//! Greets whoever is named in its first argument.

use std::env;

fn main() {
    let name = env::args().nth(1);
    println!("{}", greeting(name.as_deref()));
}

fn greeting(name: Option<&str>) -> String {
    format!("Hello, {}!", name.unwrap_or("world"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greets_by_name_and_otherwise_the_world() {
        assert_eq!(greeting(Some("Ana")), "Hello, Ana!");
        assert_eq!(greeting(None), "Hello, world!");
    }
}
