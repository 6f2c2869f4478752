//! Power of d choices: the best of a few endpoints that are drawn at random.

use std::hint::select_unpredictable;

use crate::{
    Endpoint, PickContext, View,
    rng::Rng,
    sample::{self, Drawn},
};

/// What an endpoint is chosen by.
pub(crate) trait Candidate: Copy {
    /// Whether this endpoint is better than `other`. Of equal ones the first one drawn is picked,
    /// which is random.
    fn beats(&self, other: &Self) -> bool;

    /// Whether the endpoint is so bad that more should be drawn.
    fn is_degraded(&self) -> bool;

    /// One of two, by a condition that a branch predictor could not guess.
    fn select(condition: bool, yes: Self, no: Self) -> Self;
}

/// How endpoints are judged at the time of a pick.
pub(crate) trait Criterion {
    /// What an endpoint is chosen by.
    type Candidate: Candidate;

    /// What this endpoint is chosen by.
    fn candidate(&self, endpoint: &Endpoint) -> Self::Candidate;
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
    let Some(drawn) = sample::different::<N>(view, cx, rng) else {
        return best_with_retries(view, cx, rng, N as u32 + further, criterion);
    };
    let mut best = (drawn[0].index, criterion.candidate(drawn[0].endpoint));
    for Drawn { index, endpoint } in &drawn[1..] {
        let other = criterion.candidate(endpoint);
        let is_better = other.beats(&best.1);
        best.0 = select_unpredictable(is_better, *index, best.0);
        best.1 = C::Candidate::select(is_better, other, best.1);
    }
    if further > 0 || best.1.is_degraded() {
        return Some(best_of_more(view, cx, rng, further, best, criterion));
    }
    Some(best.0)
}

/// Draws `further` endpoints, and some more if all that were drawn are degraded.
#[cold]
fn best_of_more<C: Criterion>(
    view: &View,
    cx: &PickContext<'_>,
    rng: &mut Rng,
    further: u32,
    (mut picked, mut best): (usize, C::Candidate),
    criterion: &C,
) -> usize {
    for number in 0..further.saturating_add(REDRAWS_MAX) {
        if number >= further && !best.is_degraded() {
            break;
        }
        if let Some(index) = sample::another(view, cx, rng) {
            let other = criterion.candidate(&view[index]);
            if other.beats(&best) {
                (picked, best) = (index, other);
            }
        }
    }
    picked
}

/// The best of a few choices in a view where some endpoints may not be picked.
#[inline(never)]
fn best_with_retries<C: Criterion>(
    view: &View,
    cx: &PickContext<'_>,
    rng: &mut Rng,
    choices: u32,
    criterion: &C,
) -> Option<usize> {
    let (first, second) = sample::pair(view, cx, rng)?;
    if first == second {
        return Some(first);
    }
    let (a, b) = (
        criterion.candidate(&view[first]),
        criterion.candidate(&view[second]),
    );
    let best = if b.beats(&a) { (second, b) } else { (first, a) };
    let further = choices.saturating_sub(2);
    Some(best_of_more(view, cx, rng, further, best, criterion))
}

/// Draws while all endpoints that were drawn are degraded.
const REDRAWS_MAX: u32 = 6;
