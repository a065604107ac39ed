//! Links WebAssembly components into one component, and reads their WIT.
//!
//! A [`Composition`] has parts, each a component. An import of one part is connected to
//! an export of another; unconnected imports become imports of the result, and its exports are
//! the requested ones. [`plug`] does that for an application and its dependencies.
//!
//! ```text
//!   application  imports a:b/c ---+
//!   dependency   exports a:b/c <--+   --plug--> one component
//!                imports wasi:…  ----------->   imports wasi:…
//! ```
//!
//! The parts are nested in the result byte for byte. Their remaining imports are written around
//! them, each interface once: parts that see different parts of an interface, or versions of it
//! that are compatible, share one import, so that a resource of the host is the same in all of
//! them.
//!
//! Invariants:
//! - nothing is connected whose types differ, and every difference is reported with both types;
//! - the same parts and connections give the same bytes;
//! - the result is valid, or it is not returned;
//! - the cost of a part is bounded before its types are read.
//!
//! Deliberately absent: reading files, judging who made a part, and running anything.
//! Imports and exports that are no interfaces (plain functions, types, modules) can't be
//! connected.

mod compare;
mod encode;
mod name;
mod part;
mod plug;
mod union;
mod wit;

use std::fmt;

use qyvol_types::escape;
use thiserror::Error;

pub use self::compare::Difference;
pub use self::plug::{Dependency, plug};
pub use self::wit::{check_embedded, wit};

use self::part::Part;

/// Components, and how their imports and exports are connected.
#[derive(Default)]
pub struct Composition {
    parts: Vec<Part>,
    links: Vec<Link>,
    exports: Vec<Exported>,
}

/// A part of a composition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartId(usize);

/// An import that an export of another part satisfies.
struct Link {
    importer: PartId,
    import: String,
    exporter: PartId,
    export: String,
}

/// An export of a part that is one of the result.
struct Exported {
    part: PartId,
    export: String,
    name: String,
}

/// What is wrong with a composition.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Problem {
    /// A part can't be linked to others at all.
    #[error("{}: {why}", escape(part))]
    Part {
        /// The part.
        part: String,
        /// Why.
        why: String,
    },
    /// No import of the application is one that a dependency is named for.
    #[error(
        "`{}` is unused: {} imports no such interface{}",
        escape(key),
        escape(importer),
        listed("it imports", imports)
    )]
    Unused {
        /// What the dependency is named for.
        key: String,
        /// The application.
        importer: String,
        /// Imports that a dependency could be named for.
        imports: Vec<String>,
    },
    /// A key without a version fits imports of several versions.
    #[error(
        "`{}` fits several imports of {}: name a version{}",
        escape(key),
        escape(importer),
        listed("they are", imports)
    )]
    Ambiguous {
        /// What the dependency is named for.
        key: String,
        /// The application.
        importer: String,
        /// The imports.
        imports: Vec<String>,
    },
    /// Two dependencies are named for one import.
    #[error(
        "{} imports `{}` once, and it is a dependency under two keys: `{}` and `{}`",
        escape(importer),
        escape(import),
        escape(first),
        escape(second)
    )]
    Twice {
        /// The application.
        importer: String,
        /// The import.
        import: String,
        /// A key.
        first: String,
        /// Another.
        second: String,
    },
    /// A part lacks an export.
    #[error(
        "{} does not export `{}`{}",
        escape(exporter),
        escape(export),
        listed("it exports", exports)
    )]
    NoExport {
        /// The part.
        exporter: String,
        /// What was to be found.
        export: String,
        /// What it exports.
        exports: Vec<String>,
    },
    /// A part lacks an import.
    #[error(
        "{} does not import `{}`{}",
        escape(importer),
        escape(import),
        listed("it imports", imports)
    )]
    NoImport {
        /// The part.
        importer: String,
        /// What was to be found.
        import: String,
        /// What it imports.
        imports: Vec<String>,
    },
    /// An import and an export have different types.
    #[error(
        "{} imports `{}`, and {} exports `{}` with other types: {difference}",
        escape(importer),
        escape(import),
        escape(exporter),
        escape(export)
    )]
    Types {
        /// The part that imports.
        importer: String,
        /// Its import.
        import: String,
        /// The part that exports.
        exporter: String,
        /// Its export.
        export: String,
        /// Where they differ.
        difference: Difference,
    },
    /// Two parts import an interface with different types.
    #[error(
        "{} and {} import `{}` with different types: {difference}",
        escape(first),
        escape(second),
        escape(import)
    )]
    Imports {
        /// A part.
        first: String,
        /// Another.
        second: String,
        /// The interface.
        import: String,
        /// Where they differ.
        difference: Difference,
    },
    /// An import that stays uses types of one that was connected.
    #[error(
        "{} imports `{}`, which uses types of `{}`: both must be dependencies, or neither",
        escape(importer),
        escape(import),
        escape(uses)
    )]
    Uses {
        /// The part.
        importer: String,
        /// The import.
        import: String,
        /// The interface whose types it uses.
        uses: String,
    },
    /// An export has types of an interface that was connected.
    #[error(
        "{} exports `{}` with types of `{}`, which a dependency provides, so that the result has no name for them: \
         declare these types in an interface of the application",
        escape(exporter),
        escape(export),
        escape(uses)
    )]
    ExportUses {
        /// The part.
        exporter: String,
        /// The export.
        export: String,
        /// The interface whose types it has.
        uses: String,
    },
    /// Parts need each other.
    #[error("{} depend on one another", escape(&parts.join(", ")))]
    Cycle {
        /// The parts, or interfaces.
        parts: Vec<String>,
    },
    /// Two exports of the result have one name.
    #[error(
        "`{}` is exported twice, by {} and {}",
        escape(export),
        escape(first),
        escape(second)
    )]
    ExportTwice {
        /// The name.
        export: String,
        /// A part.
        first: String,
        /// Another.
        second: String,
    },
    /// The result would not be valid.
    #[error("the linked component is not valid: {}", escape(why))]
    Invalid {
        /// The validator's message.
        why: String,
    },
}

