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
/// Elements of a piece whose units are columns: more, since whole rows are read faster than parts of them, and of what has
/// left the cache only one half is read again, for the second walk goes the other way.
const COLUMNS: usize = 1 << 20;

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
        if !covered || self.error.is_some() {
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
    /// The same units of every row: one slice a row.
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
            let width = (COLUMNS / outer).clamp(16, units.max(16));
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
            Self::Elements(_, values) | Self::Rows(_, values, _) | Self::Whole(_, values, _, _) => {
                values.len()
            }
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
            Self::Rows(kernel, values, length) => {
                for unit in values.chunks_mut(length) {
                    let factor = kernel.factor(squares(unit).sqrt(), length);
                    scale(unit, factor);
                }
            }
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
                    for row in rows.iter_mut().rev() {
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

/// The sum of squares, in eight lanes of few elements each.
#[inline(always)]
fn squares(values: &[f32]) -> f64 {
    if values.len() < 16 {
        return f64::from(values.iter().map(|value| value * value).sum::<f32>());
    }
    let part = |part: &[f32]| {
        let (lanes, rest) = part.as_chunks::<8>();
        let mut sums = [0f32; 8];
        for chunk in lanes {
            sums.iter_mut().zip(chunk).for_each(|(sum, &value)| *sum += value * value);
        }
        let rest: f64 = rest.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        sums.iter().copied().map(f64::from).sum::<f64>() + rest
    };
    values.chunks(512).map(part).sum()
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
