//! Replays recorded cases of other libraries.

mod arguments;
mod case;
mod compare;
mod layer;
mod picture;
mod statistics;

use crate::*;
use arguments::check_arguments;
use burn::tensor::{Device, Tensor};
use case::{Case, Leaf, list, missing};
use firebrick_core::Seed;
use serde_json::Value;

/// How far a replayed case is from what was recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct RegularizeReplay {
    /// Largest absolute difference of an element of the output; infinite where one is NaN.
    pub output: f64,
    /// Largest absolute difference of an element of a gradient; `None` when none was recorded.
    pub gradient: Option<f64>,
    /// Largest magnitude among the recorded numbers, at least 1.
    pub scale: f64,
    /// What the differences may be: a few roundings of f32 at that magnitude; five standard errors for what is random.
    pub allowed: f64,
}

impl RegularizeReplay {
    /// The largest absolute difference, of output and gradients.
    #[must_use]
    pub fn max_abs_diff(&self) -> f64 {
        self.output.max(self.gradient.unwrap_or(0.0))
    }

    /// Whether it is allowed.
    #[must_use]
    pub fn within(&self) -> bool {
        self.max_abs_diff() <= self.allowed
    }
}

/// Runs one recorded case on `device` and compares.
///
/// ```text
/// {"name":"l2","args":{"strength":0.1},"layer":"Linear","inputs":{"weight":{"shape":[1,2],"data":[3,4]}},
///  "output":[1.25],"gradients":{"weight":[0.3,0.4]}}
/// {"name":"mixup","args":{"lambda":0.3,"partners":[1,0]},"inputs":{"images":{..},"targets":{..}},"output":[..]}
/// {"name":"mixup","args":{"lambda":[0.3,0.9],"partners":[1,0],"smoothing":0.1},"inputs":{..},"output":[..]}
/// {"name":"inverted","args":{"prob":0.5},"shape":[1000,1000],"input":"ones",
///  "statistics":{"kept":[0.5006,5e-4],"mean":[1.0011,1e-3],"variance":[1.0,2e-6]}}
/// ```
/// `tests/references/regularize.py`, `regularize_random.py` and `regularize_keras.py` write them and list the names;
/// weights are in burn's layout, and `"layer"` is burn's name of a linear, convolutional or transposed layer. Gradients
/// may be left out. An L2 case may say `"convention":"full"`, L2, L1 and elastic net `"scope":"all"` (with an input
/// `"bias"`), group lasso `"groups"` `"inputs"` or an axis, max-norm and unit norm the `"axis"` of units. The output of
/// a mixing case is the inputs, then the targets. A case of dropout records statistics of one draw on inputs of 1, or
/// standard normal ones, each with its standard error; ours is another draw, of the seed `"seed"` or 0. What is dropped
/// are words of a table for `"embedding"`, weights for `"weight_drop"`, weights of 1 that add a row up for
/// `"drop_connect"`, and a new state after one of 0 for `"zoneout"`.
///
/// # Errors
/// [`RegularizeError::UnknownCase`] for a name that is not known, [`RegularizeError::UnknownArgument`] for an argument
/// that the case does not take; else when a field is missing or of the wrong kind, a gradient is recorded of what gets
/// none, or the regularizer refuses its input.
///
/// ```
/// let case = serde_json::json!({
///     "name": "l2", "args": {"strength": 0.1}, "layer": "Linear",
///     "inputs": {"weight": {"shape": [1, 2], "data": [3.0, 4.0]}},
///     "output": [1.25], "gradients": {"weight": [0.3, 0.4]},
/// });
/// let replay = firebrick_regularize::replay_case(&case, &burn::tensor::Device::flex())?;
/// assert!(replay.within() && replay.gradient.is_some_and(|far| far < 1e-6));
/// # Ok::<(), firebrick_regularize::RegularizeError>(())
/// ```
pub fn replay_case(case: &Value, device: &Device) -> Result<RegularizeReplay, RegularizeError> {
    let name = case["name"].as_str().ok_or_else(|| missing("name"))?;
    check_arguments(name, &case["args"])?;
    if !case["statistics"].is_null() {
        return statistics::replay(name, case, device);
    }
    let case = Case::read(name, case, device)?;
    let replay = |output: Tensor<1>, wrt: &[&Leaf]| case.compare(output, wrt);
    match name {
        "l2" => {
            let config = L2Config::new(case.arg("strength")?).with_scope(case.scope()?);
            case.penalty(&config.with_convention(case.convention()?).init()?)
        }
        "l1" => {
            let config = L1Config::new(case.arg("strength")?).with_scope(case.scope()?);
            case.penalty(&config.init()?)
        }
        "elastic_net" => {
            let config = ElasticNetConfig::new(case.arg("strength")?).with_scope(case.scope()?);
            case.penalty(&config.with_l1_ratio(case.arg("l1_ratio")?).init()?)
        }
        "orthogonal" => {
            let off = case.arg("off_diagonal")? != 0.0;
            let gram = if off { Gram::OffDiagonal } else { Gram::Identity };
            case.penalty(&OrthogonalConfig::new(case.arg("strength")?).with_gram(gram).init()?)
        }
        "spectral" => {
            let config = SpectralConfig::new(case.arg("strength")?).with_warmup(2000);
            case.penalty(&config.init(Seed(0))?)
        }
        "max_norm" => {
            let config = MaxNormConfig::new().with_max(case.arg("max")?);
            case.project(&config.with_axis(case.axis()?).init()?, 0.0)
        }
        "unit_norm" => case.project(&UnitNormConfig::new().with_axis(case.axis()?).init(), 0.0),
        "non_negative" => case.project(&NonNegative::new(), 0.0),
        "proximal_l1" => {
            let rule = ProximalL1Config::new(case.arg("strength")?).init()?;
            case.project(&rule, case.arg("lr")?)
        }
        "group_lasso" => {
            let config = GroupLassoConfig::new(case.arg("strength")?);
            case.project(&config.with_groups(case.groups()?).init()?, case.arg("lr")?)
        }
        "label_smoothing" => {
            let logits = case.leaf("logits")?;
            let config = LabelSmoothingConfig::new().with_smoothing(case.arg("smoothing")?);
            let targets = config.init()?.targets(case.labels()?, logits.shape[1])?;
            replay(soft_cross_entropy(logits.matrix(), targets)?, &[&logits])
        }
        "soft_cross_entropy" => {
            let (logits, targets) = (case.leaf("logits")?, case.leaf("targets")?);
            replay(soft_cross_entropy(logits.matrix(), targets.matrix())?, &[&logits])
        }
        "confidence" => {
            let logits = case.leaf("logits")?;
            let config = ConfidencePenaltyConfig::new().with_strength(case.arg("strength")?);
            replay(config.init()?.term(logits.matrix()), &[&logits])
        }
        "r_drop" => {
            let (a, b, t) = (case.leaf("first")?, case.leaf("second")?, case.leaf("targets")?);
            let rdrop = RDropConfig::new().with_alpha(case.arg("alpha")?).init()?;
            let loss = rdrop.loss(a.matrix(), b.matrix(), t.matrix())?;
            replay(loss.cross_entropy + loss.divergence, &[&a, &b])
        }
        "jensen_shannon" => {
            let (a, b, c) = (case.leaf("first")?, case.leaf("second")?, case.leaf("third")?);
            replay(jensen_shannon(a.matrix(), b.matrix(), c.matrix())?, &[&a, &b, &c])
        }
        "fixmatch" => {
            let (weak, strong) = (case.leaf("weak")?, case.leaf("strong")?);
            let found = fixmatch_loss(weak.matrix(), strong.matrix(), case.arg("threshold")?)?;
            replay(found.loss, &[&strong, &weak])
        }
        "uda" => {
            let (weak, strong) = (case.leaf("weak")?, case.leaf("strong")?);
            let (tau, threshold) = (case.arg("temperature")?, case.arg("threshold")?);
            let found = uda_loss(weak.matrix(), strong.matrix(), tau, threshold)?;
            replay(found.loss, &[&strong, &weak])
        }
        "mean_teacher" => {
            let (student, teacher) = (case.leaf("student")?, case.leaf("teacher")?);
            let found = mean_teacher_loss(student.matrix(), teacher.matrix())?;
            replay(found.loss, &[&student, &teacher])
        }
        "pi_model" => {
            let (a, b) = (case.leaf("first")?, case.leaf("second")?);
            replay(pi_model_loss(a.matrix(), b.matrix())?.loss, &[&a, &b])
        }
        "temperature" => {
            let logits = case.leaf("logits")?.matrix().inner();
            let found = Temperature::fit(logits, case.labels()?)?;
            case.numbers(&[found.value])
        }
        "calibration_error" => {
            let p = burn::tensor::activation::softmax(case.leaf("logits")?.matrix().inner(), 1);
            let found = Calibration::of(p, case.labels()?, case.arg("bins")? as usize)?;
            case.numbers(&[found.error])
        }
        "activation" => {
            let (dropped, raw) = (case.leaf("dropped")?, case.leaf("raw")?);
            let config = ActivationPenaltyConfig::new().with_alpha(case.arg("alpha")?);
            let penalty = config.with_beta(case.arg("beta")?).init()?;
            replay(penalty.term(dropped.shaped()?, raw.shaped()?), &[&dropped, &raw])
        }
        "activity" => {
            let hidden = case.leaf("hidden")?;
            let l1 = case.arg("l1")? != 0.0;
            let norm = if l1 { ActivityNorm::L1 } else { ActivityNorm::L2 };
            let config = ActivityPenaltyConfig::new(case.arg("strength")?).with_norm(norm);
            replay(config.init()?.term(hidden.matrix()), &[&hidden])
        }
        "mixup" => {
            let plan = case.plan(case.shares()?)?;
            // Rows are mixed as they are, whatever their rank.
            let images = plan.apply(case.leaf("images")?.matrix().inner())?;
            case.mixed(images, plan.apply(case.targets()?)?)
        }
        "cutmix" => {
            let images = case.plain::<4>("images")?;
            let [n, _, h, w] = images.dims();
            let at = (case.arg("y")? as usize, case.arg("x")? as usize);
            let cut = CutBox::around(at, case.arg("lambda")?, h, w);
            let plan = CutPlan { mix: case.plan(vec![cut.left(h, w)])?, boxes: vec![cut; n] };
            let targets = plan.mix.apply(case.targets()?)?;
            case.mixed(plan.apply(images)?, targets)
        }
        "jacobian" => {
            let (x, a, b) = (case.leaf("x")?, case.leaf("a")?, case.leaf("b")?);
            let config = JacobianPenaltyConfig::new(case.arg("strength")?, true);
            let config = config.with_projections(x.shape[1]);
            let penalty = config.init(&MaskSource::new(Seed(0)))?;
            let net = |x: Tensor<2>| x.matmul(a.matrix()).tanh().matmul(b.matrix());
            replay(penalty.term(x.matrix(), net)?, &[&a, &b])
        }
        "gradient_penalty" => {
            let (x, a, b) = (case.leaf("x")?, case.leaf("a")?, case.leaf("b")?);
            let r1 = case.arg("r1")? != 0.0;
            let target = if r1 { GradientTarget::Zero } else { GradientTarget::One };
            let penalty = GradientPenaltyConfig::new(true).with_target(target);
            let penalty = penalty.with_strength(case.arg_or("strength", 10.0)?).init()?;
            let net = |x: Tensor<2>| x.matmul(a.matrix()).tanh().matmul(b.matrix());
            replay(penalty.term(x.matrix(), net)?, &[&a, &b])
        }
        _ => case.picture(name),
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use firebrick_backend::testing::devices;
    use serde_json::json;

    /// Made by torch, torchvision and timm; see tests/references/regularize.py.
    const TORCH: &str = include_str!("../../../../tests/references/regularize.json");
    /// Made by the same over random shapes and arguments; see tests/references/regularize_random.py.
    const RANDOM: &str = include_str!("../../../../tests/references/regularize_random.json");
    /// Made by Keras; see tests/references/regularize_keras.py.
    const KERAS: &str = include_str!("../../../../tests/references/regularize_keras.json");

    #[test]
    fn recorded_cases_of_torch_are_reproduced() {
        reproduced(TORCH, 318);
    }

    #[test]
    fn recorded_random_cases_are_reproduced() {
        reproduced(RANDOM, 278);
    }

    #[test]
    fn recorded_cases_of_keras_are_reproduced() {
        reproduced(KERAS, 125);
    }

    fn reproduced(text: &str, count: usize) {
        let file: Value = serde_json::from_str(text).expect("parses");
        let lists = file.as_object().expect("lists by kind");
        let cases: Vec<(&String, &Value)> = lists
            .iter()
            .flat_map(|(kind, list)| list.as_array().into_iter().flatten().map(move |c| (kind, c)))
            .collect();
        assert!(cases.len() >= count, "{}", cases.len());
        for device in devices() {
            let mut wrong = Vec::new();
            for (index, (kind, case)) in cases.iter().enumerate() {
                let name = case["name"].as_str().expect("has one");
                match replay_case(case, &device) {
                    Ok(replay) if replay.within() => {}
                    Ok(replay) => {
                        wrong.push(format!("{index} {kind} {name} {}: {replay:?}", case["args"]));
                    }
                    Err(error) => wrong.push(format!("{index} {kind} {name}: {error}")),
                }
            }
            assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
        }
    }

    fn far(case: Value) -> RegularizeReplay {
        replay_case(&case, &Device::flex()).expect("runs")
    }

    fn l2(args: Value, output: f64, more: Value) -> Value {
        let mut case = json!({"name": "l2", "args": args, "layer": "Linear", "output": [output],
            "inputs": {"weight": {"shape": [1, 2], "data": [3, 4]}}});
        for (key, value) in more.as_object().into_iter().flatten() {
            case[key.as_str()] = value.clone();
        }
        case
    }

    #[test]
    fn penalties_go_without_gradients_strength_or_with_other_conventions() {
        let bare = far(l2(json!({"strength": 2}), 25.0, json!({})));
        assert!(bare.within() && bare.gradient.is_none(), "{bare:?}");
        let off = json!({"gradients": {"weight": [0, 0]}});
        let off = far(l2(json!({"strength": 0}), 0.0, off));
        assert_eq!((off.output, off.gradient), (0.0, Some(0.0)));
        let on = json!({"gradients": {"weight": [0, 3]}});
        let on = far(l2(json!({"strength": 0}), 1.0, on));
        assert_eq!((on.output, on.gradient), (1.0, Some(3.0)));
        let full = json!({"gradients": {"weight": [12, 16]}});
        let full = far(l2(json!({"strength": 2, "convention": "full"}), 50.0, full));
        assert!(full.within() && full.gradient.is_some(), "{full:?}");
        let inputs = json!({"weight": {"shape": [1, 2], "data": [3, 4]}, "bias": {"shape": [2], "data": [1, 2]}});
        let all = json!({"inputs": inputs, "gradients": {"weight": [6, 8], "bias": [2, 4]}});
        let all = far(l2(json!({"strength": 2, "scope": "all"}), 30.0, all));
        assert!(all.within() && all.gradient.is_some(), "{all:?}");
        let weights = json!({"inputs": inputs, "gradients": {"weight": [6, 8], "bias": [0, 0]}});
        assert!(far(l2(json!({"strength": 2, "scope": "weights"}), 25.0, weights)).within());
    }

    #[test]
    fn the_kind_of_layer_decides_which_axis_counts_units() {
        // Rows (3, 4) and (0, 6): the norms along one axis are 5 and 6, along the other 3 and sqrt(52).
        let case = |layer: &str, shape: Value, output: [f64; 4]| {
            json!({"name": "max_norm", "args": {"max": 1}, "layer": layer, "output": output,
                "inputs": {"weight": {"shape": shape, "data": [3, 4, 0, 6]}}})
        };
        let other = 52f64.sqrt();
        let (rows, columns) = ([0.6, 0.8, 0.0, 1.0], [1.0, 4.0 / other, 0.0, 6.0 / other]);
        for (layer, kernel, expected) in [
            ("Linear", 0, columns),
            ("Conv1d", 1, rows),
            ("Conv2d", 2, rows),
            ("Conv3d", 3, rows),
            ("ConvTranspose1d", 1, columns),
            ("ConvTranspose2d", 2, columns),
            ("ConvTranspose3d", 3, columns),
        ] {
            let mut shape = vec![2usize, 2];
            shape.extend(vec![1; kernel]);
            let replay = far(case(layer, json!(shape), expected));
            assert!(replay.within(), "{layer}: {replay:?}");
        }
        let wrong = replay_case(&case("Conv1d", json!([2, 2]), rows), &Device::flex());
        assert!(wrong.expect_err("rank").to_string().contains("`layer`"));
    }

    #[test]
    fn groups_are_units_inputs_or_an_axis() {
        // Threshold 1 sqrt(2): of the norms 5 and 6 of the inputs, or 3 and sqrt(52) of the units.
        let keep = |norm: f64| 1.0 - 2f64.sqrt() / norm;
        let inputs = [3.0 * keep(5.0), 4.0 * keep(5.0), 0.0, 6.0 * keep(6.0)];
        let other = keep(52f64.sqrt());
        let units = [3.0 * keep(3.0), 4.0 * other, 0.0, 6.0 * other];
        for (groups, expected) in [
            (json!("inputs"), inputs),
            (json!(0), inputs),
            (json!("units"), units),
            (json!(1), units),
            (Value::Null, units),
        ] {
            let case = json!({"name": "group_lasso", "layer": "Linear", "output": expected,
                "args": {"strength": 10, "lr": 0.1, "groups": groups},
                "inputs": {"weight": {"shape": [2, 2], "data": [3, 4, 0, 6]}}});
            let replay = far(case);
            assert!(replay.within(), "{groups}: {replay:?}");
        }
    }

    #[test]
    fn mixup_takes_any_rank_and_a_share_for_each_row() {
        for shape in [json!([2, 2]), json!([2, 1, 2]), json!([2, 1, 1, 2, 1])] {
            let case = json!({"name": "mixup",
                "args": {"lambda": [0.25, 1.0], "partners": [1, 0], "smoothing": 0.2},
                "inputs": {"images": {"shape": shape, "data": [4, 8, 0, 12]},
                    "targets": {"shape": [2, 2], "data": [1, 0, 0, 1]}},
                "output": [1, 11, 0, 12, 0.3, 0.7, 0.1, 0.9]});
            let replay = far(case);
            assert!(replay.within(), "{shape}: {replay:?}");
        }
    }

    #[test]
    fn the_variance_of_blocks_errs_with_the_share_that_was_kept() {
        // Drawn by torchvision: near a share of a half the spread within one draw says nothing of that between two.
        let case = |variance: f64| {
            json!({"name": "drop_block", "args": {"prob": 0.495021253824234, "block_size": 1}, "seed": 295,
                "shape": [300, 20, 10, 14], "statistics": {"kept": [0.5052892857, 5.410278e-4],
                "mean": [1.0, 1.070728e-3], "variance": [variance, 2.241643e-5]}})
        };
        assert!(far(case(0.9790643267)).within());
        assert!(!far(case(0.95)).within());
        // Where no mean is recorded its error is that of the share.
        let case = |variance: f64| {
            json!({"name": "inverted", "args": {"prob": 0.5}, "shape": [100, 100],
                "statistics": {"kept": [0.5, 5e-3], "variance": [variance, 0.0]}})
        };
        assert!(far(case(1.0)).within());
        assert!(!far(case(0.98)).within());
    }

    #[test]
    fn what_would_go_unheeded_is_an_error() {
        let message =
            |case: Value| replay_case(&case, &Device::flex()).expect_err("refused").to_string();
        let found = message(l2(json!({"strength": 2, "power": 3}), 25.0, json!({})));
        assert!(found.contains("`power`") && found.contains("`l2`"), "{found}");
        let case = json!({"name": "inverted", "args": {"prob": 0.5, "axis": 1}, "shape": [4],
            "statistics": {"kept": [0.5, 0.1]}});
        assert!(message(case).contains("`axis`"));
        let more = json!({"gradients": {"wieght": [6, 8]}});
        assert!(message(l2(json!({"strength": 2}), 25.0, more)).contains("`wieght`"));
        let bad = json!({"strength": 2, "convention": "double"});
        assert!(message(l2(bad, 25.0, json!({}))).contains("`convention`"));
        let case = json!({"name": "unit_norm", "layer": "Linear", "output": [1], "gradients": {"weight": [0]},
            "inputs": {"weight": {"shape": [1, 1], "data": [3]}}});
        assert!(message(case).contains("`weight`"));
        let case = json!({"name": "mixup", "args": {"lambda": [0.5, 0.5, 0.5], "partners": [1, 0]},
            "output": [], "inputs": {"images": {"shape": [2, 1], "data": [1, 2]}}});
        assert!(message(case).contains("`lambda`"));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let device = Device::flex();
        let message = |case: Value| replay_case(&case, &device).expect_err("refused").to_string();
        assert!(message(json!({})).contains("`name`"));
        let case = json!({"name": "cutout", "inputs": {}, "output": []});
        assert!(message(case).contains("`cutout` is no case"));
        let case = json!({"name": "standout", "statistics": {"kept": [0.5, 0.1]}, "shape": [4]});
        assert!(message(case).contains("`standout` is no case"));
        let case = json!({"name": "mixup", "args": {"lambda": 0.5, "partners": [2, 0]}, "output": [],
            "inputs": {"images": {"shape": [2, 1, 1, 1], "data": [1, 2]}}});
        assert!(message(case).contains("`partners`"));
        let case = json!({"name": "l2", "args": {}, "inputs": {}, "output": [1]});
        assert!(message(case).contains("`strength`"));
        let case = json!({"name": "l2", "args": {"strength": 1}, "layer": "Linear", "output": [1],
            "inputs": {"weight": {"shape": [2, 2], "data": [1]}}});
        assert!(message(case).contains("`weight`"));
        let case = json!({"name": "l2", "args": {"strength": 2}, "layer": "Linear", "output": [4],
            "inputs": {"weight": {"shape": [1, 1], "data": [3]}}, "gradients": {"weight": [5]}});
        let wrong = replay_case(&case, &device).expect("runs");
        assert_eq!((wrong.output, wrong.gradient, wrong.scale), (5.0, Some(1.0), 5.0));
    }
}
