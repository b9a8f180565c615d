//! The dial: what is done to the target's images, so that the source helps more or less.

use crate::data::{Edge, Images, PIXELS, SIDE, bilinear};
use firebrick::prelude::Seed;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How the target differs from the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Shift {
    /// Not at all: other images of the same kind.
    Identity,
    /// The source is another data set of digits.
    OtherDigits,
    /// Turned by 20 degrees.
    Rotation20,
    /// Turned by 45 degrees.
    Rotation45,
    /// Black for white.
    Inversion,
    /// Pixels in another order, the same for all images.
    Permutation,
}

impl Shift {
    pub(crate) const ALL: [Self; 6] = [
        Self::Identity,
        Self::OtherDigits,
        Self::Rotation20,
        Self::Rotation45,
        Self::Inversion,
        Self::Permutation,
    ];

    /// The images as the target has them.
    pub(crate) fn apply(self, images: &Images) -> Images {
        match self {
            Self::Identity | Self::OtherDigits => images.clone(),
            Self::Rotation20 => images.map(|image| rotated(image, 20.0)),
            Self::Rotation45 => images.map(|image| rotated(image, 45.0)),
            Self::Inversion => images.map(|image| image.iter().map(|pixel| 1.0 - pixel).collect()),
            Self::Permutation => {
                let mut order: Vec<usize> = (0..PIXELS).collect();
                // Part of the task, not of a repetition.
                Seed(14).stream("permutation").shuffle(&mut order);
                images.map(|image| order.iter().map(|&at| image[at]).collect())
            }
        }
    }
}

impl fmt::Display for Shift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Identity => "identity",
            Self::OtherDigits => "other digits",
            Self::Rotation20 => "rotation 20",
            Self::Rotation45 => "rotation 45",
            Self::Inversion => "inversion",
            Self::Permutation => "permutation",
        })
    }
}

/// The image turned about its centre.
fn rotated(image: &[f32], degrees: f32) -> Vec<f32> {
    let (sin, cos) = degrees.to_radians().sin_cos();
    let centre = 0.5 * (SIDE as f32 - 1.0);
    (0..PIXELS)
        .map(|at| {
            let (y, x) = ((at / SIDE) as f32 - centre, (at % SIDE) as f32 - centre);
            let (row, column) = (cos * y + sin * x + centre, cos * x - sin * y + centre);
            bilinear(image, SIDE, row, column, Edge::Zero)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shifts_do_what_they_say() {
        let mut pixels = vec![0.0; PIXELS];
        pixels[3 * SIDE + 9] = 1.0;
        let image = Images { pixels, labels: vec![0] };
        assert_eq!(Shift::Identity.apply(&image), image);
        let inverted = Shift::Inversion.apply(&image);
        assert_eq!(inverted.pixels.iter().sum::<f32>(), PIXELS as f32 - 1.0);
        let permuted = Shift::Permutation.apply(&image);
        assert_eq!(permuted.pixels.iter().sum::<f32>(), 1.0);
        assert_ne!(permuted, image);
        // Four turns of 90 degrees are none; one moves (row, column) about the centre.
        let quarter = image.map(|image| rotated(image, 90.0));
        let at = quarter.pixels.iter().position(|pixel| *pixel > 0.99).expect("one bright pixel");
        assert!([(4, 3), (9, 10)].contains(&(at / SIDE, at % SIDE)), "{at}");
        // A small turn keeps most of the light.
        let light: f32 = Shift::Rotation20.apply(&image).pixels.iter().sum();
        assert!((light - 1.0).abs() < 0.2, "{light}");
    }
}
