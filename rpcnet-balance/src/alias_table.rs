//! Alias table: weighted random choice in constant time.

use crate::{View, rng::Rng};

/// Alias table (Walker's method, as by Vose, 1991): columns of equal width, each shared by an
/// endpoint and at most one other. A uniform number picks the column, its fraction decides between
/// the two.
#[derive(Debug)]
pub(crate) struct AliasTable {
    entries: Box<[AliasEntry]>,
    generation: u64,
}

#[derive(Debug, Clone, Copy)]
struct AliasEntry {
    /// The part of the column that belongs to the endpoint itself, in units of 2^-32.
    threshold: u32,
    alias: u32,
}

impl AliasTable {
    /// The table for the current weights of a view.
    pub(crate) fn new(view: &View) -> Self {
        let weights = view.endpoints().iter().map(|one| f64::from(one.weight()));
        let sum: f64 = weights.clone().sum();
        // 1 is the width of a column.
        let mut scaled: Vec<f64> = weights
            .map(|weight| weight / sum * view.len() as f64)
            .collect();
        let mut columns: Box<[AliasEntry]> = (0..view.len() as u32)
            .map(|index| AliasEntry {
                threshold: u32::MAX,
                alias: index,
            })
            .collect();
        let (mut light, mut heavy_ones): (Vec<usize>, Vec<usize>) =
            (0..scaled.len()).partition(|&index| scaled[index] < 1.0);
        while let (Some(&low), Some(&heavy)) = (light.last(), heavy_ones.last()) {
            light.pop();
            columns[low] = AliasEntry {
                threshold: (scaled[low] * f64::from(u32::MAX)) as u32,
                alias: heavy as u32,
            };
            scaled[heavy] -= 1.0 - scaled[low];
            if scaled[heavy] < 1.0 {
                heavy_ones.pop();
                light.push(heavy);
            }
        }
        Self {
            entries: columns,
            generation: view.generation(),
        }
    }

    /// Whether the table was made for this view.
    #[inline]
    pub(crate) fn is_for(&self, view: &View) -> bool {
        self.entries.len() == view.len() && self.generation == view.generation()
    }

    /// The endpoint at `point`, a number that is uniform over all of `u64`. The table must not be
    /// empty.
    #[inline]
    pub(crate) fn endpoint_at(&self, point: u64) -> usize {
        let position = u128::from(point) * self.entries.len() as u128;
        let (index, fraction) = ((position >> 64) as usize, (position >> 32) as u32);
        let column = self.entries[index];
        if fraction <= column.threshold {
            index
        } else {
            column.alias as usize
        }
    }
}

/// Picks one of those that have a `weight`, with a probability in proportion to it; looks at all.
#[cold]
pub(crate) fn scan_by_weight(
    len: usize,
    rng: &mut Rng,
    weight: impl Fn(usize) -> Option<f32>,
) -> Option<usize> {
    let (mut sum, mut picked) = (0.0, None);
    for index in 0..len {
        if let Some(weight) = weight(index) {
            sum += f64::from(weight);
            // It is kept to the end with probability weight / sum of all.
            if picked.is_none()
                || f64::from(crate::rng::unit_f32(rng.next())) * sum < f64::from(weight)
            {
                picked = Some(index);
            }
        }
    }
    picked
}
