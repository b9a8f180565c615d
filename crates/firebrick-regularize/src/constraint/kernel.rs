//! What a projection does to the elements, or to the units, of a weight in host memory.

/// What is done to the elements, or to the units, of a weight in host memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kernel {
    Nothing,
    NonNegative,
    /// The soft threshold.
    Soft(f32),
    MaxNorm(f64),
    UnitNorm,
    /// The threshold of a group of one element.
    Group(f64),
}

impl Kernel {
    pub(super) fn by_unit(self) -> bool {
        matches!(self, Self::MaxNorm(_) | Self::UnitNorm | Self::Group(_))
    }

    /// Changes elements each on its own.
    #[inline(always)]
    pub(super) fn elements(self, values: &mut [f32]) {
        match self {
            Self::NonNegative => {
                values.iter_mut().for_each(|w| *w = if *w < 0.0 { 0.0 } else { *w });
            }
            // Not `clamp`, whose check of its bounds keeps the loop from being vectorized; NaN stays NaN here too.
            Self::Soft(by) => values.iter_mut().for_each(|w| {
                *w -= if *w > by {
                    by
                } else if *w < -by {
                    -by
                } else {
                    *w
                };
            }),
            _ => {}
        }
    }

    /// What a unit of `size` elements is multiplied by; NaN stays visible.
    pub(super) fn factor(self, norm: f64, size: usize) -> f32 {
        let factor = match self {
            Self::MaxNorm(max) if norm > max || norm.is_nan() => max / norm,
            Self::UnitNorm if norm != 0.0 => 1.0 / norm,
            Self::Group(threshold) => {
                let kept = 1.0 - threshold * (size as f64).sqrt() / norm;
                if kept < 0.0 { 0.0 } else { kept }
            }
            _ => 1.0,
        };
        factor as f32
    }
}
