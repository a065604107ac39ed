//! WebAssembly core dumps: the stack, memories and globals of a guest that has trapped
//! (WebAssembly/tool-conventions, `Coredump.md`).

use wasmtime::{Module, Store, ValType, WasmCoreDump};

use crate::RuntimeError;

/// The core dump of a guest whose call returned `error`; none if that is no trap. It takes as
/// much memory as the guest. `name` is that of the program.
pub(crate) fn of<S: 'static>(
    error: &wasmtime::Error,
    store: &mut Store<S>,
    name: &str,
) -> Result<Option<Vec<u8>>, RuntimeError> {
    let Some(dump) = error.downcast_ref::<WasmCoreDump>() else {
        return Ok(None);
    };
    let lacks = |what: &str| RuntimeError::Host(format!("it trapped, and there is no core dump: {what}"));
    // wasmtime panics if its format can't represent what the guest has.
    let is_known = |ty: &ValType| {
        let top = ty.as_ref().map(|ty| ty.heap_type().top());
        top.is_none_or(|top| top.is_extern() || top.is_func() || top.is_any())
    };
    if !dump
        .globals()
        .iter()
        .all(|global| is_known(global.ty(&*store).content()))
    {
        return Err(lacks("it has globals of a type that core dumps don't have"));
    }
    let is_there = |module: &Module| {
        let mut instances = dump.instances().iter();
        instances.any(|instance| Module::same(instance.module(&*store), module))
    };
    if !dump.frames().iter().all(|frame| is_there(frame.module())) {
        return Err(lacks("its stack has functions of no instance"));
    }
    Ok(Some(dump.serialize(store, name)))
}
