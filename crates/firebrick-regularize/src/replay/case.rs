//! A recorded case: its inputs as tensors, and what was recorded.

use super::RegularizeReplay;
use crate::augment::{Edit, carry_out, kernel};
use crate::*;
use burn::module::{Module, Param};
use burn::nn::LinearConfig;
use burn::nn::conv::{
    Conv1dConfig, Conv2dConfig, Conv3dConfig, ConvTranspose1dConfig, ConvTranspose2dConfig,
    ConvTranspose3dConfig,
};
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

/// What a case of this name takes as its arguments; `None` for a name that is not known.
fn arguments(name: &str) -> Option<&'static [&'static str]> {
    let known: &'static [&'static str] = match name {
        "l2" => &["strength", "convention", "scope"],
        "l1" => &["strength", "scope"],
        "elastic_net" => &["strength", "l1_ratio", "scope"],
        "orthogonal" => &["strength", "off_diagonal"],
        "spectral" | "confidence" | "jacobian" => &["strength"],
        "max_norm" => &["max"],
        "proximal_l1" => &["strength", "lr"],
        "group_lasso" => &["strength", "lr", "groups"],
        "label_smoothing" => &["smoothing"],
        "r_drop" => &["alpha"],
        "fixmatch" => &["threshold"],
        "uda" => &["threshold", "temperature"],
        "calibration_error" => &["bins"],
        "activation" => &["alpha", "beta"],
        "activity" => &["strength", "l1"],
        "gradient_penalty" => &["strength", "r1"],
        "mixup" => &["lambda", "partners", "smoothing"],
        "cutmix" => &["lambda", "partners", "x", "y", "smoothing"],
        "affine" => &["degrees", "right", "down", "scale", "shear_x", "shear_y"],
        "brightness" | "contrast" | "saturation" | "sharpness" => &["factor"],
        "solarize" => &["threshold"],
        "posterize" => &["bits"],
        "inverted" | "spatial" | "alpha" | "gaussian" | "drop_path" => &["prob"],
        "drop_block" => &["prob", "block_size"],
        "unit_norm" | "soft_cross_entropy" | "jensen_shannon" | "mean_teacher" | "pi_model"
        | "temperature" | "auto_contrast" | "equalize" | "flip_horizontal" | "flip_vertical" => &[],
        _ => return None,
    };
    Some(known)
}

