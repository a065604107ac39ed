//! The state of a component's calls, whether it is a command or answers a request.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use qyvol_sandbox::Observer;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::filesystem::WasiFilesystemCtxView;
use wasmtime_wasi::sockets::WasiSocketsCtxView;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::body::{HostFutureTrailers, HostIncomingBody, HostOutgoingBody};
use wasmtime_wasi_http::p2::types::{
    HostFutureIncomingResponse, HostIncomingRequest, HostIncomingResponse, HostOutgoingRequest, HostOutgoingResponse,
    HostResponseOutparam,
};
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};

use crate::cut::Cut;
use crate::denials::Denials;
use crate::filesystem::FsView;
use crate::http::Http;
use crate::limits::{Count, HANDLES, HTTP_HANDLES, LISTINGS, Limits, request_handles};
use crate::net::{Lookups, NetView, Network};
use crate::output::OutputBudget;
use crate::process::{ProcessView, Programs};
use crate::quota::Quotas;
use crate::spec::{Guest, RunSpec, context};
use crate::watched::Watched;
use crate::{Identity, RuntimeError};

/// The state of a component's calls.
pub(crate) struct ComponentState {
    wasi: WasiCtx,
    pub(crate) table: ResourceTable,
    watched: Watched,
    quotas: Quotas,
    denials: Denials,
    files: Count,
    listings: Count,
    network: Network,
    lookups: Lookups,
    sockets: Count,
    /// Made for the first call that needs it.
    http: Option<Http>,
    programs: Programs,
    observer: Option<Arc<dyn Observer>>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) limits: Limits,
    /// When it is ended, if it is one of several.
    pub(crate) deadline: Option<Instant>,
    /// Cuts off the bodies of its requests.
    pub(crate) cut: Cut,
}

impl ComponentState {
    /// All that `spec` grants an instance, with its limits. `budget` is how much it may write
    /// to stdout and stderr, `has_http` whether it can make or answer requests.
    pub(crate) fn new(
        spec: &RunSpec,
        guest: Guest,
        network: Network,
        budget: Option<OutputBudget>,
        has_http: bool,
    ) -> Result<ComponentState, RuntimeError> {
        let mut wasi = context(spec, guest, budget)?;
        network.grant(&mut wasi);
        let mut table = ResourceTable::new();
        let mut limits = Limits::new(spec.limits);
        limits.handles = match has_http {
            true if guest == Guest::Request => request_handles(spec.limits.memory),
            true => HTTP_HANDLES,
            false => HANDLES,
        };
        table.set_max_capacity(limits.handles);
        Ok(ComponentState {
            wasi: wasi.build(),
            table,
            watched: Watched::new(&spec.mounts),
            quotas: Quotas::new(spec.mounts.iter().map(|mount| mount.quota.clone())),
            denials: Denials::new(&spec.mounts, spec.observer.as_ref()),
            files: Count::new(spec.limits.files),
            listings: Count::new(Some(LISTINGS)),
            network,
            lookups: Lookups::default(),
            sockets: Count::new(spec.limits.sockets),
            http: None,
            programs: spec.programs.clone(),
            observer: spec.observer.clone(),
            identity: Arc::clone(&spec.caller),
            limits,
            deadline: None,
            cut: Cut::default(),
        })
    }

    pub(crate) fn network(&mut self) -> NetView<'_> {
        NetView {
            inner: WasiSocketsCtxView {
                ctx: self.wasi.sockets(),
                table: &mut self.table,
            },
            network: &self.network,
            lookups: &mut self.lookups,
            sockets: &mut self.sockets,
        }
    }

    pub(crate) fn files(&mut self) -> FsView<'_> {
        FsView {
            inner: WasiFilesystemCtxView {
                ctx: self.wasi.filesystem(),
                table: &mut self.table,
            },
            watched: &mut self.watched,
            quotas: &mut self.quotas,
            denials: &mut self.denials,
            files: &mut self.files,
            listings: &mut self.listings,
        }
    }

    /// Begins a request: the first one, or a later one of a reused instance.
    pub(crate) fn begin_request(&mut self, identity: Arc<Identity>, cut: Cut) {
        if let Some(http) = &mut self.http {
            http.hooks.begin_request(cut.clone());
        }
        self.identity = identity;
        self.cut = cut;
    }

    /// Whether another request may use the instance, now that one is answered: the guest has
    /// released all that belonged to it, has reached no limit, and holds at most half of what
    /// it may.
    pub(crate) fn may_be_kept(&mut self) -> bool {
        let most = self.table.max_capacity() / 2;
        let mut handles = self.table.iter_mut();
        handles.by_ref().take(most).all(|handle| !is_of_exchange(handle))
            && handles.next().is_none()
            && self.limits.has_room()
            && self.lookups.has_room()
            && [&self.files, &self.listings, &self.sockets]
                .iter()
                .all(|count| count.has_room())
    }

    pub(crate) fn programs(&mut self) -> ProcessView<'_> {
        ProcessView {
            programs: &self.programs,
            observer: self.observer.as_deref(),
            table: &mut self.table,
        }
    }
}

/// Whether a handle is of a request or a response, on either side of the guest.
fn is_of_exchange(handle: &(dyn Any + Send)) -> bool {
    handle.is::<HostIncomingRequest>()
        || handle.is::<HostIncomingBody>()
        || handle.is::<HostIncomingResponse>()
        || handle.is::<HostFutureTrailers>()
        || handle.is::<HostFutureIncomingResponse>()
        || handle.is::<HostOutgoingRequest>()
        || handle.is::<HostOutgoingResponse>()
        || handle.is::<HostOutgoingBody>()
        || handle.is::<HostResponseOutparam>()
}

impl WasiView for ComponentState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for ComponentState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let make = || {
            let (sockets, lookups) = (self.sockets.places(), self.lookups.places());
            Http::new(self.network.clone(), sockets, lookups, self.cut.clone())
        };
        let http = self.http.get_or_insert_with(make);
        WasiHttpCtxView {
            hooks: &mut http.hooks,
            table: &mut self.table,
            ctx: &mut http.context,
        }
    }
}
