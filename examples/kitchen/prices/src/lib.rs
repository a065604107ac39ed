//! The price list: what an order comes to.

use exports::acme::prices::bills::{Guest, Line, Mistake, Priced};

wit_bindgen::generate!({ world: "prices", path: "wit" });

struct Prices;

export!(Prices);

const CENTS: &[(&str, u64)] = &[("soup", 420), ("bread", 120), ("paella", 1650)];

impl Guest for Prices {
    fn bill(order: Vec<Line>) -> Result<Vec<Priced>, Mistake> {
        if order.is_empty() {
            return Err(Mistake::Empty);
        }
        let price = |line: Line| match CENTS.iter().find(|(dish, _)| *dish == line.dish) {
            Some((_, cents)) => Ok(Priced {
                cents: cents * u64::from(line.count),
                dish: line.dish,
                count: line.count,
            }),
            None => Err(Mistake::Unknown(line.dish)),
        };
        order.into_iter().map(price).collect()
    }
}
