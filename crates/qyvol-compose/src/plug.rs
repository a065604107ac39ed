//! An application and its dependencies.

use qyvol_types::WitName;

use crate::{ComposeError, Composition, PartId, Problem};

/// A component that satisfies imports of the application.
#[derive(Clone, Copy, Debug)]
pub struct Dependency<'a> {
    /// Its name in messages.
    pub label: &'a str,
    /// The interfaces, or packages of interfaces, that it provides.
    pub keys: &'a [&'a WitName],
    /// Its component.
    pub component: &'a [u8],
}

/// Links an application with its dependencies into one component, which exports what the
/// application exports.
///
/// A key names the imports that a dependency must satisfy: each must be an import of the
/// application, and the dependency must export it, in the same version or one that is
/// compatible by SemVer. A dependency has one instance, whatever it satisfies. Every
/// key that is unused, and every import that can't be satisfied, is reported.
pub fn plug(label: &str, application: &[u8], dependencies: &[Dependency<'_>]) -> Result<Vec<u8>, ComposeError> {
    let mut composition = Composition::default();
    let application = composition.add(label, application)?;
    let mut problems = Vec::new();
    let mut taken: Vec<(String, &WitName)> = Vec::new();
    for dependency in dependencies {
        let part = match composition.add(dependency.label, dependency.component) {
            Ok(part) => part,
            Err(ComposeError(more)) => {
                problems.extend(more);
                continue;
            }
        };
        for key in dependency.keys {
            if let Err(more) = connect(&mut composition, application, part, key, &mut taken) {
                problems.extend(more);
            }
        }
    }
    if let Err(problem) = composition.export_all(application) {
        problems.push(problem);
    }
    match problems.is_empty() {
        true => composition.encode(),
        false => Err(ComposeError(problems)),
    }
}

fn connect<'a>(
    composition: &mut Composition,
    application: PartId,
    part: PartId,
    key: &'a WitName,
    taken: &mut Vec<(String, &'a WitName)>,
) -> Result<(), Vec<Problem>> {
    let importer = composition.part(application).map_err(|problem| vec![problem])?;
    let exporter = composition.part(part).map_err(|problem| vec![problem])?;
    let (importer, exporter) = (importer.label.clone(), exporter.label.clone());
    let all: Vec<String> = composition.imports(application).map(str::to_string).collect();
    let wanted: Vec<String> = all.iter().filter(|import| key.covers(import)).cloned().collect();
    if wanted.is_empty() {
        return Err(vec![Problem::Unused {
            key: key.to_string(),
            importer,
            // An interface of the host needs no dependency.
            imports: all.into_iter().filter(|import| !import.starts_with("wasi:")).collect(),
        }]);
    }
    if let Some(several) = key.ambiguous_among(&wanted) {
        return Err(vec![Problem::Ambiguous {
            key: key.to_string(),
            importer,
            imports: several,
        }]);
    }
    let mut problems = Vec::new();
    for import in wanted {
        if let Some((_, first)) = taken.iter().find(|(taken, _)| *taken == import) {
            problems.push(Problem::Twice {
                importer: importer.clone(),
                import,
                first: first.to_string(),
                second: key.to_string(),
            });
            continue;
        }
        let offers: Vec<String> = composition.exports(part).map(str::to_string).collect();
        match best(&import, &offers) {
            Some(export) => problems.extend(composition.connect(application, &import, part, export).err()),
            None => problems.push(Problem::NoExport {
                exporter: exporter.clone(),
                export: import.clone(),
                exports: offers,
            }),
        }
        taken.push((import, key));
    }
    match problems.is_empty() {
        true => Ok(()),
        false => Err(problems),
    }
}

/// The export with an import's exact name, or the newest compatible one.
fn best<'o>(import: &str, offers: &'o [String]) -> Option<&'o str> {
    if let Some(same) = offers.iter().find(|offer| *offer == import) {
        return Some(same);
    }
    let wanted: WitName = import.parse().ok()?;
    let compatible = offers.iter().filter_map(|offer| {
        let name: WitName = offer.parse().ok()?;
        wanted.is_compatible(&name).then(|| (name.version().cloned(), offer))
    });
    compatible.max().map(|(_, offer)| offer.as_str())
}
