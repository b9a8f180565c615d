//! Changes whose numbers are drawn: the same plan is carried out in host memory or by tensor operations.

use super::kernel::{self, Scratch, Size};
use std::ops::Range;

/// One change of one image.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Edit {
    Keep,
    Shift {
        down: i64,
        right: i64,
    },
    FlipHorizontal,
    FlipVertical,
    /// Output to source, relative to the centre.
    Affine([f64; 6]),
    /// Side, and centre relative to that of the image.
    Crop([f64; 3]),
    Displace {
        dx: Vec<f32>,
        dy: Vec<f32>,
    },
    Erase {
        rows: Range<usize>,
        columns: Range<usize>,
    },
    Brightness(f64),
    Saturation(f64),
    Contrast(f64),
    Sharpness(f64),
    Posterize(u32),
    Solarize(f64),
    AutoContrast,
    Equalize,
    Add(Vec<f32>),
}

impl Edit {
    /// Changes one image in host memory.
    pub(crate) fn apply(&self, image: &mut [f32], size: Size, scratch: &mut Scratch) {
        match self {
            Self::Keep => {}
            Self::Shift { down, right } => kernel::shift(image, size, *down, *right, scratch),
            Self::FlipHorizontal => kernel::flip_horizontal(image, size),
            Self::FlipVertical => kernel::flip_vertical(image, size),
            Self::Affine(inverse) => kernel::affine(image, size, *inverse, scratch),
            Self::Crop(crop) => kernel::crop(image, size, *crop, scratch),
            Self::Displace { dx, dy } => kernel::displace(image, size, dx, dy, scratch),
            Self::Erase { rows, columns } => kernel::erase(image, size, rows, columns),
            Self::Brightness(factor) => kernel::brightness(image, *factor),
            Self::Saturation(factor) => kernel::saturation(image, size, *factor),
            Self::Contrast(factor) => kernel::contrast(image, size, *factor),
            Self::Sharpness(factor) => kernel::sharpness(image, size, *factor, scratch),
            Self::Posterize(bits) => kernel::posterize(image, *bits),
            Self::Solarize(threshold) => kernel::solarize(image, *threshold),
            Self::AutoContrast => kernel::auto_contrast(image, size),
            Self::Equalize => kernel::equalize(image, size),
            Self::Add(field) => {
                image.iter_mut().zip(field).for_each(|(value, add)| *value += add);
            }
        }
    }
}

/// All that is done to one image.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Plan {
    /// One change after the other.
    Chain(Vec<Edit>),
    /// A weighted sum of the image itself and of chains that start from it.
    Mix { own: f32, chains: Vec<(f32, Vec<Edit>)> },
}

impl Plan {
    /// Changes one image in host memory.
    pub(crate) fn apply(&self, image: &mut [f32], size: Size, scratch: &mut Scratch) {
        match self {
            Self::Chain(edits) => edits.iter().for_each(|edit| edit.apply(image, size, scratch)),
            Self::Mix { own, chains } => {
                let mut mixed: Vec<f32> = image.iter().map(|value| own * value).collect();
                let mut changed = Vec::with_capacity(image.len());
                for (weight, edits) in chains {
                    changed.clear();
                    changed.extend_from_slice(image);
                    edits.iter().for_each(|edit| edit.apply(&mut changed, size, scratch));
                    mixed.iter_mut().zip(&changed).for_each(|(sum, value)| *sum += weight * value);
                }
                image.copy_from_slice(&mixed);
            }
        }
    }
}
