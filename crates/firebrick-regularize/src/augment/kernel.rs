//! What is done to one image `[c, h, w]` in host memory, given its parameters.
//!
//! Coordinates are those of torchvision: pixel centres relative to the centre of the image, bilinear sampling,
//! zero outside. Photometric changes take values in [0, 1] and stay there.

/// Channels, height, width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) c: usize,
    pub(crate) h: usize,
    pub(crate) w: usize,
}

impl Size {
    fn area(self) -> usize {
        self.h * self.w
    }
}

/// Moves by whole pixels, down and to the right; zero comes in.
pub(crate) fn shift(image: &mut [f32], size: Size, down: i64, right: i64) {
    let source = image.to_vec();
    let (h, w) = (size.h as i64, size.w as i64);
    for (map, from) in image.chunks_mut(size.area()).zip(source.chunks(size.area())) {
        for y in 0..h {
            for x in 0..w {
                let (sy, sx) = (y - down, x - right);
                let inside = (0..h).contains(&sy) && (0..w).contains(&sx);
                map[(y * w + x) as usize] = if inside { from[(sy * w + sx) as usize] } else { 0.0 };
            }
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

/// Samples the image at `source(x, y)` for every output pixel, both relative to the centre.
pub(crate) fn warp(image: &mut [f32], size: Size, source: impl Fn(usize, usize) -> (f32, f32)) {
    let from = image.to_vec();
    let (h, w) = (size.h as i64, size.w as i64);
    let (cx, cy) = ((size.w as f32 - 1.0) / 2.0, (size.h as f32 - 1.0) / 2.0);
    for y in 0..size.h {
        for x in 0..size.w {
            let (sx, sy) = source(x, y);
            let (sx, sy) = (sx + cx, sy + cy);
            let (left, top) = (sx.floor(), sy.floor());
            let (fx, fy) = (sx - left, sy - top);
            let (left, top) = (left as i64, top as i64);
            let at = y * size.w + x;
            let weights = [(1.0 - fx) * (1.0 - fy), fx * (1.0 - fy), (1.0 - fx) * fy, fx * fy];
            if left >= 0 && top >= 0 && left + 1 < w && top + 1 < h {
                let corner = (top * w + left) as usize;
                for channel in 0..size.c {
                    let base = channel * size.area();
                    let map = &from[base + corner..];
                    image[base + at] = map[0] * weights[0]
                        + map[1] * weights[1]
                        + map[size.w] * weights[2]
                        + map[size.w + 1] * weights[3];
                }
                continue;
            }
            for channel in 0..size.c {
                let base = channel * size.area();
                let mut sum = 0.0;
                for (tap, weight) in weights.iter().enumerate() {
                    let (tx, ty) = (left + (tap % 2) as i64, top + (tap / 2) as i64);
                    if *weight != 0.0 && (0..w).contains(&tx) && (0..h).contains(&ty) {
                        sum += weight * from[base + (ty * w + tx) as usize];
                    }
                }
                image[base + at] = sum;
            }
        }
    }
}

/// An affine change: `[a, b, tx, c, d, ty]` maps an output position to its source, both relative to the centre.
pub(crate) fn affine(image: &mut [f32], size: Size, inverse: [f64; 6]) {
    let [a, b, tx, c, d, ty] = inverse.map(|v| v as f32);
    let (cx, cy) = ((size.w as f32 - 1.0) / 2.0, (size.h as f32 - 1.0) / 2.0);
    warp(image, size, |x, y| {
        let (x, y) = (x as f32 - cx, y as f32 - cy);
        (a * x + b * y + tx, c * x + d * y + ty)
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
pub(crate) fn erase(
    image: &mut [f32],
    size: Size,
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
) {
    let (bottom, right) = (rows.end.min(size.h), columns.end.min(size.w));
    for map in image.chunks_mut(size.area()) {
        for y in rows.start..bottom {
            if columns.start < right {
                map[y * size.w + columns.start..y * size.w + right].fill(0.0);
            }
        }
    }
}

/// `factor * image + (1 - factor) * other`, kept in [0, 1].
fn blend(image: &mut [f32], factor: f64, other: impl Fn(usize) -> f32) {
    let factor = factor as f32;
    for (at, value) in image.iter_mut().enumerate() {
        *value = (factor * *value + (1.0 - factor) * other(at)).clamp(0.0, 1.0);
    }
}

pub(crate) fn brightness(image: &mut [f32], factor: f64) {
    blend(image, factor, |_| 0.0);
}

/// Luma of a colour image; any other number of channels is taken as it is.
fn gray(image: &[f32], size: Size) -> Vec<f32> {
    if size.c != 3 {
        return image.to_vec();
    }
    let n = size.area();
    (0..n)
        .map(|at| 0.2989 * image[at] + 0.587 * image[n + at] + 0.114 * image[2 * n + at])
        .collect()
}

pub(crate) fn contrast(image: &mut [f32], size: Size, factor: f64) {
    let gray = gray(image, size);
    let mean = gray.iter().map(|&v| f64::from(v)).sum::<f64>() / gray.len().max(1) as f64;
    blend(image, factor, |_| mean as f32);
}

/// Away from gray; nothing without three channels.
pub(crate) fn saturation(image: &mut [f32], size: Size, factor: f64) {
    if size.c == 3 {
        let gray = gray(image, size);
        blend(image, factor, |at| gray[at % size.area()]);
    }
}

/// Away from a blur with the kernel 1 1 1, 1 5 1, 1 1 1 over 13; the border stays.
pub(crate) fn sharpness(image: &mut [f32], size: Size, factor: f64) {
    let Size { h, w, .. } = size;
    if h <= 2 || w <= 2 {
        return;
    }
    let mut blurred = image.to_vec();
    for (to, from) in blurred.chunks_mut(size.area()).zip(image.chunks(size.area())) {
        for y in 1..h - 1 {
            for x in 1..w - 1 {
                let around: f32 = (y - 1..=y + 1)
                    .map(|row| from[row * w + x - 1..=row * w + x + 1].iter().sum::<f32>())
                    .sum();
                to[y * w + x] = (around + 4.0 * from[y * w + x]) / 13.0;
            }
        }
    }
    blend(image, factor, |at| blurred[at]);
}

/// Keeps the upper `bits` of eight.
pub(crate) fn posterize(image: &mut [f32], bits: u32) {
    let mask = !0u8 << (8 - bits.min(8)).min(7);
    for value in image {
        if !value.is_nan() {
            *value = f32::from((*value * 255.0).round() as u8 & mask) / 255.0;
        }
    }
}

/// Inverts values from `threshold` on.
pub(crate) fn solarize(image: &mut [f32], threshold: f64) {
    for value in image {
        if f64::from(*value) >= threshold {
            *value = 1.0 - *value;
        }
    }
}

/// Stretches every channel to [0, 1]; a flat one stays.
pub(crate) fn auto_contrast(image: &mut [f32], size: Size) {
    for map in image.chunks_mut(size.area()) {
        let low = map.iter().copied().fold(f32::INFINITY, f32::min);
        let high = map.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if high > low {
            map.iter_mut().for_each(|v| *v = ((*v - low) / (high - low)).clamp(0.0, 1.0));
        }
    }
}

/// Equalizes the histogram of every channel over 256 levels.
pub(crate) fn equalize(image: &mut [f32], size: Size) {
    for map in image.chunks_mut(size.area()) {
        let level = |v: f32| (v * 255.0).round() as u8;
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
