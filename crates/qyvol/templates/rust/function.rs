//! Functions for `qyv call`: their types are in wit/app.wit.

use exports::app::functions::greetings::Guest;

wit_bindgen::generate!({ world: "app", path: "wit" });

struct Functions;

export!(Functions);

impl Guest for Functions {
    fn greet(name: String) -> String {
        format!("Hello, {name}!")
    }

    fn sum(numbers: Vec<i32>) -> i64 {
        numbers.into_iter().map(i64::from).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_wider_than_what_is_summed() {
        assert_eq!(Functions::sum(vec![i32::MAX, i32::MAX]), 4_294_967_294);
        assert_eq!(Functions::greet("Ana".to_string()), "Hello, Ana!");
    }
}
