//! What is changed, what that does, and by how much it must do it.

use crate::digits::{Recipe, Rows, Run, train};
use crate::net::{Kind, Plan};
use crate::unrolled::{clipped, learned, memory};
use burn::tensor::Device;
use firebrick::prelude::Seed;
use firebrick::stabilize::Scheme;
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
    /// When it was measured.
    pub(crate) note: String,
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
const LARGE: &str = "ReLU net started too large";
const FAST: &str = "ReLU net at too high a rate";
const FEW: &str = "ReLU net, 100 rows";
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
    let relu = Recipe { falls: true, ..Recipe::new(Plan::new(Kind::Relu, 10, 64), 0.02, 16) };
    let he = plan(relu, |plan| plan.scheme = Some(Scheme::KaimingNormal));
    // Small weights behind a norm turn quickly, and some starts break; clipped, none of 24 did.
    let calm = Recipe { clip: Some(1.0), ..relu };
    let large = plan(relu, |plan| {
        plan.scheme = Some(Scheme::Scaled {
            gain: 2.2,
            fan: firebrick::stabilize::Fan::In,
            distribution: firebrick::stabilize::Distribution::Normal,
        });
    });
    // A rate at which many units of the shallow net die. Clipped, or the leaky nets break at it.
    let fast = Recipe {
        clip: Some(1.0),
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
        trains("batch normalization", RELU, calm, plan(calm, |plan| plan.batch_norm = true), 0.3),
        trains("residuals", RELU, relu, plan(relu, |plan| plan.residual = true), 0.5),
        trains(
            "clipping by the global norm at 1",
            LARGE,
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
                FAST,
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
                FAST,
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
            ..trains("weight decay: L2 0.002", FEW, few, Recipe { decay: 0.002, ..few }, 0.0)
        },
        Comparison {
            number: "norm of the weights",
            share: false,
            read: |run| run.weights,
            margin: 0.8,
            rows: 100,
            ..trains("weight decay: L2 0.002", FEW, few, Recipe { decay: 0.002, ..few }, 0.0)
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
    let total = comparisons.len() + 3;
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
    let flow = |title: &str, subject: &str, after: bool| {
        let of = |recipe: &Recipe, name: &str| {
            let known = known.iter().find(|(r, _, s, _)| r == recipe && *s == first);
            known.map(|(.., run)| {
                let norms = if after { &run.flow_after } else { &run.flow };
                let points = norms.iter().enumerate().map(|(i, &norm)| (i + 1, norm)).collect();
                Line { name: name.into(), points }
            })
        };
        // One measure may stand in several comparisons.
        let mut chosen: Vec<&Comparison> = Vec::new();
        for comparison in comparisons.iter().filter(|comparison| comparison.subject == subject) {
            if !chosen.iter().any(|other| other.measure == comparison.measure) {
                chosen.push(comparison);
            }
        }
        let plain = chosen.first().and_then(|comparison| of(&comparison.without, "plain"));
        let others =
            chosen.iter().filter_map(|comparison| of(&comparison.with, comparison.measure));
        let when = if after { "after the training" } else { "at the first step" };
        Flow {
            title: title.into(),
            axis: "hidden layer, from the input".into(),
            number: "norm of the gradient".into(),
            note: format!(
                "Norm of the gradient of each hidden layer's weights {when}, first seed."
            ),
            lines: plain.into_iter().chain(others).collect(),
        }
    };
    let mut flows = vec![
        flow("The sigmoid net", SIGMOID, false),
        flow("The ReLU net", RELU, false),
        flow("The ReLU net that starts too large", LARGE, false),
        flow("The ReLU net at too high a rate", FAST, true),
        flow("The ReLU net on 100 rows", FEW, true),
    ];
    progress(comparisons.len(), total, "clipping a recurrent net");
    let (effect, over_training, over_time) = clipped(request, device)?;
    effects.push(effect);
    flows.extend([over_training, over_time]);
    progress(comparisons.len() + 1, total, "the memory of an LSTM");
    let (effect, flow) = memory(request, device)?;
    effects.push(effect);
    flows.push(flow);
    let (effect, flow) = learned(request, device, |next| progress(total - 1, total, next))?;
    effects.push(effect);
    flows.push(flow);
    Ok(Summary { seeds: request.seeds.clone(), quick: request.quick, effects, flows })
}
