//! The images: two sets of real digits, embedded small, both brought to 14x14 pixels between 0 and 1.

use firebrick::prelude::Seed;
use flate2::read::GzDecoder;
use std::io::Read;

/// 5,000 images of 28x28 pixels; origin and licence stand beside the file.
const MNIST: &[u8] = include_bytes!("../../data/mnist-5000.csv.gz");
/// 1,797 images of 8x8 pixels.
const DIGITS: &[u8] = include_bytes!("../../data/optdigits-1797.csv.gz");

/// Pixels of a side.
pub(crate) const SIDE: usize = 14;
/// Pixels of an image.
pub(crate) const PIXELS: usize = SIDE * SIDE;
/// Digits.
pub(crate) const CLASSES: usize = 10;

/// Labelled images.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Images {
    /// Row after row, image after image.
    pub(crate) pixels: Vec<f32>,
    /// The class of each.
    pub(crate) labels: Vec<u32>,
}

impl Images {
    /// MNIST, averaged over 2x2 pixels.
    pub(crate) fn mnist() -> Result<Self, String> {
        Self::read("mnist-5000", MNIST, 28, 255.0, |image| {
            (0..PIXELS)
                .map(|at| {
                    let (row, column) = (2 * (at / SIDE), 2 * (at % SIDE));
                    let pixel = |i: usize, j: usize| image[(row + i) * 28 + column + j];
                    0.25 * (pixel(0, 0) + pixel(0, 1) + pixel(1, 0) + pixel(1, 1))
                })
                .collect()
        })
    }

    /// The UCI digits, from 8x8 by linear interpolation.
    pub(crate) fn digits() -> Result<Self, String> {
        Self::read("optdigits-1797", DIGITS, 8, 16.0, |image| {
            let scale = 8.0 / SIDE as f32;
            (0..PIXELS)
                .map(|at| {
                    let place = |index: usize| (index as f32 + 0.5) * scale - 0.5;
                    bilinear(image, 8, place(at / SIDE), place(at % SIDE), Edge::Hold)
                })
                .collect()
        })
    }

    fn read(
        name: &str,
        packed: &[u8],
        side: usize,
        scale: f32,
        resize: impl Fn(&[f32]) -> Vec<f32>,
    ) -> Result<Self, String> {
        let mut text = String::new();
        let read = GzDecoder::new(packed).read_to_string(&mut text);
        read.map_err(|error| format!("{name}: {error}"))?;
        let mut images = Self { pixels: Vec::new(), labels: Vec::new() };
        for (row, line) in text.lines().enumerate() {
            let bad = |what: &str| format!("{name}: row {}: {what}", row + 1);
            let (pixels, label) = line.rsplit_once(',').ok_or_else(|| bad("no label"))?;
            let pixels: Result<Vec<f32>, _> =
                pixels.split(',').map(|text| text.parse::<f32>().map(|v| v / scale)).collect();
            let pixels = pixels.map_err(|error| bad(&error.to_string()))?;
            if pixels.len() != side * side {
                return Err(bad("another number of pixels"));
            }
            images.pixels.extend(resize(&pixels));
            let label = label.parse::<f32>().map_err(|error| bad(&error.to_string()))?;
            images.labels.push(label as u32);
        }
        Ok(images)
    }

    /// Number of images.
    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }

    /// An image.
    pub(crate) fn image(&self, index: usize) -> &[f32] {
        &self.pixels[index * PIXELS..(index + 1) * PIXELS]
    }

    /// A copy of these images, in this order.
    pub(crate) fn select(&self, rows: &[u32]) -> Self {
        Self {
            pixels: rows.iter().flat_map(|&row| self.image(row as usize)).copied().collect(),
            labels: rows.iter().map(|&row| self.labels[row as usize]).collect(),
        }
    }

    /// The same images, changed.
    pub(crate) fn map(&self, change: impl Fn(&[f32]) -> Vec<f32>) -> Self {
        let pixels = (0..self.len()).flat_map(|index| change(self.image(index))).collect();
        Self { pixels, labels: self.labels.clone() }
    }

    /// The same images under other names of the classes.
    pub(crate) fn relabelled(mut self, names: &[u32]) -> Self {
        self.labels.iter_mut().for_each(|label| *label = names[*label as usize]);
        self
    }
}

