//! Power of d choices: the best of a few endpoints that are drawn at random.

use std::hint::select_unpredictable;

use crate::{
    Endpoint, PickContext, View,
    endpoint_state::Traits,
    rng::Rng,
    sample::{self, Drawn},
};

/// Rule by which endpoints are compared at the time of a pick.
pub(crate) trait Criterion {
    /// Figures of an endpoint without rare traits.
    type Ordinary: Contender;
    /// Figures of any endpoint.
    type Any: Contender;

    /// The traits that are rare, and that an [ordinary](Self::ordinary) endpoint has not.
    const RARE: Traits;

    fn ordinary(&self, endpoint: &Endpoint) -> Self::Ordinary;

    fn any(&self, endpoint: &Endpoint) -> Self::Any;
}

/// Figures of an endpoint that it is compared by.
pub(crate) trait Contender: Copy {
    /// Whether this endpoint is better than `other`. Of equal ones the first one drawn is picked,
    /// which is random.
    fn beats(&self, other: &Self) -> bool;

    /// Whether the endpoint is so bad that more should be drawn.
    fn is_degraded(&self) -> bool;

    /// One of two, by a condition that a branch predictor could not guess.
    fn select(condition: bool, yes: Self, no: Self) -> Self;
}

/// The best of `N` endpoints and `further` ones, drawn at random, of which the first two differ.
/// More are drawn if all are degraded. `None` if there is none that may be picked.
#[inline(always)]
pub(crate) fn best_of<const N: usize, C: Criterion>(
    view: &View,
    cx: &PickContext<'_>,
    rng: &mut Rng,
    further: u32,
    criterion: &C,
) -> Option<usize> {
    if let [only] = view.endpoints() {
        return cx.allows(only).then_some(0);
    }
    let before = rng.clone();
    let drawn = sample::draw::<N>(view, rng);
    let Some(drawn) = drawn.filter(|drawn| sample::are_ordinary(drawn, cx, C::RARE)) else {
        return best_of_any::<N, C>(view, cx, before, further, criterion);
    };
    let (best, contender) = best_in(&drawn, &AsOrdinary(criterion));
    if further > 0 || contender.is_degraded() {
        return Some(best_of_more(view, cx, rng, further, best, criterion));
    }
    Some(best)
}

/// Figures of the endpoints of a comparison. Not a closure, since these are not inlined where there
/// are several calls.
trait Figures {
    type Contender: Contender;

    fn of(&self, endpoint: &Endpoint) -> Self::Contender;
}

/// Figures of endpoints without rare traits.
struct AsOrdinary<'a, C>(&'a C);

/// Figures of any endpoints.
struct AsAny<'a, C>(&'a C);

impl<C: Criterion> Figures for AsOrdinary<'_, C> {
    type Contender = C::Ordinary;

    #[inline(always)]
    fn of(&self, endpoint: &Endpoint) -> C::Ordinary {
        self.0.ordinary(endpoint)
    }
}

impl<C: Criterion> Figures for AsAny<'_, C> {
    type Contender = C::Any;

    #[inline]
    fn of(&self, endpoint: &Endpoint) -> C::Any {
        self.0.any(endpoint)
    }
}

/// The best of the endpoints.
#[inline(always)]
fn best_in<const N: usize, F: Figures>(
    drawn: &[Drawn<'_>; N],
    figures: &F,
) -> (usize, F::Contender) {
    let mut best = (drawn[0].index, figures.of(drawn[0].endpoint));
    for Drawn { index, endpoint } in &drawn[1..] {
        let other = figures.of(endpoint);
        let is_better = other.beats(&best.1);
        best.0 = select_unpredictable(is_better, *index, best.0);
        best.1 = F::Contender::select(is_better, other, best.1);
    }
    best
}

/// Draws `further` endpoints, and some more if all that were drawn are degraded.
#[cold]
fn best_of_more<C: Criterion>(
    view: &View,
    cx: &PickContext<'_>,
    rng: &mut Rng,
    further: u32,
    mut picked: usize,
    criterion: &C,
) -> usize {
    let mut best = criterion.any(&view[picked]);
    for number in 0..further.saturating_add(REDRAWS_MAX) {
        if number >= further && !best.is_degraded() {
            break;
        }
        if let Some(index) = sample::another(view, cx, rng) {
            let other = criterion.any(&view[index]);
            if other.beats(&best) {
                (picked, best) = (index, other);
            }
        }
    }
    picked
}

/// Like [`best_of`], where some endpoints may not be picked, or have rare traits.
#[inline(never)]
fn best_of_any<const N: usize, C: Criterion>(
    view: &View,
    cx: &PickContext<'_>,
    mut rng: Rng,
    further: u32,
    criterion: &C,
) -> Option<usize> {
    let drawn = sample::draw::<N>(view, &mut rng);
    let allowed = drawn.filter(|drawn| drawn.iter().all(|one| cx.allows(one.endpoint)));
    if let Some(drawn) = allowed {
        let (best, contender) = best_in(&drawn, &AsAny(criterion));
        if further > 0 || contender.is_degraded() {
            return Some(best_of_more(view, cx, &mut rng, further, best, criterion));
        }
        return Some(best);
    }
    let (first, second) = sample::pair(view, cx, &mut rng)?;
    if first == second {
        return Some(first);
    }
    let [a, b] = [first, second].map(|index| criterion.any(&view[index]));
    let better = if b.beats(&a) { second } else { first };
    let further = N as u32 - 2 + further;
    Some(best_of_more(view, cx, &mut rng, further, better, criterion))
}

/// Draws while all endpoints that were drawn are degraded.
const REDRAWS_MAX: u32 = 6;
