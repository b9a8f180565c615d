//! A projection in host memory: all weights of a module in one parallel pass, in place.
//!
//! Weights are taken out of the module, cut into pieces that stay in a core's cache while norms are taken and weights
//! scaled, and put back. What is not f32 in host memory is changed by tensor operations instead.

use super::{Kernel, Rule};
use crate::RegularizeError;
use crate::penalty::{Target, widened};
use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::Tensor;
use firebrick_backend::host::{HostTensor, Tracking};
use firebrick_backend::{PathStack, Placeholders};
use rayon::prelude::*;

/// Elements of one piece of work: a megabyte, which stays in the second-level cache.
const PIECE: usize = 1 << 18;
/// Elements of a piece whose units are columns: more, since whole rows are read faster than parts of them. All of it is
/// read before the first factor is known; the second walk starts at the end, which the second-level cache still holds, and
/// finds the rest in the third.
const COLUMNS: usize = 1 << 20;
/// Elements that the second walk goes upwards through at a time: half of a second-level cache.
const BLOCK: usize = 1 << 17;

/// Units from this length on are worth to be scaled while the next one is read.
const BESIDE: usize = 256;

/// Changes every trainable weight that `target` covers.
pub(super) fn project<M: Module, R: Rule>(
    model: M,
    lr: f64,
    rule: &R,
    target: &Target,
) -> Result<M, RegularizeError> {
    let mut out = Out {
        rule,
        target,
        lr,
        path: PathStack::default(),
        taken: Vec::new(),
        away: Placeholders::default(),
        error: None,
    };
    let model = model.map(&mut out);
    let Out { mut taken, away, error, .. } = out;
    if let Some(error) = error {
        return Err(error);
    }
    let mut pieces = Vec::with_capacity(taken.len());
    taken.iter_mut().for_each(|weight| weight.cut(&mut pieces));
    // Handing a small model to other threads takes longer than changing it here.
    if pieces.iter().map(Piece::elements).sum::<usize>() <= PIECE {
        pieces.into_iter().for_each(Piece::run);
    } else {
        pieces.into_par_iter().for_each(Piece::run);
    }
    Ok(model.map(&mut Back { taken: taken.into_iter(), away }))
}

/// A weight on its way through the pass.
struct Taken {
    id: ParamId,
    host: HostTensor,
    kernel: Kernel,
    axis: usize,
    tracking: Tracking,
}

/// Takes weights out of the module, or changes them at once where they are not in host memory.
struct Out<'a, R> {
    rule: &'a R,
    target: &'a Target,
    lr: f64,
    path: PathStack,
    taken: Vec<Taken>,
    away: Placeholders,
    error: Option<RegularizeError>,
}

impl<R: Rule> ModuleMapper for Out<'_, R> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let covered =
            param.is_require_grad() && self.target.covers(self.path.role(D), &param.id, &self.path);
        // Nothing is done to a weight without elements.
        if !covered || self.error.is_some() || param.lazy_shape().num_elements() == 0 {
            return param;
        }
        let axis = match self.rule.axis(&self.path, D) {
            Ok(axis) => axis,
            Err(error) => {
                self.error = Some(error);
                return param;
            }
        };
        let (id, value, mapper) = param.consume();
        match HostTensor::take_tracked(value) {
            Ok((host, tracking)) => {
                let placeholder = self.away.placeholder(id, mapper, &host);
                let kernel = self.rule.kernel(self.lr);
                self.taken.push(Taken { id, host, kernel, axis, tracking });
                placeholder
            }
            Err(elsewhere) => {
                let value = self.elsewhere(elsewhere, axis, id);
                Param::from_mapped_value(id, value, mapper)
            }
        }
    }
}

