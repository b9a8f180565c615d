//! Where in a model a rule acts, and along which axis: found before anything of the model is changed.

use crate::RegularizeError;
use crate::penalty::Target;
use crate::units::Axis;
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use firebrick_backend::{PathStack, Role};
use std::collections::HashSet;

/// A parameter as those of other ranks are told from it.
pub(crate) type Key = (ParamId, usize);

/// What a rule does at one place of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nothing.
    Stays,
    /// Changes the weight, along this axis.
    Changes(usize),
    /// Nothing more: an earlier place holds the same parameter.
    Again,
}

/// The places of a model, in the order in which burn visits and maps them.
#[derive(Debug, Default)]
pub(crate) struct Places {
    all: Vec<(ParamId, Place)>,
    /// What lies in more than one place.
    shared: HashSet<Key>,
}

impl Places {
    /// The trainable weights of `model` that `target` covers and that have elements.
    ///
    /// # Errors
    /// When one of them has no such axis, or an unknown one.
    pub(crate) fn of<M: Module>(
        model: &M,
        target: &Target,
        axis: Axis,
    ) -> Result<Self, RegularizeError> {
        let mut find = Find {
            target,
            axis,
            path: PathStack::default(),
            seen: HashSet::new(),
            transposed: None,
            places: Self::default(),
            error: None,
        };
        model.visit(&mut find);
        match find.error {
            Some(error) => Err(error),
            None => Ok(find.places),
        }
    }

    /// What is done to the parameter that is the `at`-th on the way.
    pub(crate) fn at(&self, at: usize, id: ParamId) -> Place {
        let place = self.all.get(at).filter(|(own, _)| *own == id);
        place.map_or(Place::Stays, |(_, place)| *place)
    }

    /// Whether several places hold this parameter.
    pub(crate) fn shares(&self, key: Key) -> bool {
        self.shared.contains(&key)
    }

    /// Whether any parameter lies in several places.
    pub(crate) fn any_shared(&self) -> bool {
        !self.shared.is_empty()
    }
}

struct Find<'a> {
    target: &'a Target,
    axis: Axis,
    path: PathStack,
    seen: HashSet<Key>,
    /// The last weight of a transposed convolution: its path, and its length along the unit axis.
    transposed: Option<(String, usize)>,
    places: Places,
    error: Option<RegularizeError>,
}

impl ModuleVisitor for Find<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.error.is_some() {
            return;
        }
        match self.place(param) {
            Ok(place) => self.places.all.push((param.id, place)),
            Err(error) => self.error = Some(error),
        }
    }
}

impl Find<'_> {
    fn place<const D: usize>(
        &mut self,
        param: &Param<Tensor<D>>,
    ) -> Result<Place, RegularizeError> {
        let role = self.path.role(D);
        if role == Role::Bias {
            self.meet_bias(param.lazy_shape().num_elements())?;
        }
        // Nothing is done to a weight without elements.
        let covered = param.is_require_grad() && self.target.covers(role, &param.id, &self.path);
        if !covered || param.lazy_shape().num_elements() == 0 {
            return Ok(Place::Stays);
        }
        let axis = self.axis.of(&self.path, D)?;
        if self.axis.by_layer() && self.path.owner().starts_with("ConvTranspose") {
            let units = param.lazy_shape().get(axis).copied().unwrap_or(0);
            self.transposed = Some((self.path.path(), units));
        }
        let key = (param.id, D);
        if self.seen.insert(key) {
            return Ok(Place::Changes(axis));
        }
        self.places.shared.insert(key);
        Ok(Place::Again)
    }

    /// A transposed convolution has a bias for each unit, and with several groups a shorter axis.
    fn meet_bias(&mut self, units: usize) -> Result<(), RegularizeError> {
        let Some((weight, found)) = &self.transposed else { return Ok(()) };
        let path = self.path.path();
        let layer = path.strip_suffix("bias");
        if *found == units || layer.is_none() || layer != weight.strip_suffix("weight") {
            return Ok(());
        }
        Err(RegularizeError::GroupedUnits { path: weight.clone(), found: *found, units })
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::UnitAxis;
    use crate::penalty::PenaltyScope;
    use burn::nn::conv::{
        Conv2dConfig, ConvTranspose1dConfig, ConvTranspose2d, ConvTranspose2dConfig,
        ConvTranspose3dConfig,
    };
    use burn::nn::{BatchNormConfig, LinearConfig};
    use burn::tensor::Device;

    const BY_LAYER: Axis = Axis::Units(UnitAxis::ByLayer);

    fn places(model: &impl Module, axis: Axis) -> Result<Vec<Place>, RegularizeError> {
        let places = Places::of(model, &Target::new(PenaltyScope::Weights), axis)?;
        Ok(places.all.into_iter().map(|(_, place)| place).collect())
    }

    #[test]
    fn every_place_is_counted_and_a_parameter_is_changed_once() {
        let device = Device::flex().autodiff();
        let linear = LinearConfig::new(3, 2).init(&device);
        let _ = linear.weight.val();
        let model = (
            linear.clone().no_grad(),
            linear.clone(),
            BatchNormConfig::new(2).init(&device),
            linear,
        );
        let (stays, changes) = (Place::Stays, Place::Changes(1));
        let found = places(&model, BY_LAYER).expect("a linear layer is known");
        let expected =
            [stays, stays, changes, stays, stays, stays, stays, stays, Place::Again, stays];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_transposed_convolution_with_groups_is_refused_where_its_bias_tells() {
        let device = Device::flex().autodiff();
        let layer = |groups: usize, bias: bool| -> ConvTranspose2d {
            let config = ConvTranspose2dConfig::new([4, 6], [3, 3]).with_groups(groups);
            config.with_bias(bias).init(&device)
        };
        for axis in [BY_LAYER, Axis::Kernels(UnitAxis::ByLayer)] {
            let refused = places(&vec![layer(1, true), layer(2, true)], axis);
            let error = refused.expect_err("two groups");
            let expected =
                RegularizeError::GroupedUnits { path: "1.weight".into(), found: 3, units: 6 };
            assert_eq!(error, expected);
            assert!(error.to_string().contains("`1.weight` has 3 entries"), "{error}");
            let one = ConvTranspose1dConfig::new([4, 6], 3).with_groups(2).init(&device);
            assert!(places(&one, axis).is_err());
            let three = ConvTranspose3dConfig::new([4, 6], [3; 3]).with_groups(2).init(&device);
            assert!(places(&three, axis).is_err());
            // Nothing tells.
            assert!(places(&layer(2, false), axis).is_ok());
        }
        // Whoever names an axis has it, and no unit is asked for elsewhere.
        for axis in [Axis::Units(UnitAxis::At(1)), Axis::Inputs, Axis::Elements] {
            assert!(places(&layer(2, true), axis).is_ok(), "{axis:?}");
        }
        let conv = Conv2dConfig::new([4, 6], [3, 3]).with_groups(2).init(&device);
        assert_eq!(places(&conv, BY_LAYER).expect("units in front")[0], Place::Changes(0));
    }
}
