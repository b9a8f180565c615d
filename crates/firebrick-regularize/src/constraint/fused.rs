//! A projection in host memory: all weights of a module in one parallel pass, in place.
//!
//! What is to be done at each place of the module is found first. Then weights are taken out of it, cut into pieces, and
//! put back; small ones are changed where they stand. What is not f32 in host memory is changed by tensor operations.

use super::pass::{Columns, PIECE, Piece, run};
use super::{Kernel, Rule};
use crate::RegularizeError;
use crate::penalty::Target;
use crate::places::{Key, Place, Places};
use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::Tensor;
use firebrick_backend::checkpointing::rejoin;
use firebrick_backend::host::{HostTensor, Tracking};
use firebrick_backend::{Placeholders, widened};
use std::any::Any;
use std::collections::HashMap;

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
    let places = Places::of(&model, target, rule.axis())?;
    let kernel = rule.kernel(lr);
    if kernel == Kernel::Nothing {
        return Ok(model);
    }
    let (taken, away) = (Vec::new(), Placeholders::default());
    let mut out = Out { rule, lr, kernel, places: &places, at: 0, taken, away };
    let model = model.map(&mut out);
    let Out { mut taken, away, .. } = out;
    if taken.is_empty() && !places.any_shared() {
        return Ok(model);
    }
    let mut pieces = Vec::with_capacity(taken.len());
    taken.iter_mut().for_each(|weight| cut(&mut weight.host, kernel, weight.axis, &mut pieces));
    run(pieces);
    let (taken, first) = (taken.into_iter().peekable(), HashMap::new());
    Ok(model.map(&mut Back { places: &places, at: 0, taken, away, first }))
}

/// A weight on its way through the pass.
struct Taken {
    /// Its place in the module: a parameter's number may be that of several.
    at: usize,
    host: HostTensor,
    axis: usize,
    tracking: Tracking,
}

/// Takes weights out of the module, or changes them at once where they are small or not in host memory.
struct Out<'a, R> {
    rule: &'a R,
    lr: f64,
    kernel: Kernel,
    places: &'a Places,
    at: usize,
    taken: Vec<Taken>,
    away: Placeholders,
}

impl<R: Rule> ModuleMapper for Out<'_, R> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let at = self.at;
        self.at += 1;
        let Place::Changes(axis) = self.places.at(at, param.id) else { return param };
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
                self.taken.push(Taken { at, host, axis, tracking });
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
        let (strategy, distributed) =
            (value.gradient_checkpointing_strategy(), value.is_distributed());
        let dtype = value.dtype();
        let changed = self.rule.apply(widened(value.inner()), axis, self.lr).cast(dtype);
        let value = rejoin(changed, strategy).require_grad();
        if distributed { value.set_distributed(id) } else { value }
    }
}

/// Puts the weights back where they were taken from, and gives further places of a parameter the value of its first: with
/// nodes of their own in autodiff's graph burn would keep the gradient of the last place alone.
struct Back<'a> {
    places: &'a Places,
    at: usize,
    taken: std::iter::Peekable<std::vec::IntoIter<Taken>>,
    away: Placeholders,
    /// The values of what lies in several places.
    first: HashMap<Key, Box<dyn Any>>,
}

impl ModuleMapper for Back<'_> {
    fn map_float<const D: usize>(&mut self, mut param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let at = self.at;
        self.at += 1;
        let key = (param.id, D);
        if let Some(own) = self.taken.next_if(|next| next.at == at)
            && let Some(mapper) = self.away.mapper::<D>()
        {
            let value = own.host.give_tracked::<D>(own.tracking);
            param = Param::from_mapped_value(param.id, value, mapper);
        }
        match self.places.at(at, param.id) {
            Place::Changes(_) if self.places.shares(key) => {
                self.first.insert(key, Box::new(param.base()));
            }
            Place::Again => {
                let first =
                    self.first.get(&key).and_then(|first| first.downcast_ref::<Tensor<D>>());
                if let Some(value) = first {
                    let (id, _, mapper) = param.consume();
                    param = Param::from_mapped_value(id, value.clone(), mapper);
                }
            }
            _ => {}
        }
        param
    }
}

