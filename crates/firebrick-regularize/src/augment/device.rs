//! Plans carried out by tensor operations, for images that are not in host memory: the whole batch at once, the
//! images that undergo the same kind of change side by side. All is f32, whatever the device makes by default.

use super::edit::{Edit, Plan};
use super::kernel::{BINS, LUMA, Size};
use crate::dropout::constant;
use burn::tensor::{Bool, DType, Device, FloatDType, IndexingUpdateOp, Int, Tensor, TensorData, s};

/// Carries out a plan for each of the images `[n, c, h, w]`, which are f32 and on no autodiff device.
pub(super) fn apply(images: Tensor<4>, plans: Vec<Plan>) -> Tensor<4> {
    let n = plans.len();
    let mut own = vec![1f32; n];
    // Mixtures of one batch have the same number of chains; a chain alone is a mixture of one with weight 1.
    let mut rows: Vec<Vec<(f32, Vec<Edit>)>> = Vec::with_capacity(n);
    let mut mixes = false;
    for (own, plan) in own.iter_mut().zip(plans) {
        rows.push(match plan {
            Plan::Chain(edits) => vec![(1.0, edits)],
            Plan::Mix { own: share, chains } => {
                *own = share;
                mixes = true;
                chains
            }
        });
    }
    if !mixes {
        return chain(
            images,
            rows.into_iter().filter_map(|mut row| row.pop()).map(|c| c.1).collect(),
        );
    }
    let weighted = |values: Tensor<4>, weights: Vec<f32>| {
        let weights = column(weights, &values.device());
        values * weights
    };
    let mut mixed = weighted(images.clone(), own);
    let mut rows: Vec<_> = rows.into_iter().map(Vec::into_iter).collect();
    while let Some(link) = rows.iter_mut().map(Iterator::next).collect::<Option<Vec<_>>>() {
        let (weights, edits) = link.into_iter().unzip();
        mixed = mixed + weighted(chain(images.clone(), edits), weights);
    }
    mixed
}

/// One change after the other, image by image as long as its chain goes.
fn chain(mut images: Tensor<4>, chains: Vec<Vec<Edit>>) -> Tensor<4> {
    let longest = chains.iter().map(Vec::len).max().unwrap_or(0);
    let mut chains: Vec<_> = chains.into_iter().map(Vec::into_iter).collect();
    for _ in 0..longest {
        let edits = chains.iter_mut().map(|chain| chain.next().unwrap_or(Edit::Keep)).collect();
        images = round(images, edits);
    }
    images
}

/// One change of each image: those of a kind together, then all back in their order.
fn round(images: Tensor<4>, edits: Vec<Edit>) -> Tensor<4> {
    let mut groups: Vec<(Vec<usize>, Vec<Edit>)> = Vec::new();
    for (index, edit) in edits.into_iter().enumerate() {
        let same = |group: &&mut (Vec<usize>, Vec<Edit>)| {
            std::mem::discriminant(&group.1[0]) == std::mem::discriminant(&edit)
        };
        match groups.iter_mut().find(same) {
            Some((rows, edits)) => {
                rows.push(index);
                edits.push(edit);
            }
            None => groups.push((vec![index], vec![edit])),
        }
    }
    if let [(_, edits)] = groups.as_slice() {
        return together(images, edits);
    }
    let device = images.device();
    let mut home = vec![0; groups.iter().map(|(rows, _)| rows.len()).sum()];
    let mut done = 0;
    let mut parts = Vec::with_capacity(groups.len());
    for (rows, edits) in &groups {
        for row in rows {
            home[*row] = done;
            done += 1;
        }
        parts.push(together(images.clone().select(0, indices(rows, &device)), edits));
    }
    Tensor::cat(parts, 0).select(0, indices(&home, &device))
}

fn indices(rows: &[usize], device: &Device) -> Tensor<1, Int> {
    let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
    let count = rows.len();
    Tensor::from_data(TensorData::new(rows, [count]), device)
}

