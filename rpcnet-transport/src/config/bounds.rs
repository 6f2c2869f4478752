//! Bounds that several settings share.

use std::time::Duration;

pub(super) const MIB: usize = 1024 * 1024;

/// Largest limit for messages.
pub(super) const MESSAGE_BYTES_CEILING: usize = 1024 * MIB;

/// Longest duration of a setting.
pub(super) const TIME_CEILING: Duration = Duration::from_secs(24 * 3600);
