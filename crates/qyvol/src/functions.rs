//! Functions that a manifest names: checked when an image is built, and found with their
//! limits and instances when they are called.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use qyvol_compose::Composition;
use qyvol_image::{ImageBuilder, ImageError, Source};
use qyvol_runtime::{
    CallLimits, Callee, Caller, Function, FunctionError, Functions, Generation, RunLimits, RuntimeError,
};
use qyvol_types::{AppFunction, AppManifest, Pool, Resources, escape};

use crate::Error;

/// Refuses functions and processes that the component does not have, a process with
/// parameters, and imports that a function's manifest does not list.
pub(crate) fn check(label: &str, builder: &ImageBuilder) -> Result<(), Error> {
    let app = builder.app();
    if app.functions.is_empty() && app.processes.is_empty() {
        return Ok(());
    }
    let exported = qyvol_image::functions(builder.component()).map_err(Error::image(label))?;
    let refused = |place: String, why: &dyn Display| Error::image(label)(ImageError::Wasm(format!("{place}: {why}")));
    let find = |method: &str| {
        let names = exported.iter().map(|one| (one.interface.as_deref(), one.name.as_str()));
        qyvol_runtime::find_by_name(names, method).map(|place| &exported[place])
    };
    for (name, function) in &app.functions {
        find(method(name, function)).map_err(|why| refused(format!("functions.{name}"), &why))?;
    }
    for (name, process) in &app.processes {
        let found = find(&process.method).map_err(|why| refused(format!("processes.{name}"), &why))?;
        if let [first, ..] = found.parameters.as_slice() {
            let (method, first) = (escape(&process.method), escape(first));
            let why = format!("{method} takes arguments (the first is `{first}`), and a process is given none");
            return Err(refused(format!("processes.{name}.method"), &why));
        }
    }
    let imports = &builder.payload().imports;
    let generation = Generation::of_names(imports, &builder.payload().exports);
    check_pools(app, generation).map_err(|why| Error::NotPermitted {
        target: label.to_string(),
        why,
    })?;
    for (name, function) in &app.functions {
        let Some(listed) = &function.imports else { continue };
        let is_listed = |import: &&String| listed.iter().any(|entry| covers(entry, import));
        let others: Vec<String> = imports
            .iter()
            .filter(|import| !is_listed(import))
            .map(|import| escape(import).to_string())
            .collect();
        if !others.is_empty() {
            return Err(Error::NotPermitted {
                target: label.to_string(),
                why: format!(
                    "functions.{name} imports {}, which its `imports` does not list",
                    others.join(", ")
                ),
            });
        }
    }
    Ok(())
}

/// Joins components of functions into one.
pub(crate) fn join(sources: &[Source]) -> Result<Vec<u8>, String> {
    let mut composition = Composition::default();
    for source in sources {
        let part = composition
            .add(&source.label, &source.component)
            .map_err(|e| e.to_string())?;
        for name in &source.functions {
            composition.export(part, name, name).map_err(|e| e.to_string())?;
        }
    }
    composition.encode().map_err(|e| e.to_string())
}

/// Refuses pools for a component whose instances can't be reused.
pub(crate) fn check_pools(app: &AppManifest, generation: Generation) -> Result<(), String> {
    let kept = app
        .functions
        .iter()
        .find(|(_, function)| function.pool.instances().is_some());
    match kept {
        Some((name, _)) if generation == Generation::Concurrent => Err(format!(
            "functions.{name} has a pool, and the component is of WASI 0.3, where what one call has begun can go on in the instance after its end"
        )),
        _ => Ok(()),
    }
}

/// Whether an entry of `imports` is an import's package or interface, or all of its name.
fn covers(entry: &str, import: &str) -> bool {
    let interface = import.split_once('@').map_or(import, |(interface, _)| interface);
    let package = interface.split_once('/').map_or(interface, |(package, _)| package);
    [import, interface, package].contains(&entry)
}

/// The component's function that a name of the manifest refers to.
fn method<'a>(name: &'a str, function: &'a AppFunction) -> &'a str {
    function.method.as_deref().unwrap_or(name)
}

/// Instances that the pools of a manifest's functions may have, all together.
pub(crate) fn instances(app: &AppManifest) -> usize {
    let each = app.functions.values().filter_map(|function| function.pool.instances());
    each.fold(0, usize::saturating_add)
}

