//! Log lines for what an operator has to know.

use crate::event::Event;

/// Writes the log line of an event that calls for somebody to do something.
pub(super) fn log(event: &Event) {
    match event {
        Event::ClockSkew {
            addr,
            ahead,
            is_own: true,
        } => tracing::error!(
            member = %addr, ?ahead,
            "clock skew: the member refuses this node's epoch as too far ahead of its clock"
        ),
        Event::ClockSkew {
            addr,
            ahead,
            is_own: false,
        } => tracing::warn!(
            member = %addr, ?ahead,
            "clock skew: an epoch is too far ahead of this node's clock and refused"
        ),
        _ => {}
    }
}
