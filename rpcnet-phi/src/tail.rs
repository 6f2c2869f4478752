//! Upper tail of the standard normal distribution, on a logarithmic scale.
//!
//! Q(z) = P(Z > z), evaluated without overflow.

use core::f64::consts::{FRAC_1_SQRT_2, LN_10, LOG10_2, PI};

/// Q(z), accurate to the last digits wherever it is representable (down to z = 38.5).
#[inline]
pub(crate) fn upper_tail(z: f64) -> f64 {
    0.5 * libm::erfc(z * FRAC_1_SQRT_2)
}

/// The density of the standard normal distribution.
#[inline]
pub(crate) fn density(z: f64) -> f64 {
    FRAC_1_SQRT_2PI * libm::exp(-0.5 * z * z)
}

/// -log10 Q(z), saturating at `f64::MAX`.
pub(crate) fn phi(z: f64) -> f64 {
    if z < 0.0 {
        // Q is close to one: its distance from one has more significant digits.
        -libm::log1p(-upper_tail(-z)) / LN_10
    } else if z < CONTINUED_FRACTION_Z_MIN {
        -libm::log10(upper_tail(z))
    } else {
        saturate((0.5 * z * z + libm::log(continued_fraction(z)) + HALF_LN_2PI) / LN_10)
    }
}

/// The z at which -log10 Q(z) is `phi`. At or below zero: the z below which it is zero in an `f64`.
pub(crate) fn inverse_phi(phi: f64) -> f64 {
    if phi <= 0.0 {
        -Z_PHI_ZERO
    } else if phi < LOG10_2 {
        // 1 - Q(z) = Q(-z) is the small number here, so the equation is solved for that tail.
        -inverse_negative_log_upper_tail(-libm::log(-libm::expm1(-phi * LN_10)))
    } else if phi > 1e30 {
        // The logarithmic terms are below the last digit; their squares would overflow further up.
        libm::sqrt(2.0 * LN_10) * libm::sqrt(phi)
    } else {
        inverse_negative_log_upper_tail(phi * LN_10)
    }
}

/// The value clamped to finite numbers; a NaN stays a NaN.
#[inline]
pub(crate) fn saturate(value: f64) -> f64 {
    value.clamp(f64::MIN, f64::MAX)
}

/// The z >= 0 at which -ln Q(z) is `s`, for `s` from ln 2.
///
/// Newton's method: -ln Q is convex and increasing, so from the second step on it comes down on the
/// root from above.
fn inverse_negative_log_upper_tail(s: f64) -> f64 {
    let mut z = if s > 2.0 {
        libm::sqrt(2.0 * s - libm::log(4.0 * PI * s))
    } else {
        0.0
    };
    for _ in 0..16 {
        let (value, hazard) = negative_log_upper_tail(z);
        let step = (value - s) / hazard;
        z = (z - step).max(0.0);
        if step.abs() <= 2.0 * f64::EPSILON * z.max(1.0) {
            break;
        }
    }
    z
}

/// -ln Q(z) and its derivative, the hazard rate, for z >= 0.
fn negative_log_upper_tail(z: f64) -> (f64, f64) {
    if z < CONTINUED_FRACTION_Z_MIN {
        let q = upper_tail(z);
        (-libm::log(q), density(z) / q)
    } else {
        let t = continued_fraction(z);
        (0.5 * z * z + libm::log(t) + HALF_LN_2PI, t)
    }
}

/// Laplace's continued fraction for density(z) / Q(z). Twenty levels are exact in an `f64` from z =
/// 5 on.
#[inline]
fn continued_fraction(z: f64) -> f64 {
    let mut t = z;
    for k in (1..=20_u32).rev() {
        t = z + f64::from(k) / t;
    }
    t
}

const CONTINUED_FRACTION_Z_MIN: f64 = 5.0;
const HALF_LN_2PI: f64 = 0.918_938_533_204_672_7;
const FRAC_1_SQRT_2PI: f64 = 0.398_942_280_401_432_7;
/// Smallest z from which 1 - Q(-z) is zero in an `f64`.
pub(crate) const Z_PHI_ZERO: f64 = 38.6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverse_matches_published_quantiles() {
        for (target, z) in [
            (1.0, 1.281_551_565_544_6),
            (2.0, 2.326_347_874_040_841),
            (8.0, 5.612_001_244_174_789),
            (20.0, 9.262_340_089_798_408),
            (300.0, 37.047_096_299_361_2),
            (10_000.0, 214.567_301_079_361_5),
        ] {
            let found = inverse_phi(target);
            assert!(
                (found - z).abs() <= 1e-12 * z,
                "inverse({target}) = {found}, not {z}"
            );
        }
    }

    #[test]
    fn the_branches_agree_where_they_meet() {
        for seam in [0.0, CONTINUED_FRACTION_Z_MIN] {
            let (below, above) = (phi(seam - 1e-13), phi(seam));
            assert!(
                (above - below).abs() <= 1e-12 * above,
                "{below} then {above} at {seam}"
            );
        }
    }

    #[test]
    fn extreme_arguments_give_finite_results() {
        assert_eq!(phi(f64::NEG_INFINITY), 0.0);
        assert_eq!(phi(-Z_PHI_ZERO), 0.0);
        assert_eq!(phi(f64::INFINITY), f64::MAX);
        assert_eq!(phi(1e300), f64::MAX);
        assert!(inverse_phi(f64::MAX).is_finite());
        assert!(inverse_phi(5e-324) > -Z_PHI_ZERO && inverse_phi(5e-324) < -38.0);
        assert_eq!(inverse_phi(0.0), -Z_PHI_ZERO);
    }
}
