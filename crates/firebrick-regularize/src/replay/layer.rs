//! Penalties and projections of the recorded layer.

use super::RegularizeReplay;
use super::case::{Case, missing};
use crate::{Penalty, Projection, RegularizeError};
use burn::module::{Module, Param};
use burn::nn::LinearConfig;
use burn::nn::conv::{
    Conv1dConfig, Conv2dConfig, Conv3dConfig, ConvTranspose1dConfig, ConvTranspose2dConfig,
    ConvTranspose3dConfig,
};
use burn::tensor::{DType, Tensor, TensorData};

/// Evaluates an expression on a layer of the recorded kind that has the recorded weight and bias.
macro_rules! on_layer {
    (@ $case:ident, $layer:ident, $config:expr, $body:expr) => {{
        let mut $layer = $config.init(&$case.device);
        $layer.weight = Param::from_tensor($case.weight()?);
        $layer.bias = $case.bias()?;
        $body
    }};
    ($case:ident, $layer:ident => $body:expr) => {{
        let (shape, _) = $case.inputs.get("weight").ok_or_else(|| missing("weight"))?;
        match ($case.layer, shape.as_slice()) {
            (Some("Linear"), &[inputs, outputs]) => {
                on_layer!(@ $case, $layer, LinearConfig::new(inputs, outputs), $body)
            }
            (Some("Conv1d"), &[outputs, inputs, w]) => {
                on_layer!(@ $case, $layer, Conv1dConfig::new(inputs, outputs, w), $body)
            }
            (Some("Conv2d"), &[outputs, inputs, h, w]) => {
                on_layer!(@ $case, $layer, Conv2dConfig::new([inputs, outputs], [h, w]), $body)
            }
            (Some("Conv3d"), &[outputs, inputs, d, h, w]) => {
                on_layer!(@ $case, $layer, Conv3dConfig::new([inputs, outputs], [d, h, w]), $body)
            }
            (Some("ConvTranspose1d"), &[inputs, outputs, w]) => {
                on_layer!(@ $case, $layer, ConvTranspose1dConfig::new([inputs, outputs], w), $body)
            }
            (Some("ConvTranspose2d"), &[inputs, outputs, h, w]) => {
                let config = ConvTranspose2dConfig::new([inputs, outputs], [h, w]);
                on_layer!(@ $case, $layer, config, $body)
            }
            (Some("ConvTranspose3d"), &[inputs, outputs, d, h, w]) => {
                let config = ConvTranspose3dConfig::new([inputs, outputs], [d, h, w]);
                on_layer!(@ $case, $layer, config, $body)
            }
            _ => return Err(missing("layer")),
        }
    }};
}

impl Case<'_> {
    /// Compares a penalty of the layer and its gradients.
    pub(super) fn penalty(
        &self,
        penalty: &impl Penalty,
    ) -> Result<RegularizeReplay, RegularizeError> {
        let case = self;
        on_layer!(case, layer => case.penalized(&layer, &layer.weight, layer.bias.as_ref(), penalty))
    }

    fn weight<const D: usize>(&self) -> Result<Tensor<D>, RegularizeError> {
        self.tensor("weight")
    }

    /// The bias, where one was recorded.
    fn bias(&self) -> Result<Option<Param<Tensor<1>>>, RegularizeError> {
        if !self.inputs.contains_key("bias") {
            return Ok(None);
        }
        Ok(Some(Param::from_tensor(self.tensor::<1>("bias")?)))
    }

    fn tensor<const D: usize>(&self, name: &str) -> Result<Tensor<D>, RegularizeError> {
        let (shape, data) = self.inputs.get(name).ok_or_else(|| missing(name))?;
        let shape: [usize; D] = shape.clone().try_into().map_err(|_| missing(name))?;
        let data = TensorData::new(data.clone(), shape);
        Ok(Tensor::from_data(data, (&self.device, DType::F32)).require_grad())
    }

    fn penalized<M: Module, const D: usize>(
        &self,
        model: &M,
        weight: &Param<Tensor<D>>,
        bias: Option<&Param<Tensor<1>>>,
        penalty: &impl Penalty,
    ) -> Result<RegularizeReplay, RegularizeError> {
        let mut leaves = vec![("weight", None)];
        leaves.extend(bias.map(|_| ("bias", None)));
        // A strength of 0 is no term.
        let Some(term) = penalty.term(model) else { return self.differences(&[0.0], leaves) };
        let values = term.clone().try_to_vec_as::<f64>()?;
        if self.gradients.is_empty() {
            return self.numbers(&values);
        }
        let gradients = term.backward();
        if let Some(gradient) = weight.val().grad(&gradients) {
            leaves[0].1 = Some(gradient.try_to_vec_as::<f64>()?);
        }
        if let Some(gradient) = bias.and_then(|bias| bias.val().grad(&gradients)) {
            leaves[1].1 = Some(gradient.try_to_vec_as::<f64>()?);
        }
        self.differences(&values, leaves)
    }

    /// Compares the weight after a projection.
    pub(super) fn project(
        &self,
        rule: &impl Projection,
        lr: f64,
    ) -> Result<RegularizeReplay, RegularizeError> {
        let case = self;
        let values = on_layer!(case, layer => {
            rule.project(layer, lr)?.weight.val().try_to_vec_as::<f64>()?
        });
        self.numbers(&values)
    }
}
