//! A recorded case: its inputs as tensors, and what was recorded.

use super::RegularizeReplay;
use crate::augment::{Edit, carry_out, kernel};
use crate::*;
use burn::module::{Module, Param};
use burn::nn::conv::Conv2dConfig;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde_json::Value;
use std::collections::BTreeMap;

/// What the differences of a case may be, relative to its largest number: a few roundings of f32; a difference quotient
/// of step 0.01 errs by its square and by roundings over the step; bilinear weights by the rounding of coordinates.
fn relative(name: &str) -> f64 {
    match name {
        "jacobian" | "gradient_penalty" => 5e-4,
        "affine" => 5e-6,
        _ => 2e-6,
    }
}

pub(super) fn missing(field: &str) -> RegularizeError {
    RegularizeError::Case(format!("field `{field}` is missing or of the wrong kind"))
}

/// A recorded case, its numbers read.
pub(super) struct Case<'a> {
    name: &'a str,
    args: &'a Value,
    layer: Option<&'a str>,
    inputs: BTreeMap<&'a str, (Vec<usize>, Vec<f32>)>,
    output: Vec<f64>,
    gradients: BTreeMap<&'a str, Vec<f64>>,
    device: Device,
}

/// An input as a tensor that gathers a gradient.
pub(super) struct Leaf {
    name: String,
    pub(super) shape: Vec<usize>,
    flat: Tensor<1>,
}

impl Leaf {
    pub(super) fn shaped<const D: usize>(&self) -> Result<Tensor<D>, RegularizeError> {
        let shape: [usize; D] = self.shape.clone().try_into().map_err(|_| missing(&self.name))?;
        Ok(self.flat.clone().reshape(shape))
    }

    /// Rows and everything else.
    pub(super) fn matrix(&self) -> Tensor<2> {
        let rows = self.shape.first().copied().unwrap_or(1);
        let rest = self.shape.iter().skip(1).product::<usize>();
        self.flat.clone().reshape([rows, rest])
    }
}

pub(super) fn list(value: &Value, field: &str) -> Result<Vec<f64>, RegularizeError> {
    let numbers = value.as_array().ok_or_else(|| missing(field))?;
    numbers.iter().map(|number| number.as_f64().ok_or_else(|| missing(field))).collect()
}

impl<'a> Case<'a> {
    pub(super) fn read(
        name: &'a str,
        case: &'a Value,
        device: &Device,
    ) -> Result<Self, RegularizeError> {
        let mut inputs = BTreeMap::new();
        for (name, input) in case["inputs"].as_object().ok_or_else(|| missing("inputs"))? {
            let shape = list(&input["shape"], name)?.into_iter().map(|n| n as usize);
            let shape: Vec<usize> = shape.collect();
            let data: Vec<f32> =
                list(&input["data"], name)?.into_iter().map(|x| x as f32).collect();
            if shape.iter().product::<usize>() != data.len() {
                return Err(missing(name));
            }
            inputs.insert(name.as_str(), (shape, data));
        }
        let mut gradients = BTreeMap::new();
        for (name, gradient) in case["gradients"].as_object().into_iter().flatten() {
            gradients.insert(name.as_str(), list(gradient, name)?);
        }
        Ok(Self {
            name,
            args: &case["args"],
            layer: case["layer"].as_str(),
            inputs,
            output: list(&case["output"], "output")?,
            gradients,
            device: device.clone().autodiff(),
        })
    }

    pub(super) fn arg(&self, name: &str) -> Result<f64, RegularizeError> {
        self.args[name].as_f64().ok_or_else(|| missing(name))
    }

    pub(super) fn leaf(&self, name: &str) -> Result<Leaf, RegularizeError> {
        let (shape, data) = self.inputs.get(name).ok_or_else(|| missing(name))?;
        let data = TensorData::new(data.clone(), [data.len()]);
        let flat = Tensor::from_data(data, &self.device).require_grad();
        Ok(Leaf { name: name.to_owned(), shape: shape.clone(), flat })
    }

    /// An input as it is, on the plain device.
    pub(super) fn plain<const D: usize>(&self, name: &str) -> Result<Tensor<D>, RegularizeError> {
        Ok(self.leaf(name)?.shaped::<D>()?.inner())
    }

    /// The recorded partners, and one share for all.
    pub(super) fn plan(&self, lambda: f64) -> Result<MixPlan, RegularizeError> {
        let partners = list(&self.args["partners"], "partners")?;
        let partners: Vec<usize> = partners.into_iter().map(|partner| partner as usize).collect();
        if partners.iter().any(|&partner| partner >= partners.len()) {
            return Err(missing("partners"));
        }
        Ok(MixPlan { lambda: vec![lambda; partners.len()], partners })
    }

    pub(super) fn mixed(
        &self,
        images: Tensor<4>,
        targets: Tensor<2>,
    ) -> Result<RegularizeReplay, RegularizeError> {
        let mut found: Vec<f64> = images.try_to_vec_as()?;
        found.extend(targets.try_to_vec_as::<f64>()?);
        self.numbers(&found)
    }

    pub(super) fn labels(&self) -> Result<Tensor<1, Int>, RegularizeError> {
        let (_, data) = self.inputs.get("labels").ok_or_else(|| missing("labels"))?;
        let labels: Vec<i64> = data.iter().map(|&label| label as i64).collect();
        let count = labels.len();
        Ok(Tensor::from_data(TensorData::new(labels, [count]), &self.device.clone().inner()))
    }

    fn scale(&self) -> f64 {
        let recorded = self.output.iter().chain(self.gradients.values().flatten());
        recorded.fold(1.0, |top: f64, value| top.max(value.abs()))
    }

