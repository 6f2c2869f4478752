//! Lifecycle of a node, as `join` and `leave` wait for it.

/// State that `join` and `leave` wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct DriverState {
    pub(super) lifecycle: Lifecycle,
    /// Every seed is of an address family that the socket cannot send to.
    pub(super) seeds_unreachable: bool,
}

/// Stages of a node's lifecycle. A superseded node goes back to [`Joining`](Self::Joining) when the
/// newer node of its name is gone; the last two are final.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Lifecycle {
    /// No seed has let the node in yet.
    #[default]
    Joining,
    /// It is a member, and may not know every other member yet.
    Joined,
    /// It is a member, and its view has agreed with that of another one, or it is alone.
    Complete,
    /// A newer node has its name.
    Superseded,
    /// It is leaving, or has left, and its driver still runs.
    Leaving,
    /// It has left, and its driver has ended.
    Left {
        /// How many members acknowledged it.
        acknowledged: usize,
    },
    /// Its driver has ended without a leave.
    Stopped,
}

impl Lifecycle {
    /// Whether the node is a member of its cluster.
    pub(super) fn is_member(self) -> bool {
        matches!(self, Self::Joined | Self::Complete)
    }

    /// Whether the driver has ended.
    pub(super) fn is_over(self) -> bool {
        matches!(self, Self::Left { .. } | Self::Stopped)
    }
}

impl DriverState {
    /// Whether `join` has nothing more to wait for.
    pub(super) fn decides_join(&self) -> bool {
        let lifecycle = self.lifecycle;
        let cannot_join = self.seeds_unreachable && !lifecycle.is_member();
        matches!(lifecycle, Lifecycle::Complete | Lifecycle::Superseded)
            || lifecycle.is_over()
            || cannot_join
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn join_waits_for_a_complete_view_or_for_an_end() {
        use Lifecycle::{Complete, Joined, Joining, Leaving, Left, Stopped, Superseded};
        let left = Left { acknowledged: 2 };
        for (lifecycle, settles, settles_without_route) in [
            (Joining, false, true),
            (Joined, false, false),
            (Complete, true, true),
            (Superseded, true, true),
            (Leaving, false, true),
            (left, true, true),
            (Stopped, true, true),
        ] {
            let state = |seeds_unreachable| DriverState {
                lifecycle,
                seeds_unreachable,
            };
            assert_eq!(state(false).decides_join(), settles, "{lifecycle:?}");
            assert_eq!(
                state(true).decides_join(),
                settles_without_route,
                "{lifecycle:?}"
            );
        }
    }

    #[test]
    fn a_node_is_over_once_its_driver_has_ended() {
        let is_over = |lifecycle: Lifecycle| lifecycle.is_over();
        assert!(is_over(Lifecycle::Left { acknowledged: 0 }) && is_over(Lifecycle::Stopped));
        assert!(!is_over(Lifecycle::Leaving) && !is_over(Lifecycle::Superseded));
    }
}
