//! The render service: its methods, their messages and their error.
//!
//! Workers and callers depend on this crate, and not on each other. They need not be of one
//! version: a field can be added with `#[serde(default)]` while the others still run.

use rpcnet_client::{Message, Replies, Requests, service};
use serde::{Deserialize, Serialize};

/// Scene to render, and its length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
pub struct Job {
    /// Name of the scene: `ball` or `wave`.
    pub scene: String,
    /// Number of frames.
    pub frames: u32,
}

/// Expected cost of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
pub struct Estimate {
    /// Time that a worker takes for it, in milliseconds.
    pub millis: u64,
}

/// Picture of a film.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
pub struct Frame {
    /// Place in the film, from 0.
    pub number: u32,
    /// The picture, in characters.
    pub picture: String,
}

/// Frames in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Message)]
pub struct Film {
    /// One picture for each frame.
    pub pictures: Vec<String>,
}

/// Why the service does not do a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize, Message)]
pub enum RenderError {
    /// No scene has this name.
    #[error("unknown scene {scene:?}")]
    UnknownScene {
        /// Name in the job.
        scene: String,
    },
    /// The film would be too long.
    #[error("{frames} frames are more than {limit}")]
    TooLong {
        /// Number in the job.
        frames: u32,
        /// Largest number.
        limit: u32,
    },
    /// The stream of frames broke, or skips one.
    #[error("frame {number} did not arrive")]
    MissingFrame {
        /// Place of the frame.
        number: u32,
    },
}

/// Films from jobs. No method changes anything, so all of them may run twice.
#[service]
pub trait Render {
    /// Cost of a job, before it is rendered.
    #[rpc(idempotent, timeout = "2s", hedge = 0.95)]
    async fn estimate(&self, job: Job) -> Result<Estimate, RenderError>;

    /// The frames of a job, each as soon as it is rendered.
    #[rpc(idempotent)]
    async fn frames(&self, job: Job) -> Result<Replies<Frame>, RenderError>;

    /// The film of these frames.
    #[rpc(idempotent, timeout = "5s")]
    async fn film(&self, frames: Requests<Frame>) -> Result<Film, RenderError>;
}
