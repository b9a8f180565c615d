//! Bilinear sampling of one image at a source position for every pixel, zero outside.
//!
//! The image is copied once into a frame with a border of zeros, four channels side by side. Positions are clamped
//! to the frame, so that no pixel needs a branch for the border, and one pixel's channels are blended at once.

use super::kernel::Size;

/// Channels that are blended side by side.
const LANES: usize = 4;

/// Memory that is kept from image to image.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// `[h + 3, w + 3]` pixels: the image from (1, 1) on, zeros around it.
    frame: Vec<[f32; LANES]>,
    xs: Vec<f32>,
    ys: Vec<f32>,
    corners: Vec<u32>,
    line: Vec<[f32; LANES]>,
}

/// Samples the image at the positions that `row(y, xs, ys)` writes for row `y`, relative to the centre.
pub(crate) fn warp(
    image: &mut [f32],
    size: Size,
    scratch: &mut Scratch,
    row: impl Fn(usize, &mut [f32], &mut [f32]),
) {
    let (h, w) = (size.h, size.w);
    let Scratch { frame, xs, ys, corners, line } = scratch;
    xs.resize(w, 0.0);
    ys.resize(w, 0.0);
    corners.resize(w, 0);
    line.resize(w, [0.0; LANES]);
    let stride = w + 3;
    for planes in image.chunks_mut(LANES * size.area()) {
        fill(frame, planes, h, w);
        for y in 0..h {
            row(y, xs, ys);
            place(xs, ys, corners, size, stride as u32);
            blend(line, frame, xs, ys, corners, stride);
            for (lane, plane) in planes.chunks_mut(size.area()).enumerate() {
                let to = &mut plane[y * w..(y + 1) * w];
                to.iter_mut().zip(line.iter()).for_each(|(to, pixel)| *to = pixel[lane]);
            }
        }
    }
}

/// Copies up to four planes into the frame.
fn fill(frame: &mut Vec<[f32; LANES]>, planes: &[f32], h: usize, w: usize) {
    let stride = w + 3;
    frame.resize((h + 3) * stride, [0.0; LANES]);
    let zeros = [0.0; LANES];
    let (first, rest) = frame.split_at_mut(stride);
    first.fill(zeros);
    let lanes = planes.len() / (h * w);
    let plane = |lane: usize| planes.get(lane * h * w..).filter(|_| lane < lanes);
    for (y, to) in rest.chunks_mut(stride).enumerate() {
        if y >= h {
            to.fill(zeros);
            continue;
        }
        to[0] = zeros;
        to[w + 1..].fill(zeros);
        let own = |lane| plane(lane).map_or(&[][..], |plane| &plane[y * w..(y + 1) * w]);
        let to = &mut to[1..=w];
        match [own(0), own(1), own(2), own(3)] {
            [a, b, c, []] if !c.is_empty() => {
                for (((to, a), b), c) in to.iter_mut().zip(a).zip(b).zip(c) {
                    *to = [*a, *b, *c, 0.0];
                }
            }
            lanes => {
                to.fill(zeros);
                for (lane, values) in lanes.into_iter().enumerate() {
                    to.iter_mut().zip(values).for_each(|(to, value)| to[lane] = *value);
                }
            }
        }
    }
}

/// Turns positions into the upper left of four pixels of the frame and the shares of the right and lower ones.
fn place(xs: &mut [f32], ys: &mut [f32], corners: &mut [u32], size: Size, stride: u32) {
    let (w, h) = (size.w as f32, size.h as f32);
    let (cx, cy) = ((w - 1.0) / 2.0, (h - 1.0) / 2.0);
    for ((x, y), corner) in xs.iter_mut().zip(ys).zip(corners) {
        // Neither is below 0 now, so that the integer part is the floor; NaN gives 0 and stays in the share.
        let (right, down) = ((*x + cx).clamp(-1.0, w) + 1.0, (*y + cy).clamp(-1.0, h) + 1.0);
        let (left, top) = (right as i32, down as i32);
        (*x, *y) = (right - left as f32, down - top as f32);
        // No frame has 2^32 pixels; an overflow check would keep the loop from being vectorized.
        *corner = (top as u32).wrapping_mul(stride).wrapping_add(left as u32);
    }
}

/// The bilinear mean of four neighbours for each pixel of a line.
fn blend(
    line: &mut [[f32; LANES]],
    frame: &[[f32; LANES]],
    xs: &[f32],
    ys: &[f32],
    corners: &[u32],
    stride: usize,
) {
    for (((to, x), y), corner) in line.iter_mut().zip(xs).zip(ys).zip(corners) {
        let four = &frame[*corner as usize..][..stride + 2];
        let (upper, lower) = (&four[..2], &four[stride..]);
        for lane in 0..LANES {
            let between =
                |pair: &[[f32; LANES]]| pair[0][lane] + x * (pair[1][lane] - pair[0][lane]);
            let (top, bottom) = (between(upper), between(lower));
            to[lane] = top + y * (bottom - top);
        }
    }
}
