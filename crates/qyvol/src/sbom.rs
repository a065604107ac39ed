//! `inspect --sbom`: the packages that a component states it was built from, as a CycloneDX
//! document (version 1.5, ECMA-424). It depends only on the component, so the signature over
//! the image covers it: the same bytes on every host, without a date or a number of its own.

use qyvol_image::{Package, Parts, Tool};
use qyvol_types::Digest;
use serde::Serialize;

use crate::inspect::any_component;
use crate::{Context, Error, Target};

/// A CycloneDX document.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CycloneDx {
    bom_format: &'static str,
    spec_version: &'static str,
    version: u32,
    metadata: Metadata,
    components: Vec<Component>,
}

#[derive(Clone, Debug, Serialize)]
struct Metadata {
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<Tools>,
    component: Component,
}

#[derive(Clone, Debug, Serialize)]
struct Tools {
    components: Vec<Component>,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Component {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(rename = "bom-ref", skip_serializing_if = "Option::is_none")]
    bom_ref: Option<String>,
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<Hash>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purl: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Property>,
}

#[derive(Clone, Debug, Serialize)]
struct Hash {
    alg: &'static str,
    content: String,
}

#[derive(Clone, Debug, Serialize)]
struct Property {
    name: &'static str,
    value: String,
}

impl CycloneDx {
    /// Whether the component names no package.
    pub fn is_empty(&self) -> bool {
        self.components.is_empty()
    }
}

/// The packages that a target's component states.
pub fn sbom(ctx: &Context<'_>, target: &Target) -> Result<CycloneDx, Error> {
    let component = any_component(ctx, target)?;
    let parts = Parts::read(&component.bytes).map_err(Error::image(&component.label))?;
    let languages = parts.tools.iter().filter(|tool| tool.field == "language");
    let properties = languages.map(|tool| Property {
        name: "wasm:language",
        value: format!("{} {}", tool.name, tool.version).trim_end().to_string(),
    });
    let tools: Vec<Component> = parts
        .tools
        .iter()
        .filter(|tool| tool.field != "language")
        .map(of_tool)
        .collect();
    Ok(CycloneDx {
        bom_format: "CycloneDX",
        spec_version: "1.5",
        version: 1,
        metadata: Metadata {
            component: Component {
                kind: "application",
                name: component.name,
                version: component.version,
                hashes: vec![Hash {
                    alg: "SHA-256",
                    content: Digest::of(&component.bytes).hex(),
                }],
                properties: properties.collect(),
                ..Component::default()
            },
            tools: (!tools.is_empty()).then_some(Tools { components: tools }),
        },
        components: parts.packages.iter().map(of_package).collect(),
    })
}

fn of_tool(tool: &Tool) -> Component {
    Component {
        kind: "application",
        name: tool.name.clone(),
        version: tool.version.clone(),
        ..Component::default()
    }
}

fn of_package(package: &Package) -> Component {
    let source = match package.source.as_str() {
        "crates.io" => None,
        source => Some(source),
    };
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+".contains(&b));
    let purl = (source.is_none() && plain(&package.name) && plain(&package.version)).then(|| {
        // A `+` in a version is a blank to some (package-url specification).
        format!("pkg:cargo/{}@{}", package.name, package.version.replace('+', "%2B"))
    });
    Component {
        kind: "library",
        bom_ref: Some(format!("{} {} {}", package.name, package.version, package.source)),
        name: package.name.clone(),
        version: package.version.clone(),
        scope: package.is_build_only.then_some("excluded"),
        purl,
        properties: source
            .map(|source| Property {
                name: "cargo:source",
                value: source.to_string(),
            })
            .into_iter()
            .collect(),
        ..Component::default()
    }
}
