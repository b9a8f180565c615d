//! What is done to one image `[c, h, w]` in host memory, given its parameters.
//!
//! Coordinates are those of torchvision: pixel centres relative to the centre of the image, bilinear sampling,
//! zero outside. Photometric changes take values in [0, 1] and stay there.

use std::ops::Range;

/// Channels, height, width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) c: usize,
    pub(crate) h: usize,
    pub(crate) w: usize,
}

impl Size {
    pub(crate) fn area(self) -> usize {
        self.h * self.w
    }
}

/// Memory that a worker keeps from image to image.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    copy: Vec<f32>,
    warp: super::warp::Scratch,
}

impl Scratch {
    fn copy_of(&mut self, values: &[f32]) -> &[f32] {
        self.copy.clear();
        self.copy.extend_from_slice(values);
        &self.copy
    }
}

/// Moves by whole pixels, down and to the right; zero comes in.
pub(crate) fn shift(image: &mut [f32], size: Size, down: i64, right: i64, scratch: &mut Scratch) {
    let (down, right) = (down as isize, right as isize);
    // Where a line of `length` goes to, and where that came from.
    let spans = |length: usize, by: isize| {
        let kept = length.saturating_sub(by.unsigned_abs());
        let (to, from) = if by > 0 { (length - kept, 0) } else { (0, length - kept) };
        (to..to + kept, from)
    };
    let ((rows, from_row), (columns, from_column)) = (spans(size.h, down), spans(size.w, right));
    let source = scratch.copy_of(image);
    image.fill(0.0);
    for (map, from) in image.chunks_mut(size.area()).zip(source.chunks(size.area())) {
        for (to, row) in rows.clone().zip(from_row..) {
            let from = &from[row * size.w + from_column..][..columns.len()];
            map[to * size.w..][columns.clone()].copy_from_slice(from);
        }
    }
}

/// Mirrors left and right.
pub(crate) fn flip_horizontal(image: &mut [f32], size: Size) {
    image.chunks_mut(size.w).for_each(<[f32]>::reverse);
}

/// Mirrors up and down.
pub(crate) fn flip_vertical(image: &mut [f32], size: Size) {
    for map in image.chunks_mut(size.area()) {
        for y in 0..size.h / 2 {
            let (top, bottom) = map.split_at_mut((size.h - 1 - y) * size.w);
            top[y * size.w..(y + 1) * size.w].swap_with_slice(&mut bottom[..size.w]);
        }
    }
}

/// An affine change: `[a, b, tx, c, d, ty]` maps an output position to its source, both relative to the centre.
pub(crate) fn affine(image: &mut [f32], size: Size, inverse: [f64; 6], scratch: &mut Scratch) {
    let [a, b, tx, c, d, ty] = inverse.map(|v| v as f32);
    let (cx, cy) = ((size.w as f32 - 1.0) / 2.0, (size.h as f32 - 1.0) / 2.0);
    super::warp::warp(image, size, &mut scratch.warp, |y, xs, ys| {
        let y = y as f32 - cy;
        let (right, down) = (b * y + tx, d * y + ty);
        for (column, (x, y)) in xs.iter_mut().zip(ys).enumerate() {
            let from_centre = column as f32 - cx;
            *x = a * from_centre + right;
            *y = c * from_centre + down;
        }
    });
}

/// The part of `side` times the width and height whose centre lies `tx` to the right and `ty` below that of the image,
/// stretched to the whole; at the border its own pixels are repeated, as where an image is resized.
pub(crate) fn crop(image: &mut [f32], size: Size, crop: [f64; 3], scratch: &mut Scratch) {
    let [side, tx, ty] = crop.map(|v| v as f32);
    let (cx, cy) = ((size.w as f32 - 1.0) / 2.0, (size.h as f32 - 1.0) / 2.0);
    super::warp::warp(image, size, &mut scratch.warp, |y, xs, ys| {
        ys.fill((side * (y as f32 - cy) + ty).clamp(-cy, cy));
        for (column, x) in xs.iter_mut().enumerate() {
            *x = (side * (column as f32 - cx) + tx).clamp(-cx, cx);
        }
    });
}

/// Every pixel comes from a place of its own: `dx` to the right and `dy` below it.
pub(crate) fn displace(
    image: &mut [f32],
    size: Size,
    dx: &[f32],
    dy: &[f32],
    scratch: &mut Scratch,
) {
    let (cx, cy) = ((size.w as f32 - 1.0) / 2.0, (size.h as f32 - 1.0) / 2.0);
    super::warp::warp(image, size, &mut scratch.warp, |row, xs, ys| {
        let (dx, dy) = (&dx[row * size.w..], &dy[row * size.w..]);
        for (column, (x, y)) in xs.iter_mut().zip(ys).enumerate() {
            *x = column as f32 - cx + dx[column];
            *y = row as f32 - cy + dy[column];
        }
    });
}

