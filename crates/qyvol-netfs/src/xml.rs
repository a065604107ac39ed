//! Reads XML from servers, within limits.
//!
//! A document is read as a root and its children, one after the other, each as a small
//! tree of elements. Document types are refused, and so are entities other than XML's own
//! five and characters by number, so nothing expands. Depth, elements and text are limited
//! by the length of the document, which the caller limits, and by constants here.

use quick_xml::events::Event;
use quick_xml::name::ResolveResult;
use quick_xml::reader::NsReader;

/// Deepest nesting.
const MAX_DEPTH: usize = 32;
/// Maximum number of elements below one child of the root.
const MAX_ELEMENTS: usize = 1000;

/// An element with its content.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Element {
    /// Its namespace, such as `DAV:`, or empty.
    namespace: String,
    /// Its name without the prefix.
    name: String,
    /// All text directly in it.
    text: String,
    children: Vec<Element>,
}

impl Element {
    pub(crate) fn is(&self, namespace: &str, name: &str) -> bool {
        self.name == name && self.namespace == namespace
    }

    /// The name without its namespace.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its text, without white space around it.
    pub(crate) fn text(&self) -> &str {
        self.text.trim()
    }

    /// Its text as it is.
    pub(crate) fn raw_text(&self) -> &str {
        &self.text
    }

    /// Its children with this name.
    pub(crate) fn all<'a>(&'a self, namespace: &'a str, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.is(namespace, name))
    }

    /// The first child with this name.
    pub(crate) fn child<'a>(&'a self, namespace: &'a str, name: &'a str) -> Option<&'a Element> {
        self.all(namespace, name).next()
    }

    /// The first child of this name in any namespace.
    pub(crate) fn named(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }
}

/// Reads a document: `root` checks the namespace and name of the root, `each` gets its
/// children. An error of either is returned.
pub(crate) fn read(
    text: &str,
    root: impl FnOnce(&str, &str) -> Result<(), String>,
    mut each: impl FnMut(Element) -> Result<(), String>,
) -> Result<(), String> {
    let mut root = Some(root);
    let mut reader = NsReader::from_str(text);
    let config = reader.config_mut();
    config.expand_empty_elements = true;
    config.check_end_names = true;
    // The path of open elements below the root.
    let mut open: Vec<Element> = Vec::new();
    let (mut is_inside, mut elements) = (false, 0);
    loop {
        let event = reader.read_event().map_err(|error| malformed(&error))?;
        match event {
            Event::Start(start) => {
                let (namespace, name) = reader.resolver().resolve_element(start.name());
                let namespace = match namespace {
                    ResolveResult::Bound(namespace) => namespace.0.to_string(),
                    ResolveResult::Unbound => String::new(),
                    ResolveResult::Unknown(_) => return Err("the XML has a prefix without a namespace".to_string()),
                };
                let name = name.into_inner().to_string();
                if !is_inside {
                    let root = root.take().ok_or("the XML has more than one root")?;
                    root(&namespace, &name)?;
                    is_inside = true;
                    continue;
                }
                elements = if open.is_empty() { 0 } else { elements + 1 };
                if open.len() >= MAX_DEPTH || elements > MAX_ELEMENTS {
                    return Err("the XML is nested too deeply, or has too many elements in one".to_string());
                }
                open.push(Element {
                    namespace,
                    name,
                    ..Element::default()
                });
            }
            Event::End(_) => match (open.pop(), open.last_mut()) {
                (Some(element), Some(parent)) => parent.children.push(element),
                (Some(element), None) => each(element)?,
                (None, _) => is_inside = false,
            },
            Event::Text(text) => add(&mut open, &text.xml10_content()),
            Event::CData(text) => add(&mut open, &text.xml10_content()),
            Event::GeneralRef(reference) => {
                let character = match reference.resolve_char_ref() {
                    Ok(Some(character)) => character,
                    Ok(None) => match &*reference {
                        "amp" => '&',
                        "lt" => '<',
                        "gt" => '>',
                        "quot" => '"',
                        "apos" => '\'',
                        _ => {
                            return Err(
                                "the XML has an entity that XML does not predefine, which is not expanded".to_string(),
                            );
                        }
                    },
                    Err(error) => return Err(malformed(&error)),
                };
                add(&mut open, character.encode_utf8(&mut [0; 4]));
            }
            Event::DocType(_) => return Err("the XML has a document type, which is not read".to_string()),
            Event::Eof if root.is_some() || is_inside => return Err("the XML ends too early".to_string()),
            Event::Eof => return Ok(()),
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
}

fn add(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

fn malformed(error: &dyn std::fmt::Display) -> String {
    let shown: String = error.to_string().chars().take(200).collect();
    format!("the XML is malformed: {}", qyvol_types::escape(&shown))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn children(text: &str) -> Result<Vec<Element>, String> {
        let mut all = Vec::new();
        read(
            text,
            |_, _| Ok(()),
            |child| {
                all.push(child);
                Ok(())
            },
        )?;
        Ok(all)
    }

    #[test]
    fn elements_are_read_with_their_namespaces_and_text() {
        let all = children(
            "<?xml version=\"1.0\"?><!-- x --><D:a xmlns:D=\"DAV:\"><D:b>x&amp;<![CDATA[<y>]]>&#233;<c/></D:b>\
             <b xmlns=\"other\"> z </b></D:a>\n",
        )
        .unwrap();
        assert!(all[0].is("DAV:", "b") && all[0].text() == "x&<y>é" && all[0].named("c").is_some());
        assert!(all[1].is("other", "b") && all[1].text() == "z" && all[1].raw_text() == " z ");
        assert!(all[0].child("DAV:", "c").is_none() && all[0].child("", "c").is_some());
    }

    #[test]
    fn what_expands_or_is_malformed_is_refused() {
        let deep = format!("<a>{}{}</a>", "<b>".repeat(40), "</b>".repeat(40));
        let many = format!("<a><b>{}</b></a>", "<c/>".repeat(2000));
        for bad in [
            "",
            "text",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "<a><b></a></b>",
            "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>",
            "<a><b>&x;</b></a>",
            "<a><b>&#0;</b></a>",
            "<a><b>&</b></a>",
            "<D:a/>",
            &deep,
            &many,
        ] {
            assert!(children(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in any::<String>()) {
            let _ = children(&text);
        }

        #[test]
        fn no_pieces_of_xml_are_too_much(pieces in proptest::collection::vec(prop_oneof![
            Just("<a>"), Just("</a>"), Just("<a xmlns='DAV:'>"), Just("<b/>"), Just("&amp;"), Just("&#x;"),
            Just("<![CDATA["), Just("]]>"), Just("<!--"), Just("-->"), Just("<?x"), Just("?>"), Just("<!DOCTYPE"),
            Just("x"), Just("<"), Just(">"), Just("\"")], 0..40)) {
            let _ = children(&pieces.concat());
        }

        #[test]
        fn text_reads_back(text in "[ -~éñ]{0,40}") {
            let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            let all = children(&format!("<a><b>{escaped}</b></a>")).unwrap();
            prop_assert_eq!(all[0].raw_text(), text);
        }
    }
}
