//! A container image that holds one WebAssembly file, as tools build it that
//! know no artifacts: the entrypoint of its config says which file.
//!
//! Deliberately absent: what the config says of users, volumes and ports, which
//! mean nothing to a component; arguments and environment are told as left out.

use qyvol_image::{ImageError, find_wasm};
use qyvol_remote::Repository;
use qyvol_store::VerifyReader;
use qyvol_types::foreign::{Compression, LayerKind};
use qyvol_types::{Descriptor, Digest, escape, json, limits};
use serde::Deserialize;

use super::artifact::broken;
use crate::install::Counted;
use crate::{Context, Error};

/// A container image with a component somewhere in its files.
pub(super) struct Container {
    /// The component's path, without a leading `/`; none where nothing says it.
    path: Option<String>,
    /// Layers of files, the topmost first.
    layers: Vec<(Descriptor, Compression)>,
}

/// What came of it.
pub(super) struct Taken {
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
        let config: Config =
            json::decode(config).map_err(|why| Error::malformed(label)(format!("its config is {why}")))?;
        let run = config.config.unwrap_or_default();
        let mut words = run.entrypoint.into_iter().chain(run.cmd).flatten();
        let program = words.next();
        let is_wasm = matches!(config.architecture.as_str(), "wasm" | "wasm32");
        if !is_wasm && !program.as_ref().is_some_and(|program| program.ends_with(".wasm")) {
            let (os, architecture) = (escape(&config.os), escape(&config.architecture));
            let why = format!("it is a container image for {os}/{architecture}, and no WebAssembly");
            return Err(Error::malformed(label)(why));
        }
        let mut left_out = Vec::new();
        let arguments: Vec<String> = words.map(|word| escape(&word).to_string()).collect();
        if !arguments.is_empty() {
            left_out.push(format!("its arguments: {}", arguments.join(" ")));
        }
        if let Some(env) = run.env.filter(|env| !env.is_empty()) {
            let names = env.iter().map(|pair| pair.split('=').next().unwrap_or_default());
            let names: Vec<String> = names.map(|name| escape(name).to_string()).collect();
            left_out.push(format!("its environment: {}", names.join(", ")));
        }
        let mut found = Vec::new();
        for layer in layers.iter().rev() {
            match layer.foreign_kind() {
                LayerKind::Files(compression) => found.push((layer.clone(), compression)),
                _ => left_out.push(format!("{} {}", layer.digest, escape(&layer.media_type))),
            }
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
        let container = Container {
            path: program.map(|program| path(&program, run.working_dir.as_deref())),
            layers: found,
        };
        Ok((container, left_out))
    }

    /// Fetches layers, the topmost first, until one has the component.
    pub(super) fn fetch(&self, ctx: &Context<'_>, label: &str, repository: &Repository) -> Result<Taken, Error> {
        let mut left_out = Vec::new();
        for (index, (layer, compression)) in self.layers.iter().enumerate() {
            ctx.report.started("fetching", Some(layer.size));
            let mut body = repository.foreign_blob(layer);
            let body = VerifyReader::new(Counted { body: &mut body, ctx }, layer);
            let found = find_wasm(body, *compression, self.path.as_deref())
                .map_err(|error| broken(label, repository, error))?;
            ctx.report.finished();
            left_out.extend(found.others.iter().map(|path| format!("the file {}", escape(path))));
            if found.other_count > found.others.len() {
                left_out.push(format!("{} more files", found.other_count - found.others.len()));
            }
            if let Some((_, component)) = found.wasm {
                let below = self.layers.get(index + 1..).unwrap_or_default();
                left_out.extend(
                    below
                        .iter()
                        .map(|(layer, _)| format!("the files of layer {}", layer.digest)),
                );
                return Ok(Taken {
                    component,
                    layer: layer.digest,
                    left_out,
                });
            }
            if found.removed {
                break;
            }
        }
        Err(Error::malformed(label)(match &self.path {
            Some(path) => format!("its entrypoint `{}` is not among its files", escape(path)),
            None => "it has no file whose name ends in .wasm".to_string(),
        }))
    }
}

/// The path of a program without a leading `/`.
fn path(program: &str, working_dir: Option<&str>) -> String {
    let whole = match program.starts_with('/') {
        true => program.to_string(),
        false => format!("{}/{program}", working_dir.unwrap_or_default()),
    };
    let parts = whole.split('/').filter(|part| !part.is_empty() && *part != ".");
    parts.collect::<Vec<_>>().join("/")
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
            assert_eq!(path(program, directory), expected);
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
        // As images were built before there was a platform for it.
        assert!(new(r#"{"architecture":"amd64","os":"linux","config":{"Cmd":["/a.wasm"]}}"#).is_ok());
        for bad in [
            r#"{"architecture":"amd64","os":"linux","config":{"Cmd":["/bin/sh"]}}"#,
            r#"{"architecture":"amd64","os":"linux"}"#,
            "{}",
            "[",
        ] {
            assert!(matches!(new(bad), Err(Error::Malformed { .. })), "{bad}");
        }
    }
}
