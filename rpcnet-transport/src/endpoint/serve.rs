//! Serving: the methods of an endpoint.

use std::sync::Arc;

use super::Endpoint;
use crate::{Router, RpcServer};

impl Endpoint {
    /// Serves the methods of a router. A second call adds methods.
    ///
    /// # Panics
    ///
    /// If a method of the same name is already served.
    #[track_caller]
    pub fn serve(&self, router: Router) -> RpcServer {
        self.add_methods(router);
        self.0.shared.lifecycle.set_serving();
        RpcServer::new(self.clone())
    }

    /// Hashes of the services that are served, by their names: see [`Router::service_hashes`].
    #[must_use]
    pub fn service_hashes(&self) -> Vec<(String, u64)> {
        let router = self.0.shared.router();
        let services = router.service_hashes();
        services
            .map(|(service, hash)| (service.to_owned(), hash))
            .collect()
    }

    #[track_caller]
    pub(crate) fn add_methods(&self, router: Router) {
        let mut current = self.0.shared.router.write();
        *current = Arc::new(Router::clone(&current).merge(router));
    }
}
