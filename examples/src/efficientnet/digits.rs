//! Handwritten digits as images for a network that was made for photographs.

use std::io::Read;

use burn::tensor::{Device, Tensor};
use firebrick::transfer::score::Features;
use firebrick_examples::pretrained::Failure;
use flate2::read::GzDecoder;

/// 5,000 images of 28x28 pixels, 500 of each digit; origin and licence stand beside the file.
const MNIST: &[u8] = include_bytes!("../../data/mnist-5000.csv.gz");
const SIDE: usize = 28;

/// Some images of each digit.
#[derive(Debug)]
pub(crate) struct Images {
    /// Grey levels 0 to 1, image after image.
    levels: Vec<f32>,
    pub(crate) labels: Vec<u32>,
}

/// The first `count` images of each digit.
pub(crate) fn read(count: usize) -> Result<Images, Failure> {
    let unusable = |reason: String| Failure::File { path: "mnist-5000.csv.gz".into(), reason };
    let mut text = String::new();
    GzDecoder::new(MNIST).read_to_string(&mut text)?;
    let mut images = Images { levels: Vec::new(), labels: Vec::new() };
    let mut taken = [0; 10];
    for line in text.lines() {
        let numbers =
            line.split(',').map(str::trim).map(str::parse::<f32>).collect::<Result<Vec<_>, _>>();
        let numbers = numbers.map_err(|error| unusable(error.to_string()))?;
        let [levels @ .., label] = numbers.as_slice() else { continue };
        let place = taken.get_mut(*label as usize).filter(|_| levels.len() == SIDE * SIDE);
        let place = place.ok_or_else(|| unusable("a row is no image with a digit".to_owned()))?;
        if *place < count {
            *place += 1;
            images.levels.extend(levels.iter().map(|level| level / 255.0));
            images.labels.push(*label as u32);
        }
    }
    Ok(images)
}

impl Images {
    /// `[n, 3, size, size]`, -1 to 1: enlarged by repeating the nearest pixel, the same in each channel.
    pub(crate) fn inputs(&self, size: usize, device: &Device) -> Tensor<4> {
        let mut values = Vec::with_capacity(self.labels.len() * size * size);
        for image in self.levels.chunks_exact(SIDE * SIDE) {
            for row in 0..size {
                let row = row * SIDE / size;
                values.extend(
                    (0..size).map(|column| 2.0 * image[row * SIDE + column * SIDE / size] - 1.0),
                );
            }
        }
        let grey = Tensor::<1>::from_floats(values.as_slice(), device);
        grey.reshape([self.labels.len(), 1, size, size]).repeat_dim(1, 3)
    }

    /// The grey levels as they are.
    pub(crate) fn pixels(&self) -> Result<Features, Failure> {
        Ok(Features::from_f32(&self.levels, SIDE * SIDE)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_of_each_digit_and_the_corners_stay() {
        let images = read(3).expect("embedded");
        assert!(
            (0..10).all(|digit| images.labels.iter().filter(|label| **label == digit).count() == 3)
        );
        let big = images.inputs(56, &Device::flex());
        assert_eq!(big.dims(), [30, 3, 56, 56]);
        let pixel = |y: usize, x: usize| {
            big.clone().slice([0..1, 1..2, y..y + 1, x..x + 1]).into_scalar::<f32>()
        };
        assert_eq!(pixel(28, 30), 2.0 * images.levels[14 * SIDE + 15] - 1.0);
    }
}