impl<R: Rule> Out<'_, R> {
    /// A trainable weight that is not in host memory, changed by tensor operations.
    fn elsewhere<const D: usize>(&self, value: Tensor<D>, axis: usize, id: ParamId) -> Tensor<D> {
        let (checkpointing, distributed) =
            (value.gradient_checkpointing_strategy(), value.is_distributed());
        let dtype = value.dtype();
        let changed = self.rule.apply(widened(value.inner()), axis, self.lr).cast(dtype);
        let value = Tensor::from_inner(changed);
        let value = match checkpointing {
            Some(strategy) => value.with_gradient_checkpointing_strategy(strategy),
            None => value,
        };
        let value = value.require_grad();
        if distributed { value.set_distributed(id) } else { value }
    }
}

/// Puts the weights back where they were taken from.
struct Back {
    taken: std::vec::IntoIter<Taken>,
    away: Placeholders,
}

impl ModuleMapper for Back {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.taken.as_slice().first().is_none_or(|next| next.id != param.id) {
            return param;
        }
        let (Some(next), Some(mapper)) = (self.taken.next(), self.away.mapper::<D>()) else {
            return param;
        };
        Param::from_mapped_value(next.id, next.host.give_tracked::<D>(next.tracking), mapper)
    }
}

/// A part of a weight that one core changes on its own.
enum Piece<'a> {
    /// Element by element.
    Elements(Kernel, &'a mut [f32]),
    /// Whole units of this many elements each, one behind the other.
    Rows(Kernel, &'a mut [f32], usize),
    /// All rows of a matrix with this many units, one a column.
    Matrix(Kernel, &'a mut [f32], usize),
    /// The same units of every row of a larger matrix: one slice a row.
    Columns(Kernel, Vec<&'a mut [f32]>),
    /// A weight whose units have elements before and behind: `(units, inner)`.
    Whole(Kernel, &'a mut [f32], usize, usize),
}

impl Taken {
    fn cut<'a>(&'a mut self, pieces: &mut Vec<Piece<'a>>) {
        let (kernel, shape) = (self.kernel, self.host.shape());
        let values = self.host.as_mut_slice();
        let units = shape.get(self.axis).copied().unwrap_or(1);
        let outer: usize = shape.iter().take(self.axis).product();
        let inner: usize = shape.iter().skip(self.axis + 1).product();
        if values.is_empty() || matches!(kernel, Kernel::Nothing) {
            return;
        }
        if !kernel.by_unit() {
            pieces.extend(values.chunks_mut(PIECE).map(|part| Piece::Elements(kernel, part)));
        } else if outer == 1 {
            let part = (PIECE / inner).max(1) * inner;
            pieces.extend(values.chunks_mut(part).map(|part| Piece::Rows(kernel, part, inner)));
        } else if inner == 1 {
            let width = (COLUMNS / outer).max(16);
            if width >= units {
                pieces.push(Piece::Matrix(kernel, values, units));
                return;
            }
            let mut parts: Vec<Vec<&mut [f32]>> =
                (0..units.div_ceil(width)).map(|_| Vec::with_capacity(outer)).collect();
            for row in values.chunks_mut(units) {
                for (part, slice) in parts.iter_mut().zip(row.chunks_mut(width)) {
                    part.push(slice);
                }
            }
            pieces.extend(parts.into_iter().map(|part| Piece::Columns(kernel, part)));
        } else {
            pieces.push(Piece::Whole(kernel, values, units, inner));
        }
    }
}

impl Piece<'_> {
    fn elements(&self) -> usize {
        match self {
            Self::Elements(_, values)
            | Self::Rows(_, values, _)
            | Self::Matrix(_, values, _)
            | Self::Whole(_, values, _, _) => values.len(),
            Self::Columns(_, rows) => rows.iter().map(|row| row.len()).sum(),
        }
    }

    fn run(self) {
        pulp::Arch::new().dispatch(|| self.change());
    }

    #[inline(always)]
    fn change(self) {
        match self {
            Self::Elements(kernel, values) => kernel.elements(values),
            Self::Rows(kernel, values, length) if length < BESIDE => {
                for unit in values.chunks_mut(length) {
                    let factor = kernel.factor(squares(unit).sqrt(), length);
                    scale(unit, factor);
                }
            }
            Self::Rows(kernel, values, length) => beside(kernel, values, length),
            Self::Matrix(kernel, values, units) => matrix(kernel, values, units),
            Self::Columns(kernel, mut rows) => {
                let count = rows.len();
                let width = rows.first().map_or(0, |row| row.len());
                let mut sums = vec![0f64; width];
                // Few rows at a time in f32: fast, and no error that grows with their number.
                let mut few = vec![0f32; width];
                for part in rows.chunks(64) {
                    few.fill(0.0);
                    for row in part {
                        few.iter_mut().zip(row.iter()).for_each(|(sum, &v)| *sum += v * v);
                    }
                    sums.iter_mut().zip(&few).for_each(|(sum, &few)| *sum += f64::from(few));
                }
                let factors = factors(kernel, sums, count);
                if factors.iter().any(|&factor| factor != 1.0) {
                    for row in rows.rchunks_mut((BLOCK / width).max(1)).flatten() {
                        row.iter_mut().zip(&factors).for_each(|(value, factor)| *value *= factor);
                    }
                }
            }
            Self::Whole(kernel, values, units, inner) => {
                let mut sums = vec![0f64; units];
                for row in values.chunks(units * inner) {
                    for (sum, slice) in sums.iter_mut().zip(row.chunks(inner)) {
                        *sum += squares(slice);
                    }
                }
                let factors = factors(kernel, sums, values.len() / units);
                for row in values.chunks_mut(units * inner) {
                    for (factor, slice) in factors.iter().zip(row.chunks_mut(inner)) {
                        scale(slice, *factor);
                    }
                }
            }
        }
    }
}

fn factors(kernel: Kernel, sums: Vec<f64>, size: usize) -> Vec<f32> {
    sums.into_iter().map(|sum| kernel.factor(sum.sqrt(), size)).collect()
}

/// A unit that stays is not written.
#[inline(always)]
fn scale(values: &mut [f32], factor: f32) {
    if factor != 1.0 {
        values.iter_mut().for_each(|value| *value *= factor);
    }
}

/// Whole units of some length: while one is scaled in the cache, the next one is read and its norm taken. One after the
/// other, memory would wait for the first half of the work.
#[inline(always)]
fn beside(kernel: Kernel, values: &mut [f32], length: usize) {
    let mut sum = squares(&values[..length]);
    let mut rest = values;
    while rest.len() > length {
        let (own, others) = rest.split_at_mut(length);
        let next = &others[..length];
        sum = match kernel.factor(sum.sqrt(), length) {
            1.0 => squares(next),
            factor => own
                .chunks_mut(PART)
                .zip(next.chunks(PART))
                .map(|(own, next)| scale_and_sum(own, factor, next))
                .sum(),
        };
        rest = others;
    }
    scale(rest, kernel.factor(sum.sqrt(), length));
}

/// A whole matrix whose columns are units. Short rows are taken together, so that loops are long.
#[inline(always)]
fn matrix(kernel: Kernel, values: &mut [f32], units: usize) {
    let together = (1024 / units).max(1);
    let wide = together * units;
    let (mut sums, mut few) = (vec![0f64; units], vec![0f32; wide]);
    // Few rows at a time in f32, as below.
    for part in values.chunks(64 * wide) {
        few.fill(0.0);
        for rows in part.chunks(wide) {
            few.iter_mut().zip(rows).for_each(|(sum, &value)| *sum += value * value);
        }
        for few in few.chunks(units) {
            sums.iter_mut().zip(few).for_each(|(sum, &few)| *sum += f64::from(few));
        }
    }
    let factors = factors(kernel, sums, values.len() / units);
    if factors.iter().all(|&factor| factor == 1.0) {
        return;
    }
    let factors = factors.repeat(together);
    // From the end, where rows are still in the cache; upwards within a block, as processors read ahead.
    for block in values.rchunks_mut((BLOCK / wide).max(1) * wide) {
        for rows in block.chunks_mut(wide) {
            rows.iter_mut().zip(&factors).for_each(|(value, factor)| *value *= factor);
        }
    }
}

/// Elements whose squares are summed in f32, and in how many lanes: so many that the compiler keeps the loop.
const PART: usize = 1024;
const LANES: usize = 64;

/// The sum of squares, in lanes of few elements each.
#[inline(always)]
fn squares(values: &[f32]) -> f64 {
    values.chunks(PART).map(|part| scale_and_sum(&mut [], 1.0, part)).sum()
}

/// Scales `own`, which is as long as `next` or empty, and gives the sum of squares of `next`.
#[inline(always)]
fn scale_and_sum(own: &mut [f32], factor: f32, next: &[f32]) -> f64 {
    let (lanes, rest) = next.as_chunks::<LANES>();
    let mut sums = [0f32; LANES];
    let mut add = |chunk: &[f32; LANES]| {
        sums.iter_mut().zip(chunk).for_each(|(sum, &value)| *sum += value * value);
    };
    let (own_lanes, own_rest) = own.as_chunks_mut::<LANES>();
    if own_lanes.is_empty() {
        lanes.iter().for_each(add);
    } else {
        for (own, chunk) in own_lanes.iter_mut().zip(lanes) {
            add(chunk);
            own.iter_mut().for_each(|value| *value *= factor);
        }
    }
    own_rest.iter_mut().for_each(|value| *value *= factor);
    let (eights, tail) = rest.as_chunks::<8>();
    let mut few = [0f32; 8];
    for eight in eights {
        few.iter_mut().zip(eight).for_each(|(sum, &value)| *sum += value * value);
    }
    let tail: f64 = tail.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
    let rest = few.into_iter().map(f64::from).sum::<f64>() + tail;
    if lanes.is_empty() {
        return rest;
    }
    for half in [LANES / 2, LANES / 4, LANES / 8] {
        let (sums, others) = sums.split_at_mut(half);
        sums.iter_mut().zip(others).for_each(|(sum, other)| *sum += *other);
    }
    sums.iter().take(LANES / 8).copied().map(f64::from).sum::<f64>() + rest
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::{
        GroupLassoConfig, LassoGroups, MaxNormConfig, NonNegative, ProximalL1Config, UnitAxis,
    };
    use crate::{Projection, UnitNormConfig};
    use burn::tensor::{DType, Device, TensorData};
    use firebrick_core::Seed;

    #[derive(Module, Debug)]
    struct Own {
        kernel: Param<Tensor<3>>,
        matrix: Param<Tensor<2>>,
    }

    /// Weights of every layout: units in front, in the middle and behind.
    fn own(dtype: DType, seed: u64) -> Own {
        let device = Device::flex().autodiff();
        let draw = |count: usize, purpose: &str| {
            crate::MaskSource::named(Seed(seed), purpose).normals(count)
        };
        let kernel = TensorData::new(draw(7 * 5 * 9, "kernel"), [7, 5, 9]);
        let matrix = TensorData::new(draw(700 * 500, "matrix"), [700, 500]);
        let kernel = Tensor::<3>::from_data(kernel, (&device, dtype)).require_grad();
        let matrix = Tensor::<2>::from_data(matrix, (&device, dtype)).require_grad();
        Own { kernel: Param::from_tensor(kernel), matrix: Param::from_tensor(matrix) }
    }

    fn read(own: &Own) -> Vec<f64> {
        let kernel: Vec<f64> = own.kernel.val().try_to_vec_as().expect("reads");
        [kernel, own.matrix.val().try_to_vec_as().expect("reads")].concat()
    }

    #[test]
    fn the_pass_in_host_memory_is_the_one_of_tensor_operations() {
        // f64 is not opened in host memory, so the same rule takes the other way.
        fn check(rule: &impl Projection) {
            let fused = read(&rule.project(own(DType::F32, 3), 0.1).expect("axis is named"));
            let plain = read(&rule.project(own(DType::F64, 3), 0.1).expect("axis is named"));
            assert_eq!(fused.len(), plain.len());
            for (a, b) in fused.iter().zip(&plain) {
                // A sum of 700 squares in f32 by parts of 64, and one product.
                assert!((a - b).abs() < 2e-6 * (1.0 + b.abs()), "{a} {b}");
            }
        }
        for axis in [0, 1] {
            let along = LassoGroups::Along(axis);
            let axis = UnitAxis::At(axis);
            check(&MaxNormConfig::new().with_max(7.0).with_axis(axis).init().expect("valid"));
            check(&UnitNormConfig::new().with_axis(axis).init());
            check(&GroupLassoConfig::new(1.5).with_groups(along).init().expect("valid"));
        }
        check(&NonNegative::new());
        check(&ProximalL1Config::new(2.0).init().expect("valid"));
    }

    #[test]
    fn a_matrix_in_panels_is_the_matrix_as_a_whole() {
        let (inputs, units) = (1300, 1000);
        let values = crate::MaskSource::new(Seed(7)).normals(inputs * units);
        for kernel in [Kernel::MaxNorm(36.0), Kernel::UnitNorm, Kernel::Group(0.5)] {
            let mut whole = values.clone();
            matrix(kernel, &mut whole, units);
            assert_ne!(whole, values);
            let mut panels = values.clone();
            for half in 0..2 {
                let rows = panels.chunks_mut(units).map(|row| &mut row[half * 500..][..500]);
                Piece::Columns(kernel, rows.collect()).run();
            }
            let far = whole.iter().zip(&panels).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(far < 1e-6, "{kernel:?}: {far}");
        }
        for units in [1, 3, 64, 1000] {
            let mut values = crate::MaskSource::new(Seed(8)).normals(7 * units);
            matrix(Kernel::UnitNorm, &mut values, units);
            for unit in 0..units {
                let square: f32 = values.iter().skip(unit).step_by(units).map(|w| w * w).sum();
                assert!((square - 1.0).abs() < 1e-5, "{units}: {square}");
            }
        }
    }

    #[test]
    fn a_unit_is_the_same_to_the_bit_alone_and_beside_others() {
        for length in [256, 500, 512, 1037, 2050] {
            let values = crate::MaskSource::new(Seed(6)).normals(7 * length);
            // About half of the units are beyond this norm.
            let max = (length as f64).sqrt();
            for kernel in [Kernel::MaxNorm(max), Kernel::UnitNorm, Kernel::Group(0.3)] {
                let (mut together, mut alone) = (values.clone(), values.clone());
                beside(kernel, &mut together, length);
                alone.chunks_mut(length).for_each(|unit| beside(kernel, unit, length));
                assert_eq!(together, alone, "{kernel:?} {length}");
                assert_ne!(together, values);
            }
        }
    }

    #[test]
    fn weights_are_changed_in_place_and_others_keep_theirs() {
        let address = |own: &Own| {
            let host = HostTensor::take(own.matrix.val().inner()).expect("f32 on flex");
            host.as_slice().as_ptr()
        };
        let model = own(DType::F32, 4);
        let before = address(&model);
        let rule = ProximalL1Config::new(0.1).init().expect("valid");
        let model = rule.project(model, 0.1).expect("no axis");
        assert_eq!(address(&model), before);
        let held = model.clone();
        let values = read(&held);
        let model = rule.project(model, 0.1).expect("no axis");
        assert_eq!(read(&held), values, "a clone is left alone");
        assert_ne!(read(&model), values);
    }
}
