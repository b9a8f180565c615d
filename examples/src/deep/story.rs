//! What is changed, what that does, and by how much it must do it.

use crate::digits::{Recipe, Rows, Run, train};
use crate::net::{Kind, Plan};
use crate::recurrent::{self, Recurrent};
use burn::tensor::Device;
use firebrick::prelude::Seed;
use firebrick::stabilize::{ForgetBias, Scheme};
use firebrick_examples::data::Data;
use firebrick_examples::failure::Failure;
use serde::Serialize;

/// One measure alone: the same number without and with it, seed by seed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Effect {
    /// What is done.
    pub(crate) measure: String,
    /// To what.
    pub(crate) subject: String,
    /// Which number is compared.
    pub(crate) number: String,
    /// Whether the number is a share, to be shown as a percentage.
    pub(crate) share: bool,
    pub(crate) without: Vec<f64>,
    pub(crate) with: Vec<f64>,
    /// For every seed the number must change by this much at least: a difference for shares, else a factor; below
    /// 0, or below 1, where it is to fall.
    pub(crate) margin: f64,
}

impl Effect {
    /// Whether every seed changes by the margin.
    pub(crate) fn holds(&self) -> bool {
        let enough = |(without, with): (&f64, &f64)| {
            // A number that has grown beyond all bounds falls by any factor.
            let change = if self.share {
                with - without
            } else if without.is_infinite() {
                if with.is_finite() { 0.0 } else { f64::NAN }
            } else {
                with / without
            };
            let falls = if self.share { self.margin < 0.0 } else { self.margin < 1.0 };
            if falls { change <= self.margin } else { change >= self.margin }
        };
        !self.with.is_empty() && self.without.iter().zip(&self.with).all(enough)
    }
}

/// The size of the gradients over depth, or over time, of some nets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Flow {
    pub(crate) title: String,
    /// What the horizontal axis counts.
    pub(crate) axis: String,
    /// What the vertical one shows.
    pub(crate) number: String,
    pub(crate) lines: Vec<Line>,
}

/// One net of a [`Flow`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(usize, f64)>,
}

/// Everything that was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) seeds: Vec<u64>,
    pub(crate) quick: bool,
    pub(crate) effects: Vec<Effect>,
    pub(crate) flows: Vec<Flow>,
}

/// What to run.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) seeds: Vec<u64>,
    pub(crate) quick: bool,
}

/// A comparison on the digits.
struct Comparison {
    measure: &'static str,
    subject: &'static str,
    number: &'static str,
    share: bool,
    read: fn(&Run) -> f64,
    margin: f64,
    /// Rows to train on.
    rows: usize,
    without: Recipe,
    with: Recipe,
}

const SIGMOID: &str = "deep sigmoid net";
const RELU: &str = "deep ReLU net";
const ROWS: usize = 1000;

