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
    /// `self + (other - self) * k`, as PyTorch's `lerp` for `k < 0.5`.
    #[must_use]
    #[inline(always)]
    fn lerp(self, other: Self, k: f64) -> Self {
        self.clone() + (other - self).scale(k)
    }
}

macro_rules! scalar_value {
    ($t:ty) => {
        impl Value for $t {
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
                <$t>::atan2(self, x)
            }
        }
    };
}
scalar_value!(f32);
scalar_value!(f64);

impl<const D: usize> Value for Tensor<D> {
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
        Tensor::atan2(self, x)
    }
}