/// Everything that is wrong with a composition, at least one problem.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct ComposeError(pub Vec<Problem>);

impl fmt::Display for ComposeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { "; " };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl From<Problem> for ComposeError {
    fn from(problem: Problem) -> ComposeError {
        ComposeError(vec![problem])
    }
}

/// Names that a message lists.
const MAX_LISTED: usize = 8;

fn listed(what: &str, names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let shown: Vec<String> = names
        .iter()
        .take(MAX_LISTED)
        .map(|name| format!("`{}`", escape(name)))
        .collect();
    let more = match names.len().saturating_sub(MAX_LISTED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(" ({what} {}{more})", shown.join(", "))
}

impl Composition {
    /// Adds a component. `label` names it in messages.
    pub fn add(&mut self, label: &str, component: &[u8]) -> Result<PartId, ComposeError> {
        let part = Part::read(label, component)?;
        self.parts.push(part);
        Ok(PartId(self.parts.len() - 1))
    }

    /// The interfaces that a part imports, as in its component.
    pub fn imports(&self, part: PartId) -> impl Iterator<Item = &str> {
        self.parts
            .get(part.0)
            .into_iter()
            .flat_map(|part| part.imports.keys().map(String::as_str))
    }

    /// What a part exports, in the order of its component.
    pub fn exports(&self, part: PartId) -> impl Iterator<Item = &str> {
        self.parts
            .get(part.0)
            .into_iter()
            .flat_map(|part| part.exports.iter().map(|export| export.name.as_str()))
    }

    /// Connects an import of one part to an export of another. Both are interfaces, whose names
    /// may differ; their types may not, but an export may have more than the import.
    pub fn connect(&mut self, importer: PartId, import: &str, exporter: PartId, export: &str) -> Result<(), Problem> {
        let (to, from) = (self.part(importer)?, self.part(exporter)?);
        let Some(wanted) = to.imports.get(import) else {
            return Err(Problem::NoImport {
                importer: to.label.clone(),
                import: import.to_string(),
                imports: to.imports.keys().cloned().collect(),
            });
        };
        let Some(offered) = from.interface(export) else {
            return Err(Problem::NoExport {
                exporter: from.label.clone(),
                export: export.to_string(),
                exports: from.interfaces().map(|(name, _)| name.to_string()).collect(),
            });
        };
        compare::satisfies((&to.resolve, wanted), (&from.resolve, offered)).map_err(|difference| Problem::Types {
            importer: to.label.clone(),
            import: import.to_string(),
            exporter: from.label.clone(),
            export: export.to_string(),
            difference,
        })?;
        if let Some(before) = self.linked(importer, import) {
            return Err(Problem::Part {
                part: to.label.clone(),
                why: format!(
                    "its import `{}` is connected already, to `{}`",
                    escape(import),
                    escape(&before.export)
                ),
            });
        }
        self.links.push(Link {
            importer,
            import: import.to_string(),
            exporter,
            export: export.to_string(),
        });
        Ok(())
    }

    /// Exports from the result what a part exports as `export`, under `name`.
    pub fn export(&mut self, part: PartId, export: &str, name: &str) -> Result<(), Problem> {
        let of = self.part(part)?;
        if !of.exports.iter().any(|own| own.name == export) {
            return Err(Problem::NoExport {
                exporter: of.label.clone(),
                export: export.to_string(),
                exports: of.exports.iter().map(|own| own.name.clone()).collect(),
            });
        }
        if let Some(before) = self.exports.iter().find(|before| before.name == name) {
            return Err(Problem::ExportTwice {
                export: name.to_string(),
                first: self.part(before.part)?.label.clone(),
                second: of.label.clone(),
            });
        }
        self.exports.push(Exported {
            part,
            export: export.to_string(),
            name: name.to_string(),
        });
        Ok(())
    }

    /// Exports all that a part exports, under the same names.
    pub fn export_all(&mut self, part: PartId) -> Result<(), Problem> {
        let names: Vec<String> = self.exports(part).map(str::to_string).collect();
        names.iter().try_for_each(|name| self.export(part, name, name))
    }

    /// The linked component.
    pub fn encode(&self) -> Result<Vec<u8>, ComposeError> {
        encode::encode(self)
    }

    fn part(&self, id: PartId) -> Result<&Part, Problem> {
        self.parts.get(id.0).ok_or_else(|| Problem::Part {
            part: format!("part {}", id.0),
            why: "it is of another composition".to_string(),
        })
    }

    fn linked(&self, importer: PartId, import: &str) -> Option<&Link> {
        self.links
            .iter()
            .find(|link| link.importer == importer && link.import == import)
    }
}

#[cfg(test)]
mod tests;
