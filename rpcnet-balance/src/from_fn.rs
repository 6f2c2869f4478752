//! A balancer made of a closure.

use std::fmt;

use crate::{Balancer, PickContext, View};

/// A balancer that picks by calling `pick`.
///
/// ```
/// use rpcnet_balance::from_fn;
///
/// let first_come = from_fn(|view, cx| {
///     view.endpoints().iter().position(|endpoint| cx.allows(endpoint))
/// });
/// # use rpcnet_balance::{Balancer, PickContext, View};
/// # assert_eq!(first_come.pick(&View::new([], 0), &PickContext::new()), None);
/// ```
pub fn from_fn<F>(pick: F) -> FromFn<F>
where
    F: Fn(&View, &PickContext<'_>) -> Option<usize> + Send + Sync,
{
    FromFn { pick }
}

/// The balancer made by [`from_fn`].
#[derive(Clone, Copy)]
pub struct FromFn<F> {
    pick: F,
}

impl<F> Balancer for FromFn<F>
where
    F: Fn(&View, &PickContext<'_>) -> Option<usize> + Send + Sync,
{
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        (self.pick)(view, cx)
    }
}

impl<F> fmt::Debug for FromFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromFn").finish_non_exhaustive()
    }
}
