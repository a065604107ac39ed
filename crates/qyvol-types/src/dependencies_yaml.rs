//! Reading `dependencies` of a `.qyv`.

use crate::dependencies::{DependencyImage, DependencyRule};
use crate::reference::is_tag;
use crate::yaml::{Key, Node, Reader};
use crate::{WitName, escape, limits};

/// Reads all entries, in the order of their keys.
pub(crate) fn dependencies(r: &mut Reader<'_>, node: &Node) -> Option<Vec<DependencyRule>> {
    let entries = r.entries(node, "dependencies");
    if entries.len() > limits::DEPENDENCIES {
        let message = format!("dependencies has more than {} entries", limits::DEPENDENCIES);
        r.problem(node.place, message);
        return None;
    }
    let rules: Vec<_> = entries.iter().map(|(key, node)| dependency(r, key, node)).collect();
    let mut rules = rules.into_iter().collect::<Option<Vec<_>>>()?;
    rules.sort_by_key(|rule| rule.key.to_string());
    Some(rules)
}

fn dependency(r: &mut Reader<'_>, key: &Key, node: &Node) -> Option<DependencyRule> {
    let name = match key.text.parse::<WitName>() {
        Ok(name) => Some(name),
        Err(_) => {
            r.problem_with_help(
                key.place,
                format!("`{}` is no interface or package of WIT", escape(&key.text)),
                "what the application imports, such as \"acme:calc/ops\", or \"acme:calc\" for all interfaces of the package",
            );
            None
        }
    };
    let what = format!("the dependency `{}`", escape(&key.text));
    let fields = r.fields(node, &what, &["image", "version"])?;
    let image = r.required(&fields, "image", &what).and_then(|node| image(r, node));
    let version = r.required(&fields, "version", &what).and_then(|node| {
        let text = r.text(node, "version")?;
        if !is_tag(text) {
            r.problem(node.place, format!("`{}` can't be a version", escape(text)));
            return None;
        }
        Some(text.to_string())
    });
    Some(DependencyRule {
        key: name?,
        image: image?,
        version: version?,
    })
}

fn image(r: &mut Reader<'_>, node: &Node) -> Option<DependencyImage> {
    let text = r.text(node, "image")?;
    match DependencyImage::parse(text) {
        Ok(image) => Some(image),
        Err(why) => {
            r.problem_with_help(
                node.place,
                format!("image `{}` {why}", escape(text)),
                "a repository without a tag, such as registry.example/acme/calc, or a .qyvbin inside the manifest's directory",
            );
            None
        }
    }
}
