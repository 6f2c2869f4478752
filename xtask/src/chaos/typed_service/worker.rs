//! Worker of a typed service: what its handlers do, whatever their messages.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use rpcnet_client::{Code, Replies, Requests, Status};
use tokio::time::sleep;

use super::job::{JobMessage, JobResult, ResultMessage};
use crate::chaos::execution_log::ExecutionLog;

/// Worker of one version, which records each call once.
#[derive(Debug, Clone)]
pub(in crate::chaos) struct VersionedWorker {
    pub(in crate::chaos) name: Arc<str>,
    pub(in crate::chaos) version: u32,
    pub(in crate::chaos) log: Arc<ExecutionLog>,
    /// Duration of a call.
    pub(in crate::chaos) service_time: Duration,
}

impl VersionedWorker {
    /// Begins a call: its record, and its work.
    pub(super) async fn begin<Job: JobMessage>(&self, job: &Job) -> Result<(), Status> {
        let recorded = self.log.record(job.read().call);
        recorded.map_err(|error| Status::new(Code::Internal, error.to_string()))?;
        sleep(self.service_time).await;
        Ok(())
    }

    /// The result of one job.
    pub(super) fn result<Job: JobMessage, Done: ResultMessage>(&self, job: &Job) -> Done {
        let job = job.read();
        self.write_result(job.call, job.work())
    }

    /// The result of all jobs of a stream, taken together.
    pub(super) async fn sum<Job: JobMessage, Done: ResultMessage>(
        &self,
        mut jobs: Requests<Job>,
    ) -> Result<Done, Status> {
        let first = self.first(&mut jobs).await?;
        let mut work = first.read().work();
        while let Some(job) = jobs.message().await? {
            work += job.read().work();
        }
        Ok(self.write_result(first.read().call, work))
    }

    /// The result of each job of a stream.
    pub(super) async fn each<Job: JobMessage, Done: ResultMessage>(
        &self,
        mut jobs: Requests<Job>,
    ) -> Result<Replies<Done>, Status> {
        let first = self.first(&mut jobs).await?;
        let first = stream::iter([Ok(self.result(&first))]);
        let worker = self.clone();
        let rest = jobs.map(move |job| match job {
            Ok(job) => Ok(worker.result(&job)),
            Err(error) => Err(Status::from(error)),
        });
        Ok(Replies::try_new(first.chain(rest)))
    }

    async fn first<Job: JobMessage>(&self, jobs: &mut Requests<Job>) -> Result<Job, Status> {
        let first = jobs.message().await?;
        let first = first.ok_or_else(|| Status::invalid_request("the stream has no job"))?;
        self.begin(&first).await?;
        Ok(first)
    }

    fn write_result<Done: ResultMessage>(&self, call: u64, work: u64) -> Done {
        Done::write(JobResult {
            call,
            work,
            worker: self.name.to_string(),
            version: self.version,
        })
    }
}
