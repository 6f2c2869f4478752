//! Calls of a gateway: all four types in turn, with checked results.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use futures::{TryStreamExt, future::BoxFuture};
use rpcnet_client::{ClusterClient, Replies, RpcError};

use super::job::{JobContent, JobResult, QualityLevel, ResultMessage, STREAM_LEN};
use crate::chaos::{
    call_report::FailedCall,
    load::{Answer, CallSource},
    protocol::ServiceVersion,
};

/// Part of a call that is a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamedPart {
    Nothing,
    Replies,
    Requests,
    Both,
}

/// Client of one version.
pub(super) trait VersionedClient: Send + Sync + 'static {
    /// Calls the method that streams this; the results of the job.
    fn results(
        &self,
        streamed: StreamedPart,
        job: JobContent,
    ) -> impl Future<Output = Result<Vec<JobResult>, RpcError>> + Send;
}

/// Calls of one version, none of which may run twice.
pub(super) struct TypedCalls<C> {
    version: ServiceVersion,
    service: C,
    client: Arc<ClusterClient>,
    /// A worker of the second version has answered.
    knows_new_worker: AtomicBool,
}

impl<C> TypedCalls<C> {
    pub(super) fn new(version: ServiceVersion, service: C, client: Arc<ClusterClient>) -> Self {
        Self {
            version,
            service,
            client,
            knows_new_worker: AtomicBool::new(false),
        }
    }

    /// The quality of the job of a call. Only workers of the second version read the new one: it is
    /// asked for when there is such a worker, and not in a stream of requests, which is opened
    /// before its values are known.
    fn quality(&self, turn: u64, streamed: StreamedPart) -> QualityLevel {
        let is_whole = matches!(streamed, StreamedPart::Nothing | StreamedPart::Replies);
        let can_be_new = self.version == ServiceVersion::Compatible && is_whole;
        match turn % 3 {
            0 => QualityLevel::Draft,
            1 if can_be_new && self.knows_new_worker.load(Relaxed) => QualityLevel::Lossless,
            _ => QualityLevel::Final,
        }
    }
}

impl<C: VersionedClient> CallSource for TypedCalls<C> {
    fn client(&self) -> &ClusterClient {
        &self.client
    }

    /// Odd numbers, those of calls that may not run twice; each version has its own.
    fn number(&self, index: u64) -> u64 {
        match self.version {
            ServiceVersion::First => 4 * index + 1,
            ServiceVersion::Compatible | ServiceVersion::Incompatible => 4 * index + 3,
        }
    }

    fn call(&self, number: u64) -> BoxFuture<'_, Result<Answer, FailedCall>> {
        Box::pin(async move {
            let index = number / 4;
            let streamed = match index % 4 {
                0 => StreamedPart::Nothing,
                1 => StreamedPart::Replies,
                2 => StreamedPart::Requests,
                _ => StreamedPart::Both,
            };
            let job = JobContent::of_call(number, self.quality(index / 4, streamed));
            let results = self.service.results(streamed, job).await?;
            let answer = check_results(streamed, job, &results);
            if answer.version == Some(ServiceVersion::Compatible.number()) {
                self.knows_new_worker.store(true, Relaxed);
            }
            Ok(answer)
        })
    }
}

/// Compares results with those that the worker should have sent.
pub(super) fn check_results(
    streamed: StreamedPart,
    job: JobContent,
    results: &[JobResult],
) -> Answer {
    let len = match streamed {
        StreamedPart::Nothing | StreamedPart::Requests => 1,
        StreamedPart::Replies | StreamedPart::Both => STREAM_LEN,
    };
    let jobs = match streamed {
        StreamedPart::Requests => STREAM_LEN as u64,
        _ => 1,
    };
    let last = results.last();
    let is_right = |result: &JobResult| {
        let has_worker = last
            .is_some_and(|last| (&last.worker, last.version) == (&result.worker, result.version));
        has_worker && result.call == job.call && result.work == jobs * job.work()
    };
    let is_right = results.len() == len && results.iter().all(is_right);
    Answer {
        is_right,
        version: last.map(|last| last.version),
        worker: last.map(|last| last.worker.clone()).unwrap_or_default(),
    }
}

/// The results of a stream.
pub(super) async fn collect<Done: ResultMessage>(
    replies: Replies<Done>,
) -> Result<Vec<JobResult>, RpcError> {
    replies.map_ok(ResultMessage::read).try_collect().await
}
