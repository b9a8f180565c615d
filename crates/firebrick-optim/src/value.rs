//! The numbers that a rule computes with.
//!
//! A recurrence is written once, over [`Value`], and runs on `f32` (the fused pass over host memory), on `f64`
//! (references and the gallery) and on whole tensors (every other back-end and element type).

use burn::tensor::Tensor;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// A real number, or a tensor of them that is computed with element by element.
///
/// Scalars come as `f64`; each implementation rounds them once to its own precision.
pub trait Value:
    Clone
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// `k`, as a number like this one.
    #[must_use]
    fn constant(&self, k: f64) -> Self;
    /// `self * k`.
    #[must_use]
    fn scale(self, k: f64) -> Self;
    /// `self + k`.
    #[must_use]
    fn offset(self, k: f64) -> Self;
    /// Square root.
    #[must_use]
    fn sqrt(self) -> Self;
    /// Magnitude.
    #[must_use]
    fn abs(self) -> Self;
    /// -1, 0 or 1; 0 for NaN, as in PyTorch.
    #[must_use]
    fn sign(self) -> Self;
    /// The greater of the two; NaN if either is NaN.
    #[must_use]
    fn max(self, other: Self) -> Self;
    /// Limits to `[low, high]`; NaN stays NaN.
    #[must_use]
    fn clamp(self, low: f64, high: f64) -> Self;
    /// `positive` where `self > 0`, else `otherwise`.
    #[must_use]
    fn where_positive(self, positive: Self, otherwise: Self) -> Self;
    /// Angle of the point (`x`, `self`) for `x >= 0`.
    #[must_use]
    fn atan2(self, x: Self) -> Self;
    /// `self * self`.
    #[must_use]
    #[inline(always)]
    fn square(self) -> Self {
        self.clone() * self
    }
    /// `self + (other - self) * k`, from the nearer end as PyTorch's `lerp`: for `k = 1` it is `other` to the last bit.
    #[must_use]
    #[inline(always)]
    fn lerp(self, other: Self, k: f64) -> Self {
        let way = other.clone() - self.clone();
        if k < 0.5 { self + way.scale(k) } else { other - way.scale(1.0 - k) }
    }
}

/// atan2 for `x >= 0` in f32 without branches or calls, so that loops over it vectorize; within 2 units in the last
/// place. S. Moshier's polynomial of the arc tangent on [0, tan(pi / 8)] after one reduction.
#[inline(always)]
fn angle(y: f32, x: f32) -> f32 {
    use std::f32::consts::{FRAC_PI_2, FRAC_PI_4};
    let (a, x) = (y.abs(), x.abs());
    let (low, high) = if a < x { (a, x) } else { (x, a) };
    let q = if high > 0.0 { low / high } else { low };
    // Both infinite: the diagonal.
    let q = if low == f32::INFINITY { 1.0 } else { q };
    let large = q > 0.414_213_56;
    let r = if large { (q - 1.0) / (q + 1.0) } else { q };
    let z = r * r;
    let p = ((8.053_744_5e-2 * z - 1.387_768_5e-1) * z + 1.997_771_1e-1) * z - 3.333_295e-1;
    let base = if large { FRAC_PI_4 } else { 0.0 };
    let near = base + (p * z * r + r);
    let whole = if a > x { FRAC_PI_2 - near } else { near };
    let whole = if y.is_nan() || x.is_nan() { f32::NAN } else { whole };
    whole.copysign(y)
}

macro_rules! scalar_value {
    ($t:ty, $atan2:expr) => {
        impl Value for $t {
            #[inline(always)]
            fn constant(&self, k: f64) -> Self {
                k as $t
            }
            #[inline(always)]
            fn scale(self, k: f64) -> Self {
                self * k as $t
            }
            #[inline(always)]
            fn offset(self, k: f64) -> Self {
                self + k as $t
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                <$t>::sqrt(self)
            }
            #[inline(always)]
            fn abs(self) -> Self {
                <$t>::abs(self)
            }
            #[inline(always)]
            fn sign(self) -> Self {
                (if self > 0.0 { 1.0 } else { 0.0 }) - (if self < 0.0 { 1.0 } else { 0.0 })
            }
            #[inline(always)]
            fn max(self, other: Self) -> Self {
                // Comparisons rather than `f32::max`, which drops a NaN.
                if self > other || self.is_nan() { self } else { other }
            }
            #[inline(always)]
            fn clamp(self, low: f64, high: f64) -> Self {
                let (low, high) = (low as $t, high as $t);
                let floor = if self < low { low } else { self };
                if floor > high { high } else { floor }
            }
            #[inline(always)]
            fn where_positive(self, positive: Self, otherwise: Self) -> Self {
                if self > 0.0 { positive } else { otherwise }
            }
            #[inline(always)]
            fn atan2(self, x: Self) -> Self {
                $atan2(self, x)
            }
        }
    };
}
scalar_value!(f32, angle);
scalar_value!(f64, f64::atan2);

