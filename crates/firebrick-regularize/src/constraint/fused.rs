//! A projection in host memory: all weights of a module in one parallel pass, in place.
//!
//! Weights are taken out of the module, cut into pieces, and put back; small ones are changed where they stand. What is
//! not f32 in host memory is changed by tensor operations instead.

use super::pass::{Columns, PIECE, Piece, run};
use super::{Kernel, Rule};
use crate::RegularizeError;
use crate::penalty::{Target, widened};
use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::Tensor;
use firebrick_backend::host::{HostTensor, Tracking};
use firebrick_backend::{PathStack, Placeholders};

/// A weight of so many elements is changed where it stands: to lead it out and back would take longer.
const SMALL: usize = 1 << 13;
/// Elements of a piece whose units are columns; what such a piece reads is scaled from the third-level cache.
const COLUMNS: usize = 1 << 20;

/// Changes every trainable weight that `target` covers.
pub(super) fn project<M: Module, R: Rule>(
    model: M,
    lr: f64,
    rule: &R,
    target: &Target,
) -> Result<M, RegularizeError> {
    let kernel = rule.kernel(lr);
    let mut out = Out {
        rule,
        target,
        lr,
        kernel,
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
    taken.iter_mut().for_each(|weight| cut(&mut weight.host, kernel, weight.axis, &mut pieces));
    run(pieces);
    Ok(model.map(&mut Back { taken: taken.into_iter(), away }))
}

/// A weight on its way through the pass.
struct Taken {
    id: ParamId,
    host: HostTensor,
    axis: usize,
    tracking: Tracking,
}

/// Takes weights out of the module, or changes them at once where they are not in host memory.
struct Out<'a, R> {
    rule: &'a R,
    target: &'a Target,
    lr: f64,
    kernel: Kernel,
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
            Ok((mut host, tracking)) if host.len() <= SMALL => {
                let mut pieces = Vec::with_capacity(1);
                cut(&mut host, self.kernel, axis, &mut pieces);
                run(pieces);
                Param::from_mapped_value(id, host.give_tracked::<D>(tracking), mapper)
            }
            Ok((host, tracking)) => {
                let placeholder = self.away.placeholder(id, mapper, &host);
                self.taken.push(Taken { id, host, axis, tracking });
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

/// Cuts a weight into pieces.
fn cut<'a>(host: &'a mut HostTensor, kernel: Kernel, axis: usize, pieces: &mut Vec<Piece<'a>>) {
    if matches!(kernel, Kernel::Nothing) {
        return;
    }
    let shape = host.shape();
    let values = host.as_mut_slice();
    if values.is_empty() {
        return;
    }
    let units = shape.get(axis).copied().unwrap_or(1);
    let outer: usize = shape.iter().take(axis).product();
    let inner: usize = shape.iter().skip(axis + 1).product();
    if !kernel.by_unit() {
        pieces.extend(values.chunks_mut(PIECE).map(|part| Piece::Elements(kernel, part)));
    } else if outer == 1 {
        let part = (PIECE / inner).max(1) * inner;
        pieces.extend(values.chunks_mut(part).map(|part| Piece::Rows(kernel, part, inner)));
    } else if inner > 1 {
        pieces.push(Piece::Whole(kernel, values, units, inner));
    } else if values.len() <= COLUMNS {
        pieces.push(Piece::Columns(Columns::whole(kernel, values, units)));
    } else {
        let width = (COLUMNS / outer).max(16);
        pieces
            .extend(Columns::panels(kernel, values, units, width).into_iter().map(Piece::Columns));
    }
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