/// Numbers of the type of the images.
fn floats<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    constant(values, shape, device, DType::F32)
}

/// One number an image, `[n, 1, 1, 1]`.
fn column(values: Vec<f32>, device: &Device) -> Tensor<4> {
    let count = values.len();
    floats(values, [count, 1, 1, 1], device)
}

/// The same kind of change for every image, each with its own numbers.
fn together(images: Tensor<4>, edits: &[Edit]) -> Tensor<4> {
    let [_, c, h, w] = images.dims();
    let size = Size { c, h, w };
    let device = images.device();
    let number = |of: &dyn Fn(&Edit) -> f64| {
        column(edits.iter().map(|edit| of(edit) as f32).collect(), &device)
    };
    let factor = || {
        number(&|edit| match edit {
            Edit::Brightness(f) | Edit::Saturation(f) | Edit::Contrast(f) | Edit::Sharpness(f) => {
                *f
            }
            Edit::Solarize(threshold) => *threshold,
            _ => 0.0,
        })
    };
    match &edits[0] {
        Edit::Keep => images,
        Edit::FlipHorizontal => images.flip([3]),
        Edit::FlipVertical => images.flip([2]),
        Edit::Shift { .. } | Edit::Affine(_) | Edit::Crop(_) => affine(images, edits, size),
        Edit::Displace { .. } => {
            let field = |of: &dyn Fn(&Edit) -> &[f32]| {
                let values: Vec<f32> = edits.iter().flat_map(of).copied().collect();
                floats(values, [edits.len(), size.area()], &device)
            };
            let dx = field(&|edit| if let Edit::Displace { dx, .. } = edit { dx } else { &[] });
            let dy = field(&|edit| if let Edit::Displace { dy, .. } = edit { dy } else { &[] });
            let (x, y) = grid(size, &device);
            warp(images, x + dx, y + dy, size)
        }
        Edit::Erase { .. } => {
            let mut erased = vec![false; edits.len() * size.area()];
            for (map, edit) in erased.chunks_mut(size.area()).zip(edits) {
                let Edit::Erase { rows, columns } = edit else { continue };
                for row in map.chunks_mut(w).take(rows.end).skip(rows.start) {
                    row.iter_mut().take(columns.end).skip(columns.start).for_each(|e| *e = true);
                }
            }
            let erased = TensorData::new(erased, [edits.len(), 1, h, w]);
            let erased = Tensor::<4, Bool>::from_data(erased, &device);
            let shape = images.dims();
            images.mask_fill(erased.expand(shape), 0.0)
        }
        Edit::Brightness(_) => (images * factor()).clamp(0.0, 1.0),
        Edit::Saturation(_) if c != 3 => images,
        Edit::Saturation(_) => {
            let gray = gray(&images);
            blend(images, gray, factor())
        }
        Edit::Contrast(_) => {
            let light = if c == 3 { gray(&images) } else { images.clone() };
            let mean = light.mean_dim(1).mean_dim(2).mean_dim(3);
            blend(images, mean, factor())
        }
        Edit::Sharpness(_) if h <= 2 || w <= 2 => images,
        Edit::Sharpness(_) => {
            let columns = images.clone().slice(s![.., .., ..-2, ..])
                + images.clone().slice(s![.., .., 1..-1, ..])
                + images.clone().slice(s![.., .., 2.., ..]);
            let around = columns.clone().slice(s![.., .., .., ..-2])
                + columns.clone().slice(s![.., .., .., 1..-1])
                + columns.slice(s![.., .., .., 2..]);
            let own = images.clone().slice(s![.., .., 1..-1, 1..-1]);
            let blurred = (around + own.clone() * 4.0) * (1.0 / 13.0);
            images.slice_assign(s![.., .., 1..-1, 1..-1], blend(own, blurred, factor()))
        }
        Edit::Posterize(_) => {
            let levels = number(&|edit| match edit {
                Edit::Posterize(bits) => f64::from(1u32 << bits.min(&8)),
                _ => 1.0,
            });
            let last = (levels.clone() - 1.0).expand(images.dims());
            let kept = (images * levels.clone()).floor().clamp_min(0.0).min_pair(last);
            kept / levels
        }
        Edit::Solarize(_) => {
            let shape = images.dims();
            let bright = images.clone().greater_equal(factor().expand(shape));
            let inverted = images.clone().neg() + 1.0;
            images.mask_where(bright, inverted)
        }
        Edit::AutoContrast => auto_contrast(images, size),
        Edit::Equalize => equalize(images, size),
        Edit::Add(_) => {
            let added: Vec<f32> = edits
                .iter()
                .flat_map(|edit| if let Edit::Add(field) = edit { field.as_slice() } else { &[] })
                .copied()
                .collect();
            let shape = images.dims();
            images + floats(added, shape, &device)
        }
    }
}

