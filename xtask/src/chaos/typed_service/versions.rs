//! Versions of the service: the first one, a compatible second one, and an incompatible one.

use futures::stream;
use rpcnet_client::{Message, Replies, Requests, RpcError, Status, WorkerChannel};
use serde::{Deserialize, Serialize};

use super::{
    calls::{StreamedPart, VersionedClient, collect},
    job::{JobContent, JobMessage, JobResult, QualityLevel, ResultMessage, STREAM_LEN},
    worker::VersionedWorker,
};

/// Job of the first version.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
pub(super) struct JobV1 {
    call: u64,
    quality: QualityV1,
    frames: u32,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, Message)]
pub(super) enum QualityV1 {
    Draft,
    Final,
}

/// Result of the first version.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
pub(super) struct DoneV1 {
    call: u64,
    work: u32,
    worker: String,
    version: u32,
}

/// Job of the second version: its fields are reordered, one is wider, one was added.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
pub(super) struct JobV2 {
    frames: u64,
    #[serde(default)]
    priority: Option<u8>,
    quality: QualityV2,
    call: u64,
}

/// Quality of the second version: a variant was added.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, Message)]
pub(super) enum QualityV2 {
    Lossless,
    Draft,
    Final,
}

/// Result of the second version.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
pub(super) struct DoneV2 {
    worker: String,
    version: u32,
    work: u64,
    #[serde(default)]
    warnings: Vec<String>,
    call: u64,
}

/// Job of the incompatible version: a type was changed, and a field was added without a default.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
pub(super) struct JobBreaking {
    call: u64,
    quality: QualityV1,
    frames: String,
    deadline_ms: u64,
}

/// Result of the incompatible version: a field was added without a default.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
pub(super) struct DoneBreaking {
    call: u64,
    work: u32,
    worker: String,
    version: u32,
    warnings: Vec<String>,
}

/// Declares the service of one version, with its worker and its client.
macro_rules! version {
    ($service:ident, $client:ident: $job:ty => $done:ty) => {
        #[rpcnet_client::service(name = "Transcode")]
        pub(super) trait $service {
            async fn transcode(&self, job: $job) -> Result<$done, Status>;
            async fn parts(&self, job: $job) -> Result<Replies<$done>, Status>;
            async fn merge(&self, jobs: Requests<$job>) -> Result<$done, Status>;
            async fn relay(&self, jobs: Requests<$job>) -> Result<Replies<$done>, Status>;
        }

        impl $service for VersionedWorker {
            async fn transcode(&self, job: $job) -> Result<$done, Status> {
                self.begin(&job).await?;
                Ok(self.result(&job))
            }

            async fn parts(&self, job: $job) -> Result<Replies<$done>, Status> {
                self.begin(&job).await?;
                let done: $done = self.result(&job);
                Ok(Replies::of(vec![done; STREAM_LEN]))
            }

            async fn merge(&self, jobs: Requests<$job>) -> Result<$done, Status> {
                self.sum(jobs).await
            }

            async fn relay(&self, jobs: Requests<$job>) -> Result<Replies<$done>, Status> {
                self.each(jobs).await
            }
        }

        impl VersionedClient for $client<WorkerChannel> {
            async fn results(
                &self,
                streamed: StreamedPart,
                job: JobContent,
            ) -> Result<Vec<JobResult>, RpcError> {
                let job = <$job>::write(job);
                let jobs = stream::iter(vec![job.clone(); STREAM_LEN]);
                match streamed {
                    StreamedPart::Nothing => Ok(vec![self.transcode(job).await?.read()]),
                    StreamedPart::Replies => collect(self.parts(job).await?).await,
                    StreamedPart::Requests => Ok(vec![self.merge(jobs).await?.read()]),
                    StreamedPart::Both => collect(self.relay(jobs).await?).await,
                }
            }
        }
    };
}

version!(TranscodeV1, TranscodeV1Client: JobV1 => DoneV1);
version!(TranscodeV2, TranscodeV2Client: JobV2 => DoneV2);
version!(TranscodeBreaking, TranscodeBreakingClient: JobBreaking => DoneBreaking);

impl From<QualityLevel> for QualityV1 {
    fn from(level: QualityLevel) -> Self {
        match level {
            QualityLevel::Draft => Self::Draft,
            QualityLevel::Final | QualityLevel::Lossless => Self::Final,
        }
    }
}

impl From<QualityV1> for QualityLevel {
    fn from(quality: QualityV1) -> Self {
        match quality {
            QualityV1::Draft => Self::Draft,
            QualityV1::Final => Self::Final,
        }
    }
}

impl JobMessage for JobV1 {
    fn write(job: JobContent) -> Self {
        Self {
            call: job.call,
            quality: job.quality.into(),
            frames: job.frames,
        }
    }

    fn read(&self) -> JobContent {
        JobContent {
            call: self.call,
            frames: self.frames,
            quality: self.quality.into(),
        }
    }
}

impl ResultMessage for DoneV1 {
    fn write(done: JobResult) -> Self {
        Self {
            call: done.call,
            work: narrow(done.work),
            worker: done.worker,
            version: done.version,
        }
    }

    fn read(self) -> JobResult {
        JobResult {
            call: self.call,
            work: self.work.into(),
            worker: self.worker,
            version: self.version,
        }
    }
}

impl JobMessage for JobV2 {
    fn write(job: JobContent) -> Self {
        Self {
            frames: job.frames.into(),
            priority: Some(1),
            quality: match job.quality {
                QualityLevel::Draft => QualityV2::Draft,
                QualityLevel::Final => QualityV2::Final,
                QualityLevel::Lossless => QualityV2::Lossless,
            },
            call: job.call,
        }
    }

    fn read(&self) -> JobContent {
        JobContent {
            call: self.call,
            frames: narrow(self.frames),
            quality: match self.quality {
                QualityV2::Draft => QualityLevel::Draft,
                QualityV2::Final => QualityLevel::Final,
                QualityV2::Lossless => QualityLevel::Lossless,
            },
        }
    }
}

impl ResultMessage for DoneV2 {
    fn write(done: JobResult) -> Self {
        Self {
            worker: done.worker,
            version: done.version,
            work: done.work,
            warnings: vec!["none".to_owned()],
            call: done.call,
        }
    }

    fn read(self) -> JobResult {
        JobResult {
            call: self.call,
            work: self.work,
            worker: self.worker,
            version: self.version,
        }
    }
}

impl JobMessage for JobBreaking {
    fn write(job: JobContent) -> Self {
        Self {
            call: job.call,
            quality: job.quality.into(),
            frames: job.frames.to_string(),
            deadline_ms: 1_000,
        }
    }

    fn read(&self) -> JobContent {
        JobContent {
            call: self.call,
            // A text that is no number makes a wrong result.
            frames: self.frames.parse().unwrap_or(u32::MAX),
            quality: self.quality.into(),
        }
    }
}

impl ResultMessage for DoneBreaking {
    fn write(done: JobResult) -> Self {
        Self {
            call: done.call,
            work: narrow(done.work),
            worker: done.worker,
            version: done.version,
            warnings: Vec::new(),
        }
    }

    fn read(self) -> JobResult {
        JobResult {
            call: self.call,
            work: self.work.into(),
            worker: self.worker,
            version: self.version,
        }
    }
}

/// A number of a job, which is small; another makes a wrong result.
fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
