//! Keys of a policy without a value.

use super::*;

// [SIGN-020] [SIGN-037]
#[test]
fn policy_field_without_a_value_is_not_treated_as_absent() {
    let key = key();
    let good = policy_text(&[&key], 1);
    let rule = "    require: [{";
    for (from, [above, emptied, below]) in [
        ("rules:", ["", "development", "rules:"]),
        ("rules:", ["", "revoked", "rules:"]),
        ("rules:", ["revoked: { images: [] }\n", "floors", "rules:"]),
        ("rules:", ["revoked:\n  ", "keys", "rules:"]),
        ("rules:", ["revoked:\n  ", "images", "rules:"]),
        ("rules:", ["revoked:\n  keys:\n    - key: k0\n      ", "keep", "rules:"]),
        ("rules:", ["", "expires", "rules:"]),
        ("rules:", ["", "update", "rules:"]),
        ("rules:", ["    ", "until", "rules:"]),
        ("rules:", ["    ", "from", "rules:"]),
        (rule, ["    ", "max_age", rule]),
        (rule, ["    ", "rollback", rule]),
        (rule, ["    ", "identity", rule]),
        (rule, ["    ", "names", rule]),
        (rule, ["    ", "remap", rule]),
        (rule, ["    ", "attest", rule]),
        (rule, ["    ", "allow", rule]),
        (rule, ["    allow:\n      ", "net", rule]),
        (rule, ["    ", "limits", rule]),
        (rule, ["    limits:\n      ", "memory", rule]),
    ] {
        for nothing in ["", " ~", " null", " # nothing"] {
            let bad = good.replacen(from, &format!("{above}{emptied}:{nothing}\n{below}"), 1);
            let before = good.split(from).next().unwrap();
            let line = format!("{before}{above}").matches('\n').count() + 1;
            let problems = TrustPolicy::parse(&bad).expect_err(&bad);
            assert_eq!(problems.0.len(), 1, "{bad}{problems}");
            assert_eq!(problems.0[0].place.line, line, "{problems}");
            let said = problems.to_string();
            assert!(said.contains(&format!("{emptied} has no value")), "{said}");
            assert!(said.contains("give it a value, or remove the key"), "{said}");
        }
    }
}

// [SIGN-020]
#[test]
fn empty_list_or_mapping_is_not_treated_as_absent() {
    let key = key();
    let good = policy_text(&[&key], 1);
    let rule = "    require: [{";
    for nothing in ["attest: []", "limits: {}"] {
        let bad = good.replacen(rule, &format!("    {nothing}\n{rule}"), 1);
        let problems = TrustPolicy::parse(&bad).expect_err(&bad);
        assert!(problems.to_string().contains("or remove the key"), "{problems}");
    }
    let from = good.find(rule).unwrap();
    let to = from + good[from..].find('\n').unwrap();
    let bad = format!("{}    require: []{}", &good[..from], &good[to..]);
    TrustPolicy::parse(&bad).expect_err(&bad);
}