/// The inverse of rotation (degrees, clockwise as torchvision's `affine`), shear (degrees), scale and translation
/// (pixels, right and down).
pub(crate) fn inverse_affine(
    degrees: f64,
    translate: [f64; 2],
    scale: f64,
    shear: [f64; 2],
) -> [f64; 6] {
    let (rot, sx, sy) = (degrees.to_radians(), shear[0].to_radians(), shear[1].to_radians());
    // RSS without scaling, then its inverse, which has determinant 1.
    let a = (rot - sy).cos() / sy.cos();
    let b = -(rot - sy).cos() * sx.tan() / sy.cos() - rot.sin();
    let c = (rot - sy).sin() / sy.cos();
    let d = -(rot - sy).sin() * sx.tan() / sy.cos() + rot.cos();
    let [a, b, c, d] = [d / scale, -b / scale, -c / scale, a / scale];
    let [tx, ty] = translate;
    [a, b, -a * tx - b * ty, c, d, -c * tx - d * ty]
}

/// Sets a box to 0 in all channels; what lies outside the image is cut off.
pub(crate) fn erase(image: &mut [f32], size: Size, rows: &Range<usize>, columns: &Range<usize>) {
    let (bottom, right) = (rows.end.min(size.h), columns.end.min(size.w));
    for map in image.chunks_mut(size.area()) {
        for y in rows.start..bottom {
            if columns.start < right {
                map[y * size.w + columns.start..y * size.w + right].fill(0.0);
            }
        }
    }
}

/// `factor * value + (1 - factor) * other`, kept in [0, 1].
fn blended(value: f32, other: f32, factor: f32) -> f32 {
    (factor * value + (1.0 - factor) * other).clamp(0.0, 1.0)
}

pub(crate) fn brightness(image: &mut [f32], factor: f64) {
    let factor = factor as f32;
    image.iter_mut().for_each(|value| *value = (factor * *value).clamp(0.0, 1.0));
}

/// Luma of red, green and blue.
pub(crate) const LUMA: [f32; 3] = [0.2989, 0.587, 0.114];

pub(crate) fn contrast(image: &mut [f32], size: Size, factor: f64) {
    // The mean of the luma is the luma of the means; any other number of channels is taken as it is.
    let mean = if size.c == 3 {
        let planes = image.chunks(size.area()).zip(LUMA);
        planes.map(|(plane, weight)| f64::from(weight) * mean(plane)).sum()
    } else {
        mean(image)
    };
    let (mean, factor) = (mean as f32, factor as f32);
    image.iter_mut().for_each(|value| *value = blended(*value, mean, factor));
}

/// In eight lanes, which the processor adds side by side.
fn mean(values: &[f32]) -> f64 {
    let (lanes, rest) = values.as_chunks::<8>();
    let mut sums = [0f64; 8];
    for chunk in lanes {
        sums.iter_mut().zip(chunk).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    let rest: f64 = rest.iter().copied().map(f64::from).sum();
    (sums.iter().sum::<f64>() + rest) / values.len().max(1) as f64
}

/// Away from gray; nothing without three channels.
pub(crate) fn saturation(image: &mut [f32], size: Size, factor: f64) {
    if size.c != 3 {
        return;
    }
    let factor = factor as f32;
    let (red, rest) = image.split_at_mut(size.area());
    let (green, blue) = rest.split_at_mut(size.area());
    for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
        let gray = LUMA[0] * *r + LUMA[1] * *g + LUMA[2] * *b;
        (*r, *g, *b) =
            (blended(*r, gray, factor), blended(*g, gray, factor), blended(*b, gray, factor));
    }
}

/// Away from a blur with the kernel 1 1 1, 1 5 1, 1 1 1 over 13; the border has no blur.
pub(crate) fn sharpness(image: &mut [f32], size: Size, factor: f64, scratch: &mut Scratch) {
    let Size { h, w, .. } = size;
    if h <= 2 || w <= 2 {
        return;
    }
    let factor = factor as f32;
    let source = scratch.copy_of(image);
    for (map, from) in image.chunks_mut(size.area()).zip(source.chunks(size.area())) {
        for y in 1..h - 1 {
            let row = |y: usize| &from[y * w..(y + 1) * w];
            let (above, own, below) = (row(y - 1), row(y), row(y + 1));
            let to = &mut map[y * w..(y + 1) * w];
            for x in 1..w - 1 {
                let column = |x: usize| above[x] + own[x] + below[x];
                let around = column(x - 1) + column(x) + column(x + 1);
                to[x] = blended(own[x], (around + 4.0 * own[x]) * (1.0 / 13.0), factor);
            }
        }
    }
}