/// An error for a name that is not known, and for an argument that would go unheeded.
pub(super) fn check_arguments(name: &str, args: &Value) -> Result<(), RegularizeError> {
    let known =
        arguments(name).ok_or_else(|| RegularizeError::UnknownCase { name: name.to_owned() })?;
    if args.is_null() {
        return Ok(());
    }
    let args = args.as_object().ok_or_else(|| missing("args"))?;
    match args.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => {
            Err(RegularizeError::UnknownArgument { name: name.to_owned(), key: key.clone() })
        }
        None => Ok(()),
    }
}

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

    /// A number that may be absent.
    pub(super) fn arg_or(&self, name: &str, default: f64) -> Result<f64, RegularizeError> {
        if self.args[name].is_null() { Ok(default) } else { self.arg(name) }
    }

    /// What an L2 case calls its factor; half where it says nothing.
    pub(super) fn convention(&self) -> Result<L2Convention, RegularizeError> {
        match (&self.args["convention"], self.args["convention"].as_str()) {
            (Value::Null, _) | (_, Some("half")) => Ok(L2Convention::Half),
            (_, Some("full")) => Ok(L2Convention::Full),
            _ => Err(missing("convention")),
        }
    }

    /// Which parameters are penalized; weights where the case says nothing.
    pub(super) fn scope(&self) -> Result<PenaltyScope, RegularizeError> {
        match (&self.args["scope"], self.args["scope"].as_str()) {
            (Value::Null, _) | (_, Some("weights")) => Ok(PenaltyScope::Weights),
            (_, Some("all")) => Ok(PenaltyScope::All),
            _ => Err(missing("scope")),
        }
    }

    /// What a group is: units, inputs, or the slices along the axis of this number.
    pub(super) fn groups(&self) -> Result<LassoGroups, RegularizeError> {
        let groups = &self.args["groups"];
        match (groups, groups.as_str(), groups.as_u64()) {
            (Value::Null, ..) | (_, Some("units"), _) => Ok(LassoGroups::Units),
            (_, Some("inputs"), _) => Ok(LassoGroups::Inputs),
            (_, None, Some(axis)) => Ok(LassoGroups::Along(axis as usize)),
            _ => Err(missing("groups")),
        }
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

    /// The recorded shares: one for all rows, or one for each.
    pub(super) fn shares(&self) -> Result<Vec<f64>, RegularizeError> {
        match self.args["lambda"].as_f64() {
            Some(lambda) => Ok(vec![lambda]),
            None => list(&self.args["lambda"], "lambda"),
        }
    }

    /// The recorded partners with these shares; a single one is that of all rows.
    pub(super) fn plan(&self, lambda: Vec<f64>) -> Result<MixPlan, RegularizeError> {
        let partners = list(&self.args["partners"], "partners")?;
        let count = partners.len();
        if partners.iter().any(|at| *at < 0.0 || at.fract() != 0.0 || *at >= count as f64) {
            return Err(missing("partners"));
        }
        let lambda = if let [all] = lambda.as_slice() { vec![*all; count] } else { lambda };
        if lambda.len() != count {
            return Err(missing("lambda"));
        }
        let partners = partners.into_iter().map(|partner| partner as usize).collect();
        Ok(MixPlan { partners, lambda })
    }

    /// The recorded targets, smoothed first where the case says so.
    pub(super) fn targets(&self) -> Result<Tensor<2>, RegularizeError> {
        let smoothing = self.arg_or("smoothing", 0.0)?;
        let smoothing = LabelSmoothingConfig::new().with_smoothing(smoothing).init()?;
        Ok(smoothing.smooth(self.plain::<2>("targets")?))
    }

    pub(super) fn mixed<const D: usize>(
        &self,
        images: Tensor<D>,
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

    /// Compares what has no gradient.
    pub(super) fn numbers(&self, found: &[f64]) -> Result<RegularizeReplay, RegularizeError> {
        self.differences(found, Vec::new())
    }

    /// Compares an output and the gradients of leaves; one that is `None` is 0.
    fn differences(
        &self,
        output: &[f64],
        found: Vec<(&str, Option<Vec<f64>>)>,
    ) -> Result<RegularizeReplay, RegularizeError> {
        let mut replay = RegularizeReplay {
            output: far(output, &self.output),
            gradient: None,
            scale: self.scale(),
            allowed: relative(self.name) * self.scale(),
        };
        for (name, expected) in &self.gradients {
            let leaf = found.iter().find(|(leaf, _)| leaf == name);
            let (_, gradient) = leaf.ok_or_else(|| {
                RegularizeError::Case(format!(
                    "a gradient of `{name}` is recorded, but a case of `{}` gives it none",
                    self.name
                ))
            })?;
            let distance = match gradient {
                Some(gradient) => far(gradient, expected),
                None => far(&vec![0.0; expected.len()], expected),
            };
            replay.gradient = Some(distance.max(replay.gradient.unwrap_or(0.0)));
        }
        Ok(replay)
    }

    pub(super) fn compare(
        &self,
        output: Tensor<1>,
        wrt: &[&Leaf],
    ) -> Result<RegularizeReplay, RegularizeError> {
        let values = output.clone().try_to_vec_as::<f64>()?;
        if self.gradients.is_empty() {
            return self.numbers(&values);
        }
        let gradients = output.sum().backward();
        let mut found = Vec::with_capacity(wrt.len());
        for leaf in wrt {
            let gradient = leaf.flat.grad(&gradients);
            let gradient = gradient.map(|gradient| gradient.try_to_vec_as::<f64>()).transpose()?;
            found.push((leaf.name.as_str(), gradient));
        }
        self.differences(&values, found)
    }

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
        Ok(Tensor::from_data(data, &self.device).require_grad())
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