/// Whether a function of the manifest counts fuel.
pub(crate) fn metered(app: &AppManifest) -> bool {
    app.functions.values().any(|function| function.limits.fuel.is_some())
}

/// A function, and its entry in the manifest, if there is one.
pub(crate) struct Found {
    pub(crate) function: Function,
    of: Option<AppFunction>,
}

/// Looks a function up: one that the manifest names comes first.
pub(crate) fn find(app: &AppManifest, functions: &Functions, name: &str) -> Result<Found, FunctionError> {
    let of = app.functions.get(name);
    let function = functions.find(of.map_or(name, |of| method(name, of)))?;
    Ok(Found {
        function,
        of: of.cloned(),
    })
}

/// All functions that the manifest names.
pub(crate) fn named(app: &AppManifest, functions: &Functions) -> Result<BTreeMap<String, Found>, FunctionError> {
    let names = app.functions.keys();
    names
        .map(|name| Ok((name.clone(), find(app, functions, name)?)))
        .collect()
}

impl Found {
    /// The function with its caller. `run` and `limits` are those of the application: its own
    /// limits are at most these. Instances are kept only for calls of one user.
    pub(crate) fn bind_pooled(
        self,
        caller: &Caller,
        run: RunLimits,
        limits: CallLimits,
    ) -> Result<Callee, RuntimeError> {
        let pool = self.of.as_ref().map(|of| of.pool);
        self.bind_with(caller, run, limits, pool.as_ref())
    }

    /// The same, where each call has an instance of its own.
    pub(crate) fn bind(self, caller: &Caller, run: RunLimits, limits: CallLimits) -> Result<Callee, RuntimeError> {
        self.bind_with(caller, run, limits, None)
    }

    fn bind_with(
        self,
        caller: &Caller,
        run: RunLimits,
        limits: CallLimits,
        pool: Option<&Pool>,
    ) -> Result<Callee, RuntimeError> {
        let caller = match &self.of {
            Some(of) => {
                let (run, limits) = lowered(run, limits, &of.limits);
                caller.for_function(run, limits, pool)?
            }
            None => caller.clone(),
        };
        Ok(Callee {
            function: self.function,
            caller,
        })
    }
}

/// The lower of an application's limits and those of one of its functions.
pub(crate) fn lowered(run: RunLimits, call: CallLimits, own: &Resources) -> (RunLimits, CallLimits) {
    let least = |one: Option<u64>, other: Option<u64>| one.into_iter().chain(other).min();
    let time =
        |one: Option<Duration>, other: Option<u64>| one.into_iter().chain(other.map(Duration::from_millis)).min();
    let run = RunLimits {
        memory: least(run.memory, own.memory),
        fuel: least(run.fuel, own.fuel),
        output: least(run.output, own.output),
        files: least(run.files, own.files),
        sockets: least(run.sockets, own.sockets),
    };
    let call = CallLimits {
        time: time(call.time, own.timeout),
        cpu: time(call.cpu, own.cpu),
        ..call
    };
    (run, call)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_covers_a_package_an_interface_or_one_version() {
        let import = "wasi:clocks/wall-clock@0.2.0";
        for entry in ["wasi:clocks", "wasi:clocks/wall-clock", import] {
            assert!(covers(entry, import), "{entry}");
        }
        for entry in [
            "wasi",
            "wasi:clock",
            "wasi:clocks/wall",
            "wasi:clocks@0.2.0",
            "wasi:clocks/wall-clock@0.2.1",
        ] {
            assert!(!covers(entry, import), "{entry}");
        }
    }

    #[test]
    fn limit_of_a_function_is_at_most_that_of_its_application() {
        let run = RunLimits {
            memory: Some(10),
            ..RunLimits::default()
        };
        let mut own = Resources::default();
        for limit in ["memory=20", "timeout=2s", "files=3"] {
            own.set(limit).unwrap();
        }
        let call = CallLimits {
            time: Some(Duration::from_secs(1)),
            ..CallLimits::default()
        };
        let (run, call) = lowered(run, call, &own);
        assert_eq!((run.memory, run.files, run.fuel), (Some(10), Some(3), None));
        assert_eq!((call.time, call.cpu), (Some(Duration::from_secs(1)), None));
    }
}