/// What lies outside an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Edge {
    /// Black.
    Zero,
    /// The nearest pixel.
    Hold,
}

/// The value of a square image between its pixels.
pub(crate) fn bilinear(image: &[f32], side: usize, row: f32, column: f32, edge: Edge) -> f32 {
    let last = side as i32 - 1;
    let pixel = |i: i32, j: i32| {
        let inside = (0..=last).contains(&i) && (0..=last).contains(&j);
        if !inside && edge == Edge::Zero {
            return 0.0;
        }
        image[i.clamp(0, last) as usize * side + j.clamp(0, last) as usize]
    };
    let (top, left) = (row.floor(), column.floor());
    let (down, right) = (row - top, column - left);
    let (i, j) = (top as i32, left as i32);
    let upper = (1.0 - right) * pixel(i, j) + right * pixel(i, j + 1);
    let lower = (1.0 - right) * pixel(i + 1, j) + right * pixel(i + 1, j + 1);
    (1.0 - down) * upper + down * lower
}

/// The parts of one repetition, drawn from MNIST: source, pool of labelled targets, test.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    /// 250 of each class.
    pub(crate) source: Vec<u32>,
    /// 150 of each class, class after class in turn: the first 10 n rows hold n of each.
    pub(crate) pool: Vec<u32>,
    /// 100 of each class.
    pub(crate) test: Vec<u32>,
    /// New names of the classes, so that the head must be new.
    pub(crate) names: Vec<u32>,
}

/// Images of a class in the parts of [`Parts`].
pub(crate) const SOURCE_PER_CLASS: usize = 250;
pub(crate) const TEST_PER_CLASS: usize = 100;
pub(crate) const POOL_PER_CLASS: usize = 150;

impl Parts {
    /// The parts of a repetition.
    pub(crate) fn new(labels: &[u32], seed: Seed) -> Self {
        let mut stream = seed.stream("parts");
        let mut by_class: Vec<Vec<u32>> = vec![Vec::new(); CLASSES];
        labels.iter().enumerate().for_each(|(row, &c)| by_class[c as usize].push(row as u32));
        by_class.iter_mut().for_each(|rows| stream.shuffle(rows));
        let (first, second) = (SOURCE_PER_CLASS, SOURCE_PER_CLASS + TEST_PER_CLASS);
        let in_turn = |from: usize, to: usize| {
            (from..to).flat_map(|i| by_class.iter().map(move |rows| rows[i])).collect()
        };
        let mut names: Vec<u32> = (0..CLASSES as u32).collect();
        stream.shuffle(&mut names);
        Self {
            source: in_turn(0, first),
            test: in_turn(first, second),
            pool: in_turn(second, second + POOL_PER_CLASS),
            names,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_images_are_whole() {
        let mnist = Images::mnist().expect("embedded");
        let digits = Images::digits().expect("embedded");
        assert_eq!((mnist.len(), digits.len()), (5000, 1797));
        for images in [&mnist, &digits] {
            assert_eq!(images.pixels.len(), images.len() * PIXELS);
            assert!(images.pixels.iter().all(|pixel| (0.0..=1.0).contains(pixel)));
            assert!(images.labels.iter().all(|label| (*label as usize) < CLASSES));
        }
        let count = |class| mnist.labels.iter().filter(|label| **label == class).count();
        assert!((0..10).all(|class| count(class) == 500));
    }

    #[test]
    fn the_parts_are_disjoint_balanced_and_repeat() {
        let labels: Vec<u32> = (0..5000).map(|row| row / 500).collect();
        let parts = Parts::new(&labels, Seed(3));
        let all: std::collections::HashSet<u32> =
            [&parts.source, &parts.pool, &parts.test].into_iter().flatten().copied().collect();
        assert_eq!(all.len(), 5000);
        for part in [&parts.source, &parts.pool[..50], &parts.test] {
            let count = |class| part.iter().filter(|row| labels[**row as usize] == class).count();
            assert!((0..10).all(|class| count(class) * 10 == part.len()));
        }
        assert_eq!(Parts::new(&labels, Seed(3)).pool, parts.pool);
        assert_ne!(Parts::new(&labels, Seed(4)).pool, parts.pool);
        let mut names = parts.names.clone();
        names.sort_unstable();
        assert_eq!(names, (0..10).collect::<Vec<u32>>());
    }
}
