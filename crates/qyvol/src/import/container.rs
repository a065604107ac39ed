//! A container image with one WebAssembly file, as tools without support for artifacts build
//! it: the entrypoint of its config names the file.
//!
//! Strict, because a tool that checked the image may have seen another file than the one that
//! is signed here: every layer must be readable, no link is followed, and what a layer removes
//! is not searched below it.
//!
//! Deliberately absent: users, volumes and ports of the config, which mean nothing to a
//! component; arguments and environment are reported as left out.

use qyvol_image::{FoundFiles, ImageError, Wanted, find_wasm};
use qyvol_remote::Repository;
use qyvol_store::VerifyReader;
use qyvol_types::foreign::{Compression, LayerKind};
use qyvol_types::{Descriptor, Digest, json, limits};
use serde::Deserialize;

use super::{MAX_LISTED, shown, unreadable_layer};
use crate::install::ProgressReader;
use crate::{Context, Error};

/// A container image with a component somewhere in its files.
pub(super) struct Container {
    /// The component's path, without a leading `/`; none if it is not stated.
    path: Option<String>,
    /// Layers of files, the topmost first.
    layers: Vec<(Descriptor, Compression)>,
}

/// Fields of a config that are read. Go's tools read them whatever their case.
const FIELDS: [&str; 7] = ["architecture", "os", "config", "Entrypoint", "Cmd", "WorkingDir", "Env"];
/// Fields of a config whose values have names of their own.
const MAPS: [&str; 3] = ["Labels", "Volumes", "ExposedPorts"];
/// Words of the config that are reported.
const WORDS: usize = 20;

/// The extracted component.
pub(super) struct ExtractedComponent {
    pub(super) component: Vec<u8>,
    pub(super) layer: Digest,
    pub(super) left_out: Vec<String>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    config: Option<Run>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Run {
    #[serde(default)]
    entrypoint: Option<Vec<String>>,
    #[serde(default)]
    cmd: Option<Vec<String>>,
    #[serde(default)]
    working_dir: Option<String>,
    #[serde(default)]
    env: Option<Vec<String>>,
}

impl Container {
    /// Reads the config of an image with these layers; what of the config is
    /// left out.
    pub(super) fn new(label: &str, config: &[u8], layers: &[Descriptor]) -> Result<(Container, Vec<String>), Error> {
        let bad = |why| Error::malformed(label)(format!("its config is {why}"));
        json::check_case(config, &FIELDS, &MAPS).map_err(bad)?;
        let config: Config = json::decode(config).map_err(bad)?;
        let run = config.config.unwrap_or_default();
        let mut words = run.entrypoint.into_iter().chain(run.cmd).flatten();
        let program = words.next();
        let is_wasm = matches!(config.architecture.as_str(), "wasm" | "wasm32");
        if !is_wasm && !program.as_ref().is_some_and(|program| program.ends_with(".wasm")) {
            let (os, architecture) = (shown(&config.os), shown(&config.architecture));
            let why = format!("it is a container image for {os}/{architecture}, not WebAssembly");
            return Err(Error::malformed(label)(why));
        }
        let mut left_out = Vec::new();
        let arguments: Vec<String> = words.collect();
        if !arguments.is_empty() {
            left_out.push(format!(
                "its arguments: {}",
                some(arguments.iter().map(String::as_str), " ")
            ));
        }
        if let Some(env) = run.env.filter(|env| !env.is_empty()) {
            let names = env.iter().map(|pair| pair.split('=').next().unwrap_or_default());
            left_out.push(format!("its environment: {}", some(names, ", ")));
        }
        let mut found = Vec::new();
        for layer in layers.iter().rev() {
            let LayerKind::Files(compression) = layer.foreign_kind() else {
                let (digest, kind) = (layer.digest, shown(&layer.media_type));
                let why = format!("its layer {digest} is of the type {kind}, which can't be searched");
                return Err(Error::malformed(label)(why));
            };
            found.push((layer.clone(), compression));
        }
        let limit = |what, got, limit| Err(Error::image(label)(ImageError::Limit { what, got, limit }));
        if found.len() > limits::IMPORT_LAYERS {
            return limit(
                "number of layers of files",
                found.len() as u64,
                limits::IMPORT_LAYERS as u64,
            );
        }
        if let Some((large, _)) = found.iter().find(|(layer, _)| layer.size > limits::IMPORT_LAYER_BYTES) {
            return limit(
                "size of a layer of files in bytes",
                large.size,
                limits::IMPORT_LAYER_BYTES,
            );
        }
        let path = program.map(|program| {
            path(&program, run.working_dir.as_deref()).ok_or_else(|| {
                let why = format!("its entrypoint `{}` is not a plain path", shown(&program));
                Error::malformed(label)(why)
            })
        });
        let container = Container {
            path: path.transpose()?,
            layers: found,
        };
        Ok((container, left_out))
    }

