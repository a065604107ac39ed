//! `spec/schemas.md`: what the JSON Schemas say, as tables for people.

use serde_json::Value;

use crate::tree::Tree;

const HEAD: &str = "# Schemas\n\nThe keys of each document that is read or written, from the JSON Schemas in `formats/`, which editors and other programs can use. An entry of a list is `[]`, a key that is free is `*`.\n";

/// Schemas that refer to themselves are followed no deeper.
const DEPTH: usize = 6;

/// The page, from the schemas of the tree.
pub(super) fn page(tree: &Tree) -> Result<String, String> {
    let mut page = HEAD.to_string();
    for (path, text) in tree.with_ending(".schema.json") {
        let schema: Value = serde_json::from_str(text).map_err(|e| format!("{path}: {e}"))?;
        let text = |key: &str| schema[key].as_str().unwrap_or_default().to_string();
        page.push_str(&format!(
            "\n## {}\n\n`{path}`. {}\n",
            text("title"),
            text("description")
        ));
        page.push_str("\n| key | value | meaning |\n| --- | --- | --- |\n");
        rows(&schema, &schema, "", DEPTH, &mut page);
    }
    Ok(page)
}

/// A row for each key below `schema`, required ones marked.
fn rows(root: &Value, schema: &Value, prefix: &str, depth: usize, page: &mut String) {
    let Some(depth) = depth.checked_sub(1) else { return };
    let schema = resolve(root, schema);
    let required: Vec<&str> = schema["required"]
        .as_array()
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        let resolved = resolve(root, child);
        let mark = if required.contains(&name.as_str()) {
            ", required"
        } else {
            ""
        };
        let say = |key: &str| child[key].as_str().or_else(|| resolved[key].as_str());
        let meaning = say("description").or_else(|| say("title")).unwrap_or_default();
        let path = format!("{prefix}{name}");
        page.push_str(&format!(
            "| `{path}` | {}{mark} | {} |\n",
            kind(root, child),
            cell(meaning)
        ));
        below(root, child, &path, depth, page);
    }
    let free = &schema["additionalProperties"];
    if free.is_object() {
        below(root, free, &format!("{prefix}*"), depth, page);
    }
}

/// The rows below a key: of its object, of its list's entries, of its forms.
fn below(root: &Value, schema: &Value, path: &str, depth: usize, page: &mut String) {
    let schema = resolve(root, schema);
    rows(root, schema, &format!("{path}."), depth, page);
    if schema["items"].is_object() {
        below(root, &schema["items"], &format!("{path}[]"), depth, page);
    }
    for form in forms(schema) {
        below(root, form, path, depth.saturating_sub(1), page);
    }
}

fn forms(schema: &Value) -> impl Iterator<Item = &Value> {
    ["anyOf", "oneOf"]
        .into_iter()
        .filter_map(|key| schema[key].as_array())
        .flatten()
}

/// What a value is, in a few words.
fn kind(root: &Value, schema: &Value) -> String {
    let schema = resolve(root, schema);
    if let Some(value) = schema.get("const") {
        return format!("`{value}`");
    }
    if let Some(values) = schema["enum"].as_array() {
        let words: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
        return cell(&words.join(", "));
    }
    let of_forms: Vec<String> = forms(schema).map(|form| kind(root, form)).collect();
    if !of_forms.is_empty() {
        return of_forms.join(" or ");
    }
    match &schema["type"] {
        Value::String(name) => name.clone(),
        Value::Array(names) => {
            let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
            names.join(" or ")
        }
        _ => "any".to_string(),
    }
}

fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let pointer = schema["$ref"].as_str().and_then(|to| to.strip_prefix('#'));
    pointer.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}

/// Text that may stand in a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_listed_with_their_values_and_meanings() {
        let schema = r##"{"title":"T","description":"D.","required":["a"],"properties":{
            "a":{"type":"string","description":"First."},
            "b":{"items":{"$ref":"#/$defs/e"},"type":"array"},
            "c":{"enum":["x","y"]}},
            "$defs":{"e":{"properties":{"d":{"type":["string","null"]}}}}}"##;
        let page = page(&Tree::from([("formats/t.schema.json", schema)])).unwrap_or_default();
        for row in [
            "| `a` | string, required | First. |",
            "| `b` | array |  |",
            "| `b[].d` | string or null |  |",
            "| `c` | `\"x\"`, `\"y\"` |  |",
        ] {
            assert!(page.contains(row), "{row}\n{page}");
        }
    }

    #[test]
    fn schema_that_refers_to_itself_ends() {
        let schema = r##"{"title":"T","properties":{"a":{"$ref":"#"}}}"##;
        assert!(page(&Tree::from([("formats/t.schema.json", schema)])).is_ok());
    }
}