    pub(super) fn numbers(&self, found: &[f64]) -> Result<RegularizeReplay, RegularizeError> {
        Ok(RegularizeReplay {
            output: far(found, &self.output),
            gradient: None,
            scale: self.scale(),
            allowed: relative(self.name) * self.scale(),
        })
    }

    pub(super) fn compare(
        &self,
        output: Tensor<1>,
        wrt: &[&Leaf],
    ) -> Result<RegularizeReplay, RegularizeError> {
        let mut replay = self.numbers(&output.try_to_vec_as::<f64>()?)?;
        if self.gradients.is_empty() {
            return Ok(replay);
        }
        let gradients = output.sum().backward();
        for leaf in wrt {
            let Some(expected) = self.gradients.get(leaf.name.as_str()) else { continue };
            let found = match leaf.flat.grad(&gradients) {
                Some(gradient) => gradient.try_to_vec_as::<f64>()?,
                None => vec![0.0; expected.len()],
            };
            replay.gradient = Some(far(&found, expected).max(replay.gradient.unwrap_or(0.0)));
        }
        Ok(replay)
    }

    pub(super) fn penalty(
        &self,
        penalty: &impl Penalty,
    ) -> Result<RegularizeReplay, RegularizeError> {
        let (shape, _) = self.inputs.get("weight").ok_or_else(|| missing("weight"))?;
        match *shape.as_slice() {
            [inputs, outputs] if self.layer == Some("Linear") => {
                let mut layer = LinearConfig::new(inputs, outputs).init(&self.device);
                layer.weight = Param::from_tensor(self.weight()?);
                self.penalized(&layer, layer.weight.val(), penalty)
            }
            [outputs, inputs, h, w] => {
                let mut layer = Conv2dConfig::new([inputs, outputs], [h, w]).init(&self.device);
                layer.weight = Param::from_tensor(self.weight()?);
                self.penalized(&layer, layer.weight.val(), penalty)
            }
            _ => Err(missing("layer")),
        }
    }

    fn weight<const D: usize>(&self) -> Result<Tensor<D>, RegularizeError> {
        let (shape, data) = self.inputs.get("weight").ok_or_else(|| missing("weight"))?;
        let data = TensorData::new(data.clone(), shape.clone());
        Ok(Tensor::from_data(data, &self.device).require_grad())
    }

    fn penalized<M: Module, const D: usize>(
        &self,
        model: &M,
        weight: Tensor<D>,
        penalty: &impl Penalty,
    ) -> Result<RegularizeReplay, RegularizeError> {
        let term =
            penalty.term(model).ok_or(RegularizeError::Empty { what: "the penalized model" })?;
        let mut replay = self.numbers(&term.try_to_vec_as::<f64>()?)?;
        let gradient = weight.grad(&term.backward()).ok_or_else(|| missing("weight"))?;
        let expected = self.gradients.get("weight").ok_or_else(|| missing("gradients"))?;
        replay.gradient = Some(far(&gradient.try_to_vec_as::<f64>()?, expected));
        Ok(replay)
    }

    pub(super) fn project(
        &self,
        rule: &impl Projection,
        lr: f64,
    ) -> Result<RegularizeReplay, RegularizeError> {
        let (shape, _) = self.inputs.get("weight").ok_or_else(|| missing("weight"))?;
        let values = match *shape.as_slice() {
            [inputs, outputs] if self.layer == Some("Linear") => {
                let mut layer: Linear = LinearConfig::new(inputs, outputs).init(&self.device);
                layer.weight = Param::from_tensor(self.weight()?);
                rule.project(layer, lr)?.weight.val().try_to_vec_as::<f64>()?
            }
            [outputs, inputs, h, w] => {
                let mut layer = Conv2dConfig::new([inputs, outputs], [h, w]).init(&self.device);
                layer.weight = Param::from_tensor(self.weight()?);
                rule.project(layer, lr)?.weight.val().try_to_vec_as::<f64>()?
            }
            _ => return Err(missing("layer")),
        };
        self.numbers(&values)
    }

    pub(super) fn picture(&self, name: &str) -> Result<RegularizeReplay, RegularizeError> {
        let edit = match name {
            "affine" => {
                let (shift, shear) = (
                    [self.arg("right")?, self.arg("down")?],
                    [self.arg("shear_x")?, self.arg("shear_y")?],
                );
                let (degrees, scale) = (self.arg("degrees")?, self.arg("scale")?);
                Edit::Affine(kernel::inverse_affine(degrees, shift, scale, shear))
            }
            "brightness" => Edit::Brightness(self.arg("factor")?),
            "contrast" => Edit::Contrast(self.arg("factor")?),
            "saturation" => Edit::Saturation(self.arg("factor")?),
            "sharpness" => Edit::Sharpness(self.arg("factor")?),
            "solarize" => Edit::Solarize(self.arg("threshold")?),
            "auto_contrast" => Edit::AutoContrast,
            "equalize" => Edit::Equalize,
            "posterize" => Edit::Posterize(self.arg("bits")? as u32),
            "flip_horizontal" => Edit::FlipHorizontal,
            "flip_vertical" => Edit::FlipVertical,
            _ => return Err(RegularizeError::UnknownCase { name: name.to_owned() }),
        };
        let image = self.plain::<3>("image")?.unsqueeze_dim::<4>(0);
        if image.dims().contains(&0) {
            return Err(RegularizeError::Empty { what: "the image" });
        }
        self.numbers(&carry_out(image, vec![edit]).try_to_vec_as::<f64>()?)
    }
}

/// Largest absolute difference; infinite for another number of elements or a NaN.
fn far(found: &[f64], expected: &[f64]) -> f64 {
    if found.len() != expected.len() {
        return f64::INFINITY;
    }
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |top: f64, d| if d.is_nan() { f64::INFINITY } else { top.max(d) })
}
