//! Random sampling of a few endpoints.

use crate::{
    Endpoint, PickContext, View,
    endpoint_state::{StateSnapshot, Traits},
    rng::Rng,
};

/// Endpoint that was drawn, and its index in the view.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Drawn<'a> {
    pub(crate) index: usize,
    pub(crate) endpoint: &'a Endpoint,
}

/// `N` endpoints of which the first two differ; `None` if there is but one. Whether they may be
/// picked is not looked at.
#[inline(always)]
pub(crate) fn draw<'a, const N: usize>(view: &'a View, rng: &mut Rng) -> Option<[Drawn<'a>; N]> {
    let len = view.len();
    if len < 2 {
        return None;
    }
    let (first, second) = pair_below(rng.next(), len);
    let at = |index| Drawn {
        index,
        endpoint: &view[index],
    };
    let mut drawn = [at(first); N];
    for (number, one) in drawn.iter_mut().enumerate().skip(1) {
        *one = at(if number == 1 { second } else { rng.below(len) });
    }
    Some(drawn)
}

/// Whether all endpoints may be picked, and have none of the traits.
#[inline(always)]
pub(crate) fn are_ordinary<const N: usize>(
    drawn: &[Drawn<'_>; N],
    cx: &PickContext<'_>,
    rare: Traits,
) -> bool {
    let states = drawn.iter().map(|one| one.endpoint.state());
    let state = states.fold(StateSnapshot::EMPTY, StateSnapshot::or);
    state.is_ordinary(cx.respected_flags(), rare)
        && (!cx.has_exclusions() || drawn.iter().all(|one| cx.allows_id(one.endpoint.id())))
}

/// Two different numbers in `0..len` from one random number: views are far smaller than 2^32.
#[inline]
const fn pair_below(random: u64, len: usize) -> (usize, usize) {
    let first = scale_to(random >> 32, len);
    let second = scale_to(random & u32::MAX as u64, len - 1);
    (first, second + (second >= first) as usize)
}

/// Two different endpoints that may be picked, twice the same if there is only one; `None` if there
/// is none.
#[inline]
pub(crate) fn pair(view: &View, cx: &PickContext<'_>, rng: &mut Rng) -> Option<(usize, usize)> {
    let len = view.len();
    if len > 1 {
        let (first, second) = pair_below(rng.next(), len);
        // Nearly always every endpoint is allowed.
        if cx.allows(&view[first]) & cx.allows(&view[second]) {
            return Some((first, second));
        }
    }
    if len == 1 {
        return cx.allows(&view[0]).then_some((0, 0));
    }
    pair_with_retries(view, cx, rng)
}

/// A random endpoint that may be picked, each equally likely; `None` if there is none.
#[inline]
pub(crate) fn one(view: &View, cx: &PickContext<'_>, rng: &mut Rng) -> Option<usize> {
    let len = view.len();
    for _ in 0..DRAWS_MAX {
        if len == 0 {
            return None;
        }
        let any = rng.below(len);
        if cx.allows(&view[any]) {
            return Some(any);
        }
    }
    reservoir(view, cx, rng).map(|(any, _)| any)
}

/// A random endpoint that may be picked, if a single try finds one.
#[inline]
pub(crate) fn another(view: &View, cx: &PickContext<'_>, rng: &mut Rng) -> Option<usize> {
    let any = rng.below(view.len());
    cx.allows(&view[any]).then_some(any)
}

#[cold]
fn pair_with_retries(view: &View, cx: &PickContext<'_>, rng: &mut Rng) -> Option<(usize, usize)> {
    let mut found = None;
    for _ in 0..DRAWS_MAX {
        if view.is_empty() {
            return None;
        }
        let any = rng.below(view.len());
        if !cx.allows(&view[any]) {
            continue;
        }
        match found {
            None => found = Some(any),
            Some(first) if first != any => return Some((first, any)),
            Some(_) => {}
        }
    }
    reservoir(view, cx, rng)
}

/// Reservoir sampling over all endpoints, for the case that few are allowed.
#[cold]
fn reservoir(view: &View, cx: &PickContext<'_>, rng: &mut Rng) -> Option<(usize, usize)> {
    let (mut kept, mut seen) = ([0; 2], 0);
    for index in (0..view.len()).filter(|&index| cx.allows(&view[index])) {
        let slot = if seen < 2 { seen } else { rng.below(seen + 1) };
        if let Some(slot) = kept.get_mut(slot) {
            *slot = index;
        }
        seen += 1;
    }
    match seen {
        0 => None,
        1 => Some((kept[0], kept[0])),
        // The first two stand in order, which must not decide a tie.
        _ if rng.below(2) == 0 => Some((kept[0], kept[1])),
        _ => Some((kept[1], kept[0])),
    }
}

const fn scale_to(random: u64, len: usize) -> usize {
    ((random * len as u64) >> 32) as usize
}

/// Number of draws before all endpoints are looked at: if fewer than one in four is allowed, that
/// is cheaper than more draws.
const DRAWS_MAX: usize = 8;
