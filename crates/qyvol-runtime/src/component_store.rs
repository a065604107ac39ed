//! A store for an instance of a component.

use wasmtime::Store;

use crate::RuntimeError;
use crate::component::ComponentState;
use crate::link::Linked;
use crate::net::Network;
use crate::output::OutputBudget;
use crate::program::Program;
use crate::spec::{Guest, RunSpec};

impl Program {
    /// A store for an instance, with all that `spec` grants it and its limits.
    /// `budget` is how much it may write to stdout and stderr.
    pub(crate) fn component_store(
        &self,
        spec: &RunSpec,
        guest: Guest,
        network: Network,
        budget: Option<OutputBudget>,
        linked: Linked,
    ) -> Result<Store<ComponentState>, RuntimeError> {
        let state = ComponentState::new(spec, guest, network, budget, linked.http)?;
        let mut store = self.store(state, spec)?;
        store.limiter(|state| &mut state.limits);
        let handles = store.max_component_handles();
        store.data_mut().limits.component_handles = handles;
        Ok(store)
    }
}