impl<const D: usize> Value for Tensor<D> {
    fn constant(&self, k: f64) -> Self {
        self.full_like(k)
    }
    fn scale(self, k: f64) -> Self {
        self.mul_scalar(k)
    }
    fn offset(self, k: f64) -> Self {
        self.add_scalar(k)
    }
    fn sqrt(self) -> Self {
        Tensor::sqrt(self)
    }
    fn abs(self) -> Self {
        Tensor::abs(self)
    }
    fn sign(self) -> Self {
        // Tensors on some back-ends give NaN for the sign of NaN.
        let nan = self.clone().is_nan();
        Tensor::sign(self).mask_fill(nan, 0.0)
    }
    fn max(self, other: Self) -> Self {
        let nan = self.clone().is_nan();
        self.clone().max_pair(other).mask_where(nan, self)
    }
    fn clamp(self, low: f64, high: f64) -> Self {
        let nan = self.clone().is_nan();
        Tensor::clamp(self, low, high).mask_fill(nan, f64::NAN)
    }
    fn where_positive(self, positive: Self, otherwise: Self) -> Self {
        let mask = self.greater_scalar(0.0);
        otherwise.mask_where(mask, positive)
    }
    fn atan2(self, x: Self) -> Self {
        // Shaders leave the angle of the origin open.
        let origin = self.clone().equal_scalar(0.0).bool_and(x.clone().equal_scalar(0.0));
        Tensor::atan2(self, x).mask_fill(origin, 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_angle_is_that_of_the_library() {
        let mut stream = firebrick_core::Seed(5).stream("angle");
        let mut worst = 0.0f64;
        for _ in 0..200_000 {
            let y = (stream.normal() * (20.0 * stream.normal()).exp2()) as f32;
            let x = (stream.normal() * (20.0 * stream.normal()).exp2()).abs() as f32;
            let exact = f64::from(y).atan2(f64::from(x));
            worst = worst.max((f64::from(angle(y, x)) - exact).abs() / exact.abs().max(1e-30));
        }
        assert!(worst < 3e-7, "{worst}");
    }

    #[test]
    fn edges_of_the_angle() {
        let inf = f32::INFINITY;
        for (y, x) in [
            (0.0, 0.0),
            (0.0, 1.0),
            (1.0, 0.0),
            (-1.0, 0.0),
            (inf, 1.0),
            (1.0, inf),
            (inf, inf),
            (-inf, 2.0),
        ] {
            let y: f32 = y;
            assert!((angle(y, x) - y.atan2(x)).abs() < 3e-7, "{y} {x}");
        }
        assert!(angle(f32::NAN, 1.0).is_nan() && angle(1.0, f32::NAN).is_nan());
    }

    /// From the far end a small number beside a large one would lose its digits.
    #[test]
    fn both_ends_of_a_way_are_met_exactly() {
        for k in [0.5, 0.9, 1.0] {
            let seen = Value::lerp(1e6f32, 1e-3, k);
            let exact = 1e6 + (1e-3 - 1e6) * k;
            assert!((f64::from(seen) - exact).abs() <= 3e-7 * exact.abs(), "{k}: {seen}");
        }
        assert_eq!(Value::lerp(1e6f32, 1e-3, 1.0), 1e-3);
        assert_eq!(Value::lerp(1e-3f32, 1e6, 0.0), 1e-3);
    }

    #[test]
    fn nan_stays_nan_but_has_no_sign() {
        let nan = f32::NAN;
        assert!(Value::max(nan, 1.0).is_nan() && Value::max(1.0, nan).is_nan());
        assert!(Value::clamp(nan, -1.0, 1.0).is_nan());
        assert_eq!((Value::sign(nan), Value::sign(-3f32), Value::sign(0f32)), (0.0, -1.0, 0.0));
        assert_eq!(Value::where_positive(nan, 1.0, 2.0), 2.0);
    }
}