/// Cuts a weight into pieces.
fn cut<'a>(host: &'a mut HostTensor, kernel: Kernel, axis: usize, pieces: &mut Vec<Piece<'a>>) {
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
    use burn::module::ParamGroup;
    use burn::nn::{Linear, LinearConfig};
    use burn::optim::GradientsParams;
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

    /// A layer whose weight goes through the pass.
    fn linear() -> Linear {
        let mut layer = LinearConfig::new(128, 128).init(&Device::flex().autodiff());
        let values = crate::MaskSource::new(Seed(5)).normals(128 * 128);
        let data = TensorData::new(values, [128, 128]);
        layer.weight = Param::from_data(data, &Device::flex().autodiff());
        layer
    }

    fn weight(layer: &Linear) -> Vec<f32> {
        layer.weight.val().try_to_vec_as().expect("reads")
    }

    #[test]
    fn of_two_places_of_a_parameter_the_one_that_is_covered_is_changed() {
        let rule = MaxNormConfig::new().with_max(0.5).init().expect("valid");
        let student = linear();
        let before = weight(&student);
        let alone = weight(&rule.project(linear(), 0.1).expect("known"));
        assert_ne!(alone, before);
        // A frozen copy that stands before what trains has its number.
        let teacher = student.clone().no_grad();
        let (teacher, student) = rule.project((teacher, student), 0.1).expect("known");
        assert_eq!((weight(&teacher), weight(&student)), (before.clone(), alone.clone()));
        assert!(student.weight.is_require_grad() && !teacher.weight.is_require_grad());
        // Of two that train, a group may name the second.
        let narrowed = rule.only(ParamGroup::from_path("1.weight"));
        let layer = linear();
        let tied = vec![layer.clone(), layer];
        let tied = narrowed.project(tied, 0.1).expect("known");
        assert_eq!((weight(&tied[0]), weight(&tied[1])), (before, alone));
    }

    #[test]
    fn tied_weights_are_changed_once_and_stay_one_parameter() {
        fn check(rule: &impl Projection) {
            // In host memory large and small, and elsewhere.
            for (side, dtype) in [(128, DType::F32), (8, DType::F32), (8, DType::F64)] {
                let device = Device::flex().autodiff();
                let layer = || {
                    let values = crate::MaskSource::new(Seed(5)).normals(side * side);
                    let data = TensorData::new(values, [side, side]);
                    let values = Tensor::<2>::from_data(data, (&device, dtype)).require_grad();
                    let mut layer = LinearConfig::new(side, side).with_bias(false).init(&device);
                    layer.weight = Param::from_tensor(values);
                    layer
                };
                let alone = rule.project(layer(), 0.1).expect("known");
                let own = layer();
                let tied = rule.project([own.clone(), own], 0.1).expect("known");
                assert_eq!(weight(&tied[0]), weight(&alone));
                assert_eq!(weight(&tied[1]), weight(&alone));
                // The gradient is that of both places.
                let input = || Tensor::<2>::ones([2, side], (&device, dtype));
                let output = tied[1].forward(tied[0].forward(input()));
                let gradients = GradientsParams::from_grads(output.sum().backward(), &tied);
                let output = alone.forward(alone.forward(input()));
                let expected = GradientsParams::from_grads(output.sum().backward(), &alone);
                let found = gradients.get::<2>(tied[0].weight.id).expect("has one");
                let expected = expected.get::<2>(alone.weight.id).expect("has one");
                found.into_data().assert_eq(&expected.into_data(), true);
            }
        }
        // A second time would shrink it more.
        check(&ProximalL1Config::new(2.0).init().expect("valid"));
        check(&MaxNormConfig::new().with_max(0.5).init().expect("valid"));
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
