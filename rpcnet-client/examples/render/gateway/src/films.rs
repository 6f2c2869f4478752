//! Films from jobs, over any channel: workers of a cluster, one connection, or a mock.

use futures::stream;
use render_api::{Film, Job, RenderClient, RenderError};
use rpcnet_client::{CallError, Channel, Code};

/// Error of the calls of a job.
pub(crate) type JobError = CallError<RenderError>;

/// Result of a job.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rendered {
    /// Expected time, in milliseconds.
    pub(crate) estimate_millis: u64,
    pub(crate) film: Film,
}

/// Renders a job.
///
/// The client library retries unary calls. A stream has one worker once it is open: when that one
/// is lost, the film begins again, on another one. It may, as no method changes anything.
pub(crate) async fn render<C: Channel>(
    service: &RenderClient<C>,
    job: &Job,
) -> Result<Rendered, JobError> {
    let estimate = service.estimate(job.clone()).await?;
    let mut attempts = 1;
    let film = loop {
        match film(service, job).await {
            // Other errors are the same on every worker.
            Err(CallError::Rpc(error))
                if error.code() == Code::Unavailable && attempts < ATTEMPTS_MAX =>
            {
                attempts += 1;
            }
            result => break result?,
        }
    };
    Ok(Rendered {
        estimate_millis: estimate.millis,
        film,
    })
}

async fn film<C: Channel>(service: &RenderClient<C>, job: &Job) -> Result<Film, JobError> {
    let mut replies = service.frames(job.clone()).await?;
    let mut frames = Vec::new();
    while let Some(frame) = replies.message().await? {
        frames.push(frame);
    }
    service.film(stream::iter(frames)).await
}

/// Attempts to render a job.
const ATTEMPTS_MAX: u32 = 3;

#[cfg(test)]
mod tests;