/// Rounds down to `2^bits` levels from 0.
pub(crate) fn posterize(image: &mut [f32], bits: u32) {
    let levels = f32::from(1u16 << bits.min(8));
    for value in image {
        if !value.is_nan() {
            // The cast rounds down and leaves nothing below 0.
            *value = f32::from(((*value * levels) as u16).min(levels as u16 - 1)) / levels;
        }
    }
}

/// Which of 256 bins of [0, 1] a value falls into; the width is torchvision's.
fn level(value: f32) -> u8 {
    (value * BINS) as u8
}

/// A little less than 256, so that 1 falls into the last bin.
pub(crate) const BINS: f32 = 255.999;

/// Inverts values from `threshold` on.
pub(crate) fn solarize(image: &mut [f32], threshold: f64) {
    let threshold = threshold as f32;
    image.iter_mut().for_each(|v| *v = if *v >= threshold { 1.0 - *v } else { *v });
}

/// Stretches every channel to [0, 1]; a flat one stays.
pub(crate) fn auto_contrast(image: &mut [f32], size: Size) {
    for map in image.chunks_mut(size.area()) {
        let (low, high) = ends(map);
        if high > low {
            // A quotient, as torchvision's: the reciprocal of a range that is almost 0 is infinite.
            let range = high - low;
            map.iter_mut().for_each(|v| *v = ((*v - low) / range).clamp(0.0, 1.0));
        }
    }
}

/// The smallest and the largest value, NaN left out.
fn ends(values: &[f32]) -> (f32, f32) {
    let (lanes, rest) = values.as_chunks::<8>();
    let (mut low, mut high) = ([f32::INFINITY; 8], [f32::NEG_INFINITY; 8]);
    for chunk in lanes {
        low.iter_mut().zip(chunk).for_each(|(low, &v)| *low = if v < *low { v } else { *low });
        high.iter_mut().zip(chunk).for_each(|(top, &v)| *top = if v > *top { v } else { *top });
    }
    let low = low.iter().chain(rest).copied().fold(f32::INFINITY, f32::min);
    (low, high.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max))
}

/// Equalizes the histogram of every channel over 256 levels.
pub(crate) fn equalize(image: &mut [f32], size: Size) {
    for map in image.chunks_mut(size.area()) {
        let mut histogram = [0usize; 256];
        map.iter().for_each(|&v| histogram[usize::from(level(v))] += 1);
        let last = histogram.iter().rev().copied().find(|&count| count > 0).unwrap_or(0);
        let step = (map.len() - last) / 255;
        if step == 0 {
            continue;
        }
        let mut sum = step / 2;
        let table = histogram.map(|count| {
            let entry = (sum / step).min(255);
            sum += count;
            entry as f32 / 255.0
        });
        map.iter_mut().filter(|v| !v.is_nan()).for_each(|v| *v = table[usize::from(level(*v))]);
    }
}

/// A field smoothed by a Gaussian of `sigma` pixels along both axes, zero outside.
pub(crate) fn smooth(field: &mut Vec<f32>, h: usize, w: usize, sigma: f64) {
    let radius = (3.0 * sigma).ceil() as usize;
    let mut kernel: Vec<f64> = (0..=2 * radius)
        .map(|i| (-0.5 * ((i as f64 - radius as f64) / sigma).powi(2)).exp())
        .collect();
    let total: f64 = kernel.iter().sum();
    kernel.iter_mut().for_each(|k| *k /= total);
    let pass = |field: &[f32],
                stride: usize,
                length: usize,
                position: fn(usize, usize) -> usize,
                w: usize| {
        (0..field.len())
            .map(|at| {
                let here = position(at, w);
                let taps = kernel.iter().enumerate().filter_map(|(tap, weight)| {
                    let there = (here + tap).checked_sub(radius).filter(|&there| there < length)?;
                    Some(weight * f64::from(field[at + there * stride - here * stride]))
                });
                taps.sum::<f64>() as f32
            })
            .collect::<Vec<f32>>()
    };
    *field = pass(field, 1, w, |at, w| at % w, w);
    *field = pass(field, w, h, |at, w| at / w, w);
}
