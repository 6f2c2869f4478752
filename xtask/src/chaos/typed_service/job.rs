//! Content of jobs and of their results, whatever the version of their messages.

use rpcnet_client::Message;

/// Content of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct JobContent {
    /// Number of the call.
    pub(super) call: u64,
    pub(super) frames: u32,
    pub(super) quality: QualityLevel,
}

/// Quality of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QualityLevel {
    Draft,
    Final,
    /// The second version alone has it.
    Lossless,
}

/// Content of the result of a job, or of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JobResult {
    pub(super) call: u64,
    pub(super) work: u64,
    pub(super) worker: String,
    /// Version of the worker.
    pub(super) version: u32,
}

/// Message of a job, of one version.
pub(super) trait JobMessage: Message + Clone + Send + Sync {
    /// The job as this version writes it. A version without lossless quality writes the next best.
    fn write(content: JobContent) -> Self;

    fn read(&self) -> JobContent;
}

/// Message of a result, of one version.
pub(super) trait ResultMessage: Message + Clone + Send + Sync {
    fn write(content: JobResult) -> Self;

    fn read(self) -> JobResult;
}

impl JobContent {
    /// The job of a call.
    pub(super) fn of_call(call: u64, quality: QualityLevel) -> Self {
        Self {
            call,
            frames: (call % FRAMES_END) as u32,
            quality,
        }
    }

    /// Content of the result of the job.
    pub(super) fn work(self) -> u64 {
        let factor = match self.quality {
            QualityLevel::Draft => 2,
            QualityLevel::Final => 3,
            QualityLevel::Lossless => 5,
        };
        factor * (u64::from(self.frames) + 1)
    }
}

/// More than the frames of any job.
const FRAMES_END: u64 = 100_000;
/// Jobs of a stream of requests, and results of one job in a stream of replies.
pub(super) const STREAM_LEN: usize = 3;