/// `factor * value + (1 - factor) * other`, kept in [0, 1].
fn blend(images: Tensor<4>, other: Tensor<4>, factor: Tensor<4>) -> Tensor<4> {
    let rest = factor.clone().neg() + 1.0;
    (images * factor + other * rest).clamp(0.0, 1.0)
}

/// Luma of three channels, `[n, 1, h, w]`.
fn gray(images: &Tensor<4>) -> Tensor<4> {
    let [red, green, blue] = [0, 1, 2].map(|at| images.clone().narrow(1, at, 1));
    red * LUMA[0] + green * LUMA[1] + blue * LUMA[2]
}

/// The bin of 256, as a number from 0 to 255.
fn levels(images: Tensor<4>) -> Tensor<4> {
    (images * BINS).floor().clamp(0.0, 255.0)
}

/// Every channel of every image as a row.
fn channels(images: Tensor<4>, size: Size) -> Tensor<2> {
    let rows = images.dims()[0] * size.c;
    images.reshape([rows, size.area()])
}

fn auto_contrast(images: Tensor<4>, size: Size) -> Tensor<4> {
    let shape = images.dims();
    let rows = channels(images, size);
    let (low, high) = (rows.clone().min_dim(1), rows.clone().max_dim(1));
    let range = high - low.clone();
    let flat = range.clone().lower_equal_scalar(0.0);
    // A quotient: the reciprocal of a range that is almost 0 is infinite.
    let stretched = ((rows.clone() - low) / range.mask_fill(flat.clone(), 1.0)).clamp(0.0, 1.0);
    let flat = flat.expand(rows.dims());
    stretched.mask_where(flat, rows).reshape(shape)
}

fn equalize(images: Tensor<4>, size: Size) -> Tensor<4> {
    let shape = images.dims();
    // A level indexes the table, so it must be one also where there is none.
    let broken = images.clone().is_nan();
    let rows = channels(levels(images.clone().mask_fill(broken.clone(), 0.0)), size).int();
    let device = rows.device();
    let [count, area] = rows.dims();
    let ones = Tensor::<2, Int>::ones([count, area], &device);
    let empty = Tensor::<2, Int>::zeros([count, 256], &device);
    let histogram = empty.scatter(1, rows.clone(), ones, IndexingUpdateOp::Add);
    // The last level that occurs: every level below it has a smaller running total.
    let total = histogram.clone().cumsum(1);
    let top = rows.clone().max_dim(1);
    let last = histogram.clone().gather(1, top);
    let step = (last.neg() + area as i64).div_scalar(255);
    let none = step.clone().equal_scalar(0);
    let divisor = step.mask_fill(none.clone(), 1);
    let before = total - histogram + divisor.clone().div_scalar(2);
    let table = (before / divisor).clamp_max(255);
    let equalized = table.gather(1, rows).cast(FloatDType::F32).div_scalar(255.0);
    let kept = channels(images.clone(), size);
    let equalized = equalized.mask_where(none.expand([count, area]), kept);
    equalized.reshape(shape).mask_where(broken, images)
}

