//! What a component states about how it was made: the packages in it, as cargo-auditable
//! records them (the custom section `.dep-v0`: JSON, compressed by zlib), and the tools that
//! made it (the section `producers` of the tool conventions). Modules and components inside are
//! read too.
//!
//! These are claims of its builder. Nothing is fetched or guessed.

use std::collections::BTreeSet;
use std::io::Read;

use flate2::read::ZlibDecoder;
use qyvol_types::json;
use serde::Deserialize;
use wasmparser::{KnownCustom, Parser, Payload as Section};

use crate::ImageError;

/// The list of packages, unpacked.
const LIST_BYTES: u64 = 8 << 20;
/// Packages and tools of one component.
const ENTRIES: usize = 20_000;

/// The packages in a component, and the tools that made it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// The packages in it, each once, sorted.
    pub packages: BTreeSet<Package>,
    /// The languages, tools and SDKs that made it, each once, sorted.
    pub tools: BTreeSet<Tool>,
}

/// A package of Rust's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where it came from: `crates.io`, `git`, `local` or `registry`.
    pub source: String,
    /// Whether it was only used in the build, and is not in the component.
    pub is_build_only: bool,
}

/// A tool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tool {
    /// Its role: `language`, `processed-by` or `sdk`.
    pub field: String,
    /// Its name.
    pub name: String,
    /// Its version; may be empty.
    pub version: String,
}

#[derive(Deserialize)]
struct List {
    packages: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    name: String,
    version: String,
    source: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    root: bool,
}

impl Parts {
    /// Reads a component or core module.
    pub fn read(wasm: &[u8]) -> Result<Parts, ImageError> {
        let failed = |error: wasmparser::BinaryReaderError| ImageError::Wasm(error.to_string());
        let mut parts = Parts::default();
        for section in Parser::new(0).parse_all(wasm) {
            let Section::CustomSection(custom) = section.map_err(failed)? else {
                continue;
            };
            if custom.name() == ".dep-v0" {
                parts.add_packages(custom.data())?;
            } else if let KnownCustom::Producers(fields) = custom.as_known() {
                for field in fields {
                    let field = field.map_err(failed)?;
                    for value in field.values {
                        let value = value.map_err(failed)?;
                        parts.tools.insert(Tool {
                            field: field.name.to_string(),
                            name: value.name.to_string(),
                            version: value.version.to_string(),
                        });
                        parts.check()?;
                    }
                }
            }
        }
        Ok(parts)
    }

    fn add_packages(&mut self, section: &[u8]) -> Result<(), ImageError> {
        let unreadable = |why: &str| ImageError::Wasm(format!("its list of packages (`.dep-v0`) is {why}"));
        let mut text = Vec::new();
        let mut unpacked = ZlibDecoder::new(section).take(LIST_BYTES + 1);
        unpacked
            .read_to_end(&mut text)
            .map_err(|_| unreadable("not compressed by zlib"))?;
        if text.len() as u64 > LIST_BYTES {
            return Err(ImageError::Limit {
                what: "list of packages in bytes",
                got: text.len() as u64,
                limit: LIST_BYTES,
            });
        }
        let list: List = json::decode(&text).map_err(|error| unreadable(&error.to_string()))?;
        // The root is the application itself.
        for package in list.packages.into_iter().filter(|package| !package.root) {
            self.packages.insert(Package {
                name: package.name,
                version: package.version,
                source: package.source,
                is_build_only: package.kind == "build",
            });
            self.check()?;
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ImageError> {
        let got = self.packages.len() + self.tools.len();
        if got <= ENTRIES {
            return Ok(());
        }
        Err(ImageError::Limit {
            what: "number of packages and tools",
            got: got as u64,
            limit: ENTRIES as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::ZlibEncoder;
    use wasm_encoder::{CustomSection, Module, ModuleSection, ProducersField, ProducersSection};

    use super::*;

    fn packed(list: &str) -> Vec<u8> {
        let mut packed = ZlibEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(list.as_bytes()).unwrap();
        packed.finish().unwrap()
    }

    fn module(section: &[u8]) -> Module {
        let mut module = Module::new();
        module.section(&CustomSection {
            name: ".dep-v0".into(),
            data: section.into(),
        });
        let mut field = ProducersField::new();
        field.value("Rust", "2024");
        let mut producers = ProducersSection::new();
        producers.field("language", &field);
        module.section(&producers);
        module
    }

    const LIST: &str = r#"{"packages":[{"name":"app","version":"0.1.0","source":"local","root":true},{"name":"serde","version":"1.0.0","source":"crates.io"},{"name":"cc","version":"1.2.0","source":"crates.io","kind":"build"}]}"#;

    // [SIGN-064]
    #[test]
    fn packages_and_tools_of_the_modules_in_a_component_are_found_once() {
        let module = module(&packed(LIST));
        let mut component = wasm_encoder::Component::new();
        component.section(&ModuleSection(&module));
        component.section(&ModuleSection(&module));
        let parts = Parts::read(&component.finish()).unwrap();
        assert_eq!(parts, Parts::read(&module.finish()).unwrap());
        let names: Vec<_> = parts
            .packages
            .iter()
            .map(|p| (p.name.as_str(), p.is_build_only))
            .collect();
        assert_eq!(names, [("cc", true), ("serde", false)]);
        let tools: Vec<_> = parts
            .tools
            .iter()
            .map(|t| (t.field.as_str(), t.name.as_str()))
            .collect();
        assert_eq!(tools, [("language", "Rust")]);
    }

    // [SIGN-064]
    #[test]
    fn list_that_is_damaged_or_a_bomb_is_refused() {
        for bad in [
            b"".to_vec(),
            b"{}".to_vec(),
            packed("{}"),
            packed("[]"),
            packed(&" ".repeat(9 << 20)),
        ] {
            assert!(Parts::read(&module(&bad).finish()).is_err());
        }
    }
}
