//! Typed service of several versions, for upgrades: what workers of each version serve, and what
//! gateways of each version call.

mod calls;
mod job;
mod versions;
mod worker;

use std::sync::Arc;

use rpcnet_client::{ClusterClient, Router};

pub(super) use self::worker::VersionedWorker;
use self::{
    calls::TypedCalls,
    versions::{
        TranscodeBreakingClient, TranscodeBreakingServer, TranscodeV1Client, TranscodeV1Server,
        TranscodeV2Client, TranscodeV2Server,
    },
};
use super::{load::CallSource, protocol::ServiceVersion};

/// The methods of a worker of this version.
pub(super) fn router(version: ServiceVersion, worker: VersionedWorker) -> Router {
    match version {
        ServiceVersion::First => TranscodeV1Server::new(worker).into_router(),
        ServiceVersion::Compatible => TranscodeV2Server::new(worker).into_router(),
        ServiceVersion::Incompatible => TranscodeBreakingServer::new(worker).into_router(),
    }
}

/// The calls of a gateway of this version.
pub(super) fn calls(version: ServiceVersion, client: Arc<ClusterClient>) -> Box<dyn CallSource> {
    let workers = client.workers(Some(WORKERS));
    match version {
        ServiceVersion::First => {
            let service = TranscodeV1Client::new(workers);
            Box::new(TypedCalls::new(version, service, client))
        }
        ServiceVersion::Compatible => {
            let service = TranscodeV2Client::new(workers);
            Box::new(TypedCalls::new(version, service, client))
        }
        ServiceVersion::Incompatible => {
            let service = TranscodeBreakingClient::new(workers);
            Box::new(TypedCalls::new(version, service, client))
        }
    }
}

/// Filter of the workers that are called.
const WORKERS: &str = "role=worker";

#[cfg(test)]
mod tests;
