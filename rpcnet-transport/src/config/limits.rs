//! Server limits: what an endpoint accepts from all peers together, and how long it waits for one.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use super::bounds::MIB;
use crate::Admission;

/// Server limits of an endpoint.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ServerLimits {
    pub(crate) header_timeout: Duration,
    pub(crate) stall_timeout: Duration,
    pub(crate) transfer_rate_min: NonZeroU32,
    pub(crate) calls_max: NonZeroUsize,
    pub(crate) admission: Option<Admission>,
    pub(crate) connections_max: NonZeroUsize,
    pub(crate) handshakes_max: NonZeroUsize,
    pub(crate) buffered_bytes_max: usize,
    pub(crate) connection_buffered_bytes_max: usize,
    pub(crate) drain_grace: Duration,
}

impl ServerLimits {
    pub(super) fn lan() -> Self {
        Self {
            header_timeout: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(30),
            transfer_rate_min: const { NonZeroU32::new(64 * 1_024).unwrap() },
            calls_max: const { NonZeroUsize::new(16_384).unwrap() },
            admission: None,
            connections_max: const { NonZeroUsize::new(4_096).unwrap() },
            handshakes_max: const { NonZeroUsize::new(256).unwrap() },
            buffered_bytes_max: 512 * MIB,
            connection_buffered_bytes_max: 64 * MIB,
            drain_grace: Duration::from_millis(100),
        }
    }

    pub(super) fn wan() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            transfer_rate_min: const { NonZeroU32::new(8 * 1_024).unwrap() },
            drain_grace: Duration::from_millis(500),
            ..Self::lan()
        }
    }

    pub(super) fn bulk() -> Self {
        Self {
            buffered_bytes_max: 1024 * MIB,
            connection_buffered_bytes_max: 256 * MIB,
            ..Self::lan()
        }
    }
}