fn comparisons(quick: bool) -> Vec<Comparison> {
    let epochs = |least: usize| if quick { least } else { 2 * least };
    let sigmoid = Recipe::new(Plan::new(Kind::Sigmoid, 4, 64), 0.1, epochs(10));
    let plan = |recipe: Recipe, change: fn(&mut Plan)| {
        let mut recipe = recipe;
        change(&mut recipe.plan);
        recipe
    };
    let rectified = plan(sigmoid, |plan| {
        plan.kind = Kind::Relu;
        plan.scheme = Some(Scheme::KaimingNormal);
    });
    let relu = Recipe::new(Plan::new(Kind::Relu, 10, 64), 0.02, epochs(16));
    let he = plan(relu, |plan| plan.scheme = Some(Scheme::KaimingNormal));
    let large = plan(relu, |plan| {
        plan.scheme = Some(Scheme::Scaled {
            gain: 2.2,
            fan: firebrick::stabilize::Fan::In,
            distribution: firebrick::stabilize::Distribution::Normal,
        });
    });
    // A rate at which many units of the shallow net die.
    let fast = Recipe {
        momentum: 0.9,
        ..plan(Recipe::new(Plan::new(Kind::Relu, 3, 64), 0.5, epochs(6)), |plan| {
            plan.scheme = Some(Scheme::KaimingNormal);
        })
    };
    let few = Recipe {
        epochs: epochs(200),
        ..plan(Recipe::new(Plan::new(Kind::Relu, 2, 64), 0.05, 1), |plan| {
            plan.scheme = Some(Scheme::KaimingNormal);
        })
    };
    let trains = |measure, subject, without, with, margin| Comparison {
        measure,
        subject,
        number: "training accuracy",
        share: true,
        read: |run| run.accuracy,
        margin,
        rows: ROWS,
        without,
        with,
    };
    vec![
        trains(
            "initialization: Xavier with the gain of the sigmoid, 4",
            SIGMOID,
            sigmoid,
            plan(sigmoid, |plan| {
                plan.scheme = Some(Scheme::Scaled {
                    gain: 4.0,
                    fan: firebrick::stabilize::Fan::Average,
                    distribution: firebrick::stabilize::Distribution::Uniform,
                });
            }),
            0.5,
        ),
        trains(
            "ReLU, started as He says, in place of the sigmoid",
            SIGMOID,
            sigmoid,
            Recipe { rate: 0.03, ..rectified },
            0.5,
        ),
        trains(
            "batch normalization",
            SIGMOID,
            sigmoid,
            plan(sigmoid, |plan| plan.batch_norm = true),
            0.5,
        ),
        trains("residuals", SIGMOID, sigmoid, plan(sigmoid, |plan| plan.residual = true), 0.5),
        trains(
            "greedy layer-wise pre-training",
            SIGMOID,
            sigmoid,
            Recipe { pretrained: true, ..sigmoid },
            0.5,
        ),
        trains("initialization: He", RELU, relu, he, 0.3),
        trains("batch normalization", RELU, relu, plan(relu, |plan| plan.batch_norm = true), 0.3),
        trains("residuals", RELU, relu, plan(relu, |plan| plan.residual = true), 0.5),
        trains(
            "clipping by the global norm at 1",
            "ReLU net started too large",
            large,
            Recipe { clip: Some(1.0), ..large },
            0.5,
        ),
        Comparison {
            number: "dead hidden units",
            read: |run| run.dead,
            margin: -0.1,
            ..trains(
                "leaky ReLU, k 0.01",
                "ReLU net at too high a rate",
                fast,
                plan(fast, |plan| plan.kind = Kind::Leaky(0.01)),
                0.0,
            )
        },
        Comparison {
            number: "dead hidden units",
            read: |run| run.dead,
            margin: -0.1,
            ..trains(
                "leaky ReLU with a learned k",
                "ReLU net at too high a rate",
                fast,
                plan(fast, |plan| plan.kind = Kind::Learned),
                0.0,
            )
        },
        Comparison {
            number: "held-out loss",
            share: false,
            read: |run| run.held_out_loss,
            margin: 0.95,
            rows: 100,
            ..trains(
                "weight decay: L2 0.002",
                "ReLU net, 100 rows",
                few,
                Recipe { decay: 0.002, ..few },
                0.0,
            )
        },
        Comparison {
            number: "norm of the weights",
            share: false,
            read: |run| run.weights,
            margin: 0.8,
            rows: 100,
            ..trains(
                "weight decay: L2 0.002",
                "ReLU net, 100 rows",
                few,
                Recipe { decay: 0.002, ..few },
                0.0,
            )
        },
    ]
}

/// Runs everything; `progress` is told what is next.
pub(crate) fn run(
    request: &Request,
    data: &Data,
    device: &Device,
    mut progress: impl FnMut(usize, usize, &str),
) -> Result<Summary, Failure> {
    let comparisons = comparisons(request.quick);
    let total = comparisons.len() + 2;
    let mut known: Vec<(Recipe, usize, u64, Run)> = Vec::new();
    let mut effects = Vec::new();
    for (index, comparison) in comparisons.iter().enumerate() {
        progress(index, total, comparison.measure);
        let mut each = |recipe: &Recipe| -> Result<Vec<f64>, Failure> {
            let mut numbers = Vec::new();
            for &seed in &request.seeds {
                let same = |(r, n, s, _): &&(Recipe, usize, u64, Run)| {
                    (r, n, s) == (recipe, &comparison.rows, &seed)
                };
                if let Some((.., run)) = known.iter().find(same) {
                    numbers.push((comparison.read)(run));
                    continue;
                }
                let rows = Rows::new(data, comparison.rows, Seed(seed), device)?;
                let run = train(recipe, &rows, Seed(seed), device)?;
                numbers.push((comparison.read)(&run));
                known.push((*recipe, comparison.rows, seed, run));
            }
            Ok(numbers)
        };
        effects.push(Effect {
            measure: comparison.measure.into(),
            subject: comparison.subject.into(),
            number: comparison.number.into(),
            share: comparison.share,
            without: each(&comparison.without)?,
            with: each(&comparison.with)?,
            margin: comparison.margin,
        });
    }
    let first = request.seeds.first().copied().unwrap_or(0);
    let flow = |title: &str, subject: &str| {
        let of = |recipe: &Recipe, name: &str| {
            let known = known.iter().find(|(r, _, s, _)| r == recipe && *s == first);
            known.map(|(.., run)| Line {
                name: name.into(),
                points: run.flow.iter().enumerate().map(|(i, &norm)| (i + 1, norm)).collect(),
            })
        };
        let chosen: Vec<&Comparison> =
            comparisons.iter().filter(|comparison| comparison.subject == subject).collect();
        let plain = chosen.first().and_then(|comparison| of(&comparison.without, "plain"));
        let others =
            chosen.iter().filter_map(|comparison| of(&comparison.with, comparison.measure));
        Flow {
            title: title.into(),
            axis: "hidden layer, from the input".into(),
            number: "norm of the gradient".into(),
            lines: plain.into_iter().chain(others).collect(),
        }
    };
    let mut flows = vec![flow("The sigmoid net", SIGMOID), flow("The ReLU net", RELU)];
    progress(comparisons.len(), total, "clipping a recurrent net");
    let (effect, flow) = clipped(request, device)?;
    effects.push(effect);
    flows.push(flow);
    progress(comparisons.len() + 1, total, "the memory of an LSTM");
    let (effect, flow) = memory(request, device)?;
    effects.push(effect);
    flows.push(flow);
    Ok(Summary { seeds: request.seeds.clone(), quick: request.quick, effects, flows })
}

