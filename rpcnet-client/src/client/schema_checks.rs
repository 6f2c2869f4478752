//! Schemas of workers: what calls teach about them, and checks beside the calls.

use std::{sync::Arc, time::Duration};

use rpcnet_balance::Time;
use rpcnet_registry::{
    NodeInfo,
    connected::WorkerConnector,
    schemas::{CallerService, Compatibility, SchemaCheck, SchemaMismatches},
};
use rpcnet_transport::{
    CallOptions, RpcClient, RpcError, UntypedMethod,
    pool::{PendingConnection, PooledConnection},
};
use tokio::time::timeout;

use super::{
    call_plan::{Destination, called},
    outcome::EndedAttempt,
    registry_link::RegistryLink,
    workers::Workers,
};

impl Workers {
    /// The workers that match and whose types of this method are not known to fit, if there are
    /// any.
    #[inline]
    pub(super) fn mismatches(
        &self,
        method: UntypedMethod,
        filter: Option<&str>,
    ) -> Option<Arc<SchemaMismatches>> {
        let schemas = &self.link.schemas;
        let called = (called(method), filter);
        schemas.mismatches(&self.registry, called, || caller_service(method))
    }

    /// A call passes these workers over: counts it, and starts the checks that are due, of hashes
    /// of which nothing is known or which one worker has shown not to fit.
    pub(super) fn on_passed_over(
        &self,
        method: UntypedMethod,
        mismatches: &SchemaMismatches,
        now: Time,
    ) {
        self.link.schemas.count_passed_over();
        while let Some(check) = mismatches.claim_check(now) {
            self.start_check(method, check, now);
        }
    }

    fn start_check(&self, method: UntypedMethod, check: SchemaCheck, now: Time) {
        let worker = self.registry.select_named(None, &check.node().id.name);
        let Some(worker) = worker.ok().filter(|one| one.id() == &check.node().id) else {
            return check.end_without_outcome(now);
        };
        let task = CheckTask {
            method,
            check,
            endpoint_id: worker.endpoint_id(),
            link: self.link.clone(),
        };
        let connection = self.connections.connection(&worker);
        // The worker is dropped: a check is no call that a balancer should count.
        let runtime = self.connections.endpoint().runtime();
        runtime.spawn(task.run(connection));
    }

    /// A call was served: the types of the worker fit. Nearly always that is known.
    #[inline]
    pub(super) fn learn_compatible(&self, ended: &EndedAttempt<'_>) {
        if let Some(method) = ended.call.typed
            && self.link.schemas.is_learning()
        {
            self.learn_if_unknown(*method, ended);
        }
    }

    #[cold]
    fn learn_if_unknown(&self, method: UntypedMethod, ended: &EndedAttempt<'_>) {
        let (destination, worker) = (ended.call.destination, ended.worker);
        let Destination::Matching(filter) = destination else {
            return;
        };
        let mismatches = self.mismatches(method, filter);
        if mismatches.is_some_and(|these| these.contains(worker.endpoint_id())) {
            self.link.record_compatible(method, worker.node());
        }
    }

    /// A worker has rejected a call. Whether that says that its types and those of all workers that
    /// announce the same do not fit; otherwise it is about that worker alone.
    pub(super) fn learn_incompatible(&self, ended: &EndedAttempt<'_>, error: &RpcError) -> bool {
        ended.call.typed.is_some_and(|method| {
            let node = ended.worker.node();
            self.link.record_incompatible(*method, node, error)
        })
    }
}

impl RegistryLink {
    fn record_compatible(&self, method: UntypedMethod, node: &Arc<NodeInfo>) {
        if self.record(method, node, Compatibility::Compatible) == Some(true) {
            let (method, service, node) = (method.name(), method.service(), &node.id);
            tracing::debug!(method, service, %node, "the types that the worker announces fit");
        }
    }

    /// Whether the error says so of all workers that announce the same types: it comes of a
    /// comparison of the schemas of both sides, made on this one, and the types are not those that
    /// this process itself has.
    fn record_incompatible(
        &self,
        method: UntypedMethod,
        node: &Arc<NodeInfo>,
        error: &RpcError,
    ) -> bool {
        // Of a method without a schema the hash says nothing.
        if error.incompatibility().is_none() {
            return false;
        }
        let recorded = self.record(method, node, Compatibility::Incompatible);
        if recorded == Some(true) {
            let (service, node) = (method.service(), &node.id);
            tracing::warn!(
                %error, service, %node,
                "calls pass over the workers that announce the same types as this one"
            );
        }
        recorded.is_some()
    }

    fn record(
        &self,
        method: UntypedMethod,
        node: &Arc<NodeInfo>,
        compatibility: Compatibility,
    ) -> Option<bool> {
        self.with_registry(|registry| {
            let is_current = |node: &NodeInfo| registry.is_as_known(node);
            let called = (called(method), caller_service(method));
            let learned = (node, registry.now());
            self.schemas
                .record(called, compatibility, learned, is_current)
        })?
    }
}

/// The service of a method, as this process has it.
fn caller_service(method: UntypedMethod) -> CallerService<'static> {
    CallerService {
        name: method.service(),
        hash: method.service_hash(),
    }
}

/// Task of a check beside the calls.
struct CheckTask {
    method: UntypedMethod,
    check: SchemaCheck,
    endpoint_id: u64,
    link: RegistryLink,
}

impl CheckTask {
    async fn run(self, connection: PooledConnection) {
        let method = self.method;
        let checked = timeout(CHECK_TIMEOUT, async {
            let client = match connection {
                PooledConnection::Ready(client) => client,
                PooledConnection::Pending(pending) => connect(pending).await?,
            };
            let options = CallOptions::new().with_timeout(CHECK_TIMEOUT);
            client
                .check_method(method, options.without_inheritance())
                .await
        });
        match checked.await {
            Ok(Ok(())) => self.link.record_compatible(method, self.check.node()),
            Ok(Err(error)) => self.on_error(&error),
            Err(_) => self.end_without_outcome(&"deadline exceeded"),
        }
    }

    fn on_error(self, error: &RpcError) {
        let node = self.check.node();
        if self.link.record_incompatible(self.method, node, error) {
            return;
        }
        if error.rejects_method() {
            let method = called(self.method);
            self.link.record_rejection(method, self.endpoint_id, node);
        }
        self.end_without_outcome(error);
    }

    fn end_without_outcome(self, error: &dyn std::fmt::Display) {
        let (method, node) = (self.method.name(), &self.check.node().id);
        tracing::debug!(%error, method, %node, "a check of types has failed; another one follows");
        let now = self.link.with_registry(|registry| registry.now());
        if let Some(now) = now {
            self.check.end_without_outcome(now);
        }
    }
}

async fn connect(pending: PendingConnection) -> Result<RpcClient, RpcError> {
    pending.await.map_err(RpcError::from)
}

/// Longest time of a check, with the time to connect.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
