//! The two stories of recurrent nets, whose steps are the layers of a deep net.

use crate::recurrent::{self, Recurrent};
use crate::story::{Effect, Flow, Line, Request};
use burn::tensor::Device;
use firebrick::prelude::Seed;
use firebrick::stabilize::ForgetBias;
use firebrick_examples::failure::Failure;

/// A recurrent net that explodes, and the same with its gradients clipped.
pub(crate) fn clipped(request: &Request, device: &Device) -> Result<(Effect, Flow, Flow), Failure> {
    let size = (30, if request.quick { 100 } else { 200 });
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let (mut over_training, mut over_time) = (Vec::new(), Vec::new());
    for &seed in &request.seeds {
        let net = || Recurrent::relu(32, 1.05, Seed(seed), device);
        let free = recurrent::train(net()?, size, None, Seed(seed), device)?;
        let bound = recurrent::train(net()?, size, Some(1.0), Seed(seed), device)?;
        without.push(recurrent::last(&free.losses));
        with.push(recurrent::last(&bound.losses));
        if over_training.is_empty() {
            let kept = |bound: &str| format!("{bound}, its last weights that gave a finite loss");
            for (name, after, run) in [
                ("not clipped", kept("not clipped"), free),
                ("clipped at 1 (the norm before)", "clipped at 1, its last weights".into(), bound),
            ] {
                let points = run.norms.iter().enumerate().map(|(i, &norm)| (i + 1, norm));
                over_training.push(Line { name: name.into(), points: points.collect() });
                over_time.push(Line { name: after, points: run.errors });
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
    let training = Flow {
        title: "A recurrent net that explodes".into(),
        axis: "training step".into(),
        number: "norm of the gradient".into(),
        note: "First seed.".into(),
        lines: over_training,
    };
    let lines = over_time.len();
    over_time.retain(|line: &Line| line.points.iter().any(|(_, error)| error.is_finite()));
    let beyond = if over_time.len() < lines {
        " The net that is not clipped ends with weights so large that its errors are beyond f32."
    } else {
        ""
    };
    let time = Flow {
        title: "The same net, layer by layer".into(),
        axis: STEP.into(),
        number: OF_THE_LAST.into(),
        note: format!(
            "First seed; each step of the sequence is a layer of the unrolled net.{beyond}"
        ),
        lines: over_time,
    };
    Ok((effect, training, time))
}

const STEP: &str = "step of the sequence";
const OF_THE_LAST: &str = "size of the error, of that at the last step";

/// How much of the error arrives at the first of 200 steps.
pub(crate) fn memory(request: &Request, device: &Device) -> Result<(Effect, Flow), Failure> {
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
        axis: STEP.into(),
        number: OF_THE_LAST.into(),
        note: "First seed; each step of the sequence is a layer of the unrolled net. A line begins where f32 has a \
               number for it."
            .into(),
        lines,
    };
    Ok((effect, flow))
}

/// What each of the two learns over so many steps; `progress` is told of each training.
pub(crate) fn learned(
    request: &Request,
    device: &Device,
    mut progress: impl FnMut(&str),
) -> Result<(Effect, Flow), Failure> {
    let size = if request.quick { (50, 250) } else { (200, 450) };
    let chrono = ForgetBias::Chrono { longest: size.0 as f64 };
    let (mut without, mut with, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    for &seed in &request.seeds {
        progress(&format!("a tanh net and an LSTM learn, seed {seed}"));
        let seed = Seed(seed);
        let tanh = recurrent::learn(Recurrent::tanh(32, seed, device), size, seed, device)?;
        let lstm = Recurrent::lstm(32, chrono, seed, device)?;
        let lstm = recurrent::learn(lstm, size, seed, device)?;
        without.push(recurrent::last(&tanh));
        with.push(recurrent::last(&lstm));
        if lines.is_empty() {
            lines = vec![
                line_of_means("tanh net", &tanh),
                line_of_means("LSTM, forget biases for all steps", &lstm),
                Line {
                    name: "always answering 1".into(),
                    points: vec![(1, CONSTANT), (size.1, CONSTANT)],
                },
            ];
        }
    }
    let effect = Effect {
        measure: "an LSTM with forget biases for all steps".into(),
        subject: format!("recurrent tanh net that learns to add, {} steps", size.0),
        number: "squared error".into(),
        share: false,
        without,
        with,
        margin: 0.3,
    };
    let flow = Flow {
        title: format!("Learning to add over {} steps", size.0),
        axis: "training step".into(),
        number: "squared error".into(),
        note: "First seed; means of ten steps, each on 64 new sequences.".into(),
        lines,
    };
    Ok((effect, flow))
}

/// The variance of the sum of two numbers from 0 to 1: the error of who always answers 1.
pub(crate) const CONSTANT: f64 = 1.0 / 6.0;

/// The means of ten steps each.
fn line_of_means(name: &str, losses: &[f64]) -> Line {
    let means = losses.chunks(10).map(|ten| ten.iter().sum::<f64>() / ten.len() as f64);
    let points = means.enumerate().map(|(index, mean)| (10 * index + 10, mean)).collect();
    Line { name: name.into(), points }
}