    /// Fetches layers until the component is found.
    pub(super) fn fetch(
        &self,
        ctx: &Context<'_>,
        label: &str,
        repository: &Repository,
    ) -> Result<ExtractedComponent, Error> {
        let read = |layer: usize, wanted: &Wanted<'_>, names: usize| {
            let Some((layer, compression)) = self.layers.get(layer) else {
                return Ok(FoundFiles::default());
            };
            ctx.report.started("fetching", Some(layer.size));
            let mut body = repository.foreign_blob(layer);
            let body = VerifyReader::new(ProgressReader { body: &mut body, ctx }, layer);
            let found = find_wasm(body, *compression, wanted, names)
                .map_err(|error| unreadable_layer(label, repository, error))?;
            ctx.report.finished();
            Ok(found)
        };
        match &self.path {
            Some(path) => self.named(label, path, read),
            None => self.only(label, read),
        }
    }

    /// The program that the config names: from the top, the first layer that has it, removes it
    /// or replaces it.
    fn named(
        &self,
        label: &str,
        path: &str,
        read: impl Fn(usize, &Wanted<'_>, usize) -> Result<FoundFiles, Error>,
    ) -> Result<ExtractedComponent, Error> {
        let mut others = OmittedFiles::default();
        for (index, (layer, _)) in self.layers.iter().enumerate() {
            let found = read(index, &Wanted::Path(path), others.room())?;
            others.add(&found);
            if let Some((_, component)) = found.wasm {
                let mut left_out = others.names();
                let below = self.layers.get(index + 1..).unwrap_or_default();
                left_out.extend(
                    below
                        .iter()
                        .map(|(layer, _)| format!("the files of layer {}", layer.digest)),
                );
                return Ok(ExtractedComponent {
                    component,
                    layer: layer.digest,
                    left_out,
                });
            }
            if found.removed.is_some() {
                return Err(removed(label, path, index == 0));
            }
        }
        let why = format!("its entrypoint `{}` is not among its files", shown(path));
        Err(Error::malformed(label)(why))
    }

    /// The only program in all layers together, from the bottom up: what upper layers remove
    /// must be known.
    fn only(
        &self,
        label: &str,
        read: impl Fn(usize, &Wanted<'_>, usize) -> Result<FoundFiles, Error>,
    ) -> Result<ExtractedComponent, Error> {
        let mut others = OmittedFiles::default();
        let mut paths: Vec<String> = Vec::new();
        let mut last = None;
        for (index, (layer, _)) in self.layers.iter().enumerate().rev() {
            let mut found = read(index, &Wanted::Any(&paths), MAX_LISTED)?;
            found.others.truncate(others.room());
            others.add(&found);
            if let Some(path) = found.removed {
                return Err(removed(label, &path, false));
            }
            let Some((path, component)) = found.wasm else { continue };
            for path in std::iter::once(path).chain(found.more) {
                if !paths.contains(&path) && paths.len() <= MAX_LISTED {
                    paths.push(path);
                }
            }
            // One is enough, and several are not taken.
            last = Some((component, layer.digest)).filter(|_| paths.len() == 1);
        }
        match (last, paths.is_empty()) {
            (Some((component, layer)), _) => Ok(ExtractedComponent {
                component,
                layer,
                left_out: others.names(),
            }),
            (None, true) => Err(Error::malformed(label)("it has no file whose name ends in .wasm")),
            (None, false) => Err(Error::Layers {
                target: label.to_string(),
                why: "it has several .wasm files, and no entrypoint that names one".to_string(),
                layers: paths.iter().take(MAX_LISTED).map(|path| shown(path)).collect(),
                are_files: true,
            }),
        }
    }
}

/// Files that are left out.
#[derive(Default)]
struct OmittedFiles {
    names: Vec<String>,
    count: usize,
}

impl OmittedFiles {
    /// How many more names are kept.
    fn room(&self) -> usize {
        MAX_LISTED.saturating_sub(self.names.len())
    }

    fn add(&mut self, found: &FoundFiles) {
        self.names
            .extend(found.others.iter().map(|path| format!("the file {}", shown(path))));
        self.count += found.other_count;
    }

    fn names(self) -> Vec<String> {
        let more = self.count - self.names.len();
        let more = (more > 0).then(|| format!("{more} more files"));
        self.names.into_iter().chain(more).collect()
    }
}

/// Some words of the config, each no longer than can be read.
fn some<'w>(words: impl ExactSizeIterator<Item = &'w str>, between: &str) -> String {
    let more = words.len().saturating_sub(WORDS);
    let text: Vec<String> = words.take(WORDS).map(shown).collect();
    match more {
        0 => text.join(between),
        more => format!("{}{between}and {more} more", text.join(between)),
    }
}

fn removed(label: &str, path: &str, is_top: bool) -> Error {
    let path = shown(path);
    Error::malformed(label)(match is_top {
        true => format!("`{path}` is removed or replaced by its topmost layer"),
        false => format!("`{path}` is removed or replaced by a higher layer"),
    })
}

/// The path of a program without a leading `/`; none if it would have to be resolved, or names
/// no file.
fn path(program: &str, working_dir: Option<&str>) -> Option<String> {
    let whole = match program.starts_with('/') {
        true => program.to_string(),
        false => format!("{}/{program}", working_dir.unwrap_or_default()),
    };
    let parts: Vec<&str> = whole
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    let is_plain = !parts.is_empty() && !parts.contains(&"..") && !whole.ends_with('/');
    is_plain.then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_of_the_entrypoint_is_from_the_root() {
        for (program, directory, expected) in [
            ("/app.wasm", None, "app.wasm"),
            ("app.wasm", None, "app.wasm"),
            ("./app.wasm", Some("/srv/"), "srv/app.wasm"),
            ("/a//b.wasm", Some("/srv"), "a/b.wasm"),
        ] {
            assert_eq!(path(program, directory).as_deref(), Some(expected));
        }
        for (program, directory) in [
            ("/x/../app.wasm", None),
            ("app.wasm", Some("/srv/..")),
            ("/", None),
            ("", None),
            ("/app.wasm/", None),
        ] {
            assert_eq!(path(program, directory), None, "{program}");
        }
    }

    // [REG-029]
    #[test]
    fn container_of_another_platform_is_refused() {
        let layer = Descriptor::of("application/vnd.oci.image.layer.v1.tar+gzip", b"x");
        let layers = [layer.clone()];
        let new = |config: &str| Container::new("x", config.as_bytes(), &layers);
        let (container, left_out) =
            new(r#"{"architecture":"wasm","os":"wasi","config":{"Entrypoint":["/a.wasm","-v"],"Env":["A=b"]}}"#)
                .ok()
                .unwrap();
        assert_eq!(container.path.as_deref(), Some("a.wasm"));
        assert_eq!(left_out, ["its arguments: -v", "its environment: A"]);
        // Images that were built before there was a platform for WebAssembly.
        assert!(new(r#"{"architecture":"amd64","os":"linux","config":{"Cmd":["/a.wasm"]}}"#).is_ok());
        for bad in [
            r#"{"architecture":"amd64","os":"linux","config":{"Cmd":["/bin/sh"]}}"#,
            r#"{"architecture":"amd64","os":"linux"}"#,
            "{}",
            "[",
            // Go's tools use the later one.
            r#"{"architecture":"wasm","os":"wasi","config":{"Entrypoint":["/a.wasm"],"entrypoint":["/b.wasm"]}}"#,
            r#"{"architecture":"wasm","os":"wasi","config":{"Entrypoint":["/a/../b.wasm"]}}"#,
        ] {
            assert!(matches!(new(bad), Err(Error::Malformed { .. })), "{bad}");
        }
    }

    // [REG-029]
    #[test]
    fn container_with_a_layer_that_cant_be_searched_is_refused() {
        let config = br#"{"architecture":"wasm","os":"wasi","config":{"Entrypoint":["/a.wasm"],"Labels":{"env":"x"}}}"#;
        let below = Descriptor::of("application/vnd.oci.image.layer.v1.tar", b"x");
        let new = |kind: &str| Container::new("x", config, &[below.clone(), Descriptor::of(kind, b"y")]);
        assert!(new("application/vnd.docker.image.rootfs.diff.tar.zstd").is_ok());
        for bad in [
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "application/octet-stream",
        ] {
            let error = new(bad).err().unwrap();
            assert!(error.to_string().contains(bad), "{error}");
            assert!(matches!(error, Error::Malformed { .. }));
        }
    }

    // [REG-030]
    #[test]
    fn what_is_shown_of_a_config_is_bounded() {
        let words: Vec<String> = (0..1000)
            .map(|n| format!("\"{n}{}\"", "\\u0001".repeat(1000)))
            .collect();
        let words = words.join(",");
        let config =
            format!(r#"{{"architecture":"wasm","os":"wasi","config":{{"Cmd":["/a.wasm","-v"],"Env":[{words}]}}}}"#);
        let (_, left_out) = Container::new("x", config.as_bytes(), &[]).ok().unwrap();
        let length: usize = left_out.iter().map(String::len).sum();
        assert!(length < 50_000, "{length}");
        assert!(left_out[1].ends_with("and 980 more"));
    }
}
