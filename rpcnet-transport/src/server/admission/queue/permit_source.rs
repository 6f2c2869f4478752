//! Source of permits for queued calls, and why a call leaves the queue without one.

/// Source of permits for peers. If a peer may not acquire one, no peer that holds as many or more
/// may.
pub(in crate::server::admission) trait PermitSource<P> {
    /// Permits that the peer holds.
    fn permits_held(&self, peer: &P) -> usize;
    /// Whether the peer has just released the permit that is free: others that hold as many go
    /// first.
    fn just_released(&self, _peer: &P) -> bool {
        false
    }
    /// Acquires a permit for a call of the peer, if the peer may have one.
    fn try_acquire(&mut self, peer: &P) -> bool;
}

/// Reason for which a queued call got no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server::admission) enum ShedReason {
    /// The call waited too long.
    WaitedTooLong,
    /// The deadline of the call passed.
    Expired,
}
