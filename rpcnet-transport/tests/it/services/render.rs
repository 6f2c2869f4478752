//! A service with a method of each type, and its implementation.

use futures::{StreamExt, stream};
use rpcnet_transport::{CallContext, Message, Replies, Requests, Status};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
pub(super) struct Probe {
    pub(super) id: u64,
    pub(super) caller: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
pub(super) struct RenderError {
    pub(super) reason: String,
}

impl RenderError {
    pub(super) fn new(reason: &str) -> Self {
        let reason = reason.to_owned();
        Self { reason }
    }
}

/// A type that postcard cannot carry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(self_describing)]
pub(super) struct Document(pub(super) serde_json::Value);

/// A type without a schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Foreign(pub(super) u64);

/// Renders files.
#[rpcnet_transport::service]
pub(super) trait Render {
    /// Reads the header of a file.
    #[rpc(idempotent, replay_safe, timeout = "2s", hedge = 0.95, sticky = id)]
    async fn probe(&self, cx: &CallContext, id: u64) -> Result<Probe, RenderError>;

    #[rpc(priority = sheddable, isolated, key, attempt_timeout = "500ms")]
    async fn frames(
        &self,
        job: String,
        #[serde(default)] quality: u8,
    ) -> Result<Replies<u64>, RenderError>;

    async fn upload(&self, parts: Requests<u64>) -> Result<u64, RenderError>;

    async fn chat(
        &self,
        cx: &CallContext,
        said: Requests<String>,
    ) -> Result<Replies<String>, Status>;

    async fn ping(&self) -> ();

    async fn add(&self, first: u64, second: u64) -> u64;

    async fn count(&self, to: u64) -> Replies<u64>;

    #[rpc(name = "Elsewhere/total")]
    async fn total(&self, numbers: Requests<u64>) -> u64;

    #[rpc(since = 3)]
    async fn foreign(&self, value: Foreign) -> Result<Foreign, RenderError>;

    #[rpc(self_describing)]
    async fn json(&self, value: serde_json::Value, depth: u8) -> serde_json::Value;

    async fn documents(&self, ids: Requests<Document>) -> Result<Replies<Document>, Document>;
}

/// The service as it is implemented.
#[derive(Debug)]
pub(super) struct Renderer;

impl Render for Renderer {
    async fn probe(&self, cx: &CallContext, id: u64) -> Result<Probe, RenderError> {
        if id == 13 {
            return Err(RenderError::new("no such file"));
        }
        let caller = cx.method().to_owned();
        Ok(Probe { id, caller })
    }

    async fn frames(&self, job: String, quality: u8) -> Result<Replies<u64>, RenderError> {
        if job.is_empty() {
            return Err(RenderError::new("no job"));
        }
        Ok(Replies::of(0..u64::from(quality)))
    }

    async fn upload(&self, mut parts: Requests<u64>) -> Result<u64, RenderError> {
        let mut sum = 0;
        while let Ok(Some(part)) = parts.message().await {
            sum += part;
        }
        match sum {
            13 => Err(RenderError::new("unlucky")),
            sum => Ok(sum),
        }
    }

    async fn chat(
        &self,
        _cx: &CallContext,
        said: Requests<String>,
    ) -> Result<Replies<String>, Status> {
        let replies = said.map(|line| match line {
            Ok(line) => Ok(line.to_uppercase()),
            Err(error) => Err(Status::from(error)),
        });
        Ok(Replies::try_new(replies))
    }

    async fn ping(&self) {}

    async fn add(&self, first: u64, second: u64) -> u64 {
        first + second
    }

    async fn count(&self, to: u64) -> Replies<u64> {
        Replies::new(stream::iter(0..to))
    }

    async fn total(&self, numbers: Requests<u64>) -> u64 {
        let numbers = numbers.map(|number| number.unwrap_or_default());
        numbers
            .fold(0, |sum, number| std::future::ready(sum + number))
            .await
    }

    async fn foreign(&self, value: Foreign) -> Result<Foreign, RenderError> {
        Ok(Foreign(value.0 + 1))
    }

    async fn json(&self, value: serde_json::Value, depth: u8) -> serde_json::Value {
        serde_json::json!({ "value": value, "depth": depth })
    }

    async fn documents(&self, ids: Requests<Document>) -> Result<Replies<Document>, Document> {
        let ids: Vec<_> = ids.map(Result::unwrap).collect().await;
        match ids.first() {
            None => Err(Document(serde_json::json!(["none"]))),
            Some(_) => Ok(Replies::of(ids)),
        }
    }
}