/// Positions of all pixels relative to the centre, `[1, h w]` each.
fn grid(size: Size, device: &Device) -> (Tensor<2>, Tensor<2>) {
    let centred = |length: usize| {
        let centre = (length as f32 - 1.0) / 2.0;
        (0..length).map(move |at| at as f32 - centre)
    };
    let xs: Vec<f32> = (0..size.h).flat_map(|_| centred(size.w)).collect();
    let ys: Vec<f32> = centred(size.h).flat_map(|y| std::iter::repeat_n(y, size.w)).collect();
    let row = |values| floats(values, [1, size.area()], device);
    (row(xs), row(ys))
}

fn affine(images: Tensor<4>, edits: &[Edit], size: Size) -> Tensor<4> {
    let device = images.device();
    let matrices: Vec<[f64; 6]> = edits
        .iter()
        .map(|edit| match edit {
            Edit::Affine(inverse) => *inverse,
            Edit::Crop([side, tx, ty]) => [*side, 0.0, *tx, 0.0, *side, *ty],
            Edit::Shift { down, right } => [1.0, 0.0, -*right as f64, 0.0, 1.0, -*down as f64],
            _ => [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        })
        .collect();
    let part = |index: usize| {
        let values = matrices.iter().map(|matrix| matrix[index] as f32).collect();
        floats(values, [matrices.len(), 1], &device)
    };
    let (x, y) = grid(size, &device);
    let sx = x.clone() * part(0) + (y.clone() * part(1) + part(2));
    let sy = x * part(3) + (y * part(4) + part(5));
    if let Edit::Crop(_) = edits[0] {
        // The border is repeated.
        let (cx, cy) = ((size.w as f32 - 1.0) / 2.0, (size.h as f32 - 1.0) / 2.0);
        return warp(images, sx.clamp(-cx, cx), sy.clamp(-cy, cy), size);
    }
    warp(images, sx, sy, size)
}

/// Bilinear samples at `[n, h w]` positions relative to the centre, zero outside.
fn warp(images: Tensor<4>, sx: Tensor<2>, sy: Tensor<2>, size: Size) -> Tensor<4> {
    let shape = images.dims();
    let [n, c, h, w] = shape;
    let flat = images.reshape([n, c, size.area()]);
    let (cx, cy) = ((w as f32 - 1.0) / 2.0, (h as f32 - 1.0) / 2.0);
    let sx = (sx + cx).clamp(-1.0, w as f32);
    let sy = (sy + cy).clamp(-1.0, h as f32);
    let (left, top) = (sx.clone().floor(), sy.clone().floor());
    let (right_share, lower_share) = (sx - left.clone(), sy - top.clone());
    let (left, top) = (left.int(), top.int());
    let mut sum: Option<Tensor<3>> = None;
    for (down, right) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let (x, y) = (left.clone() + right, top.clone() + down);
        let outside = x
            .clone()
            .lower_scalar(0)
            .bool_or(x.clone().greater_scalar(w as i64 - 1))
            .bool_or(y.clone().lower_scalar(0))
            .bool_or(y.clone().greater_scalar(h as i64 - 1));
        let at = y.clamp(0, h as i64 - 1) * w as i64 + x.clamp(0, w as i64 - 1);
        let share = |share: &Tensor<2>, far: i64| {
            if far == 1 { share.clone() } else { share.clone().neg() + 1.0 }
        };
        let weight = share(&right_share, right) * share(&lower_share, down);
        let weight = weight.mask_fill(outside, 0.0).unsqueeze_dim::<3>(1);
        let at = at.unsqueeze_dim::<3>(1).expand([n, c, size.area()]);
        let tap = flat.clone().gather(2, at) * weight;
        sum = Some(match sum {
            Some(sum) => sum + tap,
            None => tap,
        });
    }
    match sum {
        Some(sum) => sum.reshape(shape),
        None => flat.reshape(shape),
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::MaskSource;
    use crate::augment::kernel::{Scratch, inverse_affine};
    use firebrick_backend::testing::{devices, with_half_by_default};
    use firebrick_core::Seed;

    fn pixels(count: usize) -> Vec<f32> {
        MaskSource::new(Seed(1)).uniforms(count).into_iter().map(|v| v as f32).collect()
    }

    /// Both ways on one batch.
    fn both(plans: &[Plan], size: Size, device: &Device) -> (Vec<f32>, Vec<f32>) {
        let area = size.c * size.area();
        let mut host = pixels(plans.len() * area);
        let shape = [plans.len(), size.c, size.h, size.w];
        let images = floats(host.clone(), shape, device);
        let tensor = apply(images, plans.to_vec()).try_to_vec_as().expect("reads");
        let mut scratch = Scratch::default();
        for (image, plan) in host.chunks_mut(area).zip(plans) {
            plan.apply(image, size, &mut scratch);
        }
        (host, tensor)
    }

    fn edits(size: Size) -> Vec<Edit> {
        let (c, h, w) = (size.c, size.h, size.w);
        let field = |count: usize| pixels(count).into_iter().map(|v| 4.0 * v - 2.0).collect();
        vec![
            Edit::Keep,
            Edit::Shift { down: 1, right: -2 },
            Edit::Shift { down: -50, right: 0 },
            Edit::FlipHorizontal,
            Edit::FlipVertical,
            Edit::Affine(inverse_affine(33.0, [1.0, -2.0], 0.8, [12.0, 5.0])),
            Edit::Affine(inverse_affine(180.0, [0.0; 2], 1.0, [0.0; 2])),
            Edit::Affine([0.3, 0.0, 40.0, 0.0, 0.3, -40.0]),
            Edit::Crop([0.4, 0.3 * w as f64, -0.3 * h as f64]),
            Edit::Displace { dx: field(h * w), dy: field(h * w) },
            Edit::Erase { rows: 1..3, columns: 2..99 },
            Edit::Brightness(1.4),
            Edit::Saturation(0.2),
            Edit::Contrast(1.8),
            Edit::Sharpness(1.9),
            Edit::Sharpness(0.1),
            Edit::Posterize(3),
            Edit::Posterize(8),
            Edit::Solarize(0.4),
            Edit::AutoContrast,
            Edit::Equalize,
            Edit::Add(field(c * h * w)),
        ]
    }

    #[test]
    fn every_change_is_the_one_in_host_memory() {
        for device in devices() {
            for (c, h, w) in [(3, 7, 9), (1, 8, 8), (4, 2, 5), (2, 1, 1), (5, 20, 30)] {
                let size = Size { c, h, w };
                let edits = edits(size);
                let plans: Vec<Plan> =
                    edits.iter().map(|edit| Plan::Chain(vec![edit.clone()])).collect();
                let (host, tensor) = both(&plans, size, &device);
                let area = c * h * w;
                for (index, (host, tensor)) in
                    host.chunks(area).zip(tensor.chunks(area)).enumerate()
                {
                    let far = host.iter().zip(tensor).map(|(a, b)| (a - b).abs());
                    // Coordinates of up to 40 pixels are rounded to 4e-6 of a pixel.
                    let far = far.fold(0.0, f32::max);
                    assert!(far < 1e-5, "{size:?} {:?}: {far}", edits[index]);
                }
            }
        }
    }

    #[test]
    fn chains_of_any_length_and_mixtures_keep_the_order_of_the_images() {
        let size = Size { c: 3, h: 6, w: 6 };
        let steps = [
            Edit::FlipHorizontal,
            Edit::Brightness(0.5),
            Edit::Shift { down: 1, right: 1 },
            Edit::Contrast(0.7),
        ];
        let chain = |length: usize, first: usize| {
            (0..length).map(|at| steps[(first + at) % steps.len()].clone()).collect::<Vec<_>>()
        };
        let chains: Vec<Plan> = (0..15).map(|i| Plan::Chain(chain(i % 5, i))).collect();
        let mixtures: Vec<Plan> = (0..9)
            .map(|i| Plan::Mix {
                own: 0.1 * i as f32,
                chains: (0..3).map(|j| (0.2, chain(1 + (i + j) % 3, i + j))).collect(),
            })
            .collect();
        for device in devices() {
            for plans in [&chains, &mixtures] {
                let (host, tensor) = both(plans, size, &device);
                assert!(host.iter().zip(&tensor).all(|(a, b)| (a - b).abs() < 1e-5));
            }
        }
    }

    #[test]
    fn a_range_that_is_almost_zero_is_stretched() {
        let plans = vec![Plan::Chain(vec![Edit::AutoContrast])];
        for device in devices() {
            let faint = floats(vec![0.0, 1e-40], [1, 1, 1, 2], &device);
            let found: Vec<f32> = apply(faint, plans.clone()).try_to_vec_as().expect("reads");
            // A GPU may take so small a number for 0.
            assert!(found == [0.0, 1.0] || found[1].abs() < 1e-39, "{found:?}");
            assert!(device != Device::flex() || found[1] == 1.0);
        }
    }

    #[test]
    fn images_stay_f32_on_a_device_that_makes_f16_by_default() {
        let name = "augment::device::tests::images_stay_f32_on_a_device_that_makes_f16_by_default";
        with_half_by_default(name, |device| {
            assert_eq!(Tensor::<1>::ones([1], &device).dtype(), DType::F16);
            let size = Size { c: 3, h: 7, w: 9 };
            let plans: Vec<Plan> =
                edits(size).into_iter().map(|edit| Plan::Chain(vec![edit])).collect();
            let (host, tensor) = both(&plans, size, &device);
            assert!(host.iter().zip(&tensor).all(|(a, b)| (a - b).abs() < 1e-5));
            let mix = Plan::Mix { own: 0.5, chains: vec![(0.5, vec![Edit::FlipHorizontal])] };
            let (host, tensor) = both(&[mix], size, &device);
            assert!(host.iter().zip(&tensor).all(|(a, b)| (a - b).abs() < 1e-6));
            // A batch that somebody else holds is written anew, and so is a mixed one.
            let images = floats(pixels(2 * 189), [2, 3, 7, 9], &device);
            let flipped = crate::augment::carry_out(images.clone(), vec![Edit::FlipVertical; 2]);
            assert_eq!(flipped.dtype(), DType::F32);
            let plan = crate::MixPlan { partners: vec![1, 0], lambda: vec![0.25; 2] };
            let mixed = plan.apply(images.clone()).expect("two rows");
            assert_eq!(mixed.dtype(), DType::F32);
            let read = |images: Tensor<4>| images.try_to_vec_as::<f32>().expect("reads");
            let (mixed, images) = (read(mixed), read(images));
            assert!((mixed[0] - 0.25 * images[0] - 0.75 * images[189]).abs() < 1e-6);
        });
    }

    #[test]
    fn broken_pixels_stay_where_they_are() {
        let size = Size { c: 1, h: 4, w: 4 };
        let mut values = pixels(16);
        values[5] = f32::NAN;
        values[6] = f32::INFINITY;
        for device in devices() {
            for edit in [Edit::Equalize, Edit::Posterize(2), Edit::Solarize(0.5)] {
                let data = TensorData::new(values.clone(), [1, 1, 4, 4]);
                let images = Tensor::from_data(data, &device);
                let tensor: Vec<f32> = apply(images, vec![Plan::Chain(vec![edit.clone()])])
                    .try_to_vec_as()
                    .expect("reads");
                let mut host = values.clone();
                edit.apply(&mut host, size, &mut Scratch::default());
                assert!(tensor[5].is_nan() && host[5].is_nan(), "{edit:?}");
                assert!((0..16).filter(|at| *at != 5).all(|at| host[at] == tensor[at]), "{edit:?}");
            }
        }
    }
}