/// A recurrent net that explodes, and the same with its gradients clipped.
fn clipped(request: &Request, device: &Device) -> Result<(Effect, Flow), Failure> {
    let size = (30, if request.quick { 100 } else { 200 });
    let (mut without, mut with, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    for &seed in &request.seeds {
        let net = || Recurrent::relu(32, 1.05, Seed(seed), device);
        let free = recurrent::train(net()?, size, None, Seed(seed), device)?;
        let bound = recurrent::train(net()?, size, Some(1.0), Seed(seed), device)?;
        without.push(free.last());
        with.push(bound.last());
        if lines.is_empty() {
            for (name, run) in [("not clipped", &free), ("clipped at 1 (the norm before)", &bound)]
            {
                let points = run.norms.iter().enumerate().map(|(i, &norm)| (i + 1, norm));
                lines.push(Line { name: name.into(), points: points.collect() });
            }
        }
    }
    let effect = Effect {
        measure: "clipping by the global norm at 1".into(),
        subject: format!("recurrent ReLU net, {} steps", size.0),
        number: "squared error".into(),
        share: false,
        without,
        with,
        margin: 0.5,
    };
    let flow = Flow {
        title: "A recurrent net that explodes".into(),
        axis: "training step".into(),
        number: "norm of the gradient".into(),
        lines,
    };
    Ok((effect, flow))
}

/// How much of the error arrives at the first of 200 steps.
fn memory(request: &Request, device: &Device) -> Result<(Effect, Flow), Failure> {
    let steps = 200;
    let (mut without, mut with, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    for &seed in &request.seeds {
        let seed = Seed(seed);
        let chrono = ForgetBias::Chrono { longest: steps as f64 };
        let nets = [
            ("tanh net", Recurrent::tanh(32, seed, device)),
            ("LSTM, forget bias 1", Recurrent::lstm(32, ForgetBias::Constant(1.0), seed, device)?),
            ("LSTM, forget biases for 200 steps", Recurrent::lstm(32, chrono, seed, device)?),
        ];
        let errors = nets.map(|(name, net)| (name, recurrent::errors(&net, steps, seed, device)));
        let first = |index: usize| errors[index].1.first().map_or(f64::NAN, |point| point.1);
        // What is below f32 has vanished altogether.
        without.push(first(0).max(f64::from(f32::MIN_POSITIVE)));
        with.push(first(2));
        if lines.is_empty() {
            let line = |(name, points): (&str, _)| Line { name: name.into(), points };
            lines.extend(errors.map(line));
        }
    }
    let effect = Effect {
        measure: "an LSTM with forget biases for 200 steps".into(),
        subject: "recurrent tanh net, 200 steps".into(),
        number: "error at the first step, of that at the last".into(),
        share: false,
        without,
        with,
        margin: 1e6,
    };
    let flow = Flow {
        title: "Memory over 200 steps".into(),
        axis: "step of the sequence".into(),
        number: "size of the error, of that at the last step".into(),
        lines,
    };
    Ok((effect, flow))
}
