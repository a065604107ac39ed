//! A checker of JSON Schema. It knows the keywords that our schemas use and
//! fails on any other. A whole implementation would be the largest dependency
//! of the workspace after wasmtime.

use regex_lite::Regex;
use serde_json::{Value, json};

/// Whether `value` is valid by the part `at` of the schema `root`.
pub fn valid(root: &Value, at: &Value, value: &Value) -> bool {
    let Some(keywords) = at.as_object() else {
        return at != &json!(false);
    };
    keywords.iter().all(|(keyword, wanted)| match keyword.as_str() {
        "$schema" | "$id" | "$defs" | "title" | "description" | "examples" | "default" => true,
        // Looked at with the keyword they belong to.
        "then" | "else" => true,
        "$ref" => {
            let pointer = wanted.as_str().unwrap().strip_prefix('#').unwrap();
            valid(root, root.pointer(pointer).unwrap(), value)
        }
        "type" => match wanted {
            Value::Array(names) => names.iter().any(|name| is_type(name.as_str().unwrap(), value)),
            name => is_type(name.as_str().unwrap(), value),
        },
        "const" => wanted == value,
        "enum" => wanted.as_array().unwrap().contains(value),
        "anyOf" => wanted.as_array().unwrap().iter().any(|part| valid(root, part, value)),
        "not" => !valid(root, wanted, value),
        "if" => {
            let branch = if valid(root, wanted, value) { "then" } else { "else" };
            keywords.get(branch).is_none_or(|part| valid(root, part, value))
        }
        "pattern" => value
            .as_str()
            .is_none_or(|s| Regex::new(wanted.as_str().unwrap()).unwrap().is_match(s)),
        "maxLength" => value
            .as_str()
            .is_none_or(|s| s.chars().count() as u64 <= wanted.as_u64().unwrap()),
        "minLength" => value
            .as_str()
            .is_none_or(|s| s.chars().count() as u64 >= wanted.as_u64().unwrap()),
        "maxProperties" => value
            .as_object()
            .is_none_or(|o| o.len() as u64 <= wanted.as_u64().unwrap()),
        "minimum" => value.as_f64().is_none_or(|n| n >= wanted.as_f64().unwrap()),
        "maximum" => value.as_f64().is_none_or(|n| n <= wanted.as_f64().unwrap()),
        "minItems" => value
            .as_array()
            .is_none_or(|a| a.len() as u64 >= wanted.as_u64().unwrap()),
        "maxItems" => value
            .as_array()
            .is_none_or(|a| a.len() as u64 <= wanted.as_u64().unwrap()),
        "items" => value
            .as_array()
            .is_none_or(|items| items.iter().all(|item| valid(root, wanted, item))),
        "required" => value.as_object().is_none_or(|object| {
            let names = wanted.as_array().unwrap();
            names.iter().all(|name| object.contains_key(name.as_str().unwrap()))
        }),
        "properties" => value.as_object().is_none_or(|object| {
            let parts = wanted.as_object().unwrap();
            parts
                .iter()
                .all(|(key, part)| object.get(key).is_none_or(|value| valid(root, part, value)))
        }),
        "additionalProperties" => value.as_object().is_none_or(|object| {
            let known = keywords.get("properties").and_then(Value::as_object);
            let mut others = object
                .iter()
                .filter(|(key, _)| !known.is_some_and(|k| k.contains_key(*key)));
            others.all(|(_, value)| valid(root, wanted, value))
        }),
        "propertyNames" => value
            .as_object()
            .is_none_or(|object| object.keys().all(|key| valid(root, wanted, &json!(key)))),
        other => panic!("the schema uses `{other}`, which this checker doesn't know"),
    })
}

fn is_type(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        // By JSON Schema, 1.0 is one too.
        "integer" => value.as_f64().is_some_and(|n| n.fract() == 0.0),
        other => panic!("no type {other}"),
    }
}
