//! Functions with types of their own: records and lists go in, results and variants come
//! out. There is no `main`: whoever calls chooses the function.

use exports::acme::calc::ops::{Guest, Item, Mistake, Rounding, Total};

wit_bindgen::generate!({ world: "calc", path: "wit" });

struct Calc;

export!(Calc);

impl Guest for Calc {
    fn add(a: i64, b: i64) -> Result<i64, String> {
        a.checked_add(b)
            .ok_or_else(|| "the sum is out of range".to_string())
    }

    fn invoice(items: Vec<Item>, tax_percent: f64, round: Rounding) -> Result<Total, Mistake> {
        if items.is_empty() {
            return Err(Mistake::Empty);
        }
        let mut pieces = 0u32;
        let mut net = 0.0;
        for item in items {
            if !item.price.is_finite() || item.price < 0.0 {
                return Err(Mistake::BadPrice(item.name));
            }
            let rebate = item.rebate.unwrap_or(0.0);
            if !(0.0..=100.0).contains(&rebate) {
                return Err(Mistake::BadRebate((item.name, rebate)));
            }
            pieces = pieces.saturating_add(item.count);
            net += item.price * f64::from(item.count) * (100.0 - rebate) / 100.0;
        }
        Ok(Total {
            pieces,
            net: cents(net, round),
            tax: cents(net * tax_percent / 100.0, round),
        })
    }

    fn mean(values: Vec<f64>) -> Option<f64> {
        let count = values.len() as f64;
        (count > 0.0).then(|| values.iter().sum::<f64>() / count)
    }
}

/// An amount in whole cents.
fn cents(amount: f64, round: Rounding) -> f64 {
    let cents = amount * 100.0;
    match round {
        Rounding::Down => cents.floor() / 100.0,
        Rounding::Nearest => cents.round() / 100.0,
    }
}
